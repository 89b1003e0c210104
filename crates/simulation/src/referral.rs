//! The referral of the paper's Figure 2 on a simulated consortium, with faults on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use chain::{Links, NodeConfig, SimulatedNode, Simulation, Simulator};
use ledger::testing::FourHospitals;
use ledger::{Height, KeyHash, Settings, StateRoot, Transaction, TransactionId};
use parties::{
    AgreedGrant, AgreedKey, AgreedNodeKeys, AgreedWriterEpochs, CentreKeys, Certificate, Decision,
    Doctor, EpisodePlace, FinalChain, Hits, HospitalServer, InTransaction, OpenGrant, Patient,
    PatientEpisode, QueryManager, Question, Reader, RecordDraft, RegistrationCentre, RequestTerms,
    SectionShares, ServingNodes, WantProof,
};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use scheme::{
    Address, ClassCode, ClassPlace, DoctorId, GrantId, Header, InstitutionId, KeyVersion, Keyword,
    RootSeed, SectionOpener, SectionPlan, SigningKey, Threshold, Timestamp, ValidatorEpoch, sha256,
};
use services::NodeChain;
use thiserror::Error;

use crate::world::{World, rng};

const IMAGING: ClassCode = ClassCode::new(5);
const HOMEPAGE: ClassCode = ClassCode::new(1);
const TWO_HOURS_MS: u64 = 2 * 60 * 60 * 1000;

/// What goes wrong on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Messages lost out of a hundred, all the time.
    pub lost_percent: u8,
    /// Whether a secondary hospital's node loses its power after the grant, and comes back after the
    /// doctor has read.
    pub crash: bool,
}

