//! E33.

use serde_json::{Value, json};

use super::{Consumer, Input, Refused, array, bytes_of};
use crate::hash::Digest;
use crate::re_encryption::LogKey;
use crate::signature::VerifyingKey;

pub(super) const CONSUMER: Consumer = Consumer {
    file: "access_log",
    calls: &[("mask", mask), ("read", read)],
    differences: &[],
};

#[test]
fn vectors() {
    CONSUMER.run();
}

fn masked(input: &Input<'_>, value: &str) -> Result<Digest, Refused> {
    Ok(LogKey::from_bytes(input.array("G")?).mask(
        &input.consortium()?,
        &VerifyingKey::new(input.array("access_key")?),
        input.integer("i"),
        &input.array("v")?,
        &Digest::new(input.array(value)?),
    ))
}

fn mask(input: &Input<'_>) -> Result<Value, Refused> {
    Ok(json!({ "masked": masked(input, "transaction")?.to_string() }))
}

/// Whether the id is one of a record is the reader's to know: the crate only unmasks.
fn read(input: &Input<'_>) -> Result<Value, Refused> {
    let transaction = masked(input, "masked")?;
    for known in input.list("transactions") {
        if Digest::new(array(&bytes_of(known))?) == transaction {
            return Ok(json!({ "transaction": transaction.to_string() }));
        }
    }
    Err(Refused::plainly(&["no-hit"]))
}
