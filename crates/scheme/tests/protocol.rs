//! Equations (5) to (16) in their order, on one record, from sealing to opening.
#![allow(clippy::unwrap_used)]

mod support;

use scheme::*;
use subtle::ConstantTimeEq;
use support::*;

#[test]
fn a_granted_section_opens_byte_for_byte_and_an_ungranted_one_stays_closed() {
    let mut rng = rng(1);
    let here = consortium();
    let (patient, doctor, hospital) = (Patient::new(1), Doctor::new(2, 7), Hospital::new(3, 7, 0));
    let pid = patient.pid(&doctor, 0);
    let words = [("", 0), ("code|http://snomed.info/sct|230690007", 0)];
    let stored = store(
        &patient,
        &doctor,
        &hospital,
        &pid,
        &words,
        &plaintexts(),
        &mut rng,
    );
    assert!(stored.statement.verify(&here, &stored.signature).is_ok());

    let nodes = Nodes::new(3);
    let reader = Reader::new(0x60);
    let (grant, log_key) = grant(
        &patient,
        &pid,
        &nodes,
        &[&reader],
        2,
        &[IMAGING, LABORATORY],
        hospital.writer,
        &mut rng,
    );
    let bytes = grant.encode(&here);
    let grant = Grant::decode(&here, &bytes).unwrap().verify(&here).unwrap();
    assert_eq!(grant.digest(), sha256(&bytes));

    // Each node opens its part, finds the record by the trapdoor, and opens the locator.
    let parts: Vec<NodePart> = (0..3u8)
        .map(|n| {
            let node = NodeNumber::new(n + 1).unwrap();
            grant
                .open_node_part(&here, node, &nodes.hpke[usize::from(n)])
                .unwrap()
        })
        .collect();
    let trapdoor = &parts[0].reach.trapdoors[0];
    let index_key = trapdoor.trapdoor.index_key(&stored.statement.writer_key);
    let hits = index_key
        .search(&here, 10, |tag| {
            Ok::<_, ()>(
                stored
                    .statement
                    .entries
                    .iter()
                    .find(|entry| entry.tag == *tag)
                    .copied(),
            )
        })
        .unwrap();
    assert_eq!(hits.len(), 1);
    let key = index_key.locator_key(
        &here,
        hits[0].0,
        &stored.statement.owner_key.compressed(),
        &hits[0].1.pad,
    );
    assert!(bool::from(key.ct_eq(&stored.locator_key)));
    let locator = stored
        .statement
        .locator
        .open(&here, &key, &stored.binding())
        .unwrap();
    assert_eq!(locator.address, Address::new([0xad; 32]));
    let episode = stored.statement.owner_key.unblind(&locator.delta).unwrap();
    assert_eq!(&episode, &grant.terms().episode_key);

    // Header, V, shares.
    let (header, length) = Header::decode(&consortium(), &stored.container).unwrap();
    assert_eq!(
        sha256(&stored.container[..length]),
        stored.statement.header_digest
    );
    assert_eq!(header.container_length(), stored.container.len() as u64);
    let header = header.verify().unwrap();
    let doctor_part = grant
        .open_doctor_part(&here, &reader.access.verifying_key(), &reader.hpke)
        .unwrap();
    assert!(bool::from(doctor_part.log_key.ct_eq(&log_key)));
    for (place, expected) in [(0u8, 2usize), (1, 1)] {
        let class = ClassPlace::new(place);
        for pair in [[0, 1], [0, 2], [1, 2], [2, 0]] {
            let shares: Vec<(NodeNumber, ReEncryptedShare)> = pair
                .iter()
                .map(|n| {
                    (
                        parts[*n].node,
                        parts[*n].shares[class.place()].re_encrypt(&header),
                    )
                })
                .collect();
            for (node, share) in &shares {
                let statement = ShareStatement {
                    consortium: &here,
                    gid: &grant.gid(),
                    transaction: &stored.statement.id(&here),
                    header_digest: &stored.statement.header_digest,
                    class,
                    node: *node,
                    share,
                };
                let signing = &nodes.keys[usize::from(node.number()) - 1];
                let signature = statement.sign(&header, signing);
                assert!(
                    statement
                        .verify(&header, &signing.verifying_key(), &signature)
                        .is_ok()
                );
                let proof = parts[usize::from(node.number()) - 1].shares[class.place()]
                    .prove(&statement, &header, &mut rng);
                let proof = ShareProof::from_bytes(&proof.to_bytes()).unwrap();
                assert!(
                    proof
                        .verify(&statement, &header, grant.commitments(class).unwrap())
                        .is_ok()
                );
            }
            let borrowed: Vec<_> = shares.iter().map(|(node, share)| (*node, share)).collect();
            let w = ReEncrypted::combine(grant.terms().threshold, &borrowed).unwrap();
            let u = header.header().encapsulation();
            let secret = w
                .open(&here, &grant.gid(), &doctor_part.seed, class, u)
                .unwrap();
            let index = header
                .header()
                .find(&doctor_part.label_keys[class.place()])
                .unwrap();
            let content = secret.content_key(header.header(), index).unwrap();
            assert_eq!(
                stored.open(index, &content).unwrap(),
                plaintexts()[expected].1
            );
            // The same secret fits no other section.
            for other in header.header().sections().filter(|other| *other != index) {
                assert!(secret.content_key(header.header(), other).is_err());
            }
        }
    }
}

