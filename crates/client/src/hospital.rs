//! The calls of a hospital's server (steps 2, 3, 5 and 6): doctors sign under the key that the centre
//! certified, patients under their account key at this hospital, IT under the keys that are configured.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use ledger::{RequestStatement, TransactionId, encode_record_statement};
use parties::{Certificate, StorageReceipt};
use reqwest::Method;
use scheme::{
    AllocationId, BlindedKeyword, DecodeError, DoctorId, InstitutionId, Position, RaisedKeyword,
    RecordStatement, Signature, Timestamp, Uid, VerifyingKey, Writer, WriterEpoch,
    WriterEpochPublicKey,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ClientError;
use crate::query::Done;
use crate::service::{IdempotencyKey, ServiceClient, json};
use crate::text::{Base64, Hex};

/// The longest sealed message in a mailbox: a hand-over is under 1.2 KiB, a receipt under 200 bytes.
pub const SEALED_BYTES_MAX: usize = 4 * 1024;
/// Points raised, or positions given, in one call: the entries of the largest record.
pub const POINTS_MAX: usize = 1_024;
/// How often a state is asked for.
const POLL: Duration = Duration::from_millis(200);

/// A doctor's certificate, to be entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DoctorCertificate {
    /// As the registration centre signed it (spec/formats.md, M1).
    pub certificate: Base64,
}

/// A doctor whom the hospital knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HospitalDoctor {
    /// The id as certified.
    pub id: u64,
    /// The certificate (spec/formats.md, M1); whoever uses it checks it.
    pub certificate: Base64,
    /// Set if IT blocked the doctor.
    pub blocked: Option<DoctorBlock>,
}

/// Who blocked a doctor, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoctorBlock {
    /// The name of the IT key.
    pub by: String,
    /// In ms since 1970.
    pub time: u64,
}

/// A page of doctors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HospitalDoctors {
    /// Ascending by id, at most 100.
    pub doctors: Vec<HospitalDoctor>,
    /// Where the next page begins, if there is one: `?after=`.
    pub next: Option<u64>,
}

/// A UID that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GivenUid {
    /// Its 16 hexadecimal digits; the UID is their ASCII text.
    pub uid: Hex<8>,
}

/// Whose a UID is from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NextAccount {
    /// The account key of the same patient's next keys.
    pub account: Hex<32>,
}

/// A hand-over for a doctor's mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewHandover {
    /// The patient's UID.
    pub uid: Hex<8>,
    /// Which doctor.
    pub doctor: u64,
    /// SK_D and the patient's keys, sealed to the doctor (spec/formats.md, M4): at most 4 KiB.
    pub sealed: Base64,
}

/// A hand-over that waits for its doctor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Handover {
    /// Names it here.
    pub id: Hex<16>,
    /// Whose.
    pub uid: Hex<8>,
    /// Sealed to the doctor (spec/formats.md, M4).
    pub sealed: Base64,
    /// When it came, in ms since 1970.
    pub time: u64,
}

/// A doctor's mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Handovers {
    /// All that wait, the oldest first: at most 256.
    pub handovers: Vec<Handover>,
}

/// A message for a colleague.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewColleagueMessage {
    /// Which doctor of this hospital.
    pub doctor: u64,
    /// Sealed to the doctor (spec/formats.md, M28): at most 16,434 bytes.
    pub sealed: Base64,
}

/// A colleague's message that waits for its doctor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ColleagueMessage {
    /// Names it here.
    pub id: Hex<16>,
    /// Who sent it.
    pub from: u64,
    /// Sealed to the doctor (spec/formats.md, M28).
    pub sealed: Base64,
    /// When it came, in ms since 1970.
    pub time: u64,
}

/// A doctor's messages from colleagues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ColleagueMessages {
    /// All that wait, the oldest first: at most 64.
    pub messages: Vec<ColleagueMessage>,
}

/// What was put into a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deposited {
    /// Names it there.
    pub id: Hex<16>,
}

/// A doctor's receipt for a patient's mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPatientReceipt {
    /// The patient's UID.
    pub uid: Hex<8>,
    /// Transaction, LK and delta, sealed to the patient (spec/formats.md, M7): at most 4 KiB.
    pub sealed: Base64,
}

