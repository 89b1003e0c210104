//! Keys that the centre makes (the paper's way, an option that is off by default), for a patient
//! without a device. This module alone holds a patient's seed, from its making to its sealing: the
//! keys are certified like any others, the seed is sealed under a one-time code that the officer hands
//! over on paper, and the sealed seed is given out once.
//!
//! - The centre could have kept the seed: who takes this way trusts its software and its officer.
//! - Whoever takes the database meanwhile has to guess 80 bits through Argon2id.
//! - A sealed seed is deleted when it is picked up, after five wrong codes, after 14 days, and when its
//!   enrolment is refused or revoked. It is in no backup. Anyone can use the five tries up, since the
//!   caller has no key yet to be known by; then an officer begins anew.
#![allow(
    clippy::disallowed_types,
    reason = "the one place where the centre may make a patient's keys, behind a switch"
)]

use client::{
    ApplicantKind, Base64, Decided, PickupCode, Problem, ProblemKind, SealedSeed, ServiceName,
    SystemRandom,
};
use parties::{PatientEnrolment, PatientPublicKeys};
use scheme::{
    ConsortiumId, Digest, KeyVersion, PatientKeys, RootSeed, Subject, Timestamp, VerifyingKey,
    sha256,
};
use subtle::ConstantTimeEq;

use crate::centre::CentreService;
use crate::centre::enrolments::{conflict, meanwhile, no_such_enrolment};
use crate::centre::officers::{By, Officer};
use crate::centre::records::{State, number, record};
use crate::database::{DatabaseError, Value};
use client::now;

/// Wrong codes until a sealed seed is deleted.
const WRONG_MAX: i64 = 5;
/// How long a sealed seed waits to be picked up.
const KEPT_MS: u64 = 14 * 24 * 60 * 60 * 1000;

/// A patient's keys as they leave the making: public ones, the sealed seed, and the code, which nobody
/// keeps.
struct MadeSeed {
    enrolment: PatientEnrolment,
    account: VerifyingKey,
    sealed: Vec<u8>,
    proof: Digest,
    code: PickupCode,
}

impl MadeSeed {
    /// Makes a seed, its keys and proofs, and seals it; takes part of a second and 64 MiB.
    fn make(consortium: &ConsortiumId, subject: Subject) -> Self {
        let seed = RootSeed::random(&mut SystemRandom);
        let keys = PatientKeys::derive(&seed, KeyVersion::new(0), consortium);
        let code = PickupCode::random(&mut SystemRandom);
        let under_code = code.derive(consortium, subject);
        let service = ServiceName::Centre.to_string();
        Self {
            enrolment: PatientEnrolment {
                subject,
                keys: PatientPublicKeys {
                    encryption: keys.encryption.public_key(),
                    search: keys.search.public_key(),
                    ownership: keys.ownership.public_key(),
                    inbox: keys.inbox.public_key(),
                },
                encryption_proof: keys.encryption.prove_possession(consortium, subject),
                search_proof: keys.search.prove_possession(consortium, subject),
                ownership_proof: keys.ownership.prove_possession(consortium, subject),
            },
            account: keys
                .accounts
                .key(consortium, service.as_bytes())
                .verifying_key(),
            sealed: under_code.seal(&seed, &mut SystemRandom),
            proof: sha256(under_code.proof()),
            code,
        }
    }
}

