//! A grant as a whole: what the patient (or an agent) sends to the accounting nodes, what each of
//! them and doctor B can open of it, and who signed it (`spec/scheme.md` section 9).
//!
//! One grant opens sections of one episode. Its bytes can pass through anyone's hands: trapdoors and
//! log key are encrypted under a body key that is sealed to each node beside its shares; seed, class
//! label keys, E and the log key are sealed to each doctor. It is signed under
//! E = O * g2^Hs_PID(PID), the signed bytes beginning with E itself, since keys of one patient are
//! related and a signature would convert otherwise.

use std::collections::BTreeSet;
use std::fmt;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::agent::{AgentKey, Appointment};
use crate::document::ClassLabelKey;
use crate::encoding::{DecodeError, Decoder, Encoder};
use crate::group::{G1, G1_BYTES, G2, G2_BYTES, Scalar};
use crate::hash::{self, Digest, Domain, Extracted, hs, sha256};
use crate::index::{Degenerate, EpisodeKey, LocatorKey, Tag, Trapdoor, Writer};
use crate::keys::{BlsSignature, OwnershipKey, bls_sign, bls_verify};
use crate::params::{
    ConsortiumId, InstitutionId, Threshold, Timestamp, ValidatorEpoch, WriterEpoch,
};
use crate::pseudonym::Pid;
use crate::re_encryption::{
    BadShare, ClassPlace, Commitments, ConditionKey, GrantId, LogKey, MaskSeed, NodeNumber,
    ReEncryptionKey, Share, UncheckedShare, random_coefficients,
};
use crate::sealing::{CannotOpen, HpkePrivateKey, HpkePublicKey, Purpose, UnusableKey};
use crate::signature::{Context, Signature, VerifyingKey};

/// The version of the grant's layout.
pub const GRANT_VERSION: u8 = 1;
/// Doctors of one grant: a stroke team with its reserves.
pub const GRANTEES_MAX: usize = 32;
/// Accounting nodes of one grant: node numbers are one byte and begin at 1.
pub const NODES_MAX: usize = 255;
/// Classes of one grant: as many as a container has sections.
pub const CLASSES_MAX: usize = 32;
/// Trapdoors of one grant: one per institution and writer epoch and keyword.
pub const TRAPDOORS_MAX: usize = 256;
/// Entries that a grant names itself, in place of a trapdoor.
pub const EXPLICIT_MAX: usize = 4096;
/// The request's bytes that a grant answers.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// A sealed part: 32 classes of 48 bytes, the body key, and room for the doctor's label keys.
const PART_BYTES_MAX: usize = 8 * 1024;
/// The body: commitment and tag of 48 bytes, log key of 32, 256 trapdoors of 56 bytes and 4,096
/// entries of 40 bytes, under 192 KiB.
const BODY_BYTES_MAX: usize = 192 * 1024;
/// The longest grant: commitments of 32 classes and 22 shares needed (400 KiB), body, parts.
pub const GRANT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A doctor who may read, by a one-time access key and a fresh HPKE key from the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grantee {
    /// Signs the entries of the access log.
    pub access_key: VerifyingKey,
    /// Opens the doctor's part.
    pub hpke_key: HpkePublicKey,
}

/// An accounting node that gets shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantNode {
    /// Its consensus key.
    pub key: VerifyingKey,
    /// Its HPKE key of the validator epoch.
    pub hpke_key: HpkePublicKey,
}

/// What is granted, to whom, until when, and who serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantTerms {
    /// E.
    pub episode_key: EpisodeKey,
    /// Names the grant by its hash and revokes it.
    pub revocation_key: VerifyingKey,
    /// Doctor B's signed request, as it came.
    pub request: Vec<u8>,
    /// Who may read.
    pub grantees: Vec<Grantee>,
    /// From when, by the block's time.
    pub not_before: Timestamp,
    /// Until when, by the block's time.
    pub expiry: Timestamp,
    /// Whose accounting nodes serve it.
    pub validator_epoch: ValidatorEpoch,
    /// The ordered list of accounting nodes.
    pub nodes: Vec<GrantNode>,
    /// t.
    pub threshold: Threshold,
}

/// One granted class: its re-encryption right and what recognises its sections.
pub struct GrantedClass {
    /// H1_COND(c)^a.
    pub condition: ConditionKey,
    /// Lc.
    pub label_key: ClassLabelKey,
}