/// A receipt that waits for its patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PatientReceipt {
    /// Names it here.
    pub id: Hex<16>,
    /// Which doctor left it.
    pub doctor: u64,
    /// Sealed to the patient (spec/formats.md, M7).
    pub sealed: Base64,
    /// When it came, in ms since 1970.
    pub time: u64,
}

/// A patient's mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PatientReceipts {
    /// All that wait, the oldest first: at most 256.
    pub receipts: Vec<PatientReceipt>,
}

/// Under which writer epoch indexes are made now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CurrentWriter {
    /// The institution.
    pub institution: u32,
    /// Its writer epoch.
    pub epoch: u32,
    /// R; what counts is the one on the chain.
    pub key: Hex<96>,
    /// Whether the next writer epoch is being begun: an index that is begun now may have to be built
    /// anew.
    pub ending: bool,
}

/// Asks for a position for each allocation id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskedPositions {
    /// Distinct, at most 1,024.
    pub ids: Vec<Hex<32>>,
}

/// Positions, in the order of the ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GivenPositions {
    /// One for each id.
    pub positions: Vec<u64>,
}

/// A position that a record's entry stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UsedPosition {
    /// The allocation id that it was asked for with.
    pub id: Hex<32>,
    /// The position.
    pub position: u64,
}

/// A record for the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRecord {
    /// What the doctor signed, as it stands in the record's transaction (spec/chain.md).
    pub statement: Base64,
    /// The doctor's signature of it.
    pub signature: Hex<64>,
    /// The positions of its entries, without the random ones.
    pub positions: Vec<UsedPosition>,
    /// The cloud's storage receipt of its container (spec/formats.md, M8).
    pub receipt: Hex<144>,
}

/// A request for the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewChainRequest {
    /// What the doctor signed, as it stands in the request's transaction (spec/chain.md).
    pub statement: Base64,
    /// The doctor's signature of it.
    pub signature: Hex<64>,
}

/// A transaction that the hospital's server countersigned and hands in until it is settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    /// Its id.
    pub transaction: Hex<32>,
    /// How far it is.
    pub state: SubmittedState,
}

/// How far a transaction is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubmittedState {
    /// It is kept, and handed in until it is settled.
    Pending,
    /// f + 1 nodes acknowledged it.
    Final {
        /// In the block of this height.
        height: u64,
    },
    /// f + 1 nodes refused it: build it anew.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

/// Something that IT, or a doctor for a patient, did and that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deed {
    /// Who: "it NAME" or "doctor ID".
    pub actor: String,
    /// What.
    pub action: String,
    /// When, in ms since 1970.
    pub time: u64,
}

/// A page of deeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deeds {
    /// The newest first, at most 100.
    pub deeds: Vec<Deed>,
}

/// A container that the cloud no longer had as it gave its receipt for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HospitalDamage {
    /// Where it lies.
    pub address: Hex<32>,
    /// The receipt that the cloud gave for it.
    pub receipt: Hex<144>,
    /// Whether it was lost or altered.
    pub lost: bool,
    /// What was found, and what became of it.
    pub detail: String,
    /// When that was found, in ms since 1970.
    pub found: u64,
    /// When it was restored from the second store.
    pub restored: Option<u64>,
}

/// A page of damages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HospitalDamages {
    /// The newest first, at most 100.
    pub damages: Vec<HospitalDamage>,
}

/// A client of a hospital's server.
#[derive(Clone)]
pub struct HospitalClient {
    service: ServiceClient,
}

impl HospitalClient {
    /// With a client that signs: under a doctor's signing key, a patient's account key or an IT key.
    pub fn new(service: ServiceClient) -> Self {
        Self { service }
    }

