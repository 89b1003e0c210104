//! The referral, step by step (ARCHITECTURE.md, "The minute").

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use client::{ClientError, Confirmed, ConsortiumClient, SystemRandom, now};
use futures::StreamExt;
use futures::future::try_join_all;
use ledger::{KeyHash, Transaction, TransactionId};
use parties::{
    AgreedKey, CentreKeys, CloudServer, Decision, Doctor, EpisodePlace, Hit, HospitalServer,
    InTransaction, OpenGrant, OwnRecord, OwnSearch, Patient, PatientEpisode, QueryManager, Reader,
    RecordDraft, RegistrationCentre, RequestTerms, ServingNodes, ShareRequest, VerifiedRequest,
    WantProof,
};
use rand_core::Rng;
use record::SectionClass;
use scheme::{
    Address, ClassCode, ClassPlace, ConsortiumId, ContentKey, DoctorId, GrantId, InstitutionId,
    KeyVersion, Keyword, RootSeed, SectionIndex, SigningKey, Threshold, Timestamp,
};
use services::ContainerStore;
use thiserror::Error;
use workstation::shelf::{self, ShelfError, Shelved};
use workstation::{Fetched, WorkError, header_of, run_search};

use super::consortium::{Consortium, ConsortiumError, Hospital};
use super::report::{Led, Report};
use super::samples;

/// How long a transaction may take to be acknowledged by f + 1 nodes. A killed leader costs at most
/// its time-out a turn until it is skipped.
const FINAL: Duration = Duration::from_secs(20);
const TWO_HOURS_MS: u64 = 2 * 60 * 60 * 1000;
const THREE_SECONDS_MS: u64 = 3_000;
/// t of each grant: more than f, and any two of the three accounting hospitals.
const THRESHOLD: usize = 2;
/// How often something is looked for, and how many times: five seconds.
const POLL: Duration = Duration::from_millis(10);
const POLLS_MAX: usize = 500;
/// How often the three seconds' grant is made anew if it ended before it was read: the others may
/// wait for the killed leader's turns meanwhile.
const SHORT_GRANTS_MAX: usize = 4;
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const TERTIARY: InstitutionId = InstitutionId::new(1);
const SECONDARY: InstitutionId = InstitutionId::new(2);
const COMMUNITY: InstitutionId = InstitutionId::new(4);

