//! Properties that hold for all inputs: what is sealed comes back, what is altered or cut is refused,
//! and nothing that comes from outside makes a decoder panic.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use scheme::*;
use support::*;

/// One small record, its grant with an appointment's twin, and a proof: made once, altered often.
struct World {
    patient: Patient,
    pid: Pid,
    stored: Stored,
    nodes: Nodes,
    reader: Reader,
    grant: Vec<u8>,
    appointment: Vec<u8>,
    proof: Vec<u8>,
    sealed: Vec<u8>,
}

const GRANTED: [ClassCode; 1] = [IMAGING];

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let here = consortium();
    let mut rng = rng(1);
    let (patient, doctor, hospital) = (Patient::new(1), Doctor::new(2, 7), Hospital::new(3, 7, 0));
    let pid = patient.pid(&doctor, 0);
    let sections = [
        (HOMEPAGE, b"name and address".to_vec()),
        (LABORATORY, Vec::new()),
        (IMAGING, vec![0x5c; 300]),
    ];
    let stored = store(
        &patient,
        &doctor,
        &hospital,
        &pid,
        &[("", 0)],
        &sections,
        &mut rng,
    );
    let (nodes, reader) = (Nodes::new(3), Reader::new(0x60));
    let (grant, _) = grant(
        &patient,
        &pid,
        &nodes,
        &[&reader],
        2,
        &GRANTED,
        hospital.writer,
        &mut rng,
    );
    let episode = EpisodeSigningKey::derive(&here, &patient.keys.ownership, &pid).unwrap();
    let appointment = Appointment::make(&here, &episode, appointment_terms(3, 7)).unwrap();
    let sealed = reader
        .hpke
        .public_key()
        .seal(Purpose::Reply, &here, b"gid", b"a message", &mut rng)
        .unwrap();
    let mut world = World {
        patient,
        pid,
        stored,
        nodes,
        reader,
        grant: grant.encode(&here),
        appointment: appointment.encode(&here),
        proof: Vec::new(),
        sealed,
    };
    let (header, parts) = (world.header(), world.part(1));
    let share = parts.shares[0].re_encrypt(&header);
    world.proof = world.with_statement(&share, |statement| {
        parts.shares[0]
            .prove(statement, &header, &mut rng)
            .to_bytes()
    });
    world
});

impl World {
    fn header(&self) -> VerifiedHeader {
        self.stored.header.clone().verify().unwrap()
    }

    fn verified(&self) -> VerifiedGrant {
        verified_grant(&self.grant).unwrap()
    }

    fn part(&self, m: u8) -> NodePart {
        let key = &self.nodes.hpke[usize::from(m) - 1];
        self.verified()
            .open_node_part(&consortium(), NodeNumber::new(m).unwrap(), key)
            .unwrap()
    }

    fn with_statement<T>(
        &self,
        share: &ReEncryptedShare,
        then: impl FnOnce(&ShareStatement<'_>) -> T,
    ) -> T {
        then(&ShareStatement {
            consortium: &consortium(),
            gid: &self.verified().gid(),
            transaction: &self.stored.statement.id(&consortium()),
            header_digest: &self.stored.statement.header_digest,
            class: ClassPlace::new(0),
            node: NodeNumber::new(1).unwrap(),
            share,
        })
    }

    fn proof_stands(&self, proof: &[u8]) -> bool {
        let header = self.header();
        let share = self.part(1).shares[0].re_encrypt(&header);
        ShareProof::from_bytes(proof).is_ok_and(|proof| {
            self.with_statement(&share, |statement| {
                let grant = self.verified();
                let commitments = grant.commitments(ClassPlace::new(0)).unwrap();
                proof.verify(statement, &header, commitments).is_ok()
            })
        })
    }

    /// All three sections as the owner reads them, if everything about the container holds.
    fn read(&self, container: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (header, _) = Header::decode(&consortium(), container).ok()?;
        let header = header.verify().ok()?;
        let header = header.header();
        if container.len() as u64 != header.container_length() {
            return None;
        }
        [HOMEPAGE, LABORATORY, IMAGING]
            .iter()
            .map(|class| read_section(&self.patient, &self.pid, *class, header, container))
            .collect()
    }
}

fn read_section(
    patient: &Patient,
    pid: &Pid,
    class: ClassCode,
    header: &Header,
    container: &[u8],
) -> Option<Vec<u8>> {
    let index = header.find(&ClassLabelKey::derive(&consortium(), pid, class))?;
    let u = header.encapsulation();
    let secret = SectionSecret::of_owner(&consortium(), &patient.keys.encryption, pid, class, u);
    let key = secret.content_key(header, index).ok()?;
    open_section(container, header, index, &key).ok()
}

fn verified_grant(bytes: &[u8]) -> Option<VerifiedGrant> {
    Grant::decode(&consortium(), bytes)
        .ok()?
        .verify(&consortium())
        .ok()
}

fn appointment_stands(bytes: &[u8]) -> bool {
    Appointment::decode(&consortium(), bytes)
        .is_ok_and(|appointment| appointment.is_signed_by_owner(&consortium()))
}

fn appointment_terms(classes: u8, end: u64) -> AppointmentTerms {
    AppointmentTerms {
        agent: SigningKey::from_seed([0x41; 32]).verifying_key(),
        id: AppointmentId::new([0x42; 32]),
        end: Timestamp::new(end),
        scope: (0..classes).map(ClassCode::new).collect(),
    }
}

/// The bytes with one bit turned over, at a place that is given as a fraction.
fn flipped(bytes: &[u8], place: prop::sample::Index, bit: u8) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out[place.index(bytes.len())] ^= 1 << bit;
    out
}

