//! What a node, a master node and a reader check (`spec/scheme.md` section 12), each check alone: a
//! real accounting node gets what is right but for one thing, and must say that thing.
#![allow(clippy::unwrap_used)]

use crate::world::*;
use ledger::testing::FourHospitals;
use ledger::{Height, KeyHash, Transaction, TransactionId};
use parties::*;
use scheme::*;

const STROKE: &str = "code|http://snomed.info/sct|230690007";
const MINUTE: u64 = 60 * 1000;

/// A record of an episode at the community hospital, and a doctor at the tertiary one who asked.
struct Case<'a> {
    world: World<'a>,
    author: Enlisted,
    place: EpisodePlace,
    episode: PatientEpisode,
    stored: StoredRecord,
    tertiary: Enlisted,
    reader: Reader,
    request: VerifiedRequest,
    /// How many grants were made by hand, each with a revocation key of its own.
    made: u8,
}

fn case(hospitals: &FourHospitals) -> Case<'_> {
    let mut world = World::new(hospitals);
    let (author, tertiary) = (world.doctor(11, 4), world.doctor(13, 1));
    let (place, episode) = world.begin_episode(&author);
    let stored = world.store(&author, place, &episode, sections(1), &[STROKE]);
    let (reader, request, _) = world.ask(&tertiary, &[IMAGING], 1);
    Case {
        world,
        author,
        place,
        episode,
        stored,
        tertiary,
        reader,
        request,
        made: 0,
    }
}

fn later(time: Timestamp, milliseconds: u64) -> Timestamp {
    Timestamp::new(time.number() + milliseconds)
}

fn earlier(time: Timestamp, milliseconds: u64) -> Timestamp {
    Timestamp::new(time.number() - milliseconds)
}

fn hpke_of(node: usize) -> HpkePrivateKey {
    HpkePrivateKey::derive(&[0x70 + node as u8; 32])
}

/// An accounting node of a hospital that holds nothing.
fn fresh(world: &World<'_>, place: usize, epoch: u64) -> AccountingNode {
    let hospital = &world.chain.0.hospitals.hospitals[place];
    let (id, key) = (hospital.institution.id, hospital.node_key.clone());
    AccountingNode::new(world.consortium, id, key)
        .with_hpke_key(ValidatorEpoch::new(epoch), hpke_of(place))
}

fn revocation_key(number: u8) -> SigningKey {
    SigningKey::from_seed([0xa0 + number; 32])
}

/// A record that stands under one episode's index and under any owner's key, header and container.
fn craft(
    world: &mut World<'_>,
    doctor: &Doctor,
    episodes: (&PatientEpisode, &PatientEpisode),
    header: &Header,
    container: Vec<u8>,
) -> TransactionId {
    let crafted = world.record(doctor, episodes, header, container, &[]);
    world.chain.grow(crafted.transaction)
}

impl Case<'_> {
    /// A grant with nothing wrong, taken by the nodes and opened by the doctor.
    fn granted(&mut self) -> OpenGrant {
        let package = self.package(|_| {});
        self.given(&package)
    }

    fn keys(&self) -> PatientKeys {
        let seed = RootSeed::from_bytes([0x5e; 32]);
        PatientKeys::derive(&seed, KeyVersion::new(0), &self.world.consortium)
    }

    fn signing(&self) -> EpisodeSigningKey {
        let here = &self.world.consortium;
        EpisodeSigningKey::derive(here, &self.keys().ownership, &self.episode.pid).unwrap()
    }

    /// A grant by hand, right but for what `change` does to its terms.
    fn package(&mut self, change: impl FnOnce(&mut GrantTerms)) -> GrantPackage {
        self.made += 1;
        self.package_under(self.made, change)
    }

    /// A grant that ends so many milliseconds from now.
    fn package_in(&mut self, milliseconds: u64) -> GrantPackage {
        let now = self.world.chain.now();
        self.package(|terms| terms.expiry = later(now, milliseconds))
    }

    /// The same under a revocation key that may have signed another grant.
    fn package_under(
        &mut self,
        revocation: u8,
        change: impl FnOnce(&mut GrantTerms),
    ) -> GrantPackage {
        let signing = self.signing();
        let (grant, _) = self.make(revocation, change, &Granter::Patient(&signing));
        self.pack(revocation, grant.encode(&self.world.consortium))
    }

    fn make(
        &mut self,
        revocation: u8,
        change: impl FnOnce(&mut GrantTerms),
        granter: &Granter<'_>,
    ) -> (Grant, LogKey) {
        let here = self.world.consortium;
        let (keys, pid) = (self.keys(), &self.episode.pid);
        let now = self.world.chain.now();
        let nodes = self.world.chain.nodes();
        let nodes = nodes.accounting().enumerate();
        let mut terms = GrantTerms {
            episode_key: self.signing().public_key().clone(),
            revocation_key: revocation_key(revocation).verifying_key(),
            request: self.request.as_bytes().to_vec(),
            grantees: self.request.grantees(0).unwrap(),
            not_before: now,
            expiry: later(now, TWO_HOURS),
            validator_epoch: ValidatorEpoch::new(0),
            nodes: nodes
                .map(|(place, node)| GrantNode {
                    key: node.key,
                    hpke_key: hpke_of(place).public_key(),
                })
                .collect(),
            threshold: Threshold::new(2).unwrap(),
        };
        change(&mut terms);
        let classes = [GrantedClass {
            condition: ConditionKey::derive(&here, &keys.encryption, pid, IMAGING),
            label_key: ClassLabelKey::derive(&here, pid, IMAGING),
        }];
        let writer = Writer {
            institution: InstitutionId::new(4),
            epoch: WriterEpoch::new(0),
        };
        let any = Keyword::any_record();
        let trapdoor = Trapdoor::generate(&here, &keys.search, pid, writer, &any);
        let reach = Reach {
            trapdoors: vec![WriterTrapdoor { writer, trapdoor }],
            entries: Vec::new(),
        };
        let rng = &mut self.world.rng;
        Grant::make(&here, terms, &classes, &reach, granter, rng).unwrap()
    }

    /// A grant's bytes with the entry that fits them as far as they decode.
    fn pack(&self, revocation: u8, grant: Vec<u8>) -> GrantPackage {
        let here = &self.world.consortium;
        let key = revocation_key(revocation);
        let decoded = Grant::decode(here, &grant).unwrap().verify(here);
        let (epoch, not_before, expiry, access_keys) = match &decoded {
            Ok(grant) => {
                let terms = grant.terms();
                let keys = terms.grantees.iter().map(|one| one.access_key).collect();
                (terms.validator_epoch, terms.not_before, terms.expiry, keys)
            }
            Err(_) => (
                ValidatorEpoch::new(0),
                Timestamp::new(0),
                Timestamp::new(1),
                Vec::new(),
            ),
        };
        let entry = ledger::GrantEntry {
            revocation_key: key.verifying_key(),
            grant: sha256(&grant),
            epoch,
            not_before,
            expiry,
            access_keys,
        };
        let signature = entry.sign(here, &key);
        GrantPackage {
            grant,
            entry,
            signature,
        }
    }

    /// What node 1 says of a package now.
    fn receive(&mut self, package: &GrantPackage) -> Result<Transaction, GrantRefusal> {
        let now = self.world.chain.now();
        self.receive_at(package, now)
    }

    fn receive_at(
        &mut self,
        package: &GrantPackage,
        now: Timestamp,
    ) -> Result<Transaction, GrantRefusal> {
        let received = self.world.nodes[0].receive_grant(package, &self.world.chain, now);
        received.map(|(_, transaction)| transaction)
    }

    /// All nodes take the grant, its entry becomes final, and the doctor opens it.
    fn given(&mut self, package: &GrantPackage) -> OpenGrant {
        self.world.take(package);
        self.open(package)
    }

    fn open(&self, package: &GrantPackage) -> OpenGrant {
        let gid = self.gid(package);
        let on_chain = self.world.chain.agreed_grant(gid).unwrap();
        let opened = self
            .reader
            .open_grant(&package.grant, &self.request, &on_chain);
        opened.unwrap()
    }

    fn gid(&self, package: &GrantPackage) -> GrantId {
        GrantId::of(&self.world.consortium, &package.entry.revocation_key)
    }

    /// Any place of a hit with this record in it.
    fn hit_of(&mut self, grant: &OpenGrant, record: TransactionId) -> Hit {
        let mut hit = self.world.search(&self.reader, grant).unwrap().0.remove(0);
        hit.transaction = record;
        hit
    }

    /// Node 1's shares of a record, once an access to it is final.
    fn shares_of(
        &mut self,
        grant: &mut OpenGrant,
        record: TransactionId,
    ) -> Result<Vec<ShareAnswer>, ShareRefusal> {
        let hit = self.hit_of(grant, record);
        let of = self.world.access(&self.reader, grant, &hit);
        self.shares(grant, of)
    }

    fn shares(
        &mut self,
        grant: &OpenGrant,
        of: InTransaction,
    ) -> Result<Vec<ShareAnswer>, ShareRefusal> {
        let class = vec![ClassPlace::new(0)];
        let ask = self.reader.ask_shares(grant, of, class, WantProof::No);
        self.world.shares(0, &ask)
    }

    fn search_at(&mut self, grant: &OpenGrant, height: Height) -> Result<(), ShareRefusal> {
        let ask = self.reader.search(grant, height);
        let rng = &mut self.world.rng;
        let found = self.world.nodes[0].search(&ask, &self.world.chain, rng);
        found.map(|_| ())
    }

    fn search(&mut self, grant: &OpenGrant) -> Result<(), ShareRefusal> {
        let height = self.world.chain.height();
        self.search_at(grant, height)
    }

    fn header(&self) -> Header {
        Header::decode(&self.world.consortium, &self.stored.container)
            .unwrap()
            .0
    }

    /// A header of the author's own whose V is another header's, with the container that begins with
    /// it.
    fn decoy(&mut self) -> (Header, Vec<u8>) {
        let other = self
            .world
            .build(&self.author, &self.episode, sections(2), &[]);
        let (header, length) =
            Header::decode(&self.world.consortium, &self.stored.container).unwrap();
        let (_, other_length) = Header::decode(&self.world.consortium, &other.container).unwrap();
        let mut container = self.stored.container.clone();
        container[length - 48..length]
            .copy_from_slice(&other.container[other_length - 48..other_length]);
        let (decoy, _) = Header::decode(&self.world.consortium, &container).unwrap();
        assert_ne!(decoy.digest(), header.digest());
        (decoy, container)
    }
}

