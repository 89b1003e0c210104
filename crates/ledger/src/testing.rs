//! A toy consortium of four hospitals (one tertiary, two secondary, one community) with fixed keys,
//! and signed transactions of every kind. For tests of this and other crates, behind the feature
//! `testing`: the private keys are public knowledge.

mod invariants;
pub(crate) mod naive;

use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, Rng, SeedableRng};
use scheme::{
    Address, ConsortiumId, Delta, DoctorId, Entry, EpisodeKey, HpkePrivateKey, HpkePublicKey,
    IndexKey, InstitutionId, KeyVersion, Locator, LocatorBinding, LocatorKey, PatientKeys, Pid,
    Position, RecordStatement, RootSeed, SigningKey, Tag, Timestamp, ValidatorEpoch, VerifyingKey,
    WriterEpoch, WriterEpochKey, pad_entries, sha256,
};

use crate::block::{Block, Header};
use crate::execute::{Proposal, execute, propose};
use crate::genesis::{Genesis, Settings, genesis};
use crate::identity::{CentreKeyNumber, KeyHash, LeaderView, RequestCommitment, TransactionId};
use crate::policy::{LeaderRotation, Tier};
use crate::state::{self, RecordState};
use crate::transaction::{
    Access, AccessEntry, AccessNumber, AccessPad, Application, Approval, AuditDocument,
    CentreKeyApproval, CentreKeyTransaction, CertificateRevocation, CheckedTransaction, Contact,
    ContactAddress, ContactTransaction, DocumentTitle, GrantEntry, GrantTransaction, Institution,
    InstitutionName, KeyUse, MaskedTransactionId, MembershipChange, Motion, NextCentreKey,
    NodeKeyTransaction, PossessedSuccession, RecordNonce, RecordTransaction, Registrant,
    Registration, RequestStatement, RequestTransaction, Revocation, Succession,
    SuccessionTransaction, TlsAuthority, Transaction, UserKey, Withdrawal, WriterEpochTransaction,
};
use crate::view::{Changes, MemoryView};

pub use invariants::Invariants;
pub use naive::state_root as naive_state_root;

/// A hospital with everything private that belongs to it.
pub struct Hospital {
    /// As the consortium knows it.
    pub institution: Institution,
    /// Signs its transactions.
    pub key: SigningKey,
    /// Its node's consensus key.
    pub node_key: SigningKey,
    /// Opens what is sealed to its node in validator epoch 0.
    pub node_hpke: HpkePrivateKey,
    /// The Ed25519 key of its one doctor.
    pub doctor_key: SigningKey,
    /// Opens what is sealed to that doctor.
    pub doctor_hpke: HpkePrivateKey,
    /// The doctor's id.
    pub doctor: DoctorId,
    /// y of its writer epoch 0.
    pub writer_key: WriterEpochKey,
}

impl Hospital {
    fn new(number: u32, tier: Tier, name: &str) -> Self {
        let key = signing_key("institution", number.into());
        let node_key = signing_key("node", number.into());
        let institution = Institution {
            id: InstitutionId::new(number),
            tier,
            name: InstitutionName::new(name).expect("a short name"),
            key: key.verifying_key(),
            node: node_key.verifying_key(),
        };
        Self {
            institution,
            key,
            node_key,
            node_hpke: HpkePrivateKey::random(&mut rng("node's hpke", number.into())),
            doctor_key: signing_key("doctor", number.into()),
            doctor_hpke: HpkePrivateKey::random(&mut rng("doctor's hpke", number.into())),
            doctor: DoctorId::new(100 + u64::from(number)),
            writer_key: WriterEpochKey::random(&mut rng("writer epoch", number.into())),
        }
    }
}

/// Four hospitals that founded a consortium, and its registration centre.
pub struct FourHospitals {
    /// The founding document.
    pub genesis: Genesis,
    /// The consortium's id.
    pub consortium: ConsortiumId,
    /// The registration centre's founding key.
    pub centre: SigningKey,
    /// 1: tertiary; 2, 3: secondary; 4: community. The place is the institution's id minus 1.
    pub hospitals: Vec<Hospital>,
    /// The node keys that may come later: the newcomer's, and two generations of each hospital's.
    later_nodes: Vec<SigningKey>,
}

