//! E1.

use serde_json::{Value, json};

use super::{Consumer, Input, Refused, slices};
use crate::encoding::{Decoder, enc};
use crate::hash;

pub(super) const CONSUMER: Consumer = Consumer {
    file: "encoding",
    calls: &[
        ("enc", encode),
        ("in", encode_tagged),
        ("decode_var", decode_var),
    ],
    differences: &[],
};

#[test]
fn vectors() {
    CONSUMER.run();
}

fn encode(input: &Input<'_>) -> Result<Value, Refused> {
    Ok(json!({ "encoded": hex::encode(enc(&slices(&input.parts()))) }))
}

fn encode_tagged(input: &Input<'_>) -> Result<Value, Refused> {
    let parts = input.parts();
    let encoded = hash::input(input.domain(), &input.consortium()?, &slices(&parts));
    Ok(json!({ "encoded": hex::encode(encoded) }))
}

fn decode_var(input: &Input<'_>) -> Result<Value, Refused> {
    let bytes = input.bytes("bytes");
    let mut decoder = Decoder::new(&bytes);
    let value = decoder.var("the value", input.integer("limit"))?;
    decoder.finish("the value")?;
    Ok(json!({ "value": hex::encode(value) }))
}
