//! E28 to E32, (14).

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::index::writer;
use super::{Consumer, Difference, Input, Refused, Script};
use crate::agent::{AgentKey, Appointment};
use crate::document::{ClassCode, ClassLabelKey};
use crate::encoding::Encoder;
use crate::grant::{
    Dealing, EpisodeSigningKey, ExplicitEntry, Grant, GrantNode, GrantTerms, GrantedClass, Grantee,
    Granter, Reach, Signed, VerifiedGrant, WriterTrapdoor, decrypt_body,
};
use crate::index::{EpisodeKey, LocatorKey, Tag, Trapdoor};
use crate::keys::{EncryptionKey, OwnershipKey};
use crate::params::{ConsortiumId, Threshold, Timestamp, ValidatorEpoch};
use crate::re_encryption::{ConditionKey, GrantId, LogKey, MaskSeed, NodeNumber};
use crate::sealing::{HpkePrivateKey, HpkePublicKey, Purpose};
use crate::signature::{SigningKey, VerifyingKey};

pub(super) const CONSUMER: Consumer = Consumer {
    file: "grants",
    calls: &[
        ("gid", name),
        ("episode_secret", episode_secret),
        ("make_grant", make_grant),
        ("sign_by_agent", sign_by_agent),
        ("decode_grant", decode_grant),
        ("verify_grant", verify_grant),
        ("open_node_part", open_node_part),
        ("open_doctor_part", open_doctor_part),
        ("open_body", open_body),
    ],
    differences: &[
        Difference {
            name: "an agent's grant for another episode than its appointment",
            class: "bad-signature",
            why: "verifying has one error: the owner of E neither made nor delegated this grant",
        },
        cannot_open("a node's part: of 47 bytes", SHORT),
        cannot_open("a node's part: opened by another node", NOT_MINE),
        cannot_open("a node's part: opened as another node's", NOT_MINE),
        cannot_open("a node's part: opened by a stranger", NOT_MINE),
        cannot_open("a doctor's part: opened by another doctor", NOT_MINE),
        cannot_open("a doctor's part: opened as another doctor's", NOT_MINE),
        cannot_open("a doctor's part: opened by a stranger", NOT_MINE),
    ],
};

const SHORT: &str = "opening has one error: what is too short to be sealed does not open";
const NOT_MINE: &str = "the key is not compared with the one named at that place: HPKE, which an \
                        attacker cannot skip as they could the comparison, refuses it";

const fn cannot_open(name: &'static str, why: &'static str) -> Difference {
    let class = "cannot-open";
    Difference { name, class, why }
}

#[test]
fn vectors() {
    CONSUMER.run();
}

fn name(input: &Input<'_>) -> Result<Value, Refused> {
    let key = VerifyingKey::new(input.array("revocation_key")?);
    let gid = GrantId::of(&input.consortium()?, &key);
    Ok(json!({ "gid": hex::encode(gid.as_bytes()) }))
}

fn episode_secret(input: &Input<'_>) -> Result<Value, Refused> {
    let owner = OwnershipKey(input.scalar("o")?);
    let key = EpisodeSigningKey::derive(&input.consortium()?, &owner, &input.pid()?)?;
    Ok(json!({ "e": hex::encode(*key.secret.to_bytes()) }))
}

