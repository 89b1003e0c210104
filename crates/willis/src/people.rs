//! The commands for people: a doctor, a patient, a family agent, an officer of the registration centre,
//! a hospital's IT. Each runs one step against the running services and says what came of it, as text
//! or as one JSON object.

mod agent;
mod doctor;
mod it;
mod officer;
mod patient;
mod terminal;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use client::{EnrolmentState, Identity};
use ledger::TransactionId;
use record::{Amends, SectionClass};
use scheme::{InstitutionId, SigningKey, Uid};
use serde_json::{Value, json};
use thiserror::Error;
use tracing::Instrument as _;
use workstation::shelf::PutBack;
use workstation::{Enrolment, Keystore, KeystoreError, KeystoreKind, Network, WorkError};
use zeroize::Zeroizing;

use crate::keys::{self, KeyError};
use crate::traces::Traces;

pub(crate) use agent::{AgentArguments, run as agent};
pub(crate) use doctor::{DoctorArguments, run as doctor};
pub(crate) use it::{ItArguments, run as it};
pub(crate) use officer::{OfficerArguments, run as officer};
pub(crate) use patient::{PatientArguments, run as patient};
use terminal::Terminal;

/// What every command of a person takes.
#[derive(Args)]
pub(crate) struct Common {
    /// The consortium's founding folder.
    #[arg(long, global = true, env = "WILLIS_FOUNDING", value_name = "FOLDER")]
    founding: Option<PathBuf>,
    /// The person's keystore.
    #[arg(long, global = true, env = "WILLIS_KEYSTORE", value_name = "FILE")]
    keystore: Option<PathBuf>,
    #[command(flatten)]
    passphrase: PassphraseArguments,
    /// Print one JSON object on standard output and nothing else.
    #[arg(long, global = true)]
    json: bool,
}

/// Who enrols, as in the document that the officer of the registration centre will see.
#[derive(Args)]
pub(crate) struct IdentityArguments {
    /// Full name.
    #[arg(long)]
    name: String,
    /// YYYY-MM-DD.
    #[arg(long)]
    birth_date: String,
    /// Such as "passport".
    #[arg(long)]
    document_kind: String,
    /// The document's number.
    #[arg(long)]
    document_number: String,
}

/// An enrolment of one's own.
#[derive(Args)]
pub(crate) struct EnrolArguments {
    #[command(flatten)]
    identity: IdentityArguments,
    /// The number of the enrolment whose certificate this one is to replace: after theft, or at another
    /// hospital.
    #[arg(long, value_name = "SUBJECT")]
    replaces: Option<u64>,
    /// How long to wait for the officer's decision, in seconds.
    #[arg(long, default_value_t = 20)]
    wait: u64,
}

impl IdentityArguments {
    fn identity(&self) -> Identity {
        Identity {
            name: self.name.clone(),
            birth_date: self.birth_date.clone(),
            document_kind: self.document_kind.clone(),
            document_number: self.document_number.clone(),
        }
    }
}

