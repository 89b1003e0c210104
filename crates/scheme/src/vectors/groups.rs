//! 1.3, E6.

use serde_json::{Value, json};

use super::{Consumer, Difference, Input, Refused, array, bytes_of};
use crate::group::{G1, G2, pairing};
use crate::hash::sha256;
use crate::index::Degenerate;

pub(super) const CONSUMER: Consumer = Consumer {
    file: "groups",
    calls: &[
        ("decode_G1", |input| bytes(&input.g1("bytes")?.to_bytes())),
        ("decode_G2", |input| bytes(&input.g2("bytes")?.to_bytes())),
        ("decode_scalar", |input| {
            bytes(input.scalar("bytes")?.to_bytes().as_slice())
        }),
        ("decode_GT", |input| {
            bytes(input.gt("bytes")?.to_bytes().as_slice())
        }),
        ("power_G1", |input| {
            point(&input.g1("P")?.power(&input.scalar("s")?).to_bytes())
        }),
        ("power_G2", |input| {
            point(&input.g2("P")?.power(&input.scalar("s")?).to_bytes())
        }),
        ("product_G1", product_g1),
        ("product_G2", product_g2),
        ("pairing", pair),
    ],
    differences: &[Difference {
        name: "decode_G1: the point (0, 2), of order 3",
        class: "off-curve",
        why: "the library takes x = 0, where no point of the subgroup lies, for no encoding",
    }],
};

#[test]
fn vectors() {
    CONSUMER.run();
}

fn bytes(encoded: &[u8]) -> Result<Value, Refused> {
    Ok(json!({ "bytes": hex::encode(encoded) }))
}

fn point(encoded: &[u8]) -> Result<Value, Refused> {
    Ok(json!({ "point": hex::encode(encoded) }))
}

fn product_g1(input: &Input<'_>) -> Result<Value, Refused> {
    let mut points = input.g1s("points")?.into_iter();
    let first = points.next().expect("a point");
    let product = points.try_fold(first, |left, right| left.times(&right));
    point(&product.ok_or(Degenerate)?.to_bytes())
}

fn product_g2(input: &Input<'_>) -> Result<Value, Refused> {
    let points: Result<Vec<G2>, Refused> = input
        .list("points")
        .map(|value| Ok(G2::from_bytes("a point", &array(&bytes_of(value))?)?))
        .collect();
    let mut points = points?.into_iter();
    let first = points.next().expect("a point");
    let product = points.try_fold(first, |left, right| left.times(&right));
    point(&product.ok_or(Degenerate)?.to_bytes())
}

fn pair(input: &Input<'_>) -> Result<Value, Refused> {
    let (p, q): (G1, G2) = (input.g1("P")?, input.g2("Q")?);
    let encoded = pairing(&p, &q).to_bytes();
    let sha256 = sha256(encoded.as_slice()).to_string();
    Ok(json!({ "GT": hex::encode(*encoded), "sha256": sha256 }))
}
