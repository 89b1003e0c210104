//! Who belongs to the consortium: institutions, the centre's keys, users, writer epochs, nodes' keys.

use std::fmt;

use scheme::{ConsortiumId, DoctorId, InstitutionId, ValidatorEpoch, WriterEpoch};
use scheme::{Context, Signature, SigningKey, VerifyingKey};
use scheme::{DecodeError, Decoder, Encoder, HpkePublicKey};
use scheme::{WriterEpochProof, WriterEpochPublicKey};

use super::{CheckError, Kind, Signer, Text, decode_key, decode_signature};
use crate::identity::{CentreKeyNumber, KeyHash, TransactionId};
use crate::policy::{NODES_MAX, Tier};

/// A medical institution as the consortium knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Institution {
    /// The code that the registration centre gave it; unique.
    pub id: InstitutionId,
    /// Decides whether its node accounts or verifies.
    pub tier: Tier,
    /// For people.
    pub name: InstitutionName,
    /// Signs its transactions.
    pub key: VerifyingKey,
    /// Its node's consensus key.
    pub node: VerifyingKey,
}

impl Institution {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.u32(self.id.number())
            .u8(self.tier.code())
            .var(self.name.0.as_bytes())
            .bytes(self.key.as_bytes())
            .bytes(self.node.as_bytes());
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: InstitutionId::new(from.u32("institution")?),
            tier: Tier::from_code(from.u8("tier")?)?,
            name: InstitutionName::from_bytes(from.var("institution's name", NAME_BYTES_MAX)?)?,
            key: decode_key("institution's key", from)?,
            node: decode_key("node key", from)?,
        })
    }

    pub(crate) fn check_shape(&self) -> Result<(), DecodeError> {
        if self.key == self.node {
            let what = "keys of the institution";
            return Err(DecodeError::Invalid {
                what,
                why: "one key in two roles",
            });
        }
        for (what, key) in [("institution's key", &self.key), ("node key", &self.node)] {
            // The engine's rule knows no small order: under such a node key anyone could vote.
            if !key.can_verify() {
                let why = "no point of the curve, or of small order";
                return Err(DecodeError::Invalid { what, why });
            }
        }
        Ok(())
    }
}

/// An institution's name: 1 to 64 bytes of UTF-8 without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstitutionName(String);

impl InstitutionName {
    /// Checks length and characters.
    ///
    /// # Errors
    /// [`DecodeError`] if it is empty, longer than 64 bytes or holds a control character.
    pub fn new(name: &str) -> Result<Self, DecodeError> {
        Self::from_bytes(name.as_bytes())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = "institution's name";
        if bytes.len() > NAME_BYTES_MAX {
            let (found, limit) = (bytes.len() as u64, NAME_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge { what, found, limit });
        }
        let name = std::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid {
            what,
            why: "not UTF-8",
        })?;
        if name.is_empty() || name.chars().any(char::is_control) {
            let why = "empty or with control characters";
            return Err(DecodeError::Invalid { what, why });
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstitutionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Admits an institution after genesis: it signs with both its keys, and at least 2f + 1 present
/// institutions approve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Who is admitted.
    pub subject: Institution,
    /// By the institution's own key.
    pub institution: Signature,
    /// By the node's own key, so that nobody admits another's.
    pub node: Signature,
    /// Strictly ascending by institution.
    pub approvals: Vec<Approval>,
}

/// A present institution's approval of an admission, or of the centre's next key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approval {
    /// Who approves.
    pub by: InstitutionId,
    /// By that institution's key.
    pub signature: Signature,
}

impl Approval {
    /// Approves the admission of `subject`.
    pub fn sign(
        consortium: &ConsortiumId,
        subject: &Institution,
        by: InstitutionId,
        key: &SigningKey,
    ) -> Self {
        Self {
            by,
            signature: admission_text(subject).sign(consortium, key),
        }
    }

    /// Approves the centre's next key, and what its transaction says of the keys before.
    pub fn of_centre_key(
        consortium: &ConsortiumId,
        next: &NextCentreKey,
        by: InstitutionId,
        key: &SigningKey,
    ) -> Self {
        Self {
            by,
            signature: next.sign(consortium, key),
        }
    }