fn make_grant(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let key = EpisodeSigningKey::from_secret(input.scalar("e")?);
    let (pid, a) = (input.pid()?, EncryptionKey(input.scalar("a")?));
    let (mut grantees, mut nodes) = (Vec::new(), Vec::new());
    let (mut to_nodes, mut to_doctors) = (Vec::new(), Vec::new());
    for doctor in input.objects("doctors") {
        grantees.push(Grantee {
            access_key: VerifyingKey::new(doctor.array("access_key")?),
            hpke_key: HpkePublicKey::new(doctor.array("hpke_key")?),
        });
        to_doctors.push(doctor.bytes("ephemeral_ikm"));
    }
    for node in input.objects("nodes") {
        nodes.push(GrantNode {
            key: VerifyingKey::new(node.array("consensus_key")?),
            hpke_key: HpkePublicKey::new(node.array("hpke_key")?),
        });
        to_nodes.push(node.bytes("ephemeral_ikm"));
    }
    let terms = GrantTerms {
        episode_key: EpisodeKey::from_bytes(&input.array("E")?)?,
        revocation_key: VerifyingKey::new(input.array("revocation_key")?),
        request: input.bytes("request"),
        grantees,
        not_before: Timestamp::new(input.integer("not_before")),
        expiry: Timestamp::new(input.integer("expiry")),
        validator_epoch: ValidatorEpoch::new(input.integer("validator_epoch")),
        nodes,
        threshold: Threshold::new(input.integer("t")).ok_or(Refused::plainly(&["invalid"]))?,
    };
    let (mut classes, mut coefficients) = (Vec::new(), Vec::new());
    for granted in input.objects("classes") {
        let class = ClassCode::new(granted.integer("class"));
        classes.push(GrantedClass {
            condition: ConditionKey::derive(&consortium, &a, &pid, class),
            label_key: ClassLabelKey::derive(&consortium, &pid, class),
        });
        coefficients.push(granted.g1s("A")?);
    }
    let dealing = Dealing {
        seed: MaskSeed::from_bytes(input.array("seed")?),
        log_key: LogKey::from_bytes(input.array("G")?),
        body_key: Zeroizing::new(input.array("body_key")?),
        coefficients,
    };
    // The nodes' parts are sealed before the doctors'.
    let mut rng = Script::new(to_nodes.into_iter().chain(to_doctors));
    let (reach, granter) = (reach(input)?, Granter::Patient(&key));
    let gid = GrantId::of(&consortium, &terms.revocation_key);
    let grant = Grant::make_with(
        &consortium,
        terms,
        &classes,
        &reach,
        &granter,
        &dealing,
        &mut rng,
    )?;
    rng.assert_used();
    Ok(json!({
        "gid": hex::encode(gid.as_bytes()),
        "grant": hex::encode(grant.encode(&consortium)),
    }))
}

fn reach(input: &Input<'_>) -> Result<Reach, Refused> {
    let mut reach = Reach::default();
    for trapdoor in input.objects("trapdoors") {
        reach.trapdoors.push(WriterTrapdoor {
            writer: writer(&trapdoor),
            trapdoor: Trapdoor::from_bytes(&trapdoor.array("T")?)?,
        });
    }
    for entry in input.objects("entries") {
        reach.entries.push(ExplicitEntry {
            writer: writer(&entry),
            tag: Tag::new(entry.array("tag")?),
            locator_key: LocatorKey::from_bytes(entry.array("LK")?),
        });
    }
    Ok(reach)
}

/// The agent's signature behind a given text, in the layout of E29, which must decode to itself.
fn sign_by_agent(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let key = AgentKey::from_signing_key(SigningKey::from_seed(input.array("secret")?));
    let appointment = Appointment::decode(&consortium, &input.bytes("appointment"))?;
    let episode = EpisodeKey::from_bytes(&input.array("E")?)?;
    let text = input.bytes("text");
    let signature = key.sign_grant(&consortium, &episode, &text);
    let mut encoder = Encoder::new();
    encoder
        .bytes(&text)
        .u8(1)
        .var(&appointment.encode(&consortium))
        .bytes(signature.as_bytes());
    let bytes = encoder.finish();
    assert_eq!(
        Grant::decode(&consortium, &bytes)?.encode(&consortium),
        bytes
    );
    Ok(json!({ "grant": hex::encode(bytes) }))
}

/// Decoding alone knows no consortium of the reader's: the grant's own is taken.
fn decode_grant(input: &Input<'_>) -> Result<Value, Refused> {
    let bytes = input.bytes("grant");
    let named = bytes.get(1..33).map(|named| named.try_into().unwrap());
    let consortium = ConsortiumId::new(named.unwrap_or([0; 32]));
    let grant = Grant::decode(&consortium, &bytes)?;
    assert_eq!(grant.encode(&consortium), bytes);
    let terms = &grant.terms;
    let doctors: Vec<_> = terms
        .grantees
        .iter()
        .map(|doctor| {
            json!({
                "access_key": doctor.access_key.to_string(),
                "hpke_key": hex::encode(doctor.hpke_key.as_bytes()),
            })
        })
        .collect();
    let nodes: Vec<_> = terms
        .nodes
        .iter()
        .map(|node| {
            json!({
                "consensus_key": node.key.to_string(),
                "hpke_key": hex::encode(node.hpke_key.as_bytes()),
            })
        })
        .collect();
    let commitments: Vec<Vec<_>> = grant
        .commitments
        .iter()
        .map(|class| class.to_bytes().iter().map(hex::encode).collect())
        .collect();
    let hexes = |parts: &[Vec<u8>]| parts.iter().map(hex::encode).collect::<Vec<_>>();
    Ok(json!({
        "consortium": hex::encode(consortium.as_bytes()),
        "E": hex::encode(terms.episode_key.as_bytes()),
        "revocation_key": terms.revocation_key.to_string(),
        "request": hex::encode(&terms.request),
        "doctors": doctors,
        "not_before": terms.not_before.number(),
        "expiry": terms.expiry.number(),
        "validator_epoch": terms.validator_epoch.number(),
        "nodes": nodes,
        "t": terms.threshold.count(),
        "D": commitments,
        "body": hex::encode(&grant.body),
        "node_parts": hexes(&grant.node_parts),
        "doctor_parts": hexes(&grant.doctor_parts),
        "signer": u8::from(matches!(grant.signed, Signed::Agent(..))),
    }))
}