/// An existing entry that a grant names, in place of a trapdoor that would show later ones.
#[derive(Clone)]
pub struct ExplicitEntry {
    /// Under whose R it stands.
    pub writer: Writer,
    /// Where it is found.
    pub tag: Tag,
    /// Opens its record's locator.
    pub locator_key: LocatorKey,
}

/// A trapdoor and whose entries it searches.
#[derive(Clone)]
pub struct WriterTrapdoor {
    /// Institution and writer epoch.
    pub writer: Writer,
    /// T.
    pub trapdoor: Trapdoor,
}

/// How the nodes find what was granted.
#[derive(Clone, Default)]
pub struct Reach {
    /// Trapdoors, in the order that results are given in.
    pub trapdoors: Vec<WriterTrapdoor>,
    /// Entries named one by one.
    pub entries: Vec<ExplicitEntry>,
}

/// e = o + Hs_PID(PID): signs the grants and appointments of one episode.
pub struct EpisodeSigningKey {
    pub(crate) secret: Scalar,
    public: EpisodeKey,
}

impl EpisodeSigningKey {
    /// From o and the PID.
    ///
    /// # Errors
    /// [`Degenerate`] with a chance of 2^-255.
    pub fn derive(
        consortium: &ConsortiumId,
        owner: &OwnershipKey,
        pid: &Pid,
    ) -> Result<Self, Degenerate> {
        let shift = hs(hash::PID, consortium, &[pid.expose_bytes()]).ok_or(Degenerate)?;
        let secret = owner.0.plus(&shift).ok_or(Degenerate)?;
        Ok(Self::from_secret(secret))
    }

    pub(crate) fn from_secret(secret: Scalar) -> Self {
        let public = EpisodeKey::from_point(G2::generator_power(&secret));
        Self { secret, public }
    }

    /// E.
    pub fn public_key(&self) -> &EpisodeKey {
        &self.public
    }

    /// H1_domain(E, text)^e.
    pub(crate) fn sign(
        &self,
        domain: Domain,
        consortium: &ConsortiumId,
        text: &[u8],
    ) -> BlsSignature {
        bls_sign(
            &self.secret,
            domain,
            consortium,
            &[self.public.as_bytes(), text],
        )
    }
}

/// Who signs a grant.
pub enum Granter<'a> {
    /// The patient, under E.
    Patient(&'a EpisodeSigningKey),
    /// A family agent, under the key that an appointment names.
    Agent(&'a AgentKey, &'a Appointment),
}

/// Why a grant cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GrantError {
    /// A list is empty or longer than its bound.
    #[error("the grant names {found} {what}, between 1 and {limit} are possible")]
    Count {
        /// What the list holds.
        what: &'static str,
        /// How many it names.
        found: usize,
        /// The most there can be.
        limit: usize,
    },
    /// A part is longer than readers take. Grant less at a time, or to fewer.
    #[error(
        "{what} of the grant would have {found} bytes, at most {limit} are possible: grant less at a time"
    )]
    TooLong {
        /// Which part.
        what: &'static str,
        /// Its length in bytes.
        found: usize,
        /// The most it can have.
        limit: usize,
    },
    /// t is above the number of nodes.
    #[error("the grant asks for more shares than it names nodes")]
    Threshold,
    /// The signer is not the one of the episode or appointment.
    #[error("the key that shall sign the grant is not this episode's")]
    Signer,
    /// A node's or doctor's HPKE key is of small order.
    #[error("a recipient's key is not usable")]
    Recipient,
    /// One access key or one consensus key stands twice.
    #[error("the grant names one of its {what} twice")]
    Repeated {
        /// What the list holds.
        what: &'static str,
    },
    /// A combination was the identity: try again.
    #[error("a combined key is the identity: try again")]
    Degenerate,
}

impl From<Degenerate> for GrantError {
    fn from(_: Degenerate) -> Self {
        Self::Degenerate
    }
}

impl From<UnusableKey> for GrantError {
    fn from(_: UnusableKey) -> Self {
        Self::Recipient
    }
}

/// Whose signature a grant carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signed {
    Patient(BlsSignature),
    Agent(Box<Appointment>, Signature),
}

/// A grant as decoded; whether its signature stands is not known yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    pub(crate) terms: GrantTerms,
    pub(crate) commitments: Vec<Commitments>,
    pub(crate) body: Vec<u8>,
    pub(crate) node_parts: Vec<Vec<u8>>,
    pub(crate) doctor_parts: Vec<Vec<u8>>,
    pub(crate) signed: Signed,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grant")
    }
}

