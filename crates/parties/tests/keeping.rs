//! What keystores hold: everybody goes on after the program ended, and damaged bytes are refused.
#![allow(clippy::unwrap_used)]

use crate::world::*;
use ledger::testing::FourHospitals;
use parties::*;
use scheme::*;

const STROKE: &str = "code|http://snomed.info/sct|230690007";

/// Every prefix and every changed length or count is an error or another value, never a panic.
fn refuses_what_is_cut<T>(kept: &[u8], restore: impl Fn(&[u8]) -> Option<T>) {
    assert!(restore(kept).is_some());
    for length in (0..kept.len()).step_by((kept.len() / 64).max(1)) {
        assert!(restore(&kept[..length]).is_none(), "{length} bytes");
    }
    let longer = [kept, &[0]].concat();
    assert!(restore(&longer).is_none());
    for at in (0..kept.len()).step_by((kept.len() / 64).max(1)) {
        let mut changed = kept.to_vec();
        changed[at] ^= 0x80;
        // It may decode to another value: the keystore's tag tells. It must not panic.
        let _ = restore(&changed);
    }
}

#[test]
fn a_referral_goes_on_after_every_program_was_closed_at_every_step() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let here = world.consortium;
    let centre = CentreKeys::founding(world.centre.verifying_key());
    let seed = RootSeed::from_bytes([0x5e; 32]);
    let version = KeyVersion::new(0);
    let reopen =
        |directory: &[u8]| Patient::restore(here, centre.clone(), &seed, version, directory).ok();
    let close = |world: &mut World<'_>| {
        let kept = world.patient.directory();
        world.patient = reopen(&kept).unwrap();
        assert_eq!(world.patient.directory(), kept);
    };
    let author = world.doctor(11, 4);
    let tertiary = world.doctor(13, 1);
    close(&mut world);
    let (place, episode) = world.begin_episode(&author);
    close(&mut world);
    let kept = episode.keep();
    let episode = PatientEpisode::restore(&kept).unwrap();
    refuses_what_is_cut(&kept, |kept| PatientEpisode::restore(kept).ok());
    let stored = world.store(&author, place, &episode, sections(1), &[STROKE]);
    let kept = stored.own.keep();
    let own = OwnRecord::restore(&here, &kept).unwrap();
    assert_eq!(own.transaction, stored.own.transaction);
    refuses_what_is_cut(&kept, |kept| OwnRecord::restore(&here, kept).ok());
    close(&mut world);

    let (reader, request, sealed) = world.ask(&tertiary, &[HOMEPAGE, LABORATORY], 2);
    let kept = reader.keep();
    let reader = Reader::restore(here, centre.clone(), &kept).unwrap();
    refuses_what_is_cut(&kept, |kept| {
        Reader::restore(here, centre.clone(), kept).ok()
    });
    let decision = world.decision(place, &[LABORATORY], &[""]);
    let packages = world.grant(&sealed, &[decision]);
    close(&mut world);
    // The page that says who can read what is made of this.
    let answers = world.patient.grants()[0].answers.as_ref().unwrap();
    assert_eq!(answers.classes, [LABORATORY]);
    assert_eq!(answers.purpose, request.terms().purpose);
    let (team, keys) = (&answers.team, &packages[0].entry.access_keys);
    assert_eq!(team.len(), 1);
    assert_eq!((team[0].doctor.number(), team[0].access_key), (13, keys[0]));
    // What was answered before it was closed is not answered again.
    let again = world.patient.open_request(&sealed, world.chain.now());
    assert!(matches!(again, Err(PatientError::NotForUs)));
    refuses_what_is_cut(&world.patient.directory(), reopen);

    let gid = GrantId::of(&here, &packages[0].entry.revocation_key);
    let on_chain = world.chain.agreed_grant(gid).unwrap();
    let grant = reader
        .open_grant(&packages[0].grant, &request, &on_chain)
        .unwrap();
    let mut grant = reader.restore_grant(&grant.keep()).unwrap();
    let hit = world.search(&reader, &grant).unwrap().0.remove(0);
    // An access that is on its way comes back byte for byte.
    let pending = reader
        .record_access(&mut grant, &hit, &mut world.rng.clone())
        .unwrap();
    let kept = grant.keep();
    let mut grant = reader.restore_grant(&kept).unwrap();
    let again = reader.record_access(&mut grant, &hit, &mut world.rng.clone());
    assert_eq!(again.unwrap(), pending);
    let id = world.chain.grow(pending);
    let of = grant.access_is_final(id).unwrap();
    let mut grant = reader.restore_grant(&grant.keep()).unwrap();
    assert_eq!(grant.last_access(hit.transaction), Some(of));
    let read = world.read(&reader, &mut grant, &hit, &[0, 1]).unwrap();
    assert_eq!(read[&0], stored.plain[1].1);
    refuses_what_is_cut(&grant.keep(), |kept| reader.restore_grant(kept).ok());
    // Another request's keys do not open it.
    let (stranger, _, _) = world.ask(&tertiary, &[HOMEPAGE], 1);
    let refused = stranger.restore_grant(&grant.keep());
    assert!(matches!(refused, Err(ReaderError::NotForUs)));

    close(&mut world);
    let own = &world.patient.grants()[0];
    assert_eq!(own.recipients, request.note_recipients());
    let revocation = world.patient.revoke(&gid).unwrap();
    world.chain.grow(revocation);
    assert!(world.chain.agreed_grant(gid).unwrap().state.revoked);
}

