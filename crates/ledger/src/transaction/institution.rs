//! An institution as the consortium knows it: its name, tier, keys, and where it is reached.

use std::fmt;

use scheme::{ConsortiumId, InstitutionId};
use scheme::{Context, Sign, Signature, SigningKey, VerifyingKey};
use scheme::{DecodeError, Decoder, Encoder};

use super::{CheckError, Kind, Signer, Text, decode_key, decode_signature};
use crate::policy::Tier;

/// A medical institution as the consortium knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Institution {
    /// The code that the registration centre gave it; unique.
    pub id: InstitutionId,
    /// Decides whether its node accounts, verifies, or only follows.
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
            name: InstitutionName::from_bytes(from.var("institution's name", LINE_BYTES_MAX)?)?,
            key: decode_key("institution's key", from)?,
            node: decode_key("node key", from)?,
        })
    }

    pub(crate) fn check_shape(&self) -> Result<(), DecodeError> {
        check_keys(&self.key, &self.node)
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
        line("institution's name", bytes).map(Self)
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
/// Where an institution is reached. The chain holds it so that the others find a newcomer, and one that
/// moves, without anyone's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Where its node listens for the other nodes, `host:port`.
    pub consensus: ContactAddress,
    /// Base address of its node, for users and services.
    pub node: ContactAddress,
    /// Base address of its server; an observer has none.
    pub server: Option<ContactAddress>,
    /// The certificates, in PEM, of the authority by which its TLS certificates are judged; empty where
    /// there is no TLS, on one machine.
    pub authority: TlsAuthority,
}

/// An address: 1 to 255 visible ASCII characters. What it means is for who connects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContactAddress(String);

/// Certificates in PEM: at most 8 KiB of ASCII.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlsAuthority(String);

impl ContactAddress {
    /// Checks length and characters.
    ///
    /// # Errors
    /// [`DecodeError`] if it is empty, longer than 255 bytes or holds anything but visible ASCII.
    pub fn new(address: &str) -> Result<Self, DecodeError> {
        Self::from_bytes(address.as_bytes())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = "address of the institution";
        if bytes.len() > ADDRESS_BYTES_MAX {
            let (found, limit) = (bytes.len() as u64, ADDRESS_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge { what, found, limit });
        }
        if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_graphic) {
            let why = "empty, or not visible ASCII";
            return Err(DecodeError::Invalid { what, why });
        }
        Ok(Self(bytes.iter().copied().map(char::from).collect()))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TlsAuthority {
    /// Checks length and characters.
    ///
    /// # Errors
    /// [`DecodeError`] if it is longer than 8 KiB or no ASCII text.
    pub fn new(pem: &str) -> Result<Self, DecodeError> {
        Self::from_bytes(pem.as_bytes())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = "TLS authority of the institution";
        if bytes.len() > AUTHORITY_BYTES_MAX {
            let (found, limit) = (bytes.len() as u64, AUTHORITY_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge { what, found, limit });
        }
        let text = |byte: &u8| byte.is_ascii_graphic() || b" \r\n".contains(byte);
        if !bytes.iter().all(text) {
            let why = "not ASCII text";
            return Err(DecodeError::Invalid { what, why });
        }
        Ok(Self(bytes.iter().copied().map(char::from).collect()))
    }

    /// The certificates.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Contact {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        let server = self.server.as_ref().map_or("", ContactAddress::as_str);
        out.var(self.consensus.0.as_bytes())
            .var(self.node.0.as_bytes())
            .var(server.as_bytes())
            .var(self.authority.0.as_bytes());
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let consensus = from.var("address for nodes", ADDRESS_BYTES_MAX)?;
        let node = from.var("address of the node", ADDRESS_BYTES_MAX)?;
        let server = from.var("address of the server", ADDRESS_BYTES_MAX)?;
        let authority = from.var("TLS authority", AUTHORITY_BYTES_MAX)?;
        Ok(Self {
            consensus: ContactAddress::from_bytes(consensus)?,
            node: ContactAddress::from_bytes(node)?,
            server: match server {
                [] => None,
                some => Some(ContactAddress::from_bytes(some)?),
            },
            authority: TlsAuthority::from_bytes(authority)?,
        })
    }
}

/// An institution says where it is reached now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactTransaction {
    /// Which.
    pub institution: InstitutionId,
    /// One more than that of its contact on the chain, 0 if there is none: so none is taken twice, or
    /// after a later one.
    pub serial: u32,
    /// Where it is reached.
    pub contact: Contact,
    /// By the institution's key.
    pub signature: Signature,
}

impl ContactTransaction {
    /// The institution signs.
    pub fn sign<K: Sign>(
        consortium: &ConsortiumId,
        institution: InstitutionId,
        serial: u32,
        contact: Contact,
        key: &K,
    ) -> K::Outcome<Self> {
        let signature = Signature::new([0; 64]);
        let mut unsigned = Self {
            institution,
            serial,
            contact,
            signature,
        };
        unsigned.text().sign_then(consortium, key, |signature| {
            unsigned.signature = signature;
            unsigned
        })
    }

    pub(super) fn text(&self) -> Text {
        Text::new(Context::Transaction, Kind::Contact, |out| {
            self.encode_body(out);
        })
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
        out.u32(self.institution.number()).u32(self.serial);
        self.contact.encode(out);
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.encode_body(out);
        out.bytes(self.signature.as_bytes());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            institution: InstitutionId::new(from.u32("institution")?),
            serial: from.u32("serial of the contact")?,
            contact: Contact::decode(from)?,
            signature: decode_signature(from)?,
        })
    }
}

