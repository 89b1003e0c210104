//! `willis agent`: a family member who answers in a patient's place.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use record::SectionClass;
use serde_json::{Value, json};
use workstation::{AgentDevice, AppointmentView};

use super::patient::{asked_json, asked_text};
use super::terminal::Terminal;
use super::{Common, PeopleError, Said, bound, date, names};

#[derive(Args)]
pub(crate) struct AgentArguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: AgentCommand,
}

#[derive(Subcommand)]
enum AgentCommand {
    /// Makes keys for one episode, and prints what the patient appoints them by.
    Offer,
    /// Accepts an appointment.
    Accept {
        /// The file that the patient gave.
        file: PathBuf,
    },
    /// Lists the appointments with the grants given under them.
    Appointments,
    /// Prints the inbox of an appointment, for a doctor who wants to ask the agent.
    Inbox {
        /// The appointment, or the first digits of its id.
        appointment: String,
    },
    /// Lists the requests that wait.
    Requests {
        /// How long to wait for the first, in seconds.
        #[arg(long, default_value_t = 0)]
        wait: u64,
    },
    /// Answers a request with a grant.
    Grant {
        /// The request, or the first digits of its id.
        request: String,
        /// A section class within the appointment; can be given several times. Without it, all of
        /// them that were asked for.
        #[arg(long = "class", value_parser = super::class)]
        classes: Vec<SectionClass>,
        /// For how many minutes.
        #[arg(long, default_value_t = 120)]
        minutes: u64,
    },
    /// Declines a request.
    Decline {
        /// The request, or the first digits of its id.
        request: String,
    },
    /// Revokes a grant that this agent gave.
    Revoke {
        /// The grant, or the first digits of its gid.
        grant: String,
    },
}

pub(crate) fn run(arguments: AgentArguments) -> ExitCode {
    let AgentArguments { common, command } = arguments;
    super::run("agent", &common, |terminal| act(&common, command, terminal))
}

async fn act(
    common: &Common,
    command: AgentCommand,
    mut terminal: Terminal,
) -> Result<Said, PeopleError> {
    let network = common.network()?;
    let path = common.keystore()?;
    let mut device = if matches!(command, AgentCommand::Offer) && !path.exists() {
        AgentDevice::create(network, path, &common.new_passphrase()?)?
    } else {
        AgentDevice::open(network, path, &common.passphrase()?)?
    };
    device.catch_up(&mut terminal).await;
    match command {
        AgentCommand::Offer => {
            let text = device.offer().await?.text();
            Ok(Said::new(text.clone(), json!({ "offer": text })))
        }
        AgentCommand::Accept { file } => {
            let sealed =
                std::fs::read(&file).map_err(|error| PeopleError::File(file.clone(), error))?;
            let view = device.accept(&sealed)?;
            Ok(Said::new(view_text(&view), view_json(&view)))
        }
        AgentCommand::Appointments => {
            let views = device.appointments();
            let text: String = views.iter().map(view_text).collect();
            let list: Vec<Value> = views.iter().map(view_json).collect();
            Ok(Said::new(text, json!({ "appointments": list })))
        }
        AgentCommand::Inbox { appointment } => {
            let inbox = device.inbox(&appointment)?;
            let text = workstation::inbox_to_text(&inbox);
            Ok(Said::new(text.clone(), json!({ "inbox": text })))
        }
        AgentCommand::Requests { wait } => {
            let asked = device.requests(bound(wait)).await?;
            let mut text = String::new();
            let mut list = Vec::new();
            for (appointment, one) in &asked {
                let id = hex::encode(appointment.as_bytes());
                text.push_str(&asked_text(one));
                text.push_str(&format!("  under appointment {id}\n"));
                let mut object = asked_json(one);
                object["appointment"] = id.into();
                list.push(object);
            }
            if list.is_empty() {
                text.push_str("No request waits.");
            }
            Ok(Said::new(text, json!({ "requests": list })))
        }
        AgentCommand::Grant {
            request,
            classes,
            minutes,
        } => {
            let gid = device
                .grant(&request, &classes, minutes, &mut terminal)
                .await?;
            Ok(Said::new(format!("grant {gid}"), json!({ "grant": gid })))
        }
        AgentCommand::Decline { request } => {
            device.decline(&request).await?;
            Ok(Said::new("Declined; the doctor is told.", json!({})))
        }
        AgentCommand::Revoke { grant } => {
            device.revoke(&grant, &mut terminal).await?;
            let text = "Revoked: final on the chain, and its doctors are told.";
            Ok(Said::new(text, json!({})))
        }
    }
}

fn view_text(view: &AppointmentView) -> String {
    let mut text = format!(
        "appointment {} until {}\n  classes: {}\n",
        view.id,
        date(view.end),
        names(&view.scope).join(", ")
    );
    for gid in &view.grants {
        text.push_str(&format!("  grant {gid}\n"));
    }
    text
}

fn view_json(view: &AppointmentView) -> Value {
    json!({
        "appointment": view.id, "end": view.end, "classes": names(&view.scope),
        "grants": view.grants,
    })
}