/// Lengths around those at which padding, chunks or the length field matter, and any others.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        3 => 0..2_000usize,
        1 => (CHUNK_BYTES - 20)..(CHUNK_BYTES + 20),
        1 => 0..300_000usize,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_sealed_comes_back_however_it_is_split(
        lengths in btree_map(any::<u8>(), length(), 1..5),
        pieces in (1..70_000usize, 1..70_000usize),
        seed: u8,
    ) {
        let here = consortium();
        let (patient, doctor) = (Patient::new(1), Doctor::new(2, 7));
        let pid = patient.pid(&doctor, 0);
        let owner = patient.keys.encryption.public_key();
        let plans: Vec<SectionPlan> = lengths
            .iter()
            .map(|(class, length)| SectionPlan {
                class: ClassCode::new(*class),
                length: *length as u64,
            })
            .collect();
        let plain = |class: ClassCode, length: u64| -> Vec<u8> {
            (0..length).map(|at| (at % 253) as u8 ^ class.code()).collect()
        };
        let mut rng = rng(seed);
        let sealing =
            Sealing::new(&here, &doctor.author(), &owner, &pid, &plans, &mut rng).unwrap();
        let mut container = sealing.header().encode();
        for (place, plan) in sealing.order().iter().enumerate() {
            let mut sealer = sealing.section(place).unwrap();
            for piece in plain(plan.class, plan.length).chunks(pieces.0) {
                sealer.update(piece, &mut container).unwrap();
            }
            sealer.finish(&mut container).unwrap();
        }
        let (header, length) = Header::decode(&consortium(), &container).unwrap();
        prop_assert_eq!(&container[..length], header.encode());
        prop_assert_eq!(header.container_length(), container.len() as u64);
        let header = header.verify().unwrap();
        for plan in &plans {
            let header = header.header();
            let label_key = ClassLabelKey::derive(&here, &pid, plan.class);
            let index = header.find(&label_key).unwrap();
            let author =
                SectionSecret::of_author(header, &doctor.sealing, &owner, &pid, plan.class).unwrap();
            let key = author.content_key(header, index).unwrap();
            let start = header.payload_offset(index) as usize;
            let end = start + header.payload_length(index) as usize;
            let mut opener = SectionOpener::new(header, index, &key);
            let mut out = Vec::new();
            for piece in container[start..end].chunks(pieces.1) {
                opener.update(piece, &mut out).unwrap();
            }
            prop_assert_eq!(opener.finish().unwrap(), plan.length);
            prop_assert_eq!(&out, &plain(plan.class, plan.length));
            let read = read_section(&patient, &pid, plan.class, header, &container);
            prop_assert_eq!(read, Some(out));
        }
    }

    #[test]
    fn more_or_fewer_bytes_than_planned_are_refused(planned in 0..5_000u64, came in 0..5_000usize) {
        prop_assume!(planned != came as u64);
        let world = &*WORLD;
        let plans = [SectionPlan { class: IMAGING, length: planned }];
        let doctor = Doctor::new(2, 7);
        let owner = world.patient.keys.encryption.public_key();
        let sealing =
            Sealing::new(&consortium(), &doctor.author(), &owner, &world.pid, &plans, &mut rng(3))
                .unwrap();
        let mut sealer = sealing.section(0).unwrap();
        // What broke off is not begun again under the same key and nonces.
        prop_assert!(sealing.section(0).is_none() && sealing.section(1).is_none());
        let mut out = Vec::new();
        let result = sealer
            .update(&vec![7; came], &mut out)
            .and_then(|()| sealer.finish(&mut out));
        let refused = matches!(result, Err(SealError::LengthChanged { .. }));
        prop_assert!(refused);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_container_with_any_bit_turned_over_is_refused(place: prop::sample::Index, bit in 0..8u8) {
        let world = &*WORLD;
        prop_assert_eq!(world.read(&flipped(&world.stored.container, place, bit)), None);
    }

    #[test]
    fn a_grant_with_any_bit_turned_over_is_refused(place: prop::sample::Index, bit in 0..8u8) {
        prop_assert!(verified_grant(&flipped(&WORLD.grant, place, bit)).is_none());
    }

    #[test]
    fn an_appointment_with_any_bit_turned_over_is_refused(place: prop::sample::Index, bit in 0..8u8) {
        prop_assert!(!appointment_stands(&flipped(&WORLD.appointment, place, bit)));
    }

    #[test]
    fn a_sealed_message_with_any_bit_turned_over_does_not_open(
        place: prop::sample::Index,
        bit in 0..8u8,
    ) {
        let sealed = flipped(&WORLD.sealed, place, bit);
        let open = |sealed: &[u8]| WORLD.reader.hpke.open(Purpose::Reply, &consortium(), b"gid", sealed);
        prop_assert!(open(&WORLD.sealed).is_ok());
        // X25519 ignores the top bit of the encapsulated key, which is why HPKE hashes its bytes.
        prop_assert!(open(&sealed).is_err());
    }

    #[test]
    fn a_locator_with_any_bit_turned_over_does_not_open(place: prop::sample::Index, bit in 0..8u8) {
        let stored = &WORLD.stored;
        let bytes = flipped(stored.statement.locator.as_bytes(), place, bit);
        let open = |locator: SealedLocator| {
            locator.open(&consortium(), &stored.locator_key, &stored.binding())
        };
        prop_assert!(open(stored.statement.locator).is_ok());
        prop_assert!(open(SealedLocator::new(bytes.try_into().unwrap())).is_err());
    }

    #[test]
    fn a_record_signature_with_any_bit_turned_over_falls(place: prop::sample::Index, bit in 0..8u8) {
        let stored = &WORLD.stored;
        let bytes = flipped(stored.signature.as_bytes(), place, bit);
        let altered = Signature::new(bytes.try_into().unwrap());
        prop_assert!(stored.statement.verify(&consortium(), &stored.signature).is_ok());
        prop_assert!(stored.statement.verify(&consortium(), &altered).is_err());
    }

    #[test]
    fn a_search_finds_exactly_the_positions_with_gaps_below_eight(
        gaps in vec(0..ALLOCATION_WINDOW, 0..12),
        wide in ALLOCATION_WINDOW..40,
    ) {
        let here = consortium();
        let key = index_key("modality|CT");
        let mut positions = Vec::new();
        let mut next = 0;
        for gap in &gaps {
            positions.push(next + gap);
            next += gap + 1;
        }
        let search = |positions: &[u64], limit| -> Vec<u64> {
            let tags: Vec<Tag> = positions
                .iter()
                .map(|position| key.tag(&here, Position::new(*position)))
                .collect();
            key.search(&here, limit, |tag| {
                Ok::<_, ()>(tags.iter().position(|other| other == tag))
            })
            .unwrap()
            .into_iter()
            .map(|(position, _)| position.number())
            .collect()
        };
        prop_assert_eq!(search(&positions, 64), positions.clone());
        prop_assert_eq!(&search(&positions, 3), &positions[..positions.len().min(3)]);
        // Behind a gap of eight or more nothing is found, and a search ends.
        let mut behind = positions.clone();
        behind.push(next + wide);
        prop_assert_eq!(search(&behind, 64), positions);
        // A look-up that fails ends it with its error.
        prop_assert_eq!(key.search(&here, 64, |_| Err::<Option<()>, _>("down")), Err("down"));
    }

    #[test]
    fn an_entry_gives_its_locator_key_at_its_own_place_only(
        position: u64,
        other: u64,
        lk: [u8; 16],
    ) {
        prop_assume!(position != other);
        let here = consortium();
        let key = index_key("modality|MR");
        let owner = &WORLD.stored.statement.owner_key.compressed();
        let entry = key.entry(&here, Position::new(position), owner, &LocatorKey::from_bytes(lk));
        let read = |at| *key.locator_key(&here, Position::new(at), owner, &entry.pad).expose_bytes();
        prop_assert_eq!(read(position), lk);
        prop_assert_ne!(read(other), lk);
        prop_assert_ne!(key.tag(&here, Position::new(other)), entry.tag);
    }

    #[test]
    fn entries_are_padded_to_eights_and_sorted(count in 0..40usize, seed: u8) {
        let mut rng = rng(seed);
        let key = index_key("");
        let owner = &WORLD.stored.statement.owner_key.compressed();
        let made: Vec<Entry> = (0..count as u64)
            .map(|at| {
                let lk = LocatorKey::random(&mut rng);
                key.entry(&consortium(), Position::new(at), owner, &lk)
            })
            .collect();
        let mut padded = made.clone();
        pad_entries(&mut padded, &mut rng);
        prop_assert_eq!(padded.len(), count.div_ceil(ENTRIES_MULTIPLE).max(1) * ENTRIES_MULTIPLE);
        prop_assert!(padded.windows(2).all(|pair| pair[0].tag < pair[1].tag));
        prop_assert!(made.iter().all(|entry| padded.contains(entry)));
    }

    #[test]
    fn pseudonyms_are_distinct(
        places in vec((0..4u32, 0..4u64, 0..3u8, 0..4u64), 2..20),
    ) {
        let here = consortium();
        let keys = &WORLD.patient.keys;
        let distinct: BTreeSet<_> = places.iter().collect();
        let pids: BTreeSet<[u8; 32]> = places
            .iter()
            .map(|(institution, doctor, uid, episode)| {
                let (institution, doctor) =
                    (InstitutionId::new(*institution), DoctorId::new(*doctor));
                let uid = Uid::new(&[b'0' + uid]).unwrap();
                let subkey = keys.symmetric.doctor_subkey(&here, institution, doctor);
                *subkey
                    .pseudonym(&here, &uid, EpisodeNumber::new(*episode))
                    .expose_bytes()
            })
            .collect();
        prop_assert_eq!(pids.len(), distinct.len());
    }

    #[test]
    fn an_owner_key_gives_its_episode_key_with_its_own_delta_only(seed: u8, other: u8) {
        prop_assume!(seed != other);
        let episode = WORLD.patient.episode_key(&WORLD.pid);
        let delta = Delta::random(&mut rng(seed));
        let blinded = episode.blind(&delta).unwrap();
        prop_assert_eq!(&blinded.unblind(&delta).unwrap(), &episode);
        let wrong = Delta::random(&mut rng(other));
        prop_assert_ne!(&blinded.unblind(&wrong).unwrap(), &episode);
        let bytes = delta.expose_bytes();
        let again = Delta::from_bytes(&bytes).unwrap();
        prop_assert_eq!(*again.expose_bytes(), *bytes);
    }

    #[test]
    fn a_log_entry_is_read_back_and_hides_what_it_says(
        g: [u8; 32],
        access: [u8; 32],
        count: u64,
        salt: [u8; 16],
        id: [u8; 32],
    ) {
        let (key, access) = (LogKey::from_bytes(g), VerifyingKey::new(access));
        let mask = |value: &Digest| key.mask(&consortium(), &access, count, &salt, value);
        let id = Digest::new(id);
        prop_assert_ne!(mask(&id), id);
        prop_assert_eq!(mask(&mask(&id)), id);
    }
}

