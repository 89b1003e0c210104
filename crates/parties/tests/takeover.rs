//! A relative registered a patient who could not; the patient goes on under keys of their own. What began
//! before stays readable, and stays the relative's too; of what begins after, the relative has nothing.
#![allow(clippy::unwrap_used)]

use crate::world::*;
use ledger::testing::FourHospitals;
use parties::*;
use scheme::*;

const STROKE: &str = "code|http://snomed.info/sct|230690007";
const FIRST: KeyVersion = KeyVersion::new(0);

/// The relative's, as the world has it.
fn seed_of_relative() -> RootSeed {
    RootSeed::from_bytes([0x5e; 32])
}

fn seed_of_patient() -> RootSeed {
    RootSeed::from_bytes([0x77; 32])
}

impl World<'_> {
    /// The patient's next device: keys of their own, certified in place of those before.
    fn next_device(&mut self) -> Patient {
        let keys = self.centre_keys();
        let mut next = Patient::new(
            self.consortium,
            keys,
            &seed_of_patient(),
            FIRST,
            &mut self.rng,
        );
        let subject = self.centre.begin_enrolment();
        let now = self.chain.now();
        let enrolled = self.centre.certify_patient(next.enrol(subject), now);
        let enrolled = enrolled.unwrap();
        self.chain.grow(enrolled.registration);
        let now = self.chain.now();
        next.accept_certificate(enrolled.certificate, now).unwrap();
        next
    }

    /// The patient takes over; gives the relative's device, which goes on with the keys before.
    fn take_over(&mut self) -> Patient {
        let mut next = self.next_device();
        let (here, centre) = (self.consortium, self.centre_keys());
        let directory = self.patient.directory();
        let relative = Patient::restore(here, centre, &seed_of_relative(), FIRST, &directory);
        next.succeed(&self.patient, &seed_of_relative(), FIRST)
            .unwrap();
        self.queries
            .open_inbox(next.inbox().0, next.inbox_key())
            .unwrap();
        self.patient = next;
        relative.unwrap()
    }
}

#[test]
fn what_began_before_a_takeover_is_read_and_granted_by_the_patient() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let here = world.consortium;
    let author = world.doctor(11, 4);
    let tertiary = world.doctor(13, 1);
    let (place, episode) = world.begin_episode(&author);
    let stored = world.store(&author, place, &episode, sections(1), &[STROKE]);
    let relative = world.take_over();
    assert_ne!(world.patient.public_keys(), relative.public_keys());
    assert_ne!(world.patient.inbox(), relative.inbox());
    assert_eq!(world.patient.generation(), 1);
    let (_, before) = world.patient.episodes().next().unwrap();
    assert!(world.patient.is_under_former_keys(before));

    // The doctor goes on writing in the episode of before: the receipt is for the inbox of before.
    world.store(&author, place, &episode, sections(2), &[STROKE]);
    // All that the device holds comes back by the words of the new seed alone.
    let directory = world.patient.directory();
    let centre = world.centre_keys();
    world.patient = Patient::restore(here, centre, &seed_of_patient(), FIRST, &directory).unwrap();
    assert_eq!(world.patient.directory(), directory);
    let (_, before) = world.patient.episodes().next().unwrap();
    assert_eq!(before.receipts.len(), 2);

    let (header, _) = Header::decode(&here, &stored.container).unwrap();
    let secret = world.patient.own_section(place, LABORATORY, &header);
    let label = world.patient.label_key(place, LABORATORY).unwrap();
    let index = header.find(&label).unwrap();
    assert!(secret.unwrap().content_key(&header, index).is_ok());

    let (reader, request, sealed) = world.ask(&tertiary, &[LABORATORY], 1);
    let decision = world.decision(place, &[LABORATORY], &[""]);
    let packages = world.grant(&sealed, &[decision]);
    let gid = GrantId::of(&here, &packages[0].entry.revocation_key);
    let on_chain = world.chain.agreed_grant(gid).unwrap();
    let opened = reader.open_grant(&packages[0].grant, &request, &on_chain);
    let mut grant = opened.unwrap();
    let hits = world.search(&reader, &grant).unwrap().0;
    assert_eq!(hits.len(), 2);
    let hit = hits
        .into_iter()
        .find(|hit| hit.transaction == stored.own.transaction);
    let hit = hit.unwrap();
    let read = world.read(&reader, &mut grant, &hit, &[0, 1]).unwrap();
    let laboratory = stored.plain.iter().find(|(class, _)| *class == LABORATORY);
    assert_eq!(read[&0], laboratory.unwrap().1);
}