impl Grant {
    /// Equation (14) and its envelope: fresh seed, log key and body key; shares, commitments,
    /// sealed parts, signature. Gives the log key as well, for the granter's directory.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn make(
        consortium: &ConsortiumId,
        terms: GrantTerms,
        classes: &[GrantedClass],
        reach: &Reach,
        granter: &Granter<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, LogKey), GrantError> {
        let dealing = Dealing::random(terms.threshold, classes.len(), rng);
        let log_key = dealing.log_key.clone();
        let grant = Self::make_with(consortium, terms, classes, reach, granter, &dealing, rng)?;
        Ok((grant, log_key))
    }

    /// [`Grant::make`] with given secrets; `rng` is left with the keys that parts are sealed by.
    pub(crate) fn make_with(
        consortium: &ConsortiumId,
        terms: GrantTerms,
        classes: &[GrantedClass],
        reach: &Reach,
        granter: &Granter<'_>,
        dealing: &Dealing,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, GrantError> {
        check_count("doctors", terms.grantees.len(), GRANTEES_MAX)?;
        check_count("accounting nodes", terms.nodes.len(), NODES_MAX)?;
        check_count("section classes", classes.len(), CLASSES_MAX)?;
        // Readers bound each list and the whole, so a granter learns here what nobody would take.
        let (trapdoors, entries) = (reach.trapdoors.len(), reach.entries.len());
        if trapdoors > 0 || entries == 0 {
            check_count("trapdoors", trapdoors, TRAPDOORS_MAX)?;
        }
        if entries > 0 {
            check_count("entries", entries, EXPLICIT_MAX)?;
        }
        check_length("the request", terms.request.len(), REQUEST_BYTES_MAX)?;
        if terms.threshold.count() > terms.nodes.len() {
            return Err(GrantError::Threshold);
        }
        if has_repeated(terms.grantees.iter().map(|grantee| grantee.access_key)) {
            return Err(GrantError::Repeated { what: "doctors" });
        }
        if has_repeated(terms.nodes.iter().map(|node| node.key)) {
            let what = "accounting nodes";
            return Err(GrantError::Repeated { what });
        }
        let gid = GrantId::of(consortium, &terms.revocation_key);
        let Dealing {
            seed,
            log_key,
            body_key,
            coefficients,
        } = dealing;

        let nodes = terms.nodes.len() as u8;
        let mut commitments = Vec::with_capacity(classes.len());
        let mut node_plain: Vec<Zeroizing<Vec<u8>>> = terms
            .nodes
            .iter()
            .map(|_| {
                // At its full length at once: growing would leave copies of the shares behind.
                let mut plain = Vec::with_capacity(body_key.len() + classes.len() * G1_BYTES);
                plain.extend_from_slice(body_key.as_slice());
                Zeroizing::new(plain)
            })
            .collect();
        for (place, (class, coefficients)) in classes.iter().zip(coefficients).enumerate() {
            let rk = ReEncryptionKey::generate(
                consortium,
                &gid,
                &class.condition,
                seed,
                ClassPlace::new(place as u8),
            )?;
            let (shares, committed) = rk.share_with(coefficients, nodes)?;
            commitments.push(committed);
            for (plain, share) in node_plain.iter_mut().zip(&shares) {
                plain.extend_from_slice(&share.expose_bytes());
            }
        }
        let mut node_parts = Vec::with_capacity(terms.nodes.len());
        for (node, plain) in terms.nodes.iter().zip(&node_plain) {
            node_parts.push(node.hpke_key.seal(
                Purpose::GrantToNode,
                consortium,
                gid.as_bytes(),
                plain,
                rng,
            )?);
        }
        let doctor_plain = doctor_plain(seed, log_key, &terms.episode_key, classes);
        let mut doctor_parts = Vec::with_capacity(terms.grantees.len());
        for grantee in &terms.grantees {
            doctor_parts.push(grantee.hpke_key.seal(
                Purpose::GrantToDoctor,
                consortium,
                gid.as_bytes(),
                &doctor_plain,
                rng,
            )?);
        }
        let body = encrypt_body(consortium, &gid, body_key, &reach.encode(log_key));
        let mut grant = Self {
            terms,
            commitments,
            body,
            node_parts,
            doctor_parts,
            signed: Signed::Patient(BlsSignature::from_point(G1::generator())),
        };
        grant.signed = match granter {
            Granter::Patient(key) => {
                if key.public_key() != &grant.terms.episode_key {
                    return Err(GrantError::Signer);
                }
                Signed::Patient(key.sign(
                    hash::GRANT,
                    consortium,
                    &grant.encode_unsigned(consortium),
                ))
            }
            Granter::Agent(key, appointment) => {
                if appointment.episode_key() != &grant.terms.episode_key
                    || appointment.agent() != key.verifying_key()
                {
                    return Err(GrantError::Signer);
                }
                let text = grant.encode_unsigned(consortium);
                Signed::Agent(
                    Box::new((*appointment).clone()),
                    key.sign_grant(consortium, &grant.terms.episode_key, &text),
                )
            }
        };
        let length = grant.encode(consortium).len();
        check_length("the whole", length, GRANT_BYTES_MAX)?;
        Ok(grant)
    }

    /// The grant's bytes (E29); SHA-256 of them stands on the chain.
    pub fn encode(&self, consortium: &ConsortiumId) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.bytes(&self.encode_unsigned(consortium));
        match &self.signed {
            Signed::Patient(signature) => {
                encoder.u8(0).bytes(signature.as_bytes());
            }
            Signed::Agent(appointment, signature) => {
                encoder
                    .u8(1)
                    .var(&appointment.encode(consortium))
                    .bytes(signature.as_bytes());
            }
        }
        encoder.finish()
    }

    /// Decodes a grant of this consortium (E29).
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut short, too long, of another version or consortium, holds an
    /// element outside its group, names nobody or nothing, or somebody twice.
    pub fn decode(consortium: &ConsortiumId, bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the grant";
        if bytes.len() > GRANT_BYTES_MAX {
            let (found, limit) = (bytes.len() as u64, GRANT_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge {
                what: WHAT,
                found,
                limit,
            });
        }
        let mut d = Decoder::new(bytes);
        if d.u8(WHAT)? != GRANT_VERSION {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "its version is unknown here",
            });
        }
        if &d.array::<32>(WHAT)? != consortium.as_bytes() {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "it is for another consortium",
            });
        }
        let episode_key = EpisodeKey::from_bytes(&d.array(WHAT)?)?;
        let revocation_key = VerifyingKey::new(d.array(WHAT)?);
        let request = d.var("the grant's request", REQUEST_BYTES_MAX)?.to_vec();
        let grantees = (0..d.count_u8("the grant's doctors", GRANTEES_MAX)?)
            .map(|_| {
                Ok(Grantee {
                    access_key: VerifyingKey::new(d.array(WHAT)?),
                    hpke_key: HpkePublicKey::new(d.array(WHAT)?),
                })
            })
            .collect::<Result<Vec<_>, DecodeError>>()?;
        check_named(&grantees, |grantee| grantee.access_key)?;
        let not_before = Timestamp::new(d.u64(WHAT)?);
        let expiry = Timestamp::new(d.u64(WHAT)?);
        let validator_epoch = ValidatorEpoch::new(d.u64(WHAT)?);
        let nodes = (0..d.count_u8("the grant's nodes", NODES_MAX)?)
            .map(|_| {
                Ok(GrantNode {
                    key: VerifyingKey::new(d.array(WHAT)?),
                    hpke_key: HpkePublicKey::new(d.array(WHAT)?),
                })
            })
            .collect::<Result<Vec<_>, DecodeError>>()?;
        check_named(&nodes, |node| node.key)?;
        let threshold = Threshold::new(d.u8(WHAT)?)
            .filter(|threshold| threshold.count() <= nodes.len())
            .ok_or(DecodeError::Invalid {
                what: WHAT,
                why: "its threshold is zero or above its number of nodes",
            })?;
        let classes = d.count_u8("the grant's classes", CLASSES_MAX)?;
        if classes == 0 {
            return Err(DecodeError::Invalid {
                what: WHAT,
                why: "it grants no class",
            });
        }
        let mut commitments = Vec::with_capacity(classes);
        for _ in 0..classes {
            let elements: Result<Vec<_>, _> =
                (0..threshold.count()).map(|_| d.array(WHAT)).collect();
            commitments.push(Commitments::from_bytes(&elements?)?);
        }
        let body = d.var("the grant's body", BODY_BYTES_MAX)?.to_vec();
        let parts = |d: &mut Decoder<'_>, count: usize| {
            (0..count)
                .map(|_| {
                    Ok(d.var("a sealed part of the grant", PART_BYTES_MAX)?
                        .to_vec())
                })
                .collect::<Result<Vec<_>, DecodeError>>()
        };
        let node_parts = parts(&mut d, nodes.len())?;
        let doctor_parts = parts(&mut d, grantees.len())?;
        let signed = match d.u8(WHAT)? {
            0 => Signed::Patient(BlsSignature::from_bytes(&d.array(WHAT)?)?),
            1 => {
                let appointment = Appointment::decode(consortium, d.var("the appointment", 1024)?)?;
                Signed::Agent(Box::new(appointment), Signature::new(d.array(WHAT)?))
            }
            _ => {
                return Err(DecodeError::Invalid {
                    what: WHAT,
                    why: "its signer is of an unknown kind",
                });
            }
        };
        d.finish(WHAT)?;
        let terms = GrantTerms {
            episode_key,
            revocation_key,
            request,
            grantees,
            not_before,
            expiry,
            validator_epoch,
            nodes,
            threshold,
        };
        Ok(Self {
            terms,
            commitments,
            body,
            node_parts,
            doctor_parts,
            signed,
        })
    }

    /// gid, by the revocation key that it names; whether anybody signed it is not looked at.
    pub fn gid(&self, consortium: &ConsortiumId) -> GrantId {
        GrantId::of(consortium, &self.terms.revocation_key)
    }

    /// Checks the signature under E (E32), or the agent's under an appointment that is signed under E.
    /// Whether the appointment has ended or was withdrawn is the chain's to say.
    ///
    /// # Errors
    /// [`ForeignGrant`] if the owner of E did not make or delegate it.
    pub fn verify(self, consortium: &ConsortiumId) -> Result<VerifiedGrant, ForeignGrant> {
        let text = self.encode_unsigned(consortium);
        let key = &self.terms.episode_key;
        match &self.signed {
            Signed::Patient(signature) => {
                if !bls_verify(
                    &key.point,
                    hash::GRANT,
                    consortium,
                    &[key.as_bytes(), &text],
                    &signature.point,
                ) {
                    return Err(ForeignGrant);
                }
            }
            Signed::Agent(appointment, signature) => {
                if appointment.episode_key() != key || !appointment.is_signed_by_owner(consortium) {
                    return Err(ForeignGrant);
                }
                appointment
                    .agent()
                    .verify(
                        Context::Agent,
                        consortium,
                        &[key.as_bytes(), &text],
                        signature,
                    )
                    .map_err(|_| ForeignGrant)?;
            }
        }
        let digest = sha256(&self.encode(consortium));
        let gid = self.gid(consortium);
        Ok(VerifiedGrant {
            grant: self,
            digest,
            gid,
        })
    }

    fn encode_unsigned(&self, consortium: &ConsortiumId) -> Vec<u8> {
        let terms = &self.terms;
        let mut e = Encoder::new();
        e.u8(GRANT_VERSION)
            .bytes(consortium.as_bytes())
            .bytes(terms.episode_key.as_bytes())
            .bytes(terms.revocation_key.as_bytes())
            .var(&terms.request)
            .u8(terms.grantees.len() as u8);
        for grantee in &terms.grantees {
            e.bytes(grantee.access_key.as_bytes())
                .bytes(grantee.hpke_key.as_bytes());
        }
        e.u64(terms.not_before.number())
            .u64(terms.expiry.number())
            .u64(terms.validator_epoch.number());
        e.u8(terms.nodes.len() as u8);
        for node in &terms.nodes {
            e.bytes(node.key.as_bytes()).bytes(node.hpke_key.as_bytes());
        }
        e.u8(terms.threshold.count() as u8)
            .u8(self.commitments.len() as u8);
        for class in &self.commitments {
            for element in class.to_bytes() {
                e.bytes(&element);
            }
        }
        e.var(&self.body);
        for part in self.node_parts.iter().chain(&self.doctor_parts) {
            e.var(part);
        }
        e.finish()
    }
}

