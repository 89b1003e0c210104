//! The referral of the paper's Figure 2, step by step, by the parties alone: two hospitals stored a
//! record each, the third one reads what was granted, and nothing after revocation or expiry.
#![allow(clippy::unwrap_used)]

use crate::world::*;
use ledger::testing::FourHospitals;
use parties::*;
use scheme::*;

const STROKE: &str = "code|http://snomed.info/sct|230690007";

#[test]
fn a_doctor_reads_what_was_granted_from_two_hospitals_until_it_is_revoked() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let community = world.doctor(11, 4);
    let secondary = world.doctor(12, 2);
    let tertiary = world.doctor(13, 1);
    let (place_a, episode_a) = world.begin_episode(&community);
    let (place_b, episode_b) = world.begin_episode(&secondary);
    let one = world.store(&community, place_a, &episode_a, sections(1), &[STROKE]);
    let two = world.store(
        &secondary,
        place_b,
        &episode_b,
        sections(2),
        &[STROKE, "dicom.modality|CT"],
    );
    let other = world.store(
        &secondary,
        place_b,
        &episode_b,
        sections(3),
        &["resource|Observation"],
    );

    let (reader, request, sealed) = world.ask(&tertiary, &[HOMEPAGE, LABORATORY, IMAGING], 2);
    let decisions = [
        world.decision(place_a, &[LABORATORY, IMAGING], &[""]),
        world.decision(place_b, &[IMAGING], &[STROKE]),
    ];
    let packages = world.grant(&sealed, &decisions);
    assert_eq!(packages.len(), 2);

    let mut opened = Vec::new();
    for package in &packages {
        let gid = GrantId::of(&world.consortium, &package.entry.revocation_key);
        let on_chain = world.chain.agreed_grant(gid).unwrap();
        opened.push(
            reader
                .open_grant(&package.grant, &request, &on_chain)
                .unwrap(),
        );
    }

    // Grant of the community hospital's episode: laboratory and imaging open, the homepage does not.
    let hits = world.search(&reader, &opened[0]).unwrap();
    assert_eq!(hits.0.len(), 1);
    assert_eq!(hits.0[0].transaction, one.own.transaction);
    let read = world
        .read(&reader, &mut opened[0], &hits.0[0], &[0, 2])
        .unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!(read[&0], one.plain[1].1);
    assert_eq!(read[&1], one.plain[2].1);

    // Grant of the secondary hospital's episode, by keyword: just the one record, just its imaging.
    let hits = world.search(&reader, &opened[1]).unwrap();
    assert_eq!(
        hits.0.iter().map(|hit| hit.transaction).collect::<Vec<_>>(),
        [two.own.transaction]
    );
    assert_ne!(hits.0[0].transaction, other.own.transaction);
    let read = world
        .read(&reader, &mut opened[1], &hits.0[0], &[1, 0])
        .unwrap();
    assert_eq!(
        read.into_iter().collect::<Vec<_>>(),
        [(0, two.plain[2].1.clone())]
    );

    // Revoked: the node that holds the shares refuses, forgets them, and consensus takes no access.
    let gid = opened[0].gid();
    let hit = world.search(&reader, &opened[0]).unwrap().0.remove(0);
    let of = world.access(&reader, &mut opened[0], &hit);
    let revocation = world.patient.revoke(&gid).unwrap();
    world.chain.grow(revocation);
    let ask = reader.ask_shares(&opened[0], of, vec![ClassPlace::new(0)], WantProof::No);
    assert!(matches!(world.shares(0, &ask), Err(ShareRefusal::Revoked)));
    assert!(matches!(
        world.container(0, &reader.ask_container(&opened[0], of)),
        Err(ShareRefusal::Revoked)
    ));
    assert!(matches!(
        world.search(&reader, &opened[0]),
        Err(ReaderError::NoAgreement(_))
    ));
    let late = reader.record_access(&mut opened[0], &hit, &mut world.rng.clone());
    let late = late.unwrap();
    // Until it is decided the same bytes are handed in again, and nothing else under this key.
    let again = reader.record_access(&mut opened[0], &hit, &mut world.rng.clone());
    assert_eq!(again.unwrap(), late);
    let other = Hit {
        transaction: ledger::TransactionId::new([9; 32]),
        ..hit.clone()
    };
    assert!(matches!(
        reader.record_access(&mut opened[0], &other, &mut world.rng.clone()),
        Err(ReaderError::AccessPending)
    ));
    assert!(world.chain.refuses(late));
    let number = opened[0].next_access();
    opened[0].access_was_refused();
    assert_eq!(opened[0].next_access(), number);
    for node in &mut world.nodes {
        assert_eq!(node.held(), 2);
        assert_eq!(node.forget_ended(&world.chain).unwrap(), [gid]);
        assert_eq!(node.held(), 1);
    }

    // Expired, by the chain's time.
    world.chain.wait(TWO_HOURS + 1);
    let hit = Hit {
        place: 0,
        position: 0,
        ..hit
    };
    assert!(matches!(
        world.search(&reader, &opened[1]),
        Err(ReaderError::NoAgreement(_))
    ));
    let late = reader.record_access(&mut opened[1], &hit, &mut world.rng.clone());
    assert!(world.chain.refuses(late.unwrap()));
    let ask = reader.ask_shares(&opened[1], of, vec![ClassPlace::new(0)], WantProof::No);
    assert!(matches!(
        world.shares(1, &ask),
        Err(ShareRefusal::Expired(_))
    ));
    for node in &mut world.nodes {
        assert_eq!(node.forget_ended(&world.chain).unwrap(), [opened[1].gid()]);
        assert_eq!(node.held(), 0);
    }
}