fn verified(input: &Input<'_>) -> Result<(Grant, VerifiedGrant), Refused> {
    let consortium = input.consortium()?;
    let grant = Grant::decode(&consortium, &input.bytes("grant"))?;
    let verified = grant.clone().verify(&consortium)?;
    Ok((grant, verified))
}

fn verify_grant(input: &Input<'_>) -> Result<Value, Refused> {
    let (_, grant) = verified(input)?;
    Ok(json!({
        "gid": hex::encode(grant.gid().as_bytes()),
        "E": hex::encode(grant.terms().episode_key.as_bytes()),
    }))
}

fn open_node_part(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let key = HpkePrivateKey::from_bytes(input.array("hpke_secret")?)?;
    let (grant, verified) = verified(input)?;
    // Node numbers are a type of their own, which has no 0.
    let node = NodeNumber::new(input.integer("m")).ok_or(Refused::plainly(&["not-a-recipient"]))?;
    let part = verified.open_node_part(&consortium, node, &key)?;
    assert_eq!(part.node, node);
    // The body's key stays inside the crate, so it is looked up once more.
    let sealed = &grant.node_parts[usize::from(node.number()) - 1];
    let gid = verified.gid();
    let plain = key.open(Purpose::GrantToNode, &consortium, gid.as_bytes(), sealed)?;
    let shares = part.shares.iter();
    let shares: Vec<_> = shares
        .map(|share| hex::encode(share.expose_bytes()))
        .collect();
    Ok(json!({
        "gid": hex::encode(gid.as_bytes()),
        "body_key": hex::encode(&plain[..32]),
        "shares": shares,
        "body": body(&part.reach, &part.log_key),
    }))
}

fn body(reach: &Reach, log_key: &LogKey) -> Value {
    let trapdoors: Vec<_> = reach
        .trapdoors
        .iter()
        .map(|one| {
            json!({
                "institution": one.writer.institution.number(),
                "writer_epoch": one.writer.epoch.number(),
                "T": hex::encode(one.trapdoor.expose_bytes()),
            })
        })
        .collect();
    let entries: Vec<_> = reach
        .entries
        .iter()
        .map(|one| {
            json!({
                "institution": one.writer.institution.number(),
                "writer_epoch": one.writer.epoch.number(),
                "tag": hex::encode(one.tag.as_bytes()),
                "LK": hex::encode(one.locator_key.expose_bytes()),
            })
        })
        .collect();
    json!({
        "G": hex::encode(log_key.expose_bytes()),
        "trapdoors": trapdoors,
        "entries": entries,
    })
}

/// The crate finds a doctor by the access key; at a place that the grant has not, by one that it
/// does not name.
fn open_doctor_part(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let key = HpkePrivateKey::from_bytes(input.array("hpke_secret")?)?;
    let (_, verified) = verified(input)?;
    let grantee = verified
        .terms()
        .grantees
        .get(input.integer::<usize>("place"));
    let access_key = grantee.map_or(VerifyingKey::new([0xff; 32]), |grantee| grantee.access_key);
    let part = verified.open_doctor_part(&consortium, &access_key, &key)?;
    let label_keys = part.label_keys.iter();
    let label_keys: Vec<_> = label_keys
        .map(|key| hex::encode(key.expose_bytes()))
        .collect();
    Ok(json!({
        "gid": hex::encode(verified.gid().as_bytes()),
        "seed": hex::encode(part.seed.expose_bytes()),
        "G": hex::encode(part.log_key.expose_bytes()),
        "E": hex::encode(verified.terms().episode_key.as_bytes()),
        "Lc": label_keys,
    }))
}

fn open_body(input: &Input<'_>) -> Result<Value, Refused> {
    let plain = decrypt_body(
        &input.consortium()?,
        &GrantId::new(input.array("gid")?),
        &input.array("body_key")?,
        &input.bytes("body"),
    )?;
    let (reach, log_key) = Reach::decode(&plain)?;
    Ok(body(&reach, &log_key))
}
