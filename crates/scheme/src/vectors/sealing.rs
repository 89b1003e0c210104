//! E11, E12.

use serde_json::{Value, json};

use super::{Consumer, Difference, Input, Refused, Script};
use crate::sealing::{HpkePrivateKey, HpkePublicKey, InboxHandle, Purpose, info};

const SHORT: &str = "opening has one error: what is too short to be sealed does not open";

pub(super) const CONSUMER: Consumer = Consumer {
    file: "sealing",
    calls: &[
        ("derive_key_pair", derive_key_pair),
        ("info", bind),
        ("seal", seal),
        ("open", open),
        ("inbox_commitment", inbox_commitment),
    ],
    differences: &[
        cannot_open("a message of 47 bytes", SHORT),
        cannot_open("a message of no bytes", SHORT),
    ],
};

const fn cannot_open(name: &'static str, why: &'static str) -> Difference {
    let class = "cannot-open";
    Difference { name, class, why }
}

#[test]
fn vectors() {
    CONSUMER.run();
}

fn purpose(input: &Input<'_>) -> Purpose {
    match input.text("purpose") {
        "handover" => Purpose::Handover,
        "receipt" => Purpose::Receipt,
        "request" => Purpose::Request,
        "grant-to-doctor" => Purpose::GrantToDoctor,
        "grant-to-node" => Purpose::GrantToNode,
        "appointment" => Purpose::Appointment,
        "reply" => Purpose::Reply,
        "answer-note" => Purpose::AnswerNote,
        "team" => Purpose::Team,
        "agent-act" => Purpose::AgentAct,
        purpose => panic!("unknown purpose {purpose}"),
    }
}

fn derive_key_pair(input: &Input<'_>) -> Result<Value, Refused> {
    let key = HpkePrivateKey::derive(&input.array("ikm")?);
    Ok(json!({
        "secret": hex::encode(key.expose_bytes()),
        "key": hex::encode(key.public_key().as_bytes()),
    }))
}

fn bind(input: &Input<'_>) -> Result<Value, Refused> {
    let key = HpkePublicKey::new(input.array("key")?);
    let subject = input.bytes("subject");
    let info = info(purpose(input), &input.consortium()?, &subject, &key);
    Ok(json!({ "info": hex::encode(info) }))
}

fn seal(input: &Input<'_>) -> Result<Value, Refused> {
    let key = HpkePublicKey::new(input.array("key")?);
    let mut rng = Script::new([input.bytes("ephemeral_ikm")]);
    let sealed = key.seal(
        purpose(input),
        &input.consortium()?,
        &input.bytes("subject"),
        &input.bytes("plaintext"),
        &mut rng,
    )?;
    rng.assert_used();
    Ok(json!({ "sealed": hex::encode(sealed) }))
}

fn open(input: &Input<'_>) -> Result<Value, Refused> {
    let key = HpkePrivateKey::from_bytes(input.array("secret")?)?;
    let plain = key.open(
        purpose(input),
        &input.consortium()?,
        &input.bytes("subject"),
        &input.bytes("sealed"),
    )?;
    Ok(json!({ "plaintext": hex::encode(plain.as_slice()) }))
}

fn inbox_commitment(input: &Input<'_>) -> Result<Value, Refused> {
    let handle = InboxHandle::new(input.array("handle")?);
    let commitment = handle.commit(&input.consortium()?, &input.array("salt")?);
    Ok(json!({ "commitment": commitment.to_string() }))
}
