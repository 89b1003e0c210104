//! A consortium of four hospitals, one patient with an episode at the community hospital and one at
//! a secondary hospital, and a doctor at the tertiary one, all in memory.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::too_many_arguments,
    reason = "what the test files of this program share"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use ledger::testing::{FourHospitals, ToyChain, rng};
use ledger::{
    EncodedBlock, Height, KeyHash, MemoryView, NodeSet, ReadError, Settings, Transaction,
    TransactionId, View,
};
use parties::*;
use rand_chacha::ChaCha20Rng;
use scheme::*;

pub const HOMEPAGE: ClassCode = ClassCode::new(1);
pub const LABORATORY: ClassCode = ClassCode::new(4);
pub const IMAGING: ClassCode = ClassCode::new(5);
pub const TWO_HOURS: u64 = 2 * 60 * 60 * 1000;

/// The chain as a node sees it.
pub struct Chain<'a>(pub ToyChain<'a>);

impl FinalChain for Chain<'_> {
    fn view(&self) -> &dyn View {
        &self.0.view as &MemoryView
    }

    fn block(&self, height: Height) -> Result<Option<EncodedBlock>, ReadError> {
        let block = self.0.blocks.get(height.number() as usize);
        Ok(block.map(|block| EncodedBlock::new(block.encode())))
    }
}

impl Chain<'_> {
    pub fn now(&self) -> Timestamp {
        self.0.tip().time
    }

    pub fn height(&self) -> Height {
        self.0.tip().height
    }

    pub fn grow(&mut self, transaction: Transaction) -> TransactionId {
        let id = transaction.id(&self.0.hospitals.consortium);
        self.0.grow(20, vec![transaction]);
        id
    }

    pub fn refuses(&self, transaction: Transaction) -> bool {
        let candidate = self.0.hospitals.checked(transaction);
        !self.0.propose(20, &[candidate]).refused.is_empty()
    }

    pub fn wait(&mut self, milliseconds: u64) {
        self.0.grow(milliseconds, vec![]);
    }

    pub fn nodes(&self) -> NodeSet {
        ledger::node_set(&self.0.view, ValidatorEpoch::new(0))
            .unwrap()
            .unwrap()
    }

    /// Every node's honest reply to a question at the last height.
    pub fn replies(&self, question: &Question) -> Vec<Reply> {
        let answer = answer_at(&self.0.view, question, self.height())
            .unwrap()
            .encode();
        self.0
            .hospitals
            .hospitals
            .iter()
            .map(|hospital| {
                Reply::sign(
                    &self.0.hospitals.consortium,
                    hospital.institution.id,
                    &hospital.node_key,
                    &question.encode(),
                    self.height(),
                    self.0.tip().state_root,
                    answer.clone(),
                )
            })
            .collect()
    }

    pub fn ask(&self, question: &Question) -> Reply {
        let nodes = self.nodes();
        let mut collector =
            ReplyCollector::new(self.0.hospitals.consortium, &nodes, question.encode());
        for reply in self.replies(question) {
            collector.add(reply).unwrap();
        }
        collector.agreed().unwrap().clone()
    }

    pub fn agreed_key(&self, hash: KeyHash) -> Option<AgreedKey> {
        AgreedKey::from_reply(hash, &self.ask(&Question::UserKey(hash))).unwrap()
    }

    pub fn writer_epochs(&self, institution: InstitutionId) -> AgreedWriterEpochs {
        AgreedWriterEpochs::from_reply(institution, &self.ask(&Question::WriterEpochs(institution)))
            .unwrap()
    }

    pub fn agreed_grant(&self, gid: GrantId) -> Option<AgreedGrant> {
        AgreedGrant::from_reply(gid, &self.ask(&Question::Grant(gid))).unwrap()
    }
}

/// What the cloud holds.
#[derive(Default)]
pub struct Cloud(pub BTreeMap<Address, Vec<u8>>);

pub struct StoredRecord {
    pub own: OwnRecord,
    pub container: Vec<u8>,
    pub transaction: Transaction,
    pub plain: Vec<(ClassCode, Vec<u8>)>,
    /// K_w of each keyword, for the author's own search.
    pub keys: Vec<IndexKey>,
}