/// Why the demo cannot go on. A check that fails does not end it; this does.
#[derive(Debug, Error)]
pub(super) enum DemoError {
    #[error(transparent)]
    Consortium(#[from] ConsortiumError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error(transparent)]
    Work(#[from] WorkError),
    #[error("the cloud failed: {0}")]
    Cloud(#[from] services::CloudError),
    #[error("a file of the demo cannot be read or written: {0}")]
    File(#[from] std::io::Error),
    #[error("{0}: {1}")]
    Party(&'static str, String),
}

/// Says at which step a party stopped.
trait At<T> {
    fn at(self, step: &'static str) -> Result<T, DemoError>;
}

impl<T, E: std::fmt::Display> At<T> for Result<T, E> {
    fn at(self, step: &'static str) -> Result<T, DemoError> {
        self.map_err(|error| DemoError::Party(step, error.to_string()))
    }
}

impl<T> At<T> for Option<T> {
    fn at(self, step: &'static str) -> Result<T, DemoError> {
        self.ok_or_else(|| DemoError::Party(step, "it is not there".to_owned()))
    }
}

/// A doctor with certificate and workplace.
struct Enlisted {
    doctor: Doctor,
    certificate: parties::Certificate,
}

/// A record that is stored and final.
struct Stored {
    shelved: Shelved,
    own: OwnRecord,
}

/// Everything that the demo's people hold.
struct Referral {
    rng: SystemRandom,
    consortium: ConsortiumId,
    centre: RegistrationCentre,
    queries: QueryManager,
    patient: Patient,
    cloud: ContainerStore,
    cloud_server: CloudServer,
    servers: BTreeMap<InstitutionId, HospitalServer>,
    containers: usize,
}

/// Plays it.
pub(super) async fn play(files: &[PathBuf], report: &mut Report) -> Result<(), DemoError> {
    let (first, second, other) = records(files)?;
    report.say("Four hospitals start their nodes, each a process of its own on this machine.");
    let begun = Instant::now();
    let mut consortium = Consortium::start().await?;
    for hospital in &consortium.hospitals {
        let role = hospital.tier.role();
        report.say(&format!(
            "{:<30} {:?}, {role:?} node",
            hospital.name, hospital.tier
        ));
    }
    report.say(&format!(
        "They agreed on their first block after {} ms.\n",
        begun.elapsed().as_millis()
    ));

    let (mut play, enlisted) = register(&consortium, report).await?;
    let [wang, zhou, lin] = enlisted;

    // 2 begin episode
    let begun = Instant::now();
    let (place_a, episode_a, bytes_a) = play.begin_episode(&consortium.client, &wang).await?;
    let (place_b, episode_b, bytes_b) = play.begin_episode(&consortium.client, &zhou).await?;
    let what =
        "SK_D and the patient's keys, sealed to Dr. Wang (community) and Dr. Zhou (secondary)";
    report.step(2, "begin episode", begun.elapsed(), bytes_a + bytes_b, what);

    let [one, two, three] = play
        .store_all(
            &consortium,
            [
                (&wang, &episode_a, place_a, first),
                (&zhou, &episode_b, place_b, second),
                (&zhou, &episode_b, place_b, other),
            ],
            report,
        )
        .await?;

    // 6 request
    let begun = Instant::now();
    let classes: Vec<ClassCode> = SectionClass::ALL.into_iter().map(ClassCode::from).collect();
    let (reader, request, sealed) = play.request(&consortium, &lin, classes.clone(), 2).await?;
    let what = "Dr. Lin (tertiary) asks; the query manager checks certificate, chain, signature, freshness";
    report.step(6, "request", begun.elapsed(), sealed.len() as u64, what);

    // 7 grant
    let begun = Instant::now();
    let (granted_a, closed_a) = choose(&one);
    let (mut granted_b, mut closed_b) = choose(&two);
    if closed_a.is_none() && closed_b.is_none() {
        // Both records are of a single section: the second stay's is the one that stays closed.
        closed_b = granted_b.pop();
        granted_b = SectionClass::ALL
            .into_iter()
            .filter(|class| Some(*class) != closed_b)
            .collect();
    }
    let by_keyword = distinguishing(&two, &three)?;
    let keyword = by_keyword.clone().unwrap_or_else(Keyword::any_record);
    let from = play.chain_time(&consortium).await?;
    let decisions = [
        decision(
            place_a,
            &granted_a,
            Keyword::any_record(),
            from,
            TWO_HOURS_MS,
        ),
        decision(place_b, &granted_b, keyword.clone(), from, TWO_HOURS_MS),
    ];
    let (mut grants, bytes) = play
        .grant(&consortium, &reader, &request, &sealed, &decisions)
        .await?;
    let what = format!(
        "the patient grants for two hours: {} of the first stay, {} of the second, {}",
        names(&granted_a),
        names(&granted_b),
        match &by_keyword {
            Some(keyword) => format!(
                "by keyword \"{}\"",
                String::from_utf8_lossy(keyword.as_bytes())
            ),
            None => "any record of it".to_owned(),
        },
    );
    report.step(7, "grant", begun.elapsed(), bytes, &what);

    // 8 search
    let begun = Instant::now();
    let (mut hits, mut moved) = (Vec::new(), 0);
    for grant in &grants {
        let (found, bytes) = search(&consortium, &reader, grant).await?;
        hits.push(found);
        moved += bytes;
    }
    let found = hits.iter().map(Vec::len).sum::<usize>();
    report.step(
        8,
        "search",
        begun.elapsed(),
        moved,
        &format!("{found} records found, the same by f + 1 nodes"),
    );
    report.check(
        8,
        ids(&hits[0]) == [one.own.transaction],
        "the first grant finds just the community hospital's record",
    );
    let (two_id, three_id) = (two.own.transaction, three.own.transaction);
    match &by_keyword {
        Some(_) => report.check(
            8,
            ids(&hits[1]) == [two_id] && two_id != three_id,
            "the keyword finds just its record, not the secondary hospital's other one",
        ),
        None => report.check(
            8,
            ids(&hits[1]) == [two_id, three_id],
            "the record has no keyword of its own, so the second grant finds both of that stay",
        ),
    }
    let [hit_a, hit_b] = [
        hits[0].first().at("search")?.clone(),
        hits[1].first().at("search")?.clone(),
    ];

    // A hospital is lost on the way.
    let leader = leading(&consortium).await?;
    consortium.kill(leader)?;
    let name = consortium.hospital(leader).name;
    report.say(&format!(
        "The node of {name}, which leads, is killed (SIGKILL). The referral goes on."
    ));

    // 9 verify and re-encrypt
    let begun = Instant::now();
    let read_a = play
        .fetch(&consortium, &reader, &mut grants[0], &hit_a)
        .await?;
    let read_b = play
        .fetch(&consortium, &reader, &mut grants[1], &hit_b)
        .await?;
    let what = "access final on the chain first; t of n shares for each section; the master node verified and sent EMD'";
    report.step(
        9,
        "verify and re-encrypt",
        begun.elapsed(),
        read_a.bytes + read_b.bytes,
        what,
    );

    // 10 open
    let begun = Instant::now();
    let (opened_a, equal_a) = play.open(&grants[0], &hit_a, &read_a, &one, &granted_a)?;
    let (opened_b, equal_b) = play.open(&grants[1], &hit_b, &read_b, &two, &granted_b)?;
    report.step(
        10,
        "open",
        begun.elapsed(),
        opened_a + opened_b,
        "the granted sections, opened on Dr. Lin's machine",
    );
    report.check(
        10,
        equal_a && equal_b,
        "what Dr. Lin read equals what was stored, byte for byte",
    );
    let opened: Vec<&ContentKey> = [&read_a, &read_b]
        .into_iter()
        .flat_map(|read| read.sections.iter().map(|(_, opened)| &opened.key))
        .collect();
    for (grant, hit, read, closed) in [
        (&grants[0], &hit_a, &read_a, closed_a),
        (&grants[1], &hit_b, &read_b, closed_b),
    ] {
        if let Some(class) = closed {
            let refusal = ungranted(&consortium, &reader, grant, hit, read, &opened).await;
            report.attack(
                10,
                &format!("open the ungranted section \"{}\"", class.name()),
                "does not grant that section class",
                refusal,
            );
        }
    }
    let whole = play.author_reads(&wang, &episode_a, &one).await?;
    report.check(
        10,
        whole,
        "Dr. Wang reads the own record without asking, and every file of it is whole",
    );

    tampering(&consortium, &reader, &grants, &hit_a, &one, report).await?;
    forgery(&mut play, &consortium, &wang, &one, report).await;

    // 11 revoke, expire
    let begun = Instant::now();
    let gid = grants[0].gid();
    let of = play
        .access(&consortium, &reader, &mut grants[0], &hit_a)
        .await?
        .0;
    let revocation = play.patient.revoke(&gid).at("revoke")?;
    let confirmed = consortium.client.submit(&revocation, FINAL).await?;
    let revoked = begun.elapsed();
    // A node that has not applied the block yet may still serve; the others are waited for.
    let height = confirmed.outcome.height.number();
    consortium.reach(|status| status.height >= height).await?;
    let refusal = after_the_end(&play, &consortium, &reader, &mut grants[0], &hit_a, of).await;
    let forgotten = consortium.forgets(&gid).await;
    let refusal_expired = expired(&mut play, &consortium, &lin, place_a, &granted_a).await?;
    report.step(
        11,
        "revoke, expire",
        revoked,
        revocation.encode().len() as u64,
        "revocation final; every later access is refused",
    );
    report.attack(
        11,
        "read after the patient revoked",
        "the patient revoked this grant",
        refusal,
    );
    report.check(
        11,
        forgotten,
        "every living node removed its shares and trapdoors from disk",
    );
    report.attack(
        11,
        "read after three seconds' grant expired, by the chain's time",
        "has expired",
        refusal_expired,
    );

    let (led, in_order) = led(&consortium).await?;
    report.say("");
    report.led(led);
    report.check(
        11,
        in_order,
        "the community hospital led no block, the others led all of them in the fixed order",
    );
    Ok(())
}

/// The records of the two hospitals, and one that a keyword must not find.
fn records(files: &[PathBuf]) -> Result<(Shelved, Shelved, Shelved), DemoError> {
    let other = || shelf::from_bytes(samples::SECONDARY_OTHER);
    if files.is_empty() {
        return Ok((
            shelf::from_bytes(samples::COMMUNITY)?,
            shelf::from_bytes(samples::SECONDARY)?,
            other()?,
        ));
    }
    // Files are dealt to the two hospitals in turn; a single one is the community hospital's.
    let dealt = |parity: usize| files.iter().skip(parity).step_by(2).collect::<Vec<_>>();
    let first = shelf::from_files(&dealt(0))?;
    let second = if files.len() > 1 {
        shelf::from_files(&dealt(1))?
    } else {
        shelf::from_bytes(samples::SECONDARY)?
    };
    let (keywords, _) = second.record.keywords();
    let other = if keywords
        .iter()
        .all(|keyword| other().is_ok_and(|other| other.record.keywords().0.contains(keyword)))
    {
        shelf::from_bytes(&samples::COMMUNITY[1..])?
    } else {
        other()?
    };
    Ok((first, second, other))
}

/// 1 register: certificates to the users, hashes of their keys and the writer epochs to the chain.
async fn register(
    consortium: &Consortium,
    report: &mut Report,
) -> Result<(Referral, [Enlisted; 3]), DemoError> {
    let begun = Instant::now();
    let mut rng = SystemRandom;
    let id = consortium.genesis.consortium();
    let mut centre = RegistrationCentre::new(id, consortium.centre.clone(), YEAR);
    let mut transactions = Vec::new();
    let mut servers = BTreeMap::new();
    for hospital in &consortium.hospitals {
        let server = HospitalServer::new(id, hospital.id, hospital.key.clone(), &mut rng);
        transactions.push(server.announce_writer_epoch(&mut rng).at("writer epoch")?);
        servers.insert(hospital.id, server);
    }
    let mut enlisted = Vec::new();
    for (number, institution) in [(1, COMMUNITY), (2, SECONDARY), (3, TERTIARY)] {
        let doctor = Doctor::new(
            id,
            CentreKeys::founding(centre.verifying_key()),
            DoctorId::new(number),
            institution,
            &mut rng,
        );
        let subject = centre.begin_enrolment();
        let proof = doctor.prove_possession(subject);
        let done = centre
            .certify_doctor(subject, *doctor.public_keys(), &proof, now())
            .at("register")?;
        if let Some(server) = servers.get_mut(&institution) {
            server.enter_doctor(doctor.public_keys().signing);
        }
        transactions.push(done.registration);
        enlisted.push(Enlisted {
            doctor,
            certificate: done.certificate,
        });
    }
    let seed = RootSeed::random(&mut rng);
    let mut patient = Patient::new(
        id,
        CentreKeys::founding(centre.verifying_key()),
        &seed,
        KeyVersion::new(0),
        &mut rng,
    );
    let subject = centre.begin_enrolment();
    let done = centre
        .certify_patient(patient.enrol(subject), now())
        .at("register")?;
    patient
        .accept_certificate(done.certificate, now())
        .at("register")?;
    transactions.push(done.registration);
    let bytes = transactions
        .iter()
        .map(|one| one.encode().len() as u64)
        .sum();
    submit_all(&consortium.client, &transactions).await?;

    let drift =
        u64::try_from(consortium.genesis.settings.clock_drift.as_millis()).unwrap_or(u64::MAX);
    let mut queries = QueryManager::new(id, CentreKeys::founding(centre.verifying_key()), drift);
    queries
        .open_inbox(patient.inbox().0, patient.inbox_key())
        .at("register")?;
    let what = "a patient and three doctors, keys made on their own devices; SHA-256 of each public key on the chain";
    report.step(1, "register", begun.elapsed(), bytes, what);
    let play = Referral {
        rng,
        consortium: id,
        centre,
        queries,
        patient,
        cloud: ContainerStore::open(&consortium.cloud())?,
        cloud_server: CloudServer::new(id, SigningKey::random(&mut SystemRandom)),
        servers,
        containers: 0,
    };
    let enlisted = <[Enlisted; 3]>::try_from(enlisted)
        .map_err(|_| DemoError::Party("register", "three doctors".into()))?;
    Ok((play, enlisted))
}

/// Hands transactions in together and waits until each is acknowledged.
async fn submit_all(
    client: &ConsortiumClient,
    transactions: &[Transaction],
) -> Result<Vec<Confirmed>, ClientError> {
    try_join_all(transactions.iter().map(|one| client.submit(one, FINAL))).await
}

impl Referral {
    async fn begin_episode(
        &mut self,
        client: &ConsortiumClient,
        enlisted: &Enlisted,
    ) -> Result<(EpisodePlace, PatientEpisode, u64), DemoError> {
        let keys = *enlisted.doctor.public_keys();
        let server = self
            .servers
            .get_mut(&keys.institution)
            .at("begin episode")?;
        let uid = server.register_patient(&mut self.rng);
        let agreed = client
            .agreed_key(KeyHash::from(keys.hpke.hash()))
            .await?
            .at("begin episode")?;
        let (place, sealed) = self
            .patient
            .begin_episode(
                &enlisted.certificate,
                &agreed,
                uid.clone(),
                now(),
                &mut self.rng,
            )
            .at("begin episode")?;
        let episode = enlisted
            .doctor
            .accept_handover(&sealed, &uid, now())
            .at("begin episode")?;
        // The doctor asks the chain, and not the centre, whether the patient's key is in force.
        let owner = client
            .agreed_key(KeyHash::from(episode.keys.ownership.hash()))
            .await?;
        owner.at("begin episode: the patient's ownership key is not in force")?;
        Ok((place, episode, sealed.len() as u64))
    }

    /// 3 to 5 for each record, told as three steps.
    async fn store_all<const N: usize>(
        &mut self,
        consortium: &Consortium,
        records: [(&Enlisted, &PatientEpisode, EpisodePlace, Shelved); N],
        report: &mut Report,
    ) -> Result<[Stored; N], DemoError> {
        let (mut sealed_in, mut stored_in, mut recorded_in) =
            (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let (mut plain, mut stored_bytes, mut transaction_bytes, mut entries) = (0, 0, 0, 0);
        let (mut all, mut found) = (Vec::new(), true);
        for (author, episode, place, shelved) in records {
            let begun = Instant::now();
            self.containers += 1;
            let path = consortium
                .workspace()
                .join(format!("container-{}", self.containers));
            let plans = shelf::plans(&shelved.record);
            plain += plans.iter().map(|plan| plan.length).sum::<u64>();
            let sealing = author
                .doctor
                .seal(episode, &plans, &mut self.rng)
                .at("seal")?;
            let (digest, length) = shelf::seal_to_file(&shelved.record, &sealing, &path)?;
            sealed_in += begun.elapsed();

            let begun = Instant::now();
            let address = self.upload(&path, digest, length).await?;
            stored_in += begun.elapsed();
            stored_bytes += length;

            let begun = Instant::now();
            let keywords = shelf::keywords(&shelved.record)?;
            let institution = author.doctor.public_keys().institution;
            let signing = author.doctor.public_keys().signing;
            let epochs = consortium.client.writer_epochs(institution).await?;
            let (_, writer_key) = epochs.current().at("index")?;
            let server = self.servers.get_mut(&institution).at("index")?;
            let draft =
                author
                    .doctor
                    .begin_index(episode, server.writer(), &keywords, &mut self.rng);
            let raised = server
                .raise(&signing, &draft.blinded(), now())
                .at("index")?;
            let (keys, ids) = draft
                .evaluate(&raised, writer_key, &episode.keys.search, &mut self.rng)
                .at("index")?;
            let positions = server.allocate(&signing, &ids, now()).at("index")?;
            let parts = RecordDraft {
                episode,
                header: sealing.header(),
                digest,
                address,
                writer_key,
                keys: &keys,
                positions: &positions,
                time: now(),
            };
            let own = author
                .doctor
                .sign_record(&parts, &mut self.rng)
                .at("index")?;
            let transaction = server
                .countersign(own.statement.clone(), own.signature, &mut self.rng)
                .at("record")?;
            let writer = server.writer();
            sealed_in += begun.elapsed();
            entries += own.statement.entries.len();

            let begun = Instant::now();
            consortium.client.submit(&transaction, FINAL).await?;
            let server = self.servers.get_mut(&institution).at("record")?;
            server.settle(&ids.into_iter().zip(positions).collect::<Vec<_>>());
            // Before "stored" is said: the author's own search, and the patient's check of the receipt.
            let mut search = OwnSearch::new(self.consortium, writer, keys, own.transaction);
            run_search(&consortium.client, &mut search).await?;
            found &= search.is_found();
            let receipt = author
                .doctor
                .receipt(episode, &own, &mut self.rng)
                .at("receipt")?;
            let receipt = self.patient.open_receipt(&receipt).at("receipt")?;
            if let Transaction::Record(record) = &transaction {
                let mut check = self
                    .patient
                    .check_receipt(place, receipt, record, writer, sealing.header(), &keywords)
                    .at("receipt")?;
                run_search(&consortium.client, check.search()).await?;
                self.patient.keep_receipt(check).at("receipt")?;
            }
            recorded_in += begun.elapsed();
            transaction_bytes += transaction.encode().len() as u64;
            all.push(Stored { shelved, own });
        }
        let what = format!(
            "{N} records, {entries} index entries; the hospital's server raised blinded points only"
        );
        report.step(3, "seal", sealed_in, plain, &what);
        let what =
            format!("{N} containers at random addresses, each with the cloud's signed receipt");
        report.step(4, "store", stored_in, stored_bytes, &what);
        let what =
            format!("{N} transactions with both signatures, acknowledged by f + 1 of 4 hospitals");
        report.step(
            5,
            "record on the chain",
            recorded_in,
            transaction_bytes,
            &what,
        );
        report.check(
            5,
            found,
            "each author's own search finds the record, and the patient's receipts fit",
        );
        all.try_into()
            .map_err(|_| DemoError::Party("store", "as many as there were".into()))
    }

    async fn upload(
        &mut self,
        path: &PathBuf,
        digest: scheme::Digest,
        length: u64,
    ) -> Result<Address, DemoError> {
        let address = self.cloud_server.assign_address(&mut self.rng);
        let mut upload = self.cloud.begin(address).await?;
        let mut file = std::fs::File::open(path)?;
        let mut piece = vec![0; 1024 * 1024];
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                break;
            }
            upload.write(&piece[..read]).await?;
        }
        let (found, stored) = upload.finish().await?;
        let receipt = self.cloud_server.receipt(address, found, stored, now());
        receipt
            .verify(
                &self.consortium,
                &self.cloud_server.verifying_key(),
                digest,
                length,
            )
            .at("store")?;
        Ok(address)
    }

    /// 6: the request, its commitment on the chain, and the query manager's hybrid verification.
    async fn request(
        &mut self,
        consortium: &Consortium,
        enlisted: &Enlisted,
        classes: Vec<ClassCode>,
        episodes: usize,
    ) -> Result<(Reader, VerifiedRequest, Vec<u8>), DemoError> {
        let centre = CentreKeys::founding(self.centre.verifying_key());
        let reader = Reader::new(
            self.consortium,
            centre,
            enlisted.certificate.clone(),
            episodes,
            &mut self.rng,
        );
        let (handle, salt) = self.patient.inbox();
        let mut nonce = [0; 32];
        self.rng.fill_bytes(&mut nonce);
        let time = now();
        let terms = RequestTerms {
            institution: enlisted.doctor.public_keys().institution,
            inbox: handle.commit(&self.consortium, &salt),
            classes,
            purpose: "acute ischaemic stroke: thrombectomy decision".to_owned(),
            nonce,
            time,
            not_after: Timestamp::new(time.number() + 60 * 60 * 1000),
        };
        let request = reader
            .request(&enlisted.doctor, terms, time)
            .at("request")?;
        let (statement, signature) = reader.request_statement(&enlisted.doctor, &request, time);
        let server = self.servers.get(&statement.institution).at("request")?;
        let transaction = server
            .countersign_request(statement, signature)
            .at("request")?;
        consortium.client.submit(&transaction, FINAL).await?;
        let examined = self
            .queries
            .examine(request.as_bytes(), handle, salt, now())
            .at("request")?;
        let agreed = self.agreed(consortium, &request).await?;
        let forwarded = self
            .queries
            .forward(examined, &agreed, &mut self.rng)
            .at("request")?;
        Ok((reader, request, forwarded.sealed))
    }

    async fn agreed(
        &self,
        consortium: &Consortium,
        request: &VerifiedRequest,
    ) -> Result<Vec<AgreedKey>, DemoError> {
        let mut agreed = Vec::new();
        for hash in request.key_hashes() {
            agreed.extend(consortium.client.agreed_key(hash).await?);
        }
        Ok(agreed)
    }

    /// 7: the patient's device answers; the nodes take the grants; doctor B opens them.
    async fn grant(
        &mut self,
        consortium: &Consortium,
        reader: &Reader,
        request: &VerifiedRequest,
        sealed: &[u8],
        decisions: &[Decision],
    ) -> Result<(Vec<OpenGrant>, u64), DemoError> {
        let client = &consortium.client;
        let asked = self.patient.open_request(sealed, now()).at("grant")?;
        let agreed = self.agreed(consortium, &asked).await?;
        let mut epochs = Vec::new();
        for institution in [COMMUNITY, SECONDARY] {
            epochs.push(client.writer_epochs(institution).await?);
        }
        let keys = client.node_keys().await?;
        let nodes = ServingNodes {
            set: &client.nodes_of(keys.epoch),
            keys: &keys,
        };
        let packages = self
            .patient
            .answer(&asked, decisions, &agreed, &epochs, &nodes, &mut self.rng)
            .at("grant")?;
        let (mut opened, mut bytes) = (Vec::new(), 0);
        for (place, package) in packages.iter().enumerate() {
            client.give(package, THRESHOLD, FINAL).await?;
            let gid = GrantId::of(&self.consortium, &package.entry.revocation_key);
            let on_chain = client.agreed_grant(gid).await?.at("grant")?;
            let ask = reader.ask_grant(gid, place).at("grant")?;
            let open = |grant: &[u8]| {
                let opened = reader.open_grant(grant, request, &on_chain).ok()?;
                Some((opened, grant.len() as u64))
            };
            let (grant, length) = client.grant(&ask, open).await?;
            bytes += length;
            opened.push(grant);
        }
        Ok((opened, bytes))
    }

    /// The access, final on the chain before any share.
    async fn access(
        &mut self,
        consortium: &Consortium,
        reader: &Reader,
        grant: &mut OpenGrant,
        hit: &Hit,
    ) -> Result<(InTransaction, u64), DemoError> {
        let transaction = reader
            .record_access(grant, hit, &mut self.rng)
            .at("access")?;
        let confirmed = consortium.client.submit(&transaction, FINAL).await?;
        let of = grant.access_is_final(confirmed.id).at("access")?;
        Ok((of, transaction.encode().len() as u64))
    }

    /// 9: the access, the container from the master node, the shares, and all of B's own checks.
    async fn fetch(
        &mut self,
        consortium: &Consortium,
        reader: &Reader,
        grant: &mut OpenGrant,
        hit: &Hit,
    ) -> Result<Fetched, DemoError> {
        let (of, bytes) = self.access(consortium, reader, grant, hit).await?;
        self.containers += 1;
        let path = consortium
            .workspace()
            .join(format!("container-{}", self.containers));
        let client = &consortium.client;
        let here = self.consortium;
        let mut fetched = workstation::fetch(client, here, reader, grant, of, hit, &path).await?;
        fetched.bytes += bytes;
        Ok(fetched)
    }

    /// 10: opens each granted section and compares it with what its author sealed.
    fn open(
        &self,
        grant: &OpenGrant,
        hit: &Hit,
        fetched: &Fetched,
        stored: &Stored,
        granted: &[SectionClass],
    ) -> Result<(u64, bool), DemoError> {
        let mut equal = hit.transaction == stored.own.transaction;
        let mut bytes = 0;
        let present = shelf::classes(&stored.shelved.record);
        let expected = granted
            .iter()
            .filter(|class| present.contains(class))
            .count();
        equal &= fetched.sections.len() == expected && grant.grant().class_count() == granted.len();
        for (place, opened) in &fetched.sections {
            let class = *granted.get(place.place()).at("open")?;
            let header = fetched.header.header();
            let (length, same) = shelf::open_and_compare(
                &fetched.path,
                header,
                opened.index,
                &opened.key,
                &stored.shelved.record,
                class,
            )?;
            bytes += length;
            equal &= same;
        }
        Ok((bytes, equal))
    }

    /// The author opens every section by r from s_D and the nonce, and puts the files together.
    async fn author_reads(
        &mut self,
        author: &Enlisted,
        episode: &PatientEpisode,
        stored: &Stored,
    ) -> Result<bool, DemoError> {
        // From the cloud, not from the author's own copy.
        let folder = tempfile::tempdir()?;
        let container = folder.path().join("container");
        let mut file = std::fs::File::create(&container)?;
        let mut digest = scheme::DigestStream::new();
        let mut pieces = self.cloud.read(stored.own.address).await?;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            digest.update(&piece);
            file.write_all(&piece)?;
        }
        if digest.finish() != stored.own.statement.digest {
            return Ok(false);
        }
        let header = header_of(&self.consortium, &container)?;
        let mut sections = Vec::new();
        for class in shelf::classes(&stored.shelved.record) {
            let code = ClassCode::from(class);
            let secret = author
                .doctor
                .own_section(&header, &episode.keys.encryption, &episode.pid, code)
                .at("the author's reading")?;
            let label = scheme::ClassLabelKey::derive(&self.consortium, &episode.pid, code);
            let index: SectionIndex = header.find(&label).at("the author's reading")?;
            let key = secret
                .content_key(&header, index)
                .at("the author's reading")?;
            let path = folder.path().join(format!("section-{}", class.name()));
            let mut file = std::fs::File::create(&path)?;
            shelf::open_section(&container, &header, index, &key, &mut |plain| {
                file.write_all(plain)
            })?;
            sections.push(path);
        }
        Ok(stored.shelved.comes_back_whole(&sections, folder.path())?)
    }

    /// The chain's time: that of the last block.
    async fn chain_time(&self, consortium: &Consortium) -> Result<Timestamp, DemoError> {
        Ok(Timestamp::new(
            consortium.client.status(consortium.living()).await?.time,
        ))
    }
}

/// Whose turn it is, just after a block became final: the next in the rotation waits for the next
/// heartbeat or transaction.
async fn leading(consortium: &Consortium) -> Result<InstitutionId, DemoError> {
    let client = &consortium.client;
    let mut last = client.height().await?;
    for _ in 0..POLLS_MAX {
        tokio::time::sleep(POLL).await;
        let height = client.status(consortium.living()).await?.height;
        let height = ledger::Height::new(height);
        if height == last {
            continue;
        }
        last = height;
        // The newest block has its certificate nearly always; otherwise the next one is waited for.
        if let Ok(headers) = client.headers(height).await
            && let Some(header) = headers.last()
        {
            let (order, term) = rotation(consortium);
            let turn = usize::try_from((header.view.number() + 1) / term).unwrap_or(usize::MAX);
            return Ok(order[turn % order.len()].id);
        }
    }
    Err(DemoError::Party(
        "the leading hospital",
        "no block came for five seconds".into(),
    ))
}

/// The accounting hospitals in the order of their numbers, and for how many views each leads.
fn rotation(consortium: &Consortium) -> (Vec<&Hospital>, u64) {
    let order = consortium
        .hospitals
        .iter()
        .filter(|hospital| hospital.tier != ledger::Tier::Community)
        .collect();
    let term = u64::from(consortium.genesis.settings.leader_term.views());
    (order, term)
}

/// Who led how many blocks, by the headers of all of them, which certificates prove final; and whether
/// each producer is the one whose turn it was: the accounting hospitals in the order of their numbers,
/// each for a term of views, a view never used twice.
async fn led(consortium: &Consortium) -> Result<(Vec<Led>, bool), DemoError> {
    let (order, term) = rotation(consortium);
    let end = consortium.client.height().await?;
    let mut blocks = BTreeMap::new();
    let mut held = true;
    let mut last: Option<ledger::Header> = None;
    let mut from = ledger::Height::new(1);
    while from <= end {
        // The highest block's certificate can come with the next block.
        let headers = match consortium.client.headers(from).await {
            Err(ClientError::Refused(_)) => break,
            headers => headers?,
        };
        for header in headers {
            let turn = usize::try_from(header.view.number() / term).unwrap_or(usize::MAX);
            let due = order[turn % order.len()];
            held &= header.producer == due.node;
            if let Some(last) = last {
                held &= header.previous == last.id() && header.view > last.view;
            }
            *blocks.entry(header.producer).or_insert(0) += 1;
            from = header.height.next();
            last = Some(header);
        }
    }
    let led: Vec<Led> = consortium
        .hospitals
        .iter()
        .map(|hospital| Led {
            hospital: hospital.name.to_owned(),
            tier: format!("{:?}", hospital.tier).to_lowercase(),
            blocks: blocks.remove(&hospital.node).unwrap_or(0),
        })
        .collect();
    held &= blocks.is_empty();
    for (hospital, led) in consortium.hospitals.iter().zip(&led) {
        held &= (hospital.tier == ledger::Tier::Community) == (led.blocks == 0);
    }
    Ok((led, held))
}

/// Which sections of a record are granted, and one that stays closed if there are several.
fn choose(stored: &Stored) -> (Vec<SectionClass>, Option<SectionClass>) {
    let mut present = shelf::classes(&stored.shelved.record);
    let closed = if present.len() > 1 {
        Some(present.remove(0))
    } else {
        None
    };
    (present, closed)
}

/// A keyword that the one record has and the other has not, if there is any.
fn distinguishing(one: &Stored, other: &Stored) -> Result<Option<Keyword>, DemoError> {
    let (mine, _) = one.shelved.record.keywords();
    let (others, _) = other.shelved.record.keywords();
    let preferred = [
        "dicom.modality|CT",
        "code|http://hl7.org/fhir/sid/icd-10-cm|I63.9",
    ];
    mine.iter()
        .filter(|keyword| !others.contains(keyword))
        .max_by_key(|keyword| preferred.contains(&keyword.as_str()))
        .map(|keyword| Keyword::new(keyword.as_str().as_bytes()).at("search"))
        .transpose()
}

fn decision(
    episode: EpisodePlace,
    classes: &[SectionClass],
    keyword: Keyword,
    from: Timestamp,
    milliseconds: u64,
) -> Decision {
    Decision {
        episode,
        classes: classes.iter().copied().map(ClassCode::from).collect(),
        keywords: vec![keyword],
        not_before: from,
        expiry: Timestamp::new(from.number() + milliseconds),
        threshold: Threshold::new(THRESHOLD as u8).expect("two is not zero"),
    }
}

fn names(classes: &[SectionClass]) -> String {
    classes
        .iter()
        .map(|class| class.name())
        .collect::<Vec<_>>()
        .join(", ")
}

fn ids(hits: &[Hit]) -> Vec<TransactionId> {
    hits.iter().map(|hit| hit.transaction).collect()
}

/// 8 at all accounting nodes, believed when f + 1 agree; with the bytes of questions and answers.
async fn search(
    consortium: &Consortium,
    reader: &Reader,
    grant: &OpenGrant,
) -> Result<(Vec<Hit>, u64), DemoError> {
    let found = workstation::search(&consortium.client, reader, grant).await?;
    Ok((found.hits, found.bytes))
}

/// Tries to open a section that was not granted: with a share that no node has, and with the keys of
/// the sections that were. Gives the reason if neither works.
async fn ungranted(
    consortium: &Consortium,
    reader: &Reader,
    grant: &OpenGrant,
    hit: &Hit,
    fetched: &Fetched,
    opened: &[&ContentKey],
) -> Option<String> {
    let place = u8::try_from(grant.grant().class_count()).ok()?;
    let of = grant.last_access(hit.transaction)?;
    let request = reader.ask_shares(grant, of, vec![ClassPlace::new(place)], WantProof::No);
    let (came, refused) = all_shares(consortium, grant, &request).await;
    let header = fetched.header.header();
    let granted: Vec<SectionIndex> = fetched
        .sections
        .iter()
        .map(|(_, opened)| opened.index)
        .collect();
    let closed: Vec<SectionIndex> = header
        .sections()
        .filter(|index| !granted.contains(index))
        .collect();
    let stays_closed = closed.iter().all(|index| {
        opened.iter().all(|key| {
            shelf::open_section(&fetched.path, header, *index, key, &mut |_| Ok(())).is_err()
        })
    });
    refused.filter(|_| came == 0 && stays_closed && !closed.is_empty() && !opened.is_empty())
}

/// The cloud's file is altered; the master node must not give out a byte of it.
async fn tampering(
    consortium: &Consortium,
    reader: &Reader,
    grants: &[OpenGrant],
    hit: &Hit,
    stored: &Stored,
    report: &mut Report,
) -> Result<(), DemoError> {
    let name = hex::encode(hit.locator.address.as_bytes());
    let path = consortium.cloud().join(&name[..2]).join(&name);
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)?;
    let last = file.metadata()?.len() - 1;
    let flip = |file: &mut std::fs::File| -> std::io::Result<()> {
        let mut byte = [0];
        file.seek(SeekFrom::Start(last))?;
        file.read_exact(&mut byte)?;
        file.seek(SeekFrom::Start(last))?;
        file.write_all(&[byte[0] ^ 1])?;
        file.sync_all()
    };
    flip(&mut file)?;
    let of = grants[0].last_access(hit.transaction).at("tampering")?;
    let mut came = 0;
    let request = reader.ask_container(&grants[0], of);
    let outcome = consortium
        .client
        .container(
            &request,
            TERTIARY,
            stored.own.statement.digest,
            &mut |piece| {
                came += piece.map_or(0, <[u8]>::len);
            },
        )
        .await;
    flip(&mut file)?;
    let reason = match outcome {
        Err(ClientError::Refused(problem)) if came == 0 => Some(problem.detail().to_owned()),
        _ => None,
    };
    report.attack(
        10,
        "tamper with the ciphertext in the cloud",
        "not the one that its author stored",
        reason,
    );
    Ok(())
}

/// A record under a signature that its author did not make. Everything else of it could stand: its
/// index entries are new, and the hospital's server signed it.
async fn forgery(
    play: &mut Referral,
    consortium: &Consortium,
    author: &Enlisted,
    stored: &Stored,
    report: &mut Report,
) {
    let mut statement = stored.own.statement.clone();
    statement.time = now();
    statement.entries.clear();
    scheme::pad_entries(&mut statement.entries, &mut play.rng);
    let forger = SigningKey::random(&mut play.rng);
    let signature = statement.sign(&play.consortium, &forger);
    let mut nonce = [0; 16];
    play.rng.fill_bytes(&mut nonce);
    let record = ledger::RecordTransaction::countersign(
        &play.consortium,
        statement,
        signature,
        ledger::RecordNonce::new(nonce),
        &consortium
            .hospital(author.doctor.public_keys().institution)
            .key,
    );
    let transaction = Transaction::Record(Box::new(record));
    let reason = match consortium.client.submit(&transaction, FINAL).await {
        Err(ClientError::Refused(problem)) => Some(problem.detail().to_owned()),
        _ => None,
    };
    report.attack(
        10,
        "record a forged doctor's signature",
        "the signature of the doctor does not stand",
        reason,
    );
}

/// After the end of a grant: no container, no share, no further access on the chain. Gives the
/// reason only if all three are refused.
async fn after_the_end(
    play: &Referral,
    consortium: &Consortium,
    reader: &Reader,
    grant: &mut OpenGrant,
    hit: &Hit,
    of: InTransaction,
) -> Option<String> {
    let mut came = 0;
    let nothing = scheme::sha256(b"");
    let container = consortium
        .client
        .container(
            &reader.ask_container(grant, of),
            TERTIARY,
            nothing,
            &mut |piece| {
                came += piece.map_or(0, <[u8]>::len);
            },
        )
        .await;
    let shares = reader.ask_shares(grant, of, vec![ClassPlace::new(0)], WantProof::No);
    let (answered, reason) = all_shares(consortium, grant, &shares).await;
    let late = reader
        .record_access(grant, hit, &mut play.rng.clone())
        .ok()?;
    let access = consortium.client.submit(&late, FINAL).await;
    let all = matches!(container, Err(ClientError::Refused(_)))
        && came == 0
        && answered == 0
        && matches!(access, Err(ClientError::Refused(_)));
    reason.filter(|_| all)
}

/// Asks every accounting node: how many shares came, and a node's reason if one refused.
async fn all_shares(
    consortium: &Consortium,
    grant: &OpenGrant,
    request: &ShareRequest,
) -> (usize, Option<String>) {
    let mut came = 0;
    let refusals = consortium
        .client
        .shares(request, grant.grant(), |answers| {
            came += answers.len();
            ControlFlow::Continue(())
        })
        .await;
    let refused = refusals
        .iter()
        .find(|refusal| matches!(refusal, ClientError::Refused(_)));
    (came, refused.map(ToString::to_string))
}

/// A second grant, of three seconds by the chain's time; gives the refusal after it.
async fn expired(
    play: &mut Referral,
    consortium: &Consortium,
    enlisted: &Enlisted,
    place: EpisodePlace,
    classes: &[SectionClass],
) -> Result<Option<String>, DemoError> {
    let mut attempt = 1;
    loop {
        match short_grant(play, consortium, enlisted, place, classes).await {
            Err(_) if attempt < SHORT_GRANTS_MAX => attempt += 1,
            outcome => return outcome,
        }
    }
}

async fn short_grant(
    play: &mut Referral,
    consortium: &Consortium,
    enlisted: &Enlisted,
    place: EpisodePlace,
    classes: &[SectionClass],
) -> Result<Option<String>, DemoError> {
    let codes: Vec<ClassCode> = SectionClass::ALL.into_iter().map(ClassCode::from).collect();
    let (reader, request, sealed) = play.request(consortium, enlisted, codes, 1).await?;
    let from = play.chain_time(consortium).await?;
    let decisions = [decision(
        place,
        classes,
        Keyword::any_record(),
        from,
        THREE_SECONDS_MS,
    )];
    let (mut grants, _) = play
        .grant(consortium, &reader, &request, &sealed, &decisions)
        .await?;
    let (hits, _) = search(consortium, &reader, &grants[0]).await?;
    let hit = hits.first().at("expire")?.clone();
    let (of, _) = play
        .access(consortium, &reader, &mut grants[0], &hit)
        .await?;
    let end = from.number() + THREE_SECONDS_MS;
    consortium.reach(|status| status.time >= end).await?;
    Ok(after_the_end(play, consortium, &reader, &mut grants[0], &hit, of).await)
}
