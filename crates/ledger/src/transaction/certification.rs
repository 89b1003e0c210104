//! What the registration centre vouches for: its own keys, users' keys, and that a certificate counts no
//! longer.

use scheme::{ConsortiumId, DoctorId, InstitutionId};
use scheme::{Context, Sign, Signature, SigningKey, VerifyingKey};
use scheme::{DecodeError, Decoder, Encoder};

use super::{CheckError, Kind, Signer, Text, decode_key, decode_signature};
use crate::identity::{CentreKeyNumber, KeyHash, TransactionId};
use crate::policy::NODES_MAX;

/// A present institution's approval of the centre's next key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CentreKeyApproval {
    /// Who approves.
    pub by: InstitutionId,
    /// By that institution's key.
    pub signature: Signature,
}

impl CentreKeyApproval {
    /// Approves the centre's next key, and what its transaction says of the keys before.
    pub fn sign(
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
    pub fn sign<K: Sign>(&self, consortium: &ConsortiumId, key: &K) -> K::Outcome<Signature> {
        self.text()
            .sign_then(consortium, key, |signature| signature)
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
    pub approvals: Vec<CentreKeyApproval>,
}

impl CentreKeyTransaction {
    /// The next key signs; the others' signatures are brought together beside.
    pub fn sign(
        consortium: &ConsortiumId,
        next: NextCentreKey,
        key: &SigningKey,
        current: Option<Signature>,
        mut approvals: Vec<CentreKeyApproval>,
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
        approval: &CentreKeyApproval,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        let text = self.next.text();
        text.verify(consortium, key, &approval.signature)
            .map_err(Signer::Approver.failed())
    }

    pub(super) fn check_shape(&self) -> Result<(), DecodeError> {
        self.next.check_shape()?;
        CentreKeyApproval::check_shape("approvals of the centre's key", &self.approvals)
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.next.encode(out);
        out.bytes(self.possession.as_bytes());
        match &self.current {
            None => out.u8(0),
            Some(signature) => out.u8(1).bytes(signature.as_bytes()),
        };
        CentreKeyApproval::encode_all(&self.approvals, out);
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
            approvals: CentreKeyApproval::decode_all(from)?,
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

/// A key a year for 64 years. Their list is 64 x 65 = 4,160 bytes of the state, and a certificate that
/// none of them signed costs whoever checks it 64 verifications of some 50 us, 3 ms.
pub const CENTRE_KEYS_MAX: usize = 64;

/// A patient has four keys (A, X, O, HPKE), a doctor two; twice as many leave room for renewal.
const USER_KEYS_MAX: usize = 8;