fn index_key(word: &str) -> IndexKey {
    let hospital = Hospital::new(3, 7, 0);
    Trapdoor::generate(
        &consortium(),
        &WORLD.patient.keys.search,
        &WORLD.pid,
        hospital.writer,
        &keyword(word),
    )
    .index_key(&hospital.y.public_key())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_share_proof_with_any_bit_turned_over_is_refused(place: prop::sample::Index, bit in 0..8u8) {
        prop_assert!(!WORLD.proof_stands(&flipped(&WORLD.proof, place, bit)));
    }

    #[test]
    fn a_proof_of_y_with_any_bit_turned_over_is_refused(place: prop::sample::Index, bit in 0..8u8) {
        let (here, hospital) = (consortium(), Hospital::new(3, 7, 0));
        let Writer { institution, epoch } = hospital.writer;
        let proof = hospital.y.prove_possession(&here, institution, epoch, &mut rng(4));
        let stands = |bytes: [u8; 64]| {
            let key = hospital.y.public_key();
            WriterEpochProof::from_bytes(&bytes).verify(&here, institution, epoch, &key).is_ok()
        };
        prop_assert!(stands(proof.to_bytes()));
        let altered = flipped(&proof.to_bytes(), place, bit);
        prop_assert!(!stands(altered.try_into().unwrap()));
    }

    #[test]
    fn the_server_evaluates_any_keywords_as_the_patient_does(
        words in vec("[ -~]{0,40}", 1..6),
        seed: u8,
    ) {
        let (here, hospital) = (consortium(), Hospital::new(3, 7, 0));
        let mut rng = rng(seed);
        let world = &*WORLD;
        let blindings: Vec<KeywordBlinding> = words
            .iter()
            .map(|word| {
                KeywordBlinding::new(&here, &world.pid, hospital.writer, &keyword(word), &mut rng)
            })
            .collect();
        let raised: Vec<RaisedKeyword> =
            blindings.iter().map(|blinding| hospital.y.raise(&blinding.blinded())).collect();
        let points = unblind(&blindings, &raised, &hospital.y.public_key(), &mut rng).unwrap();
        for (word, point) in words.iter().zip(&points) {
            let of_author = point.index_key(&world.patient.keys.search.public_key());
            let tag = |key: &IndexKey| key.tag(&here, Position::new(0));
            prop_assert_eq!(tag(&of_author), tag(&index_key(word)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_t_of_n_shares_give_the_same_w_and_fewer_do_not(
        (nodes, threshold) in (1..=7u8).prop_flat_map(|nodes| (Just(nodes), 1..=nodes)),
        order in Just((1..=7u8).collect::<Vec<u8>>()).prop_shuffle(),
        again in Just((1..=7u8).collect::<Vec<u8>>()).prop_shuffle(),
        seed: u8,
    ) {
        let here = consortium();
        let world = &*WORLD;
        let header = world.header();
        let condition =
            ConditionKey::derive(&here, &world.patient.keys.encryption, &world.pid, IMAGING);
        let (gid, mask) = (GrantId::new([seed; 32]), MaskSeed::from_bytes([seed; 32]));
        let class = ClassPlace::new(0);
        let key = ReEncryptionKey::generate(&here, &gid, &condition, &mask, class).unwrap();
        let t = Threshold::new(threshold).unwrap();
        let (shares, commitments) = key.share(t, nodes, &mut rng(seed)).unwrap();
        prop_assert_eq!(shares.len(), usize::from(nodes));
        prop_assert_eq!(commitments.threshold(), t.count());
        let given: Vec<ReEncryptedShare> =
            shares.iter().map(|share| share.re_encrypt(&header)).collect();
        let of = |order: &[u8], count: usize| -> Vec<(NodeNumber, &ReEncryptedShare)> {
            order
                .iter()
                .filter(|m| **m <= nodes)
                .take(count)
                .map(|m| (NodeNumber::new(*m).unwrap(), &given[usize::from(*m) - 1]))
                .collect()
        };
        let w = ReEncrypted::combine(t, &of(&order, t.count())).unwrap();
        prop_assert_eq!(&ReEncrypted::combine(t, &of(&again, t.count())).unwrap(), &w);
        let mut reversed = of(&order, t.count());
        reversed.reverse();
        prop_assert_eq!(&ReEncrypted::combine(t, &reversed).unwrap(), &w);
        // More than t are as good as t.
        prop_assert_eq!(&ReEncrypted::combine(t, &of(&order, 7)).unwrap(), &w);
        let u = header.header().encapsulation();
        let index = header.header().find(&ClassLabelKey::derive(&here, &world.pid, IMAGING));
        let secret = w.open(&here, &gid, &mask, class, u).unwrap();
        prop_assert!(secret.content_key(header.header(), index.unwrap()).is_ok());

        let fewer = of(&order, t.count() - 1);
        let (came, needed) = (fewer.len(), t.count());
        prop_assert_eq!(
            ReEncrypted::combine(t, &fewer),
            Err(CombineError::TooFew { came, needed })
        );
        if let Some(less) = Threshold::new(threshold - 1) {
            prop_assert_ne!(&ReEncrypted::combine(less, &fewer).unwrap(), &w);
        }
        // Each share fits its own commitment and no other's.
        for (place, share) in shares.iter().enumerate() {
            let m = place as u8 + 1;
            for claimed in [m, m % nodes + 1] {
                let unchecked = UncheckedShare::from_bytes(&share.expose_bytes()).unwrap();
                let fits = unchecked.verify(NodeNumber::new(claimed).unwrap(), &commitments).is_ok();
                // With t = 1 all nodes hold the key itself.
                prop_assert_eq!(fits, claimed == m || threshold == 1);
            }
        }
        let encoded = commitments.to_bytes();
        prop_assert_eq!(Commitments::from_bytes(&encoded).unwrap(), commitments);
    }

    #[test]
    fn grants_of_every_shape_come_back_and_open(
        nodes in 1..5u8,
        readers in 1..4u8,
        classes in btree_map(any::<u8>(), Just(()), 1..3),
        request in vec(any::<u8>(), 0..300),
        times: [u64; 3],
        entries in vec((any::<[u32; 2]>(), any::<[u8; 16]>(), any::<[u8; 16]>()), 0..5),
        seed: u8,
    ) {
        let here = consortium();
        let world = &*WORLD;
        let (nodes, threshold) = (Nodes::new(nodes), nodes.div_ceil(2));
        let readers: Vec<Reader> = (0..readers).map(|n| Reader::new(0x60 + 2 * n)).collect();
        let borrowed: Vec<&Reader> = readers.iter().collect();
        let mut terms = terms(&world.patient, &world.pid, &nodes, &borrowed, threshold);
        terms.request = request;
        terms.not_before = Timestamp::new(times[0]);
        terms.expiry = Timestamp::new(times[1]);
        terms.validator_epoch = ValidatorEpoch::new(times[2]);
        let classes: Vec<ClassCode> = classes.keys().map(|code| ClassCode::new(*code)).collect();
        let mut reach = reach(&world.patient, &world.pid, Hospital::new(3, 7, 0).writer, "");
        for ([institution, epoch], tag, lk) in &entries {
            reach.entries.push(ExplicitEntry {
                writer: Writer {
                    institution: InstitutionId::new(*institution),
                    epoch: WriterEpoch::new(*epoch),
                },
                tag: Tag::new(*tag),
                locator_key: LocatorKey::from_bytes(*lk),
            });
        }
        let key = EpisodeSigningKey::derive(&here, &world.patient.keys.ownership, &world.pid).unwrap();
        let (made, log_key) = Grant::make(
            &here,
            terms.clone(),
            &granted(&world.patient, &world.pid, &classes),
            &reach,
            &Granter::Patient(&key),
            &mut rng(seed),
        )
        .unwrap();
        let bytes = made.encode(&here);
        let decoded = Grant::decode(&here, &bytes).unwrap();
        prop_assert_eq!(&decoded, &made);
        prop_assert_eq!(&decoded.encode(&here), &bytes);
        let verified = decoded.verify(&here).unwrap();
        prop_assert_eq!(verified.digest(), sha256(&bytes));
        prop_assert_eq!(verified.terms(), &terms);
        prop_assert_eq!(verified.class_count(), classes.len());
        for (place, hpke) in nodes.hpke.iter().enumerate() {
            let node = NodeNumber::new(place as u8 + 1).unwrap();
            let part = verified.open_node_part(&here, node, hpke).unwrap();
            prop_assert_eq!(part.shares.len(), classes.len());
            prop_assert_eq!(part.log_key.expose_bytes(), log_key.expose_bytes());
            prop_assert_eq!(part.reach.trapdoors.len(), 1);
            prop_assert_eq!(part.reach.entries.len(), entries.len());
            for (found, ([institution, epoch], tag, lk)) in part.reach.entries.iter().zip(&entries) {
                prop_assert_eq!(found.writer.institution.number(), *institution);
                prop_assert_eq!(found.writer.epoch.number(), *epoch);
                prop_assert_eq!(found.tag.as_bytes(), tag);
                prop_assert_eq!(found.locator_key.expose_bytes(), lk);
            }
        }
        for reader in &readers {
            let access = reader.access.verifying_key();
            let part = verified.open_doctor_part(&here, &access, &reader.hpke).unwrap();
            for (class, label_key) in classes.iter().zip(&part.label_keys) {
                let expected = ClassLabelKey::derive(&here, &world.pid, *class);
                prop_assert_eq!(label_key.expose_bytes(), expected.expose_bytes());
            }
        }
    }

    #[test]
    fn appointments_of_every_shape_come_back(classes in 1..=32u8, end: u64) {
        let here = consortium();
        let world = &*WORLD;
        let key = EpisodeSigningKey::derive(&here, &world.patient.keys.ownership, &world.pid).unwrap();
        let terms = appointment_terms(classes, end);
        let made = Appointment::make(&here, &key, terms.clone()).unwrap();
        let bytes = made.encode(&here);
        let decoded = Appointment::decode(&here, &bytes).unwrap();
        prop_assert_eq!(&decoded, &made);
        prop_assert_eq!(decoded.terms(), &terms);
        prop_assert!(decoded.is_signed_by_owner(&here));
        prop_assert_eq!(decoded.encode(&here), bytes);
    }
}

#[test]
fn what_is_cut_at_any_length_is_refused() {
    let world = &*WORLD;
    assert!(world.read(&world.stored.container).is_some());
    for length in 0..world.stored.container.len() {
        assert_eq!(world.read(&world.stored.container[..length]), None);
    }
    let mut longer = world.stored.container.clone();
    longer.push(0);
    assert_eq!(world.read(&longer), None);

    assert!(verified_grant(&world.grant).is_some());
    assert!(appointment_stands(&world.appointment));
    assert!(world.proof_stands(&world.proof));
    assert!(opens(&world.sealed));
    let here = consortium();
    for (whole, decodes) in [
        (
            &world.grant,
            (|bytes| Grant::decode(&consortium(), bytes).is_ok()) as fn(&[u8]) -> bool,
        ),
        (&world.appointment, |bytes| {
            Appointment::decode(&consortium(), bytes).is_ok()
        }),
        (&world.proof, |bytes| ShareProof::from_bytes(bytes).is_ok()),
        (&world.sealed, opens),
    ] {
        for length in 0..whole.len() {
            assert!(!decodes(&whole[..length]), "cut at {length}");
        }
        assert!(!decodes(&[whole.as_slice(), &[0]].concat()));
    }
    // Nothing decodes in another consortium either.
    let elsewhere = ConsortiumId::new([1; 32]);
    assert_ne!(elsewhere, here);
    assert!(Grant::decode(&elsewhere, &world.grant).is_err());
    assert!(Appointment::decode(&elsewhere, &world.appointment).is_err());
}

fn opens(sealed: &[u8]) -> bool {
    WORLD
        .reader
        .hpke
        .open(Purpose::Reply, &consortium(), b"gid", sealed)
        .is_ok()
}

/// What the decoders take, and whether they take it as it stands: bytes that decode encode again to
/// themselves, so nothing has two encodings.
fn decode_everything(bytes: &[u8]) -> Result<(), TestCaseError> {
    let here = consortium();
    if let Ok((header, length)) = Header::decode(&consortium(), bytes) {
        prop_assert_eq!(&header.encode(), &bytes[..length]);
        let _ = header.container_length();
        let _ = header.verify();
    }
    if let Ok(grant) = Grant::decode(&here, bytes) {
        prop_assert_eq!(&grant.encode(&here), bytes);
        let _ = grant.verify(&here);
    }
    if let Ok(appointment) = Appointment::decode(&here, bytes) {
        prop_assert_eq!(&appointment.encode(&here), bytes);
        let _ = appointment.is_signed_by_owner(&here);
    }
    if let Ok(proof) = ShareProof::from_bytes(bytes) {
        prop_assert_eq!(&proof.to_bytes(), bytes);
    }
    let hpke = &WORLD.reader.hpke;
    prop_assert!(
        hpke.open(Purpose::Reply, &here, b"another gid", bytes)
            .is_err()
    );
    if let Ok(word) = Keyword::new(bytes) {
        prop_assert_eq!(word.as_bytes(), bytes);
    }
    if let Ok(uid) = Uid::new(bytes) {
        prop_assert_eq!(uid.as_bytes(), bytes);
    }
    let mut opener = {
        let world = &*WORLD;
        let header = &world.stored.header;
        let class = ClassLabelKey::derive(&here, &world.pid, IMAGING);
        let index = header.find(&class).unwrap();
        let u = header.encapsulation();
        let secret = SectionSecret::of_owner(
            &here,
            &world.patient.keys.encryption,
            &world.pid,
            IMAGING,
            u,
        );
        SectionOpener::new(header, index, &secret.content_key(header, index).unwrap())
    };
    let mut out = Vec::new();
    let opened = opener.update(bytes, &mut out);
    prop_assert!(opened.is_err() || opener.finish().is_err());
    prop_assert!(out.is_empty());
    Ok(())
}

/// The decoders of fixed lengths.
fn decode_fixed(bytes: &[u8; 576]) -> Result<(), TestCaseError> {
    let here = consortium();
    let g1: &[u8; 48] = bytes[..48].try_into().unwrap();
    let g2: &[u8; 96] = bytes[..96].try_into().unwrap();
    let half: &[u8; 32] = bytes[..32].try_into().unwrap();
    let two: &[u8; 64] = bytes[..64].try_into().unwrap();
    if let Ok(point) = BlsSignature::from_bytes(g1) {
        prop_assert_eq!(point.as_bytes(), g1);
    }
    prop_assert_eq!(
        BlindedKeyword::from_bytes(g1).is_ok(),
        Trapdoor::from_bytes(g1).is_ok()
    );
    prop_assert_eq!(
        RaisedKeyword::from_bytes(g1).is_ok(),
        ConditionKey::from_bytes(g1).is_ok()
    );
    prop_assert_eq!(
        BlsPoint::from_bytes(g1).is_ok(),
        UncheckedShare::from_bytes(g1).is_ok()
    );
    if let Ok(point) = EncryptionPublicKey::from_bytes(g2) {
        prop_assert_eq!(point.as_bytes(), g2);
    }
    prop_assert_eq!(
        SearchPublicKey::from_bytes(g2).is_ok(),
        OwnerKey::from_bytes(g2).is_ok()
    );
    prop_assert_eq!(
        OwnershipPublicKey::from_bytes(g2).is_ok(),
        EpisodeKey::from_bytes(g2).is_ok()
    );
    prop_assert_eq!(
        WriterEpochPublicKey::from_bytes(g2).is_ok(),
        Encapsulation::from_bytes(g2).is_ok()
    );
    if let Ok(share) = ReEncryptedShare::from_bytes(bytes) {
        prop_assert_eq!(&share.to_bytes(), bytes);
    }
    if let Ok(commitments) = Commitments::from_bytes(&[*bytes]) {
        prop_assert_eq!(commitments.to_bytes(), vec![*bytes]);
    }
    if let Ok(delta) = Delta::from_bytes(half) {
        prop_assert_eq!(&*delta.expose_bytes(), half);
    }
    if let Ok(y) = WriterEpochKey::from_bytes(half) {
        prop_assert_eq!(&*y.expose_bytes(), half);
    }
    if let Ok(key) = HpkePrivateKey::from_bytes(*half) {
        prop_assert_eq!(key.expose_bytes(), half);
    }
    let _ = HpkePublicKey::new(*half).seal(Purpose::Reply, &here, b"", b"x", &mut rng(5));
    let signature = Signature::new(*two);
    let key = VerifyingKey::new(*half);
    prop_assert!(key.verify(Context::Record, &here, &[], &signature).is_err());
    let y = Hospital::new(3, 7, 0);
    prop_assert!(
        WriterEpochProof::from_bytes(two)
            .verify(
                &here,
                y.writer.institution,
                y.writer.epoch,
                &y.y.public_key()
            )
            .is_err()
    );
    let locator = SealedLocator::new(bytes[..80].try_into().unwrap());
    let stored = &WORLD.stored;
    prop_assert!(
        locator
            .open(&here, &stored.locator_key, &stored.binding())
            .is_err()
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn random_bytes_never_panic_a_decoder(bytes in vec(any::<u8>(), 0..3_000)) {
        decode_everything(&bytes)?;
    }

    #[test]
    fn random_bytes_of_fixed_length_never_panic_a_decoder(bytes in vec(any::<u8>(), 576)) {
        decode_fixed(&bytes.try_into().unwrap())?;
    }

    /// Bytes that are right up to a place and random, shifted or cut from there on reach deeper into
    /// a decoder than random ones.
    #[test]
    fn mutilated_bytes_never_panic_a_decoder(
        which in 0..4usize,
        place: prop::sample::Index,
        noise in vec(any::<u8>(), 0..40),
        drop in 0..40usize,
    ) {
        let world = &*WORLD;
        let whole = [&world.stored.container, &world.grant, &world.appointment, &world.proof][which];
        let at = place.index(whole.len());
        let rest = &whole[(at + drop).min(whole.len())..];
        let bytes = [&whole[..at], &noise, rest].concat();
        decode_everything(&bytes)?;
        let mut fixed = [0; 576];
        let some = &bytes[at.min(bytes.len())..];
        let count = some.len().min(576);
        fixed[..count].copy_from_slice(&some[..count]);
        decode_fixed(&fixed)?;
    }
}