#[test]
fn owner_and_author_open_what_they_own_and_wrote() {
    let mut rng = rng(2);
    let here = consortium();
    let (patient, doctor, hospital) = (Patient::new(1), Doctor::new(2, 7), Hospital::new(3, 7, 0));
    let pid = patient.pid(&doctor, 0);
    let stored = store(
        &patient,
        &doctor,
        &hospital,
        &pid,
        &[("", 0)],
        &plaintexts(),
        &mut rng,
    );
    for (class, plain) in plaintexts() {
        let index = stored
            .header
            .find(&ClassLabelKey::derive(&here, &pid, class))
            .unwrap();
        let u = stored.header.encapsulation();
        let owner = SectionSecret::of_owner(&here, &patient.keys.encryption, &pid, class, u);
        let author = SectionSecret::of_author(
            &stored.header,
            &doctor.sealing,
            &patient.keys.encryption.public_key(),
            &pid,
            class,
        )
        .unwrap();
        for secret in [owner, author] {
            let key = secret.content_key(&stored.header, index).unwrap();
            assert_eq!(stored.open(index, &key).unwrap(), plain);
        }
    }
}

#[test]
fn sections_of_every_awkward_length_come_back() {
    let mut rng = rng(3);
    let here = consortium();
    let (patient, doctor) = (Patient::new(1), Doctor::new(2, 7));
    let pid = patient.pid(&doctor, 0);
    for length in [
        0,
        1,
        7,
        8,
        CHUNK_BYTES - 9,
        CHUNK_BYTES - 8,
        CHUNK_BYTES - 7,
        CHUNK_BYTES,
        3 * CHUNK_BYTES,
        777_777,
    ] {
        let plain = vec![0xab; length];
        let sections = [(IMAGING, plain.clone())];
        let (header, container) = seal(
            &doctor,
            &patient.keys.encryption.public_key(),
            &pid,
            &sections,
            &mut rng,
        );
        assert_eq!(container.len() as u64, header.container_length());
        assert!(container.len() < length + length / 8 + 4096);
        let index = header.sections().next().unwrap();
        let secret = SectionSecret::of_owner(
            &here,
            &patient.keys.encryption,
            &pid,
            IMAGING,
            header.encapsulation(),
        );
        let key = secret.content_key(&header, index).unwrap();
        assert_eq!(
            open_section(&container, &header, index, &key).unwrap(),
            plain
        );
        // Cut anywhere, it is refused and not merely short.
        for cut in [
            container.len() - 1,
            container.len() - 17,
            header.payload_offset(index) as usize,
        ] {
            assert!(matches!(
                open_section(&container[..cut], &header, index, &key),
                Err(OpenError::CutShort { .. } | OpenError::Altered { .. })
            ));
        }
    }
}

