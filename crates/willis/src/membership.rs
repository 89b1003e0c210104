//! `willis membership`: who belongs to the consortium, and how that changes (decision 0017). A newcomer
//! applies with keys of its own; members put motions and approve them on the chain.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use client::{ConsortiumClient, Founding, FoundingError, now};
use ledger::{
    Application, Approval, AuditDocument, Contact, ContactAddress, ContactState,
    ContactTransaction, DocumentTitle, Institution, InstitutionName, InstitutionState,
    MembershipChange, Motion, MotionState, OpenMotions, PossessedSuccession, RulesState,
    Succession, SuccessionTransaction, Tier, TlsAuthority, Transaction, TransactionId,
};
use scheme::{
    DecodeError, HeldKey, InstitutionId, SignerError, SigningKey, Timestamp, VerifyingKey, sha256,
};
use serde::Serialize;
use thiserror::Error;

use crate::genesis::{CeremonyError, FounderPlan, TierName, TokenArguments, make_founder_in};
use crate::keys::{self, KeyError};
use crate::roles::{RoleError, block_on};

/// An institution's keys in its folder, and those that follow.
const KEY: &str = "institution.key";
const NEXT_KEY: &str = "institution.next.key";
const NODE_KEY: &str = "node.key";
pub(crate) const NEXT_NODE_KEY: &str = "node.next.key";
/// How long a transaction may take to become final.
const FINAL: Duration = Duration::from_secs(60);
/// A motion ends after this unless it is said otherwise, in days.
const DAYS: u64 = 14;
const DAY_MS: u64 = 86_400_000;
/// The longest file that is read: an application has at most 9.5 KB.
const FILE_BYTES_MAX: u64 = 64 << 10;