/// 2026-01-01T00:00:00Z, when the toy consortium begins.
pub const FOUNDED: Timestamp = Timestamp::new(1_767_225_600_000);

impl Default for FourHospitals {
    fn default() -> Self {
        Self::found(Settings::standard())
    }
}

impl FourHospitals {
    /// Founds the consortium with these settings.
    pub fn found(settings: Settings) -> Self {
        let hospitals = vec![
            Hospital::new(1, Tier::Tertiary, "University Hospital"),
            Hospital::new(2, Tier::Secondary, "District Hospital East"),
            Hospital::new(3, Tier::Secondary, "District Hospital West"),
            Hospital::new(4, Tier::Community, "Riverside Community Hospital"),
        ];
        let centre = signing_key("centre", 0);
        let institutions = hospitals
            .iter()
            .map(|hospital| hospital.institution.clone())
            .collect();
        let genesis = Genesis {
            time: FOUNDED,
            centre: centre.verifying_key(),
            institutions,
            settings,
        };
        Self {
            consortium: genesis.consortium(),
            genesis,
            centre,
            hospitals,
            later_nodes: std::iter::once(signing_key("node", 5))
                .chain((1..=5).flat_map(|number| [1, 2].map(|next| next_keys(number, next).1)))
                .collect(),
        }
    }

    /// The private key of a node, whichever of the toy consortium it is.
    ///
    /// # Panics
    /// If it is none of these.
    pub fn node_signer(&self, node: &VerifyingKey) -> &SigningKey {
        let founders = self.hospitals.iter().map(|hospital| &hospital.node_key);
        founders
            .chain(&self.later_nodes)
            .find(|key| key.verifying_key() == *node)
            .expect("a node of the toy consortium")
    }

    /// The hospital with this institution id, from 1.
    ///
    /// # Panics
    /// If there is none.
    pub fn hospital(&self, number: u32) -> &Hospital {
        &self.hospitals[number as usize - 1]
    }

    /// What makes the consortium work: each hospital's doctor registered, and its writer epoch 0.
    pub fn opening(&self) -> Vec<Transaction> {
        (1..=4)
            .flat_map(|number| [self.registration(number), self.writer_epoch(number)])
            .collect()
    }

    /// Registers the doctor of a hospital.
    pub fn registration(&self, number: u32) -> Transaction {
        let hospital = self.hospital(number);
        let registrant = Registrant::Doctor {
            institution: hospital.institution.id,
            doctor: hospital.doctor,
        };
        let keys = vec![
            UserKey {
                hash: KeyHash::of(&hospital.doctor_key.verifying_key()),
                usage: KeyUse::Signature,
            },
            UserKey {
                hash: hospital.doctor_hpke.public_key().hash().into(),
                usage: KeyUse::Hpke,
            },
        ];
        let signed = Registration::sign(&self.consortium, registrant, keys, &self.centre);
        Transaction::Registration(signed)
    }

    /// Registers a patient.
    pub fn patient(&self, number: u64) -> Transaction {
        let keys = self.patient_keys(number);
        let usages = vec![
            UserKey {
                hash: keys.encryption.public_key().hash().into(),
                usage: KeyUse::Encryption,
            },
            UserKey {
                hash: keys.search.public_key().hash().into(),
                usage: KeyUse::Search,
            },
            UserKey {
                hash: keys.ownership.public_key().hash().into(),
                usage: KeyUse::Ownership,
            },
            UserKey {
                hash: keys.inbox.public_key().hash().into(),
                usage: KeyUse::Hpke,
            },
        ];
        let centre = &self.centre;
        let signed = Registration::sign(&self.consortium, Registrant::Patient, usages, centre);
        Transaction::Registration(signed)
    }

    /// A patient's private keys.
    pub fn patient_keys(&self, number: u64) -> PatientKeys {
        let mut seed = [0; 32];
        rng("patient", number).fill_bytes(&mut seed);
        PatientKeys::derive(
            &RootSeed::from_bytes(seed),
            KeyVersion::new(0),
            &self.consortium,
        )
    }