pub struct World<'a> {
    pub rng: ChaCha20Rng,
    pub consortium: ConsortiumId,
    pub chain: Chain<'a>,
    pub centre: RegistrationCentre,
    pub queries: QueryManager,
    pub cloud: Cloud,
    pub cloud_key: CloudServer,
    pub servers: Vec<HospitalServer>,
    pub nodes: Vec<AccountingNode>,
    pub patient: Patient,
    pub patient_subject: Subject,
}

pub struct Enlisted {
    pub doctor: Doctor,
    pub certificate: Certificate,
    pub subject: Subject,
}

impl<'a> World<'a> {
    pub fn new(hospitals: &'a FourHospitals) -> Self {
        let mut rng = rng("world", 0);
        let consortium = hospitals.consortium;
        let mut chain = Chain(ToyChain::new(hospitals));
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        let mut centre = RegistrationCentre::new(consortium, hospitals.centre.clone(), year);
        let mut servers: Vec<HospitalServer> = hospitals
            .hospitals
            .iter()
            .map(|hospital| {
                HospitalServer::new(
                    consortium,
                    hospital.institution.id,
                    hospital.key.clone(),
                    &mut rng,
                )
            })
            .collect();
        for server in &mut servers {
            let announced = server.announce_writer_epoch(&mut rng).unwrap();
            chain.grow(announced);
        }
        let nodes: Vec<AccountingNode> = (0..3)
            .map(|place| {
                let hospital = &hospitals.hospitals[place];
                let hpke = HpkePrivateKey::derive(&[0x70 + place as u8; 32]);
                let key = hospital.node_key.clone();
                AccountingNode::new(consortium, hospital.institution.id, key)
                    .with_hpke_key(ValidatorEpoch::new(0), hpke)
            })
            .collect();
        let first = ValidatorEpoch::new(0);
        for node in &nodes {
            let standing = node.key_standing(first, &chain).unwrap();
            assert_eq!(standing, NodeKeyStanding::NotAnnounced);
            chain.grow(node.announce(first).unwrap());
            let standing = node.key_standing(first, &chain).unwrap();
            assert_eq!(standing, NodeKeyStanding::Announced);
        }
        let seed = RootSeed::from_bytes([0x5e; 32]);
        let mut patient = Patient::new(
            consortium,
            CentreKeys::founding(centre.verifying_key()),
            &seed,
            KeyVersion::new(0),
            &mut rng,
        );
        let subject = centre.begin_enrolment();
        let enrolled = centre
            .certify_patient(patient.enrol(subject), chain.now())
            .unwrap();
        chain.grow(enrolled.registration);
        patient
            .accept_certificate(enrolled.certificate, chain.now())
            .unwrap();
        let mut queries = QueryManager::new(
            consortium,
            CentreKeys::founding(centre.verifying_key()),
            1_000,
        );
        queries
            .open_inbox(patient.inbox().0, patient.inbox_key())
            .unwrap();
        let cloud_key = CloudServer::new(consortium, SigningKey::from_seed([0xc1; 32]));
        Self {
            rng,
            consortium,
            chain,
            centre,
            queries,
            cloud: Cloud::default(),
            cloud_key,
            servers,
            nodes,
            patient,
            patient_subject: subject,
        }
    }

    pub fn settings() -> Settings {
        Settings::standard()
    }

    /// The centre's keys by the chain.
    pub fn centre_keys(&self) -> CentreKeys {
        CentreKeys::of_state(self.chain.view()).unwrap()
    }

    pub fn agreed_centre_keys(&self) -> AgreedCentreKeys {
        AgreedCentreKeys::from_reply(&self.chain.ask(&Question::CentreKeys)).unwrap()
    }

    /// The centre goes on under its key of this number; these before it were lost.
    pub fn rotate_centre_key(&mut self, number: u8, compromised: &[u8]) {
        let hospitals = self.chain.0.hospitals;
        let next = hospitals.next_centre_key(number, compromised);
        let current = hospitals.centre_signer(number - 1);
        assert_eq!(
            self.centre.approve_next_key(&next),
            next.sign(&self.consortium, &current)
        );
        let rotation = hospitals.centre_key(next, Some(&current), &[2, 3]);
        self.chain.grow(rotation);
        self.centre.follow_key(hospitals.centre_signer(number));
    }

