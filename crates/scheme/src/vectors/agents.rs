//! E34, section 10.

use serde_json::{Value, json};

use super::containers::{open_with, own_container};
use super::{Consumer, Input, Refused};
use crate::agent::{Appointment, AppointmentId, AppointmentTerms};
use crate::document::{ClassCode, ClassLabelKey, Encapsulation};
use crate::grant::{EpisodeSigningKey, ForeignGrant};
use crate::params::Timestamp;
use crate::re_encryption::ConditionKey;
use crate::signature::VerifyingKey;

pub(super) const CONSUMER: Consumer = Consumer {
    file: "agents",
    calls: &[
        ("appointment_id", appointment_id),
        ("appoint", appoint),
        ("verify_appointment", verify_appointment),
        ("open_by_agent", open_by_agent),
    ],
    differences: &[],
};

#[test]
fn vectors() {
    CONSUMER.run();
}

fn appointment_id(input: &Input<'_>) -> Result<Value, Refused> {
    let key = VerifyingKey::new(input.array("withdrawal_key")?);
    let id = AppointmentId::of(&input.consortium()?, &key);
    Ok(json!({ "id": hex::encode(id.as_bytes()) }))
}

fn appoint(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let key = EpisodeSigningKey::from_secret(input.scalar("e")?);
    assert_eq!(key.public_key().as_bytes(), &input.array("E")?);
    let terms = AppointmentTerms {
        agent: VerifyingKey::new(input.array("agent")?),
        id: AppointmentId::new(input.array("id")?),
        end: Timestamp::new(input.integer("end")),
        scope: input.list("classes").map(class).collect(),
    };
    let appointment = Appointment::make(&consortium, &key, terms)?;
    Ok(json!({ "appointment": hex::encode(appointment.encode(&consortium)) }))
}

fn class(value: &Value) -> ClassCode {
    ClassCode::new(u8::try_from(value.as_u64().unwrap()).unwrap())
}

fn verify_appointment(input: &Input<'_>) -> Result<Value, Refused> {
    let consortium = input.consortium()?;
    let bytes = input.bytes("appointment");
    let appointment = Appointment::decode(&consortium, &bytes)?;
    assert_eq!(appointment.encode(&consortium), bytes);
    if !appointment.is_signed_by_owner(&consortium) {
        return Err(ForeignGrant.into());
    }
    let terms = appointment.terms();
    let classes: Vec<u8> = terms.scope.iter().map(|class| class.code()).collect();
    Ok(json!({
        "E": hex::encode(appointment.episode_key().as_bytes()),
        "agent": terms.agent.to_string(),
        "id": hex::encode(terms.id.as_bytes()),
        "end": terms.end.number(),
        "classes": classes,
    }))
}

fn open_by_agent(input: &Input<'_>) -> Result<Value, Refused> {
    let container = input.bytes("container");
    let (header, payloads) = own_container(&input.consortium()?, &container)?;
    let u = Encapsulation::from_bytes(&input.array("U")?)?;
    assert_eq!(&u, header.encapsulation());
    let label_key = ClassLabelKey::from_bytes(input.array("Lc")?);
    let condition = ConditionKey::from_bytes(&input.array("condition_a")?)?;
    let index = header.find(&label_key);
    open_with(&header, payloads, index, &condition.section_secret(&u))
}