impl Faults {
    /// Nothing goes wrong.
    pub const fn none() -> Self {
        Self {
            lost_percent: 0,
            crash: false,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The state root that all nodes came to.
    pub state_root: StateRoot,
    /// At which height.
    pub height: u64,
    /// Whether the granted section equals what was stored, byte for byte.
    pub read_equal: bool,
    /// Whether the ungranted section stayed closed.
    pub ungranted_closed: bool,
    /// Whether after revocation no node gave a share and the chain took no access.
    pub refused_after_revocation: bool,
    /// Grants that nodes still hold at the end; none may be left.
    pub grants_held: usize,
    /// Blocks led, by institution.
    pub led: BTreeMap<u32, u64>,
    /// Of each block from height 1 on, as its header says: the view, and the institution that led.
    pub turns: Vec<(u64, u32)>,
}

/// Why a run did not come to its end: a bug, or a fault beyond what the consortium withstands.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReferralError {
    /// A party stopped.
    #[error("{0}: {1}")]
    Party(&'static str, String),
    /// Every running node refused a transaction.
    #[error("the chain refuses it: {0}")]
    Refused(String),
    /// A transaction did not become final.
    #[error("it is lost: {0}")]
    Lost(String),
}

/// Says at which step a party stopped.
trait At<T> {
    fn at(self, step: &'static str) -> Result<T, ReferralError>;
}

impl<T, E: std::fmt::Display> At<T> for Result<T, E> {
    fn at(self, step: &'static str) -> Result<T, ReferralError> {
        self.map_err(|error| ReferralError::Party(step, error.to_string()))
    }
}

impl<T> At<T> for Option<T> {
    fn at(self, step: &'static str) -> Result<T, ReferralError> {
        self.ok_or_else(|| ReferralError::Party(step, "it is not there".to_owned()))
    }
}

/// Plays the referral: a community hospital stores a record, the tertiary hospital's doctor reads one
/// section of it under a grant, and nothing after revocation.
///
/// # Errors
/// [`ReferralError`] if it does not come to its end.
pub fn play_referral(seed: u64, faults: Faults) -> Result<Outcome, ReferralError> {
    let settings = Settings {
        heartbeat: Duration::from_millis(500),
        leader_timeout: Duration::from_millis(1_500),
        anchor_interval: Duration::from_secs(5),
        // One validator epoch: the members do not change.
        epoch_blocks: u32::MAX,
        ..Settings::standard()
    };
    let hospitals = FourHospitals::found(settings);
    let keys: Vec<SigningKey> = hospitals
        .hospitals
        .iter()
        .map(|hospital| hospital.node_key.clone())
        .collect();
    let mut simulator =
        Simulator::new(seed, hospitals.genesis.clone(), keys, NodeConfig::default());
    simulator.run(|simulation| async move { play(simulation, &hospitals, seed, faults).await })
}

/// Who led in which view, from the headers of a node's blocks.
fn turns(world: &World<'_>, tip: Height) -> Result<Vec<(u64, u32)>, ReferralError> {
    let node = world.handle(0).at("headers")?;
    let nodes = node.nodes();
    let turn = |height| {
        let block = node.encoded_block(Height::new(height)).at("headers")?;
        let header = block.at("headers")?.header().at("headers")?;
        let leader = nodes.by_key(&header.producer).at("headers")?;
        Ok((header.view.number(), leader.institution.number()))
    };
    (1..=tip.number()).map(turn).collect()
}

/// What the doctor at the community hospital stored.
struct Stored {
    container: Vec<u8>,
    transaction: TransactionId,
    sections: Vec<(ClassCode, Vec<u8>)>,
}

async fn play(
    mut simulation: Simulation,
    hospitals: &FourHospitals,
    seed: u64,
    faults: Faults,
) -> Result<Outcome, ReferralError> {
    simulation
        .set_links(Links {
            lost_percent: faults.lost_percent,
            ..Links::default()
        })
        .await;
    let mut rng = rng("referral", seed);
    let mut world = World::start(simulation, hospitals).await?;
    let consortium = world.consortium;
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    let mut centre = RegistrationCentre::new(consortium, hospitals.centre.clone(), year);

    // 1 register
    let mut server = HospitalServer::new(
        consortium,
        world.institution(3),
        hospitals.hospitals[3].key.clone(),
        &mut rng,
    );
    let tertiary = HospitalServer::new(
        consortium,
        world.institution(0),
        hospitals.hospitals[0].key.clone(),
        &mut rng,
    );
    let mut tertiary = tertiary;
    world
        .submit(&server.announce_writer_epoch(&mut rng).at("writer epoch")?)
        .await?;
    let (author, author_certificate) =
        enlist(&world, &mut centre, 1, world.institution(3), &mut rng).await?;
    let (doctor, certificate) =
        enlist(&world, &mut centre, 2, world.institution(0), &mut rng).await?;
    server.enter_doctor(author.public_keys().signing);
    tertiary.enter_doctor(doctor.public_keys().signing);
    let seed = RootSeed::random(&mut rng);
    let mut patient = Patient::new(
        consortium,
        CentreKeys::founding(centre.verifying_key()),
        &seed,
        KeyVersion::new(0),
        &mut rng,
    );
    let subject = centre.begin_enrolment();
    let enrolled = centre
        .certify_patient(patient.enrol(subject), world.now())
        .at("register")?;
    world.submit(&enrolled.registration).await?;
    patient
        .accept_certificate(enrolled.certificate, world.now())
        .at("register")?;

    // 2 begin episode
    let uid = server.register_patient(&mut rng);
    let agreed = agreed_key(&world, KeyHash::from(author.public_keys().hpke.hash()))?;
    let (place, sealed) = patient
        .begin_episode(
            &author_certificate,
            &agreed,
            uid.clone(),
            world.now(),
            &mut rng,
        )
        .at("episode")?;
    let episode = author
        .accept_handover(&sealed, &uid, world.now())
        .at("episode")?;

    // 3 to 5
    let stored = store(&world, &author, &mut server, &episode, &mut rng).await?;

    // 6, 7
    let (reader, packages) = ask_and_grant(
        &mut world,
        &centre,
        &mut patient,
        &tertiary,
        &doctor,
        certificate,
        place,
        &mut rng,
    )
    .await?;
    let (request, package) = packages;
    let gid = GrantId::of(&consortium, &package.entry.revocation_key);
    let reply = world.ask(&Question::Grant(gid))?;
    let on_chain = AgreedGrant::from_reply(gid, &reply)
        .at("grant")?
        .at("grant")?;
    let mut grant = reader
        .open_grant(&package.grant, &request, &on_chain)
        .at("grant")?;

    if faults.crash {
        let kept = usize::try_from(rng.next_u64() % 4_096).unwrap_or(0);
        world.power_off(2, kept).await;
    }
    // A program asks a node again that is a few blocks behind; here it is waited for.
    world.settle().await?;

    // 8 to 10
    let hits = search(&world, &reader, &grant, &mut rng)?;
    let hit = hits
        .0
        .iter()
        .find(|hit| hit.transaction == stored.transaction)
        .at("search")?
        .clone();
    let access = reader
        .record_access(&mut grant, &hit, &mut rng)
        .at("access")?;
    let id = world.submit(&access).await?;
    let of = grant.access_is_final(id).at("access")?;
    world.settle().await?;
    let position = {
        let handle = world.handle(0).at("read")?;
        let chain = NodeChain::now(&handle);
        let position = ledger::transaction(chain.view(), hit.transaction)
            .at("read")?
            .at("read")?;
        chain.transaction(position).at("read")?
    };
    let Transaction::Record(record) = position else {
        return Err(ReferralError::Party("read", "it is no record".to_owned()));
    };
    let header = reader
        .check_header(
            &grant,
            &hit,
            &record.statement,
            &record.doctor,
            &stored.container,
        )
        .at("read")?;
    let granted = grant.granted_sections(&header);
    let (read_equal, ungranted_closed) = {
        let mut shares = SectionShares::new(
            consortium,
            &grant,
            &header,
            hit.transaction,
            ClassPlace::new(0),
        );
        for answer in ask_shares(&world, &reader, &grant, of, &stored.container, &mut rng) {
            shares.add(answer).at("share")?;
        }
        let opened = shares.open().at("share")?;
        let plain = open(&stored.container, header.header(), &opened).at("open")?;
        let closed = header
            .header()
            .sections()
            .filter(|index| *index != opened.index)
            .all(|index| {
                let other = parties::OpenedSection {
                    index,
                    key: opened.key.clone(),
                };
                open(&stored.container, header.header(), &other).is_err()
            });
        (granted.len() == 1 && plain == stored.sections[1].1, closed)
    };

    if faults.crash {
        world.power_on(2).await?;
    }

    // 11 revoke
    world.submit(&patient.revoke(&gid).at("revoke")?).await?;
    world.settle().await?;
    let late = reader
        .record_access(&mut grant, &hit, &mut rng)
        .at("access")?;
    let refused = matches!(world.submit(&late).await, Err(ReferralError::Refused(_)));
    let shares = ask_shares(&world, &reader, &grant, of, &stored.container, &mut rng);
    world.forget_ended()?;
    let grants_held = world
        .accounting
        .values()
        .map(parties::AccountingNode::held)
        .sum();

    let state_root = world.settle().await?;
    let status = world.handle(0).at("end")?.status();
    let led = status
        .led
        .iter()
        .map(|led| (led.institution.number(), led.blocks))
        .collect();
    let turns = turns(&world, status.tip.height)?;
    Ok(Outcome {
        state_root,
        height: status.tip.height.number(),
        read_equal,
        ungranted_closed,
        refused_after_revocation: refused && shares.is_empty(),
        grants_held,
        led,
        turns,
    })
}

async fn enlist(
    world: &World<'_>,
    centre: &mut RegistrationCentre,
    id: u64,
    institution: InstitutionId,
    rng: &mut ChaCha20Rng,
) -> Result<(Doctor, Certificate), ReferralError> {
    let doctor = Doctor::new(
        world.consortium,
        CentreKeys::founding(centre.verifying_key()),
        DoctorId::new(id),
        institution,
        rng,
    );
    let subject = centre.begin_enrolment();
    let proof = doctor.prove_possession(subject);
    let enrolled = centre
        .certify_doctor(subject, *doctor.public_keys(), &proof, world.now())
        .at("register")?;
    world.submit(&enrolled.registration).await?;
    Ok((doctor, enrolled.certificate))
}

fn agreed_key(world: &World<'_>, hash: KeyHash) -> Result<AgreedKey, ReferralError> {
    let reply = world.ask(&Question::UserKey(hash))?;
    AgreedKey::from_reply(hash, &reply).at("key")?.at("key")
}

async fn store(
    world: &World<'_>,
    author: &Doctor,
    server: &mut HospitalServer,
    episode: &PatientEpisode,
    rng: &mut ChaCha20Rng,
) -> Result<Stored, ReferralError> {
    let mut image = vec![0; 100_000];
    rng.fill_bytes(&mut image);
    let sections = vec![(HOMEPAGE, b"name and address".to_vec()), (IMAGING, image)];
    let plans: Vec<SectionPlan> = sections
        .iter()
        .map(|(class, bytes)| SectionPlan {
            class: *class,
            length: bytes.len() as u64,
        })
        .collect();
    let sealing = author.seal(episode, &plans, rng).at("seal")?;
    let mut container = sealing.header().encode();
    for (place, plan) in sealing.order().iter().enumerate() {
        let mut sealer = sealing.section(place).at("seal")?;
        let bytes = &sections
            .iter()
            .find(|(class, _)| *class == plan.class)
            .at("seal")?
            .1;
        sealer.update(bytes, &mut container).at("seal")?;
        sealer.finish(&mut container).at("seal")?;
    }
    let mut address = [0; 32];
    rng.fill_bytes(&mut address);
    let institution = server.institution();
    let reply = world.ask(&Question::WriterEpochs(institution))?;
    let epochs = AgreedWriterEpochs::from_reply(institution, &reply).at("index")?;
    let writer_key = epochs.current().at("index")?.1.clone();
    let keyword = Keyword::new(b"dicom.modality|CT").at("index")?;
    let draft = author.begin_index(episode, server.writer(), &[keyword], rng);
    let signing = author.public_keys().signing;
    let raised = server
        .raise(&signing, &draft.blinded(), world.now())
        .at("index")?;
    let (keys, ids) = draft
        .evaluate(&raised, &writer_key, &episode.keys.search, rng)
        .at("index")?;
    let positions = server.allocate(&signing, &ids, world.now()).at("index")?;
    let own = author
        .sign_record(
            &RecordDraft {
                episode,
                header: sealing.header(),
                digest: sha256(&container),
                address: Address::new(address),
                writer_key: &writer_key,
                keys: &keys,
                positions: &positions,
                time: world.now(),
            },
            rng,
        )
        .at("index")?;
    let transaction = server
        .countersign(own.statement.clone(), own.signature, rng)
        .at("record")?;
    let transaction = world.submit(&transaction).await?;
    server.settle(&ids.into_iter().zip(positions).collect::<Vec<_>>());
    Ok(Stored {
        container,
        transaction,
        sections,
    })
}

#[allow(
    clippy::too_many_arguments,
    reason = "the people of steps 6 and 7, each named once"
)]
async fn ask_and_grant(
    world: &mut World<'_>,
    centre: &RegistrationCentre,
    patient: &mut Patient,
    server: &HospitalServer,
    doctor: &Doctor,
    certificate: Certificate,
    place: EpisodePlace,
    rng: &mut ChaCha20Rng,
) -> Result<(Reader, (parties::VerifiedRequest, parties::GrantPackage)), ReferralError> {
    let consortium = world.consortium;
    let reader = Reader::new(
        consortium,
        CentreKeys::founding(centre.verifying_key()),
        certificate,
        1,
        rng,
    );
    let (handle, salt) = patient.inbox();
    let mut nonce = [0; 32];
    rng.fill_bytes(&mut nonce);
    let now = world.now();
    let terms = RequestTerms {
        institution: server.institution(),
        inbox: handle.commit(&consortium, &salt),
        classes: vec![HOMEPAGE, IMAGING],
        purpose: "acute stroke".to_owned(),
        nonce,
        time: now,
        not_after: Timestamp::new(now.number() + 60 * 60 * 1000),
    };
    let request = reader.request(doctor, terms, now).at("request")?;
    let (statement, signature) = reader.request_statement(doctor, &request, now);
    world
        .submit(
            &server
                .countersign_request(statement, signature)
                .at("request")?,
        )
        .await?;
    let mut queries = QueryManager::new(
        consortium,
        CentreKeys::founding(centre.verifying_key()),
        1_000,
    );
    queries
        .open_inbox(handle, patient.inbox_key())
        .at("request")?;
    let examined = queries
        .examine(request.as_bytes(), handle, salt, world.now())
        .at("request")?;
    let agreed: Vec<AgreedKey> = request
        .key_hashes()
        .into_iter()
        .map(|hash| agreed_key(world, hash))
        .collect::<Result<_, _>>()?;
    let forwarded = queries.forward(examined, &agreed, rng).at("request")?;

    let asked = patient
        .open_request(&forwarded.sealed, world.now())
        .at("grant")?;
    let community = world.institution(3);
    let epochs =
        AgreedWriterEpochs::from_reply(community, &world.ask(&Question::WriterEpochs(community))?)
            .at("grant")?;
    let epoch = ValidatorEpoch::new(0);
    let keys =
        AgreedNodeKeys::from_reply(epoch, &world.ask(&Question::NodeKeys(epoch))?).at("grant")?;
    let set = world.set.clone();
    let nodes = ServingNodes {
        set: &set,
        keys: &keys,
    };
    let from = Timestamp::new(world.handle(0).at("grant")?.status().tip.time.number());
    let decision = Decision {
        episode: place,
        classes: vec![IMAGING],
        keywords: vec![Keyword::any_record()],
        not_before: from,
        expiry: Timestamp::new(from.number() + TWO_HOURS_MS),
        threshold: Threshold::new(2).expect("two is not zero"),
    };
    let package = patient
        .answer(&asked, &[decision], &agreed, &[epochs], &nodes, rng)
        .at("grant")?
        .pop()
        .at("grant")?;
    let gid = GrantId::of(&consortium, &package.entry.revocation_key);
    let mut countersigned = None;
    let places: Vec<usize> = world.accounting.keys().copied().collect();
    let now = world.now();
    for place in places {
        let Some(handle) = world.handle(place) else {
            continue;
        };
        let chain = NodeChain::now(&handle);
        let Some(node) = world.accounting.get_mut(&place) else {
            continue;
        };
        // A node that lags has not seen the request's doctor yet; it takes the grant when asked again.
        if let Ok((_, transaction)) = node.receive_grant(&package, &chain, now) {
            world.keep_grant(place, gid, &package.grant);
            countersigned = Some(transaction);
        }
    }
    world
        .submit(&countersigned.at("no accounting node takes the grant")?)
        .await?;
    Ok((reader, (request, package)))
}

fn search(
    world: &World<'_>,
    reader: &Reader,
    grant: &OpenGrant,
    rng: &mut ChaCha20Rng,
) -> Result<Hits, ReferralError> {
    let request = reader.search(grant, world.height());
    let mut replies = Vec::new();
    for (place, node) in &world.accounting {
        let Some(handle) = world.handle(*place) else {
            continue;
        };
        // A node below the height refuses; the others are enough.
        replies.extend(node.search(&request, &NodeChain::now(&handle), rng).ok());
    }
    reader.agree(&request, &replies, &world.set).at("search")
}

/// The shares that nodes give; a refusal gives none.
fn ask_shares(
    world: &World<'_>,
    reader: &Reader,
    grant: &OpenGrant,
    of: InTransaction,
    container: &[u8],
    rng: &mut ChaCha20Rng,
) -> Vec<parties::ShareAnswer> {
    let request = reader.ask_shares(grant, of, vec![ClassPlace::new(0)], WantProof::No);
    let mut answers = Vec::new();
    for (place, node) in &world.accounting {
        let Some(handle) = world.simulation.node(SimulatedNode(*place)) else {
            continue;
        };
        let chain = NodeChain::now(handle);
        let Ok(pending) = node.begin_shares(&request, &chain) else {
            continue;
        };
        let start = &container[..container.len().min(pending.header_bytes_max)];
        answers.extend(
            node.shares(&pending, &request.access_key, start, &chain, rng)
                .unwrap_or_default(),
        );
    }
    answers
}

fn open(
    container: &[u8],
    header: &Header,
    opened: &parties::OpenedSection,
) -> Result<Vec<u8>, scheme::OpenError> {
    let start = usize::try_from(header.payload_offset(opened.index)).unwrap_or(usize::MAX);
    let end = start + usize::try_from(header.payload_length(opened.index)).unwrap_or(usize::MAX);
    let mut opener = SectionOpener::new(header, opened.index, &opened.key);
    let mut plain = Vec::new();
    opener.update(container.get(start..end).unwrap_or_default(), &mut plain)?;
    opener.finish()?;
    Ok(plain)
}