#[test]
fn the_author_and_the_owner_read_without_asking() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let doctor = world.doctor(11, 4);
    let stranger = world.doctor(12, 4);
    let (place, episode) = world.begin_episode(&doctor);
    let stored = world.store(&doctor, place, &episode, sections(1), &[STROKE]);
    let (header, _) = Header::decode(&world.consortium, &stored.container).unwrap();
    for (class, plain) in &stored.plain {
        let index = header
            .find(&world.patient.label_key(place, *class).unwrap())
            .unwrap();
        let own = doctor
            .doctor
            .own_section(&header, &episode.keys.encryption, &episode.pid, *class)
            .unwrap();
        let owner = world.patient.own_section(place, *class, &header).unwrap();
        for secret in [own, owner] {
            let opened = OpenedSection {
                index,
                key: secret.content_key(&header, index).unwrap(),
            };
            assert_eq!(&open(&stored.container, &header, &opened), plain);
        }
        assert!(
            stranger
                .doctor
                .own_section(&header, &episode.keys.encryption, &episode.pid, *class)
                .is_err()
        );
    }
}

#[test]
fn no_share_without_a_recorded_access_of_that_record() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let (author, tertiary) = (world.doctor(11, 4), world.doctor(13, 1));
    let (place, episode) = world.begin_episode(&author);
    let one = world.store(&author, place, &episode, sections(1), &[]);
    world.store(&author, place, &episode, sections(2), &[]);
    let (reader, request, sealed) = world.ask(&tertiary, &[IMAGING], 1);
    let decisions = [world.decision(place, &[IMAGING], &[""])];
    let package = world.grant(&sealed, &decisions).remove(0);
    let gid = GrantId::of(&world.consortium, &package.entry.revocation_key);
    let on_chain = world.chain.agreed_grant(gid).unwrap();
    let mut grant = reader
        .open_grant(&package.grant, &request, &on_chain)
        .unwrap();
    let hits = world.search(&reader, &grant).unwrap();
    assert_eq!(hits.0.len(), 2);

    // An access to the second record gives no share of the first.
    let of = world.access(&reader, &mut grant, &hits.0[1]);
    let crossed = InTransaction {
        record: one.own.transaction,
        ..of
    };
    let class = vec![ClassPlace::new(0)];
    let ask = |of| reader.ask_shares(&grant, of, class.clone(), WantProof::No);
    assert!(matches!(
        world.shares(0, &ask(crossed)),
        Err(ShareRefusal::NoAccess)
    ));
    // No transaction of this chain, or one of another kind, gives none either.
    let nowhere = InTransaction {
        access: ledger::TransactionId::new([9; 32]),
        ..of
    };
    assert!(matches!(
        world.shares(0, &ask(nowhere)),
        Err(ShareRefusal::NoAccess)
    ));
    let record = InTransaction {
        access: one.own.transaction,
        ..of
    };
    assert!(matches!(
        world.shares(0, &ask(record)),
        Err(ShareRefusal::NoAccess)
    ));
    assert_eq!(world.shares(0, &ask(of)).unwrap().len(), 1);
    // Another key, though it signs correctly, is none of the grant's.
    let other = Reader::new(
        world.consortium,
        CentreKeys::founding(world.centre.verifying_key()),
        tertiary.certificate.clone(),
        1,
        &mut world.rng,
    );
    let stolen = other.open_grant(&package.grant, &request, &on_chain);
    assert!(matches!(stolen, Err(ReaderError::NotForUs)));
    // A class that was not granted has no share.
    let ungranted = reader.ask_shares(&grant, of, vec![ClassPlace::new(1)], WantProof::No);
    assert!(matches!(
        world.shares(0, &ungranted),
        Err(ShareRefusal::NoSuchClass)
    ));
}

#[test]
fn a_tampered_container_is_never_given_out_and_a_revoked_doctor_gets_nothing() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let (author, tertiary) = (world.doctor(11, 4), world.doctor(13, 1));
    let (place, episode) = world.begin_episode(&author);
    world.store(&author, place, &episode, sections(1), &[]);
    let (reader, request, sealed) = world.ask(&tertiary, &[IMAGING], 1);
    let decisions = [world.decision(place, &[IMAGING], &[""])];
    let package = world.grant(&sealed, &decisions).remove(0);
    let gid = GrantId::of(&world.consortium, &package.entry.revocation_key);
    let mut grant = reader
        .open_grant(
            &package.grant,
            &request,
            &world.chain.agreed_grant(gid).unwrap(),
        )
        .unwrap();
    let hit = world.search(&reader, &grant).unwrap().0.remove(0);
    let of = world.access(&reader, &mut grant, &hit);
    let address = hit.locator.address;
    let whole = world.cloud.0[&address].clone();

    let mut altered = whole.clone();
    *altered.last_mut().unwrap() ^= 1;
    world.cloud.0.insert(address, altered);
    assert!(matches!(
        world.container(0, &reader.ask_container(&grant, of)),
        Err(ShareRefusal::AlteredContainer)
    ));
    let ask = reader.ask_shares(&grant, of, vec![ClassPlace::new(0)], WantProof::No);
    // The header is untouched, so shares are given: they open nothing that was altered.
    assert!(world.shares(0, &ask).is_ok());
    let mut altered = whole.clone();
    altered[80] ^= 1;
    world.cloud.0.insert(address, altered);
    assert!(matches!(
        world.shares(0, &ask),
        Err(ShareRefusal::AlteredHeader | ShareRefusal::Malformed(_))
    ));
    world.cloud.0.insert(address, whole);
    assert!(world.shares(0, &ask).is_ok());

    let revocation = world.centre.revoke(tertiary.subject).unwrap();
    world.chain.grow(revocation);
    assert!(matches!(
        world.shares(0, &ask),
        Err(ShareRefusal::CertificateRevoked)
    ));
}