#[test]
fn the_code_and_the_specification_name_the_same_checks() {
    let specification = include_str!("../../../spec/scheme.md");
    let code = include_str!("../src/consortium_chain/accounting_node.rs");
    let tests = include_str!("node_checks.rs");
    let specified = (1..).take_while(|number| specification.contains(&format!("\n- N{number}. ")));
    assert_eq!(specified.count(), 32);
    let names = |text: &str, label: &str| {
        let mut words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
        words.any(|word| word.eq_ignore_ascii_case(label))
    };
    for number in 1..=26 {
        let label = format!("N{number}");
        assert!(names(code, &label), "no check in the code bears {label}");
    }
    // N3, N16, N18 and N24 are broken in `referral.rs`, with an agent and a second record.
    for number in (1..=27).filter(|number| ![3, 16, 18, 24].contains(number)) {
        let label = format!("n{number}");
        assert!(names(tests, &label), "no test bears {label}");
    }
}

// Once per grant.

#[test]
fn n1_a_grant_that_its_owner_did_not_sign_is_forged() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let honest = case.package(|_| {});
    let mut bytes = honest.grant.clone();
    // Within the request, which is not looked at before the signature.
    bytes[1 + 32 + 96 + 32 + 4 + 100] ^= 1;
    let forged = case.pack(1, bytes);
    assert!(matches!(case.receive(&forged), Err(GrantRefusal::Forged)));
    let mut cut = honest.clone();
    cut.grant.pop();
    assert!(matches!(
        case.receive(&cut),
        Err(GrantRefusal::Malformed(_))
    ));
    assert_eq!(case.world.nodes[0].held(), 0);
    case.receive(&honest).unwrap();
    assert_eq!(case.world.nodes[0].held(), 1);
}

#[test]
fn n2_only_an_accounting_node_of_the_grants_validator_epoch_serves_it() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let package = case.package(|_| {});
    let now = case.world.chain.now();
    // A node of the next validator epoch, and a community hospital's, which does not account.
    for mut node in [fresh(&case.world, 0, 1), fresh(&case.world, 3, 0)] {
        let refused = node.receive_grant(&package, &case.world.chain, now);
        assert!(matches!(refused, Err(GrantRefusal::NotServing)));
        assert_eq!(node.held(), 0);
    }
    let elsewhere = case.package(|terms| terms.validator_epoch = ValidatorEpoch::new(1));
    assert!(matches!(
        case.receive(&elsewhere),
        Err(GrantRefusal::NotServing)
    ));
}

#[test]
fn n4_the_request_must_be_in_time_when_it_comes() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let terms = case.request.terms().clone();
    let package = case.package(|_| {});
    let late = later(terms.not_after, 1);
    assert!(matches!(
        case.receive_at(&package, late),
        Err(GrantRefusal::Request(RequestError::Time))
    ));
    let ahead = earlier(terms.time, REQUEST_DRIFT_MS + 1);
    assert!(matches!(
        case.receive_at(&package, ahead),
        Err(GrantRefusal::Request(RequestError::Time))
    ));
    case.receive_at(&package, earlier(terms.time, REQUEST_DRIFT_MS))
        .unwrap();
    let other = case.package(|_| {});
    case.receive_at(&other, terms.not_after).unwrap();

    // The patient's device refuses the same.
    let (_, request, sealed) = case.world.ask(&case.tertiary, &[IMAGING], 1);
    let made = request.terms().time;
    let refused = case
        .world
        .patient
        .open_request(&sealed, earlier(made, REQUEST_DRIFT_MS + 1));
    assert!(matches!(
        refused,
        Err(PatientError::Request(RequestError::Time))
    ));
    let within = earlier(made, REQUEST_DRIFT_MS);
    assert!(case.world.patient.open_request(&sealed, within).is_ok());
}

/// A grant's own begin was taken for the time of its request when it was earlier than the clock: a
/// patient's device that dated the grant back gave a doctor whose certificate had ended what the
/// certificate was needed for.
#[test]
fn attack_date_a_grant_back_to_before_a_certificates_end() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let now = case.world.chain.now();
    let end = later(now, 30 * MINUTE);
    let holder = Holder::Doctor(*case.tertiary.doctor.public_keys());
    case.tertiary.certificate = Certificate::issue(
        &case.world.consortium,
        &hospitals.centre,
        case.tertiary.subject,
        holder,
        end,
    );
    let (reader, request, _) = case.world.ask(&case.tertiary, &[IMAGING], 1);
    (case.reader, case.request) = (reader, request);
    let dated_back = case.package(|terms| terms.not_before = earlier(now, MINUTE));
    let refused = case.receive_at(&dated_back, later(end, 1));
    assert!(matches!(
        refused,
        Err(GrantRefusal::Request(RequestError::Certificate(
            CertificateError::Expired
        )))
    ));

    // N15: given in time, it ends with the certificate, by the chain's time.
    let mut grant = case.given(&dated_back);
    let record = case.stored.own.transaction;
    let hit = case.hit_of(&grant, record);
    let of = case.world.access(&case.reader, &mut grant, &hit);
    assert!(case.shares(&grant, of).is_ok());
    let left = end.number() - case.world.chain.now().number();
    case.world.chain.wait(left);
    assert!(case.search(&grant).is_ok());
    case.world.chain.wait(1);
    for refused in [case.search(&grant), case.shares(&grant, of).map(|_| ())] {
        assert!(matches!(refused, Err(ShareRefusal::CertificateEnded(at)) if at == end));
    }
    let ask = case.reader.ask_container(&grant, of);
    assert!(matches!(
        case.world.container(0, &ask),
        Err(ShareRefusal::CertificateEnded(_))
    ));
}