    /// A certified doctor of a hospital, known to its server.
    pub fn doctor(&mut self, id: u64, institution: u32) -> Enlisted {
        let institution = InstitutionId::new(institution);
        let doctor = Doctor::new(
            self.consortium,
            self.centre_keys(),
            DoctorId::new(id),
            institution,
            &mut self.rng,
        );
        let subject = self.centre.begin_enrolment();
        let proof = doctor.prove_possession(subject);
        let enrolled = self
            .centre
            .certify_doctor(subject, *doctor.public_keys(), &proof, self.chain.now())
            .unwrap();
        self.chain.grow(enrolled.registration);
        self.server(institution)
            .enter_doctor(doctor.public_keys().signing);
        Enlisted {
            doctor,
            certificate: enrolled.certificate,
            subject,
        }
    }

    pub fn server(&mut self, institution: InstitutionId) -> &mut HospitalServer {
        &mut self.servers[institution.number() as usize - 1]
    }

    /// Step 2: the patient hands SK_D to the doctor.
    pub fn begin_episode(&mut self, enlisted: &Enlisted) -> (EpisodePlace, PatientEpisode) {
        let institution = enlisted.doctor.public_keys().institution;
        let mut rng = self.rng.clone();
        let uid = self.server(institution).register_patient(&mut rng);
        self.rng = rng;
        let agreed = self
            .chain
            .agreed_key(KeyHash::from(enlisted.doctor.public_keys().hpke.hash()))
            .unwrap();
        let (place, sealed) = self
            .patient
            .begin_episode(
                &enlisted.certificate,
                &agreed,
                uid.clone(),
                self.chain.now(),
                &mut self.rng,
            )
            .unwrap();
        let episode = enlisted
            .doctor
            .accept_handover(&sealed, &uid, self.chain.now())
            .unwrap();
        (place, episode)
    }

    /// Steps 3 to 5, up to the final block and the patient's receipt.
    pub fn store(
        &mut self,
        enlisted: &Enlisted,
        place: EpisodePlace,
        episode: &PatientEpisode,
        plain: Vec<(ClassCode, Vec<u8>)>,
        keywords: &[&str],
    ) -> StoredRecord {
        let mut stored = self.build(enlisted, episode, plain, keywords);
        self.chain.grow(stored.transaction.clone());
        let Transaction::Record(record) = &stored.transaction else {
            unreachable!()
        };
        let (header, _) = Header::decode(&self.consortium, &stored.container).unwrap();
        let words: Vec<Keyword> = keywords
            .iter()
            .map(|word| Keyword::new(word.as_bytes()).unwrap())
            .collect();
        let sealed = enlisted
            .doctor
            .receipt(episode, &stored.own, &mut self.rng)
            .unwrap();
        let receipt = self.patient.open_receipt(&sealed).unwrap();
        let writer =
            self.servers[enlisted.doctor.public_keys().institution.number() as usize - 1].writer();
        let mut check = self
            .patient
            .check_receipt(place, receipt, record, writer, &header, &words)
            .unwrap();
        self.run(check.search());
        self.patient.keep_receipt(check).unwrap();
        let keys = std::mem::take(&mut stored.keys);
        let mut search = OwnSearch::new(self.consortium, writer, keys, stored.own.transaction);
        self.run(&mut search);
        assert!(search.is_found());
        stored
    }

    /// Asks the chain what an own search wants to know until it is over.
    pub fn run(&self, search: &mut OwnSearch) {
        while let Some(question) = search.question() {
            let reply = self.chain.ask(&question);
            let Ok(Answer::Records(records)) = Answer::decode(&question, &reply.answer) else {
                panic!("an answer to another question");
            };
            search.answer(&records).unwrap();
        }
    }

    pub fn build(
        &mut self,
        enlisted: &Enlisted,
        episode: &PatientEpisode,
        plain: Vec<(ClassCode, Vec<u8>)>,
        keywords: &[&str],
    ) -> StoredRecord {
        self.build_as(enlisted, episode, episode, plain, keywords)
    }