/// The grant was not made by the owner of the episode it names. Refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the grant is not signed by the owner of its episode")]
pub struct ForeignGrant;

/// Why a part of a grant cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PartError {
    /// There is no part for this node or doctor.
    #[error("the grant has no part for this recipient")]
    NotARecipient,
    /// The part does not open under this key: the granter sealed it to another.
    #[error("this recipient's part of the grant does not open")]
    CannotOpen,
    /// The part opens and is malformed: the granter's fault.
    #[error("this recipient's part of the grant is malformed: {0}")]
    Malformed(#[source] DecodeError),
    /// The body is not the one that its key commits to, or does not open: the granter's fault.
    #[error("the grant's body does not fit the key that was sealed to this node")]
    Body,
    /// A share does not fit the commitments: the granter's fault, answered with BAD-SHARE.
    #[error("share {class} of this node does not fit the grant's commitments")]
    BadShare {
        /// The class's place.
        class: u8,
    },
}

impl From<DecodeError> for PartError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

/// A grant whose signature stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedGrant {
    grant: Grant,
    digest: Digest,
    gid: GrantId,
}

impl VerifiedGrant {
    /// SHA-256 of the grant's bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// gid.
    pub fn gid(&self) -> GrantId {
        self.gid
    }

    /// The grant's bytes (E29).
    pub fn encode(&self, consortium: &ConsortiumId) -> Vec<u8> {
        self.grant.encode(consortium)
    }

