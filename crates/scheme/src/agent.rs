//! The family agent (`spec/scheme.md` section 10).
//!
//! One appointment per episode. The agent never gets the patient's seed or an episode secret: it gets
//! E and, per condition in scope, trapdoors, the class label key and H1_COND(c)^a. Its own key signs
//! grants in place of E's. The agent alone can open, unlogged and for ever, what is in scope;
//! withdrawal stops only grants.

use rand_core::CryptoRng;

use crate::document::ClassCode;
use crate::encoding::{DecodeError, Decoder, Encoder};
use crate::grant::EpisodeSigningKey;
use crate::hash::{self, Digest, tagged};
use crate::index::EpisodeKey;
use crate::keys::{BlsSignature, bls_verify};
use crate::params::{ConsortiumId, Timestamp};
use crate::signature::{Context, Signature, SigningKey, VerifyingKey};

/// Section classes of one appointment.
pub const SCOPE_MAX: usize = 32;

/// The agent's key for one episode.
pub struct AgentKey(SigningKey);

impl AgentKey {
    /// A fresh key, one per episode, so that appointments cannot be linked by it.
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self(SigningKey::random(rng))
    }

    /// From the agent's keystore.
    pub fn from_signing_key(key: SigningKey) -> Self {
        Self(key)
    }

    /// The 32-byte seed, for the agent's keystore.
    pub fn expose_seed(&self) -> &[u8; 32] {
        self.0.expose_seed()
    }

    /// The public key, which the appointment names.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.0.verifying_key()
    }

    pub(crate) fn sign_grant(
        &self,
        consortium: &ConsortiumId,
        episode: &EpisodeKey,
        text: &[u8],
    ) -> Signature {
        self.0
            .sign(Context::Agent, consortium, &[episode.as_bytes(), text])
    }
}

/// Names an appointment on the chain: the hash of its single-use withdrawal key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppointmentId([u8; 32]);

impl AppointmentId {
    /// Of a withdrawal key (E34).
    pub fn of(consortium: &ConsortiumId, withdrawal_key: &VerifyingKey) -> Self {
        let digest: Digest = tagged(
            hash::WITHDRAWAL_ID,
            consortium,
            &[withdrawal_key.as_bytes()],
        );
        Self(*digest.as_bytes())
    }

    /// From its 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What the patient decided about an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppointmentTerms {
    /// The agent's key for this episode.
    pub agent: VerifyingKey,
    /// Names the appointment; its key withdraws it.
    pub id: AppointmentId,
    /// Until when the agent may grant, by the block's time.
    pub end: Timestamp,
    /// The section classes that the agent may grant, strictly ascending by code, at least one.
    pub scope: Vec<ClassCode>,
}

/// An appointment, signed under E with H1_DELEGATION; its bytes begin with E.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appointment {
    episode_key: EpisodeKey,
    terms: AppointmentTerms,
    signature: BlsSignature,
}

impl Appointment {
    /// Signs an appointment.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] above [`SCOPE_MAX`] classes, [`DecodeError::Invalid`] if there is
    /// none or their codes do not strictly ascend.
    pub fn make(
        consortium: &ConsortiumId,
        key: &EpisodeSigningKey,
        terms: AppointmentTerms,
    ) -> Result<Self, DecodeError> {
        if terms.scope.len() > SCOPE_MAX {
            let (found, limit) = (terms.scope.len() as u64, SCOPE_MAX as u64);
            return Err(DecodeError::TooLarge {
                what: "the appointment's scope",
                found,
                limit,
            });
        }
        check_scope(&terms.scope)?;
        let episode_key = key.public_key().clone();
        let signature = key.sign(
            hash::DELEGATION,
            consortium,
            &unsigned(consortium, &episode_key, &terms),
        );
        Ok(Self {
            episode_key,
            terms,
            signature,
        })
    }

    /// The appointment's bytes (E34).
    pub fn encode(&self, consortium: &ConsortiumId) -> Vec<u8> {
        let mut out = unsigned(consortium, &self.episode_key, &self.terms);
        out.extend_from_slice(self.signature.as_bytes());
        out
    }

    /// Decodes an appointment of this consortium.
    ///
    /// # Errors
    /// [`DecodeError`] if it is malformed or for another consortium.
    pub fn decode(consortium: &ConsortiumId, bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the appointment";
        let mut d = Decoder::new(bytes);
        let episode_key = EpisodeKey::from_bytes(&d.array(WHAT)?)?;
        if &d.array::<32>(WHAT)? != consortium.as_bytes() {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "it is for another consortium",
            });
        }
        let agent = VerifyingKey::new(d.array(WHAT)?);
        let id = AppointmentId(d.array(WHAT)?);
        let end = Timestamp::new(d.u64(WHAT)?);
        let count = d.count_u8("the appointment's scope", SCOPE_MAX)?;
        let scope: Result<Vec<_>, DecodeError> = (0..count)
            .map(|_| Ok(ClassCode::new(d.u8(WHAT)?)))
            .collect();
        let scope = scope?;
        check_scope(&scope)?;
        let signature = BlsSignature::from_bytes(&d.array(WHAT)?)?;
        d.finish(WHAT)?;
        Ok(Self {
            episode_key,
            terms: AppointmentTerms {
                agent,
                id,
                end,
                scope,
            },
            signature,
        })
    }

    /// Whether the owner of E signed it.
    pub fn is_signed_by_owner(&self, consortium: &ConsortiumId) -> bool {
        let text = unsigned(consortium, &self.episode_key, &self.terms);
        let key = &self.episode_key;
        bls_verify(
            &key.point,
            hash::DELEGATION,
            consortium,
            &[key.as_bytes(), &text],
            &self.signature.point,
        )
    }

    /// E.
    pub fn episode_key(&self) -> &EpisodeKey {
        &self.episode_key
    }

    /// The agent's key.
    pub fn agent(&self) -> VerifyingKey {
        self.terms.agent
    }

    /// What was decided.
    pub fn terms(&self) -> &AppointmentTerms {
        &self.terms
    }
}

/// One spelling of each scope, and none that grants nothing.
fn check_scope(scope: &[ClassCode]) -> Result<(), DecodeError> {
    let why = if scope.is_empty() {
        "it names no class"
    } else if scope.windows(2).any(|pair| pair[0] == pair[1]) {
        "a class stands twice"
    } else if !scope.is_sorted() {
        "its classes do not ascend"
    } else {
        return Ok(());
    };
    let what = "the appointment's scope";
    Err(DecodeError::Invalid { what, why })
}

fn unsigned(
    consortium: &ConsortiumId,
    episode_key: &EpisodeKey,
    terms: &AppointmentTerms,
) -> Vec<u8> {
    let mut e = Encoder::new();
    e.bytes(episode_key.as_bytes())
        .bytes(consortium.as_bytes())
        .bytes(terms.agent.as_bytes())
        .bytes(terms.id.as_bytes())
        .u64(terms.end.number())
        .u8(terms.scope.len() as u8);
    for class in &terms.scope {
        e.u8(class.code());
    }
    e.finish()
}