#[test]
fn an_agent_grants_with_what_the_appointment_gave() {
    let mut rng = rng(4);
    let here = consortium();
    let (patient, doctor, hospital) = (Patient::new(1), Doctor::new(2, 7), Hospital::new(3, 7, 0));
    let pid = patient.pid(&doctor, 0);
    let episode = EpisodeSigningKey::derive(&here, &patient.keys.ownership, &pid).unwrap();
    let agent = AgentKey::random(&mut rng);
    let withdrawal = SigningKey::from_seed([0x44; 32]);
    let appointment = Appointment::make(
        &here,
        &episode,
        AppointmentTerms {
            agent: agent.verifying_key(),
            id: AppointmentId::of(&here, &withdrawal.verifying_key()),
            end: Timestamp::new(1_800_000_000_000),
            scope: vec![IMAGING],
        },
    )
    .unwrap();
    let appointment = Appointment::decode(&here, &appointment.encode(&here)).unwrap();
    assert!(appointment.is_signed_by_owner(&here));

    // The agent holds the condition key of its scope as bytes, and never a.
    let condition =
        ConditionKey::derive(&here, &patient.keys.encryption, &pid, IMAGING).expose_bytes();
    let classes = [GrantedClass {
        condition: ConditionKey::from_bytes(&condition).unwrap(),
        label_key: ClassLabelKey::derive(&here, &pid, IMAGING),
    }];
    let nodes = Nodes::new(3);
    let reader = Reader::new(0x60);
    let (grant, _) = Grant::make(
        &here,
        terms(&patient, &pid, &nodes, &[&reader], 2),
        &classes,
        &reach(&patient, &pid, hospital.writer, ""),
        &Granter::Agent(&agent, &appointment),
        &mut rng,
    )
    .unwrap();
    let grant = Grant::decode(&here, &grant.encode(&here))
        .unwrap()
        .verify(&here)
        .unwrap();
    assert_eq!(grant.appointment(), Some(&appointment));

    let stored = store(
        &patient,
        &doctor,
        &hospital,
        &pid,
        &[("", 0)],
        &plaintexts(),
        &mut rng,
    );
    let header = stored.header.clone().verify().unwrap();
    let shares: Vec<_> = [1u8, 3]
        .iter()
        .map(|n| {
            let node = NodeNumber::new(*n).unwrap();
            let part = grant
                .open_node_part(&here, node, &nodes.hpke[usize::from(*n) - 1])
                .unwrap();
            (node, part.shares[0].re_encrypt(&header))
        })
        .collect();
    let borrowed: Vec<_> = shares.iter().map(|(node, share)| (*node, share)).collect();
    let w = ReEncrypted::combine(grant.terms().threshold, &borrowed).unwrap();
    let part = grant
        .open_doctor_part(&here, &reader.access.verifying_key(), &reader.hpke)
        .unwrap();
    let secret = w
        .open(
            &here,
            &grant.gid(),
            &part.seed,
            ClassPlace::new(0),
            stored.header.encapsulation(),
        )
        .unwrap();
    let index = stored.header.find(&part.label_keys[0]).unwrap();
    let key = secret.content_key(&stored.header, index).unwrap();
    assert_eq!(stored.open(index, &key).unwrap(), plaintexts()[2].1);
}

#[test]
fn proofs_of_possession_stand_for_their_key_and_subject_only() {
    let here = consortium();
    let (one, two) = (Patient::new(1).keys, Patient::new(2).keys);
    let (ann, bob) = (Subject::new(1), Subject::new(2));
    let proof = one.encryption.prove_possession(&here, ann);
    assert!(verify_encryption_key(&here, ann, &one.encryption.public_key(), &proof).is_ok());
    assert!(verify_encryption_key(&here, bob, &one.encryption.public_key(), &proof).is_err());
    assert!(verify_encryption_key(&here, ann, &two.encryption.public_key(), &proof).is_err());
    let proof = one.search.prove_possession(&here, ann);
    assert!(verify_search_key(&here, ann, &one.search.public_key(), &proof).is_ok());
    let crossed = OwnershipPublicKey::from_bytes(one.search.public_key().as_bytes()).unwrap();
    assert!(verify_ownership_key(&here, ann, &crossed, &proof).is_err());

    let y = WriterEpochKey::random(&mut rng(5));
    let (place, epoch) = (InstitutionId::new(7), WriterEpoch::new(0));
    let proof = y.prove_possession(&here, place, epoch, &mut rng(6));
    let proof = WriterEpochProof::from_bytes(&proof.to_bytes());
    assert!(proof.verify(&here, place, epoch, &y.public_key()).is_ok());
    assert!(
        proof
            .verify(&here, InstitutionId::new(8), epoch, &y.public_key())
            .is_err()
    );
    assert!(
        proof
            .verify(&here, place, WriterEpoch::new(1), &y.public_key())
            .is_err()
    );
    let other = WriterEpochKey::random(&mut rng(7));
    assert!(
        proof
            .verify(&here, place, epoch, &other.public_key())
            .is_err()
    );
    assert!(
        WriterEpochProof::from_bytes(&[0; 64])
            .verify(&here, place, epoch, &y.public_key())
            .is_err()
    );
}
