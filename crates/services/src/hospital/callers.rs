//! Who calls: a doctor whom the hospital knows, a patient by the account key of a UID, or IT.

use std::sync::PoisonError;

use client::{Hex, ProblemKind, VerifiedCall};
use ledger::{KeyHash, KeyUse, Registrant};
use scheme::{DoctorId, VerifyingKey};

use crate::hospital::{HospitalService, unsigned};
use crate::http::Refused;
use client::now;

/// The standing of a doctor's key is asked again after this.
const STANDING_MS: u64 = 60 * 1000;
/// Keys whose standing is remembered.
const STANDINGS_MAX: usize = 10_000;

/// A doctor of this hospital who is not blocked.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownDoctor {
    pub(super) id: DoctorId,
    pub(super) key: VerifyingKey,
}

impl KnownDoctor {
    /// As the database knows the doctor.
    pub(super) fn row(&self) -> [u8; 8] {
        self.id.number().to_be_bytes()
    }

    /// As deeds name the doctor.
    pub(super) fn name(&self) -> String {
        format!("doctor {}", self.id.number())
    }
}

impl HospitalService {
    /// The calling doctor, for what the hospital's own records answer.
    pub(super) async fn known_doctor(&self, call: &VerifiedCall) -> Result<KnownDoctor, Refused> {
        let found = self
            .database
            .row(
                "SELECT id, not_after, blocked_by FROM doctors WHERE signer = $1",
                &[(*call.key().as_bytes()).into()],
            )
            .await?;
        let row = found.ok_or_else(|| {
            Refused::new(
                ProblemKind::NoRight,
                "this hospital knows no doctor with this key: enter the certificate with PUT /v1/doctors/self first",
            )
        })?;
        if !row.text(2)?.is_empty() {
            return Err(Refused::new(
                ProblemKind::NoRight,
                "this doctor is blocked at this hospital: ask its IT",
            ));
        }
        if unsigned(row.integer(1)?) < now().number() {
            return Err(Refused::new(
                ProblemKind::NoRight,
                "this doctor's certificate has expired: renew it at the registration centre and enter the new one",
            ));
        }
        Ok(KnownDoctor {
            id: DoctorId::new(u64::from_be_bytes(row.array(0)?)),
            key: call.key(),
        })
    }

    /// The calling doctor, for new work: f + 1 nodes say that the key is in force.
    pub(super) async fn doctor(&self, call: &VerifiedCall) -> Result<KnownDoctor, Refused> {
        let doctor = self.known_doctor(call).await?;
        self.check_standing(&doctor.key, doctor.id).await?;
        Ok(doctor)
    }

    /// Whether the key is in force on the chain as this hospital's doctor's; asked at most once in a
    /// minute.
    pub(super) async fn check_standing(
        &self,
        key: &VerifyingKey,
        id: DoctorId,
    ) -> Result<(), Refused> {
        let now = now();
        let standings = || {
            self.standings
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let asked = standings().get(key.as_bytes()).copied();
        if asked.is_some_and(|asked| now.number().saturating_sub(asked.number()) < STANDING_MS) {
            return Ok(());
        }
        let agreed = self
            .chain
            .agreed_key(KeyHash::of(key))
            .await
            .map_err(|error| Refused::of(ProblemKind::Busy, &error))?;
        let own = Registrant::Doctor {
            institution: self.config.institution,
            doctor: id,
        };
        let stands = agreed.is_some_and(|agreed| {
            agreed.usage() == KeyUse::Signature && agreed.registrant() == own
        });
        let mut standings = standings();
        if !stands {
            standings.remove(key.as_bytes());
            return Err(Refused::new(
                ProblemKind::NoRight,
                "this doctor's key is not in force on the chain: renew the certificate at the registration centre",
            ));
        }
        if standings.len() >= STANDINGS_MAX {
            standings.clear();
        }
        standings.insert(*key.as_bytes(), now);
        Ok(())
    }

    /// Checks that the call is signed under the account key of this UID. A UID of somebody else is as
    /// unknown as one that was never given.
    pub(super) async fn check_account(
        &self,
        call: &VerifiedCall,
        uid: Hex<8>,
    ) -> Result<(), Refused> {
        let found = self
            .database
            .row(
                "SELECT 1 FROM uids WHERE uid = $1 AND account = $2",
                &[uid.0.into(), (*call.key().as_bytes()).into()],
            )
            .await?;
        found.map(drop).ok_or_else(no_such_uid)
    }

    /// Whether the call is signed under the account key of any UID.
    pub(super) async fn is_account(&self, call: &VerifiedCall) -> Result<bool, Refused> {
        let found = self
            .database
            .row(
                "SELECT 1 FROM uids WHERE account = $1 LIMIT 1",
                &[(*call.key().as_bytes()).into()],
            )
            .await?;
        Ok(found.is_some())
    }

    /// The name of the calling IT key.
    pub(super) fn it(&self, call: &VerifiedCall) -> Result<&str, Refused> {
        let key = call.key();
        let found = self.config.it.iter().find(|(_, own)| *own == key);
        found.map(|(name, _)| name.as_str()).ok_or_else(|| {
            Refused::new(
                ProblemKind::NoRight,
                "this is for the hospital's IT: sign with one of its configured keys",
            )
        })
    }
}

pub(super) fn no_such_uid() -> Refused {
    Refused::new(
        ProblemKind::NotFound,
        "this key has no such UID here: ask for the UID at registration, or a doctor to free it if the device was lost",
    )
}