    /// At most as many as a node set has members, strictly ascending by institution.
    fn check_shape(what: &'static str, approvals: &[Self]) -> Result<(), DecodeError> {
        if approvals.len() > NODES_MAX {
            let (found, limit) = (approvals.len() as u64, NODES_MAX as u64);
            return Err(DecodeError::TooLarge { what, found, limit });
        }
        if !approvals.is_sorted_by(|one, other| one.by < other.by) {
            return Err(DecodeError::Invalid {
                what,
                why: "not strictly ascending by institution",
            });
        }
        Ok(())
    }

    fn encode_all(approvals: &[Self], out: &mut Encoder) {
        let count = u32::try_from(approvals.len()).expect("at most 255 institutions approve");
        out.u32(count);
        for approval in approvals {
            out.u32(approval.by.number())
                .bytes(approval.signature.as_bytes());
        }
    }

    fn decode_all(from: &mut Decoder<'_>) -> Result<Vec<Self>, DecodeError> {
        let count = from.count("number of approvals", NODES_MAX)?;
        (0..count)
            .map(|_| {
                let by = InstitutionId::new(from.u32("approving institution")?);
                Ok(Self {
                    by,
                    signature: decode_signature(from)?,
                })
            })
            .collect()
    }
}

impl Admission {
    /// The institution asks with both its keys; approvals are brought together beside.
    pub fn sign(
        consortium: &ConsortiumId,
        subject: Institution,
        key: &SigningKey,
        node_key: &SigningKey,
        mut approvals: Vec<Approval>,
    ) -> Self {
        approvals.sort_by_key(|approval| approval.by);
        let text = admission_text(&subject);
        let institution = text.sign(consortium, key);
        let node = text.countersign(
            Context::Transaction,
            consortium,
            institution.as_bytes(),
            node_key,
        );
        Self {
            subject,
            institution,
            node,
            approvals,
        }
    }

    pub(super) fn text(&self) -> Text {
        admission_text(&self.subject)
    }

    /// Level 2: possession of both keys.
    pub(super) fn check(&self, consortium: &ConsortiumId) -> Result<(), CheckError> {
        let text = self.text();
        text.verify(consortium, &self.subject.key, &self.institution)
            .map_err(Signer::Institution.failed())?;
        text.verify_countersignature(
            Context::Transaction,
            consortium,
            self.institution.as_bytes(),
            &self.subject.node,
            &self.node,
        )
        .map_err(Signer::Node.failed())
    }

    /// Level 3: one approval, under the approver's key in the state.
    pub(crate) fn check_approval(
        &self,
        consortium: &ConsortiumId,
        approval: &Approval,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        self.text()
            .verify(consortium, key, &approval.signature)
            .map_err(Signer::Approver.failed())
    }

    pub(super) fn check_shape(&self) -> Result<(), DecodeError> {
        self.subject.check_shape()?;
        Approval::check_shape("approvals of the admission", &self.approvals)
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.subject.encode(out);
        out.bytes(self.institution.as_bytes())
            .bytes(self.node.as_bytes());
        Approval::encode_all(&self.approvals, out);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let subject = Institution::decode(from)?;
        let (institution, node) = (decode_signature(from)?, decode_signature(from)?);
        Ok(Self {
            subject,
            institution,
            node,
            approvals: Approval::decode_all(from)?,
        })
    }
}

fn admission_text(subject: &Institution) -> Text {
    Text::new(Context::Transaction, Kind::Admission, |out| {
        subject.encode(out);
    })
}

/// What is signed about the registration centre's next key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextCentreKey {
    /// The number after the current key's: so it stands for one state of the list of keys only.
    pub number: CentreKeyNumber,
    /// The key.
    pub key: VerifyingKey,
    /// The keys before it, current or retired, that were lost to others: from its block on no
    /// certificate under them is accepted. Strictly ascending. A current key that is not named here
    /// retires: what it signed stands to its own end.
    pub compromised: Vec<CentreKeyNumber>,
}

impl NextCentreKey {
    /// What everyone signs: the next key's holder, the current key's, and who approves.
    pub fn sign(&self, consortium: &ConsortiumId, key: &SigningKey) -> Signature {
        self.text().sign(consortium, key)
    }

    pub(super) fn text(&self) -> Text {
        Text::new(Context::Transaction, Kind::CentreKey, |out| {
            self.encode(out);
        })
    }