    /// A record whose index and owner key are of one episode and whose container is sealed as if it
    /// were of another.
    pub fn build_as(
        &mut self,
        enlisted: &Enlisted,
        episode: &PatientEpisode,
        sealed_as: &PatientEpisode,
        plain: Vec<(ClassCode, Vec<u8>)>,
        keywords: &[&str],
    ) -> StoredRecord {
        let doctor = &enlisted.doctor;
        let mut rng = self.rng.clone();
        let plans: Vec<SectionPlan> = plain
            .iter()
            .map(|(class, bytes)| SectionPlan {
                class: *class,
                length: bytes.len() as u64,
            })
            .collect();
        let sealing = doctor.seal(sealed_as, &plans, &mut rng).unwrap();
        let mut container = sealing.header().encode();
        for (place, plan) in sealing.order().iter().enumerate() {
            let mut sealer = sealing.section(place).unwrap();
            let bytes = &plain
                .iter()
                .find(|(class, _)| *class == plan.class)
                .unwrap()
                .1;
            sealer.update(bytes, &mut container).unwrap();
            sealer.finish(&mut container).unwrap();
        }
        self.rng = rng;
        StoredRecord {
            plain,
            ..self.record(
                doctor,
                (episode, episode),
                sealing.header(),
                container,
                keywords,
            )
        }
    }

    /// Steps 4 and 5, up to the transaction, of a container that is sealed: found by one episode's index
    /// and owned by another's key, if they differ, and naming this header, which need not be the
    /// container's.
    pub fn record(
        &mut self,
        doctor: &Doctor,
        (index, owner): (&PatientEpisode, &PatientEpisode),
        header: &Header,
        container: Vec<u8>,
        keywords: &[&str],
    ) -> StoredRecord {
        let mut rng = self.rng.clone();
        let now = self.chain.now();
        let address = self.cloud_key.assign_address(&mut rng);
        let digest = sha256(&container);
        let receipt = self
            .cloud_key
            .receipt(address, digest, container.len() as u64, now);
        receipt
            .verify(
                &self.consortium,
                &self.cloud_key.verifying_key(),
                digest,
                container.len() as u64,
            )
            .unwrap();
        self.cloud.0.insert(address, container.clone());

        let words: Vec<Keyword> = keywords
            .iter()
            .map(|word| Keyword::new(word.as_bytes()).unwrap())
            .collect();
        let institution = doctor.public_keys().institution;
        let epochs = self.chain.writer_epochs(institution);
        let writer_key = epochs.current().unwrap().1.clone();
        let server = self.server(institution);
        let draft = doctor.begin_index(index, server.writer(), &words, &mut rng);
        let raised = server
            .raise(&doctor.public_keys().signing, &draft.blinded(), now)
            .unwrap();
        let (keys, ids) = draft
            .evaluate(&raised, &writer_key, &index.keys.search, &mut rng)
            .unwrap();
        let positions = server
            .allocate(&doctor.public_keys().signing, &ids, now)
            .unwrap();
        let own = doctor
            .sign_record(
                &RecordDraft {
                    episode: owner,
                    header,
                    digest,
                    address,
                    writer_key: &writer_key,
                    keys: &keys,
                    positions: &positions,
                    time: now,
                },
                &mut rng,
            )
            .unwrap();
        let transaction = server
            .countersign(own.statement.clone(), own.signature, &mut rng)
            .unwrap();
        let settled: Vec<_> = ids.into_iter().zip(positions).collect();
        server.settle(&settled);
        self.rng = rng;
        StoredRecord {
            own,
            container,
            transaction,
            plain: Vec::new(),
            keys,
        }
    }

    /// Steps 6 and 7, up to the doctor's request in the patient's inbox.
    pub fn ask(
        &mut self,
        enlisted: &Enlisted,
        classes: &[ClassCode],
        episodes: usize,
    ) -> (Reader, VerifiedRequest, Vec<u8>) {
        self.ask_at(enlisted, classes, episodes, self.patient.inbox())
    }

