//! `willis it`: what a hospital's IT does at its own server.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use scheme::DoctorId;
use serde_json::{Value, json};

use super::{Common, KeyArguments, PeopleError, Said, date, institution, make_key};

#[derive(Args)]
pub(crate) struct ItArguments {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    key: KeyArguments,
    /// The hospital's number.
    #[arg(long, global = true)]
    institution: Option<u32>,
    #[command(subcommand)]
    command: ItCommand,
}

#[derive(Subcommand)]
enum ItCommand {
    /// Makes an IT key, and prints what the hospital's configuration names it by.
    New,
    /// Lists the hospital's doctors.
    Doctors {
        /// Only those after this id.
        #[arg(long)]
        after: Option<u64>,
    },
    /// Blocks a doctor at this hospital.
    Block {
        /// The doctor's id.
        doctor: u64,
    },
    /// Lets a blocked doctor in again.
    Unblock {
        /// The doctor's id.
        doctor: u64,
    },
    /// Ends the writer epoch: indexes are made under a fresh key from then on.
    EndWriterEpoch,
    /// Lists what was done and by whom.
    Deeds,
    /// Lists containers that the cloud lost or altered, with its receipts.
    Damages,
}

pub(crate) fn run(arguments: ItArguments) -> ExitCode {
    let ItArguments {
        common,
        key,
        institution,
        command,
    } = arguments;
    super::run("it", &common, |_| act(&common, &key, institution, command))
}

async fn act(
    common: &Common,
    key: &KeyArguments,
    number: Option<u32>,
    command: ItCommand,
) -> Result<Said, PeopleError> {
    if matches!(command, ItCommand::New) {
        return make_key(common, "it", "the hospital's server");
    }
    let number = number.ok_or_else(|| {
        PeopleError::Value("the hospital's number is needed: give --institution".into())
    })?;
    let network = common.network()?;
    let key = key.read(common)?;
    let hospital = network.hospital(institution(number), key).await?;
    match command {
        ItCommand::New => Err(PeopleError::Value("it was done already".into())),
        ItCommand::Doctors { after } => {
            let page = hospital.doctors(after.map(DoctorId::new)).await?;
            let (mut text, mut list) = (String::new(), Vec::new());
            for one in &page.doctors {
                let blocked = match &one.blocked {
                    Some(block) => format!("  blocked by {}", block.by),
                    None => String::new(),
                };
                text.push_str(&format!("doctor {}{blocked}\n", one.id));
                list.push(json!({ "doctor": one.id, "blocked": one.blocked }));
            }
            if let Some(next) = page.next {
                text.push_str(&format!("more: --after {next}\n"));
            }
            Ok(Said::new(
                text,
                json!({ "doctors": list, "next": page.next }),
            ))
        }
        ItCommand::Block { doctor } => {
            hospital.block_doctor(DoctorId::new(doctor)).await?;
            Ok(Said::new(
                format!("Doctor {doctor} is blocked at this hospital."),
                json!({ "doctor": doctor }),
            ))
        }
        ItCommand::Unblock { doctor } => {
            hospital.unblock_doctor(DoctorId::new(doctor)).await?;
            Ok(Said::new(
                format!("Doctor {doctor} is let in again."),
                json!({ "doctor": doctor }),
            ))
        }
        ItCommand::EndWriterEpoch => {
            let writer = hospital.end_writer_epoch().await?;
            let text = format!("Writer epoch {} is ending.", writer.epoch);
            let object = serde_json::to_value(&writer).unwrap_or(Value::Null);
            Ok(Said::new(text, object))
        }
        ItCommand::Deeds => {
            let deeds = hospital.deeds(None).await?;
            let text: String = deeds
                .iter()
                .map(|one| format!("{}  {}  {}\n", date(one.time), one.actor, one.action))
                .collect();
            Ok(Said::new(text, json!({ "deeds": deeds })))
        }
        ItCommand::Damages => {
            let damages = hospital.damages().await?;
            let mut text = String::new();
            for one in &damages {
                let restored = match one.restored {
                    Some(time) => format!("restored {}", date(time)),
                    None => "not restored".to_owned(),
                };
                text.push_str(&format!(
                    "{}  {}  {restored}  {}\n",
                    date(one.found),
                    one.address,
                    one.detail
                ));
            }
            if damages.is_empty() {
                text.push_str("No container was found lost or altered.");
            }
            Ok(Said::new(text, json!({ "damages": damages })))
        }
    }
}