/// Attacker: the thief of a key that the registration centre has retired, with a doctor whose
/// certificate has ended. They sign that doctor's keys, which stand on the chain, a new certificate. From
/// the block on that says that the key was lost, nobody takes a certificate under it: not a node that
/// serves a grant already (N15) or is given one (N4), not the query manager, not the patient. A
/// certificate that the centre renews goes through again, without another registration.
#[test]
fn attack_ask_and_read_under_a_certificate_of_a_key_that_was_lost() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let record = case.stored.own.transaction;
    case.world.rotate_centre_key(1, &[]);
    // Under a retired key all goes on.
    let mut grant = case.granted();
    let hit = case.hit_of(&grant, record);
    let of = case.world.access(&case.reader, &mut grant, &hit);
    assert!(case.shares(&grant, of).is_ok());
    let (_, request, sealed) = case.world.ask(&case.tertiary, &[IMAGING], 1);
    let waiting = case.package(|_| {});
    assert!(case.receive(&waiting).is_ok());
    let gid = case.gid(&waiting);
    case.world.nodes[0].give_up(&gid);
    let now = case.world.chain.now();
    let seen = case.world.patient.open_request(&sealed, now).unwrap();

    case.world.rotate_centre_key(2, &[0]);
    let now = case.world.chain.now();
    for refused in [case.search(&grant), case.shares(&grant, of).map(|_| ())] {
        assert!(matches!(refused, Err(ShareRefusal::CertificateCompromised)));
    }
    let ask = case.reader.ask_container(&grant, of);
    assert!(matches!(
        case.world.container(0, &ask),
        Err(ShareRefusal::CertificateCompromised)
    ));
    let compromised = RequestError::Certificate(CertificateError::Compromised);
    let kept = case.world.nodes[0].restore_grant(&waiting.grant, &case.world.chain);
    for refused in [case.receive(&waiting).map(|_| ()), kept.map(|_| ())] {
        let Err(GrantRefusal::Request(why)) = refused else {
            panic!("taken: {refused:?}");
        };
        assert_eq!(why, compromised);
    }
    let agreed = case.world.agreed_centre_keys();
    let (handle, salt) = case.world.patient.inbox();
    case.world.queries.follow_centre(&agreed);
    let asked = request.as_bytes();
    let examined = case.world.queries.examine(asked, handle, salt, now);
    assert!(matches!(examined, Err(ForwardError::Request(why)) if why == compromised));
    case.world.patient.follow_centre(&agreed);
    let opened = case.world.patient.open_request(&sealed, now);
    assert!(matches!(opened, Err(PatientError::Request(why)) if why == compromised));
    // Nor does the device answer what it opened before it knew.
    let decisions = [case.world.decision(case.place, &[IMAGING], &[""])];
    let answered = case.world.answer(&seen, &decisions);
    assert!(matches!(answered, Err(PatientError::Request(why)) if why == compromised));

    // The patient's own certificate is of that key too; author and patient go on under renewed ones.
    let patient = case.world.patient_subject;
    let own = case.world.centre.renew(patient, now).unwrap();
    case.world.patient.accept_certificate(own, now).unwrap();
    let doctor = case.author.doctor.public_keys();
    let hpke = KeyHash::from(doctor.hpke.hash());
    let in_force = case.world.chain.agreed_key(hpke).unwrap();
    let uid = Uid::new(&[7; 16]).unwrap();
    let rng = &mut case.world.rng;
    let handover =
        case.world
            .patient
            .begin_episode(&case.author.certificate, &in_force, uid, now, rng);
    assert!(matches!(
        handover,
        Err(PatientError::Certificate(CertificateError::Compromised))
    ));
    let subject = case.author.subject;
    case.author.certificate = case.world.centre.renew(subject, now).unwrap();
    case.author.doctor.follow_centre(&agreed);
    case.world.begin_episode(&case.author);

    // The reader too, and asks again.
    let subject = case.tertiary.subject;
    case.tertiary.certificate = case.world.centre.renew(subject, now).unwrap();
    let (reader, request, sealed) = case.world.ask(&case.tertiary, &[IMAGING], 1);
    let now = case.world.chain.now();
    assert!(case.world.patient.open_request(&sealed, now).is_ok());
    (case.reader, case.request) = (reader, request);
    let mut grant = case.granted();
    assert!(case.shares_of(&mut grant, record).is_ok());
}

#[test]
fn n5_a_grant_names_the_keys_of_its_request() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let stranger = SigningKey::from_seed([9; 32]).verifying_key();
    let other = case.package(|terms| terms.grantees[0].access_key = stranger);
    assert!(matches!(case.receive(&other), Err(GrantRefusal::Grantees)));
    let sealed_elsewhere = HpkePrivateKey::derive(&[9; 32]).public_key();
    let other = case.package(|terms| terms.grantees[0].hpke_key = sealed_elsewhere);
    assert!(matches!(case.receive(&other), Err(GrantRefusal::Grantees)));
}

#[test]
fn n6_a_doctors_key_is_in_force_on_the_chain() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let package = case.package(|_| {});
    let revocation = case.world.centre.revoke(case.tertiary.subject).unwrap();
    case.world.chain.grow(revocation);
    assert!(matches!(
        case.receive(&package),
        Err(GrantRefusal::NotInForce)
    ));
}

/// The doctor's institution is removed by the others: no new grant to its doctors, no share under one
/// that they have.
#[test]
fn n6_and_n15_a_doctors_institution_belongs_to_the_consortium() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let mut grant = case.granted();
    let hit = case.hit_of(&grant, case.stored.own.transaction);
    let of = case.world.access(&case.reader, &mut grant, &hit);
    let class = vec![ClassPlace::new(0)];
    let ask = case.reader.ask_shares(&grant, of, class, WantProof::No);
    let node = &case.world.nodes[1];
    assert!(node.begin_shares(&ask, &case.world.chain).is_ok());

    let package = case.package(|_| {});
    // Of the tertiary hospital, whose node's turn to lead does not come again: it votes and leads to
    // the end of the epoch.
    let left = hospitals.hospital(1).institution.id;
    let removal = ledger::MembershipChange::Remove(left);
    for transaction in hospitals.decision(removal, &[2, 3, 4]) {
        case.world.chain.grow(transaction);
    }
    let node = &mut case.world.nodes[1];
    assert!(matches!(
        node.begin_shares(&ask, &case.world.chain),
        Err(ShareRefusal::InstitutionLeft(institution)) if institution == left
    ));
    let now = case.world.chain.now();
    assert!(matches!(
        node.receive_grant(&package, &case.world.chain, now),
        Err(GrantRefusal::NotInForce)
    ));
}

#[test]
fn n7_a_grant_names_the_chains_accounting_nodes_in_their_order() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let stranger = SigningKey::from_seed([9; 32]).verifying_key();
    let changes: [fn(&mut GrantTerms, VerifyingKey); 4] = [
        |terms, _| terms.nodes.truncate(2),
        |terms, _| terms.nodes.swap(1, 2),
        |terms, stranger| terms.nodes[2].key = stranger,
        // The node's own HPKE key: its part would be sealed to another.
        |terms, _| terms.nodes[0].hpke_key = terms.nodes[1].hpke_key,
    ];
    for change in changes {
        let package = case.package(|terms| change(terms, stranger));
        assert!(matches!(case.receive(&package), Err(GrantRefusal::Nodes)));
    }
}