    /// Enters the calling doctor.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn enter_doctor(
        &self,
        certificate: &Certificate,
    ) -> Result<HospitalDoctor, ClientError> {
        let body = DoctorCertificate {
            certificate: Base64(certificate.encode()),
        };
        self.service
            .put("/v1/doctors/self", &body, &IdempotencyKey::random())
            .await
    }

    /// The hospital's doctors after this id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn doctors(&self, after: Option<DoctorId>) -> Result<HospitalDoctors, ClientError> {
        match after {
            None => self.service.get("/v1/doctors").await,
            Some(id) => {
                let target = format!("/v1/doctors?after={}", id.number());
                self.service.get(&target).await
            }
        }
    }

    /// One of the hospital's doctors.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn doctor(&self, id: DoctorId) -> Result<HospitalDoctor, ClientError> {
        let target = format!("/v1/doctors/{}", id.number());
        self.service.get(&target).await
    }

    /// A fresh UID for a patient.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn give_uid(&self) -> Result<Uid, ClientError> {
        let key = IdempotencyKey::random();
        let given = self.service.bare(Method::POST, "/v1/uids", &key).await?;
        let given: GivenUid = json(&given)?;
        Ok(Uid::new(given.uid.to_string().as_bytes())?)
    }

    /// Binds the calling account key to a UID.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn bind_account(&self, uid: &Uid) -> Result<(), ClientError> {
        self.account(Method::PUT, uid).await
    }

    /// Frees a UID from the account key of a device that was lost.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unbind_account(&self, uid: &Uid) -> Result<(), ClientError> {
        self.account(Method::DELETE, uid).await
    }

    /// Gives a UID from the calling account key to that of the same patient's next keys. Safe to repeat.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pass_account_on(&self, uid: &Uid, next: &VerifyingKey) -> Result<(), ClientError> {
        let target = format!("/v1/uids/{}/account/next", digits(uid)?);
        let body = NextAccount {
            account: Hex(*next.as_bytes()),
        };
        let key = IdempotencyKey::random();
        let Done {} = self.service.put(&target, &body, &key).await?;
        Ok(())
    }

    async fn account(&self, method: Method, uid: &Uid) -> Result<(), ClientError> {
        let target = format!("/v1/uids/{}/account", digits(uid)?);
        let key = IdempotencyKey::random();
        self.service.bare(method, &target, &key).await.map(drop)
    }

    /// Leaves a sealed hand-over for a doctor.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn hand_over(
        &self,
        uid: &Uid,
        doctor: DoctorId,
        sealed: Vec<u8>,
    ) -> Result<Deposited, ClientError> {
        let key = IdempotencyKey::of(&sealed);
        let body = NewHandover {
            uid: digits(uid)?,
            doctor: doctor.number(),
            sealed: Base64(sealed),
        };
        self.service.post("/v1/handovers", &body, &key).await
    }

    /// The calling doctor's hand-overs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn handovers(&self) -> Result<Vec<Handover>, ClientError> {
        let found: Handovers = self.service.get("/v1/handovers").await?;
        Ok(found.handovers)
    }

    /// The hand-overs that wait, and those that come, until the stream ends; then it is opened anew.
    ///
    /// # Errors
    /// [`ClientError`], also within the stream.
    pub async fn handover_events(
        &self,
    ) -> Result<BoxStream<'static, Result<Handover, ClientError>>, ClientError> {
        self.events("/v1/handovers/events").await
    }

    /// Removes a hand-over once it is accepted.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_handover(&self, id: Hex<16>) -> Result<(), ClientError> {
        self.remove(&format!("/v1/handovers/{id}")).await
    }

    /// Leaves a sealed message for a colleague.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send_message(
        &self,
        doctor: DoctorId,
        sealed: Vec<u8>,
    ) -> Result<Deposited, ClientError> {
        let key = IdempotencyKey::of(&sealed);
        let body = NewColleagueMessage {
            doctor: doctor.number(),
            sealed: Base64(sealed),
        };
        self.service.post("/v1/messages", &body, &key).await
    }

    /// The calling doctor's messages from colleagues.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn messages(&self) -> Result<Vec<ColleagueMessage>, ClientError> {
        let found: ColleagueMessages = self.service.get("/v1/messages").await?;
        Ok(found.messages)
    }

    /// Removes a colleague's message once it is taken.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_message(&self, id: Hex<16>) -> Result<(), ClientError> {
        self.remove(&format!("/v1/messages/{id}")).await
    }

    /// Leaves a sealed receipt for a patient.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn leave_receipt(
        &self,
        uid: &Uid,
        sealed: Vec<u8>,
    ) -> Result<Deposited, ClientError> {
        let key = IdempotencyKey::of(&sealed);
        let body = NewPatientReceipt {
            uid: digits(uid)?,
            sealed: Base64(sealed),
        };
        self.service.post("/v1/receipts", &body, &key).await
    }

    /// The receipts for the UID of the calling account.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn receipts(&self, uid: &Uid) -> Result<Vec<PatientReceipt>, ClientError> {
        let target = format!("/v1/receipts?uid={}", digits(uid)?);
        let found: PatientReceipts = self.service.get(&target).await?;
        Ok(found.receipts)
    }

    /// The receipts that wait, and those that come, until the stream ends; then it is opened anew.
    ///
    /// # Errors
    /// [`ClientError`], also within the stream.
    pub async fn receipt_events(
        &self,
        uid: &Uid,
    ) -> Result<BoxStream<'static, Result<PatientReceipt, ClientError>>, ClientError> {
        let target = format!("/v1/receipts/events?uid={}", digits(uid)?);
        self.events(&target).await
    }

    /// Removes a receipt once it is kept.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_receipt(&self, id: Hex<16>) -> Result<(), ClientError> {
        self.remove(&format!("/v1/receipts/{id}")).await
    }

    /// Under which writer epoch the hospital makes indexes, and whether that is ending. R is asked of
    /// the chain ([`ConsortiumClient::writer_epochs`](crate::ConsortiumClient::writer_epochs)); this one
    /// is the hospital's word.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn writer(&self) -> Result<(Writer, WriterEpochPublicKey), ClientError> {
        let found: CurrentWriter = self.service.get("/v1/writer").await?;
        let writer = Writer {
            institution: InstitutionId::new(found.institution),
            epoch: WriterEpoch::new(found.epoch),
        };
        Ok((writer, WriterEpochPublicKey::from_bytes(&found.key.0)?))
    }

    /// Ends the writer epoch, by IT.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn end_writer_epoch(&self) -> Result<CurrentWriter, ClientError> {
        let key = IdempotencyKey::random();
        let target = "/v1/it/writer-epochs";
        json(&self.service.bare(Method::POST, target, &key).await?)
    }

    /// Has blinded keywords raised to y. Sent again, the same points count once against the quota.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn raise(
        &self,
        blinded: &[BlindedKeyword],
    ) -> Result<Vec<RaisedKeyword>, ClientError> {
        let mut body = Vec::with_capacity(blinded.len() * 48);
        for point in blinded {
            body.extend_from_slice(point.as_bytes());
        }
        let key = IdempotencyKey::of(&body);
        let raised = self.service.post_bytes("/v1/raised", body, &key).await?;
        let (points, rest) = raised.as_chunks::<48>();
        if !rest.is_empty() || points.len() != blinded.len() {
            return Err(ClientError::Malformed(DecodeError::Invalid {
                what: "the raised keywords",
                why: "they are another number than was sent",
            }));
        }
        let points = points.iter().map(RaisedKeyword::from_bytes);
        Ok(points.collect::<Result<_, _>>()?)
    }

    /// Asks for a position for each id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn positions(&self, ids: &[AllocationId]) -> Result<Vec<Position>, ClientError> {
        let body = AskedPositions {
            ids: ids.iter().map(|id| Hex(*id.as_bytes())).collect(),
        };
        let key = IdempotencyKey::random();
        let given: GivenPositions = self.service.post("/v1/positions", &body, &key).await?;
        Ok(given.positions.into_iter().map(Position::new).collect())
    }

    /// Hands a signed record in. Sent again it is the same record.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn record(
        &self,
        statement: &RecordStatement,
        signature: &Signature,
        positions: &[(AllocationId, Position)],
        receipt: &StorageReceipt,
    ) -> Result<Submitted, ClientError> {
        let used = |(id, position): &(AllocationId, Position)| UsedPosition {
            id: Hex(*id.as_bytes()),
            position: position.number(),
        };
        let receipt = receipt.encode().try_into().unwrap_or([0; 144]);
        let body = NewRecord {
            statement: Base64(encode_record_statement(statement)),
            signature: Hex(*signature.as_bytes()),
            positions: positions.iter().map(used).collect(),
            receipt: Hex(receipt),
        };
        // Not by its content: the answer to the same record changes when it is settled.
        let key = IdempotencyKey::random();
        self.service.post("/v1/records", &body, &key).await
    }

    /// How far a record or request of the calling doctor is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn transaction_state(&self, id: TransactionId) -> Result<Submitted, ClientError> {
        let target = format!("/v1/transactions/{}", hex::encode(id.as_bytes()));
        self.service.get(&target).await
    }

    /// The states of a record or request until it is settled.
    ///
    /// # Errors
    /// [`ClientError`], also within the stream.
    pub async fn transaction_events(
        &self,
        id: TransactionId,
    ) -> Result<BoxStream<'static, Result<Submitted, ClientError>>, ClientError> {
        let target = format!("/v1/transactions/{}/events", hex::encode(id.as_bytes()));
        self.events(&target).await
    }

    /// Waits until a record or request is settled, or the time is up; then it is still pending.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn settled(
        &self,
        id: TransactionId,
        bound: Duration,
    ) -> Result<Submitted, ClientError> {
        let end = Instant::now() + bound;
        loop {
            let found = self.transaction_state(id).await?;
            if found.state != SubmittedState::Pending || Instant::now() >= end {
                return Ok(found);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Hands a signed request in. Sent again it is the same request.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn request(
        &self,
        statement: &RequestStatement,
        signature: &Signature,
    ) -> Result<Submitted, ClientError> {
        let body = NewChainRequest {
            statement: Base64(statement.encode()),
            signature: Hex(*signature.as_bytes()),
        };
        let key = IdempotencyKey::random();
        self.service.post("/v1/requests", &body, &key).await
    }

    /// Blocks a doctor, by IT.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn block_doctor(&self, id: DoctorId) -> Result<HospitalDoctor, ClientError> {
        self.block(Method::POST, id).await
    }

    /// Lets a blocked doctor in again, by IT.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unblock_doctor(&self, id: DoctorId) -> Result<HospitalDoctor, ClientError> {
        self.block(Method::DELETE, id).await
    }

    async fn block(&self, method: Method, id: DoctorId) -> Result<HospitalDoctor, ClientError> {
        let target = format!("/v1/it/doctors/{}/block", id.number());
        let key = IdempotencyKey::random();
        json(&self.service.bare(method, &target, &key).await?)
    }

    /// What was done and is kept, before this time, for IT.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn deeds(&self, before: Option<Timestamp>) -> Result<Vec<Deed>, ClientError> {
        let found: Deeds = match before {
            None => self.service.get("/v1/it/deeds").await?,
            Some(time) => {
                let target = format!("/v1/it/deeds?before={}", time.number());
                self.service.get(&target).await?
            }
        };
        Ok(found.deeds)
    }

    /// The containers that were found lost or altered, for IT.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn damages(&self) -> Result<Vec<HospitalDamage>, ClientError> {
        let found: HospitalDamages = self.service.get("/v1/damages").await?;
        Ok(found.damages)
    }

    async fn remove(&self, target: &str) -> Result<(), ClientError> {
        let key = IdempotencyKey::random();
        let done: Bytes = self.service.bare(Method::DELETE, target, &key).await?;
        drop(done);
        Ok(())
    }

    async fn events<T: DeserializeOwned + Send + 'static>(
        &self,
        target: &str,
    ) -> Result<BoxStream<'static, Result<T, ClientError>>, ClientError> {
        let events = self.service.events(target).await?;
        Ok(events.map(|event| json(event?.data.as_bytes())).boxed())
    }
}