    fn check_shape(&self) -> Result<(), DecodeError> {
        let invalid = |what, why| Err(DecodeError::Invalid { what, why });
        if !(1..CENTRE_KEYS_MAX).contains(&self.number.place()) {
            return invalid("number of the centre's key", "not 1 to 63");
        }
        if !self.key.can_verify() {
            let why = "no point of the curve, or of small order";
            return invalid("the centre's key", why);
        }
        let what = "compromised keys of the centre";
        if !self.compromised.is_sorted_by(|one, other| one < other) {
            return invalid(what, "not strictly ascending");
        }
        if self.compromised.last() >= Some(&self.number) {
            return invalid(what, "not before the next key");
        }
        Ok(())
    }

    fn encode(&self, out: &mut Encoder) {
        // A count that does not fit is refused by level 1 before anything is signed for others.
        let count = u8::try_from(self.compromised.len()).unwrap_or(u8::MAX);
        out.u8(self.number.number())
            .bytes(self.key.as_bytes())
            .u8(count);
        for number in &self.compromised {
            out.u8(number.number());
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let number = CentreKeyNumber::new(from.u8("number of the centre's key")?);
        let key = decode_key("the centre's key", from)?;
        let what = "compromised keys of the centre";
        let count = from.count_u8(what, CENTRE_KEYS_MAX)?;
        let compromised = from.bytes(what, count)?;
        Ok(Self {
            number,
            key,
            compromised: compromised
                .iter()
                .map(|number| CentreKeyNumber::new(*number))
                .collect(),
        })
    }
}

/// Gives the registration centre its next key. The key's holder signs, and either the holder of the
/// current key with f + 1 present institutions, or, where that key is lost, n - f of them: the thief
/// of the centre's key alone changes nothing, and no loss is for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CentreKeyTransaction {
    /// The key, and what becomes of those before it.
    pub next: NextCentreKey,
    /// By the next key, so that nobody gives the centre another's.
    pub possession: Signature,
    /// By the current key, where its holder takes part.
    pub current: Option<Signature>,
    /// Strictly ascending by institution.
    pub approvals: Vec<Approval>,
}

impl CentreKeyTransaction {
    /// The next key signs; the others' signatures are brought together beside.
    pub fn sign(
        consortium: &ConsortiumId,
        next: NextCentreKey,
        key: &SigningKey,
        current: Option<Signature>,
        mut approvals: Vec<Approval>,
    ) -> Self {
        approvals.sort_by_key(|approval| approval.by);
        Self {
            possession: next.sign(consortium, key),
            next,
            current,
            approvals,
        }
    }

    /// Level 2: possession of the next key.
    pub(super) fn check(&self, consortium: &ConsortiumId) -> Result<(), CheckError> {
        let text = self.next.text();
        text.verify(consortium, &self.next.key, &self.possession)
            .map_err(Signer::NextCentreKey.failed())
    }

    /// Level 3: the current key's signature, if there is one, under that key in the state.
    pub(crate) fn check_current(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        match &self.current {
            None => Ok(()),
            Some(signature) => self
                .next
                .text()
                .verify(consortium, key, signature)
                .map_err(Signer::Centre.failed()),
        }
    }

    /// Level 3: one approval, under the approver's key in the state.
    pub(crate) fn check_approval(
        &self,
        consortium: &ConsortiumId,
        approval: &Approval,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        let text = self.next.text();
        text.verify(consortium, key, &approval.signature)
            .map_err(Signer::Approver.failed())
    }

    pub(super) fn check_shape(&self) -> Result<(), DecodeError> {
        self.next.check_shape()?;
        Approval::check_shape("approvals of the centre's key", &self.approvals)
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.next.encode(out);
        out.bytes(self.possession.as_bytes());
        match &self.current {
            None => out.u8(0),
            Some(signature) => out.u8(1).bytes(signature.as_bytes()),
        };
        Approval::encode_all(&self.approvals, out);
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        const CURRENT: &str = "whether the centre's current key signs";
        Ok(Self {
            next: NextCentreKey::decode(from)?,
            possession: decode_signature(from)?,
            current: match from.u8(CURRENT)? {
                0 => None,
                1 => Some(decode_signature(from)?),
                _ => {
                    return Err(DecodeError::Invalid {
                        what: CURRENT,
                        why: "not 0 or 1",
                    });
                }
            },
            approvals: Approval::decode_all(from)?,
        })
    }
}

/// A user as the registration centre certified them, without who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Registrant {
    /// A patient.
    Patient,
    /// A doctor of an institution.
    Doctor {
        /// Where the doctor works.
        institution: InstitutionId,
        /// The doctor's id, never given again.
        doctor: DoctorId,
    },
    /// A family agent.
    Agent,
}

