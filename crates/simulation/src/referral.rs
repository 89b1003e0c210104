//! The referral of the paper's Figure 2 on a simulated consortium, with faults on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use chain::{NodeConfig, Simulation, Simulator, WeatherCounts};
use ledger::testing::{FourHospitals, Invariants, naive_state_root};
use ledger::{Block, Height, KeyHash, Settings, StateRoot, Transaction, TransactionId};
use parties::{
    AgreedGrant, AgreedKey, AgreedNodeKeys, AgreedWriterEpochs, CentreKeys, Certificate, Decision,
    Doctor, EpisodePlace, FinalChain, Hit, Hits, HospitalServer, InTransaction, OpenGrant, Patient,
    PatientEpisode, QueryManager, Question, Reader, ReaderError, RecordDraft, RegistrationCentre,
    RequestTerms, SectionShares, ServingNodes, ShareAnswer, ShareOutcome, WantProof,
};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use scheme::{
    Address, ClassCode, ClassPlace, DoctorId, GrantId, Header, InstitutionId, KeyVersion, Keyword,
    RootSeed, SectionOpener, SectionPlan, SigningKey, Threshold, Timestamp, sha256,
};
use services::NodeChain;
use thiserror::Error;

use crate::changes::members;
use crate::faults::{Counts, End, Misuse, Plan};
use crate::misuse::{
    altered_access_is_refused, altered_containers_are_kept_back, altered_grant_is_refused,
    opens_nothing,
};
use crate::world::{World, rng};

const IMAGING: ClassCode = ClassCode::new(5);
const HOMEPAGE: ClassCode = ClassCode::new(1);
/// t of the grant.
const THRESHOLD: u8 = 2;
const TWO_HOURS_MS: u64 = 2 * 60 * 60 * 1000;
/// How long a grant stands that is to expire within a run.
const MOMENT_MS: u64 = 30_000;

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
    /// What went wrong and took effect, how often.
    pub effects: Counts,
    /// What befell messages.
    pub messages: WeatherCounts,
    /// How often a node got a grant from the doctor, since it was away when the patient gave it.
    pub handed_on: u64,
    /// Transactions that f + 1 nodes acknowledged; all of them stand where they said.
    pub acknowledged: usize,
    /// How long the run took in simulated time, in ms.
    pub simulated_ms: u64,
    /// How long after the last fault all nodes had one state and a further block, in ms.
    pub settled_ms: u64,
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
    /// An invariant does not hold.
    #[error("this must never be: {0}")]
    Broken(String),
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

/// Blocks that a run with faults has at least.
const BLOCKS_MIN: u64 = 50;
/// Blocks of a validator epoch in a run in which the consortium changes: some ten seconds.
const EPOCH_BLOCKS: u32 = 30;
/// How often a patient grants anew if a grant was on its way for so long that no node may take it any more.
const GRANTS_TRIED: u32 = 5;
/// How long the consortium may take to end its change once the record was read, in ms.
const CHANGED_MS: u64 = 240_000;

/// Plays the referral: a community hospital stores a record, the tertiary hospital's doctor reads one
/// section of it under a grant, and nothing after revocation; meanwhile goes wrong what the plan says. In
/// the end every invariant of `spec/chain.md` 11 is checked over the chain of every node that runs.
///
/// # Errors
/// [`ReferralError`] if it does not come to its end, or an invariant does not hold.
///
/// # Panics
/// If an invariant that is restated over the blocks does not hold; the message says which.
pub fn play(seed: u64, plan: &Plan) -> Result<Outcome, ReferralError> {
    play_watched(seed, plan, &|_| ())
}

