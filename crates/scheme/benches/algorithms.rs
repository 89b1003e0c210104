//! Every algorithm of the scheme beside a bare pairing measured in the same run, sealing and opening
//! beside the bare cipher and the bare hash, and searching beside the paper's scan of all entries.
//! `docs/measured/scheme.md` says what came out. Repeat with
//! `cargo bench -p willis-scheme --bench algorithms [-- --json docs/measured/scheme.json]`.
#![allow(clippy::print_stdout, reason = "a benchmark tells its figures")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark needs a clock and keeps its figures in a file"
)]
#![allow(clippy::unwrap_used, reason = "the fixture's values are all valid")]

#[path = "algorithms/entries.rs"]
mod entries;
#[path = "figures/mod.rs"]
mod figures;
#[path = "algorithms/measure.rs"]
mod measure;
#[path = "algorithms/scan.rs"]
mod scan;
#[path = "../tests/support/mod.rs"]
mod support;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use blst::blst_fp12;
use blstrs::{G1Affine, G1Projective, G2Affine, G2Projective};
use group::{Curve, Group};
use rand_chacha::ChaCha20Rng;
use scheme::*;
use sha2::{Digest as _, Sha256};

use entries::{Entries, binding, open_locator};
use figures::{Against, Figure, Figures, Goal};
use measure::{Comparison, Timed};
use scan::LiteralIndex;
use support::*;

fn main() {
    let mut bench = Bench::new();
    bench.keys();
    bench.names();
    bench.headers();
    bench.content();
    bench.signatures();
    bench.index();
    bench.search();
    bench.literal_scan();
    bench.sharing();
    bench.grants();
    bench.re_encryption();
    bench.agents();
    bench.figures.finish();
}

const PAIRING: &str = "bare pairing";
/// The project's goals: a pairing's work may cost this many pairings,
const GOAL_PAIRINGS: f64 = 1.2;
/// and each hit of a search this many microseconds on top.
const GOAL_HIT_MICROS: f64 = 20.0;
/// t of n.
const THRESHOLDS: [(u8, u8); 3] = [(2, 3), (3, 5), (7, 16)];
const MIB: usize = 1 << 20;

/// The parties of one referral, and what is measured so far.
struct Bench {
    figures: Figures,
    rng: ChaCha20Rng,
    consortium: ConsortiumId,
    patient: Patient,
    doctor: Doctor,
    hospital: Hospital,
    pid: Pid,
    p: G1Affine,
    q: G2Affine,
}

impl Bench {
    fn new() -> Self {
        let (patient, doctor) = (Patient::new(1), Doctor::new(2, 7));
        let pid = patient.pid(&doctor, 0);
        Self {
            figures: Figures::new("algorithms"),
            rng: rng(1),
            consortium: consortium(),
            patient,
            doctor,
            hospital: Hospital::new(3, 7, 0),
            pid,
            p: G1Projective::hash_to_curve(b"p", b"BENCH", &[]).to_affine(),
            q: (G2Projective::generator() * blstrs::Scalar::from(0x5eed_u64)).to_affine(),
        }
    }

    /// A row against a bare pairing.
    fn row<O>(&mut self, name: &str, mut run: impl FnMut() -> O) {
        self.compared(name, None, || (), |()| run());
    }

    /// A row whose operation uses up what is prepared outside the clock.
    fn consuming<I, O>(&mut self, name: &str, prepare: impl FnMut() -> I, run: impl FnMut(I) -> O) {
        self.compared(name, None, prepare, run);
    }

    /// A row whose goal is [`GOAL_PAIRINGS`] pairings and [`GOAL_HIT_MICROS`] for each hit.
    fn with_goal<O>(&mut self, name: &str, hits: usize, mut run: impl FnMut() -> O) {
        self.compared(name, Some(hits), || (), |()| run());
    }