    /// The same in another inbox, which the query manager knows.
    pub fn ask_at(
        &mut self,
        enlisted: &Enlisted,
        classes: &[ClassCode],
        episodes: usize,
        (handle, salt): (InboxHandle, [u8; 16]),
    ) -> (Reader, VerifiedRequest, Vec<u8>) {
        let now = self.chain.now();
        let reader = Reader::new(
            self.consortium,
            self.centre_keys(),
            enlisted.certificate.clone(),
            episodes,
            &mut self.rng,
        );
        let mut nonce = [0; 32];
        rand_core::Rng::fill_bytes(&mut self.rng, &mut nonce);
        let terms = RequestTerms {
            institution: enlisted.doctor.public_keys().institution,
            inbox: handle.commit(&self.consortium, &salt),
            classes: classes.to_vec(),
            purpose: "acute stroke, thrombectomy decision".into(),
            nonce,
            time: now,
            not_after: Timestamp::new(now.number() + 60 * 60 * 1000),
        };
        let request = reader.request(&enlisted.doctor, terms, now).unwrap();
        let (statement, signature) = reader.request_statement(&enlisted.doctor, &request, now);
        let server = &self.servers[statement.institution.number() as usize - 1];
        let transaction = server.countersign_request(statement, signature).unwrap();
        self.chain.grow(transaction);
        let examined = self
            .queries
            .examine(request.as_bytes(), handle, salt, self.chain.now())
            .unwrap();
        let agreed: Vec<AgreedKey> = request
            .key_hashes()
            .into_iter()
            .filter_map(|hash| self.chain.agreed_key(hash))
            .collect();
        let forwarded = self
            .queries
            .forward(examined, &agreed, &mut self.rng)
            .unwrap();
        (reader, request, forwarded.sealed)
    }

    /// Step 7: the patient grants, the nodes take it, the entry becomes final.
    pub fn grant(&mut self, sealed: &[u8], decisions: &[Decision]) -> Vec<GrantPackage> {
        let packages = self.decide(sealed, decisions);
        for package in &packages {
            self.take(package);
        }
        packages
    }

    /// Every accounting node takes a grant, and its entry becomes final.
    pub fn take(&mut self, package: &GrantPackage) {
        let mut transactions = Vec::new();
        for node in &mut self.nodes {
            let (_, transaction) = node
                .receive_grant(package, &self.chain, self.chain.now())
                .unwrap();
            transactions.push(transaction);
        }
        self.chain.grow(transactions.remove(0));
    }

    pub fn decide(&mut self, sealed: &[u8], decisions: &[Decision]) -> Vec<GrantPackage> {
        let now = self.chain.now();
        let request = self.patient.open_request(sealed, now).unwrap();
        self.answer(&request, decisions).unwrap()
    }

    /// The patient answers a request that the device opened before.
    pub fn answer(
        &mut self,
        request: &VerifiedRequest,
        decisions: &[Decision],
    ) -> Result<Vec<GrantPackage>, PatientError> {
        let agreed: Vec<AgreedKey> = request
            .key_hashes()
            .into_iter()
            .filter_map(|hash| self.chain.agreed_key(hash))
            .collect();
        let epochs: Vec<AgreedWriterEpochs> = (1..=4)
            .map(|number| self.chain.writer_epochs(InstitutionId::new(number)))
            .collect();
        let epoch = ValidatorEpoch::new(0);
        let reply = self.chain.ask(&Question::NodeKeys(epoch));
        let keys = AgreedNodeKeys::from_reply(epoch, &reply).unwrap();
        let set = self.chain.nodes();
        let nodes = ServingNodes {
            set: &set,
            keys: &keys,
        };
        self.patient
            .answer(request, decisions, &agreed, &epochs, &nodes, &mut self.rng)
    }

    pub fn decision(
        &self,
        episode: EpisodePlace,
        classes: &[ClassCode],
        keywords: &[&str],
    ) -> Decision {
        let now = self.chain.now();
        Decision {
            episode,
            classes: classes.to_vec(),
            keywords: keywords
                .iter()
                .map(|word| Keyword::new(word.as_bytes()).unwrap())
                .collect(),
            not_before: now,
            expiry: Timestamp::new(now.number() + TWO_HOURS),
            threshold: Threshold::new(2).unwrap(),
        }
    }