    /// Begins writer epoch 0 of a hospital.
    pub fn writer_epoch(&self, number: u32) -> Transaction {
        let key = &self.hospital(number).writer_key;
        self.writer_epoch_with(number, WriterEpoch::new(0), key)
    }

    /// Begins any writer epoch of a hospital with any key.
    pub fn writer_epoch_with(
        &self,
        number: u32,
        epoch: WriterEpoch,
        key: &WriterEpochKey,
    ) -> Transaction {
        let hospital = self.hospital(number);
        let id = hospital.institution.id;
        let rng = &mut rng("writer epoch proof", number.into());
        let proof = key.prove_possession(&self.consortium, id, epoch, rng);
        Transaction::WriterEpoch(Box::new(WriterEpochTransaction::sign(
            &self.consortium,
            id,
            epoch,
            key.public_key(),
            proof,
            &hospital.key,
        )))
    }

    /// Certifies the HPKE key of a hospital's node in validator epoch 0.
    pub fn node_key(&self, number: u32) -> Transaction {
        let key = self.hospital(number).node_hpke.public_key();
        self.node_key_with(number, ValidatorEpoch::new(0), key)
    }

    /// Certifies any HPKE key of a hospital's node in any validator epoch.
    pub fn node_key_with(
        &self,
        number: u32,
        epoch: ValidatorEpoch,
        key: HpkePublicKey,
    ) -> Transaction {
        let hospital = self.hospital(number);
        Transaction::NodeKey(NodeKeyTransaction::sign(
            &self.consortium,
            hospital.institution.id,
            epoch,
            key,
            &hospital.node_key,
        ))
    }

    /// Certifies an HPKE key of a node that runs under this key, by which it takes its seat in a validator
    /// epoch.
    pub fn seat(
        &self,
        institution: InstitutionId,
        node: &SigningKey,
        epoch: ValidatorEpoch,
    ) -> Transaction {
        let number = u64::from(institution.number()) << 32 | epoch.number();
        let key = HpkePrivateKey::random(&mut rng("seat", number)).public_key();
        let key = NodeKeyTransaction::sign(&self.consortium, institution, epoch, key, node);
        Transaction::NodeKey(key)
    }

    /// What the doctor of a hospital signs about record `number`, with as many entries. Tags, pads
    /// and digests are random; owner key and sealed locator are real, of a patient of that number.
    pub fn statement(&self, hospital: u32, number: u64, entries: usize) -> RecordStatement {
        let rng = &mut rng("record", (u64::from(hospital) << 48) | number);
        let (mut statement, _) = self.unindexed(hospital, number, rng);
        statement.entries = (0..entries)
            .map(|_| Entry {
                tag: Tag::new(bytes(rng)),
                pad: bytes(rng),
            })
            .collect();
        statement.entries.sort_unstable_by_key(|entry| entry.tag);
        statement
    }

    /// The same with real entries under these index keys at these positions, padded to eights: the
    /// record is found, and its locator opens.
    pub fn indexed(
        &self,
        hospital: u32,
        number: u64,
        under: &[(&IndexKey, Position)],
    ) -> RecordStatement {
        let rng = &mut rng("indexed record", (u64::from(hospital) << 48) | number);
        let (mut statement, key) = self.unindexed(hospital, number, rng);
        let owner_key = statement.owner_key.compressed();
        statement.entries = under
            .iter()
            .map(|(index, position)| index.entry(&self.consortium, *position, &owner_key, &key))
            .collect();
        pad_entries(&mut statement.entries, rng);
        statement
    }