#[test]
fn attack_a_lying_node_and_an_inconsistent_granter_are_told_apart() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let (author, tertiary) = (world.doctor(11, 4), world.doctor(13, 1));
    let (place, episode) = world.begin_episode(&author);
    let stored = world.store(&author, place, &episode, sections(1), &[]);
    let (reader, request, sealed) = world.ask(&tertiary, &[LABORATORY, IMAGING], 1);
    let decisions = [world.decision(place, &[LABORATORY, IMAGING], &[""])];
    let package = world.grant(&sealed, &decisions).remove(0);
    let gid = GrantId::of(&world.consortium, &package.entry.revocation_key);
    let mut grant = reader
        .open_grant(
            &package.grant,
            &request,
            &world.chain.agreed_grant(gid).unwrap(),
        )
        .unwrap();
    let hit = world.search(&reader, &grant).unwrap().0.remove(0);
    let of = world.access(&reader, &mut grant, &hit);
    let (header, _) = Header::decode(&world.consortium, &stored.container).unwrap();
    let header = header.verify().unwrap();
    let class = ClassPlace::new(0);

    // Node 1 answers with its share of the other class, signed as if it were this one's.
    let ask = reader.ask_shares(&grant, of, vec![class, ClassPlace::new(1)], WantProof::Yes);
    let honest: Vec<Vec<ShareAnswer>> = (0..3)
        .map(|node| world.shares(node, &ask).unwrap())
        .collect();
    let wrong = &honest[0][1];
    let record = hit.transaction.digest();
    let digest = header.header().digest();
    let statement = ShareStatement {
        consortium: &world.consortium,
        gid: &gid,
        transaction: &record,
        header_digest: &digest,
        class,
        node: wrong.node,
        share: &wrong.share,
    };
    let node_key = &hospitals.hospitals[0].node_key;
    let lie = ShareAnswer::sign(&statement, &header, wrong.proof.clone(), node_key);
    let mut shares = SectionShares::new(world.consortium, &grant, &header, hit.transaction, class);
    shares.add(lie.clone()).unwrap();
    shares.add(honest[1][0].clone()).unwrap();
    assert!(matches!(shares.open(), Err(ReaderError::AskForProofs)));
    shares.add(honest[2][0].clone()).unwrap();
    // A node that answered in the first round and gave no proof in the second is not named: it may
    // have been restarted in between. With it alone beside the liar nothing follows.
    let first_round = reader.ask_shares(&grant, of, vec![class], WantProof::No);
    let unproved = world.shares(1, &first_round).unwrap().remove(0);
    let mut without = SectionShares::new(world.consortium, &grant, &header, hit.transaction, class);
    without.add(lie).unwrap();
    without.add(unproved).unwrap();
    let judgement = without.judge(&world.chain.nodes()).unwrap();
    assert_eq!(judgement.lying, [InstitutionId::new(1)]);
    assert_eq!(judgement.unproved, [InstitutionId::new(2)]);
    assert!(matches!(
        judgement.outcome,
        ShareOutcome::TooFew {
            found: 0,
            needed: 2
        }
    ));
    let judgement = shares.judge(&world.chain.nodes()).unwrap();
    assert_eq!(judgement.lying, [InstitutionId::new(1)]);
    assert!(judgement.unproved.is_empty());
    // What the liar signed convinces anyone who asks the chain for the grant's entry.
    let [evidence] = judgement.evidence.as_slice() else {
        panic!("one node lied");
    };
    let on_chain = world.chain.agreed_grant(gid).unwrap();
    let shown = ShareEvidence::decode(&evidence.encode()).unwrap();
    assert_eq!(&shown, evidence);
    assert_eq!(shown.gid(&world.consortium).unwrap(), gid);
    let named = shown.verify(&world.consortium, &world.chain.nodes(), &on_chain);
    assert_eq!(named.unwrap(), InstitutionId::new(1));
    let ShareOutcome::Opened(opened) = judgement.outcome else {
        panic!("two honest nodes are enough");
    };
    assert_eq!(
        open(&stored.container, header.header(), &opened),
        stored.plain[1].1
    );

    // A granter who labels the laboratory's share as the imaging's: every share fits its commitment
    // and every proof holds, so no node is named.
    let (reader, request, _) = world.ask(&tertiary, &[IMAGING], 1);
    let here = world.consortium;
    let seed = RootSeed::from_bytes([0x5e; 32]);
    let keys = PatientKeys::derive(&seed, KeyVersion::new(0), &here);
    let signing = EpisodeSigningKey::derive(&here, &keys.ownership, &episode.pid).unwrap();
    let revocation = SigningKey::from_seed([0x4e; 32]);
    let honest = grant.grant().terms();
    let terms = GrantTerms {
        episode_key: signing.public_key().clone(),
        revocation_key: revocation.verifying_key(),
        request: request.as_bytes().to_vec(),
        grantees: request.grantees(0).unwrap(),
        ..honest.clone()
    };
    let classes = [GrantedClass {
        condition: ConditionKey::derive(&here, &keys.encryption, &episode.pid, LABORATORY),
        label_key: ClassLabelKey::derive(&here, &episode.pid, IMAGING),
    }];
    let writer = Writer {
        institution: InstitutionId::new(4),
        epoch: WriterEpoch::new(0),
    };
    let any = Keyword::any_record();
    let trapdoor = Trapdoor::generate(&here, &keys.search, &episode.pid, writer, &any);
    let reach = Reach {
        trapdoors: vec![WriterTrapdoor { writer, trapdoor }],
        entries: Vec::new(),
    };
    let access_keys = vec![terms.grantees[0].access_key];
    let (not_before, expiry) = (terms.not_before, terms.expiry);
    let granter = Granter::Patient(&signing);
    let (dishonest, _) =
        Grant::make(&here, terms, &classes, &reach, &granter, &mut world.rng).unwrap();
    let bytes = dishonest.encode(&here);
    let entry = ledger::GrantEntry {
        revocation_key: revocation.verifying_key(),
        grant: sha256(&bytes),
        epoch: ValidatorEpoch::new(0),
        not_before,
        expiry,
        access_keys,
    };
    let signature = entry.sign(&here, &revocation);
    let package = GrantPackage {
        grant: bytes,
        entry,
        signature,
    };
    world.take(&package);
    let gid = GrantId::of(&here, &revocation.verifying_key());
    let on_chain = world.chain.agreed_grant(gid).unwrap();
    let mut grant = reader
        .open_grant(&package.grant, &request, &on_chain)
        .unwrap();
    let hit = world.search(&reader, &grant).unwrap().0.remove(0);
    let of = world.access(&reader, &mut grant, &hit);
    let ask = reader.ask_shares(&grant, of, vec![class], WantProof::Yes);
    let answers: Vec<ShareAnswer> = (0..3)
        .flat_map(|node| world.shares(node, &ask).unwrap())
        .collect();
    let mut shares = SectionShares::new(here, &grant, &header, hit.transaction, class);
    for answer in answers {
        shares.add(answer).unwrap();
    }
    assert!(matches!(shares.open(), Err(ReaderError::AskForProofs)));
    let judgement = shares.judge(&world.chain.nodes()).unwrap();
    assert!(judgement.lying.is_empty() && judgement.unproved.is_empty());
    assert!(judgement.evidence.is_empty());
    assert!(matches!(judgement.outcome, ShareOutcome::AuthorOrGranter));
    assert!(matches!(shares.open(), Err(ReaderError::AskForProofs)));
}

