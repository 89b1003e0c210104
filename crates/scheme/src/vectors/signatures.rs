//! E7 to E9, (10).

use serde_json::{Value, json};

use super::{Consumer, Input, Refused, slices};
use crate::hash::Digest;
use crate::index::{Entry, OwnerKey, SealedLocator, Tag};
use crate::keys::WriterEpochPublicKey;
use crate::params::{InstitutionId, Timestamp};
use crate::signature::{
    Context, RecordStatement, Signature, SigningKey, VerifyingKey, signed_text,
};

pub(super) const CONSUMER: Consumer = Consumer {
    file: "signatures",
    calls: &[
        ("sign", sign),
        ("verify", verify),
        ("sign_record", sign_record),
        ("verify_record", verify_record),
    ],
    differences: &[],
};

#[test]
fn vectors() {
    CONSUMER.run();
}

/// A record with its tags out of order is refused for that, not because the signature, too, is of
/// another text.
#[test]
fn a_record_out_of_order_is_refused_though_signed() {
    let file = super::File::read("signatures");
    for name in ["a record whose tags descend", "a record with a tag twice"] {
        let vector = file
            .negative
            .iter()
            .find(|vector| vector.name == name)
            .unwrap();
        let input = Input::new(&vector.input);
        let Ok(mut statement) = record(&input.object("record")) else {
            panic!("{name} does not decode");
        };
        let consortium = input.consortium().ok().unwrap();
        let key = SigningKey::from_seed([7; 32]);
        statement.author = key.verifying_key();
        let signature = statement.sign(&consortium, &key);
        assert!(statement.verify(&consortium, &signature).is_err());
        statement.entries.sort_unstable();
        statement.entries.dedup_by_key(|entry| entry.tag);
        let signature = statement.sign(&consortium, &key);
        assert!(statement.verify(&consortium, &signature).is_ok());
    }
}

fn context(input: &Input<'_>) -> Context {
    match input.text("context") {
        "record" => Context::Record,
        "transaction" => Context::Transaction,
        "request" => Context::Request,
        "access" => Context::Access,
        "revocation" => Context::Revocation,
        "withdrawal" => Context::Withdrawal,
        "receipt" => Context::Receipt,
        "reply" => Context::Reply,
        "share" => Context::Share,
        "hpke-key" => Context::HpkeKey,
        "consensus" => Context::Consensus,
        "certificate" => Context::Certificate,
        "agent" => Context::Agent,
        "countersignature" => Context::Countersignature,
        "reading" => Context::Reading,
        context => panic!("unknown context {context}"),
    }
}

fn sign(input: &Input<'_>) -> Result<Value, Refused> {
    let (consortium, context) = (input.consortium()?, context(input));
    let parts = input.parts();
    let key = SigningKey::from_seed(input.array("secret")?);
    let signature = key.sign(context, &consortium, &slices(&parts));
    Ok(json!({
        "message": hex::encode(signed_text(context, &consortium, &slices(&parts))),
        "key": key.verifying_key().to_string(),
        "signature": hex::encode(signature.as_bytes()),
    }))
}

fn verify(input: &Input<'_>) -> Result<Value, Refused> {
    let parts = input.parts();
    let signature = Signature::new(input.array("signature")?);
    VerifyingKey::new(input.array("key")?).verify(
        context(input),
        &input.consortium()?,
        &slices(&parts),
        &signature,
    )?;
    Ok(json!({ "stands": true }))
}

fn sign_record(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let statement = record(&input.object("record"))?;
    let key = SigningKey::from_seed(input.array("secret")?);
    let signature = statement.sign(&consortium, &key);
    let message = statement.with_parts(|parts| signed_text(Context::Record, &consortium, parts));
    Ok(json!({
        "message": hex::encode(message),
        "transaction": statement.id(&consortium).to_string(),
        "signature": hex::encode(signature.as_bytes()),
    }))
}

fn verify_record(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let statement = record(&input.object("record"))?;
    statement.verify(&consortium, &Signature::new(input.array("signature")?))?;
    Ok(json!({ "transaction": statement.id(&consortium).to_string() }))
}

fn record(input: &Input<'_>) -> Result<RecordStatement, Refused> {
    let entry = |entry: Input<'_>| {
        let tag = Tag::new(entry.array("tag")?);
        let pad = entry.array("pad")?;
        Ok(Entry { tag, pad })
    };
    Ok(RecordStatement {
        digest: Digest::new(input.array("digest")?),
        header_digest: Digest::new(input.array("hdr")?),
        owner_key: OwnerKey::from_bytes(&input.array("O_rec")?)?,
        locator: SealedLocator::new(input.array("sealed_locator")?),
        entries: input
            .objects("entries")
            .map(entry)
            .collect::<Result<_, Refused>>()?,
        writer_key: WriterEpochPublicKey::from_bytes(&input.array("R")?)?,
        author: VerifyingKey::new(input.array("author")?),
        institution: InstitutionId::new(input.integer("institution")),
        time: Timestamp::new(input.integer("time")),
    })
}
