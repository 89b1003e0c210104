//! (11), E18, E19.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Consumer, Difference, Input, Refused, Script};
use crate::hash::Digest;
use crate::index::{
    Address, BlindedKeyword, Delta, EpisodeKey, EvaluatedKeyword, IndexKey, Keyword,
    KeywordBlinding, Locator, LocatorBinding, LocatorKey, OwnerKey, Position, RaisedKeyword,
    SealedLocator, Writer, hash_keyword, unblind,
};
use crate::keys::{OwnershipPublicKey, SearchPublicKey, WriterEpochKey, WriterEpochPublicKey};
use crate::params::{InstitutionId, WriterEpoch};
use crate::signature::VerifyingKey;

const NO_HIT: &str = "a locator whose delta is no scalar is no hit, as one that does not open";

pub(super) const CONSUMER: Consumer = Consumer {
    file: "index",
    calls: &[
        ("keyword_point", keyword_point),
        ("blind", blind),
        ("raise", raise),
        ("unblind", unblind_answer),
        ("keyword_key", keyword_key),
        ("allocation_id", allocation_id),
        ("entry", entry),
        ("episode_key", episode_key),
        ("owner_key", owner_key),
        ("seal_locator", seal_locator),
        ("open_locator", open_locator),
        ("open_entry", open_entry),
    ],
    differences: &[
        Difference {
            name: "a locator that holds delta = 0",
            class: "not-this-locator",
            why: NO_HIT,
        },
        Difference {
            name: "a locator that holds delta = p",
            class: "not-this-locator",
            why: NO_HIT,
        },
    ],
};

#[test]
fn vectors() {
    CONSUMER.run();
}

pub(super) fn writer(input: &Input<'_>) -> Writer {
    Writer {
        institution: InstitutionId::new(input.integer("institution")),
        epoch: WriterEpoch::new(input.integer("writer_epoch")),
    }
}

fn keyword_point(input: &Input<'_>) -> Result<Value, Refused> {
    let keyword = Keyword::new(&input.bytes("keyword"))?;
    let point = hash_keyword(&input.consortium()?, &input.pid()?, writer(input), &keyword);
    Ok(json!({ "Hw": hex::encode(point.to_bytes()) }))
}

fn blinding(input: &Input<'_>) -> Result<KeywordBlinding, Refused> {
    let hashed = input.g1("Hw")?;
    let blind = input.scalar("b")?;
    Ok(KeywordBlinding { hashed, blind })
}

fn blind(input: &Input<'_>) -> Result<Value, Refused> {
    let blinded = blinding(input)?.blinded();
    Ok(json!({ "blinded": hex::encode(blinded.as_bytes()) }))
}

fn raise(input: &Input<'_>) -> Result<Value, Refused> {
    let blinded = BlindedKeyword::from_bytes(&input.array("blinded")?)?;
    let key = WriterEpochKey::from_bytes(&input.array("y")?)?;
    Ok(json!({ "raised": hex::encode(key.raise(&blinded).as_bytes()) }))
}

