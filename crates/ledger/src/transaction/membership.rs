//! Who belongs to the consortium: members change it by motions that they approve on the chain. A motion
//! and its approvals are transactions, so who put it, who approved it and what audit stood behind it
//! stays readable, and nobody has to bring signatures together beside the chain.

use scheme::{ConsortiumId, Digest, InstitutionId, Timestamp};
use scheme::{Context, Sign, Signature, SigningKey, VerifyingKey};
use scheme::{DecodeError, Decoder, Encoder};

use super::decode_signature;
use super::institution::{LINE_BYTES_MAX, line};
use super::{CheckError, Contact, Institution, Kind, PossessedSuccession, Signer, Text};
use crate::identity::TransactionId;
use crate::policy::Tier;

/// A change of the membership that a member puts to the others. Putting it is approving it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Motion {
    /// The member that puts it.
    pub by: InstitutionId,
    /// From here on no approval counts.
    pub until: Timestamp,
    /// The audit's documents, so that everyone approves in view of the same ones. At most 16.
    pub documents: Vec<AuditDocument>,
    /// What is to change.
    pub change: MembershipChange,
    /// By that member's key.
    pub signature: Signature,
}

/// A document of an audit, which the chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditDocument {
    /// What it is, for people.
    pub title: DocumentTitle,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

/// A document's title: 1 to 64 bytes of UTF-8 without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DocumentTitle(String);

impl DocumentTitle {
    /// Checks length and characters.
    ///
    /// # Errors
    /// [`DecodeError`] if it is empty, longer than 64 bytes or holds a control character.
    pub fn new(title: &str) -> Result<Self, DecodeError> {
        line("document's title", title.as_bytes()).map(Self)
    }

    /// The title.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a motion changes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MembershipChange {
    /// An institution joins, as a member or as an observer by its tier.
    Admit(Box<Application>),
    /// An institution leaves. What it did stays; from here on nothing of it is taken.
    Remove(InstitutionId),
    /// An institution gets another tier.
    Retier(InstitutionId, Tier),
    /// An institution that lost its key gets the next ones.
    Succeed(PossessedSuccession),
    /// The chain goes by the next rules from the next validator epoch on, so that all nodes change to them
    /// with the same block, whichever release each of them runs.
    Rules(u16),
}

impl MembershipChange {
    fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Admit(application) => application.encode(out.u8(1)),
            Self::Remove(institution) => {
                out.u8(2).u32(institution.number());
            }
            Self::Retier(institution, tier) => {
                out.u8(3).u32(institution.number()).u8(tier.code());
            }
            Self::Succeed(next) => next.encode(out.u8(4)),
            Self::Rules(rules) => {
                out.u8(5).u16(*rules);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        const WHAT: &str = "change of the membership";
        Ok(match from.u8(WHAT)? {
            1 => Self::Admit(Box::new(Application::decode(from)?)),
            2 => Self::Remove(InstitutionId::new(from.u32("institution")?)),
            3 => Self::Retier(
                InstitutionId::new(from.u32("institution")?),
                Tier::from_code(from.u8("tier")?)?,
            ),
            4 => Self::Succeed(PossessedSuccession::decode(from)?),
            5 => Self::Rules(from.u16("rules")?),
            _ => {
                return Err(DecodeError::Invalid {
                    what: WHAT,
                    why: "no such change",
                });
            }
        })
    }
}

/// An institution asks to join. It signs with both its keys, so that nobody admits another's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Who asks.
    pub institution: Institution,
    /// Where it is reached.
    pub contact: Contact,
    /// By the institution's key.
    pub by_key: Signature,
    /// By its node's key.
    pub by_node: Signature,
}

impl Application {
    /// Both keys sign.
    pub fn sign<K: Sign>(
        consortium: &ConsortiumId,
        institution: Institution,
        contact: Contact,
        key: &K,
        node_key: &SigningKey,
    ) -> K::Outcome<Self> {
        let text = application_text(&institution, &contact);
        let by_node = text.sign(consortium, node_key);
        text.sign_then(consortium, key, |by_key| Self {
            by_key,
            by_node,
            institution,
            contact,
        })
    }

    /// Levels 1 and 2: that it is well-formed, and possession of both keys. A member checks it before it
    /// puts a motion.
    ///
    /// # Errors
    /// [`CheckError`].
    pub fn check(&self, consortium: &ConsortiumId) -> Result<(), CheckError> {
        self.institution.check_shape()?;
        let text = application_text(&self.institution, &self.contact);
        text.verify(consortium, &self.institution.key, &self.by_key)
            .map_err(Signer::Institution.failed())?;
        text.verify(consortium, &self.institution.node, &self.by_node)
            .map_err(Signer::Node.failed())
    }

    /// Its bytes, as they travel from the institution to a member.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        self.encode(&mut out);
        out.finish()
    }

    /// Reads an application.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let application = Self::decode(&mut from)?;
        from.finish("the application")?;
        Ok(application)
    }

    fn encode(&self, out: &mut Encoder) {
        self.institution.encode(out);
        self.contact.encode(out);
        out.bytes(self.by_key.as_bytes())
            .bytes(self.by_node.as_bytes());
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            institution: Institution::decode(from)?,
            contact: Contact::decode(from)?,
            by_key: decode_signature(from)?,
            by_node: decode_signature(from)?,
        })
    }
}