impl CentreService {
    /// Makes the keys of an enrolment that an officer began, and gives the code. Until the enrolment is
    /// approved this can be done again, as when the code was lost: the earlier keys are then forgotten.
    pub(super) async fn make_keys(
        &self,
        subject: Subject,
        officer: &Officer,
        by: &By,
    ) -> Result<PickupCode, Problem> {
        if !self.may_make_keys {
            return Err(Problem::new(
                ProblemKind::NoRight,
                "this centre makes no keys: enrol from the patient's device, or let the operator set may_make_keys",
            ));
        }
        let row = self.read(subject).await?.ok_or_else(no_such_enrolment)?;
        if row.kind != ApplicantKind::Patient || self.officer_of(&row.begun_by).is_none() {
            return Err(conflict(
                "this enrolment was begun from a device, which makes its own keys: begin one for the patient under an officer's key",
            ));
        }
        let made_before = row.state == State::Waiting && !row.made_by.is_empty();
        if row.state != State::KeysMissing && !made_before {
            return Err(conflict(
                "this enrolment is past the making of keys: begin a new one that names it as replaced",
            ));
        }
        // One at a time, for the memory that the code's derivation takes.
        let _making = self
            .making
            .acquire()
            .await
            .map_err(|error| Problem::internal(&error))?;
        let consortium = self.consortium;
        let made = tokio::task::spawn_blocking(move || MadeSeed::make(&consortium, subject))
            .await
            .map_err(|error| Problem::internal(&error))?;
        let (id, now) = (number(subject.number()), now());
        let mut change = self.database.begin().await?;
        let changed = change
            .run(
                "UPDATE enrolments SET state = 'waiting', account = $2, keys = $3, made_by = $4, changed = $5 \
                 WHERE subject = $1 AND account = $6 AND keys = $7 AND state IN ('keys-missing', 'waiting')",
                &[
                    id.clone(),
                    (*made.account.as_bytes()).into(),
                    Value::Bytes(made.enrolment.encode()),
                    (*officer.key.as_bytes()).into(),
                    now.into(),
                    (*row.account.as_bytes()).into(),
                    Value::Bytes(row.keys.clone()),
                ],
            )
            .await?;
        if changed == 0 {
            return Err(meanwhile());
        }
        change
            .run(
                "DELETE FROM pickups WHERE subject = $1",
                std::slice::from_ref(&id),
            )
            .await?;
        change
            .run(
                "INSERT INTO pickups (subject, sealed, proof, wrong, made) VALUES ($1, $2, $3, 0, $4)",
                &[id, Value::Bytes(made.sealed), made.proof.into(), now.into()],
            )
            .await?;
        let key = &self.identity_key;
        match record(&mut change, key, subject, Decided::KeysMade, by, "", now).await {
            Ok(()) => {}
            Err(DatabaseError::Exists) => {
                return Err(conflict(
                    "this call was answered, and a code is given once: if it was lost, sign a new call with a fresh Idempotency-Key, which makes new keys",
                ));
            }
            Err(error) => return Err(error.into()),
        }
        change.commit().await?;
        self.tell(subject);
        self.work.notify_one();
        Ok(made.code)
    }

    /// Gives the sealed seed to who knows its code, and deletes it.
    pub(super) async fn pick_up(
        &self,
        subject: Subject,
        proof: &[u8; 32],
    ) -> Result<SealedSeed, Problem> {
        const NOTHING: &str = "nothing waits to be picked up under this number: it was picked up, or forgotten after five wrong codes or 14 days; ask the officer to begin anew";
        let id = number(subject.number());
        let mut change = self.database.begin().await?;
        // Counted before the code is compared, so that tries at once are counted too.
        let counted = change
            .run(
                "UPDATE pickups SET wrong = wrong + 1 WHERE subject = $1",
                std::slice::from_ref(&id),
            )
            .await?;
        let found = change
            .row(
                "SELECT p.sealed, p.proof, p.wrong, p.made, e.state FROM pickups AS p \
                 JOIN enrolments AS e ON e.subject = p.subject WHERE p.subject = $1",
                std::slice::from_ref(&id),
            )
            .await?;
        let Some(row) = found.filter(|_| counted > 0) else {
            return Err(Problem::not_found(NOTHING));
        };
        let (sealed, expected, tries) = (row.bytes(0)?, row.array::<32>(1)?, row.integer(2)?);
        let old = row.time(3)? < oldest();
        let right = bool::from(sha256(proof).as_bytes().ct_eq(&expected)) && !old;
        let state = row.text(4)?;
        let given_out = ["approved", "registered"].contains(&state.as_str());
        if right && !given_out {
            // Not committed: a right code costs no try.
            return Err(conflict(
                "an officer has not approved the enrolment yet: come again with the same code",
            ));
        }
        if right || old || tries >= WRONG_MAX {
            change
                .run("DELETE FROM pickups WHERE subject = $1", &[id])
                .await?;
        }
        change.commit().await?;
        if right {
            tracing::info!(subject = subject.number(), "made keys were picked up");
            return Ok(SealedSeed {
                sealed: Base64(sealed),
            });
        }
        if old {
            return Err(Problem::not_found(NOTHING));
        }
        let left = WRONG_MAX.saturating_sub(tries);
        Err(Problem::new(
            ProblemKind::NoRight,
            format!(
                "this is not the code that the officer was given: {left} tries are left, then the keys are forgotten"
            ),
        ))
    }

    /// Deletes sealed seeds that nobody picked up in time.
    pub(super) async fn forget_old_seeds(&self) -> Result<(), Problem> {
        self.database
            .run("DELETE FROM pickups WHERE made < $1", &[oldest().into()])
            .await?;
        Ok(())
    }
}

fn oldest() -> Timestamp {
    Timestamp::new(now().number().saturating_sub(KEPT_MS))
}