/// The digits of a UID as a hospital's server gives it.
fn digits(uid: &Uid) -> Result<Hex<8>, ClientError> {
    let text = std::str::from_utf8(uid.as_bytes()).unwrap_or_default();
    text.parse().map_err(|_| {
        ClientError::Malformed(DecodeError::Invalid {
            what: "the UID",
            why: "it is not one that a hospital's server gives: 16 hexadecimal digits",
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_travels_as_its_digits_and_comes_back_the_same() {
        let uid = Uid::new(b"00ff12ab34cd56ef").unwrap();
        assert_eq!(digits(&uid).unwrap().to_string().as_bytes(), uid.as_bytes());
        for wrong in [&b"P-1"[..], b"00ff12ab34cd56e", b"\xff\xff"] {
            assert!(digits(&Uid::new(wrong).unwrap()).is_err());
        }
    }

    #[test]
    fn a_state_is_a_word_or_a_word_with_its_reason() {
        let text = |state: &SubmittedState| serde_json::to_string(state).unwrap();
        let refused = SubmittedState::Refused {
            reason: "why".into(),
        };
        assert_eq!(text(&SubmittedState::Pending), r#""pending""#);
        assert_eq!(
            text(&SubmittedState::Final { height: 5 }),
            r#"{"final":{"height":5}}"#
        );
        assert_eq!(text(&refused), r#"{"refused":{"reason":"why"}}"#);
    }
}