    fn unindexed(
        &self,
        hospital: u32,
        number: u64,
        rng: &mut ChaCha20Rng,
    ) -> (RecordStatement, LocatorKey) {
        let from = self.hospital(hospital);
        let digest = sha256(&bytes::<32>(rng));
        let header_digest = sha256(&bytes::<32>(rng));
        let owner = self.patient_keys(number).ownership.public_key();
        let delta = Delta::random(rng);
        let owner_key = EpisodeKey::derive(&self.consortium, &owner, &Pid::from_bytes(bytes(rng)))
            .and_then(|episode| episode.blind(&delta))
            .expect("the chance of the identity is 2^-255");
        let author = from.doctor_key.verifying_key();
        let institution = from.institution.id;
        let writer_key = from.writer_key.public_key();
        let binding = LocatorBinding {
            writer_key: writer_key.compressed(),
            digest: &digest,
            header_digest: &header_digest,
            owner_key: owner_key.compressed(),
            author: &author,
            institution,
        };
        let locator = Locator {
            address: Address::new(bytes(rng)),
            delta,
        };
        let key = LocatorKey::random(rng);
        let locator = locator.seal(&self.consortium, &key, &binding);
        let statement = RecordStatement {
            digest,
            header_digest,
            owner_key,
            locator,
            entries: Vec::new(),
            writer_key,
            author,
            institution,
            time: FOUNDED,
        };
        (statement, key)
    }

    /// A record of a hospital with 8 entries.
    pub fn record(&self, hospital: u32, number: u64) -> Transaction {
        self.sign_record(hospital, self.statement(hospital, number, 8))
    }

    /// Signs any statement with the keys of a hospital and its doctor.
    pub fn sign_record(&self, hospital: u32, statement: RecordStatement) -> Transaction {
        let from = self.hospital(hospital);
        let doctor = statement.sign(&self.consortium, &from.doctor_key);
        let nonce = RecordNonce::new(bytes(&mut rng("random number", 0)));
        Transaction::Record(Box::new(RecordTransaction::countersign(
            &self.consortium,
            statement,
            doctor,
            nonce,
            &from.key,
        )))
    }

    /// A request of a hospital's doctor.
    pub fn request(&self, hospital: u32, number: u64) -> Transaction {
        let from = self.hospital(hospital);
        let commitment = RequestCommitment::new(bytes(&mut rng("request", number)));
        let statement = RequestStatement {
            commitment,
            author: from.doctor_key.verifying_key(),
            institution: from.institution.id,
            time: FOUNDED,
        };
        let doctor = statement.sign(&self.consortium, &from.doctor_key);
        Transaction::Request(RequestTransaction::countersign(
            &self.consortium,
            statement,
            doctor,
            &from.key,
        ))
    }

    /// What the holder of [`Self::revocation_key`] signs about grant `number`: two access keys, from
    /// the founding on for so many milliseconds.
    pub fn grant_entry(&self, number: u64, milliseconds: u64) -> GrantEntry {
        let mut access_keys: Vec<_> = (0..2)
            .map(|doctor| self.access_key(number, doctor).verifying_key())
            .collect();
        access_keys.sort_unstable();
        GrantEntry {
            revocation_key: self.revocation_key(number).verifying_key(),
            grant: sha256(&number.to_be_bytes()),
            epoch: ValidatorEpoch::new(0),
            not_before: FOUNDED,
            expiry: Timestamp::new(FOUNDED.number() + milliseconds),
            access_keys,
        }
    }

    /// A grant, countersigned by the node of hospital 1.
    pub fn grant(&self, number: u64, milliseconds: u64) -> Transaction {
        self.sign_grant(number, self.grant_entry(number, milliseconds), 1)
    }

    /// Signs any entry with a grant's revocation key and a hospital's node key.
    pub fn sign_grant(&self, number: u64, entry: GrantEntry, node: u32) -> Transaction {
        let signature = entry.sign(&self.consortium, &self.revocation_key(number));
        let node = self.hospital(node);
        Transaction::Grant(GrantTransaction::countersign(
            &self.consortium,
            entry,
            signature,
            node.institution.id,
            &node.node_key,
        ))
    }

    /// The single-use revocation key of a grant.
    pub fn revocation_key(&self, grant: u64) -> SigningKey {
        signing_key("revocation", grant)
    }

    /// The access key of a grant's doctor, 0 or 1.
    pub fn access_key(&self, grant: u64, doctor: u64) -> SigningKey {
        signing_key("access", (grant << 8) | doctor)
    }