#[test]
fn the_patient_s_device_finds_what_is_wrong_with_a_record() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let author = world.doctor(11, 4);
    let (place, episode) = world.begin_episode(&author);
    let (_, other_episode) = world.begin_episode(&author);
    let writer = world.server(InstitutionId::new(4)).writer();
    let check = |world: &mut World<'_>, stored: &StoredRecord, header: &Header, word: &str| {
        let ledger::Transaction::Record(record) = &stored.transaction else {
            unreachable!()
        };
        let mut rng = world.rng.clone();
        let sealed = author
            .doctor
            .receipt(&episode, &stored.own, &mut rng)
            .unwrap();
        let receipt = world.patient.open_receipt(&sealed).unwrap();
        let words = [Keyword::new(word.as_bytes()).unwrap()];
        let checked = world
            .patient
            .check_receipt(place, receipt, record, writer, header, &words)
            .and_then(|mut check| {
                world.run(check.search());
                world.patient.keep_receipt(check)
            });
        match checked {
            Ok(()) => "fits",
            Err(PatientError::Receipt(why)) => why,
            Err(error) => panic!("{error}"),
        }
    };
    let good = world.build(&author, &episode, sections(1), &[STROKE]);
    let (header, _) = Header::decode(&world.consortium, &good.container).unwrap();
    // A record of another episode under this one's receipt.
    let foreign = world.build(&author, &other_episode, sections(2), &[STROKE]);
    let (foreign_header, _) = Header::decode(&world.consortium, &foreign.container).unwrap();
    let why = check(&mut world, &foreign, &foreign_header, STROKE);
    assert_eq!(why, "the record's owner key is not this patient's");
    // Another container's header.
    let why = check(&mut world, &good, &foreign_header, STROKE);
    assert_eq!(why, "the container's header is another one");
    // A container sealed to another patient, or for another episode, in this episode's transaction.
    let stranger = PatientEpisode {
        pid: other_episode.pid.clone(),
        ..episode.clone()
    };
    let sealed_elsewhere = world.build_as(&author, &episode, &stranger, sections(3), &[STROKE]);
    let (header_elsewhere, _) =
        Header::decode(&world.consortium, &sealed_elsewhere.container).unwrap();
    let why = check(&mut world, &sealed_elsewhere, &header_elsewhere, STROKE);
    assert_eq!(why, "a section is of no class");
    let mut keys = episode.keys.clone();
    keys.encryption = PatientKeys::derive(
        &RootSeed::from_bytes([1; 32]),
        KeyVersion::new(0),
        &world.consortium,
    )
    .encryption
    .public_key();
    let stranger = PatientEpisode {
        keys,
        ..episode.clone()
    };
    let sealed_to_another = world.build_as(&author, &episode, &stranger, sections(4), &[STROKE]);
    let (header_to_another, _) =
        Header::decode(&world.consortium, &sealed_to_another.container).unwrap();
    let why = check(&mut world, &sealed_to_another, &header_to_another, STROKE);
    assert_eq!(why, "a section does not open with the patient's own key");
    // A header that another doctor made, or whose maker did not know r: the patient could read the
    // record, and no node would ever re-encrypt it.
    let colleague = world.doctor(12, 4);
    let colleagues = world.build_as(&colleague, &other_episode, &episode, sections(5), &[STROKE]);
    let (theirs, _) = Header::decode(&world.consortium, &colleagues.container).unwrap();
    let episodes = (&episode, &episode);
    let container = colleagues.container;
    let hung = world.record(&author.doctor, episodes, &theirs, container, &[STROKE]);
    let why = check(&mut world, &hung, &theirs, STROKE);
    assert_eq!(
        why,
        "the container's header names another author than the record"
    );
    let mut bytes = header.encode();
    let of_another = header_elsewhere.encode();
    let v = bytes.len() - 48;
    bytes[v..].copy_from_slice(&of_another[of_another.len() - 48..]);
    let (guessed, _) = Header::decode(&world.consortium, &bytes).unwrap();
    let hung = world.record(&author.doctor, episodes, &guessed, bytes, &[STROKE]);
    let why = check(&mut world, &hung, &guessed, STROKE);
    assert_eq!(
        why,
        "the container's header was not made by the record's author"
    );
    // Before the record is final no search finds it; afterwards the patient's does.
    let why = check(&mut world, &good, &header, STROKE);
    assert_eq!(why, "the patient's own search does not find it");
    world.chain.grow(good.transaction.clone());
    // Nor by a keyword that it should carry and does not.
    let missing = check(&mut world, &good, &header, "dicom.modality|CT");
    assert_eq!(missing, "the patient's own search does not find it");
    assert_eq!(check(&mut world, &good, &header, STROKE), "fits");
}

