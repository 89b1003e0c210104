//! (14) to (16), E23 to E27.

use serde_json::{Value, json};

use super::containers::{open_with, own_container, whole_header};
use super::{Consumer, Input, Refused};
use crate::document::{ClassCode, ClassLabelKey, Encapsulation};
use crate::hash::Digest;
use crate::keys::EncryptionKey;
use crate::params::{ConsortiumId, Threshold};
use crate::re_encryption::{
    ClassPlace, Commitments, ConditionKey, GrantId, MaskSeed, NodeNumber, ReEncrypted,
    ReEncryptedShare, ReEncryptionKey, Share, ShareProof, ShareStatement, UncheckedShare,
};
use crate::signature::{Context, Signature, SigningKey, VerifyingKey, signed_text};

pub(super) const CONSUMER: Consumer = Consumer {
    file: "re_encryption",
    calls: &[
        ("RKGen", generate),
        ("check_share", check_share),
        ("ReEnc", re_encrypt),
        ("sign_share", sign_share),
        ("verify_share_signature", verify_share_signature),
        ("combine", combine),
        ("Dec", decrypt),
        ("open_granted", open_granted),
        ("prove_share", prove_share),
        ("verify_share_proof", verify_share_proof),
    ],
    differences: &[],
};

#[test]
fn vectors() {
    CONSUMER.run();
}

fn gid(input: &Input<'_>) -> Result<GrantId, Refused> {
    Ok(GrantId::new(input.array("gid")?))
}

fn seed(input: &Input<'_>) -> Result<MaskSeed, Refused> {
    Ok(MaskSeed::from_bytes(input.array("seed")?))
}

fn place(input: &Input<'_>) -> ClassPlace {
    ClassPlace::new(input.integer("j"))
}

/// Node numbers are a type of their own, which has no 0.
fn node(input: &Input<'_>) -> Result<NodeNumber, Refused> {
    NodeNumber::new(input.integer("m")).ok_or(Refused::plainly(&["invalid"]))
}

fn encapsulation(input: &Input<'_>) -> Result<Encapsulation, Refused> {
    Ok(Encapsulation::from_bytes(&input.array("U")?)?)
}

fn generate(input: &Input<'_>) -> Result<Value, Refused> {
    let (consortium, gid, seed, place) =
        (input.consortium()?, gid(input)?, seed(input)?, place(input));
    let key = EncryptionKey(input.scalar("a")?);
    let class = ClassCode::new(input.integer("class"));
    let condition = ConditionKey::derive(&consortium, &key, &input.pid()?, class);
    let key = ReEncryptionKey::generate(&consortium, &gid, &condition, &seed, place)?;
    let (shares, commitments) = key.share_with(&input.g1s("A")?, input.integer("n"))?;
    let shares: Vec<_> = shares
        .iter()
        .map(|share| hex::encode(share.expose_bytes()))
        .collect();
    let commitments: Vec<_> = commitments.to_bytes().iter().map(hex::encode).collect();
    Ok(json!({
        "S_j": hex::encode(seed.mask(&consortium, &gid, place).to_bytes()),
        "RK_j": hex::encode(key.0.to_bytes()),
        "shares": shares,
        "D": commitments,
    }))
}

fn check_share(input: &Input<'_>) -> Result<Value, Refused> {
    let elements: Result<Vec<_>, Refused> = input
        .list("D")
        .map(|element| Ok(super::array(&super::bytes_of(element))?))
        .collect();
    let commitments = Commitments::from_bytes(&elements?)?;
    let share = UncheckedShare::from_bytes(&input.array("share")?)?;
    let node = node(input)?;
    share.verify(node, &commitments)?;
    let expected = commitments
        .at(node)
        .expect("what the share was compared with");
    Ok(json!({ "C_m": hex::encode(*expected.to_bytes()) }))
}

fn re_encrypt(input: &Input<'_>) -> Result<Value, Refused> {
    let share = Share(input.g1("share")?);
    let header = whole_header(&input.consortium()?, &input.bytes("header"))?.verify()?;
    Ok(json!({
        "W_m": hex::encode(share.re_encrypt(&header).to_bytes()),
        "U": hex::encode(header.header().encapsulation().as_bytes()),
        "hdr": header.header().digest().to_string(),
    }))
}

/// What E24 signs and E27 proves, and its U.
struct Statement {
    consortium: ConsortiumId,
    gid: GrantId,
    transaction: Digest,
    header_digest: Digest,
    class: ClassPlace,
    node: NodeNumber,
    u: Encapsulation,
    share: ReEncryptedShare,
}