#[test]
fn n8_a_threshold_is_above_f_and_within_what_honest_nodes_reach() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    // n = 4, f = 1, three accounting nodes: f < t <= max(f + 1, n_acc - f) leaves 2.
    for found in [1, 3] {
        let package = case.package(|terms| terms.threshold = Threshold::new(found).unwrap());
        let refused = case.receive(&package);
        assert!(
            matches!(refused, Err(GrantRefusal::Threshold { found: it, least: 2, most: 2 }) if it == usize::from(found))
        );
    }
}

#[test]
fn n9_a_nodes_part_opens_and_fits_the_commitments() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let here = case.world.consortium;
    // An agent signs with Ed25519, so the test can sign again what it altered.
    let signer = SigningKey::from_seed([0x77; 32]);
    let agent = AgentKey::from_signing_key(signer.clone());
    let withdrawal = SigningKey::from_seed([0x78; 32]).verifying_key();
    let now = case.world.chain.now();
    let terms = AppointmentTerms {
        agent: agent.verifying_key(),
        id: AppointmentId::of(&here, &withdrawal),
        end: later(now, 2 * TWO_HOURS),
        scope: vec![IMAGING],
    };
    let appointment = Appointment::make(&here, &case.signing(), terms).unwrap();
    let (grant, _) = case.make(1, |_| {}, &Granter::Agent(&agent, &appointment));
    let honest = grant.encode(&here);
    let tail = 1 + 4 + appointment.encode(&here).len() + 64;
    let text = honest[..honest.len() - tail].to_vec();
    // Sealed parts stand last: 32 + 112 + 16 bytes of plaintext 80 a node, and the doctor's.
    let part = 32 + (32 + 48) + 16;
    let doctor = 32 + (32 + 32 + 96 + 1 + 32) + 16;
    let place_of = |node: usize| text.len() - (4 + doctor) - (3 - node) * (4 + part) + 4;
    let episode = case.signing();
    let sign = |text: &[u8]| {
        let parts: [&[u8]; 2] = [episode.public_key().as_bytes(), text];
        let signature = signer.sign(Context::Agent, &here, &parts);
        let mut bytes = text.to_vec();
        bytes.extend_from_slice(&honest[text.len()..honest.len() - 64]);
        bytes.extend_from_slice(signature.as_bytes());
        bytes
    };
    assert_eq!(sign(&text), honest);

    let mut altered = text.clone();
    altered[place_of(0)] ^= 1;
    let altered = case.pack(1, sign(&altered));
    let refused = case.receive(&altered);
    assert!(matches!(
        refused,
        Err(GrantRefusal::Part(PartError::CannotOpen))
    ));

    // Node 1 gets the share of node 2: it opens and does not fit.
    let gid = GrantId::of(&here, &revocation_key(1).verifying_key());
    let open = |node: usize| {
        let sealed = &text[place_of(node)..place_of(node) + part];
        let opened = hpke_of(node).open(Purpose::GrantToNode, &here, gid.as_bytes(), sealed);
        opened.unwrap().to_vec()
    };
    let (own, other) = (open(0), open(1));
    let mixed = [&own[..32], &other[32..]].concat();
    let mut rng = case.world.rng.clone();
    let sealed = hpke_of(0)
        .public_key()
        .seal(
            Purpose::GrantToNode,
            &here,
            gid.as_bytes(),
            &mixed,
            &mut rng,
        )
        .unwrap();
    let mut exchanged = text.clone();
    exchanged[place_of(0)..place_of(0) + part].copy_from_slice(&sealed);
    let exchanged = case.pack(1, sign(&exchanged));
    let refused = case.receive(&exchanged);
    assert!(matches!(
        refused,
        Err(GrantRefusal::Part(PartError::BadShare { class: 0 }))
    ));
    let honest = case.pack(1, honest.clone());
    case.receive(&honest).unwrap();
}

#[test]
fn n10_the_entry_is_the_grants() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let honest = case.package(|_| {});
    let stranger = SigningKey::from_seed([9; 32]).verifying_key();
    let changes: [fn(&mut ledger::GrantEntry, VerifyingKey); 6] = [
        |entry, _| entry.grant = sha256(b"another grant"),
        |entry, _| entry.epoch = ValidatorEpoch::new(1),
        |entry, _| entry.not_before = later(entry.not_before, 1),
        |entry, _| entry.expiry = later(entry.expiry, 1),
        |entry, stranger| entry.access_keys = vec![stranger],
        |entry, stranger| entry.access_keys.push(stranger),
    ];
    for change in changes {
        let mut package = honest.clone();
        change(&mut package.entry, stranger);
        package.signature = package
            .entry
            .sign(&case.world.consortium, &revocation_key(1));
        assert!(matches!(case.receive(&package), Err(GrantRefusal::Entry)));
    }
    // Another revocation key than the grant names, and a signature of another's.
    let mut package = honest.clone();
    package.entry.revocation_key = revocation_key(2).verifying_key();
    package.signature = package
        .entry
        .sign(&case.world.consortium, &revocation_key(2));
    assert!(matches!(case.receive(&package), Err(GrantRefusal::Entry)));
    let mut package = honest.clone();
    package.signature = package
        .entry
        .sign(&case.world.consortium, &revocation_key(2));
    assert!(matches!(case.receive(&package), Err(GrantRefusal::Entry)));
    assert_eq!(case.world.nodes[0].held(), 0);
    case.receive(&honest).unwrap();
}

#[test]
fn n11_one_revocation_key_signs_one_grant() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let one = case.package_under(1, |_| {});
    let two = case.package_under(1, |terms| terms.expiry = later(terms.expiry, 1));
    // Known to this node, and known to the chain only.
    let entry = case.receive(&one).unwrap();
    assert!(matches!(case.receive(&two), Err(GrantRefusal::Entry)));
    let now = case.world.chain.now();
    let gid = case.gid(&one);
    case.world.nodes[1]
        .receive_grant(&two, &case.world.chain, now)
        .unwrap();
    case.world.chain.grow(entry);
    assert!(matches!(
        case.world.nodes[2].receive_grant(&two, &case.world.chain, now),
        Err(GrantRefusal::Entry)
    ));
    // N14: what a node holds serves only if it is what the chain holds.
    let grant = case.open(&one);
    assert!(case.search(&grant).is_ok());
    case.world.nodes.swap(0, 1);
    assert!(matches!(
        case.search(&grant),
        Err(ShareRefusal::NotRecorded)
    ));
    // It can never serve, so it is forgotten.
    let chain = &case.world.chain;
    assert_eq!(case.world.nodes[0].forget_ended(chain).unwrap(), [gid]);
    assert_eq!(
        case.world.nodes[1].forget_ended(chain).unwrap(),
        [] as [GrantId; 0]
    );
}

/// Anyone who kept a grant's bytes could send them again when it was over, and a node wrote its shares
/// and trapdoors to the disk anew.
#[test]
fn n11_a_grant_that_is_over_is_not_taken_again() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let (revoked, expired, unrecorded) = (
        case.package(|_| {}),
        case.package_in(MINUTE),
        case.package_in(MINUTE),
    );
    case.world.take(&revoked);
    let end = ledger::Revocation::sign(&case.world.consortium, &revocation_key(1));
    case.world.chain.grow(Transaction::Revocation(end));
    case.receive(&unrecorded).unwrap();
    case.world.chain.wait(MINUTE);
    let now = case.world.chain.now();
    for package in [&revoked, &expired, &unrecorded] {
        let mut node = fresh(&case.world, 0, 0);
        let refused = node.receive_grant(package, &case.world.chain, now);
        assert!(matches!(refused, Err(GrantRefusal::Over)));
        assert_eq!(node.held(), 0);
    }
    assert!(grant_is_over(&case.world.chain, &case.gid(&revoked)).unwrap());
    assert!(!grant_is_over(&case.world.chain, &case.gid(&unrecorded)).unwrap());
    let forgotten = case.world.nodes[0].forget_ended(&case.world.chain).unwrap();
    assert_eq!(forgotten.len(), 2);
}