    fn compared<I, O>(
        &mut self,
        name: &str,
        goal_hits: Option<usize>,
        prepare: impl FnMut() -> I,
        run: impl FnMut(I) -> O,
    ) {
        let mut pairing = self.pairing();
        let rounds = Comparison::of(&mut Timed::new(prepare, run), &mut pairing);
        let goal = goal_hits.map(|hits| {
            let allowance = GOAL_HIT_MICROS * hits as f64;
            let text = match hits {
                0 => format!("at most {GOAL_PAIRINGS} pairings"),
                hits => format!("at most {GOAL_PAIRINGS} pairings + {hits} x {GOAL_HIT_MICROS} us"),
            };
            let of_limit = |ours, pairing| ours / (GOAL_PAIRINGS * pairing + allowance);
            let met = rounds.percentile(50, of_limit) <= 1.0;
            Goal { text, met }
        });
        self.figures.add(figure(name, PAIRING, &rounds, goal));
    }

    fn pairing(&self) -> Timed<impl FnMut() + use<>, impl FnMut(()) -> blst_fp12 + use<>> {
        let (p, q) = (self.p, self.q);
        Timed::new(|| (), move |()| scan::e(&p, &q))
    }

    /// Equations (6) and (7).
    fn keys(&mut self) {
        self.figures.heading("Keys (6), (7)");
        let here = self.consortium;
        let seed = RootSeed::from_bytes([7; 32]);
        let (p, q) = (self.p, self.q);
        self.row(PAIRING, || scan::e(&p, &q));
        let derive = || PatientKeys::derive(&seed, KeyVersion::new(0), &here);
        self.row("KeyGen: a patient's secrets from the seed", derive);
        let keys = derive();
        self.row("KeyGen: A, X and O", || {
            (
                keys.encryption.public_key(),
                keys.search.public_key(),
                keys.ownership.public_key(),
            )
        });
        let subject = Subject::new(1);
        self.row("proof of possession of a", || {
            keys.encryption.prove_possession(&here, subject)
        });
        let (key, proof) = (
            keys.encryption.public_key(),
            keys.encryption.prove_possession(&here, subject),
        );
        self.row("proof of possession, verified", || {
            verify_encryption_key(&here, subject, &key, &proof).unwrap();
        });
        self.row("hand-over message, signed under O", || {
            keys.ownership.sign_handover(&here, b"hand-over")
        });
        let mut rng = rng(2);
        self.row("writer epoch key y and R", || {
            WriterEpochKey::random(&mut rng).public_key()
        });
        let (institution, epoch) = (InstitutionId::new(7), WriterEpoch::new(0));
        let y = WriterEpochKey::random(&mut rng);
        self.row("proof of y", || {
            y.prove_possession(&here, institution, epoch, &mut rng)
        });
        let proof = y.prove_possession(&here, institution, epoch, &mut rng);
        let r = y.public_key();
        self.row("proof of y, verified", || {
            proof.verify(&here, institution, epoch, &r).unwrap();
        });
        let bytes = *r.as_bytes();
        self.row("a public key of G2, decoded", || {
            WriterEpochPublicKey::from_bytes(&bytes).unwrap()
        });
        let hpke = HpkePrivateKey::derive(&[9; 32]);
        let public = hpke.public_key();
        let seal = move |rng: &mut ChaCha20Rng| {
            public
                .seal(Purpose::Request, &here, b"inbox", &[0; 256], rng)
                .unwrap()
        };
        self.row("HPKE, 256 bytes sealed", || seal(&mut rng));
        let sealed = seal(&mut rng);
        self.row("HPKE, 256 bytes opened", || {
            hpke.open(Purpose::Request, &here, b"inbox", &sealed)
                .unwrap()
        });
    }

    /// Equation (8).
    fn names(&mut self) {
        self.figures.heading("Pseudonyms (8)");
        let here = self.consortium;
        let symmetric = self.patient.keys.symmetric.clone();
        let (institution, doctor) = (self.doctor.institution, self.doctor.id);
        self.row("NameGen: SK_D", || {
            symmetric.doctor_subkey(&here, institution, doctor)
        });
        let subkey = symmetric.doctor_subkey(&here, institution, doctor);
        let uid = self.patient.uid.clone();
        self.row("NameGen: PID_n", || {
            subkey.pseudonym(&here, &uid, EpisodeNumber::new(3))
        });
    }