    /// What it grants.
    pub fn terms(&self) -> &GrantTerms {
        &self.grant.terms
    }

    /// The agent's appointment, if an agent made it.
    pub fn appointment(&self) -> Option<&Appointment> {
        match &self.grant.signed {
            Signed::Patient(_) => None,
            Signed::Agent(appointment, _) => Some(appointment),
        }
    }

    /// How many classes it grants.
    pub fn class_count(&self) -> usize {
        self.grant.commitments.len()
    }

    /// The commitments to the shares of a class.
    pub fn commitments(&self, class: ClassPlace) -> Option<&Commitments> {
        self.grant.commitments.get(class.place())
    }

    /// Opens and checks the part of node m (E31) and the body (E30), of a grant whose signature stands:
    ///
    /// ```compile_fail,E0599
    /// fn open(grant: scheme::Grant, here: scheme::ConsortiumId, key: scheme::HpkePrivateKey) {
    ///     let first = scheme::NodeNumber::new(1).unwrap();
    ///     let _ = grant.open_node_part(&here, first, &key);
    /// }
    /// ```
    ///
    /// # Errors
    /// [`PartError`].
    pub fn open_node_part(
        &self,
        consortium: &ConsortiumId,
        node: NodeNumber,
        key: &HpkePrivateKey,
    ) -> Result<NodePart, PartError> {
        let part = self
            .grant
            .node_parts
            .get(usize::from(node.number()) - 1)
            .ok_or(PartError::NotARecipient)?;
        let plain = key
            .open(Purpose::GrantToNode, consortium, self.gid.as_bytes(), part)
            .map_err(|_| PartError::CannotOpen)?;
        let mut decoder = Decoder::new(&plain);
        let body_key = Zeroizing::new(decoder.array::<32>("the body key")?);
        let mut shares = Vec::with_capacity(self.grant.commitments.len());
        for (place, commitments) in self.grant.commitments.iter().enumerate() {
            let share = UncheckedShare::from_bytes(&decoder.array("the share")?)?;
            let class = place as u8;
            shares.push(
                share
                    .verify(node, commitments)
                    .map_err(|BadShare| PartError::BadShare { class })?,
            );
        }
        decoder.finish("the node's part")?;
        let body = decrypt_body(consortium, &self.gid, &body_key, &self.grant.body)
            .map_err(|_| PartError::Body)?;
        let (reach, log_key) = Reach::decode(&body)?;
        Ok(NodePart {
            node,
            shares,
            reach,
            log_key,
        })
    }