/// What a registered key is for. No key serves two roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KeyUse {
    /// A, or another key to which records are sealed.
    Encryption,
    /// X.
    Search,
    /// O.
    Ownership,
    /// Ed25519: signs records, requests, agents' grants.
    Signature,
    /// HPKE: opens what is sealed to the user.
    Hpke,
}

impl KeyUse {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Encryption => 1,
            Self::Search => 2,
            Self::Ownership => 3,
            Self::Signature => 4,
            Self::Hpke => 5,
        }
    }

    pub(crate) fn from_code(code: u8) -> Result<Self, DecodeError> {
        match code {
            1 => Ok(Self::Encryption),
            2 => Ok(Self::Search),
            3 => Ok(Self::Ownership),
            4 => Ok(Self::Signature),
            5 => Ok(Self::Hpke),
            _ => Err(DecodeError::Invalid {
                what: "use of the key",
                why: "no such use",
            }),
        }
    }
}

/// One public key of a user, by its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserKey {
    /// SHA-256 of the key's bytes.
    pub hash: KeyHash,
    /// What it is for.
    pub usage: KeyUse,
}

/// The paper's interaction 2: SHA-256 of each public key of a certified user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Whose keys.
    pub registrant: Registrant,
    /// 1 to 8 of them, strictly ascending by hash.
    pub keys: Vec<UserKey>,
    /// By the registration centre's key.
    pub centre: Signature,
}

impl Registration {
    /// The registration centre signs. The keys are sorted here.
    pub fn sign(
        consortium: &ConsortiumId,
        registrant: Registrant,
        mut keys: Vec<UserKey>,
        centre: &SigningKey,
    ) -> Self {
        keys.sort_unstable();
        let centre = registration_text(registrant, &keys).sign(consortium, centre);
        Self {
            registrant,
            keys,
            centre,
        }
    }

    pub(crate) fn text(&self) -> Text {
        registration_text(self.registrant, &self.keys)
    }

    /// Level 3: the centre's signature, under its key in the state.
    pub(crate) fn check_centre(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        self.text()
            .verify(consortium, key, &self.centre)
            .map_err(Signer::Centre.failed())
    }

    pub(super) fn check_shape(&self) -> Result<(), DecodeError> {
        let what = "registered keys";
        if self.keys.is_empty() || self.keys.len() > USER_KEYS_MAX {
            return Err(DecodeError::Invalid {
                what,
                why: "not 1 to 8",
            });
        }
        if !self.keys.is_sorted_by(|one, other| one.hash < other.hash) {
            return Err(DecodeError::Invalid {
                what,
                why: "not strictly ascending by hash",
            });
        }
        Ok(())
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        encode_registration(self.registrant, &self.keys, out);
        out.bytes(self.centre.as_bytes());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let registrant = Registrant::decode(from)?;
        let count = from.u8("number of registered keys")?;
        let keys = (0..count)
            .map(|_| {
                Ok(UserKey {
                    usage: KeyUse::from_code(from.u8("use of the key")?)?,
                    hash: KeyHash::new(from.array("hash of the key")?),
                })
            })
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self {
            registrant,
            keys,
            centre: decode_signature(from)?,
        })
    }
}

impl Registrant {
    pub(crate) fn encode(self, out: &mut Encoder) {
        match self {
            Self::Patient => out.u8(1),
            Self::Doctor {
                institution,
                doctor,
            } => out.u8(2).u32(institution.number()).u64(doctor.number()),
            Self::Agent => out.u8(3),
        };
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match from.u8("role of the user")? {
            1 => Ok(Self::Patient),
            2 => Ok(Self::Doctor {
                institution: InstitutionId::new(from.u32("institution")?),
                doctor: DoctorId::new(from.u64("doctor's id")?),
            }),
            3 => Ok(Self::Agent),
            _ => Err(DecodeError::Invalid {
                what: "role of the user",
                why: "no such role",
            }),
        }
    }
}

fn registration_text(registrant: Registrant, keys: &[UserKey]) -> Text {
    Text::new(Context::Transaction, Kind::Registration, |out| {
        encode_registration(registrant, keys, out);
    })
}

fn encode_registration(registrant: Registrant, keys: &[UserKey], out: &mut Encoder) {
    registrant.encode(out);
    // A count that does not fit is refused by level 1 before anything is signed for others.
    out.u8(u8::try_from(keys.len()).unwrap_or(u8::MAX));
    for key in keys {
        out.u8(key.usage.code()).bytes(key.hash.as_bytes());
    }
}