impl Statement {
    fn read(input: &Input<'_>) -> Result<Self, Refused> {
        Ok(Self {
            consortium: input.consortium()?,
            gid: gid(input)?,
            transaction: Digest::new(input.array("transaction")?),
            header_digest: Digest::new(input.array("hdr")?),
            class: place(input),
            node: node(input)?,
            u: encapsulation(input)?,
            share: ReEncryptedShare::from_bytes(&input.array("W_m")?)?,
        })
    }

    fn borrowed(&self) -> ShareStatement<'_> {
        ShareStatement {
            consortium: &self.consortium,
            gid: &self.gid,
            transaction: &self.transaction,
            header_digest: &self.header_digest,
            class: self.class,
            node: self.node,
            share: &self.share,
        }
    }
}

fn sign_share(input: &Input<'_>) -> Result<Value, Refused> {
    let statement = Statement::read(input)?;
    let key = SigningKey::from_seed(input.array("secret")?);
    let message = statement.borrowed().with_parts(&statement.u, |parts| {
        signed_text(Context::Share, &statement.consortium, parts)
    });
    let signature = statement.borrowed().sign_for(&statement.u, &key);
    Ok(json!({
        "key": key.verifying_key().to_string(),
        "message": hex::encode(message),
        "signature": hex::encode(signature.as_bytes()),
    }))
}

fn verify_share_signature(input: &Input<'_>) -> Result<Value, Refused> {
    let statement = Statement::read(input)?;
    let key = VerifyingKey::new(input.array("key")?);
    let signature = Signature::new(input.array("signature")?);
    statement
        .borrowed()
        .verify_for(&statement.u, &key, &signature)?;
    Ok(json!({ "stands": true }))
}

fn combined(input: &Input<'_>) -> Result<ReEncrypted, Refused> {
    let parts: Result<Vec<_>, Refused> = input
        .objects("parts")
        .map(|part| {
            Ok((
                node(&part)?,
                ReEncryptedShare::from_bytes(&part.array("W_m")?)?,
            ))
        })
        .collect();
    let parts = parts?;
    let parts: Vec<_> = parts.iter().map(|(node, share)| (*node, share)).collect();
    let threshold = Threshold::new(input.integer("t")).ok_or(Refused::plainly(&["invalid"]))?;
    Ok(ReEncrypted::combine(threshold, &parts)?)
}

fn combine(input: &Input<'_>) -> Result<Value, Refused> {
    Ok(json!({ "W": hex::encode(*combined(input)?.0.to_bytes()) }))
}

fn decrypt(input: &Input<'_>) -> Result<Value, Refused> {
    let (consortium, gid, seed) = (input.consortium()?, gid(input)?, seed(input)?);
    let combined = ReEncrypted(input.gt("W")?);
    let u = encapsulation(input)?;
    let secret = combined.open(&consortium, &gid, &seed, place(input), &u)?;
    Ok(json!({ "K": hex::encode(*secret.0.to_bytes()) }))
}

fn open_granted(input: &Input<'_>) -> Result<Value, Refused> {
    let (consortium, gid, seed) = (input.consortium()?, gid(input)?, seed(input)?);
    let container = input.bytes("container");
    let (header, payloads) = own_container(&consortium, &container)?;
    let u = header.encapsulation();
    let secret = combined(input)?.open(&consortium, &gid, &seed, place(input), u)?;
    let index = header.find(&ClassLabelKey::from_bytes(input.array("Lc")?));
    open_with(&header, payloads, index, &secret)
}

fn prove_share(input: &Input<'_>) -> Result<Value, Refused> {
    let statement = Statement::read(input)?;
    let share = Share(input.g1("share")?);
    // The node computes C_m from its share.
    assert_eq!(
        crate::group::pairing(&share.0, &crate::group::G2::generator()),
        input.gt("C_m")?
    );
    let proof = share
        .prove_with(&statement.borrowed(), &statement.u, &input.g1("P0")?)
        .expect("a P0 that gives neither zero nor the identity");
    Ok(json!({ "proof": hex::encode(proof.to_bytes()) }))
}

fn verify_share_proof(input: &Input<'_>) -> Result<Value, Refused> {
    let statement = Statement::read(input)?;
    let proof = ShareProof::from_bytes(&input.bytes("proof"))?;
    let commitment = input.gt("C_m")?;
    proof.verify_against(&statement.borrowed(), &statement.u, &commitment)?;
    Ok(json!({ "stands": true }))
}
