//! E2 to E5.

use serde_json::{Value, json};

use super::{Consumer, Input, Refused, slices};
use crate::hash::{Extracted, h1, hs, prf, tagged};
use crate::index::Degenerate;

pub(super) const CONSUMER: Consumer = Consumer {
    file: "hashes",
    calls: &[
        ("H1", to_point),
        ("Hs", to_scalar),
        ("PRF", pseudo_random),
        ("Extract", extract),
        ("Expand", expand),
        ("HT", of_pairing),
        ("SHA", to_digest),
    ],
    differences: &[],
};

#[test]
fn vectors() {
    CONSUMER.run();
}

fn to_point(input: &Input<'_>) -> Result<Value, Refused> {
    let parts = input.parts();
    let point = h1(input.domain(), &input.consortium()?, &slices(&parts));
    Ok(json!({ "point": hex::encode(point.to_bytes()) }))
}

fn to_scalar(input: &Input<'_>) -> Result<Value, Refused> {
    let parts = input.parts();
    let scalar = hs(input.domain(), &input.consortium()?, &slices(&parts)).ok_or(Degenerate)?;
    Ok(json!({ "scalar": hex::encode(*scalar.to_bytes()) }))
}

fn pseudo_random(input: &Input<'_>) -> Result<Value, Refused> {
    let parts = input.parts();
    let key = input.array("key")?;
    let bytes = prf(&key, input.domain(), &input.consortium()?, &slices(&parts));
    Ok(json!({ "bytes": hex::encode(*bytes) }))
}

fn extract(input: &Input<'_>) -> Result<Value, Refused> {
    let extracted = match input.text("salt") {
        "willis/v1/seed" => Extracted::from_seed(&input.array("secret")?),
        "willis/v1/LK" => Extracted::from_locator_key(&input.array("secret")?),
        "willis/v1/HT" => Extracted::from_pairing(&input.array("secret")?),
        salt => panic!("unknown salt {salt}"),
    };
    Ok(json!({ "bytes": hex::encode(*extracted.into_prf_key()) }))
}

fn expand(input: &Input<'_>) -> Result<Value, Refused> {
    let parts = input.parts();
    let extracted = Extracted::from_prk(input.array("prk")?);
    let bytes = extracted.expand(input.domain(), &input.consortium()?, &slices(&parts));
    Ok(json!({ "bytes": hex::encode(*bytes) }))
}

fn of_pairing(input: &Input<'_>) -> Result<Value, Refused> {
    let extracted = Extracted::from_pairing(&input.gt("GT")?.to_bytes());
    Ok(json!({ "bytes": hex::encode(*extracted.into_prf_key()) }))
}

fn to_digest(input: &Input<'_>) -> Result<Value, Refused> {
    let parts = input.parts();
    let digest = tagged(input.domain(), &input.consortium()?, &slices(&parts));
    Ok(json!({ "bytes": digest.to_string() }))
}