/// Revokes a user's certificate: all keys of one registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateRevocation {
    /// The registration's transaction.
    pub registration: TransactionId,
    /// By the registration centre's key.
    pub centre: Signature,
}

impl CertificateRevocation {
    /// The registration centre signs.
    pub fn sign(
        consortium: &ConsortiumId,
        registration: TransactionId,
        centre: &SigningKey,
    ) -> Self {
        let centre = certificate_text(registration).sign(consortium, centre);
        Self {
            registration,
            centre,
        }
    }

    pub(super) fn text(&self) -> Text {
        certificate_text(self.registration)
    }

    /// Level 3: the centre's signature, under its key in the state.
    pub(crate) fn check_centre(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        self.text()
            .verify(consortium, key, &self.centre)
            .map_err(Signer::Centre.failed())
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.bytes(self.registration.as_bytes())
            .bytes(self.centre.as_bytes());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let registration = TransactionId::new(from.array("revoked registration")?);
        Ok(Self {
            registration,
            centre: decode_signature(from)?,
        })
    }
}

fn certificate_text(registration: TransactionId) -> Text {
    Text::new(Context::Transaction, Kind::CertificateRevocation, |out| {
        out.bytes(registration.as_bytes());
    })
}

/// Begins a writer epoch: from here the institution's records are indexed under R, and its earlier
/// writer epoch has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterEpochTransaction {
    /// Whose.
    pub institution: InstitutionId,
    /// The number after the last one; the first is 0.
    pub epoch: WriterEpoch,
    /// R.
    pub key: WriterEpochPublicKey,
    /// That the institution knows y.
    pub proof: WriterEpochProof,
    /// By the institution's key.
    pub signature: Signature,
}

impl WriterEpochTransaction {
    /// The institution signs.
    pub fn sign(
        consortium: &ConsortiumId,
        institution: InstitutionId,
        epoch: WriterEpoch,
        key: WriterEpochPublicKey,
        proof: WriterEpochProof,
        signer: &SigningKey,
    ) -> Self {
        let signature = Signature::new([0; 64]);
        let mut unsigned = Self {
            institution,
            epoch,
            key,
            proof,
            signature,
        };
        unsigned.signature = unsigned.text().sign(consortium, signer);
        unsigned
    }

    pub(super) fn text(&self) -> Text {
        Text::new(Context::Transaction, Kind::WriterEpoch, |out| {
            self.encode_body(out);
        })
    }

    /// Level 2: that the institution knows y.
    pub(super) fn check(&self, consortium: &ConsortiumId) -> Result<(), CheckError> {
        self.proof
            .verify(consortium, self.institution, self.epoch, &self.key)
            .map_err(|_| CheckError::WriterEpochProof)
    }

    /// Level 3: the institution's signature, under its key in the state.
    pub(crate) fn check_institution(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        self.text()
            .verify(consortium, key, &self.signature)
            .map_err(Signer::Institution.failed())
    }

    fn encode_body(&self, out: &mut Encoder) {
        out.u32(self.institution.number())
            .u32(self.epoch.number())
            .bytes(self.key.as_bytes())
            .bytes(&self.proof.to_bytes());
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.encode_body(out);
        out.bytes(self.signature.as_bytes());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            institution: InstitutionId::new(from.u32("institution")?),
            epoch: WriterEpoch::new(from.u32("writer epoch")?),
            key: WriterEpochPublicKey::from_bytes(&from.array("writer epoch key")?)?,
            proof: WriterEpochProof::from_bytes(&from.array("writer epoch proof")?),
            signature: decode_signature(from)?,
        })
    }
}

/// An accounting node's certificate of the HPKE key to which grants of one validator epoch seal its
/// share. It stands on the chain so that a grant, which is sealed to every accounting node, can be
/// made while one of them is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeKeyTransaction {
    /// Whose node.
    pub institution: InstitutionId,
    /// For which validator epoch.
    pub epoch: ValidatorEpoch,
    /// The key; never replaced within the epoch, since grants under it would be lost to the node.
    pub key: HpkePublicKey,
    /// By the node's consensus key.
    pub signature: Signature,
}

