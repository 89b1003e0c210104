//! (12), (13), E20 to E22.

use serde_json::{Value, json};

use super::index::{Located, writer};
use super::{Consumer, Input, Refused};
use crate::index::{Delta, EpisodeKey, Keyword, OwnerKey, SealedLocator, Tag, Trapdoor};
use crate::keys::{SearchKey, WriterEpochPublicKey};

pub(super) const CONSUMER: Consumer = Consumer {
    file: "query",
    calls: &[
        ("trapdoor", trapdoor),
        ("query_key", query_key),
        ("query", query),
        ("check_episode", check_episode),
    ],
    differences: &[],
};

/// More hits than any table has entries.
const HITS_MAX: usize = 64;

#[test]
fn vectors() {
    CONSUMER.run();
}

fn trapdoor(input: &Input<'_>) -> Result<Value, Refused> {
    let key = SearchKey(input.scalar("x")?);
    let keyword = Keyword::new(&input.bytes("keyword"))?;
    let consortium = input.consortium()?;
    let trapdoor = Trapdoor::generate(&consortium, &key, &input.pid()?, writer(input), &keyword);
    Ok(json!({ "T": hex::encode(trapdoor.expose_bytes()) }))
}

fn asked(input: &Input<'_>) -> Result<(Trapdoor, WriterEpochPublicKey), Refused> {
    let trapdoor = Trapdoor::from_bytes(&input.array("T")?)?;
    let writer_key = WriterEpochPublicKey::from_bytes(&input.array("R")?)?;
    Ok((trapdoor, writer_key))
}

fn query_key(input: &Input<'_>) -> Result<Value, Refused> {
    let (trapdoor, writer_key) = asked(input)?;
    Ok(json!({ "K_w": hex::encode(*trapdoor.index_key(&writer_key).0) }))
}

/// The look-up gives every entry that is there, and what does not open is dropped afterwards, so
/// that it is neither a hit nor missing.
fn query(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let (trapdoor, writer_key) = asked(input)?;
    let table = input.object("table");
    let mut records = Vec::new();
    for record in table.objects("records") {
        let sealed = SealedLocator::new(record.array("sealed_locator")?);
        records.push((Located::read(&record)?, sealed));
    }
    let mut entries = Vec::new();
    for entry in table.objects("entries") {
        let record = &records[entry.integer::<usize>("record")];
        entries.push((
            Tag::new(entry.array("tag")?),
            entry.array::<16>("pad")?,
            record,
        ));
    }
    let key = trapdoor.index_key(&writer_key);
    let found = key.search(&consortium, HITS_MAX, |asked| {
        let here = |(tag, _, record): &&(Tag, [u8; 16], &(Located, SealedLocator))| {
            tag == asked && record.0.writer_key == writer_key
        };
        Ok::<_, Refused>(entries.iter().find(here))
    })?;
    assert!(found.len() < HITS_MAX);
    let mut hits = Vec::new();
    for (position, (tag, pad, (record, sealed))) in found {
        let key = key.locator_key(&consortium, position, &record.owner_key.compressed(), pad);
        let Ok(locator) = sealed.open(&consortium, &key, &record.binding()) else {
            continue;
        };
        hits.push(json!({
            "i": position.number(),
            "tag": hex::encode(tag.as_bytes()),
            "LK": hex::encode(key.expose_bytes()),
            "hdr": record.header_digest.to_string(),
            "address": hex::encode(locator.address.as_bytes()),
            "delta": hex::encode(*locator.delta.expose_bytes()),
        }));
    }
    if hits.is_empty() {
        return Err(Refused::plainly(&["no-hit"]));
    }
    Ok(json!({ "hits": hits }))
}

/// The comparison with the grant's E is the reader's; the crate gives what to compare.
fn check_episode(input: &Input<'_>) -> Result<Value, Refused> {
    let record = OwnerKey::from_bytes(&input.array("O_rec")?)?;
    let delta = Delta::from_bytes(&input.array("delta")?)?;
    if record.unblind(&delta)? != EpisodeKey::from_bytes(&input.array("E")?)? {
        return Err(Refused::plainly(&["foreign-grant"]));
    }
    Ok(json!({ "stands": true }))
}