#[test]
fn n12_a_node_takes_what_it_has_room_for() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let (one, two) = (case.package(|_| {}), case.package(|_| {}));
    let now = case.world.chain.now();
    let chain = &case.world.chain;
    let mut small = fresh(&case.world, 0, 0).with_limits(1, 10);
    small.receive_grant(&one, chain, now).unwrap();
    let refused = small.receive_grant(&two, chain, now);
    assert!(matches!(refused, Err(GrantRefusal::Busy)));
    // What it holds it takes again, and what it lets go of makes room.
    small.receive_grant(&one, chain, now).unwrap();
    small.give_up(&case.gid(&one));
    small.receive_grant(&two, chain, now).unwrap();

    let mut strict = fresh(&case.world, 0, 0).with_limits(10, 1);
    strict.receive_grant(&one, chain, now).unwrap();
    strict.receive_grant(&one, chain, now).unwrap();
    let refused = strict.receive_grant(&two, chain, now);
    assert!(matches!(refused, Err(GrantRefusal::Quota)));
    assert_eq!(strict.held(), 1);
}

/// A grant whose entry was never handed in was held until its own end, which its maker chooses: a
/// hundred doctors could fill a node for ever.
#[test]
fn a_grant_that_does_not_become_final_is_dropped_with_its_request() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let package = case.package(|terms| terms.expiry = Timestamp::new(u64::MAX));
    let gid = case.gid(&package);
    let entry = case.receive(&package).unwrap();
    let end = later(case.request.terms().not_after, REQUEST_DRIFT_MS);
    let left = end.number() - case.world.chain.now().number();
    case.world.chain.wait(left);
    let forgotten = case.world.nodes[0].forget_ended(&case.world.chain).unwrap();
    assert!(forgotten.is_empty());
    case.world.chain.wait(1);
    let forgotten = case.world.nodes[0].forget_ended(&case.world.chain).unwrap();
    assert_eq!(forgotten, [gid]);
    // Recorded only now, it is recorded too late for any node.
    case.world.chain.grow(entry);
    let now = case.request.terms().not_after;
    assert!(matches!(
        case.receive_at(&package, now),
        Err(GrantRefusal::Request(RequestError::Time))
    ));
}

/// The story (seed 149): a grant was on its way while the nodes changed twice. The chain could take it no more,
/// and nodes held it until its request ended.
#[test]
fn a_grant_whose_validator_epoch_is_over_is_dropped() {
    let mut settings = World::settings();
    settings.epoch_blocks = 40;
    let hospitals = FourHospitals::found(settings);
    let mut case = case(&hospitals);
    let package = case.package(|_| {});
    let gid = case.gid(&package);
    case.receive(&package).unwrap();
    let epoch = |case: &Case<'_>| {
        let next = ledger::tip(&case.world.chain.0.view).unwrap().height.next();
        hospitals.genesis.settings.epoch_of(next)
    };
    while epoch(&case) < ValidatorEpoch::new(2) {
        let forgotten = case.world.nodes[0].forget_ended(&case.world.chain).unwrap();
        assert!(forgotten.is_empty(), "it can still be recorded");
        case.world.chain.wait(1);
    }
    let forgotten = case.world.nodes[0].forget_ended(&case.world.chain).unwrap();
    assert_eq!(forgotten, [gid]);
}

#[test]
fn a_recorded_grant_is_taken_from_whoever_has_it_and_no_other() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let one = case.package_under(1, |_| {});
    let two = case.package_under(1, |terms| terms.expiry = later(terms.expiry, 1));
    let (first, gid) = (case.receive(&one).unwrap(), case.gid(&one));
    let mut away = fresh(&case.world, 1, 0).with_limits(1, 10);
    let refused = away.receive_recorded_grant(&one.grant, &case.world.chain);
    assert!(matches!(refused, Err(GrantRefusal::NotRecorded)));
    // A patient gave this node another grant under the same revocation key: the chain's counts.
    let now = case.world.chain.now();
    away.receive_grant(&two, &case.world.chain, now).unwrap();
    case.world.chain.grow(first);
    let chain = &case.world.chain;
    let refused = away.receive_recorded_grant(&two.grant, chain);
    assert!(matches!(refused, Err(GrantRefusal::NotRecorded)));
    assert_eq!(away.receive_recorded_grant(&one.grant, chain).unwrap(), gid);
    assert_eq!(away.receive_recorded_grant(&one.grant, chain).unwrap(), gid);
    assert_eq!(away.held(), 1);
    // A community hospital's node serves none, one without room takes none, and bytes that are none are named.
    let mut verifying = fresh(&case.world, 3, 0);
    let refused = verifying.receive_recorded_grant(&one.grant, chain);
    assert!(matches!(refused, Err(GrantRefusal::NotServing)));
    let mut full = fresh(&case.world, 2, 0).with_limits(0, 10);
    let refused = full.receive_recorded_grant(&one.grant, chain);
    assert!(matches!(refused, Err(GrantRefusal::Busy)));
    let cut = &one.grant[..one.grant.len() - 1];
    let refused = away.receive_recorded_grant(cut, chain);
    assert!(matches!(refused, Err(GrantRefusal::Malformed(_))));
    // Long after its request ended; not once it is over.
    case.world.chain.wait(90 * MINUTE);
    let mut late = fresh(&case.world, 2, 0);
    late.receive_recorded_grant(&one.grant, &case.world.chain)
        .unwrap();
    let end = ledger::Revocation::sign(&case.world.consortium, &revocation_key(1));
    case.world.chain.grow(Transaction::Revocation(end));
    let refused = late.receive_recorded_grant(&one.grant, &case.world.chain);
    assert!(matches!(refused, Err(GrantRefusal::Over)));
}

#[test]
fn n4_a_recorded_grant_is_taken_up_as_of_its_block() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let package = case.package(|_| {});
    case.world.take(&package);
    // The request ended since; the grant goes on.
    case.world.chain.wait(90 * MINUTE);
    let now = case.world.chain.now();
    let chain = &case.world.chain;
    let mut restarted = fresh(&case.world, 0, 0);
    restarted.restore_grant(&package.grant, chain).unwrap();
    assert!(restarted.holds(&case.gid(&package)));
    // A node that was down when the grant was given can be sent it.
    let mut late = fresh(&case.world, 1, 0);
    late.receive_grant(&package, chain, now).unwrap();
    // Its file altered, it is refused, and what is held stays.
    let mut altered = package.grant.clone();
    altered[1 + 32 + 96 + 32 + 4 + 100] ^= 1;
    assert!(matches!(
        restarted.restore_grant(&altered, chain),
        Err(GrantRefusal::Forged)
    ));
    assert_eq!(restarted.held(), 1);
}

#[test]
fn a_nodes_key_is_compared_with_the_one_on_the_chain() {
    let hospitals = FourHospitals::found(World::settings());
    let world = World::new(&hospitals);
    let (first, next) = (ValidatorEpoch::new(0), ValidatorEpoch::new(1));
    let standing = |node: &AccountingNode, epoch| node.key_standing(epoch, &world.chain).unwrap();
    assert_eq!(standing(&world.nodes[0], first), NodeKeyStanding::Announced);
    assert_eq!(standing(&world.nodes[0], next), NodeKeyStanding::NotMade);
    assert_eq!(world.nodes[0].announce(next), None);
    let hospital = &hospitals.hospitals[0];
    let (id, key) = (hospital.institution.id, hospital.node_key.clone());
    let other = AccountingNode::new(world.consortium, id, key)
        .with_hpke_key(first, hpke_of(1))
        .with_hpke_key(next, hpke_of(0));
    assert_eq!(
        standing(&other, first),
        NodeKeyStanding::AnotherStands {
            standing: hpke_of(0).public_key()
        }
    );
    assert_eq!(standing(&other, next), NodeKeyStanding::NotAnnounced);
    // It accounts in this epoch and, as things are, in the next; a community hospital's node, which has its
    // seat, needs none, nor does one under another key than the institution's.
    let here = other.needs_keys_of(&world.chain).unwrap();
    assert_eq!(here, [first, next]);
    let community = fresh(&world, 3, 0);
    assert_eq!(community.needs_keys_of(&world.chain).unwrap(), []);
    let stranger = AccountingNode::new(world.consortium, id, SigningKey::from_seed([7; 32]));
    assert_eq!(stranger.needs_keys_of(&world.chain).unwrap(), []);
}