fn unblind_answer(input: &Input<'_>) -> Result<Value, Refused> {
    let writer_key = WriterEpochPublicKey::from_bytes(&input.array("R")?)?;
    let (mut blindings, mut raised, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for item in input.objects("items") {
        blindings.push(blinding(&item)?);
        raised.push(RaisedKeyword::from_bytes(&item.array("raised")?)?);
        // Drawn little-endian.
        let mut weight = item.array::<16>("weight")?;
        weight.reverse();
        weights.push(weight.to_vec());
    }
    let mut rng = Script::new(weights);
    let evaluated = unblind(&blindings, &raised, &writer_key, &mut rng)?;
    rng.assert_used();
    let points: Vec<_> = evaluated
        .iter()
        .map(|keyword| hex::encode(keyword.0.to_bytes()))
        .collect();
    Ok(json!({ "Hw_y": points }))
}

fn keyword_key(input: &Input<'_>) -> Result<Value, Refused> {
    let owner = SearchPublicKey::from_bytes(&input.array("X")?)?;
    let key = EvaluatedKeyword(input.g1("Hw_y")?).index_key(&owner);
    Ok(json!({ "K_w": hex::encode(*key.0) }))
}

fn index_key(input: &Input<'_>) -> Result<IndexKey, Refused> {
    Ok(IndexKey(Zeroizing::new(input.array("K_w")?)))
}

fn allocation_id(input: &Input<'_>) -> Result<Value, Refused> {
    let id = index_key(input)?.allocation_id(&input.consortium()?);
    Ok(json!({ "id": hex::encode(id.as_bytes()) }))
}

fn entry(input: &Input<'_>) -> Result<Value, Refused> {
    let entry = index_key(input)?.entry(
        &input.consortium()?,
        Position::new(input.integer("i")),
        &OwnerKey::from_bytes(&input.array("O_rec")?)?.compressed(),
        &LocatorKey::from_bytes(input.array("LK")?),
    );
    Ok(json!({
        "tag": hex::encode(entry.tag.as_bytes()),
        "pad": hex::encode(entry.pad),
    }))
}

fn episode_key(input: &Input<'_>) -> Result<Value, Refused> {
    let owner = OwnershipPublicKey::from_bytes(&input.array("O")?)?;
    let key = EpisodeKey::derive(&input.consortium()?, &owner, &input.pid()?)?;
    Ok(json!({ "E": hex::encode(key.as_bytes()) }))
}

fn owner_key(input: &Input<'_>) -> Result<Value, Refused> {
    let episode = EpisodeKey::from_bytes(&input.array("E")?)?;
    let key = episode.blind(&Delta::from_bytes(&input.array("delta")?)?)?;
    Ok(json!({ "O_rec": hex::encode(key.as_bytes()) }))
}

/// The fields of a transaction that a locator is bound to.
pub(super) struct Located {
    pub(super) writer_key: WriterEpochPublicKey,
    pub(super) digest: Digest,
    pub(super) header_digest: Digest,
    pub(super) owner_key: OwnerKey,
    author: VerifyingKey,
    institution: InstitutionId,
}

impl Located {
    pub(super) fn read(input: &Input<'_>) -> Result<Self, Refused> {
        Ok(Self {
            writer_key: WriterEpochPublicKey::from_bytes(&input.array("R")?)?,
            digest: Digest::new(input.array("digest")?),
            header_digest: Digest::new(input.array("hdr")?),
            owner_key: OwnerKey::from_bytes(&input.array("O_rec")?)?,
            author: VerifyingKey::new(input.array("author")?),
            institution: InstitutionId::new(input.integer("institution")),
        })
    }

    pub(super) fn binding(&self) -> LocatorBinding<'_> {
        LocatorBinding {
            writer_key: self.writer_key.compressed(),
            digest: &self.digest,
            header_digest: &self.header_digest,
            owner_key: self.owner_key.compressed(),
            author: &self.author,
            institution: self.institution,
        }
    }
}

fn seal_locator(input: &Input<'_>) -> Result<Value, Refused> {
    let locator = Locator {
        address: Address::new(input.array("address")?),
        delta: Delta::from_bytes(&input.array("delta")?)?,
    };
    let sealed = locator.seal(
        &input.consortium()?,
        &LocatorKey::from_bytes(input.array("LK")?),
        &Located::read(&input.object("record"))?.binding(),
    );
    Ok(json!({ "sealed_locator": hex::encode(sealed.as_bytes()) }))
}

fn open_locator(input: &Input<'_>) -> Result<Value, Refused> {
    let key = LocatorKey::from_bytes(input.array("LK")?);
    let locator = SealedLocator::new(input.array("sealed_locator")?).open(
        &input.consortium()?,
        &key,
        &Located::read(&input.object("record"))?.binding(),
    )?;
    Ok(json!({
        "address": hex::encode(locator.address.as_bytes()),
        "delta": hex::encode(*locator.delta.expose_bytes()),
    }))
}

fn open_entry(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let record = Located::read(&input.object("record"))?;
    let key = index_key(input)?.locator_key(
        &consortium,
        Position::new(input.integer("i")),
        &record.owner_key.compressed(),
        &input.array("pad")?,
    );
    let sealed = SealedLocator::new(input.array("sealed_locator")?);
    let locator = sealed.open(&consortium, &key, &record.binding())?;
    Ok(json!({
        "LK": hex::encode(key.expose_bytes()),
        "address": hex::encode(locator.address.as_bytes()),
        "delta": hex::encode(*locator.delta.expose_bytes()),
    }))
}
