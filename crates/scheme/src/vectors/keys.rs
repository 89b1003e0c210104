//! (6), (7), E13, E14.

use serde_json::{Value, json};

use super::{Consumer, Difference, Input, Refused};
use crate::keys::{
    BlsSignature, EncryptionKey, EncryptionPublicKey, OwnershipKey, OwnershipPublicKey,
    PatientKeys, RootSeed, SearchKey, SearchPublicKey, Subject, WriterEpochKey, WriterEpochProof,
    WriterEpochPublicKey, verify_encryption_key, verify_handover, verify_ownership_key,
    verify_search_key,
};
use crate::params::{InstitutionId, KeyVersion, WriterEpoch};

const HANDOVER: &str = "the error of the check is called a bad proof, of a hand-over as well";
const RANGE: &str = "a proof is carried as 64 bytes, and c and z are decoded when it is verified: \
                     whatever is out of range proves nothing";
const COMMITMENT: &str = "a commitment that is the identity is one more way for a proof to be bad";

pub(super) const CONSUMER: Consumer = Consumer {
    file: "keys",
    calls: &[
        ("KeyGen", generate),
        ("prove_possession", prove_possession),
        ("verify_possession", verify_possession),
        ("sign_handover", sign_handover),
        ("verify_handover", verify_handover_signature),
        ("prove_writer_epoch", prove_writer_epoch),
        ("verify_writer_epoch", verify_writer_epoch),
    ],
    differences: &[
        bad_proof("a hand-over of another text", HANDOVER),
        bad_proof("a hand-over by another patient", HANDOVER),
        bad_proof("a hand-over in another consortium", HANDOVER),
        bad_proof(
            "a hand-over converted to the related key O * g2^5",
            HANDOVER,
        ),
        bad_proof("a proof of y with c = 0", RANGE),
        bad_proof("a proof of y with z = 0", RANGE),
        bad_proof("a proof of y with z = p", RANGE),
        bad_proof("a proof of y with c >= p", RANGE),
        bad_proof("a proof of y whose commitment is the identity", COMMITMENT),
    ],
};

const fn bad_proof(name: &'static str, why: &'static str) -> Difference {
    let class = "bad-proof";
    Difference { name, class, why }
}

#[test]
fn vectors() {
    CONSUMER.run();
}

fn generate(input: &Input<'_>) -> Result<Value, Refused> {
    let seed = RootSeed::from_bytes(input.array("seed")?);
    let version = KeyVersion::new(input.integer("version"));
    let keys = PatientKeys::derive(&seed, version, &input.consortium()?);
    Ok(json!({
        "a": hex::encode(*keys.encryption.0.to_bytes()),
        "x": hex::encode(*keys.search.0.to_bytes()),
        "o": hex::encode(*keys.ownership.0.to_bytes()),
        "A": hex::encode(keys.encryption.public_key().as_bytes()),
        "X": hex::encode(keys.search.public_key().as_bytes()),
        "O": hex::encode(keys.ownership.public_key().as_bytes()),
        "SK_aes": hex::encode(*keys.symmetric.0),
        "inbox_secret": hex::encode(keys.inbox.expose_bytes()),
        "inbox_key": hex::encode(keys.inbox.public_key().as_bytes()),
        "directory": hex::encode(keys.directory.expose_bytes()),
        "account": hex::encode(
            keys.accounts
                .key(&input.consortium()?, b"query")
                .verifying_key()
                .as_bytes(),
        ),
    }))
}

fn prove_possession(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let secret = input.scalar("secret")?;
    let subject = Subject::new(input.integer("subject"));
    let (key, proof) = match input.text("which") {
        "A" => {
            let key = EncryptionKey(secret);
            (
                *key.public_key().as_bytes(),
                key.prove_possession(&consortium, subject),
            )
        }
        "X" => {
            let key = SearchKey(secret);
            (
                *key.public_key().as_bytes(),
                key.prove_possession(&consortium, subject),
            )
        }
        "O" => {
            let key = OwnershipKey(secret);
            (
                *key.public_key().as_bytes(),
                key.prove_possession(&consortium, subject),
            )
        }
        which => panic!("unknown key {which}"),
    };
    Ok(json!({ "key": hex::encode(key), "proof": hex::encode(proof.as_bytes()) }))
}

fn verify_possession(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let subject = Subject::new(input.integer("subject"));
    let key = input.array("key")?;
    let proof = BlsSignature::from_bytes(&input.array("proof")?)?;
    match input.text("which") {
        "A" => {
            let key = EncryptionPublicKey::from_bytes(&key)?;
            verify_encryption_key(&consortium, subject, &key, &proof)?;
        }
        "X" => {
            let key = SearchPublicKey::from_bytes(&key)?;
            verify_search_key(&consortium, subject, &key, &proof)?;
        }
        "O" => {
            let key = OwnershipPublicKey::from_bytes(&key)?;
            verify_ownership_key(&consortium, subject, &key, &proof)?;
        }
        which => panic!("unknown key {which}"),
    }
    Ok(json!({ "stands": true }))
}

fn sign_handover(input: &Input<'_>) -> Result<Value, Refused> {
    let key = OwnershipKey(input.scalar("o")?);
    let signature = key.sign_handover(&input.consortium()?, &input.bytes("text"));
    Ok(json!({ "signature": hex::encode(signature.as_bytes()) }))
}

fn verify_handover_signature(input: &Input<'_>) -> Result<Value, Refused> {
    let key = OwnershipPublicKey::from_bytes(&input.array("O")?)?;
    let signature = BlsSignature::from_bytes(&input.array("signature")?)?;
    verify_handover(&input.consortium()?, &key, &input.bytes("text"), &signature)?;
    Ok(json!({ "stands": true }))
}

fn prove_writer_epoch(input: &Input<'_>) -> Result<Value, Refused> {
    let key = WriterEpochKey(input.scalar("y")?);
    let proof = key
        .prove_with(
            &input.consortium()?,
            InstitutionId::new(input.integer("institution")),
            WriterEpoch::new(input.integer("writer_epoch")),
            &input.scalar("k")?,
        )
        .expect("a k that gives neither zero");
    Ok(json!({
        "R": hex::encode(key.public_key().as_bytes()),
        "proof": hex::encode(proof.to_bytes()),
    }))
}

fn verify_writer_epoch(input: &Input<'_>) -> Result<Value, Refused> {
    let key = WriterEpochPublicKey::from_bytes(&input.array("R")?)?;
    WriterEpochProof::from_bytes(&input.array("proof")?).verify(
        &input.consortium()?,
        InstitutionId::new(input.integer("institution")),
        WriterEpoch::new(input.integer("writer_epoch")),
        &key,
    )?;
    Ok(json!({ "stands": true }))
}