    /// Opens the part (E31) of the doctor with this access key.
    ///
    /// # Errors
    /// [`PartError`].
    pub fn open_doctor_part(
        &self,
        consortium: &ConsortiumId,
        access_key: &VerifyingKey,
        key: &HpkePrivateKey,
    ) -> Result<DoctorPart, PartError> {
        let place = self
            .grant
            .terms
            .grantees
            .iter()
            .position(|grantee| &grantee.access_key == access_key);
        let part = place
            .and_then(|place| self.grant.doctor_parts.get(place))
            .ok_or(PartError::NotARecipient)?;
        let plain = key
            .open(
                Purpose::GrantToDoctor,
                consortium,
                self.gid.as_bytes(),
                part,
            )
            .map_err(|_| PartError::CannotOpen)?;
        let mut decoder = Decoder::new(&plain);
        let seed = MaskSeed::from_bytes(decoder.array("the seed")?);
        let log_key = LogKey::from_bytes(decoder.array("the log key")?);
        let episode_key = EpisodeKey::from_bytes(&decoder.array("the episode key")?)?;
        let count = decoder.count_u8("the label keys", CLASSES_MAX)?;
        if count != self.class_count() {
            return Err(DecodeError::Invalid {
                what: "the label keys",
                why: "they are not as many as the classes",
            }
            .into());
        }
        let label_keys: Result<Vec<_>, DecodeError> = (0..count)
            .map(|_| Ok(ClassLabelKey::from_bytes(decoder.array("a label key")?)))
            .collect();
        let label_keys = label_keys?;
        decoder.finish("the doctor's part")?;
        if episode_key != self.grant.terms.episode_key {
            return Err(DecodeError::Invalid {
                what: "the episode key",
                why: "it is not the grant's",
            }
            .into());
        }
        Ok(DoctorPart {
            seed,
            log_key,
            label_keys,
        })
    }
}