#[derive(Subcommand)]
pub(crate) enum MembershipCommand {
    /// Lists who belongs to the consortium, and the motions that can be approved.
    Show {
        /// The consortium's founding folder.
        #[arg(long, env = "WILLIS_FOUNDING", value_name = "FOLDER")]
        founding: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Lists every motion that was ever put: what was changed, who approved it, since when it holds. The
    /// list is complete, by what the state of the chain counts.
    Motions {
        /// The consortium's founding folder.
        #[arg(long, env = "WILLIS_FOUNDING", value_name = "FOLDER")]
        founding: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Makes a newcomer's keys in a new folder, and its application for a member.
    Apply(ApplyArguments),
    /// Puts a change to the members. Putting it is approving it.
    #[command(subcommand)]
    Put(PutCommand),
    /// Approves a motion, after showing it.
    Approve {
        /// The motion, as `show` names it: its first 8 digits or more.
        motion: String,
        #[command(flatten)]
        member: MemberArguments,
        /// Approve without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Gives an institution its next keys: signed by its current key, or for a motion if that is lost.
    Succeed {
        #[command(flatten)]
        member: MemberArguments,
        /// Which key is new.
        #[arg(long, value_enum, default_value_t = WhichKeys::Node)]
        new: WhichKeys,
        /// The current key is lost: write the succession to this file, for a member's
        /// `membership put succeed`.
        #[arg(long, value_name = "FILE")]
        lost: Option<PathBuf>,
        /// The institution's number; needed with --lost only.
        #[arg(long)]
        institution: Option<u32>,
    },
    /// Says on the chain where an institution is reached now.
    Move {
        #[command(flatten)]
        member: MemberArguments,
        #[command(flatten)]
        addresses: AddressArguments,
    },
}

#[derive(Args)]
pub(crate) struct MemberArguments {
    /// The consortium's founding folder.
    #[arg(long, env = "WILLIS_FOUNDING", value_name = "FOLDER")]
    founding: PathBuf,
    /// The institution's folder, with its keys.
    #[arg(long)]
    folder: PathBuf,
}

#[derive(Args)]
pub(crate) struct AddressArguments {
    /// Base address of the server; an observer has none.
    #[arg(long, value_name = "URL")]
    hospital: Option<String>,
    /// Base address of the node.
    #[arg(long, value_name = "URL")]
    node: String,
    /// Address and port where the node listens for the other nodes.
    #[arg(long, value_name = "IP:PORT")]
    consensus: SocketAddr,
}

#[derive(Args)]
pub(crate) struct ApplyArguments {
    /// The consortium's founding folder.
    #[arg(long, env = "WILLIS_FOUNDING", value_name = "FOLDER")]
    founding: PathBuf,
    /// The number that the consortium gave it, never given before.
    #[arg(long)]
    institution: u32,
    /// Its name.
    #[arg(long)]
    name: String,
    /// Its tier.
    #[arg(long, value_enum)]
    tier: TierName,
    #[command(flatten)]
    addresses: AddressArguments,
    #[command(flatten)]
    token: TokenArguments,
    /// The folder to make.
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// The application's file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
pub(crate) struct MotionArguments {
    #[command(flatten)]
    member: MemberArguments,
    /// A document of the audit, of which the chain keeps the digest; can be given several times.
    #[arg(long = "document", value_name = "FILE")]
    documents: Vec<PathBuf>,
    /// In how many days the motion ends, at most 30.
    #[arg(long, default_value_t = DAYS)]
    days: u64,
}

#[derive(Subcommand)]
pub(crate) enum PutCommand {
    /// Admits an institution by its application.
    Admit {
        /// The application.
        application: PathBuf,
        #[command(flatten)]
        motion: MotionArguments,
    },
    /// Removes an institution.
    Remove {
        /// Its number.
        institution: u32,
        #[command(flatten)]
        motion: MotionArguments,
    },
    /// Gives an institution another tier.
    Tier {
        /// Its number.
        institution: u32,
        /// Its next tier.
        #[arg(value_enum)]
        tier: TierName,
        #[command(flatten)]
        motion: MotionArguments,
    },
    /// Lets the chain go by the next rules, once every node runs a release that knows them.
    Rules {
        /// Their number.
        rules: u16,
        #[command(flatten)]
        motion: MotionArguments,
    },
    /// Gives an institution that lost its key the next ones.
    Succeed {
        /// The succession.
        succession: PathBuf,
        #[command(flatten)]
        motion: MotionArguments,
    },
}

/// Which of an institution's keys is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WhichKeys {
    /// Its node's.
    Node,
    /// Its own.
    Institution,
    /// Both.
    Both,
}

#[derive(Debug, Error)]
enum MembershipError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("{}", client::sentence(.0))]
    Founding(#[from] FoundingError),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error(transparent)]
    Ceremony(#[from] CeremonyError),
    #[error("{}", client::sentence(.0))]
    Client(#[from] client::ClientError),
    #[error(transparent)]
    NotSigned(#[from] SignerError),
    #[error("{0} cannot be read or written: {1}; check the path and its permissions")]
    File(PathBuf, #[source] io::Error),
    #[error("{0} is longer than 64 KiB, so it is neither an application nor a succession")]
    TooLong(PathBuf),
    #[error("{0} is neither an application nor a succession: {1}")]
    Malformed(PathBuf, String),
    #[error("the {0} cannot be used: {1}")]
    Value(&'static str, DecodeError),
    #[error("no institution of the consortium has the key in {0}")]
    NoInstitution(PathBuf),
    #[error("--institution is needed with --lost: a lost key does not say whose it was")]
    WhoseKeys,
    #[error("institution {0} does not belong to the consortium")]
    NotAMember(u32),
    #[error("{0} motions that can be approved begin with {1}: give more of its digits")]
    WhichMotion(usize, String),
    #[error("the motion was declined: nothing was signed")]
    Declined,
}

/// A member with its key.
struct Member {
    founding: Founding,
    chain: ConsortiumClient,
    id: InstitutionId,
    key: HeldKey,
}

pub(crate) fn run(command: &MembershipCommand) -> ExitCode {
    crate::tell("willis membership", act(command))
}

fn act(command: &MembershipCommand) -> Result<String, MembershipError> {
    match command {
        MembershipCommand::Show { founding, json } => show(founding, *json),
        MembershipCommand::Motions { founding, json } => motions(founding, *json),
        MembershipCommand::Apply(arguments) => apply(arguments),
        MembershipCommand::Put(command) => put(command),
        MembershipCommand::Approve {
            motion,
            member,
            yes,
        } => approve(motion, member, *yes),
        MembershipCommand::Succeed {
            member,
            new,
            lost,
            institution,
        } => succeed(member, *new, lost.as_deref(), *institution),
        MembershipCommand::Move { member, addresses } => moved(member, addresses),
    }
}

#[derive(Serialize)]
struct Shown {
    height: u64,
    validator_epoch: u64,
    /// The last block of the validator epoch.
    epoch_ends_with: u64,
    /// By which the chain goes in this epoch.
    rules: u16,
    institutions: Vec<ShownInstitution>,
    motions: Vec<ShownMotion>,
}

#[derive(Serialize)]
struct ShownInstitution {
    institution: u32,
    name: String,
    tier: &'static str,
    node_key: String,
    /// Whether its node under this key votes in the present validator epoch.
    votes: bool,
    since_height: u64,
    consensus: Option<String>,
}

#[derive(Serialize)]
struct ShownMotion {
    motion: String,
    change: String,
    by: u32,
    /// In ms since 1970.
    until: u64,
    documents: Vec<ShownDocument>,
    approved_by: Vec<u32>,
    needed: usize,
}

#[derive(Serialize)]
struct ShownDocument {
    title: String,
    sha256: String,
}

fn show(founding: &Path, json: bool) -> Result<String, MembershipError> {
    let founding = Founding::open(founding)?;
    let chain = ConsortiumClient::of(&founding, None)?;
    let settings = founding.genesis.settings;
    let shown = block_on(async {
        let height = chain.height().await?;
        let epoch = settings.epoch_of(height.next());
        let nodes = chain.nodes();
        let rules = chain.state::<RulesState>(&()).await?;
        let present = chain.institutions().await?;
        let mut institutions = Vec::new();
        for held in &present {
            let id = held.institution.id;
            let contact = chain.state::<ContactState>(&id).await?;
            institutions.push(ShownInstitution {
                institution: id.number(),
                name: held.institution.name.to_string(),
                tier: tier_name(held.institution.tier),
                node_key: hex::encode(held.institution.node.as_bytes()),
                votes: nodes.by_key(&held.institution.node).is_some(),
                since_height: held.joined.height.number(),
                consensus: contact.map(|said| said.contact.consensus.as_str().to_owned()),
            });
        }
        let open = open(&chain).await?;
        let motions = open
            .iter()
            .map(|(id, held)| shown_motion(*id, held, &present));
        Ok(Shown {
            height: height.number(),
            validator_epoch: epoch.number(),
            epoch_ends_with: settings.last_of(epoch).number(),
            rules: rules.map_or(1, |rules| rules.in_epoch(epoch)),
            institutions,
            motions: motions.collect(),
        })
    })?;
    Ok(if json {
        serde_json::json!({
            "ok": true,
            "height": shown.height,
            "validator_epoch": shown.validator_epoch,
            "epoch_ends_with": shown.epoch_ends_with,
            "rules": shown.rules,
            "institutions": shown.institutions,
            "motions": shown.motions,
        })
        .to_string()
    } else {
        table(&shown)
    })
}

/// A motion of any time.
#[derive(Serialize)]
struct PastMotion {
    motion: String,
    change: String,
    by: u32,
    /// In ms since 1970.
    put: u64,
    until: u64,
    documents: Vec<ShownDocument>,
    approvals: Vec<ShownApproval>,
    /// The block since which it is decided; none if it never was.
    decided: Option<u64>,
}

#[derive(Serialize)]
struct ShownApproval {
    institution: u32,
    /// In ms since 1970.
    time: u64,
    height: u64,
}

fn motions(founding: &Path, json: bool) -> Result<String, MembershipError> {
    let founding = Founding::open(founding)?;
    let chain = ConsortiumClient::of(&founding, None)?;
    let found = block_on(async { Ok(chain.motions().await?) })?;
    let past: Vec<_> = found
        .iter()
        .map(|(id, held)| PastMotion {
            motion: hex::encode(id.as_bytes()),
            change: words(&held.motion.change),
            by: held.motion.by.number(),
            put: held.recorded.time.number(),
            until: held.motion.until.number(),
            documents: documents(&held.motion),
            approvals: held
                .approvals
                .iter()
                .map(|(by, moment)| ShownApproval {
                    institution: by.number(),
                    time: moment.time.number(),
                    height: moment.height.number(),
                })
                .collect(),
            decided: held.effective.map(|since| since.height.number()),
        })
        .collect();
    if json {
        return Ok(serde_json::json!({ "ok": true, "motions": past }).to_string());
    }
    let mut text = format!("{} motions were put since the founding.\n", past.len());
    for motion in &past {
        text += &format!(
            "\n{}  {}\n    put by institution {}; {}\n",
            motion.motion,
            motion.change,
            motion.by,
            motion.decided.map_or_else(
                || "not decided".to_owned(),
                |height| format!("decided since block {height}")
            ),
        );
        for one in &motion.approvals {
            text += &format!(
                "    approved by institution {} in block {}\n",
                one.institution, one.height
            );
        }
        text += &document_lines(&motion.documents);
    }
    Ok(text)
}

fn documents(motion: &Motion) -> Vec<ShownDocument> {
    let documents = motion.documents.iter();
    let shown = documents.map(|document| ShownDocument {
        title: document.title.as_str().to_owned(),
        sha256: document.digest.to_string(),
    });
    shown.collect()
}

fn document_lines(documents: &[ShownDocument]) -> String {
    let lines = documents.iter();
    let lines = lines.map(|one| format!("    {}: SHA-256 {}\n", one.title, one.sha256));
    lines.collect()
}

/// The motions that can be approved now.
async fn open(chain: &ConsortiumClient) -> Result<Vec<(TransactionId, MotionState)>, RoleError> {
    let listed = chain.state::<OpenMotions>(&()).await?.unwrap_or_default();
    let mut found = Vec::new();
    for open in listed.open {
        if open.until <= now() {
            continue;
        }
        if let Some(held) = chain.state::<MotionState>(&open.motion).await? {
            found.push((open.motion, held));
        }
    }
    Ok(found)
}

fn shown_motion(
    id: TransactionId,
    held: &MotionState,
    present: &[InstitutionState],
) -> ShownMotion {
    let members: Vec<_> = present
        .iter()
        .map(|held| &held.institution)
        .filter(|institution| institution.tier != Tier::Observer)
        .map(|institution| institution.id)
        .collect();
    // Of who has left, or observes since, the chain counts none.
    let approvals = held.approvals.iter().map(|(by, _)| *by);
    let counted = approvals.filter(|by| members.contains(by));
    ShownMotion {
        motion: hex::encode(id.as_bytes()),
        change: words(&held.motion.change),
        by: held.motion.by.number(),
        until: held.motion.until.number(),
        documents: documents(&held.motion),
        approved_by: counted.map(InstitutionId::number).collect(),
        needed: ledger::Quorum::of(members.len()).certificate(),
    }
}

fn table(shown: &Shown) -> String {
    let mut text = format!(
        "Block {}, validator epoch {}, which ends with block {}; rules {}.\n\n",
        shown.height, shown.validator_epoch, shown.epoch_ends_with, shown.rules
    );
    for one in &shown.institutions {
        let consensus = one.consensus.as_deref().unwrap_or("as founded");
        text += &format!(
            "{:>5}  {:<10} {:<32} node {}  {:<16} {consensus}\n",
            one.institution,
            one.tier,
            one.name,
            &one.node_key[..8],
            match (one.votes, one.tier) {
                (true, _) => "votes",
                (false, "observer") => "observes",
                (false, _) => "has no seat yet",
            }
        );
    }
    if shown.motions.is_empty() {
        return text + "\nNo motion can be approved.";
    }
    for motion in &shown.motions {
        text += &format!("\n{}", motion_text(motion));
    }
    text
}

fn motion_text(motion: &ShownMotion) -> String {
    let approved: Vec<String> = motion.approved_by.iter().map(u32::to_string).collect();
    let days = motion.until.saturating_sub(now().number()) / DAY_MS;
    let text = format!(
        "{}  {}\n    put by institution {}, ends in {days} days; approved by {} of {} needed: {}\n",
        &motion.motion[..16],
        motion.change,
        motion.by,
        approved.len(),
        motion.needed,
        approved.join(", "),
    );
    text + &document_lines(&motion.documents)
}

/// A change in words.
fn words(change: &MembershipChange) -> String {
    match change {
        MembershipChange::Admit(application) => {
            let one = &application.institution;
            format!(
                "admit institution {}, {}, as {}, node key {}, at {}",
                one.id,
                one.name,
                tier_name(one.tier),
                one.node,
                application.contact.consensus.as_str()
            )
        }
        MembershipChange::Remove(institution) => format!("remove institution {institution}"),
        MembershipChange::Rules(rules) => format!(
            "go by rules {rules} from the next validator epoch on; a node of a release that does not know them stops there"
        ),
        MembershipChange::Retier(institution, tier) => {
            format!("make institution {institution} {}", tier_name(*tier))
        }
        MembershipChange::Succeed(next) => format!(
            "give institution {} the keys of generation {}: its own {}, its node's {}",
            next.succession.institution,
            next.succession.generation,
            next.succession.key,
            next.succession.node
        ),
        _ => "a change that this version does not know: use the version that put it".to_owned(),
    }
}

fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Tertiary => "tertiary",
        Tier::Secondary => "secondary",
        Tier::Community => "community",
        Tier::Observer => "observer",
    }
}

fn apply(arguments: &ApplyArguments) -> Result<String, MembershipError> {
    let founding = Founding::open(&arguments.founding)?;
    let institution = InstitutionId::new(arguments.institution);
    let addresses = &arguments.addresses;
    let hospital = addresses.hospital.as_deref();
    let plan = FounderPlan {
        institution,
        name: &arguments.name,
        tier: arguments.tier,
        hospital: hospital.unwrap_or(&addresses.node),
        node: &addresses.node,
        consensus: addresses.consensus,
        token: arguments.token.pkcs11.as_deref(),
    };
    let statement = make_founder_in(&arguments.folder, &plan)?;
    let key = keys::held(&arguments.folder.join(KEY))?;
    let node_key = SigningKey::from_seed(*keys::read(&arguments.folder.join(NODE_KEY))?);
    let name = InstitutionName::new(&arguments.name);
    let application = Application::sign(
        &founding.consortium(),
        Institution {
            id: institution,
            tier: arguments.tier.into(),
            name: name.map_err(|error| MembershipError::Value("name", error))?,
            key: key.verifying_key(),
            node: node_key.verifying_key(),
        },
        contact(addresses, &statement.authority)?,
        &key,
        &node_key,
    )?;
    write(&arguments.out, &application.to_bytes())?;
    Ok(format!(
        "Keys are in {}. Give {} to a member, which puts it to the others with `willis membership put admit`; tell them by another way that the node's key begins with {}.",
        arguments.folder.display(),
        arguments.out.display(),
        &hex::encode(node_key.verifying_key().as_bytes())[..16]
    ))
}

fn put(command: &PutCommand) -> Result<String, MembershipError> {
    let (motion, change) = match command {
        PutCommand::Admit {
            application,
            motion,
        } => {
            let bytes = read(application)?;
            let read = Application::from_bytes(&bytes).map_err(malformed(application))?;
            (motion, MembershipChange::Admit(Box::new(read)))
        }
        PutCommand::Remove {
            institution,
            motion,
        } => (
            motion,
            MembershipChange::Remove(InstitutionId::new(*institution)),
        ),
        PutCommand::Tier {
            institution,
            tier,
            motion,
        } => {
            let institution = InstitutionId::new(*institution);
            (
                motion,
                MembershipChange::Retier(institution, (*tier).into()),
            )
        }
        PutCommand::Rules { rules, motion } => (motion, MembershipChange::Rules(*rules)),
        PutCommand::Succeed { succession, motion } => {
            let bytes = read(succession)?;
            let next = PossessedSuccession::from_bytes(&bytes).map_err(malformed(succession))?;
            (motion, MembershipChange::Succeed(next))
        }
    };
    let member = member(&motion.member)?;
    let documents = motion.documents.iter().map(|file| document(file));
    let documents = documents.collect::<Result<Vec<_>, _>>()?;
    let until = now().number() + motion.days.saturating_mul(DAY_MS);
    let text = words(&change);
    let signed = Motion::sign(
        &member.founding.consortium(),
        member.id,
        Timestamp::new(until),
        documents,
        change,
        &member.key,
    )?;
    let transaction = Transaction::Motion(Box::new(signed));
    let confirmed = block_on(async { Ok(member.chain.submit(&transaction, FINAL).await?) })?;
    Ok(format!(
        "Motion {} stands in block {}: {text}. The other members approve it with `willis membership approve {}`.",
        hex::encode(confirmed.id.as_bytes()),
        confirmed.outcome.height,
        &hex::encode(confirmed.id.as_bytes())[..16]
    ))
}

fn approve(
    motion: &str,
    arguments: &MemberArguments,
    yes: bool,
) -> Result<String, MembershipError> {
    let member = member(arguments)?;
    let chain = &member.chain;
    let motion = motion.to_lowercase();
    let (found, present) = block_on(async {
        let mut found = open(chain).await?;
        found.retain(|(id, _)| hex::encode(id.as_bytes()).starts_with(&motion));
        Ok((found, chain.institutions().await?))
    })?;
    let [(id, held)] = found.as_slice() else {
        return Err(MembershipError::WhichMotion(found.len(), motion));
    };
    crate::say(&motion_text(&shown_motion(*id, held, &present)));
    if !yes && !crate::genesis::agreed()? {
        return Err(MembershipError::Declined);
    }
    let here = member.founding.consortium();
    let approval = Approval::sign(&here, *id, member.id, &member.key)?;
    let transaction = Transaction::Approval(approval);
    let (confirmed, after) = block_on(async {
        let confirmed = chain.submit(&transaction, FINAL).await?;
        Ok((confirmed, chain.state::<MotionState>(id).await?))
    })?;
    let effective = after.and_then(|held| held.effective);
    Ok(match effective {
        Some(since) => format!(
            "Approved in block {}. It is decided since block {}; for votes, leadership and shares it takes effect with the next validator epoch.",
            confirmed.outcome.height, since.height
        ),
        None => format!(
            "Approved in block {}. More members must approve it.",
            confirmed.outcome.height
        ),
    })
}

fn succeed(
    arguments: &MemberArguments,
    new: WhichKeys,
    lost: Option<&Path>,
    institution: Option<u32>,
) -> Result<String, MembershipError> {
    let folder = &arguments.folder;
    let founding = Founding::open(&arguments.founding)?;
    let here = founding.consortium();
    let chain = ConsortiumClient::of(&founding, None)?;
    let current = match lost {
        None => Some(keys::held(&folder.join(KEY))?),
        Some(_) => None,
    };
    let (id, held) = match (&current, institution) {
        (Some(key), _) => whose(&chain, &key.verifying_key(), &folder.join(KEY))?,
        (None, Some(number)) => {
            let id = InstitutionId::new(number);
            let held = block_on(async { Ok(chain.state::<InstitutionState>(&id).await?) })?;
            (id, held.ok_or(MembershipError::NotAMember(number))?)
        }
        (None, None) => return Err(MembershipError::WhoseKeys),
    };
    // Keys that were made and not handed in yet are taken again.
    let next = |changes: bool, name: &str, kept: &str| -> Result<PathBuf, MembershipError> {
        let path = folder.join(if changes { name } else { kept });
        if changes && !path.exists() {
            keys::make(&path)?;
        }
        Ok(path)
    };
    // Who lost its key has a new one, whatever it says.
    let own_changes = new != WhichKeys::Node || lost.is_some();
    let node_changes = new != WhichKeys::Institution;
    let key = keys::held(&next(own_changes, NEXT_KEY, KEY)?)?;
    let node = keys::read(&next(node_changes, NEXT_NODE_KEY, NODE_KEY)?)?;
    let node = SigningKey::from_seed(*node);
    let succession = Succession {
        institution: id,
        generation: held.generation.saturating_add(1),
        key: key.verifying_key(),
        node: node.verifying_key(),
    };
    let possessed = succession.possess(&here, &key, &node)?;
    if let Some(file) = lost {
        write(file, &possessed.to_bytes())?;
        return Ok(format!(
            "Give {} to a member, which puts it to the others with `willis membership put succeed`. Once it is decided, {NEXT_KEY} and {NEXT_NODE_KEY} take the place of {KEY} and {NODE_KEY}.",
            file.display()
        ));
    }
    let current = current.expect("it was read: no file for a motion was asked for");
    let signed = SuccessionTransaction::sign(&here, possessed, &current)?;
    let transaction = Transaction::Succession(signed);
    let confirmed = block_on(async { Ok(chain.submit(&transaction, FINAL).await?) })?;
    let replace = |name: &str, kept: &str| -> Result<(), MembershipError> {
        let (from, to) = (folder.join(name), folder.join(kept));
        let old = folder.join(format!("{kept}.{}", held.generation));
        let moved = |from: &Path, to: &Path| {
            fs::rename(from, to).map_err(|error| MembershipError::File(from.to_owned(), error))
        };
        if to.exists() {
            moved(&to, &old)?;
        }
        moved(&from, &to)
    };
    // Only now: until it is final the institution goes on under its current keys.
    if own_changes {
        replace(NEXT_KEY, KEY)?;
    }
    let node_text = if node_changes {
        replace(NEXT_NODE_KEY, NODE_KEY)?;
        " Start the node again: under its next key it shows on the chain that it runs, and votes from the next validator epoch on, or from the one after it. Until then nobody votes for it, so change the keys of one node after the other. It takes over the chain that its folder has; if the disk is lost, start it with an empty folder."
    } else {
        ""
    };
    Ok(format!(
        "Final in block {}: institution {id} has the keys of generation {}.{node_text}",
        confirmed.outcome.height, succession.generation
    ))
}

fn moved(
    arguments: &MemberArguments,
    addresses: &AddressArguments,
) -> Result<String, MembershipError> {
    let member = member(arguments)?;
    let authority = arguments.folder.join("authority.pem");
    let authority = fs::read_to_string(&authority)
        .map_err(|error| MembershipError::File(authority.clone(), error))?;
    let contact = contact(addresses, &authority)?;
    let (chain, id) = (&member.chain, member.id);
    let said = block_on(async { Ok(chain.state::<ContactState>(&id).await?) })?;
    let serial = said.map_or(0, |said| said.serial + 1);
    let here = member.founding.consortium();
    let signed = ContactTransaction::sign(&here, id, serial, contact, &member.key)?;
    let transaction = Transaction::Contact(Box::new(signed));
    let confirmed = block_on(async { Ok(chain.submit(&transaction, FINAL).await?) })?;
    Ok(format!(
        "Final in block {}: the other nodes and all programs find institution {id} there.",
        confirmed.outcome.height
    ))
}

fn contact(addresses: &AddressArguments, authority: &str) -> Result<Contact, MembershipError> {
    let address = |text: &str| {
        ContactAddress::new(text).map_err(|error| MembershipError::Value("address", error))
    };
    let authority = TlsAuthority::new(authority);
    Ok(Contact {
        consensus: address(&addresses.consensus.to_string())?,
        node: address(&addresses.node)?,
        server: addresses.hospital.as_deref().map(address).transpose()?,
        authority: authority.map_err(|error| MembershipError::Value("TLS authority", error))?,
    })
}

fn document(file: &Path) -> Result<AuditDocument, MembershipError> {
    let bytes = fs::read(file).map_err(|error| MembershipError::File(file.to_owned(), error))?;
    let name = file.file_name().unwrap_or(file.as_os_str());
    let title = DocumentTitle::new(&name.to_string_lossy());
    Ok(AuditDocument {
        title: title.map_err(|error| MembershipError::Value("name of a document", error))?,
        digest: sha256(&bytes),
    })
}

fn member(arguments: &MemberArguments) -> Result<Member, MembershipError> {
    let founding = Founding::open(&arguments.founding)?;
    let chain = ConsortiumClient::of(&founding, None)?;
    let path = arguments.folder.join(KEY);
    let key = keys::held(&path)?;
    let (id, _) = whose(&chain, &key.verifying_key(), &path)?;
    Ok(Member {
        founding,
        chain,
        id,
        key,
    })
}

/// The institution of the consortium that has this key now.
pub(crate) fn institution_with(
    chain: &ConsortiumClient,
    key: &VerifyingKey,
) -> Result<Option<InstitutionState>, RoleError> {
    let present = block_on(async { Ok(chain.institutions().await?) })?;
    let mut present = present.into_iter();
    Ok(present.find(|held| held.institution.key == *key))
}

fn whose(
    chain: &ConsortiumClient,
    key: &VerifyingKey,
    path: &Path,
) -> Result<(InstitutionId, InstitutionState), MembershipError> {
    let found = institution_with(chain, key)?;
    let found = found.ok_or_else(|| MembershipError::NoInstitution(path.to_owned()))?;
    Ok((found.institution.id, found))
}

fn read(path: &Path) -> Result<Vec<u8>, MembershipError> {
    let failed = |error| MembershipError::File(path.to_owned(), error);
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(MembershipError::TooLong(path.to_owned()));
    }
    fs::read(path).map_err(failed)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), MembershipError> {
    fs::write(path, bytes).map_err(|error| MembershipError::File(path.to_owned(), error))
}

fn malformed(path: &Path) -> impl FnOnce(DecodeError) -> MembershipError {
    let path = path.to_owned();
    move |error| MembershipError::Malformed(path, error.to_string())
}