    /// Equation (9), all but the payload.
    fn headers(&mut self) {
        self.figures.heading("Headers of containers (9)");
        let here = self.consortium;
        let owner = self.patient.keys.encryption.public_key();
        let (author, pid) = (Doctor::new(2, 7), self.pid.clone());
        let mut rng = rng(4);
        for sections in [1u8, 3, 10, 32] {
            let plans: Vec<SectionPlan> = (0..sections)
                .map(|class| SectionPlan {
                    class: ClassCode::new(class),
                    length: 10_000,
                })
                .collect();
            let sections = counted(usize::from(sections), "section");
            let mut seal =
                || Sealing::new(&here, &author.author(), &owner, &pid, &plans, &mut rng).unwrap();
            self.row(&format!("MDEnc: header of {sections}"), &mut seal);
            let bytes = seal().header().encode();
            self.row(&format!("header of {sections}, decoded"), || {
                Header::decode(&here, &bytes).unwrap()
            });
            let (header, _) = Header::decode(&here, &bytes).unwrap();
            self.consuming(
                &format!("header of {sections}, V verified"),
                || header.clone(),
                |header| header.verify().unwrap(),
            );
        }
        let class = ClassCode::new(0);
        let plan = SectionPlan {
            class,
            length: 10_000,
        };
        let header = Sealing::new(&here, &author.author(), &owner, &pid, &[plan], &mut rng)
            .unwrap()
            .header()
            .clone();
        let (u, index) = (
            header.encapsulation().clone(),
            header.sections().next().unwrap(),
        );
        let key = Patient::new(1).keys.encryption;
        self.row("K on the owner's side", || {
            SectionSecret::of_owner(&here, &key, &pid, class, &u)
        });
        self.row("K on the author's side, with U compared", || {
            SectionSecret::of_author(&header, &author.sealing, &owner, &pid, class)
        });
        let secret = SectionSecret::of_owner(&here, &key, &pid, class, &u);
        self.row("content key from K, with kc compared", || {
            secret.content_key(&header, index)
        });
    }

    /// The payload of equation (9).
    fn content(&mut self) {
        self.figures.heading("Sealing and opening, per MiB");
        let here = self.consortium;
        let owner = self.patient.keys.encryption.public_key();
        let class = ClassCode::new(0);
        let plan = SectionPlan {
            class,
            // With the length of 8 bytes in front it is just 16 chunks, so nothing is padded.
            length: (MIB - 8) as u64,
        };
        let author = Doctor::new(2, 7);
        let pid = &self.pid;
        let fresh = |rng: &mut ChaCha20Rng| {
            Sealing::new(&here, &author.author(), &owner, pid, &[plan], rng).unwrap()
        };
        let mut rng = self.rng.clone();
        let sealing = fresh(&mut rng);
        let header = sealing.header().clone();
        let index = header.sections().next().unwrap();
        let plain: Vec<u8> = (0..MIB - 8).map(|i| (i % 251) as u8).collect();
        let mut payload = Vec::new();
        let mut sealer = sealing.section(0).unwrap();
        sealer.update(&plain, &mut payload).unwrap();
        sealer.finish(&mut payload).unwrap();
        assert_eq!(payload.len(), MIB + 16 * CHUNK_TAG_BYTES);
        let secret = SectionSecret::of_owner(
            &here,
            &self.patient.keys.encryption,
            &self.pid,
            class,
            header.encapsulation(),
        );
        let key = secret.content_key(&header, index).unwrap();

        let cipher = Aes256Gcm::new(&[5; 32].into());
        let mut buffer = plain.clone();
        let mut bare_cipher = Timed::new(|| (), |()| encrypt(&cipher, &mut buffer));
        let mut bare_hash = Timed::new(|| (), |()| Sha256::digest(&plain));
        let mut out = Vec::with_capacity(2 * MIB);
        let mut seal = Timed::new(
            || fresh(&mut rng),
            |sealing| {
                out.clear();
                let mut sealer = sealing.section(0).unwrap();
                for piece in plain.chunks(CHUNK_BYTES) {
                    sealer.update(piece, &mut out).unwrap();
                }
                sealer.finish(&mut out).unwrap();
            },
        );
        let mut opened = Vec::with_capacity(2 * MIB);
        let mut open = Timed::new(
            || (),
            |()| {
                opened.clear();
                let mut opener = SectionOpener::new(&header, index, &key);
                for piece in payload.chunks(CHUNK_BYTES) {
                    opener.update(piece, &mut opened).unwrap();
                }
                opener.finish().unwrap();
            },
        );
        let rows = [
            (
                "MDEnc: 1 MiB sealed",
                "bare AES-256-GCM",
                Comparison::of(&mut seal, &mut bare_cipher),
            ),
            (
                "MDEnc: 1 MiB sealed",
                "bare SHA-256",
                Comparison::of(&mut seal, &mut bare_hash),
            ),
            (
                "Dec: 1 MiB opened",
                "bare AES-256-GCM",
                Comparison::of(&mut open, &mut bare_cipher),
            ),
            (
                "Dec: 1 MiB opened",
                "bare SHA-256",
                Comparison::of(&mut open, &mut bare_hash),
            ),
        ];
        for (name, rival, rounds) in rows {
            self.figures.add(figure(name, rival, &rounds, None));
        }
    }