/// A key ends with its epoch, and the one after, and the last grant that is sealed to it.
#[test]
fn a_nodes_key_is_wiped_after_its_last_grant() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let now = case.world.chain.now();
    let package = case.package_in(10 * MINUTE);
    case.receive(&package).unwrap();
    let epoch = ValidatorEpoch::new;
    let node = &mut case.world.nodes[0];
    node.add_hpke_key(epoch(1), hpke_of(1));
    node.add_hpke_key(epoch(4), hpke_of(2));
    let second = node.announce(epoch(1)).unwrap();
    let forget = |case: &mut Case<'_>, current| {
        let node = &mut case.world.nodes[0];
        node.forget_hpke_keys(epoch(current), &case.world.chain)
            .unwrap()
    };
    // As long as the second does not stand, others seal to the first, however late it is.
    assert_eq!(forget(&mut case, 2), []);
    case.world.chain.grow(second);
    // Now the grant holds it.
    assert_eq!(forget(&mut case, 3), []);
    case.world.chain.wait(11 * MINUTE);
    assert!(later(now, 10 * MINUTE) <= case.world.chain.now());
    let node = &mut case.world.nodes[0];
    assert_eq!(node.forget_ended(&case.world.chain).unwrap().len(), 1);
    // A grant of epoch 1 can be recorded in epoch 2.
    assert_eq!(forget(&mut case, 2), []);
    assert_eq!(forget(&mut case, 3), [epoch(0)]);
    // The third never came to stand; the second is what others seal to, for ever if need be.
    assert_eq!(forget(&mut case, 5), []);
    assert_eq!(forget(&mut case, 6), [epoch(4)]);
    assert_eq!(forget(&mut case, 99), []);
    let node = &case.world.nodes[0];
    assert!(!node.serves_in(epoch(0)) && node.serves_in(epoch(1)));
    let again = case.package(|_| {});
    assert!(matches!(
        case.receive(&again),
        Err(GrantRefusal::NotServing)
    ));
}

// Per access.

#[test]
fn n13_a_question_is_signed_by_its_access_key() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let mut grant = case.granted();
    let hit = case.hit_of(&grant, case.stored.own.transaction);
    let of = case.world.access(&case.reader, &mut grant, &hit);
    let class = vec![ClassPlace::new(0)];
    let mut ask = case.reader.ask_shares(&grant, of, class, WantProof::No);
    ask.proof = WantProof::Yes;
    assert!(matches!(
        case.world.shares(0, &ask),
        Err(ShareRefusal::Forged)
    ));
    let mut ask = case.reader.ask_container(&grant, of);
    ask.of.record = of.access;
    assert!(matches!(
        case.world.container(0, &ask),
        Err(ShareRefusal::Forged)
    ));
    let mut ask = case.reader.search(&grant, case.world.chain.height());
    ask.height = Height::new(1);
    let rng = &mut case.world.rng;
    let refused = case.world.nodes[0].search(&ask, &case.world.chain, rng);
    assert!(matches!(refused, Err(ShareRefusal::Forged)));
}

#[test]
fn n14_a_grant_serves_once_it_is_recorded_and_has_begun() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let begin = later(case.world.chain.now(), 30 * MINUTE);
    let package = case.package(|terms| terms.not_before = begin);
    let entry = case.receive(&package).unwrap();
    let gid = case.gid(&package);
    // The node holds it and the chain does not yet.
    let ask = case.reader.ask_grant(gid, 0).unwrap();
    assert!(matches!(
        case.world.nodes[0].may_fetch(&ask, &case.world.chain),
        Err(ShareRefusal::NotRecorded)
    ));
    case.world.chain.grow(entry);
    let grant = case.open(&package);
    assert!(matches!(case.search(&grant), Err(ShareRefusal::NotYet)));
    let left = begin.number() - case.world.chain.now().number();
    case.world.chain.wait(left - 1);
    assert!(matches!(case.search(&grant), Err(ShareRefusal::NotYet)));
    case.world.chain.wait(1);
    assert!(case.search(&grant).is_ok());
    // A node that was never sent it has no part of it.
    case.world.nodes[0] = fresh(&case.world, 0, 0);
    assert!(matches!(
        case.search(&grant),
        Err(ShareRefusal::NoSuchGrant)
    ));
}

#[test]
fn n17_a_search_names_a_final_height_not_below_the_grants() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let package = case.package(|_| {});
    let grant = case.given(&package);
    case.world.chain.wait(1);
    let tip = case.world.chain.height();
    let gid = case.gid(&package);
    let mut on_chain = case.world.chain.agreed_grant(gid).unwrap();
    let recorded = on_chain.state.recorded;
    for height in [recorded, tip] {
        assert!(case.search_at(&grant, height).is_ok());
    }
    let above = Height::new(tip.number() + 1);
    let refused = case.search_at(&grant, above);
    assert!(matches!(refused, Err(ShareRefusal::Height(height)) if height == above));
    // A reader who was told that the grant is older than it is.
    on_chain.state.recorded = Height::new(0);
    let opened = case
        .reader
        .open_grant(&package.grant, &case.request, &on_chain);
    let below = Height::new(recorded.number() - 1);
    let refused = case.search_at(&opened.unwrap(), below);
    assert!(matches!(refused, Err(ShareRefusal::Height(height)) if height == below));
}

#[test]
fn n19_a_record_that_no_trapdoor_of_the_grant_finds_is_not_reached() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let (author, place) = (case.world.doctor(12, 4), case.place);
    let (other_place, other_episode) = case.world.begin_episode(&author);
    let elsewhere = case
        .world
        .store(&author, other_place, &other_episode, sections(3), &[]);
    let other_word = case
        .world
        .store(&case.author, place, &case.episode, sections(2), &[]);
    let (reader, request, sealed) = case.world.ask(&case.tertiary, &[IMAGING], 1);
    (case.reader, case.request) = (reader, request);
    let decisions = [case.world.decision(place, &[IMAGING], &[STROKE])];
    let package = case.world.grant(&sealed, &decisions).remove(0);
    let mut grant = case.open(&package);
    assert!(
        case.shares_of(&mut grant, case.stored.own.transaction)
            .is_ok()
    );
    // The same episode under another keyword, another episode, no record, no transaction.
    let registration = hospitals.registration(2);
    let registration = case.world.chain.grow(registration);
    for record in [
        other_word.own.transaction,
        elsewhere.own.transaction,
        registration,
        TransactionId::new([9; 32]),
    ] {
        assert!(matches!(
            case.shares_of(&mut grant, record),
            Err(ShareRefusal::NotReached)
        ));
    }
}

#[test]
fn n20_a_record_under_another_episodes_owner_key_is_foreign() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let (_, other) = case.world.begin_episode(&case.author);
    let (header, container) = (case.header(), case.stored.container.clone());
    let episodes = (&case.episode, &other);
    let author = &case.author.doctor;
    let record = craft(&mut case.world, author, episodes, &header, container);
    let mut grant = case.granted();
    assert!(matches!(
        case.shares_of(&mut grant, record),
        Err(ShareRefusal::ForeignRecord)
    ));
}