#[test]
fn a_grant_is_given_to_its_readers_only_and_a_doctor_cannot_fill_a_node() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let (author, tertiary) = (world.doctor(11, 4), world.doctor(13, 1));
    let (place, episode) = world.begin_episode(&author);
    world.store(&author, place, &episode, sections(1), &[]);
    let (reader, request, sealed) = world.ask(&tertiary, &[IMAGING], 1);
    let decisions = [world.decision(place, &[IMAGING], &[""])];
    let package = world.grant(&sealed, &decisions).remove(0);
    let gid = GrantId::of(&world.consortium, &package.entry.revocation_key);
    let ask = reader.ask_grant(gid, 0).unwrap();
    assert!(world.nodes[0].may_fetch(&ask, &world.chain).is_ok());
    assert!(matches!(
        reader.ask_grant(gid, 1),
        Err(ReaderError::NotForUs)
    ));
    let stranger = Reader::new(
        world.consortium,
        CentreKeys::founding(world.centre.verifying_key()),
        tertiary.certificate.clone(),
        1,
        &mut world.rng,
    );
    let ask = stranger.ask_grant(gid, 0).unwrap();
    assert!(matches!(
        world.nodes[0].may_fetch(&ask, &world.chain),
        Err(ShareRefusal::NotGranted)
    ));
    let forged = GrantRequest {
        access_key: request.grantees(0).unwrap()[0].access_key,
        ..ask
    };
    assert!(matches!(
        world.nodes[0].may_fetch(&forged, &world.chain),
        Err(ShareRefusal::Forged)
    ));
    // The same grant again counts once.
    let now = world.chain.now();
    for _ in 0..1_100 {
        world.nodes[0]
            .receive_grant(&package, &world.chain, now)
            .unwrap();
    }
}

#[test]
fn the_query_manager_and_the_patient_refuse_replays_strangers_and_old_requests() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let (author, tertiary) = (world.doctor(11, 4), world.doctor(13, 1));
    let (place, episode) = world.begin_episode(&author);
    world.store(&author, place, &episode, sections(1), &[]);
    let (_, request, sealed) = world.ask(&tertiary, &[IMAGING], 1);
    let (handle, salt) = world.patient.inbox();
    let now = world.chain.now();
    let again = world.queries.examine(request.as_bytes(), handle, salt, now);
    assert!(matches!(again, Err(ForwardError::Replay)));
    let elsewhere = world
        .queries
        .examine(request.as_bytes(), InboxHandle::new([9; 16]), salt, now);
    assert!(matches!(elsewhere, Err(ForwardError::NoSuchInbox)));
    let salted = world
        .queries
        .examine(request.as_bytes(), handle, [9; 16], now);
    assert!(matches!(salted, Err(ForwardError::NoSuchInbox)));
    let late = Timestamp::new(now.number() + REQUEST_LIFE_MAX_MS + 1);
    let stale = world
        .queries
        .examine(request.as_bytes(), handle, salt, late);
    assert!(matches!(
        stale,
        Err(ForwardError::Request(RequestError::Time))
    ));
    let mut forged = request.as_bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = world.queries.examine(&forged, handle, salt, now);
    assert!(matches!(
        forged,
        Err(ForwardError::Request(RequestError::Signature))
    ));

    // The patient answers once.
    let decisions = [world.decision(place, &[IMAGING], &[""])];
    world.grant(&sealed, &decisions);
    assert!(matches!(
        world.patient.open_request(&sealed, now),
        Err(PatientError::NotForUs)
    ));

    // A doctor whose certificate was revoked is not forwarded.
    let revocation = world.centre.revoke(tertiary.subject).unwrap();
    world.chain.grow(revocation);
    assert!(world.chain.agreed_key(request.key_hashes()[0]).is_none());
}

/// The query manager puts a key of its own, or a doctor of its own, into a request on its way: the
/// patient's device decides about nothing of it, whichever bytes it swaps.
#[test]
fn attack_the_query_manager_swaps_a_key_in_a_request() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let tertiary = world.doctor(13, 1);
    let (reader, request, _) = world.ask(&tertiary, &[IMAGING], 1);
    let (handle, salt) = world.patient.inbox();
    let now = world.chain.now();
    let forward = |world: &World<'_>, request: &[u8]| {
        let plain = Encoder::new().bytes(&salt).var(request).finish();
        let mut rng = world.rng.clone();
        let sealed = world
            .patient
            .inbox_key()
            .seal(
                Purpose::Request,
                &world.consortium,
                handle.as_bytes(),
                &plain,
                &mut rng,
            )
            .unwrap();
        world.patient.open_request(&sealed, now)
    };
    // As it is, it passes: so what follows fails for what was swapped.
    assert!(forward(&world, request.as_bytes()).is_ok());
    let own = HpkePrivateKey::derive(&[9; 32]).public_key();
    let member = reader.member();
    let swaps: [(&[u8; 32], [u8; 32]); 3] = [
        (member.hpke_key.as_bytes(), *own.as_bytes()),
        (
            member.access_keys[0].as_bytes(),
            *SigningKey::from_seed([9; 32]).verifying_key().as_bytes(),
        ),
        (
            tertiary.doctor.public_keys().signing.as_bytes(),
            *SigningKey::from_seed([9; 32]).verifying_key().as_bytes(),
        ),
    ];
    for (theirs, ours) in swaps {
        let mut bytes = request.as_bytes().to_vec();
        let at = bytes
            .windows(32)
            .position(|window| window == theirs)
            .unwrap();
        bytes[at..at + 32].copy_from_slice(&ours);
        let refused = forward(&world, &bytes);
        assert!(
            matches!(refused, Err(PatientError::Request(_))),
            "{:?}",
            refused.map(|_| ())
        );
    }
}