/// Why a command did not do it.
#[derive(Debug, Error)]
pub(crate) enum PeopleError {
    #[error("{}", client::sentence(.0))]
    Work(#[from] WorkError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("{0} is needed: give --{1}, or set {2}")]
    Missing(&'static str, &'static str, &'static str),
    #[error(
        "the passphrase cannot be read: {0}; give --passphrase-file where there is no terminal"
    )]
    Passphrase(#[source] io::Error),
    #[error("the two passphrases differ: start again")]
    Differ,
    #[error("{0} cannot be read or written: {1}; check the path and its permissions")]
    File(PathBuf, #[source] io::Error),
    #[error("{0}")]
    Value(String),
    #[error("the runtime cannot be started: {0}")]
    Runtime(#[source] io::Error),
}

impl From<client::ClientError> for PeopleError {
    fn from(error: client::ClientError) -> Self {
        Self::Work(error.into())
    }
}

impl From<KeystoreError> for PeopleError {
    fn from(error: KeystoreError) -> Self {
        Self::Work(error.into())
    }
}

/// What a command says when it has done it.
pub(crate) struct Said {
    /// For people.
    text: String,
    /// For programs: an object.
    json: Value,
}

impl Said {
    fn new(text: impl Into<String>, json: Value) -> Self {
        Self {
            text: text.into(),
            json,
        }
    }
}

/// Runs a person's command and tells how it went.
fn run<F>(who: &str, common: &Common, work: impl FnOnce(Terminal) -> F) -> ExitCode
where
    F: Future<Output = Result<Said, PeopleError>>,
{
    let terminal = Terminal::new(common.json);
    let (traces, span) = match Traces::of_command(&format!("willis {who}")) {
        Ok(traces) => traces,
        Err(error) => {
            crate::complain(&format!("willis {who}"), &error);
            return ExitCode::FAILURE;
        }
    };
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(PeopleError::Runtime)
        .and_then(|runtime| {
            runtime.block_on(async {
                tokio::select! {
                    done = work(terminal).instrument(span) => done,
                    () = crate::asked_to_stop() => Err(PeopleError::Value(
                        "it was interrupted: what was begun is kept, and the same command goes on".into(),
                    )),
                }
            })
        });
    if let Some(traces) = traces {
        traces.end();
    }
    let (text, mut object, code) = match done {
        Ok(said) => (Some(said.text), said.json, ExitCode::SUCCESS),
        Err(error) => {
            crate::complain(&format!("willis {who}"), &error);
            let object = json!({ "error": error.to_string() });
            (None, object, ExitCode::FAILURE)
        }
    };
    if common.json {
        object["ok"] = Value::Bool(text.is_some());
        terminal::print(&object.to_string());
    } else if let Some(text) = text {
        terminal::print(text.trim_end());
    }
    code
}

impl Common {
    fn network(&self) -> Result<Network, PeopleError> {
        let folder = self.founding.as_deref().ok_or(PeopleError::Missing(
            "the consortium's founding folder",
            "founding",
            "WILLIS_FOUNDING",
        ))?;
        Ok(Network::open(folder)?)
    }

    fn keystore(&self) -> Result<&Path, PeopleError> {
        self.keystore.as_deref().ok_or(PeopleError::Missing(
            "a keystore",
            "keystore",
            "WILLIS_KEYSTORE",
        ))
    }

    fn passphrase(&self) -> Result<Zeroizing<String>, PeopleError> {
        self.passphrase.passphrase()
    }

    fn new_passphrase(&self) -> Result<Zeroizing<String>, PeopleError> {
        self.passphrase.new_passphrase()
    }
}

/// Where a passphrase comes from.
#[derive(Args)]
pub(crate) struct PassphraseArguments {
    /// A file whose first line is the passphrase; without it the passphrase is asked for.
    #[arg(
        long,
        global = true,
        env = "WILLIS_PASSPHRASE_FILE",
        value_name = "FILE"
    )]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseArguments {
    /// The passphrase, from its file or the terminal.
    pub(crate) fn passphrase(&self) -> Result<Zeroizing<String>, PeopleError> {
        if let Some(file) = &self.passphrase_file {
            let text = std::fs::read_to_string(file)
                .map_err(|error| PeopleError::File(file.clone(), error))?;
            let text = Zeroizing::new(text);
            return Ok(Zeroizing::new(
                text.lines().next().unwrap_or_default().to_owned(),
            ));
        }
        let typed = rpassword::prompt_password("Passphrase: ");
        typed.map(Zeroizing::new).map_err(PeopleError::Passphrase)
    }

    /// A new passphrase, typed twice at a terminal.
    pub(crate) fn new_passphrase(&self) -> Result<Zeroizing<String>, PeopleError> {
        let first = self.passphrase()?;
        if self.passphrase_file.is_none() {
            let again = rpassword::prompt_password("The same passphrase again: ");
            let again = again.map(Zeroizing::new).map_err(PeopleError::Passphrase)?;
            if *again != *first {
                return Err(PeopleError::Differ);
            }
        }
        Ok(first)
    }
}

/// The key of an officer or of IT: a keystore, or a key file as servers have them.
#[derive(Args)]
pub(crate) struct KeyArguments {
    /// A file with the key in 64 hexadecimal digits, instead of a keystore.
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl KeyArguments {
    fn read(&self, common: &Common) -> Result<SigningKey, PeopleError> {
        if let Some(path) = &self.key {
            return Ok(SigningKey::from_seed(*keys::read(path)?));
        }
        let path = common.keystore()?;
        let (_, content) = Keystore::open(path, KeystoreKind::Officer, &common.passphrase()?)?;
        let seed = <[u8; 32]>::try_from(content.as_slice())
            .map_err(|_| PeopleError::Value(format!("{} holds no key", path.display())))?;
        Ok(SigningKey::from_seed(seed))
    }
}

/// Makes an officer's or IT's keystore; gives the public key for the service's configuration.
fn make_key(common: &Common, table: &str, service: &str) -> Result<Said, PeopleError> {
    let path = common.keystore()?;
    let passphrase = common.new_passphrase()?;
    let key = SigningKey::random(&mut client::SystemRandom);
    Keystore::create(path, KeystoreKind::Officer, &passphrase, key.expose_seed())?;
    let public = hex::encode(key.verifying_key().as_bytes());
    let text = format!(
        "The key is in {}. For the configuration of {service}:\n\n[[{table}]]\nname = \"...\"\nkey = \"{public}\"",
        path.display()
    );
    Ok(Said::new(text, json!({ "key": public })))
}

fn enrolment(found: &Enrolment, command: &str) -> Said {
    let (name, text) = match &found.state {
        EnrolmentState::KeysMissing => (
            "keys-missing",
            format!("The centre has no keys yet: run `willis {command} enrol` again."),
        ),
        EnrolmentState::Waiting => (
            "waiting",
            format!(
                "An officer of the registration centre has to check the identity material: see `willis {command} status`."
            ),
        ),
        EnrolmentState::Refused { reason } => ("refused", format!("The centre refused: {reason}")),
        EnrolmentState::Approved => (
            "approved",
            "Approved; the registration is on its way to the chain.".to_owned(),
        ),
        EnrolmentState::Registered { not_after, .. } => (
            "registered",
            format!(
                "Certified until {}, and the keys stand on the chain.",
                date(*not_after)
            ),
        ),
        EnrolmentState::Revoking => (
            "revoking",
            "The revocation is on its way to the chain.".to_owned(),
        ),
        EnrolmentState::Revoked => (
            "revoked",
            format!(
                "Revoked on the chain: make new keys, and enrol them with --replaces {}.",
                found.subject.number()
            ),
        ),
    };
    let subject = found.subject.number();
    let text = match found.doctor {
        Some(id) => format!("Enrolment {subject}, doctor {id}. {text}"),
        None => format!("Enrolment {subject}. {text}"),
    };
    let mut object = json!({ "subject": subject, "state": name });
    if let Some(id) = found.doctor {
        object["doctor"] = id.into();
    }
    if let EnrolmentState::Registered { not_after, .. } = &found.state {
        object["not_after"] = (*not_after).into();
    }
    if let EnrolmentState::Refused { reason } = &found.state {
        object["reason"] = reason.clone().into();
    }
    Said::new(text, object)
}

/// Which record an opened one amends: digest of its container and author's key, in hexadecimal.
fn amends(amends: Option<Amends>) -> Value {
    match amends {
        None => Value::Null,
        Some(amends) => json!({
            "digest": hex::encode(amends.digest.as_bytes()),
            "author": hex::encode(amends.author.as_bytes()),
        }),
    }
}

fn files(put_back: &[PutBack]) -> (String, Value) {
    let mut text = String::new();
    let mut list = Vec::new();
    for file in put_back {
        let whole = if file.whole { "" } else { "  (in part)" };
        text.push_str(&format!(
            "  {}  {}{whole}\n",
            file.path.display(),
            file.media_type
        ));
        list.push(json!({
            "path": file.path,
            "media_type": file.media_type,
            "whole": file.whole,
        }));
    }
    (text, Value::Array(list))
}

fn bound(seconds: u64) -> Duration {
    Duration::from_secs(seconds.min(24 * 60 * 60))
}

/// A time in words: the UTC date and time of day.
pub(crate) fn date(milliseconds: u64) -> String {
    let seconds = i64::try_from(milliseconds / 1_000).unwrap_or(i64::MAX);
    match time::OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(at) => format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        ),
        Err(_) => "the end of time".to_owned(),
    }
}

fn institution(number: u32) -> InstitutionId {
    InstitutionId::new(number)
}

fn uid(text: &str) -> Result<Uid, String> {
    workstation::uid_from_text(text).map_err(|error| error.to_string())
}

fn transaction(text: &str) -> Result<TransactionId, String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes)
        .map_err(|_| "a record's id has 64 hexadecimal digits".to_owned())?;
    Ok(TransactionId::new(bytes))
}

fn class(text: &str) -> Result<SectionClass, String> {
    SectionClass::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = SectionClass::ALL.iter().map(|class| class.name()).collect();
        format!("the section classes are {}", names.join(", "))
    })
}

fn names(classes: &[SectionClass]) -> Vec<&'static str> {
    classes.iter().map(|class| class.name()).collect()
}