#[test]
fn attack_read_what_began_after_a_takeover_with_the_keys_before() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let here = world.consortium;
    let author = world.doctor(11, 4);
    let tertiary = world.doctor(13, 1);
    world.begin_episode(&author);
    let relative = world.take_over();
    let (place, episode) = world.begin_episode(&author);
    let (_, began) = world.patient.episodes().last().unwrap();
    assert!(!world.patient.is_under_former_keys(began));
    let stored = world.store(&author, place, &episode, sections(1), &[STROKE]);

    // The relative knows the doctor, the UID and the number, and has all keys of before.
    let (institution, id) = (InstitutionId::new(4), DoctorId::new(11));
    let centre = world.centre_keys();
    let directory = relative.directory();
    let mut relative =
        Patient::restore(here, centre, &seed_of_relative(), FIRST, &directory).unwrap();
    let guessed = relative
        .recover_episode((institution, id), &episode.uid, EpisodeNumber::new(0))
        .unwrap();
    let (header, _) = Header::decode(&here, &stored.container).unwrap();
    for class in [HOMEPAGE, LABORATORY, IMAGING] {
        let label = relative.label_key(guessed, class).unwrap();
        assert!(header.find(&label).is_none(), "which section is of a class");
        let secret = relative.own_section(guessed, class, &header).unwrap();
        for index in header.sections() {
            assert!(secret.content_key(&header, index).is_err());
        }
    }
    let epochs = world.chain.writer_epochs(institution);
    for number in 0..4 {
        for (epoch, key) in &epochs.epochs {
            let number = EpisodeNumber::new(number);
            let who = (institution, id);
            let mut search = relative.episode_search(who, &episode.uid, number, (*epoch, key));
            world.run(&mut search);
            assert!(!search.is_found(), "that there is a record");
        }
    }
    let receipt = author.doctor.receipt(&episode, &stored.own, &mut world.rng);
    assert!(relative.open_receipt(&receipt.unwrap()).is_err());
    // What is asked of the patient now.
    let (_, _, sealed) = world.ask(&tertiary, &[LABORATORY], 1);
    let now = world.chain.now();
    assert!(world.patient.open_request(&sealed, now).is_ok());
    assert!(relative.open_request(&sealed, now).is_err());
}

#[test]
fn a_takeover_is_under_certified_keys_and_by_who_has_the_keys_before() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let author = world.doctor(11, 4);
    world.begin_episode(&author);
    let here = world.consortium;
    let centre = world.centre_keys();
    let mut uncertified = Patient::new(here, centre, &seed_of_patient(), FIRST, &mut world.rng);
    let refused = uncertified.succeed(&world.patient, &seed_of_relative(), FIRST);
    assert!(matches!(refused, Err(PatientError::Unknown)));

    let mut next = world.next_device();
    let wrong = RootSeed::from_bytes([0x5f; 32]);
    let refused = next.succeed(&world.patient, &wrong, FIRST);
    assert!(matches!(refused, Err(PatientError::Unknown)));
    assert_eq!(next.episodes().count(), 0, "nothing changed");
    next.succeed(&world.patient, &seed_of_relative(), FIRST)
        .unwrap();
    let twice = next.succeed(&world.patient, &seed_of_relative(), FIRST);
    assert!(matches!(twice, Err(PatientError::Unknown)));

    // An episode under keys that the directory does not have is refused, not read with others.
    let directory = next.directory();
    let centre = world.centre_keys();
    let read = |bytes: &[u8]| {
        Patient::restore(here, centre.clone(), &seed_of_patient(), FIRST, bytes).is_ok()
    };
    assert!(read(&directory));
    let mut changed = directory.to_vec();
    assert_eq!(changed[1], 1, "as many keys came before");
    changed[1] = FORMER_KEYS_MAX as u8 + 1;
    assert!(!read(&changed));
    for length in 0..directory.len() {
        assert!(!read(&directory[..length]));
    }
}