    /// Equation (10).
    fn signatures(&mut self) {
        self.figures.heading("Signatures of records (10)");
        let here = self.consortium;
        for entries in [8, 64, 1024] {
            let (statement, key) = (self.statement(entries), SigningKey::from_seed([2; 32]));
            self.row(&format!("SignGen, {entries} entries"), || {
                statement.sign(&here, &key)
            });
            let signature = statement.sign(&here, &key);
            self.row(&format!("verification, {entries} entries"), || {
                statement.verify(&here, &signature).unwrap();
            });
        }
    }

    /// Equations (11) and (12).
    fn index(&mut self) {
        self.figures.heading("Index and trapdoors (11), (12)");
        let here = self.consortium;
        let (pid, writer) = (self.pid.clone(), self.hospital.writer);
        let word = keyword("code|http://snomed.info/sct|230690007");
        let mut rng = rng(5);
        self.row("IndexGen: a keyword hashed and blinded", || {
            KeywordBlinding::new(&here, &pid, writer, &word, &mut rng).blinded()
        });
        let blinded = KeywordBlinding::new(&here, &pid, writer, &word, &mut rng).blinded();
        let y = Hospital::new(3, 7, 0).y;
        self.row("IndexGen: a keyword raised by the server", || {
            y.raise(&blinded)
        });
        let bytes = *blinded.as_bytes();
        self.row("IndexGen: a blinded keyword decoded", || {
            BlindedKeyword::from_bytes(&bytes).unwrap()
        });
        let r = y.public_key();
        for count in [1, 8, 64] {
            let blindings: Vec<_> = (0..count)
                .map(|n| {
                    let word = keyword(&format!("keyword {n}"));
                    KeywordBlinding::new(&here, &pid, writer, &word, &mut rng)
                })
                .collect();
            let raised: Vec<_> = blindings.iter().map(|b| y.raise(&b.blinded())).collect();
            self.row(
                &format!("IndexGen: {} unblinded, checked", counted(count, "keyword")),
                || unblind(&blindings, &raised, &r, &mut rng).unwrap(),
            );
        }
        let blinding = [KeywordBlinding::new(&here, &pid, writer, &word, &mut rng)];
        let raised = [y.raise(&blinding[0].blinded())];
        let evaluated = unblind(&blinding, &raised, &r, &mut rng).unwrap();
        let x = self.patient.keys.search.public_key();
        self.row("IndexGen: K_w of a keyword", || evaluated[0].index_key(&x));
        let index_key = evaluated[0].index_key(&x);
        let episode = self.patient.episode_key(&pid);
        let delta = Delta::random(&mut rng);
        let o = self.patient.keys.ownership.public_key();
        self.row("IndexGen: E from O and the PID", || {
            EpisodeKey::derive(&here, &o, &pid).unwrap()
        });
        self.row("IndexGen: O_rec from E and delta", || {
            episode.blind(&delta).unwrap()
        });
        let owner = episode.blind(&delta).unwrap();
        let locator_key = LocatorKey::random(&mut rng);
        self.row("IndexGen: one entry", || {
            index_key.entry(&here, Position::new(5), &owner.compressed(), &locator_key)
        });
        let statement = self.statement(8);
        let locator = Locator {
            address: Address::new([0xad; 32]),
            delta,
        };
        self.row("IndexGen: the locator sealed", || {
            locator.seal(&here, &locator_key, &binding(&statement))
        });
        let search = Patient::new(1).keys.search;
        self.row("TokenGen: a trapdoor", || {
            Trapdoor::generate(&here, &search, &pid, writer, &word)
        });
        let trapdoor = Trapdoor::generate(&here, &search, &pid, writer, &word).expose_bytes();
        self.row("a trapdoor decoded", || {
            Trapdoor::from_bytes(&trapdoor).unwrap()
        });
    }

