//! `willis patient`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use client::PickupCode;
use ledger::TransactionId;
use record::SectionClass;
use scheme::{AppointmentId, DoctorId, Keyword, Subject, Uid};
use serde_json::{Value, json};
use workstation::{AskedView, Grants, Offer, PatientDevice};
use zeroize::Zeroizing;

use super::terminal::Terminal;
use super::{
    Common, EnrolArguments, IdentityArguments, PeopleError, Said, bound, date, files, institution,
    names,
};

#[derive(Args)]
pub(crate) struct PatientArguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: PatientCommand,
}

#[derive(Subcommand)]
enum PatientCommand {
    /// Makes keys on this device and asks the registration centre to certify them.
    Enrol {
        #[command(flatten)]
        enrolment: EnrolArguments,
    },
    /// How far the enrolment is; keeps the certificate once it is there.
    Status {
        /// How long to wait, in seconds.
        #[arg(long, default_value_t = 0)]
        wait: u64,
    },
    /// Asks for a certificate with the same keys and a later end.
    Renew,
    /// Goes on under keys that nobody else has: after a relative registered you, or somebody saw your words.
    ///
    /// An officer of the registration centre has to check who you are. Then the keys before are revoked, what
    /// comes is under the new ones, and you have 24 new words. What was stored before stays readable to
    /// whoever has the words of before.
    TakeOver {
        #[command(flatten)]
        identity: IdentityArguments,
        /// How long to wait for the officer's decision, in seconds.
        #[arg(long, default_value_t = 20)]
        wait: u64,
    },
    /// Stays with the present keys, once the officer refused the next ones.
    StayWithKeys,
    /// Takes the keys that the centre made for a patient without a device, by the code on paper.
    Pickup {
        /// The number of the enrolment.
        #[arg(long)]
        subject: u64,
        /// A file with the pick-up code; without it the code is asked for.
        #[arg(long, value_name = "FILE")]
        code_file: Option<PathBuf>,
    },
    /// Prints the 24 words that bring everything back. Write them down; show them to nobody.
    Words,
    /// Brings the keys and all episodes back from the 24 words.
    Restore {
        /// A file with the 24 words; without it they are asked for.
        #[arg(long, value_name = "FILE")]
        words_file: Option<PathBuf>,
    },
    /// Prints the inbox, for a doctor who wants to ask.
    Inbox,
    /// Prints a short code for the inbox, to be said to a doctor: it stands for ten minutes.
    ShortCode,
    /// Whether doctors who have your document can find your inbox through the registration centre, and which
    /// ones looked.
    Findable {
        /// Lets them, or nobody any more; without it nothing changes.
        #[arg(value_enum)]
        set: Option<Switch>,
    },
    /// Begins an episode with a doctor of a hospital, under the UID that the hospital gave.
    Begin {
        /// The hospital's number.
        #[arg(long)]
        institution: u32,
        /// The UID.
        #[arg(long, value_parser = super::uid)]
        uid: Uid,
        /// The doctor's id.
        #[arg(long)]
        doctor: u64,
    },
    /// Lists the episodes with their records.
    Episodes,
    /// Fetches the doctors' receipts and checks each.
    Receipts,
    /// Lists the requests that wait for an answer.
    Requests {
        /// How long to wait for the first, in seconds.
        #[arg(long, default_value_t = 0)]
        wait: u64,
    },
    /// Answers a request with a grant for each episode.
    Grant {
        /// The request, or the first digits of its id.
        request: String,
        /// An episode, as listed; can be given several times.
        #[arg(long = "episode", required_unless_present = "cerebrovascular_imaging")]
        episodes: Vec<usize>,
        /// All imaging of the episodes that have a record of a stroke: this program finds them.
        #[arg(long, conflicts_with_all = ["episodes", "classes", "keywords"])]
        cerebrovascular_imaging: bool,
        /// A section class; can be given several times. Without it, all that were asked for.
        #[arg(long = "class", value_parser = super::class)]
        classes: Vec<SectionClass>,
        /// Only records with this keyword, as the doctor's program names it; can be given several
        /// times.
        #[arg(long = "keyword")]
        keywords: Vec<String>,
        /// For how many minutes.
        #[arg(long, default_value_t = 120)]
        minutes: u64,
        /// How many hospitals' shares open it; without it, the fewest that the consortium allows.
        #[arg(long)]
        threshold: Option<u8>,
    },
    /// Declines a request.
    Decline {
        /// The request, or the first digits of its id.
        request: String,
    },
    /// Lists the grants with what the chain says of them.
    Grants,
    /// Revokes a grant.
    Revoke {
        /// The grant, or the first digits of its gid.
        grant: String,
    },
    /// The access log of a grant: who read what, and when.
    Log {
        /// The grant, or the first digits of its gid.
        grant: String,
    },
    /// Reads a record of one's own, without asking anybody.
    Read {
        /// The record's id.
        #[arg(value_parser = super::transaction)]
        record: TransactionId,
        /// The folder for its files.
        #[arg(long, value_name = "FOLDER")]
        into: PathBuf,
    },
    /// Writes everything into a new folder: records, grants, access logs, each with what proves it.
    ///
    /// `willis proof export` checks it without a network. Whoever has the folder can read all of it.
    Export {
        /// The new folder.
        #[arg(long, value_name = "FOLDER")]
        into: PathBuf,
    },
    /// Appoints a family agent for an episode.
    Appoint {
        /// The episode, as listed.
        #[arg(long)]
        episode: usize,
        /// What `willis agent offer` printed.
        #[arg(long)]
        offer: String,
        /// A section class that the agent may open and grant; can be given several times.
        #[arg(long = "class", value_parser = super::class, required = true)]
        classes: Vec<SectionClass>,
        /// For how many days.
        #[arg(long, default_value_t = 365)]
        days: u64,
        /// Where to write what the agent accepts.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Withdraws an appointment.
    Withdraw {
        /// Its id in hexadecimal.
        appointment: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Switch {
    On,
    Off,
}

pub(crate) fn run(arguments: PatientArguments) -> ExitCode {
    let PatientArguments { common, command } = arguments;
    super::run("patient", &common, |terminal| {
        act(&common, command, terminal)
    })
}

async fn act(
    common: &Common,
    command: PatientCommand,
    mut terminal: Terminal,
) -> Result<Said, PeopleError> {
    let network = common.network()?;
    let path = common.keystore()?;
    let command = match command {
        PatientCommand::Enrol { enrolment } => {
            let new = !path.exists();
            let mut device = if new {
                PatientDevice::create(network, path, &common.new_passphrase()?)?
            } else {
                PatientDevice::open(network, path, &common.passphrase()?)?
            };
            device
                .enrol(enrolment.identity.identity(), enrolment.replaces)
                .await?;
            let found = device.enrolment(bound(enrolment.wait)).await?;
            let mut said = super::enrolment(&found, "patient");
            if new {
                said.text.push_str(
                    "\nNow write the 24 words down (`willis patient words`): they bring everything back if this device is lost.",
                );
            }
            return Ok(said);
        }
        PatientCommand::Restore { words_file } => {
            let passphrase = common.new_passphrase()?;
            let words = secret(words_file.as_ref(), "The 24 words: ")?;
            let device =
                PatientDevice::restore(network, path, &passphrase, &words, &mut terminal).await?;
            return Ok(episodes(&device));
        }
        PatientCommand::Pickup { subject, code_file } => {
            let passphrase = common.new_passphrase()?;
            let text = secret(code_file.as_ref(), "The pick-up code: ")?;
            let code = PickupCode::parse(text.trim())
                .map_err(|error| PeopleError::Value(error.to_string()))?;
            let subject = Subject::new(subject);
            let mut device =
                PatientDevice::pick_up(network, path, &passphrase, subject, code).await?;
            let found = device.enrolment(bound(20)).await?;
            return Ok(super::enrolment(&found, "patient"));
        }
        other => other,
    };
    let mut device = PatientDevice::open(network, path, &common.passphrase()?)?;
    if !matches!(command, PatientCommand::Words | PatientCommand::Inbox) {
        device.catch_up(&mut terminal).await;
    }
    match command {
        PatientCommand::Enrol { .. }
        | PatientCommand::Restore { .. }
        | PatientCommand::Pickup { .. } => Err(PeopleError::Value("it was done already".into())),
        PatientCommand::Status { wait } => {
            if device.taking_over().is_some() {
                return taken_over(&mut device, wait, &mut terminal).await;
            }
            let found = device.enrolment(bound(wait)).await?;
            Ok(super::enrolment(&found, "patient"))
        }
        PatientCommand::TakeOver { identity, wait } => {
            device.begin_takeover(identity.identity()).await?;
            taken_over(&mut device, wait, &mut terminal).await
        }
        PatientCommand::StayWithKeys => {
            device.give_takeover_up().await?;
            Ok(Said::new("The present keys stay.", json!({})))
        }
        PatientCommand::Renew => {
            device.renew().await?;
            let found = device.enrolment(bound(20)).await?;
            Ok(super::enrolment(&found, "patient"))
        }
        PatientCommand::Words => {
            let words = device.words();
            Ok(Said::new(
                words.as_str(),
                json!({ "words": words.as_str() }),
            ))
        }
        PatientCommand::Inbox => {
            let text = workstation::inbox_to_text(&device.inbox());
            Ok(Said::new(text.clone(), json!({ "inbox": text })))
        }
        PatientCommand::ShortCode => {
            let (code, until) = device.short_code().await?;
            let text = format!("{code}, until {}", date(until));
            Ok(Said::new(text, json!({ "code": code, "until": until })))
        }
        PatientCommand::Findable { set } => {
            if let Some(set) = set {
                device.set_findable(matches!(set, Switch::On)).await?;
            }
            let found = device.findable().await?;
            let mut text = match found.findable {
                true => "Doctors who have your document can find your inbox.\n",
                false => "No doctor finds you by your document.\n",
            }
            .to_owned();
            for one in &found.findings {
                text.push_str(&format!(
                    "{}  doctor {} of institution {} looked: \"{}\"\n",
                    date(one.time),
                    one.doctor,
                    one.institution,
                    one.purpose.escape_debug()
                ));
            }
            Ok(Said::new(
                text,
                json!({ "findable": found.findable, "findings": found.findings }),
            ))
        }
        PatientCommand::Begin {
            institution: number,
            uid,
            doctor,
        } => {
            let begun = device
                .begin_episode(institution(number), &uid, DoctorId::new(doctor))
                .await?;
            let text = format!(
                "Episode {} with doctor {doctor} at institution {number}: handed over, sealed to the doctor.",
                begun.number
            );
            Ok(Said::new(text, json!({ "episode": begun.number })))
        }
        PatientCommand::Episodes => Ok(episodes(&device)),
        PatientCommand::Receipts => {
            let (new, wrong) = device.receipts(&mut terminal).await?;
            let mut text = format!("{new} receipts checked and kept.\n");
            for why in &wrong {
                text.push_str(&format!("wrong: {why}\n"));
            }
            Ok(Said::new(text, json!({ "kept": new, "wrong": wrong })))
        }
        PatientCommand::Requests { wait } => {
            let (asked, wrong) = device.requests(bound(wait)).await?;
            let mut text: String = asked.iter().map(asked_text).collect();
            for why in &wrong {
                text.push_str(&format!("left out: {why}\n"));
            }
            if text.is_empty() {
                text.push_str("No request waits.");
            }
            let list: Vec<Value> = asked.iter().map(asked_json).collect();
            Ok(Said::new(
                text,
                json!({ "requests": list, "left_out": wrong }),
            ))
        }
        PatientCommand::Grant {
            request,
            mut episodes,
            cerebrovascular_imaging,
            mut classes,
            keywords,
            minutes,
            threshold,
        } => {
            if cerebrovascular_imaging {
                episodes = device.cerebrovascular_episodes(&mut terminal).await?;
                classes = vec![SectionClass::Imaging];
                if episodes.is_empty() {
                    return Err(PeopleError::Value(
                        "no episode has a record of a stroke: choose with --episode".to_owned(),
                    ));
                }
            }
            let keywords = keywords
                .iter()
                .map(|word| Keyword::new(word.as_bytes()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| PeopleError::Value(error.to_string()))?;
            let grants = Grants {
                episodes,
                classes,
                keywords,
                minutes,
                threshold,
            };
            let given = device.grant(&request, &grants, &mut terminal).await?;
            let (mut text, mut list) = (String::new(), Vec::new());
            for one in given {
                text.push_str(&format!(
                    "grant {} of episode {} until {}\n",
                    one.gid,
                    one.episode,
                    date(one.expiry)
                ));
                list.push(
                    json!({ "grant": one.gid, "episode": one.episode, "expiry": one.expiry }),
                );
            }
            Ok(Said::new(text, json!({ "grants": list })))
        }
        PatientCommand::Decline { request } => {
            device.decline(&request).await?;
            Ok(Said::new("Declined; the doctor is told.", json!({})))
        }
        PatientCommand::Grants => {
            let (mut text, mut list) = (String::new(), Vec::new());
            device.take_acts().await?;
            for one in device.grants().await? {
                let state = match one.revoked {
                    None => "not on the chain",
                    Some(true) => "revoked",
                    Some(false) => "recorded",
                };
                text.push_str(&format!(
                    "{}  episode {}  until {}  {state}{}\n",
                    one.gid,
                    one.episode,
                    date(one.expiry),
                    one.by_agent
                        .as_ref()
                        .map_or("", |_| "  by the family agent")
                ));
                list.push(json!({
                    "grant": one.gid, "episode": one.episode, "expiry": one.expiry,
                    "revoked": one.revoked, "by_agent": one.by_agent,
                }));
            }
            if list.is_empty() {
                text.push_str("No grant was given on this device.");
            }
            Ok(Said::new(text, json!({ "grants": list })))
        }
        PatientCommand::Revoke { grant } => {
            device.revoke(&grant, &mut terminal).await?;
            let text = "Revoked: final on the chain, and its doctors are told. No node opens anything more.";
            Ok(Said::new(text, json!({})))
        }
        PatientCommand::Log { grant } => {
            let log = device.log(&grant, &mut terminal).await?;
            let (mut text, mut list) = (String::new(), Vec::new());
            for one in &log {
                let record = one.record.map(|id| hex::encode(id.as_bytes()));
                let named = record.clone().unwrap_or_else(|| "an unknown record".into());
                text.push_str(&format!(
                    "{}  {named}  by access key {}\n",
                    date(one.time),
                    &one.access_key[..16]
                ));
                list.push(json!({
                    "grant": one.gid, "time": one.time, "record": record,
                    "access_key": one.access_key,
                }));
            }
            if list.is_empty() {
                text.push_str("Nothing was read under this grant.");
            }
            Ok(Said::new(text, json!({ "accesses": list })))
        }
        PatientCommand::Read { record, into } => {
            let opened = device.read_own(record, &into, &mut terminal).await?;
            let (mut text, list) = files(&opened.files);
            let earlier = match &opened.amends {
                Some(amends) => device.amended_by(record, amends).await?,
                None => None,
            };
            let earlier = earlier.map(|id| hex::encode(id.as_bytes()));
            if let Some(id) = &earlier {
                text.push_str(&format!("It amends record {id}.\n"));
            }
            Ok(Said::new(
                text,
                json!({
                    "files": list, "amends": super::amends(opened.amends),
                    "amends_record": earlier,
                }),
            ))
        }
        PatientCommand::Export { into } => {
            let exported = device.export(&into, &mut terminal).await?;
            let mut text = format!(
                "{} records and {} grants lie in {}. Whoever has the folder can read all of it.\n",
                exported.records,
                exported.grants,
                into.display()
            );
            for one in &exported.left_out {
                text.push_str(&format!("left out: {one}\n"));
            }
            Ok(Said::new(
                text,
                json!({
                    "folder": into, "records": exported.records, "grants": exported.grants,
                    "left_out": exported.left_out,
                }),
            ))
        }
        PatientCommand::Appoint {
            episode,
            offer,
            classes,
            days,
            out,
        } => {
            let offer = Offer::parse(&offer)?;
            let (id, sealed) = device
                .appoint(episode, &offer.keys, offer.inbox, &classes, days)
                .await?;
            std::fs::write(&out, &sealed).map_err(|error| PeopleError::File(out.clone(), error))?;
            let id = hex::encode(id.as_bytes());
            let text = format!(
                "Appointment {id}. Give {} to the agent; nobody else can open it. Requests that you do not answer go to the agent's inbox.",
                out.display()
            );
            Ok(Said::new(text, json!({ "appointment": id, "sealed": out })))
        }
        PatientCommand::Withdraw { appointment } => {
            let mut bytes = [0; 32];
            hex::decode_to_slice(&appointment, &mut bytes).map_err(|_| {
                PeopleError::Value("an appointment's id has 64 hexadecimal digits".into())
            })?;
            device.withdraw(&AppointmentId::new(bytes)).await?;
            let text = "Withdrawn: no node takes or serves a grant under it any more. What the agent was given cannot be taken back.";
            Ok(Said::new(text, json!({})))
        }
    }
}

/// How far a takeover is.
async fn taken_over(
    device: &mut PatientDevice,
    wait: u64,
    terminal: &mut Terminal,
) -> Result<Said, PeopleError> {
    let found = device.takeover(bound(wait), terminal).await?;
    let Some(found) = found else {
        return Err(PeopleError::Value("no keys are to follow".into()));
    };
    let mut said = super::enrolment(&found, "patient");
    let waits = device.taking_over().is_some();
    said.json["taken_over"] = (!waits).into();
    if waits {
        said.text.push_str(
            " Until then the keys before are in use. If the centre refuses: `willis patient stay-with-keys`, then `take-over` again.",
        );
    } else {
        said.text.push_str(
            "\nThe keys are yours alone. Write the 24 new words down (`willis patient words`), give doctors your new code (`willis patient inbox`), and begin a stay anew with each doctor who goes on writing for you: what is stored in the stays before can be opened with the words before.",
        );
    }
    Ok(said)
}

/// A secret, from its file or the terminal.
fn secret(file: Option<&PathBuf>, prompt: &str) -> Result<Zeroizing<String>, PeopleError> {
    match file {
        Some(path) => std::fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|error| PeopleError::File(path.clone(), error)),
        None => rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .map_err(PeopleError::Passphrase),
    }
}

fn episodes(device: &PatientDevice) -> Said {
    let (mut text, mut list) = (String::new(), Vec::new());
    for one in device.episodes() {
        let records: Vec<String> = one
            .records
            .iter()
            .map(|id| hex::encode(id.as_bytes()))
            .collect();
        text.push_str(&format!(
            "{:>4}  institution {}  doctor {}  UID {}{}\n",
            one.number,
            one.institution.number(),
            one.doctor.number(),
            one.uid,
            if one.under_former_keys {
                "  under the keys before: opens with their words too"
            } else {
                ""
            }
        ));
        for id in &records {
            text.push_str(&format!("        record {id}\n"));
        }
        let mut object = json!({
            "episode": one.number, "institution": one.institution.number(),
            "doctor": one.doctor.number(), "uid": one.uid, "records": records,
        });
        if one.under_former_keys {
            object["under_former_keys"] = true.into();
        }
        list.push(object);
    }
    if list.is_empty() {
        text.push_str("No episode yet: `willis patient begin` begins one.");
    }
    Said::new(text, json!({ "episodes": list }))
}

pub(super) fn asked_text(one: &AskedView) -> String {
    let doctors: Vec<String> = one
        .doctors
        .iter()
        .map(|(doctor, at)| format!("doctor {} of institution {}", doctor.number(), at.number()))
        .collect();
    format!(
        "request {}\n  {}\n  \"{}\"\n  classes: {}\n  for up to {} episodes; to be answered until {}\n",
        one.id,
        doctors.join(", "),
        one.purpose.escape_debug(),
        names(&one.classes).join(", "),
        one.episodes,
        date(one.not_after)
    )
}

pub(super) fn asked_json(one: &AskedView) -> Value {
    let doctors: Vec<Value> = one
        .doctors
        .iter()
        .map(|(doctor, at)| json!({ "doctor": doctor.number(), "institution": at.number() }))
        .collect();
    json!({
        "request": one.id, "doctors": doctors, "purpose": one.purpose,
        "classes": names(&one.classes), "episodes": one.episodes, "not_after": one.not_after,
    })
}