    /// Step 8 at all three accounting nodes.
    pub fn search(&mut self, reader: &Reader, grant: &OpenGrant) -> Result<Hits, ReaderError> {
        let request = reader.search(grant, self.chain.height());
        let mut replies = Vec::new();
        for node in &self.nodes {
            if let Ok(reply) = node.search(&request, &self.chain, &mut self.rng) {
                replies.push(reply);
            }
        }
        reader.agree(&request, &replies, &self.chain.nodes())
    }

    /// Step 9: the access, final.
    pub fn access(&mut self, reader: &Reader, grant: &mut OpenGrant, hit: &Hit) -> InTransaction {
        let transaction = reader.record_access(grant, hit, &mut self.rng).unwrap();
        let access = self.chain.grow(transaction);
        grant.access_is_final(access).unwrap()
    }

    /// One node's shares.
    pub fn shares(
        &mut self,
        node: usize,
        request: &ShareRequest,
    ) -> Result<Vec<ShareAnswer>, ShareRefusal> {
        let node = &self.nodes[node];
        let pending = node.begin_shares(request, &self.chain)?;
        let container = &self.cloud.0[&pending.address];
        let start = &container[..container.len().min(pending.header_bytes_max)];
        node.shares(
            &pending,
            &request.access_key,
            start,
            &self.chain,
            &mut self.rng,
        )
    }

    /// The master node's verifying read.
    pub fn container(
        &self,
        node: usize,
        request: &ContainerRequest,
    ) -> Result<Vec<u8>, ShareRefusal> {
        let node = &self.nodes[node];
        let pending = node.begin_container(request, &self.chain)?;
        let container = self.cloud.0[&pending.address].clone();
        let doctor = node.author_signature(&pending, &self.chain)?;
        node.release_container(
            &pending,
            &request.access_key,
            sha256(&container),
            &doctor,
            &self.chain,
        )?;
        Ok(container)
    }

    /// Steps 9 and 10 for every granted section of a hit.
    pub fn read(
        &mut self,
        reader: &Reader,
        grant: &mut OpenGrant,
        hit: &Hit,
        nodes: &[usize],
    ) -> Result<BTreeMap<u8, Vec<u8>>, ReaderError> {
        let of = self.access(reader, grant, hit);
        let container = self
            .container(nodes[0], &reader.ask_container(grant, of))
            .unwrap();
        let position = ledger::transaction(&self.chain.0.view, hit.transaction)
            .unwrap()
            .unwrap();
        let Transaction::Record(record) = self.chain.transaction(position).unwrap() else {
            unreachable!()
        };
        let header =
            reader.check_header(grant, hit, &record.statement, &record.doctor, &container)?;
        assert_eq!(sha256(&container), record.statement.digest);
        let granted = grant.granted_sections(&header);
        let classes: Vec<ClassPlace> = granted.iter().map(|(class, _)| *class).collect();
        let request = reader.ask_shares(grant, of, classes, WantProof::No);
        let answers: Vec<ShareAnswer> = nodes
            .iter()
            .flat_map(|node| self.shares(*node, &request).unwrap())
            .collect();
        let mut out = BTreeMap::new();
        for (class, index) in granted {
            let mut shares =
                SectionShares::new(self.consortium, grant, &header, hit.transaction, class);
            for answer in answers.iter().filter(|answer| answer.class == class) {
                shares.add(answer.clone()).unwrap();
            }
            let opened = shares.open()?;
            assert_eq!(opened.index, index);
            out.insert(
                class.place() as u8,
                open(&container, header.header(), &opened),
            );
        }
        Ok(out)
    }
}

pub fn open(container: &[u8], header: &Header, opened: &OpenedSection) -> Vec<u8> {
    let start = header.payload_offset(opened.index) as usize;
    let end = start + header.payload_length(opened.index) as usize;
    let mut opener = SectionOpener::new(header, opened.index, &opened.key);
    let mut out = Vec::new();
    opener.update(&container[start..end], &mut out).unwrap();
    opener.finish().unwrap();
    out
}

pub fn sections(name: u8) -> Vec<(ClassCode, Vec<u8>)> {
    vec![
        (HOMEPAGE, vec![name; 300]),
        (LABORATORY, vec![name ^ 0x11; 70_000]),
        (IMAGING, (0..150_000u32).map(|i| (i as u8) ^ name).collect()),
    ]
}