impl NodeKeyTransaction {
    /// The node signs.
    pub fn sign(
        consortium: &ConsortiumId,
        institution: InstitutionId,
        epoch: ValidatorEpoch,
        key: HpkePublicKey,
        node_key: &SigningKey,
    ) -> Self {
        let signature = Signature::new([0; 64]);
        let mut unsigned = Self {
            institution,
            epoch,
            key,
            signature,
        };
        unsigned.signature = unsigned.text().sign(consortium, node_key);
        unsigned
    }

    pub(super) fn text(&self) -> Text {
        Text::new(Context::HpkeKey, Kind::NodeKey, |out| self.encode_body(out))
    }

    /// Level 1: that something can be sealed to the key. A node whose key takes nothing would hold
    /// up every grant of the epoch.
    pub(super) fn check_shape(&self) -> Result<(), DecodeError> {
        let mut u = *self.key.as_bytes();
        // X25519 does not read the top bit (RFC 7748 section 5).
        u[31] &= 0x7f;
        if SMALL_ORDER_U.contains(&u) {
            return Err(DecodeError::Invalid {
                what: "HPKE key of the node",
                why: "of small order",
            });
        }
        Ok(())
    }

    /// Level 3: the node's signature, under its key in the node set.
    pub(crate) fn check_node(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        self.text()
            .verify(consortium, key, &self.signature)
            .map_err(Signer::Node.failed())
    }

    fn encode_body(&self, out: &mut Encoder) {
        out.u32(self.institution.number())
            .u64(self.epoch.number())
            .bytes(self.key.as_bytes());
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.encode_body(out);
        out.bytes(self.signature.as_bytes());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            institution: InstitutionId::new(from.u32("institution")?),
            epoch: ValidatorEpoch::new(from.u64("validator epoch")?),
            key: HpkePublicKey::new(from.array("HPKE key of the node")?),
            signature: decode_signature(from)?,
        })
    }
}

/// The u of all points of Curve25519 and of its twist whose order divides 8, little-endian, in each
/// encoding that fits 255 bits (0 and 1 can also be written as q and q + 1). X25519 with any of them
/// gives zero, which RFC 9180 section 7.1.4 has the sender refuse.
const SMALL_ORDER_U: [[u8; 32]; 7] = [
    [0; 32],
    from_ends(0x01, 0, 0),
    // The two of order 8.
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    // q - 1, q, q + 1.
    from_ends(0xec, 0xff, 0x7f),
    from_ends(0xed, 0xff, 0x7f),
    from_ends(0xee, 0xff, 0x7f),
];

/// A number of 32 bytes by its first byte, the thirty that follow, and its last.
const fn from_ends(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut out = [middle; 32];
    out[0] = first;
    out[31] = last;
    out
}

/// A key a year for 64 years. Their list is 64 x 65 = 4,160 bytes of the state, and a certificate that
/// none of them signed costs whoever checks it 64 verifications of some 50 us, 3 ms.
pub const CENTRE_KEYS_MAX: usize = 64;

/// A name fits a line of a page; 64 bytes keep an admission's body below 150.
const NAME_BYTES_MAX: usize = 64;

/// A patient has four keys (A, X, O, HPKE), a doctor two; twice as many leave room for renewal.
const USER_KEYS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use scheme::{Purpose, UnusableKey};

    use super::*;
    use crate::testing::{FourHospitals, rng};

    /// The table holds just the keys to which nothing can be sealed, with the top bit in either way.
    #[test]
    fn nothing_can_be_sealed_to_a_key_of_small_order() {
        let four = FourHospitals::default();
        let seal = |key: HpkePublicKey| {
            let rng = &mut rng("sealing", 1);
            key.seal(Purpose::GrantToNode, &four.consortium, b"", b"a share", rng)
        };
        let node_key = &four.hospital(1).node_key;
        let at = ValidatorEpoch::new(0);
        let certified = |key| {
            let institution = four.hospital(1).institution.id;
            NodeKeyTransaction::sign(&four.consortium, institution, at, key, node_key)
        };
        for u in SMALL_ORDER_U {
            for top in [0, 0x80] {
                let mut bytes = u;
                bytes[31] |= top;
                let key = HpkePublicKey::new(bytes);
                assert_eq!(seal(key), Err(UnusableKey));
                assert!(certified(key).check_shape().is_err());
                // One beside it takes what is sealed, and passes.
                bytes[15] ^= 1;
                let key = HpkePublicKey::new(bytes);
                assert!(seal(key).is_ok());
                assert!(certified(key).check_shape().is_ok());
            }
        }
    }
}