/// What one node holds of a grant: its shares, how to find the records, the log key.
pub struct NodePart {
    /// m.
    pub node: NodeNumber,
    /// share_m of each class.
    pub shares: Vec<Share>,
    /// Trapdoors and entries.
    pub reach: Reach,
    /// G.
    pub log_key: LogKey,
}

/// What doctor B holds of a grant.
pub struct DoctorPart {
    /// Unmasks what the nodes re-encrypt.
    pub seed: MaskSeed,
    /// G.
    pub log_key: LogKey,
    /// Lc of each class, in the grant's order.
    pub label_keys: Vec<ClassLabelKey>,
}

/// What a grant hides, by chance: seed, G, the body's key, and A_1 .. A_(t-1) of each class.
pub(crate) struct Dealing {
    pub(crate) seed: MaskSeed,
    pub(crate) log_key: LogKey,
    pub(crate) body_key: Zeroizing<[u8; 32]>,
    pub(crate) coefficients: Vec<Vec<G1>>,
}

impl Dealing {
    fn random(threshold: Threshold, classes: usize, rng: &mut impl CryptoRng) -> Self {
        let seed = MaskSeed::random(rng);
        let log_key = LogKey::random(rng);
        let mut body_key = Zeroizing::new([0; 32]);
        rng.fill_bytes(body_key.as_mut_slice());
        // More classes than a grant can have are refused before their coefficients are used.
        let coefficients = (0..classes.min(CLASSES_MAX))
            .map(|_| random_coefficients(threshold, rng))
            .collect();
        Self {
            seed,
            log_key,
            body_key,
            coefficients,
        }
    }
}

impl Reach {
    fn encode(&self, log_key: &LogKey) -> Zeroizing<Vec<u8>> {
        let length = 32 + 4 + 56 * self.trapdoors.len() + 4 + 40 * self.entries.len();
        let mut e = Encoder::of_secrets(length);
        e.bytes(log_key.expose_bytes())
            .u32(self.trapdoors.len() as u32);
        for trapdoor in &self.trapdoors {
            e.u32(trapdoor.writer.institution.number())
                .u32(trapdoor.writer.epoch.number())
                .bytes(&trapdoor.trapdoor.expose_bytes());
        }
        e.u32(self.entries.len() as u32);
        for entry in &self.entries {
            e.u32(entry.writer.institution.number())
                .u32(entry.writer.epoch.number())
                .bytes(entry.tag.as_bytes())
                .bytes(entry.locator_key.expose_bytes());
        }
        Zeroizing::new(e.finish())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, LogKey), DecodeError> {
        let mut d = Decoder::new(bytes);
        let log_key = LogKey::from_bytes(d.array("the log key")?);
        let writer = |d: &mut Decoder<'_>| {
            Ok::<_, DecodeError>(Writer {
                institution: InstitutionId::new(d.u32("the institution")?),
                epoch: WriterEpoch::new(d.u32("the writer epoch")?),
            })
        };
        let mut trapdoors = Vec::new();
        for _ in 0..d.count("the trapdoors", TRAPDOORS_MAX)? {
            let writer = writer(&mut d)?;
            trapdoors.push(WriterTrapdoor {
                writer,
                trapdoor: Trapdoor::from_bytes(&d.array("a trapdoor")?)?,
            });
        }
        let mut entries = Vec::new();
        for _ in 0..d.count("the named entries", EXPLICIT_MAX)? {
            let writer = writer(&mut d)?;
            let tag = Tag::new(d.array("a tag")?);
            entries.push(ExplicitEntry {
                writer,
                tag,
                locator_key: LocatorKey::from_bytes(d.array("a locator key")?),
            });
        }
        d.finish("the grant's body")?;
        Ok((Self { trapdoors, entries }, log_key))
    }
}