    /// Accesses of a grant's doctors: (doctor, number) each.
    pub fn access(&self, grant: u64, entries: &[(u64, u64)]) -> Transaction {
        let entries = entries
            .iter()
            .map(|(doctor, number)| {
                let rng = &mut rng("access", (grant << 32) | (doctor << 16) | number);
                AccessEntry::sign(
                    &self.consortium,
                    &self.access_key(grant, *doctor),
                    AccessNumber::new(*number),
                    AccessPad::new(bytes(rng)),
                    MaskedTransactionId::new(bytes(rng)),
                )
            })
            .collect();
        Transaction::Access(Access { entries })
    }

    /// Revokes a grant.
    pub fn revocation(&self, grant: u64) -> Transaction {
        let key = self.revocation_key(grant);
        Transaction::Revocation(Revocation::sign(&self.consortium, &key))
    }

    /// Withdraws an appointment.
    pub fn withdrawal(&self, number: u64) -> Transaction {
        let key = signing_key("withdrawal", number);
        Transaction::Withdrawal(Withdrawal::sign(&self.consortium, &key))
    }

    /// Revokes the certificate of a registration.
    pub fn certificate_revocation(&self, registration: TransactionId) -> Transaction {
        let signed = CertificateRevocation::sign(&self.consortium, registration, &self.centre);
        Transaction::CertificateRevocation(signed)
    }

    /// A hospital that is not a founder.
    pub fn newcomer(&self, tier: Tier) -> Hospital {
        Hospital::new(5, tier, "New Hospital")
    }

    /// A newcomer's application.
    pub fn application(&self, newcomer: &Hospital) -> Application {
        Application::sign(
            &self.consortium,
            newcomer.institution.clone(),
            self.contact_of(&newcomer.institution),
            &newcomer.key,
            &newcomer.node_key,
        )
    }

    /// Where an institution is reached.
    ///
    /// # Panics
    /// Never.
    pub fn contact_of(&self, institution: &Institution) -> Contact {
        let address = |address: &str| ContactAddress::new(address).expect("a short address");
        let host = format!("hospital-{}.example", institution.id);
        Contact {
            consensus: address(&format!("{host}:7000")),
            node: address(&format!("https://{host}:7001")),
            server: Some(address(&format!("https://{host}:7002"))),
            authority: TlsAuthority::new("-----BEGIN CERTIFICATE-----").expect("ASCII"),
        }
    }

    /// A motion that a hospital puts, which ends a day after the founding.
    ///
    /// # Panics
    /// Never.
    pub fn motion(&self, by: u32, change: MembershipChange) -> Motion {
        let member = self.hospital(by);
        let document = AuditDocument {
            title: DocumentTitle::new("Report of the audit").expect("a short title"),
            digest: sha256(b"the report"),
        };
        Motion::sign(
            &self.consortium,
            member.institution.id,
            Timestamp::new(FOUNDED.number() + 86_400_000),
            vec![document],
            change,
            &member.key,
        )
    }

    /// A hospital's approval of a motion.
    pub fn approval(&self, motion: &Transaction, by: u32) -> Transaction {
        let member = self.hospital(by);
        let motion = motion.id(&self.consortium);
        Transaction::Approval(Approval::sign(
            &self.consortium,
            motion,
            member.institution.id,
            &member.key,
        ))
    }

    /// A change that the first of these hospitals puts to the others, and their approvals.
    pub fn decision(&self, change: MembershipChange, members: &[u32]) -> Vec<Transaction> {
        let motion = Transaction::Motion(Box::new(self.motion(members[0], change)));
        let approvals: Vec<_> = members[1..]
            .iter()
            .map(|by| self.approval(&motion, *by))
            .collect();
        std::iter::once(motion).chain(approvals).collect()
    }

    /// Admits a newcomer, put and approved by these hospitals.
    pub fn admission(&self, newcomer: &Hospital, members: &[u32]) -> Vec<Transaction> {
        let application = Box::new(self.application(newcomer));
        self.decision(MembershipChange::Admit(application), members)
    }