/// A doctor learns that a request was answered from the chain, by the key that only the doctor's own
/// request named.
#[test]
fn a_doctor_finds_the_grant_that_answers_a_request_by_its_access_key() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let (author, tertiary) = (world.doctor(11, 4), world.doctor(13, 1));
    let (place, episode) = world.begin_episode(&author);
    world.store(&author, place, &episode, sections(1), &[]);
    let (_, request, sealed) = world.ask(&tertiary, &[IMAGING], 1);
    let access_key = request.grantees(0).unwrap()[0].access_key;
    let question = Question::GrantOf(access_key);
    let found = |world: &World<'_>| {
        AgreedGrant::from_reply_of(access_key, &world.chain.ask(&question)).unwrap()
    };
    assert_eq!(found(&world), None);
    let before = world.chain.height();
    let decisions = [world.decision(place, &[IMAGING], &[""])];
    let package = world.grant(&sealed, &decisions).remove(0);
    let gid = GrantId::of(&world.consortium, &package.entry.revocation_key);
    assert_eq!(found(&world), world.chain.agreed_grant(gid));
    assert_eq!(found(&world).unwrap().gid, gid);
    // As of a height before it, and after its revocation.
    let earlier = answer_at(world.chain.view(), &question, before).unwrap();
    assert_eq!(earlier, Answer::GrantOf(None));
    let revocation = world.patient.revoke(&gid).unwrap();
    world.chain.grow(revocation);
    assert!(found(&world).unwrap().state.revoked);
}

/// Each key with the height from which it was the current one, as of any height.
#[test]
fn the_centres_keys_are_answered_as_of_a_height() {
    use ledger::CentreKeyStanding::{Compromised, Current, Retired};
    use ledger::Height;
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let begin = world.chain.height();
    world.rotate_centre_key(1, &[]);
    let first = world.chain.height();
    world.rotate_centre_key(2, &[0]);
    let at = |height: Height| -> Vec<_> {
        let answer = answer_at(world.chain.view(), &Question::CentreKeys, height).unwrap();
        let decoded = Answer::decode(&Question::CentreKeys, &answer.encode()).unwrap();
        assert_eq!(decoded, answer);
        let Answer::CentreKeys(keys) = answer else {
            panic!("another answer");
        };
        let numbers: Vec<_> = keys.iter().map(|key| key.number.place()).collect();
        assert_eq!(numbers, (0..keys.len()).collect::<Vec<_>>());
        keys.iter().map(|key| (key.begun, key.standing)).collect()
    };
    let (zero, last) = (Height::new(0), world.chain.height());
    assert_eq!(at(begin), [(zero, Current)]);
    assert_eq!(at(first), [(zero, Retired), (first, Current)]);
    let now = [(zero, Compromised), (first, Retired), (last, Current)];
    assert_eq!(at(last), now);
    let agreed = world.agreed_centre_keys();
    assert_eq!((agreed.height, agreed.keys.len()), (last, 3));
}

#[test]
fn f_lying_nodes_do_not_make_an_answer() {
    let hospitals = FourHospitals::found(World::settings());
    let world = World::new(&hospitals);
    let question = Question::WriterEpochs(InstitutionId::new(1));
    let nodes = world.chain.nodes();
    let honest = world.chain.replies(&question);
    let lie = |node: usize| {
        Reply::sign(
            &world.consortium,
            honest[node].node,
            &hospitals.hospitals[node].node_key,
            &question.encode(),
            honest[node].height,
            honest[node].state_root,
            Answer::WriterEpochs(Vec::new()).encode(),
        )
    };
    let mut collector = ReplyCollector::new(world.consortium, &nodes, question.encode());
    collector.add(lie(0)).unwrap();
    assert!(matches!(collector.add(lie(0)), Err(BadReply::Twice(_))));
    assert!(collector.agreed().is_err());
    let mut forged = honest[1].clone();
    forged.signature = honest[2].signature;
    assert!(matches!(collector.add(forged), Err(BadReply::Forged(_))));
    collector.add(honest[1].clone()).unwrap();
    let failure = collector.agreed().unwrap_err();
    assert_eq!(
        (failure.answered, failure.agreeing, failure.needed),
        (2, 1, 2)
    );
    collector.add(honest[2].clone()).unwrap();
    assert_eq!(collector.agreed().unwrap().answer, honest[1].answer);
    for reply in &honest {
        assert_eq!(&Reply::decode(&reply.encode()).unwrap(), reply);
    }
}