fn application_text(institution: &Institution, contact: &Contact) -> Text {
    Text::new(Context::Transaction, Kind::Application, |out| {
        institution.encode(out);
        contact.encode(out);
    })
}

impl Motion {
    /// The member signs.
    pub fn sign<K: Sign>(
        consortium: &ConsortiumId,
        by: InstitutionId,
        until: Timestamp,
        documents: Vec<AuditDocument>,
        change: MembershipChange,
        key: &K,
    ) -> K::Outcome<Self> {
        let signature = Signature::new([0; 64]);
        let mut unsigned = Self {
            by,
            until,
            documents,
            change,
            signature,
        };
        unsigned.text().sign_then(consortium, key, |signature| {
            unsigned.signature = signature;
            unsigned
        })
    }

    pub(super) fn text(&self) -> Text {
        Text::new(Context::Transaction, Kind::Motion, |out| {
            self.encode_body(out);
        })
    }

    /// Level 2: what the subject signed.
    pub(super) fn check(&self, consortium: &ConsortiumId) -> Result<(), CheckError> {
        match &self.change {
            MembershipChange::Admit(application) => application.check(consortium),
            MembershipChange::Succeed(next) => next.check(consortium),
            MembershipChange::Remove(_)
            | MembershipChange::Retier(..)
            | MembershipChange::Rules(_) => Ok(()),
        }
    }

    /// Level 3: the member's signature, under its key in the state.
    pub(crate) fn check_member(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        self.text()
            .verify(consortium, key, &self.signature)
            .map_err(Signer::Institution.failed())
    }

    pub(super) fn check_shape(&self) -> Result<(), DecodeError> {
        if self.documents.len() > DOCUMENTS_MAX {
            let (found, limit) = (self.documents.len() as u64, DOCUMENTS_MAX as u64);
            return Err(DecodeError::TooLarge {
                what: "documents of the motion",
                found,
                limit,
            });
        }
        match &self.change {
            MembershipChange::Admit(application) => application.institution.check_shape(),
            MembershipChange::Succeed(next) => next.check_shape(),
            MembershipChange::Remove(_)
            | MembershipChange::Retier(..)
            | MembershipChange::Rules(_) => Ok(()),
        }
    }

    fn encode_body(&self, out: &mut Encoder) {
        // A count that does not fit is refused by level 1 before anything is signed for others.
        let count = u8::try_from(self.documents.len()).unwrap_or(u8::MAX);
        out.u32(self.by.number()).u64(self.until.number()).u8(count);
        for document in &self.documents {
            out.var(document.title.0.as_bytes())
                .bytes(document.digest.as_bytes());
        }
        self.change.encode(out);
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        self.encode_body(out);
        out.bytes(self.signature.as_bytes());
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let by = InstitutionId::new(from.u32("member")?);
        let until = Timestamp::new(from.u64("end of the motion")?);
        let count = from.count_u8("documents of the motion", DOCUMENTS_MAX)?;
        let documents = (0..count)
            .map(|_| {
                let title = from.var("document's title", LINE_BYTES_MAX)?;
                Ok(AuditDocument {
                    title: line("document's title", title).map(DocumentTitle)?,
                    digest: Digest::new(from.array("digest of the document")?),
                })
            })
            .collect::<Result<_, DecodeError>>()?;
        Ok(Self {
            by,
            until,
            documents,
            change: MembershipChange::decode(from)?,
            signature: decode_signature(from)?,
        })
    }
}

/// A member approves a motion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approval {
    /// The motion's transaction.
    pub motion: TransactionId,
    /// Who approves.
    pub by: InstitutionId,
    /// By that member's key.
    pub signature: Signature,
}

impl Approval {
    /// The member signs.
    pub fn sign<K: Sign>(
        consortium: &ConsortiumId,
        motion: TransactionId,
        by: InstitutionId,
        key: &K,
    ) -> K::Outcome<Self> {
        approval_text(motion, by).sign_then(consortium, key, |signature| Self {
            motion,
            by,
            signature,
        })
    }

    pub(super) fn text(&self) -> Text {
        approval_text(self.motion, self.by)
    }

    /// Level 3: the member's signature, under its key in the state.
    pub(crate) fn check_member(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        self.text()
            .verify(consortium, key, &self.signature)
            .map_err(Signer::Institution.failed())
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        out.bytes(self.motion.as_bytes())
            .u32(self.by.number())
            .bytes(self.signature.as_bytes());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            motion: TransactionId::new(from.array("motion")?),
            by: InstitutionId::new(from.u32("member")?),
            signature: decode_signature(from)?,
        })
    }
}

fn approval_text(motion: TransactionId, by: InstitutionId) -> Text {
    Text::new(Context::Transaction, Kind::Approval, |out| {
        out.bytes(motion.as_bytes()).u32(by.number());
    })
}

/// An audit has a report and annexes; at 100 bytes each they are 1.6 KB of a motion.
const DOCUMENTS_MAX: usize = 16;