    /// Equation (13).
    fn search(&mut self) {
        self.figures.heading("Search (13), entries in memory");
        let here = self.consortium;
        let mut entries = Entries::new(self, &[0, 1, 10, 100]);
        let r = entries.writer_key.clone();
        let bytes = entries.words[1].0.expose_bytes();
        let trapdoor = Trapdoor::from_bytes(&bytes).unwrap();
        self.with_goal("Query: K_w of a trapdoor", 0, || trapdoor.index_key(&r));
        for count in [1_000, 1_000_000] {
            entries.grow(count, &mut self.rng);
            for (trapdoor, hits) in &entries.words {
                let name = format!(
                    "Query: {} entries, {}",
                    thousands(count),
                    counted(*hits, "hit")
                );
                assert_eq!(entries.search(&here, trapdoor).len(), *hits);
                let search = || entries.search(&here, trapdoor);
                self.with_goal(&name, *hits, search);
            }
        }
        let key = trapdoor.index_key(&r);
        let statement = &entries.records[0];
        let position = Position::new(0);
        let entry = *entries.by_tag.get(&key.tag(&here, position)).unwrap();
        self.row("of these, one hit: tag, look-up, pad, locator", || {
            let found = entries.by_tag.get(&key.tag(&here, position)).unwrap();
            open_locator(&here, &key, position, found.0, statement)
        });
        let episode = self.patient.episode_key(&self.pid);
        let locator = open_locator(&here, &key, position, entry.0, statement);
        self.row("beside it, O_rec of a hit compared with E", || {
            assert!(statement.owner_key.unblind(&locator.delta).unwrap() == episode);
        });
        let owner = *statement.owner_key.as_bytes();
        self.row("beside it, O_rec of a hit decoded", || {
            OwnerKey::from_bytes(&owner).unwrap()
        });
    }

    /// Equation (13) to the letter.
    fn literal_scan(&mut self) {
        self.figures.heading("The paper's scan of all entries (13)");
        const LARGEST: usize = 300;
        const MILLION: usize = 1_000_000;
        let here = self.consortium;
        let literal = LiteralIndex::new(LARGEST);
        let mut entries = Entries::new(self, &[1]);
        // Rows of (name, microseconds an entry) for what is extrapolated.
        let mut per_entry = Vec::new();
        for count in [10, 100, LARGEST] {
            entries.grow(count, &mut self.rng);
            assert_eq!(literal.paper_scan(count), [count - 1]);
            assert_eq!(literal.peks_scan(count), [count - 1]);
            let trapdoor = &entries.words[0].0;
            let mut ours = Timed::new(|| (), |()| entries.search(&here, trapdoor));
            let mut paper = Timed::new(|| (), |()| literal.paper_scan(count));
            let mut peks = Timed::new(|| (), |()| literal.peks_scan(count));
            let rival = format!("our search, {count} entries, 1 hit");
            for (name, rounds) in [
                (
                    "the paper's pairing test",
                    Comparison::of(&mut paper, &mut ours),
                ),
                ("plain PEKS", Comparison::of(&mut peks, &mut ours)),
            ] {
                if count == LARGEST {
                    per_entry.push((name, rounds.micros() / count as f64));
                }
                let name = format!("{name}, {count} entries");
                self.figures.add(figure(&name, &rival, &rounds, None));
            }
        }
        entries.grow(MILLION, &mut self.rng);
        let trapdoor = &entries.words[0].0;
        let mut ours = Timed::new(|| (), |()| entries.search(&here, trapdoor));
        let ours = Comparison::of(&mut ours, &mut self.pairing()).micros();
        for (name, micros) in per_entry {
            let value = micros * MILLION as f64;
            self.figures.add(Figure {
                name: format!("{name}, 1,000,000 entries, extrapolated from {LARGEST}"),
                value: value / 1e6,
                unit: "s",
                rival: Some(Against {
                    name: "our search, 1,000,000 entries, 1 hit, measured".to_owned(),
                    ratio: value / ours,
                    spread: None,
                }),
                goal: None,
            });
        }
    }