/// As [`play`], and says line by line what happens: faults, blocks, and the referral's steps, each with the
/// simulated time since the start.
///
/// # Errors
/// As [`play`].
///
/// # Panics
/// As [`play`].
pub fn play_watched(
    seed: u64,
    plan: &Plan,
    watch: &dyn Fn(String),
) -> Result<Outcome, ReferralError> {
    let settings = Settings {
        heartbeat: Duration::from_millis(500),
        leader_timeout: Duration::from_millis(1_500),
        anchor_interval: Duration::from_secs(5),
        // One validator epoch, unless the members or their keys change.
        epoch_blocks: plan.change.map_or(u32::MAX, |_| EPOCH_BLOCKS),
        ..Settings::standard()
    };
    let hospitals = FourHospitals::found(settings);
    let keys = members(&hospitals, plan.change.map(|(_, change)| change));
    let keys: Vec<SigningKey> = keys.into_iter().map(|member| member.node_key).collect();
    let mut simulator =
        Simulator::new(seed, hospitals.genesis.clone(), keys, NodeConfig::default());
    simulator
        .run(|simulation| async move { refer(simulation, &hospitals, seed, plan, watch).await })
}

/// Who led in which view, from the headers of a node's blocks.
fn turns(world: &World<'_>, tip: Height) -> Result<Vec<(u64, u32)>, ReferralError> {
    let node = world.any()?.1;
    let view = node.view();
    let turn = |height| {
        let block = node.encoded_block(Height::new(height)).at("headers")?;
        let header = block.at("headers")?.header().at("headers")?;
        let nodes = ledger::node_set(view.as_ref(), header.epoch).at("headers")?;
        let nodes = nodes.at("headers")?;
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

async fn refer(
    simulation: Simulation,
    hospitals: &FourHospitals,
    seed: u64,
    plan: &Plan,
    watch: &dyn Fn(String),
) -> Result<Outcome, ReferralError> {
    let mut rng = rng("referral", seed);
    let began = simulation.now();
    let mut world = World::start(simulation, hospitals, plan, seed, watch).await?;
    // People take their time, so that what goes wrong meets each step.
    let mut slowness = crate::world::rng("slowness", seed);
    let mut slow = || match plan.faults.is_empty() {
        true => 0,
        false => slowness.next_u64() % 3_000,
    };
    let consortium = world.consortium;
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    let mut centre = RegistrationCentre::new(consortium, hospitals.centre.clone(), year);

    // 1 register
    world.say("the patient and the doctors are registered");
    let mut server = HospitalServer::new(
        consortium,
        world.institution(3),
        hospitals.hospitals[3].key.clone(),
        &mut rng,
    );
    let mut tertiary = HospitalServer::new(
        consortium,
        world.institution(0),
        hospitals.hospitals[0].key.clone(),
        &mut rng,
    );
    world
        .submit(&server.announce_writer_epoch(&mut rng).at("writer epoch")?)
        .await?;
    let (first, community) = (world.institution(0), world.institution(3));
    let (author, author_certificate) =
        enlist(&mut world, &mut centre, 1, community, &mut rng).await?;
    let (doctor, certificate) = enlist(&mut world, &mut centre, 2, first, &mut rng).await?;
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
    world.say("the patient begins an episode");
    let uid = server.register_patient(&mut rng);
    world.pause(slow()).await?;
    let hash = KeyHash::from(author.public_keys().hpke.hash());
    let agreed = agreed_key(&mut world, hash).await?;
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
    world.pause(slow()).await?;
    world.say("the community hospital's doctor stores a record");
    let stored = store(&mut world, &author, &mut server, &episode, &mut rng).await?;

    // 6, 7
    world.pause(slow()).await?;
    world.say("the tertiary hospital's doctor asks, the patient grants");
    let asking = Asking {
        centre: &centre,
        server: &tertiary,
        doctor: &doctor,
        certificate: &certificate,
        place,
    };
    let granting = ask_and_grant(&mut world, &mut patient, &asking, TWO_HOURS_MS, &mut rng);
    let (reader, mut grant) = granting.await?;
    let gid = grant.gid();

    // 8 to 10
    world.pause(slow()).await?;
    world.say("the doctor searches, and records the access");
    let hit = find(&mut world, &reader, &grant, &stored, &mut rng).await?;
    let access = reader
        .record_access(&mut grant, &hit, &mut rng)
        .at("access")?;
    let id = access.id(&consortium);
    let of = grant.access_is_final(id).at("access")?;
    let ask = reader.ask_shares(&grant, of, vec![ClassPlace::new(0)], WantProof::No);
    let record = stored.transaction;
    let early = world.shares(&ask, grant.grant(), &record, &stored.container, &mut rng);
    if world.gave_against_the_rules(&early) {
        return Err(ReferralError::Broken(
            "a node gave a share before the access was recorded".to_owned(),
        ));
    }
    if plan.misuse == Some(Misuse::AlteredAccess) {
        altered_access_is_refused(&mut world, &access)?;
    }
    world.submit(&access).await?;
    let entry = world.until(|world| {
        let handle = world.any()?.1;
        let chain = NodeChain::now(&handle);
        let position = ledger::transaction(chain.view(), hit.transaction)
            .at("read")?
            .at("read")?;
        chain.transaction(position).at("read")
    });
    let Transaction::Record(entry) = entry.await? else {
        return Err(ReferralError::Party("read", "it is no record".to_owned()));
    };
    let header = reader
        .check_header(
            &grant,
            &hit,
            &entry.statement,
            &entry.doctor,
            &stored.container,
        )
        .at("read")?;
    let granted = grant.granted_sections(&header);
    opens_nothing(&world, &grant, &header, record, early)?;
    let other = reader.ask_shares(&grant, of, vec![ClassPlace::new(1)], WantProof::No);
    let other = world.shares(&other, grant.grant(), &record, &stored.container, &mut rng);
    if !other.is_empty() {
        return Err(ReferralError::Broken(
            "there is a share of a class that was not granted".to_owned(),
        ));
    }
    let asked = reader.ask_container(&grant, of);
    altered_containers_are_kept_back(&mut world, plan, &asked, &stored.container)?;
    world.pause(slow()).await?;
    let (read_equal, ungranted_closed) = {
        let opened = world
            .until(|world| open_section(world, &reader, &grant, of, &header, &stored, &mut rng))
            .await?;
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

    world.say("the section is open");
    // What was found once is found always.
    while !plan.faults.is_empty() && world.height().number() < BLOCKS_MIN {
        world.step().await?;
    }
    let end = world.now().number() + CHANGED_MS;
    while !world.has_changed() {
        if world.now().number() >= end {
            return Err(ReferralError::Lost(
                "the consortium does not change".to_owned(),
            ));
        }
        world.step().await?;
    }
    let (_, _, settled_ms) = world.settle().await?;
    find(&mut world, &reader, &grant, &stored, &mut rng).await?;

    // 11 revoke
    let (refused, shares) = match plan.end {
        End::Revocation => {
            world.say("the patient revokes");
            world.submit(&patient.revoke(&gid).at("revoke")?).await?;
            world.settle().await?;
            let late = reader
                .record_access(&mut grant, &hit, &mut rng)
                .at("access")?;
            let refused = matches!(world.submit(&late).await, Err(ReferralError::Refused(_)));
            let shares = world.shares(&ask, grant.grant(), &record, &stored.container, &mut rng);
            (refused, shares)
        }
        End::Expiry => {
            world.say("the patient grants once more, for a moment");
            let granting = ask_and_grant(&mut world, &mut patient, &asking, MOMENT_MS, &mut rng);
            let (reader, brief) = granting.await?;
            grant = brief;
            let ended = expire(&mut world, &reader, &mut grant, &stored, &mut rng).await?;
            world.submit(&patient.revoke(&gid).at("revoke")?).await?;
            // A node lets go of a grant with the block that ends it, which it may not have yet.
            world.settle().await?;
            ended
        }
    };
    let kept_to_rules = !world.gave_against_the_rules(&shares);
    opens_nothing(&world, &grant, &header, record, shares)?;
    world.forget_ended()?;
    let grants_held = world
        .accounting
        .values()
        .map(parties::AccountingNode::held)
        .sum();

    let (height, state_root, _) = world.settle().await?;
    check(&world, height)?;
    world.count_misdeeds(plan);
    let status = world.any()?.1.status();
    let led = status
        .led
        .iter()
        .map(|led| (led.institution.number(), led.blocks))
        .collect();
    let turns = turns(&world, height)?;
    Ok(Outcome {
        state_root,
        height: height.number(),
        read_equal,
        ungranted_closed,
        refused_after_revocation: refused && kept_to_rules,
        grants_held,
        led,
        turns,
        effects: std::mem::take(&mut world.faulting.effects),
        messages: world.simulation.weather_counts(),
        handed_on: world.handed_on,
        acknowledged: world.acknowledged.len(),
        simulated_ms: world.now().number() - began.number(),
        settled_ms,
    })
}

/// All nodes that run have one chain up to this height, which keeps every invariant, and what f + 1 nodes
/// acknowledged stands in it where they said.
fn check(world: &World<'_>, height: Height) -> Result<(), ReferralError> {
    let broken = |what: String| Err(ReferralError::Broken(what));
    let mut first: Option<Vec<Block>> = None;
    for (place, node) in world.simulation.running() {
        let blocks: Vec<Block> = (0..=height.number())
            .map(|height| {
                let block = node.block(Height::new(height)).at("blocks")?;
                Ok(Block::clone(&block.at("blocks")?.block))
            })
            .collect::<Result<_, ReferralError>>()?;
        let view = node.view_at(height).at("view")?;
        let entries = view.entries().map(|entry| entry.expect("memory"));
        let root = naive_state_root(&world.consortium, &blocks, entries);
        if blocks
            .last()
            .map(|block| block.header().state_root.digest())
            != Some(root)
        {
            return broken(format!(
                "the state of {place:?} is not what its blocks make"
            ));
        }
        for (id, outcome) in &world.acknowledged {
            let receipt = node.receipt(id).at("receipt")?;
            if receipt.map(|receipt| receipt.outcome) != Some(*outcome) {
                return broken(format!("{place:?} has not {id}, which was acknowledged"));
            }
        }
        match &first {
            Some(first) if *first != blocks => {
                return broken(format!("{place:?} has another chain"));
            }
            Some(_) => {}
            None => {
                Invariants {
                    hospitals: world.hospitals,
                    blocks: &blocks,
                    view: view.as_ref(),
                }
                .hold();
                first = Some(blocks);
            }
        }
    }
    Ok(())
}

/// Searches until f + 1 nodes answer alike. The record is final, so they find it.
async fn find(
    world: &mut World<'_>,
    reader: &Reader,
    grant: &OpenGrant,
    stored: &Stored,
    rng: &mut ChaCha20Rng,
) -> Result<Hit, ReferralError> {
    let hits = world.until(|world| {
        let request = reader.search(grant, world.height());
        let replies = world.search(&request, grant.grant(), rng);
        let set = world.set()?;
        reader.agree(&request, &replies, &set).at("search")
    });
    let Hits(hits) = hits.await?;
    let mut found = hits
        .into_iter()
        .filter(|hit| hit.transaction == stored.transaction);
    found.next().ok_or_else(|| {
        ReferralError::Broken("f + 1 nodes do not find a record that is final".to_owned())
    })
}

/// Records an access under a grant, waits until the chain's time has passed the grant's end, and tries again:
/// whether a further access was refused, and the shares that were given.
async fn expire(
    world: &mut World<'_>,
    reader: &Reader,
    grant: &mut OpenGrant,
    stored: &Stored,
    rng: &mut ChaCha20Rng,
) -> Result<(bool, Vec<(usize, ShareAnswer)>), ReferralError> {
    let record = stored.transaction;
    let hit = find(world, reader, grant, stored, rng).await?;
    let access = reader.record_access(grant, &hit, rng).at("access")?;
    let of = grant
        .access_is_final(access.id(&world.consortium))
        .at("access")?;
    world.submit(&access).await?;
    let ask = reader.ask_shares(grant, of, vec![ClassPlace::new(0)], WantProof::No);
    let given = world.until(|world| {
        let given = world.shares(&ask, grant.grant(), &record, &stored.container, rng);
        let enough = given.len() >= usize::from(THRESHOLD);
        enough.then_some(()).at("a share before the end")
    });
    given.await?;
    let expiry = grant.grant().terms().expiry;
    let over = world.until(|world| {
        let mut nodes = world.handles().into_iter();
        let over = nodes.all(|node| node.status().tip.time > expiry);
        over.then_some(()).at("the end of a grant")
    });
    over.await?;
    world.faulting.took_effect("grant expired", 1);
    let late = reader.record_access(grant, &hit, rng).at("access")?;
    let refused = matches!(world.submit(&late).await, Err(ReferralError::Refused(_)));
    let shares = world.shares(&ask, grant.grant(), &record, &stored.container, rng);
    Ok((refused, shares))
}

/// Asks for shares, and for proofs if one of them lies.
fn open_section(
    world: &mut World<'_>,
    reader: &Reader,
    grant: &OpenGrant,
    of: InTransaction,
    header: &scheme::VerifiedHeader,
    stored: &Stored,
    rng: &mut ChaCha20Rng,
) -> Result<parties::OpenedSection, ReferralError> {
    let class = ClassPlace::new(0);
    let record = stored.transaction;
    let mut collect = |world: &mut World<'_>, proof| {
        let ask = reader.ask_shares(grant, of, vec![class], proof);
        let given = world.shares(&ask, grant.grant(), &record, &stored.container, rng);
        let given = world.with_lies(given, &grant.gid(), &record, header);
        let mut shares = SectionShares::new(world.consortium, grant, header, record, class);
        for answer in given {
            let taken = shares.add(answer);
            // A node under its next key cannot sign as the grant names it; the others are enough.
            if world.is_founding() {
                taken.at("share")?;
            }
        }
        Ok::<_, ReferralError>(shares)
    };
    match collect(world, WantProof::No)?.open() {
        Err(ReaderError::AskForProofs) => {}
        opened => return opened.at("share"),
    }
    let mut shares = collect(world, WantProof::Yes)?;
    let seated = world.set_of(grant.grant().terms().validator_epoch)?;
    let judged = shares.judge(&seated).at("proofs")?;
    let honest = judged
        .lying
        .iter()
        .any(|named| Some(*named) != world.liar_is());
    if honest {
        return Err(ReferralError::Broken(format!(
            "{:?} are named as liars",
            judged.lying
        )));
    }
    match judged.outcome {
        ShareOutcome::Opened(opened) => Ok(opened),
        ShareOutcome::AuthorOrGranter => Err(ReferralError::Broken(
            "an honest author is blamed".to_owned(),
        )),
        ShareOutcome::TooFew { found, needed } => Err(ReferralError::Party(
            "proofs",
            format!("{found} of {needed} hold"),
        )),
    }
}

async fn enlist(
    world: &mut World<'_>,
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

async fn agreed_key(world: &mut World<'_>, hash: KeyHash) -> Result<AgreedKey, ReferralError> {
    let reply = world.ask(&Question::UserKey(hash)).await?;
    AgreedKey::from_reply(hash, &reply).at("key")?.at("key")
}

async fn store(
    world: &mut World<'_>,
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
    let reply = world.ask(&Question::WriterEpochs(institution)).await?;
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

/// Who takes part in steps 6 and 7.
struct Asking<'a> {
    centre: &'a RegistrationCentre,
    server: &'a HospitalServer,
    doctor: &'a Doctor,
    certificate: &'a Certificate,
    place: EpisodePlace,
}

/// The doctor asks and the patient grants; once more, if the grant was on its way for so long that the nodes
/// have changed twice and the chain takes it no more.
async fn ask_and_grant(
    world: &mut World<'_>,
    patient: &mut Patient,
    asking: &Asking<'_>,
    validity_ms: u64,
    rng: &mut ChaCha20Rng,
) -> Result<(Reader, OpenGrant), ReferralError> {
    let mut tried = 1;
    loop {
        match ask_and_grant_once(world, patient, asking, validity_ms, rng).await {
            Err(ReferralError::Refused(why)) if tried < GRANTS_TRIED && !world.is_founding() => {
                world.say(&format!("a grant is late: {why}"));
                tried += 1;
            }
            ended => return ended,
        }
    }
}

async fn ask_and_grant_once(
    world: &mut World<'_>,
    patient: &mut Patient,
    asking: &Asking<'_>,
    validity_ms: u64,
    rng: &mut ChaCha20Rng,
) -> Result<(Reader, OpenGrant), ReferralError> {
    let Asking {
        centre,
        server,
        doctor,
        certificate,
        place,
    } = *asking;
    let consortium = world.consortium;
    let reader = Reader::new(
        consortium,
        CentreKeys::founding(centre.verifying_key()),
        certificate.clone(),
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
    let mut agreed: Vec<AgreedKey> = Vec::new();
    for hash in request.key_hashes() {
        agreed.push(agreed_key(world, hash).await?);
    }
    let forwarded = queries.forward(examined, &agreed, rng).at("request")?;

    let asked = patient
        .open_request(&forwarded.sealed, world.now())
        .at("grant")?;
    let community = world.institution(3);
    let reply = world.ask(&Question::WriterEpochs(community)).await?;
    let epochs = AgreedWriterEpochs::from_reply(community, &reply).at("grant")?;
    let set = world.set()?;
    let epoch = set.epoch();
    let reply = world.ask(&Question::NodeKeys(epoch)).await?;
    let keys = AgreedNodeKeys::from_reply(epoch, &reply).at("grant")?;
    let nodes = ServingNodes {
        set: &set,
        keys: &keys,
    };
    let from = Timestamp::new(world.any()?.1.status().tip.time.number());
    let decision = Decision {
        episode: place,
        classes: vec![IMAGING],
        keywords: vec![Keyword::any_record()],
        not_before: from,
        expiry: Timestamp::new(from.number() + validity_ms),
        threshold: Threshold::new(THRESHOLD).expect("it is not zero"),
    };
    let package = patient
        .answer(&asked, &[decision], &agreed, &[epochs], &nodes, rng)
        .at("grant")?
        .pop()
        .at("grant")?;
    let gid = GrantId::of(&consortium, &package.entry.revocation_key);
    if world.misuse == Some(Misuse::AlteredGrant) {
        altered_grant_is_refused(world, &package)?;
    }
    let countersigned = world.until(|world| give(world, gid, &package));
    let mut refused = "its epoch is over".to_owned();
    let mut recorded = false;
    for countersigned in countersigned.await? {
        match world.submit(&countersigned).await {
            // Its node lies, or has another key by now: another one's will do.
            Err(ReferralError::Refused(why)) => refused = why,
            ended => {
                ended?;
                recorded = true;
                break;
            }
        }
    }
    if !recorded {
        return Err(ReferralError::Refused(refused));
    }
    let reply = world.ask(&Question::Grant(gid)).await?;
    let on_chain = AgreedGrant::from_reply(gid, &reply)
        .at("grant")?
        .at("grant")?;
    let grant = reader
        .open_grant(&package.grant, &request, &on_chain)
        .at("grant")?;
    Ok((reader, grant))
}

/// Brings a grant to the accounting nodes that run; t of them have to take it, so that it can be used. Gives
/// what they countersigned, whoever lies first; nothing if its validator epoch is over, of which none takes
/// a grant.
fn give(
    world: &mut World<'_>,
    gid: GrantId,
    package: &parties::GrantPackage,
) -> Result<Vec<Transaction>, ReferralError> {
    if world.set()?.epoch().number() > package.entry.epoch.number() + 1 {
        return Ok(Vec::new());
    }
    let mut countersigned = Vec::new();
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
        if let Ok((_, transaction)) = node.receive_grant(package, &chain, now) {
            world.keep_grant(place, gid, &package.grant);
            match world.wrongly_countersigned(place, &transaction) {
                Some(wrong) => countersigned.insert(0, wrong),
                None => countersigned.push(transaction),
            }
        }
    }
    match countersigned.len() >= usize::from(THRESHOLD) {
        true => Ok(countersigned),
        false => Err(ReferralError::Party(
            "grant",
            format!("{} accounting nodes take it", countersigned.len()),
        )),
    }
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