fn doctor_plain(
    seed: &MaskSeed,
    log_key: &LogKey,
    episode: &EpisodeKey,
    classes: &[GrantedClass],
) -> Zeroizing<Vec<u8>> {
    let mut e = Encoder::of_secrets(32 + 32 + G2_BYTES + 1 + 32 * classes.len());
    e.bytes(seed.expose_bytes())
        .bytes(log_key.expose_bytes())
        .bytes(episode.as_bytes())
        .u8(classes.len() as u8);
    for class in classes {
        e.bytes(class.label_key.expose_bytes());
    }
    Zeroizing::new(e.finish())
}

/// The cipher of a body, AES-256-GCM under a single-use key, so the nonce is zero; and the
/// commitment to its key that precedes the ciphertext. Without it a granter could make one body that
/// opens under two body keys, give each to some of the nodes, and honest nodes would contradict each
/// other.
struct BodyCipher {
    cipher: Aes256Gcm,
    commitment: Zeroizing<[u8; 32]>,
}

impl BodyCipher {
    fn new(consortium: &ConsortiumId, gid: &GrantId, key: &[u8; 32]) -> Self {
        let extracted = Extracted::from_seed(key);
        let expand = |domain: Domain| extracted.expand(domain, consortium, &[gid.as_bytes()]);
        Self {
            cipher: Aes256Gcm::new(&(*expand(hash::GRANT_BODY)).into()),
            commitment: expand(hash::GRANT_COMMIT),
        }
    }
}

fn encrypt_body(consortium: &ConsortiumId, gid: &GrantId, key: &[u8; 32], plain: &[u8]) -> Vec<u8> {
    let body = BodyCipher::new(consortium, gid, key);
    let payload = Payload {
        msg: plain,
        aad: gid.as_bytes(),
    };
    let ciphertext = body
        .cipher
        .encrypt(&[0; 12].into(), payload)
        .expect("a body is below AES-GCM's limit");
    [body.commitment.as_slice(), &ciphertext].concat()
}

pub(crate) fn decrypt_body(
    consortium: &ConsortiumId,
    gid: &GrantId,
    key: &[u8; 32],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CannotOpen> {
    let body = BodyCipher::new(consortium, gid, key);
    let (commitment, ciphertext) = sealed.split_at_checked(32).ok_or(CannotOpen)?;
    if !bool::from(body.commitment.as_slice().ct_eq(commitment)) {
        return Err(CannotOpen);
    }
    let payload = Payload {
        msg: ciphertext,
        aad: gid.as_bytes(),
    };
    body.cipher
        .decrypt(&[0; 12].into(), payload)
        .map(Zeroizing::new)
        .map_err(|_| CannotOpen)
}

fn has_repeated(mut keys: impl Iterator<Item = VerifyingKey>) -> bool {
    let mut seen = BTreeSet::new();
    keys.any(|key| !seen.insert(key))
}

/// A grant that names nobody, or somebody twice, so that one part would count as two.
fn check_named<T>(list: &[T], key: impl Fn(&T) -> VerifyingKey) -> Result<(), DecodeError> {
    let why = if list.is_empty() {
        "it names no doctor or no node"
    } else if has_repeated(list.iter().map(key)) {
        "a key stands twice"
    } else {
        return Ok(());
    };
    let what = "the grant";
    Err(DecodeError::Invalid { what, why })
}

fn check_count(what: &'static str, found: usize, limit: usize) -> Result<(), GrantError> {
    if found == 0 || found > limit {
        Err(GrantError::Count { what, found, limit })
    } else {
        Ok(())
    }
}

fn check_length(what: &'static str, found: usize, limit: usize) -> Result<(), GrantError> {
    if found > limit {
        Err(GrantError::TooLong { what, found, limit })
    } else {
        Ok(())
    }
}

const _: () = assert!(G1_BYTES * CLASSES_MAX + 32 + 48 < PART_BYTES_MAX);