    /// A hospital's keys of this generation: its own, its node's.
    pub fn next_keys(&self, number: u32, generation: u32) -> (SigningKey, SigningKey) {
        next_keys(number, generation)
    }

    /// A hospital's succession to the keys of this generation, with both keys' signatures.
    pub fn possessed(&self, number: u32, generation: u32) -> PossessedSuccession {
        let (key, node) = self.next_keys(number, generation);
        let succession = Succession {
            institution: self.hospital(number).institution.id,
            generation,
            key: key.verifying_key(),
            node: node.verifying_key(),
        };
        succession.possess(&self.consortium, &key, &node)
    }

    /// A hospital's succession to the keys of generation 1, signed by its founding key.
    pub fn succession(&self, number: u32) -> Transaction {
        self.succession_with(number, 1, &self.hospital(number).key)
    }

    /// A hospital's succession to the keys of this generation, signed by any key.
    pub fn succession_with(
        &self,
        number: u32,
        generation: u32,
        current: &SigningKey,
    ) -> Transaction {
        Transaction::Succession(SuccessionTransaction::sign(
            &self.consortium,
            self.possessed(number, generation),
            current,
        ))
    }

    /// A hospital's contact with this serial.
    pub fn contact(&self, number: u32, serial: u32) -> Transaction {
        let hospital = self.hospital(number);
        Transaction::Contact(Box::new(ContactTransaction::sign(
            &self.consortium,
            hospital.institution.id,
            serial,
            self.contact_of(&hospital.institution),
            &hospital.key,
        )))
    }

    /// The registration centre's private key of this number; the founding one is 0.
    pub fn centre_signer(&self, number: u8) -> SigningKey {
        signing_key("centre", number.into())
    }

    /// What is signed about the centre's key of this number, by which these before it count as lost to
    /// others.
    pub fn next_centre_key(&self, number: u8, compromised: &[u8]) -> NextCentreKey {
        NextCentreKey {
            number: CentreKeyNumber::new(number),
            key: self.centre_signer(number).verifying_key(),
            compromised: compromised
                .iter()
                .map(|number| CentreKeyNumber::new(*number))
                .collect(),
        }
    }

    /// Gives the centre its next key, signed by this current key if there is one and approved by these
    /// hospitals.
    pub fn centre_key(
        &self,
        next: NextCentreKey,
        current: Option<&SigningKey>,
        approvers: &[u32],
    ) -> Transaction {
        let approvals = approvers
            .iter()
            .map(|number| {
                let by = self.hospital(*number);
                CentreKeyApproval::sign(&self.consortium, &next, by.institution.id, &by.key)
            })
            .collect();
        let key = self.centre_signer(next.number.number());
        let current = current.map(|current| next.sign(&self.consortium, current));
        Transaction::CentreKey(Box::new(CentreKeyTransaction::sign(
            &self.consortium,
            next,
            &key,
            current,
            approvals,
        )))
    }

    /// One transaction of each kind but the anchor, in an order in which a chain takes them.
    pub fn one_of_each(&self) -> Vec<Transaction> {
        let doctor = self.registration(1);
        let id = doctor.id(&self.consortium);
        let [motion, approval, _] = self
            .admission(&self.newcomer(Tier::Secondary), &[1, 2, 3])
            .try_into()
            .expect("a motion and two approvals");
        vec![
            doctor,
            self.writer_epoch(1),
            self.record(1, 1),
            self.request(1, 1),
            self.grant(1, 7_200_000),
            self.access(1, &[(0, 0), (1, 0), (0, 1)]),
            self.revocation(1),
            self.withdrawal(1),
            self.certificate_revocation(id),
            motion,
            approval,
            self.node_key(1),
            self.centre_key(self.next_centre_key(1, &[]), Some(&self.centre), &[1, 2]),
            self.contact(3, 0),
            self.succession(4),
        ]
    }

    /// Marks a transaction as checked.
    ///
    /// # Panics
    /// If it fails levels 1 and 2.
    pub fn checked(&self, transaction: Transaction) -> CheckedTransaction {
        CheckedTransaction::new(transaction, &self.consortium).expect("a well-formed transaction")
    }
}