#[test]
fn a_family_agent_grants_within_scope_and_end_until_it_is_withdrawn() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let (author, tertiary) = (world.doctor(11, 4), world.doctor(13, 1));
    let (place, episode) = world.begin_episode(&author);
    let stored = world.store(&author, place, &episode, sections(1), &[STROKE]);
    let agent = FamilyAgent::new(
        world.consortium,
        CentreKeys::founding(world.centre.verifying_key()),
        &mut world.rng,
    );
    let end = Timestamp::new(world.chain.now().number() + 2 * TWO_HOURS);
    let epochs = world.chain.writer_epochs(InstitutionId::new(4));
    let offer = agent.offer();
    let (id, sealed) = world
        .patient
        .appoint(
            place,
            &offer,
            &[LABORATORY, IMAGING],
            end,
            &epochs,
            &mut world.rng,
        )
        .unwrap();
    // Another agent cannot take it.
    let stranger = FamilyAgent::new(
        world.consortium,
        CentreKeys::founding(world.centre.verifying_key()),
        &mut world.rng,
    );
    assert!(matches!(
        stranger.accept(&sealed),
        Err(AgentError::NotForUs)
    ));
    let mut appointed = agent.accept(&sealed).unwrap();
    assert_eq!(appointed.id(), id);
    let open_inbox = |world: &mut World<'_>, appointed: &Appointed| {
        let (handle, key) = (appointed.inbox().0, appointed.inbox_key());
        world.queries.open_inbox(handle, key).unwrap();
    };
    open_inbox(&mut world, &appointed);
    // What is in the patient's inbox is not for the agent.
    let (_, _, patients) = world.ask(&tertiary, &[IMAGING], 1);
    let refused = appointed.open_request(&patients, world.chain.now());
    assert!(matches!(refused, Err(AgentError::Forwarded(_))));

    // Sealed to the agent's own inbox it is: the appointment named the patient's.
    let (handle, salt) = world.patient.inbox();
    let (_, request, _) = world.ask(&tertiary, &[IMAGING], 1);
    let agreed: Vec<AgreedKey> = request
        .key_hashes()
        .into_iter()
        .filter_map(|hash| world.chain.agreed_key(hash))
        .collect();
    let centre = CentreKeys::founding(world.centre.verifying_key());
    let verification = HybridVerification::new(world.consortium, centre, 1_000);
    let now = world.chain.now();
    let examined = verification.examine(request.as_bytes(), handle, salt, now);
    let confirmed = examined.unwrap().confirm(&agreed).unwrap();
    let to = appointed.inbox().0;
    let key = appointed.inbox_key();
    let here = world.consortium;
    let forwarded = confirmed.seal(&here, &to, &key, &mut world.rng).unwrap();
    let opened = appointed.open_request(&forwarded, now).unwrap();
    assert_eq!(opened.as_bytes(), request.as_bytes());
    // With the patient's handle as its subject it does not open there, nor for another agent.
    let misnamed = confirmed.seal(&here, &handle, &key, &mut world.rng);
    let refused = appointed.open_request(&misnamed.unwrap(), now);
    assert!(matches!(refused, Err(AgentError::Forwarded(_))));

    // The agent opens what is in scope, unlogged, and nothing else.
    let (header, _) = Header::decode(&world.consortium, &stored.container).unwrap();
    let (index, secret) = appointed.own_section(&header, IMAGING).unwrap();
    let opened = OpenedSection {
        index,
        key: secret.content_key(&header, index).unwrap(),
    };
    assert_eq!(open(&stored.container, &header, &opened), stored.plain[2].1);
    assert!(appointed.own_section(&header, HOMEPAGE).is_none());

    let answer =
        |world: &mut World<'_>, appointed: &mut Appointed, classes: &[ClassCode], expiry| {
            let inbox = appointed.inbox();
            let classes_asked = [LABORATORY, IMAGING];
            let (reader, request, sealed) = world.ask_at(&tertiary, &classes_asked, 1, inbox);
            let opened = appointed.open_request(&sealed, world.chain.now()).unwrap();
            assert_eq!(opened.as_bytes(), request.as_bytes());
            let agreed: Vec<AgreedKey> = request
                .key_hashes()
                .into_iter()
                .filter_map(|hash| world.chain.agreed_key(hash))
                .collect();
            let epoch = ValidatorEpoch::new(0);
            let reply = world.chain.ask(&Question::NodeKeys(epoch));
            let keys = AgreedNodeKeys::from_reply(epoch, &reply).unwrap();
            let set = world.chain.nodes();
            let nodes = ServingNodes {
                set: &set,
                keys: &keys,
            };
            let decision = AgentDecision {
                classes: classes.to_vec(),
                not_before: world.chain.now(),
                expiry,
                threshold: Threshold::new(2).unwrap(),
            };
            let mut rng = world.rng.clone();
            world.rng = ledger::testing::rng("after an answer", world.chain.height().number());
            let package = appointed.answer(&opened, &decision, &agreed, &nodes, &mut rng);
            if package.is_ok() {
                // Once.
                let again = appointed.answer(&opened, &decision, &agreed, &nodes, &mut rng);
                assert!(matches!(again, Err(AgentError::AnotherInbox)));
            }
            (reader, request, package)
        };
    let soon = Timestamp::new(world.chain.now().number() + TWO_HOURS);
    let (.., refused) = answer(&mut world, &mut appointed, &[HOMEPAGE], soon);
    assert!(matches!(refused, Err(AgentError::OutOfScope)));
    let late = Timestamp::new(end.number() + 1);
    let (.., refused) = answer(&mut world, &mut appointed, &[IMAGING], late);
    assert!(matches!(refused, Err(AgentError::Ended)));

    // A grant within both is served, and marked as the agent's.
    let (reader, request, answered) = answer(&mut world, &mut appointed, &[IMAGING], soon);
    let AgentAnswer { package, act } = answered.unwrap();
    world.take(&package);
    // A note names the grant to doctor B, and to nobody else.
    let note = AnswerNote::granted(&world.consortium, std::slice::from_ref(&package));
    let recipients = request.note_recipients();
    let sealed = appointed.seal_note(&note, &recipients, &mut world.rng);
    let sealed = sealed.unwrap().remove(0).sealed;
    let gid = GrantId::of(&world.consortium, &package.entry.revocation_key);
    let commitment = request.commitment();
    let opened = reader.open_note(commitment, &sealed).unwrap();
    assert_eq!(opened, AnswerNote::Granted(vec![gid]));
    let another = ledger::RequestCommitment::from(sha256(b"another request"));
    let refused = reader.open_note(another, &sealed);
    assert!(matches!(refused, Err(ReaderError::NotForUs)));
    let foreign = AnswerNote::Revoked(vec![GrantId::new([1; 32])]);
    let refused = appointed.seal_note(&foreign, &recipients, &mut world.rng);
    assert!(matches!(refused, Err(AgentError::NotOurs)));
    let refused = world.patient.seal_note(&note, &recipients, &mut world.rng);
    assert!(matches!(refused, Err(PatientError::Unknown)));
    let on_chain = world.chain.agreed_grant(gid).unwrap();
    let mut grant = reader
        .open_grant(&package.grant, &request, &on_chain)
        .unwrap();
    let appointment = grant.grant().appointment().expect("marked as the agent's");
    assert_eq!(appointment.terms().id, id);
    let hit = world.search(&reader, &grant).unwrap().0.remove(0);
    let read = world.read(&reader, &mut grant, &hit, &[0, 1]).unwrap();
    assert_eq!(read[&0], stored.plain[2].1);

    // The patient is told of it: what, to whom, until when; reads its log, and holds the key that ends it.
    let (inbox, act) = act.unwrap();
    assert_eq!(inbox, world.patient.inbox().0);
    for at in [0, 40, act.len() - 1] {
        let mut altered = act.clone();
        altered[at] ^= 1;
        assert!(matches!(
            world.patient.open_act(&altered),
            Err(PatientError::Unknown)
        ));
    }
    assert!(world.patient.read_log(&gid, &last_entry(&world)).is_none());
    let opened = world.patient.open_act(&act).unwrap();
    assert_eq!((opened.gid(), opened.expiry()), (gid, soon));
    world.patient.keep_act(opened).unwrap();
    assert!(
        matches!(world.patient.open_act(&act), Err(PatientError::Unknown)),
        "known"
    );
    let told = world.patient.grants().last().unwrap();
    assert_eq!((told.by, told.episode), (Some(id), place));
    let answers = told.answers.as_ref().unwrap();
    assert_eq!(answers.classes, [IMAGING]);
    assert_eq!(answers.team, request.team(0));
    let read = world.patient.read_log(&gid, &last_entry(&world));
    assert_eq!(read, Some(hit.transaction));
    assert!(world.patient.revoke(&gid).is_ok());

    // Withdrawn: the nodes serve it no more and take no further grant of the agent's.
    let of = grant.last_access(hit.transaction).unwrap();
    let withdrawal = world.patient.withdraw(&id).unwrap();
    world.chain.grow(withdrawal);
    let ask = reader.ask_shares(&grant, of, vec![ClassPlace::new(0)], WantProof::No);
    assert!(matches!(world.shares(0, &ask), Err(ShareRefusal::Agent)));
    let soon = Timestamp::new(world.chain.now().number() + TWO_HOURS);
    let (.., package) = answer(&mut world, &mut appointed, &[IMAGING], soon);
    let now = world.chain.now();
    let package = package.unwrap().package;
    let refused = world.nodes[0].receive_grant(&package, &world.chain, now);
    assert!(matches!(refused, Err(GrantRefusal::Agent)));

    // Ended, by the chain's time: a second appointment that is never withdrawn.
    let agent = FamilyAgent::new(
        world.consortium,
        CentreKeys::founding(world.centre.verifying_key()),
        &mut world.rng,
    );
    let end = Timestamp::new(world.chain.now().number() + TWO_HOURS);
    let offer = agent.offer();
    let (_, sealed) = world
        .patient
        .appoint(place, &offer, &[IMAGING], end, &epochs, &mut world.rng)
        .unwrap();
    let mut appointed = agent.accept(&sealed).unwrap();
    open_inbox(&mut world, &appointed);
    let (.., package) = answer(&mut world, &mut appointed, &[IMAGING], end);
    world.chain.wait(TWO_HOURS + 1);
    let now = world.chain.now();
    let package = package.unwrap().package;
    let refused = world.nodes[0].receive_grant(&package, &world.chain, now);
    assert!(matches!(refused, Err(GrantRefusal::Agent)));
}