    /// Equation (14).
    fn sharing(&mut self) {
        self.figures
            .heading("Re-encryption keys and their shares (14)");
        let here = self.consortium;
        let pid = self.pid.clone();
        let key = Patient::new(1).keys.encryption;
        let derive = || ConditionKey::derive(&here, &key, &pid, LABORATORY);
        self.row("RKGen: H1_COND(c)^a", derive);
        let condition = derive();
        let (gid, place) = (GrantId::new([4; 32]), ClassPlace::new(0));
        let mut rng = rng(6);
        let seed = MaskSeed::random(&mut rng);
        let generate = || ReEncryptionKey::generate(&here, &gid, &condition, &seed, place).unwrap();
        self.row("RKGen: RK from it and the seed", generate);
        let rk = generate();
        for (t, n) in THRESHOLDS {
            let threshold = Threshold::new(t).unwrap();
            self.row(
                &format!("RKGen: RK shared, {t} of {n}, with commitments"),
                || rk.share(threshold, n, &mut rng).unwrap(),
            );
            let (shares, commitments) = rk.share(threshold, n, &mut rng).unwrap();
            let bytes = shares[usize::from(n) - 1].expose_bytes();
            let node = NodeNumber::new(n).unwrap();
            self.consuming(
                &format!("a share verified, {t} of {n}"),
                || UncheckedShare::from_bytes(&bytes).unwrap(),
                |share| share.verify(node, &commitments).unwrap(),
            );
            let elements = commitments.to_bytes();
            self.row(&format!("commitments decoded, {t} of {n}"), || {
                Commitments::from_bytes(&elements).unwrap()
            });
        }
    }

    fn grants(&mut self) {
        self.figures
            .heading("Grants (14), one trapdoor, one doctor");
        let here = self.consortium;
        let (pid, writer) = (self.pid.clone(), self.hospital.writer);
        let (patient, reader) = (Patient::new(1), Reader::new(0x60));
        let mut rng = rng(7);
        for ((t, n), classes) in THRESHOLDS.into_iter().zip([1u8, 3, 10]) {
            let nodes = Nodes::new(n);
            let classes: Vec<ClassCode> = (0..classes).map(ClassCode::new).collect();
            let of = format!("{t} of {n}, {}", counted(classes.len(), "class"));
            let mut make = || {
                grant(
                    &patient,
                    &pid,
                    &nodes,
                    &[&reader],
                    t,
                    &classes,
                    writer,
                    &mut rng,
                )
                .0
            };
            self.row(&format!("grant made, {of}"), &mut make);
            let bytes = make().encode(&here);
            self.row(&format!("grant decoded, {of}"), || {
                Grant::decode(&here, &bytes).unwrap()
            });
            let grant = Grant::decode(&here, &bytes).unwrap();
            self.consuming(
                &format!("grant's signature verified, {of}"),
                || grant.clone(),
                |grant| grant.verify(&here).unwrap(),
            );
            let grant = grant.verify(&here).unwrap();
            let (node, key) = (NodeNumber::new(1).unwrap(), &nodes.hpke[0]);
            self.row(&format!("a node's part opened and checked, {of}"), || {
                grant.open_node_part(&here, node, key).unwrap()
            });
            let access = reader.access.verifying_key();
            self.row(&format!("a doctor's part opened, {of}"), || {
                grant
                    .open_doctor_part(&here, &access, &reader.hpke)
                    .unwrap()
            });
        }
        let log_key = LogKey::random(&mut self.rng);
        let access = SigningKey::from_seed([3; 32]).verifying_key();
        let transaction = sha256(b"a record");
        self.row("an access-log entry masked", || {
            log_key.mask(&here, &access, 7, &[5; 16], &transaction)
        });
    }