/// A chain in memory that one caller grows block by block.
pub struct ToyChain<'a> {
    /// Who runs it.
    pub hospitals: &'a FourHospitals,
    /// The state after the last block.
    pub view: MemoryView,
    /// All blocks from genesis.
    pub blocks: Vec<Block>,
}

impl<'a> ToyChain<'a> {
    /// The genesis block and its state.
    ///
    /// # Panics
    /// If the settings found nothing.
    pub fn new(hospitals: &'a FourHospitals) -> Self {
        let (block, changes) = genesis(&hospitals.genesis).expect("the toy consortium's founding");
        let mut view = MemoryView::new();
        view.apply(&changes);
        Self {
            hospitals,
            view,
            blocks: vec![block],
        }
    }

    /// The header of the last block.
    pub fn tip(&self) -> &Header {
        self.blocks
            .last()
            .expect("the genesis block at least")
            .header()
    }

    /// Proposes a block so many milliseconds after the last, in the view after the last one's, by
    /// the node whose turn it is.
    ///
    /// # Panics
    /// If the proposal fails as a whole.
    pub fn propose(&self, after_ms: u64, candidates: &[CheckedTransaction]) -> Proposal {
        let tip = self.tip();
        let view = LeaderView::new(tip.view.number() + 1);
        let time = Timestamp::new(tip.time.number() + after_ms);
        let key = self.leader_key(view);
        propose(&self.view, tip, view, time, candidates, key).expect("the leader proposes")
    }

    /// The consensus key of the node that leads the next block in this view.
    ///
    /// # Panics
    /// If the leader is none of the toy consortium's.
    pub fn leader_key(&self, view: LeaderView) -> &'a SigningKey {
        let settings = self.hospitals.genesis.settings;
        let epoch = settings.epoch_of(self.tip().height.next());
        let nodes = state::node_set(&self.view, epoch)
            .expect("memory")
            .expect("the epoch's node set");
        let rotation = LeaderRotation::new(&nodes, settings.leader_term);
        self.hospitals.node_signer(&rotation.leader(view).key)
    }

    /// Proposes, executes and appends a block with these transactions.
    ///
    /// # Panics
    /// If one of them is refused or the block is invalid.
    pub fn grow(&mut self, after_ms: u64, transactions: Vec<Transaction>) -> &Block {
        let candidates: Vec<_> = transactions
            .into_iter()
            .map(|tx| self.hospitals.checked(tx))
            .collect();
        let proposal = self.propose(after_ms, &candidates);
        assert!(
            proposal.refused.is_empty(),
            "refused: {:?}",
            proposal.refused
        );
        let changes =
            execute(&self.view, self.tip(), &proposal.block).expect("an honest proposal is valid");
        assert_eq!(
            changes, proposal.changes,
            "leader and voter compute the same"
        );
        self.view.apply(&changes);
        self.blocks.push(proposal.block);
        self.blocks.last().expect("just pushed")
    }
}

/// Puts what the state holds of a record and its entries without a block: for measurements in a state
/// of a million of them, to which no root belongs.
pub fn put_record(changes: &mut Changes, record: &RecordState, entries: &[Entry]) {
    for (key, value) in record.rows(entries) {
        changes.put(key, value);
    }
}

/// A generator that depends on its use and a number only.
pub fn rng(purpose: &str, number: u64) -> ChaCha20Rng {
    let seed = sha256(&[purpose.as_bytes(), &number.to_be_bytes()].concat());
    ChaCha20Rng::from_seed(*seed.as_bytes())
}

fn next_keys(number: u32, generation: u32) -> (SigningKey, SigningKey) {
    let number = (u64::from(generation) << 32) | u64::from(number);
    (
        signing_key("institution", number),
        signing_key("node", number),
    )
}

fn signing_key(purpose: &str, number: u64) -> SigningKey {
    SigningKey::random(&mut rng(purpose, number))
}

fn bytes<const N: usize>(rng: &mut impl CryptoRng) -> [u8; N] {
    let mut out = [0; N];
    rng.fill_bytes(&mut out);
    out
}
