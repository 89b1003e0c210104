//! `willis officer`: checks identity material at the registration centre and decides.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use client::{
    Applicant, ApplicantKind, BeginEnrolment, EnrolmentDetail, IdempotencyKey, OfficersList, Reason,
};
use scheme::Subject;
use serde_json::{Value, json};

use super::{Common, IdentityArguments, KeyArguments, PeopleError, Said, date, make_key};
use crate::keys;

#[derive(Args)]
pub(crate) struct OfficerArguments {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    key: KeyArguments,
    #[command(subcommand)]
    command: OfficerCommand,
}

#[derive(Subcommand)]
enum OfficerCommand {
    /// Makes an officer's key, and prints what the centre's configuration names it by.
    New,
    /// Lists what waits for a decision.
    Waiting {
        /// Renewals instead of new enrolments.
        #[arg(long)]
        renewals: bool,
        /// Only those after this number.
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// Shows an enrolment with its identity material and decisions.
    Show {
        /// Its number.
        subject: u64,
    },
    /// Approves an enrolment or renewal, once the identity material was compared with the document.
    Approve {
        /// Its number.
        subject: u64,
    },
    /// Refuses an enrolment or renewal.
    Refuse {
        /// Its number.
        subject: u64,
        /// Why, for its owner to read.
        #[arg(long)]
        reason: String,
    },
    /// Revokes a certificate: lost or stolen keys, or a doctor who has left.
    Revoke {
        /// Its number.
        subject: u64,
        /// Why, for its owner to read.
        #[arg(long)]
        reason: String,
    },
    /// Begins the enrolment of a patient without a device; `make-keys` follows.
    Begin {
        #[command(flatten)]
        identity: IdentityArguments,
    },
    /// Makes the keys of an enrolment that this officer began, and prints the code by which they are
    /// picked up once another officer has approved. Again, if the code was lost before that.
    MakeKeys {
        /// Its number.
        subject: u64,
        /// Write the code to this file, readable by its owner alone, instead of printing it.
        #[arg(long, value_name = "FILE")]
        code_file: Option<PathBuf>,
    },
    /// Lists transactions that are on their way to the chain.
    Outbox,
}

pub(crate) fn run(arguments: OfficerArguments) -> ExitCode {
    let OfficerArguments {
        common,
        key,
        command,
    } = arguments;
    super::run("officer", &common, |_| act(&common, &key, command))
}

async fn act(
    common: &Common,
    key: &KeyArguments,
    command: OfficerCommand,
) -> Result<Said, PeopleError> {
    if matches!(command, OfficerCommand::New) {
        return make_key(common, "officers", "the registration centre");
    }
    let network = common.network()?;
    let key = key.read(common)?;
    let centre = network.officer(key.clone())?;
    let once = IdempotencyKey::random();
    match command {
        OfficerCommand::New => Err(PeopleError::Value("it was done already".into())),
        OfficerCommand::Waiting { renewals, after } => {
            let list = if renewals {
                OfficersList::Renewals
            } else {
                OfficersList::Waiting
            };
            let page = centre.enrolments(list, after, 100).await?;
            let mut text = String::new();
            for one in &page.enrolments {
                let kind = match one.kind {
                    ApplicantKind::Patient => "patient",
                    ApplicantKind::Doctor => "doctor",
                };
                text.push_str(&format!(
                    "{:>8}  {kind}  {}\n",
                    one.subject,
                    date(one.begun)
                ));
            }
            if let Some(next) = page.next {
                text.push_str(&format!("more: --after {next}\n"));
            }
            if page.enrolments.is_empty() {
                text.push_str("Nothing waits.");
            }
            let object = serde_json::to_value(&page).unwrap_or(Value::Null);
            Ok(Said::new(text, object))
        }
        OfficerCommand::Show { subject } => {
            let detail = centre.enrolment(Subject::new(subject)).await?;
            let object = serde_json::to_value(&detail).unwrap_or(Value::Null);
            Ok(Said::new(detail_text(&detail), object))
        }
        OfficerCommand::Approve { subject } => {
            centre.approve(Subject::new(subject), &once).await?;
            Ok(Said::new("Approved.", json!({ "subject": subject })))
        }
        OfficerCommand::Refuse { subject, reason } => {
            let reason = Reason { reason };
            centre.refuse(Subject::new(subject), &reason, &once).await?;
            Ok(Said::new("Refused.", json!({ "subject": subject })))
        }
        OfficerCommand::Revoke { subject, reason } => {
            let reason = Reason { reason };
            centre.revoke(Subject::new(subject), &reason, &once).await?;
            let text = "Revoked: once it is final no node gives a share for these keys any more.";
            Ok(Said::new(text, json!({ "subject": subject })))
        }
        OfficerCommand::Begin { identity } => {
            let begin = BeginEnrolment {
                applicant: Applicant::Patient(identity.identity()),
                replaces: None,
            };
            let own = network.centre(key)?;
            let begun = own.begin(&begin, &once).await?;
            let text = format!(
                "Enrolment {0} is begun: `willis officer make-keys {0}` makes the keys.",
                begun.subject
            );
            Ok(Said::new(text, json!({ "subject": begun.subject })))
        }
        OfficerCommand::MakeKeys { subject, code_file } => {
            let made = centre.make_keys(Subject::new(subject), &once).await?;
            if let Some(path) = code_file {
                keys::write(&path, made.code.as_bytes())?;
                let text = format!("The keys are made; the code is in {}.", path.display());
                return Ok(Said::new(
                    text,
                    json!({ "subject": subject, "code_file": path }),
                ));
            }
            let text = format!(
                "The keys are made. The code, shown once and for the patient alone: {}",
                made.code
            );
            Ok(Said::new(
                text,
                json!({ "subject": subject, "code": made.code }),
            ))
        }
        OfficerCommand::Outbox => {
            let outbox = centre.outbox().await?;
            let mut text = String::new();
            for one in &outbox.outgoing {
                let what = if one.revokes {
                    "revocation"
                } else {
                    "registration"
                };
                text.push_str(&format!(
                    "{:>8}  {what}  {} attempts  {}\n",
                    one.subject, one.attempts, one.last_error
                ));
            }
            if outbox.outgoing.is_empty() {
                text.push_str("Nothing is on its way.");
            }
            let object = serde_json::to_value(&outbox).unwrap_or(Value::Null);
            Ok(Said::new(text, object))
        }
    }
}

fn detail_text(detail: &EnrolmentDetail) -> String {
    let mut text = format!("enrolment {}\n", detail.summary.subject);
    match &detail.applicant {
        Some(applicant) => {
            let identity = applicant.identity();
            text.push_str(&format!(
                "  name      {}\n  born      {}\n  document  {} {}\n",
                identity.name.escape_debug(),
                identity.birth_date.escape_debug(),
                identity.document_kind.escape_debug(),
                identity.document_number.escape_debug()
            ));
            if let Applicant::Doctor(doctor) = applicant {
                text.push_str(&format!(
                    "  licence   {} at institution {}\n",
                    doctor.licence_number.escape_debug(),
                    doctor.institution
                ));
            }
        }
        None => text.push_str("  its identity material was removed\n"),
    }
    if let Some(replaces) = detail.summary.replaces {
        text.push_str(&format!("  replaces  enrolment {replaces}\n"));
    }
    let state = serde_json::to_value(&detail.state).unwrap_or(Value::Null);
    text.push_str(&format!(
        "  state     {}\n",
        state["name"].as_str().unwrap_or_default()
    ));
    for decision in &detail.decisions {
        let decided = serde_json::to_value(decision.decided).unwrap_or(Value::Null);
        let by = match &decision.by {
            client::Decider::Officer { name, .. } => format!("officer {name}"),
            client::Decider::Holder => "the holder".to_owned(),
            client::Decider::Configuration => "the configuration".to_owned(),
        };
        text.push_str(&format!(
            "  {}  {} by {by}\n",
            date(decision.time),
            decided.as_str().unwrap_or_default()
        ));
    }
    text
}