#[test]
fn n21_a_header_that_the_cloud_altered_cut_or_emptied_gets_no_share() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let mut grant = case.granted();
    let hit = case.hit_of(&grant, case.stored.own.transaction);
    let of = case.world.access(&case.reader, &mut grant, &hit);
    let whole = case.stored.container.clone();
    let (_, length) = Header::decode(&case.world.consortium, &whole).unwrap();
    // V and a commitment altered, so that it decodes; another record's header; cut within the header;
    // one byte; nothing.
    let other = case
        .world
        .build(&case.author, &case.episode, sections(2), &[]);
    let (_, decoy) = case.decoy();
    let mut commitment = whole.clone();
    commitment[length - 48 - 1] ^= 1;
    for found in [
        commitment,
        decoy,
        other.container,
        whole[..length - 1].to_vec(),
        whole[..1].to_vec(),
        Vec::new(),
    ] {
        case.world.cloud.0.insert(hit.locator.address, found);
        assert!(matches!(
            case.shares(&grant, of),
            Err(ShareRefusal::AlteredHeader)
        ));
    }
    // Cut after the header the share is given: it opens nothing that is not there.
    let cut = whole[..length].to_vec();
    case.world.cloud.0.insert(hit.locator.address, cut);
    assert!(case.shares(&grant, of).is_ok());
    let ask = case.reader.ask_container(&grant, of);
    assert!(matches!(
        case.world.container(0, &ask),
        Err(ShareRefusal::AlteredContainer)
    ));
}

/// A colleague who knows the PID anchors the author's container under a transaction of their own, as
/// its author: the header names whom its maker was.
#[test]
fn attack_anchor_another_doctors_container_under_ones_own_transaction() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let colleague = case.world.doctor(14, 4);
    let (header, container) = (case.header(), case.stored.container.clone());
    let episodes = (&case.episode, &case.episode);
    let record = craft(
        &mut case.world,
        &colleague.doctor,
        episodes,
        &header,
        container,
    );
    let mut grant = case.granted();
    // N22
    assert!(matches!(
        case.shares_of(&mut grant, record),
        Err(ShareRefusal::ForeignHeader)
    ));
    assert!(
        case.shares_of(&mut grant, case.stored.own.transaction)
            .is_ok()
    );
}

#[test]
fn n22_a_header_names_the_institution_of_its_transaction() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    // One doctor's keys at two hospitals.
    let at = |institution: u32| {
        Doctor::new(
            case.world.consortium,
            CentreKeys::founding(case.world.centre.verifying_key()),
            DoctorId::new(15),
            InstitutionId::new(institution),
            &mut ledger::testing::rng("a doctor of two hospitals", 0),
        )
    };
    let (here, there) = (at(4), at(2));
    let signing = here.public_keys().signing;
    assert_eq!(signing, there.public_keys().signing);
    let subject = case.world.centre.begin_enrolment();
    let (keys, proof) = (*here.public_keys(), here.prove_possession(subject));
    let now = case.world.chain.now();
    let enrolled = case
        .world
        .centre
        .certify_doctor(subject, keys, &proof, now)
        .unwrap();
    case.world.chain.grow(enrolled.registration);
    case.world
        .server(InstitutionId::new(4))
        .enter_doctor(signing);
    let plan = [SectionPlan {
        class: IMAGING,
        length: 10,
    }];
    let mut rng = case.world.rng.clone();
    let mut grant = case.granted();
    for (doctor, fits) in [(&there, false), (&here, true)] {
        let sealing = doctor.seal(&case.episode, &plan, &mut rng).unwrap();
        let header = sealing.header();
        let episodes = (&case.episode, &case.episode);
        let container = header.encode();
        let record = craft(&mut case.world, &here, episodes, header, container);
        let answer = case.shares_of(&mut grant, record);
        assert_eq!(answer.is_ok(), fits);
        assert!(fits || matches!(answer, Err(ShareRefusal::ForeignHeader)));
    }
}

/// The author's own transaction names a header whose V is another record's: no node knows of whom U
/// is, so none raises it.
#[test]
fn n23_a_header_whose_v_does_not_fit_u_gets_no_share() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let (header, container) = case.decoy();
    let episodes = (&case.episode, &case.episode);
    let author = &case.author.doctor;
    let record = craft(&mut case.world, author, episodes, &header, container);
    let mut grant = case.granted();
    assert!(matches!(
        case.shares_of(&mut grant, record),
        Err(ShareRefusal::ForeignHeader)
    ));
}

/// What a node said when it began is asked again when it answers: revoked in between, it gives nothing.
#[test]
fn n25_a_revocation_while_the_cloud_is_asked_stops_the_answer() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let mut grant = case.granted();
    let hit = case.hit_of(&grant, case.stored.own.transaction);
    let of = case.world.access(&case.reader, &mut grant, &hit);
    let class = vec![ClassPlace::new(0)];
    let ask = case.reader.ask_shares(&grant, of, class, WantProof::No);
    let container = case.reader.ask_container(&grant, of);
    let node = &case.world.nodes[0];
    let shares = node.begin_shares(&ask, &case.world.chain).unwrap();
    let released = node.begin_container(&container, &case.world.chain).unwrap();
    let doctor = node.author_signature(&released, &case.world.chain).unwrap();
    let revocation = ledger::Revocation::sign(&case.world.consortium, &revocation_key(1));
    case.world.chain.grow(Transaction::Revocation(revocation));
    let (node, chain) = (&case.world.nodes[0], &case.world.chain);
    let key = grant.access_key();
    let start = &case.stored.container;
    let answer = node.shares(&shares, &key, start, chain, &mut case.world.rng);
    assert!(matches!(answer, Err(ShareRefusal::Revoked)));
    let digest = sha256(start);
    let answer = node.release_container(&released, &key, digest, &doctor, chain);
    assert!(matches!(answer, Err(ShareRefusal::Revoked)));
}

// The master node and the reader.

#[test]
fn n26_the_master_node_checks_the_whole_digest_and_the_authors_signature() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let mut grant = case.granted();
    let hit = case.hit_of(&grant, case.stored.own.transaction);
    let of = case.world.access(&case.reader, &mut grant, &hit);
    let (node, chain) = (&case.world.nodes[0], &case.world.chain);
    let ask = case.reader.ask_container(&grant, of);
    let pending = node.begin_container(&ask, chain).unwrap();
    let doctor = node.author_signature(&pending, chain).unwrap();
    let digest = sha256(&case.stored.container);
    let key = grant.access_key();
    let release = |digest, doctor| node.release_container(&pending, &key, digest, &doctor, chain);
    assert!(release(digest, doctor).is_ok());
    assert!(matches!(
        release(sha256(b"another"), doctor),
        Err(ShareRefusal::AlteredContainer)
    ));
    let forged = Signature::new([1; 64]);
    assert!(matches!(
        release(digest, forged),
        Err(ShareRefusal::ForgedRecord)
    ));
}

#[test]
fn n27_a_reader_checks_the_grant_and_the_record_again() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let package = case.package(|_| {});
    let grant = case.given(&package);
    let gid = case.gid(&package);
    let on_chain = case.world.chain.agreed_grant(gid).unwrap();
    let open = |grant: &[u8], on_chain: &AgreedGrant| {
        let opened = case.reader.open_grant(grant, &case.request, on_chain);
        opened.err()
    };
    let mut forged = package.grant.clone();
    forged[1 + 32 + 96 + 32 + 4 + 100] ^= 1;
    assert!(matches!(
        open(&forged, &on_chain),
        Some(ReaderError::ForgedGrant)
    ));
    let mut others = [on_chain.clone(), on_chain.clone(), on_chain.clone()];
    others[0].gid = GrantId::new([1; 32]);
    others[1].state.grant = sha256(b"another grant");
    others[2].state.revoked = true;
    for other in &others {
        assert!(matches!(
            open(&package.grant, other),
            Some(ReaderError::NotTheChains)
        ));
    }
    assert!(open(&package.grant, &on_chain).is_none());

    let hit = case.hit_of(&grant, case.stored.own.transaction);
    let (own, container) = (&case.stored.own, case.stored.container.clone());
    let check = |hit: &Hit, statement: &RecordStatement, doctor: &Signature, start: &[u8]| {
        let checked = case
            .reader
            .check_header(&grant, hit, statement, doctor, start);
        checked.err()
    };
    let (statement, doctor) = (&own.statement, &own.signature);
    assert!(check(&hit, statement, doctor, &container).is_none());
    assert!(matches!(
        check(&hit, statement, &Signature::new([1; 64]), &container),
        Some(ReaderError::ForgedRecord(_))
    ));
    let elsewhere = Hit {
        transaction: TransactionId::new([1; 32]),
        ..hit.clone()
    };
    assert!(matches!(
        check(&elsewhere, statement, doctor, &container),
        Some(ReaderError::ForeignRecord)
    ));
    let mut other_delta = hit.clone();
    other_delta.locator.delta = Delta::random(&mut ledger::testing::rng("delta", 0));
    assert!(matches!(
        check(&other_delta, statement, doctor, &container),
        Some(ReaderError::ForeignRecord)
    ));
    let (_, length) = Header::decode(&case.world.consortium, &container).unwrap();
    let mut altered = container;
    altered[length - 48 - 1] ^= 1;
    assert!(matches!(
        check(&hit, statement, doctor, &altered),
        Some(ReaderError::AlteredContainer)
    ));
}