    /// Equations (15) and (16).
    fn re_encryption(&mut self) {
        self.figures.heading("Re-encryption and opening (15), (16)");
        let here = self.consortium;
        let (patient, pid) = (Patient::new(1), self.pid.clone());
        let mut rng = rng(8);
        let stored = store(
            &patient,
            &self.doctor,
            &self.hospital,
            &pid,
            &[("", 0)],
            &[(LABORATORY, vec![0; 5_000])],
            &mut rng,
        );
        let header = stored.header.clone().verify().unwrap();
        let (transaction, class) = (stored.statement.id(&here), ClassPlace::new(0));
        let reader = Reader::new(0x60);
        let signing = SigningKey::from_seed([0xa0; 32]);
        for (t, n) in THRESHOLDS {
            let nodes = Nodes::new(n);
            let (grant, _) = grant(
                &patient,
                &pid,
                &nodes,
                &[&reader],
                t,
                &[LABORATORY],
                self.hospital.writer,
                &mut rng,
            );
            let grant = grant.verify(&here).unwrap();
            let gid = grant.gid();
            let shares: Vec<(NodeNumber, Share)> = (1..=t)
                .map(|m| {
                    let (node, key) =
                        (NodeNumber::new(m).unwrap(), &nodes.hpke[usize::from(m) - 1]);
                    let mut part = grant.open_node_part(&here, node, key).unwrap();
                    (node, part.shares.remove(0))
                })
                .collect();
            let (node, share) = &shares[0];
            let answer = share.re_encrypt(&header);
            let asked = ShareStatement {
                consortium: &here,
                gid: &gid,
                transaction: &transaction,
                header_digest: &stored.statement.header_digest,
                class,
                node: *node,
                share: &answer,
            };
            let signature = asked.sign(&header, &signing);
            let encoded = answer.to_bytes();
            if t == THRESHOLDS[0].0 {
                self.with_goal("ReEnc: W_m", 0, || share.re_encrypt(&header));
                self.with_goal("ReEnc: W_m and its encoding", 0, || {
                    share.re_encrypt(&header).to_bytes()
                });
                self.row("a share signed", || asked.sign(&header, &signing));
                self.row("a share's signature verified", || {
                    asked
                        .verify(&header, &signing.verifying_key(), &signature)
                        .unwrap();
                });
                let bytes = stored.header.encode();
                self.row(
                    "a node's answer: header decoded, V, W_m, encoded, signed",
                    || {
                        let header = Header::decode(&here, &bytes).unwrap().0.verify().unwrap();
                        let answer = share.re_encrypt(&header);
                        let signature = ShareStatement {
                            share: &answer,
                            ..asked
                        }
                        .sign(&header, &signing);
                        (answer.to_bytes(), signature)
                    },
                );
                self.row("W_m decoded", || {
                    ReEncryptedShare::from_bytes(&encoded).unwrap()
                });
                self.row("proof of W_m", || share.prove(&asked, &header, &mut rng));
            }
            let proof = share.prove(&asked, &header, &mut rng).to_bytes();
            let commitments = grant.commitments(class).unwrap();
            self.row(
                &format!("proof of W_m, decoded and verified, {t} of {n}"),
                || {
                    ShareProof::from_bytes(&proof)
                        .unwrap()
                        .verify(&asked, &header, commitments)
                        .unwrap();
                },
            );
            let answers: Vec<(NodeNumber, [u8; ReEncryptedShare::BYTES])> = shares
                .iter()
                .map(|(node, share)| (*node, share.re_encrypt(&header).to_bytes()))
                .collect();
            let decoded: Vec<(NodeNumber, ReEncryptedShare)> = answers
                .iter()
                .map(|(node, bytes)| (*node, ReEncryptedShare::from_bytes(bytes).unwrap()))
                .collect();
            let borrowed: Vec<_> = decoded.iter().map(|(node, share)| (*node, share)).collect();
            let threshold = grant.terms().threshold;
            self.row(&format!("W combined of {t} shares"), || {
                ReEncrypted::combine(threshold, &borrowed).unwrap()
            });
            let access = reader.access.verifying_key();
            let part = grant
                .open_doctor_part(&here, &access, &reader.hpke)
                .unwrap();
            let (u, index) = (
                header.header().encapsulation().clone(),
                header.header().find(&part.label_keys[0]).unwrap(),
            );
            if t == THRESHOLDS[0].0 {
                let w = ReEncrypted::combine(threshold, &borrowed).unwrap();
                self.row("Dec: K from W", || {
                    w.open(&here, &gid, &part.seed, class, &u).unwrap()
                });
            }
            self.row(
                &format!("Dec: {t} encoded shares to the content key"),
                || {
                    let decoded: Vec<(NodeNumber, ReEncryptedShare)> = answers
                        .iter()
                        .map(|(node, bytes)| (*node, ReEncryptedShare::from_bytes(bytes).unwrap()))
                        .collect();
                    let borrowed: Vec<_> =
                        decoded.iter().map(|(node, share)| (*node, share)).collect();
                    let w = ReEncrypted::combine(threshold, &borrowed).unwrap();
                    let secret = w.open(&here, &gid, &part.seed, class, &u).unwrap();
                    secret.content_key(header.header(), index).unwrap()
                },
            );
        }
    }