#[test]
fn an_agent_goes_on_after_its_program_was_closed() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let here = world.consortium;
    let centre = CentreKeys::founding(world.centre.verifying_key());
    let author = world.doctor(11, 4);
    let (place, _) = world.begin_episode(&author);
    let agent = FamilyAgent::new(here, centre.clone(), &mut world.rng);
    let kept = agent.keep();
    refuses_what_is_cut(&kept, |kept| {
        FamilyAgent::restore(here, centre.clone(), kept).ok()
    });
    let again = FamilyAgent::restore(here, centre.clone(), &kept).unwrap();
    assert_eq!(again.offer(), agent.offer());
    let epochs = world.chain.writer_epochs(InstitutionId::new(4));
    let end = Timestamp::new(world.chain.now().number() + TWO_HOURS);
    let (offer, scope) = (again.offer(), [LABORATORY]);
    let (id, sealed) = world
        .patient
        .appoint(place, &offer, &scope, end, &epochs, &mut world.rng)
        .unwrap();
    let appointed = again.accept(&sealed).unwrap();
    let kept = appointed.keep();
    refuses_what_is_cut(&kept, |kept| {
        Appointed::restore(here, centre.clone(), kept).ok()
    });
    let appointed = Appointed::restore(here, centre, &kept).unwrap();
    assert_eq!(appointed.id(), id);
    assert_eq!(appointed.end(), end);
    assert_eq!(appointed.scope(), scope);
    assert_eq!(appointed.keep(), kept);
}

/// The copy of the directory at the centre can be older than the last episode: a search of the next
/// number finds it again, and one of a number that was never used finds nothing.
#[test]
fn an_episode_that_the_directory_does_not_have_is_found_by_its_number() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let author = world.doctor(11, 4);
    let old = world.patient.directory();
    let (place, episode) = world.begin_episode(&author);
    world.store(&author, place, &episode, sections(1), &[STROKE]);
    let seed = RootSeed::from_bytes([0x5e; 32]);
    let centre = CentreKeys::founding(world.centre.verifying_key());
    let version = KeyVersion::new(0);
    let mut device = Patient::restore(world.consortium, centre, &seed, version, &old).unwrap();
    assert_eq!(device.episodes().count(), 0);
    let institution = InstitutionId::new(4);
    let who = (institution, author.doctor.public_keys().id);
    let epochs = world.chain.writer_epochs(institution);
    let (epoch, key) = epochs.epochs.last().unwrap();
    let found = |number: u64| {
        let number = EpisodeNumber::new(number);
        let mut search = device.episode_search(who, &episode.uid, number, (*epoch, key));
        world.run(&mut search);
        search.is_found()
    };
    assert!(found(0));
    assert!(!found(1));
    let number = EpisodeNumber::new(0);
    let recovered = device.recover_episode(who, &episode.uid, number).unwrap();
    let (_, back) = device.episodes().find(|(at, _)| *at == recovered).unwrap();
    assert_eq!(back.pid.expose_bytes(), episode.pid.expose_bytes());
    let twice = device.recover_episode(who, &episode.uid, number);
    assert!(matches!(twice, Err(PatientError::Unknown)));
}
