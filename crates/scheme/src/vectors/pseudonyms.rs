//! (8).

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Consumer, Input, Refused};
use crate::params::{DoctorId, InstitutionId};
use crate::pseudonym::{DoctorSubkey, EpisodeNumber, SymmetricKey, Uid};

pub(super) const CONSUMER: Consumer = Consumer {
    file: "pseudonyms",
    calls: &[("subkey", subkey), ("NameGen", name)],
    differences: &[],
};

#[test]
fn vectors() {
    CONSUMER.run();
}

fn subkey(input: &Input<'_>) -> Result<Value, Refused> {
    let key = SymmetricKey::new(Zeroizing::new(input.array("SK_aes")?));
    let subkey = key.doctor_subkey(
        &input.consortium()?,
        InstitutionId::new(input.integer("institution")),
        DoctorId::new(input.integer("doctor")),
    );
    Ok(json!({ "SK_D": hex::encode(subkey.expose_bytes()) }))
}

fn name(input: &Input<'_>) -> Result<Value, Refused> {
    let subkey = DoctorSubkey::from_bytes(input.array("SK_D")?);
    let uid = Uid::new(&input.bytes("UID"))?;
    let episode = EpisodeNumber::new(input.integer("n"));
    let pid = subkey.pseudonym(&input.consortium()?, &uid, episode);
    Ok(json!({ "PID": hex::encode(pid.expose_bytes()) }))
}
