//! (9), E15 to E17.

use serde_json::{Value, json};

use super::{Consumer, Input, Refused, Script};
use crate::document::{
    Author, ClassCode, ClassLabelKey, Encapsulation, Header, Label, Sealing, SectionIndex,
    SectionOpener, SectionPlan, SectionSecret, author_exponent, padme,
};
use crate::encoding::DecodeError;
use crate::group::{G1, G1_BYTES};
use crate::hash::sha256;
use crate::keys::{EncryptionKey, EncryptionPublicKey, SealingSecret};
use crate::params::{ConsortiumId, InstitutionId};
use crate::signature::VerifyingKey;

pub(super) const CONSUMER: Consumer = Consumer {
    file: "containers",
    calls: &[
        ("padme", pad),
        ("MDEnc", seal),
        ("decode_header", decode_header),
        ("verify_header", verify_header),
        ("label", label),
        ("section_keys", section_keys),
        ("open_by_owner", open_by_owner),
        ("open_by_author", open_by_author),
        ("open_section", open_section),
    ],
    differences: &[],
};

/// The longest container that a vector of MDEnc gives whole.
const WHOLE_BYTES_MAX: usize = 4096;

#[test]
fn vectors() {
    CONSUMER.run();
}

fn pad(input: &Input<'_>) -> Result<Value, Refused> {
    let length: u64 = input.text("length").parse().unwrap();
    Ok(json!({ "padded": padme(length).to_string() }))
}

fn seal(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let secret = SealingSecret::from_bytes(input.array("s_D")?);
    let author = Author {
        secret: &secret,
        key: VerifyingKey::new(input.array("author")?),
        institution: InstitutionId::new(input.integer("institution")),
    };
    let owner = EncryptionPublicKey::from_bytes(&input.array("A")?)?;
    let nonce = input.array("nonce")?;
    let sections: Vec<(ClassCode, Vec<u8>)> = input
        .objects("sections")
        .map(|section| {
            let class = ClassCode::new(section.integer("class"));
            (class, section.bytes("plaintext"))
        })
        .collect();
    let plans: Vec<_> = sections
        .iter()
        .map(|(class, plain)| SectionPlan {
            class: *class,
            length: plain.len() as u64,
        })
        .collect();
    let mut rng = Script::new([nonce.to_vec()]);
    let sealing = Sealing::new(
        &consortium,
        &author,
        &owner,
        &input.pid()?,
        &plans,
        &mut rng,
    )?;
    rng.assert_used();
    let header = sealing.header().encode();
    let mut container = header.clone();
    for (place, plan) in sealing.order().iter().enumerate() {
        let mut plains = sections.iter();
        let (_, plain) = plains.find(|(class, _)| *class == plan.class).unwrap();
        let mut sealer = sealing.section(place).unwrap();
        sealer.update(plain, &mut container)?;
        sealer.finish(&mut container)?;
    }
    let r = author_exponent(&consortium, &secret, &nonce, &author.key, &owner).unwrap();
    let mut output = json!({
        "r": hex::encode(*r.to_bytes()),
        "U": hex::encode(sealing.header().encapsulation().as_bytes()),
        "header": hex::encode(&header),
        "hdr": sealing.header().digest().to_string(),
        "digest": sha256(&container).to_string(),
    });
    if container.len() <= WHOLE_BYTES_MAX {
        output["container"] = Value::String(hex::encode(&container));
    }
    Ok(output)
}

/// A header and nothing behind it.
pub(super) fn whole_header(consortium: &ConsortiumId, bytes: &[u8]) -> Result<Header, Refused> {
    let (header, length) = Header::decode(consortium, bytes)?;
    if length < bytes.len() {
        let what = "the header";
        let left = bytes.len() - length;
        return Err(DecodeError::Trailing { what, left }.into());
    }
    assert_eq!(header.encode(), bytes);
    Ok(header)
}

/// A container of this consortium, taken apart: its header and all payloads.
pub(super) fn own_container<'a>(
    consortium: &ConsortiumId,
    container: &'a [u8],
) -> Result<(Header, &'a [u8]), Refused> {
    let (header, length) = Header::decode(consortium, container)?;
    let whole = usize::try_from(header.container_length()).unwrap();
    if container.len() > whole {
        let what = "the container";
        let left = container.len() - whole;
        return Err(DecodeError::Trailing { what, left }.into());
    }
    Ok((header, &container[length..]))
}