#[test]
fn n27_a_reader_refuses_a_header_that_another_made() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let (decoy, decoy_container) = case.decoy();
    let colleague = case.world.doctor(14, 4);
    let (header, container) = (case.header(), case.stored.container.clone());
    let episodes = (&case.episode, &case.episode);
    let author = &case.author.doctor;
    let records = [
        craft(
            &mut case.world,
            &colleague.doctor,
            episodes,
            &header,
            container.clone(),
        ),
        craft(
            &mut case.world,
            author,
            episodes,
            &decoy,
            decoy_container.clone(),
        ),
    ];
    let package = case.package(|_| {});
    let grant = case.given(&package);
    let hits = case.world.search(&case.reader, &grant).unwrap().0;
    for (record, start) in records.into_iter().zip([container, decoy_container]) {
        let hit = hits.iter().find(|hit| hit.transaction == record).unwrap();
        let position = ledger::transaction(&case.world.chain.0.view, record).unwrap();
        let transaction = case.world.chain.transaction(position.unwrap()).unwrap();
        let Transaction::Record(found) = transaction else {
            unreachable!()
        };
        let checked =
            case.reader
                .check_header(&grant, hit, &found.statement, &found.doctor, &start);
        assert!(matches!(checked, Err(ReaderError::ForeignHeader)));
    }
}

/// A node signed its share and not its proof, so a reader could hang a proof that fails on it and show
/// both as evidence against the node.
#[test]
fn attack_hang_a_failing_proof_on_a_nodes_share() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let mut grant = case.granted();
    let hit = case.hit_of(&grant, case.stored.own.transaction);
    let of = case.world.access(&case.reader, &mut grant, &hit);
    let class = ClassPlace::new(0);
    let mut ask = |node: usize, proof| {
        let ask = case.reader.ask_shares(&grant, of, vec![class], proof);
        case.world.shares(node, &ask).unwrap().remove(0)
    };
    let (bare, proved, other) = (
        ask(0, WantProof::No),
        ask(0, WantProof::Yes),
        ask(1, WantProof::Yes),
    );
    let header = case.header().verify().unwrap();
    let record = case.stored.own.transaction;
    let mut shares = SectionShares::new(case.world.consortium, &grant, &header, record, class);
    let framed = ShareAnswer {
        proof: other.proof.clone(),
        ..proved.clone()
    };
    assert_eq!(shares.add(framed), Err(BadSignature));
    let framed = ShareAnswer {
        proof: other.proof.clone(),
        ..bare.clone()
    };
    assert_eq!(shares.add(framed), Err(BadSignature));
    let stripped = ShareAnswer {
        proof: None,
        ..proved.clone()
    };
    assert_eq!(shares.add(stripped), Err(BadSignature));
    for honest in [bare, proved, other] {
        shares.add(honest).unwrap();
    }
    assert!(shares.open().is_ok());
}

/// Evidence of a wrong share names an honest node only if somebody can make it of what honest nodes
/// sign: with the grant and header that it signed for, with others, or with anything altered.
#[test]
fn attack_make_evidence_of_an_honest_nodes_share() {
    let hospitals = FourHospitals::found(World::settings());
    let mut case = case(&hospitals);
    let package = case.package_under(1, |_| {});
    let mut grant = case.given(&package);
    // The granter's other grant under the same revocation key, and another one on the chain.
    let twin = case.package_under(1, |_| {});
    assert_ne!(twin.grant, package.grant);
    let other = case.package_under(2, |_| {});
    let hit = case.hit_of(&grant, case.stored.own.transaction);
    let of = case.world.access(&case.reader, &mut grant, &hit);
    let class = ClassPlace::new(0);
    let mut ask = |node: usize, proof| {
        let ask = case.reader.ask_shares(&grant, of, vec![class], proof);
        case.world.shares(node, &ask).unwrap().remove(0)
    };
    let (bare, proved) = (ask(0, WantProof::No), ask(0, WantProof::Yes));
    let neighbour = ask(1, WantProof::Yes);
    let here = case.world.consortium;
    let nodes = case.world.chain.nodes();
    let on_chain = case.world.chain.agreed_grant(case.gid(&package)).unwrap();
    let (record, header) = (case.stored.own.transaction, case.header().encode());
    let (decoy, _) = case.decoy();
    let show = |record, grant: &[u8], header: &[u8], answer: &ShareAnswer| {
        let (grant, header) = (grant.to_vec(), header.to_vec());
        ShareEvidence::new(record, grant, header, answer.clone())
    };
    let verdict = |evidence: &ShareEvidence| evidence.verify(&here, &nodes, &on_chain);
    let honest = show(record, &package.grant, &header, &proved);
    assert!(matches!(verdict(&honest), Err(NotProved::Honest)));
    let framed = show(record, &package.grant, &header, &bare);
    assert!(matches!(verdict(&framed), Err(NotProved::NotSigned)));

    // Its share with a proof that fails, and its proof with another's share.
    let mut hung = proved.clone();
    hung.proof.clone_from(&neighbour.proof);
    let mut exchanged = proved.clone();
    exchanged.share = neighbour.share.clone();
    let mut renamed = proved.clone();
    renamed.node = neighbour.node;
    let mut moved = proved.clone();
    moved.class = ClassPlace::new(1);
    for answer in [hung, exchanged, renamed, moved] {
        let framed = show(record, &package.grant, &header, &answer);
        assert!(matches!(verdict(&framed), Err(NotProved::NotSigned)));
    }
    let mut nobody = proved.clone();
    nobody.node = NodeNumber::new(4).unwrap();
    let framed = show(record, &package.grant, &header, &nobody);
    assert!(matches!(verdict(&framed), Err(NotProved::NotANode)));

    // Beside another grant, record or header.
    for grant in [&twin.grant, &other.grant] {
        let framed = show(record, grant, &header, &proved);
        assert!(matches!(verdict(&framed), Err(NotProved::NotTheChains)));
    }
    let mut forged = package.grant.clone();
    forged[1 + 32 + 96 + 32 + 4 + 100] ^= 1;
    let framed = show(record, &forged, &header, &proved);
    assert!(matches!(verdict(&framed), Err(NotProved::NotTheChains)));
    let framed = show(of.access, &package.grant, &header, &proved);
    assert!(matches!(verdict(&framed), Err(NotProved::NotSigned)));
    let framed = show(record, &package.grant, &decoy.encode(), &proved);
    assert!(verdict(&framed).is_err());
    let framed = show(record, &package.grant, &header[1..], &proved);
    assert!(matches!(verdict(&framed), Err(NotProved::Malformed(_))));

    // Whichever byte is altered, nobody is named by it.
    let bytes = honest.encode();
    assert_eq!(ShareEvidence::decode(&bytes).unwrap(), honest);
    let mut at = 0;
    while at < bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 0x11;
        let named = ShareEvidence::decode(&altered).is_ok_and(|piece| verdict(&piece).is_ok());
        assert!(!named, "byte {at}");
        at += 37;
    }
}