/// The keys that an institution has from here on, one of which or both are new: an institution's key is
/// in force from the transaction's place in its block on, a node's key with the next validator epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Succession {
    /// Whose.
    pub institution: InstitutionId,
    /// The keys with which it came are generation 0, each later pair is one more.
    pub generation: u32,
    /// The institution's key.
    pub key: VerifyingKey,
    /// Its node's consensus key.
    pub node: VerifyingKey,
}

/// A succession with both keys' signatures, so that nobody takes another's key for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PossessedSuccession {
    /// The keys.
    pub succession: Succession,
    /// By the institution's key that it names.
    pub by_key: Signature,
    /// By the node key that it names.
    pub by_node: Signature,
}

impl Succession {
    /// What everyone signs: who holds the current key, the next key, the node's key.
    pub fn sign<K: Sign>(&self, consortium: &ConsortiumId, key: &K) -> K::Outcome<Signature> {
        self.text()
            .sign_then(consortium, key, |signature| signature)
    }

    /// Both keys that it names sign.
    pub fn possess<K: Sign>(
        self,
        consortium: &ConsortiumId,
        key: &K,
        node: &SigningKey,
    ) -> K::Outcome<PossessedSuccession> {
        let by_node = self.sign(consortium, node);
        self.text()
            .sign_then(consortium, key, |by_key| PossessedSuccession {
                succession: self,
                by_key,
                by_node,
            })
    }

    pub(super) fn text(&self) -> Text {
        Text::new(Context::Transaction, Kind::Succession, |out| {
            self.encode(out);
        })
    }

    fn encode(&self, out: &mut Encoder) {
        out.u32(self.institution.number())
            .u32(self.generation)
            .bytes(self.key.as_bytes())
            .bytes(self.node.as_bytes());
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            institution: InstitutionId::new(from.u32("institution")?),
            generation: from.u32("generation of the keys")?,
            key: decode_key("institution's key", from)?,
            node: decode_key("node key", from)?,
        })
    }
}

impl PossessedSuccession {
    /// Level 2: possession of both keys.
    pub(super) fn check(&self, consortium: &ConsortiumId) -> Result<(), CheckError> {
        let text = self.succession.text();
        text.verify(consortium, &self.succession.key, &self.by_key)
            .map_err(Signer::Institution.failed())?;
        text.verify(consortium, &self.succession.node, &self.by_node)
            .map_err(Signer::Node.failed())
    }

    pub(super) fn check_shape(&self) -> Result<(), DecodeError> {
        check_keys(&self.succession.key, &self.succession.node)
    }

    /// Its bytes, as they travel to a member that puts the motion.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        self.encode(&mut out);
        out.finish()
    }

    /// Reads a succession.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let read = Self::decode(&mut from)?;
        from.finish("the succession")?;
        Ok(read)
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.succession.encode(out);
        out.bytes(self.by_key.as_bytes())
            .bytes(self.by_node.as_bytes());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            succession: Succession::decode(from)?,
            by_key: decode_signature(from)?,
            by_node: decode_signature(from)?,
        })
    }
}

/// An institution gives itself its next keys, signed by its current one. Where that is lost, a motion
/// does it ([`MembershipChange::Succeed`](super::MembershipChange::Succeed)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuccessionTransaction {
    /// The keys, with their signatures.
    pub next: PossessedSuccession,
    /// By the institution's current key.
    pub current: Signature,
}

impl SuccessionTransaction {
    /// The current key signs.
    pub fn sign<K: Sign>(
        consortium: &ConsortiumId,
        next: PossessedSuccession,
        current: &K,
    ) -> K::Outcome<Self> {
        let text = next.succession.text();
        text.sign_then(consortium, current, |current| Self { next, current })
    }

    /// Level 3: the institution's signature, under its current key in the state.
    pub(crate) fn check_current(
        &self,
        consortium: &ConsortiumId,
        key: &VerifyingKey,
    ) -> Result<(), CheckError> {
        let text = self.next.succession.text();
        text.verify(consortium, key, &self.current)
            .map_err(Signer::Institution.failed())
    }

    pub(super) fn encode(&self, out: &mut Encoder) {
        self.next.encode(out);
        out.bytes(self.current.as_bytes());
    }

    pub(super) fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            next: PossessedSuccession::decode(from)?,
            current: decode_signature(from)?,
        })
    }
}

/// Text of one line: 1 to 64 bytes of UTF-8 without control characters.
pub(super) fn line(what: &'static str, bytes: &[u8]) -> Result<String, DecodeError> {
    if bytes.len() > LINE_BYTES_MAX {
        let (found, limit) = (bytes.len() as u64, LINE_BYTES_MAX as u64);
        return Err(DecodeError::TooLarge { what, found, limit });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid {
        what,
        why: "not UTF-8",
    })?;
    if text.is_empty() || text.chars().any(char::is_control) {
        let why = "empty or with control characters";
        return Err(DecodeError::Invalid { what, why });
    }
    Ok(text.to_owned())
}

fn check_keys(key: &VerifyingKey, node: &VerifyingKey) -> Result<(), DecodeError> {
    if key == node {
        let what = "keys of the institution";
        return Err(DecodeError::Invalid {
            what,
            why: "one key in two roles",
        });
    }
    for (what, key) in [("institution's key", key), ("node key", node)] {
        // The engine's rule knows no small order: under such a node key anyone could vote.
        if !key.can_verify() {
            let why = "no point of the curve, or of small order";
            return Err(DecodeError::Invalid { what, why });
        }
    }
    Ok(())
}

/// A name fits a line of a page.
pub(super) const LINE_BYTES_MAX: usize = 64;

/// A host's name has at most 253 characters, 255 with its dots at both ends.
const ADDRESS_BYTES_MAX: usize = 255;

/// Two certificates of the largest usual keys, so that an authority can change: RSA of 4,096 bits in PEM
/// is 2 KiB.
const AUTHORITY_BYTES_MAX: usize = 8_192;