/// The newest entry of an access log on the chain.
fn last_entry(world: &World<'_>) -> ledger::AccessEntry {
    let blocks = world.chain.0.blocks.iter().rev();
    let mut entries = blocks
        .flat_map(|block| block.transactions())
        .filter_map(|one| match one {
            ledger::Transaction::Access(access) => access.entries.last().copied(),
            _ => None,
        });
    entries.next().unwrap()
}

/// Everything that the query manager is given, holds or passes on, searched for what would name the
/// patient: pseudonym, UID, public keys, the author of the records.
#[test]
fn the_query_manager_is_sent_nothing_that_names_the_patient() {
    let hospitals = FourHospitals::found(World::settings());
    let mut world = World::new(&hospitals);
    let (author, tertiary) = (world.doctor(11, 4), world.doctor(13, 1));
    let (place, episode) = world.begin_episode(&author);
    let stored = world.store(&author, place, &episode, sections(1), &[STROKE]);
    let (_, request, sealed) = world.ask(&tertiary, &[IMAGING], 1);
    let (handle, salt) = world.patient.inbox();
    let seen = [
        request.as_bytes(),
        handle.as_bytes(),
        &salt,
        &sealed,
        world.patient.inbox_key().as_bytes(),
    ]
    .concat();
    let keys = &episode.keys;
    let secrets: [&[u8]; 8] = [
        episode.pid.expose_bytes(),
        episode.uid.as_bytes(),
        keys.encryption.as_bytes(),
        keys.search.as_bytes(),
        keys.ownership.as_bytes(),
        author.doctor.public_keys().signing.as_bytes(),
        stored.own.transaction.as_bytes(),
        world
            .patient
            .episodes()
            .next()
            .unwrap()
            .1
            .pid
            .expose_bytes(),
    ];
    let holds = |needle: &[u8]| seen.windows(needle.len()).any(|window| window == needle);
    for secret in secrets {
        assert!(!holds(secret));
    }
    // The search would find what is there: the asking doctor's own key.
    assert!(holds(tertiary.doctor.public_keys().signing.as_bytes()));
}