    fn agents(&mut self) {
        self.figures.heading("Family agents, all ten classes");
        let here = self.consortium;
        let owner = Patient::new(1).keys.ownership;
        let pid = self.pid.clone();
        self.row("the key of an episode", || {
            EpisodeSigningKey::derive(&here, &owner, &pid).unwrap()
        });
        let key = EpisodeSigningKey::derive(&here, &owner, &pid).unwrap();
        let terms = AppointmentTerms {
            agent: AgentKey::from_signing_key(SigningKey::from_seed([5; 32])).verifying_key(),
            id: AppointmentId::new([6; 32]),
            end: Timestamp::new(1_790_000_000_000),
            scope: (0..10).map(ClassCode::new).collect(),
        };
        self.row("an appointment made", || {
            Appointment::make(&here, &key, terms.clone()).unwrap()
        });
        let bytes = Appointment::make(&here, &key, terms).unwrap().encode(&here);
        self.row("an appointment decoded", || {
            Appointment::decode(&here, &bytes).unwrap()
        });
        let appointment = Appointment::decode(&here, &bytes).unwrap();
        self.row("an appointment's signature verified", || {
            assert!(appointment.is_signed_by_owner(&here));
        });
    }

    /// A record's statement with so many entries.
    fn statement(&mut self, entries: usize) -> RecordStatement {
        let mut stored = store(
            &self.patient,
            &self.doctor,
            &self.hospital,
            &self.pid,
            &[("", 0)],
            &[(LABORATORY, vec![0; 100])],
            &mut self.rng,
        );
        let all = &mut stored.statement.entries;
        while all.len() < entries {
            let mut more = Vec::new();
            pad_entries(&mut more, &mut self.rng);
            all.extend(more);
        }
        all.sort_unstable();
        stored.statement
    }
}

fn encrypt(cipher: &Aes256Gcm, buffer: &mut [u8]) -> [u8; 16] {
    cipher
        .encrypt_inout_detached(&[0; 12].into(), &[], InOutBuf::from(buffer))
        .unwrap()
        .into()
}

/// A row of a comparison.
fn figure(name: &str, rival: &str, rounds: &Comparison, goal: Option<Goal>) -> Figure {
    let quotient = |ours, theirs| ours / theirs;
    Figure {
        name: name.to_owned(),
        value: rounds.micros(),
        unit: "us",
        rival: Some(Against {
            name: rival.to_owned(),
            ratio: rounds.percentile(50, quotient),
            spread: Some((
                rounds.percentile(10, quotient),
                rounds.percentile(90, quotient),
            )),
        }),
        goal,
    }
}

/// "1 hit", "10 hits".
fn counted(number: usize, what: &str) -> String {
    let plural = match (number, what.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{number} {what}{plural}")
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