/// Opens one section with K: label, kc, chunks, length and padding.
pub(super) fn open_with(
    header: &Header,
    payloads: &[u8],
    index: Option<SectionIndex>,
    secret: &SectionSecret,
) -> Result<Value, Refused> {
    let index = index.ok_or(Refused::plainly(&["no-hit"]))?;
    let key = secret.content_key(header, index)?;
    let begin = header.payload_offset(index) - header.encode().len() as u64;
    let end = begin + header.payload_length(index);
    let within = |at: u64| usize::try_from(at).unwrap().min(payloads.len());
    let mut opener = SectionOpener::new(header, index, &key);
    let mut plain = Vec::new();
    opener.update(&payloads[within(begin)..within(end)], &mut plain)?;
    let length = opener.finish()?;
    assert_eq!(plain.len() as u64, length);
    Ok(json!({ "plaintext": hex::encode(plain) }))
}

fn decode_header(input: &Input<'_>) -> Result<Value, Refused> {
    // These vectors are of the layout alone and name no reader's consortium: the header's own, which
    // stands behind magic, version and suite.
    let bytes = input.bytes("header");
    let named = bytes
        .get(6..38)
        .map_or([0; 32], |id| id.try_into().unwrap());
    let header = whole_header(&ConsortiumId::new(named), &bytes)?;
    let sections: Vec<_> = header
        .sections
        .iter()
        .map(|section| {
            json!({
                "label": hex::encode(section.label.as_bytes()),
                "P": section.padded,
                "chunks": section.chunks,
                "kc": hex::encode(section.commitment),
            })
        })
        .collect();
    Ok(json!({
        "consortium": hex::encode(header.consortium().as_bytes()),
        "author": header.author().to_string(),
        "institution": header.institution().number(),
        "nonce": hex::encode(header.nonce),
        "U": hex::encode(header.encapsulation().as_bytes()),
        "sections": sections,
        "V": hex::encode(header.v.as_bytes()),
        "hdr": header.digest().to_string(),
    }))
}

fn verify_header(input: &Input<'_>) -> Result<Value, Refused> {
    let header = whole_header(&input.consortium()?, &input.bytes("header"))?.verify()?;
    Ok(json!({ "hdr": header.header().digest().to_string() }))
}

fn label(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let class = ClassCode::new(input.integer("class"));
    let key = ClassLabelKey::derive(&consortium, &input.pid()?, class);
    let u = Encapsulation::from_bytes(&input.array("U")?)?;
    Ok(json!({
        "Lc": hex::encode(key.expose_bytes()),
        "label": hex::encode(key.label(&consortium, &u).as_bytes()),
    }))
}

/// The keys come from HC alone, so the commitments and V behind it may be any.
fn section_keys(input: &Input<'_>) -> Result<Value, Refused> {
    const COUNT_AT: usize = 4 + 1 + 1 + 32 + 32 + 4 + 32 + 96;
    let hc = input.bytes("HC");
    let commitments = vec![0; 32 * usize::from(hc[COUNT_AT])];
    let v: [u8; G1_BYTES] = G1::generator().to_bytes();
    let bytes = [hc.as_slice(), &commitments, &v].concat();
    let header = whole_header(&input.consortium()?, &bytes)?;
    assert_eq!(header.committed(), hc);
    let index = SectionIndex(input.integer("place"));
    assert_eq!(
        header.find_label(&Label(input.array("label")?)),
        Some(index)
    );
    let derived = header.derive(&sha256(&hc), index, &input.gt("K")?);
    Ok(json!({
        "key": hex::encode(*derived.key.key),
        "kc": hex::encode(*derived.commitment),
    }))
}

fn open_by_owner(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let container = input.bytes("container");
    let (pid, class) = (input.pid()?, ClassCode::new(input.integer("class")));
    let key = EncryptionKey(input.scalar("a")?);
    let (header, payloads) = own_container(&consortium, &container)?;
    let index = header.find(&ClassLabelKey::derive(&consortium, &pid, class));
    let u = header.encapsulation();
    let secret = SectionSecret::of_owner(&consortium, &key, &pid, class, u);
    open_with(&header, payloads, index, &secret)
}

fn open_by_author(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let container = input.bytes("container");
    let (pid, class) = (input.pid()?, ClassCode::new(input.integer("class")));
    let owner = EncryptionPublicKey::from_bytes(&input.array("A")?)?;
    let secret = SealingSecret::from_bytes(input.array("s_D")?);
    let (header, payloads) = own_container(&consortium, &container)?;
    let secret = SectionSecret::of_author(&header, &secret, &owner, &pid, class)?;
    let index = header.find(&ClassLabelKey::derive(&consortium, &pid, class));
    open_with(&header, payloads, index, &secret)
}

fn open_section(input: &Input<'_>) -> Result<Value, Refused> {
    let container = input.bytes("container");
    let label = Label(input.array("label")?);
    let secret = SectionSecret(input.gt("K")?);
    let (header, payloads) = own_container(&input.consortium()?, &container)?;
    open_with(&header, payloads, header.find_label(&label), &secret)
}
