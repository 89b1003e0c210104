//! `willis doctor`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use client::{DoctorApplicant, FindPatient, RequestState};
use ledger::TransactionId;
use record::SectionClass;
use scheme::{DoctorId, Uid};
use serde_json::{Value, json};
use workstation::{Ask, ColleagueState, DoctorDesk, REQUEST_HOURS, RequestView, TeamView};

use super::terminal::Terminal;
use super::{Common, EnrolArguments, PeopleError, Said, bound, date, files, institution};

#[derive(Args)]
pub(crate) struct DoctorArguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: DoctorCommand,
}

#[derive(Subcommand)]
enum DoctorCommand {
    /// Makes keys on this machine and asks the registration centre to certify them.
    Enrol {
        #[command(flatten)]
        enrolment: EnrolArguments,
        /// The number of the licence to practise.
        #[arg(long)]
        licence_number: String,
        /// The number of the hospital where the doctor works.
        #[arg(long)]
        institution: u32,
    },
    /// How far the enrolment is; keeps the certificate once it is there.
    Status {
        /// How long to wait, in seconds.
        #[arg(long, default_value_t = 0)]
        wait: u64,
    },
    /// Asks for a certificate with the same keys and a later end.
    Renew,
    /// A fresh UID of the hospital's, for a patient who is there.
    Uid,
    /// Frees a UID from the account of a patient's lost device.
    FreeUid {
        /// The UID.
        #[arg(value_parser = super::uid)]
        uid: Uid,
    },
    /// Accepts what patients' devices handed over: an episode each.
    Handovers {
        /// How long to wait for the first, in seconds.
        #[arg(long, default_value_t = 0)]
        wait: u64,
    },
    /// Lists the episodes.
    Episodes,
    /// Seals files as one record, stores it, records it on the chain, leaves the patient its receipt.
    Store {
        /// The episode, as listed.
        #[arg(long)]
        episode: usize,
        /// An earlier record of the same episode that this one amends: nothing is replaced, and readers see
        /// both.
        #[arg(long, value_name = "RECORD", value_parser = super::transaction)]
        amends: Option<TransactionId>,
        /// The record's files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Lists the records that this doctor stored, and finishes those that an outage left unfinished.
    Records,
    /// Leaves a record's receipt once more, for a patient who has lost it.
    Receipt {
        /// The record's id.
        #[arg(value_parser = super::transaction)]
        record: TransactionId,
    },
    /// Opens a record that this doctor stored, without asking anybody.
    Own {
        /// The record's id.
        #[arg(value_parser = super::transaction)]
        record: TransactionId,
        /// The folder for its files.
        #[arg(long, value_name = "FOLDER")]
        into: PathBuf,
    },
    /// Asks a patient for access.
    Ask {
        /// The patient's inbox, as the patient gave it: the whole code, or the short one.
        #[arg(long)]
        inbox: String,
        /// Why, for the patient to read.
        #[arg(long)]
        purpose: String,
        /// A section class; can be given several times. Without it, all.
        #[arg(long = "class", value_parser = super::class)]
        classes: Vec<SectionClass>,
        /// For how many episodes the patient can answer.
        #[arg(long, default_value_t = 1)]
        episodes: usize,
        /// For how many hours it can be answered, at most 24.
        #[arg(long, default_value_t = REQUEST_HOURS)]
        hours: u64,
        /// The id of a colleague of this hospital who shall read as well; can be given several times. Each
        /// joins by `willis doctor join`, and the patient is asked once all who joined have signed.
        #[arg(long = "with", value_name = "DOCTOR")]
        colleagues: Vec<u64>,
    },
    /// The inbox of the patient of a document, by the registration centre, for a patient who can give no code.
    ///
    /// Only patients who want it are found. Each sees who looked for them.
    Find {
        /// Such as "passport".
        #[arg(long)]
        document_kind: String,
        /// The document's number.
        #[arg(long)]
        document_number: String,
        /// YYYY-MM-DD.
        #[arg(long)]
        birth_date: String,
        /// Why, for the patient to read.
        #[arg(long)]
        purpose: String,
    },
    /// The ids of this hospital's other doctors.
    Colleagues,
    /// Takes what colleagues sent: keeps invitations, signs what was joined, sends a request that everyone
    /// has signed. Lists the teams that are being gathered.
    Teams {
        /// How long to wait until none is being gathered, in seconds.
        #[arg(long, default_value_t = 0)]
        wait: u64,
    },
    /// Joins a colleague's team: `willis doctor teams` signs its request, if it is exactly what was joined.
    Join {
        /// The team, or the first digits of its id.
        team: String,
    },
    /// Does not join a colleague's team.
    DeclineTeam {
        /// The team, or the first digits of its id.
        team: String,
    },
    /// Asks the patient with those who joined so far; done again, without those who have not signed.
    SendTeam {
        /// The team, or the first digits of its id.
        team: String,
    },
    /// Gives a team up that is being gathered: the patient is not asked.
    CancelTeam {
        /// The team, or the first digits of its id.
        team: String,
    },
    /// Waits until a request is decided, and opens the grants that answer it.
    Follow {
        /// The request, or the first digits of its id.
        request: String,
        /// How long to wait, in seconds.
        #[arg(long, default_value_t = 60)]
        wait: u64,
    },
    /// Follows the grants that answer a request: each that is recorded, revoked or has expired.
    Watch {
        /// The request, or the first digits of its id.
        request: String,
        /// For how long, in seconds; it ends before that if all are over.
        #[arg(long, default_value_t = 3600)]
        wait: u64,
    },
    /// Lists the requests with their grants.
    Requests,
    /// Searches under the grants of a request.
    Search {
        /// The request, or the first digits of its id.
        request: String,
    },
    /// Reads what the grants of a request open.
    Read {
        /// The request, or the first digits of its id.
        request: String,
        /// Only this record.
        #[arg(long, value_parser = super::transaction)]
        record: Option<TransactionId>,
        /// The folder for the files: one folder a record.
        #[arg(long, value_name = "FOLDER")]
        into: PathBuf,
    },
}

pub(crate) fn run(arguments: DoctorArguments) -> ExitCode {
    let DoctorArguments { common, command } = arguments;
    super::run("doctor", &common, |terminal| {
        act(&common, command, terminal)
    })
}

async fn act(
    common: &Common,
    command: DoctorCommand,
    mut terminal: Terminal,
) -> Result<Said, PeopleError> {
    let network = common.network()?;
    if let DoctorCommand::Enrol {
        enrolment,
        licence_number,
        institution: number,
    } = command
    {
        let path = common.keystore()?;
        let mut desk = if path.exists() {
            DoctorDesk::open(network, path, &common.passphrase()?)?
        } else {
            let passphrase = common.new_passphrase()?;
            DoctorDesk::create(network, path, &passphrase, institution(number))?
        };
        let applicant = DoctorApplicant {
            identity: enrolment.identity.identity(),
            licence_number,
            institution: number,
        };
        desk.enrol(applicant, enrolment.replaces).await?;
        let found = desk.enrolment(bound(enrolment.wait)).await?;
        return Ok(super::enrolment(&found, "doctor"));
    }
    let mut desk = DoctorDesk::open(network, common.keystore()?, &common.passphrase()?)?;
    match command {
        DoctorCommand::Enrol { .. } => Err(PeopleError::Value("it was done already".into())),
        DoctorCommand::Status { wait } => {
            let found = desk.enrolment(bound(wait)).await?;
            Ok(super::enrolment(&found, "doctor"))
        }
        DoctorCommand::Renew => {
            desk.renew().await?;
            let found = desk.enrolment(bound(20)).await?;
            Ok(super::enrolment(&found, "doctor"))
        }
        DoctorCommand::Uid => {
            let uid = desk.give_uid().await?;
            let uid = String::from_utf8_lossy(uid.as_bytes()).into_owned();
            let keys = desk.public_keys()?;
            let (id, institution) = (keys.id.number(), keys.institution.number());
            let text = format!(
                "UID {uid}. The patient begins the episode with:\n\n  willis patient begin --institution {institution} --uid {uid} --doctor {id}"
            );
            let object = json!({ "uid": uid, "doctor": id, "institution": institution });
            Ok(Said::new(text, object))
        }
        DoctorCommand::FreeUid { uid } => {
            desk.free_uid(&uid).await?;
            let text = "The UID is free: the patient's new device binds it when it begins the next episode.";
            Ok(Said::new(text, json!({})))
        }
        DoctorCommand::Handovers { wait } => {
            let (accepted, refused) = desk.accept_handovers(bound(wait)).await?;
            let mut text = format!("{} accepted.\n", accepted.len());
            for episode in &accepted {
                text.push_str(&format!(
                    "episode {}, UID {}\n",
                    episode.number, episode.uid
                ));
            }
            for why in &refused {
                text.push_str(&format!("refused: {why}\n"));
            }
            let episodes: Vec<Value> = accepted
                .iter()
                .map(|one| json!({ "episode": one.number, "uid": one.uid }))
                .collect();
            Ok(Said::new(
                text,
                json!({ "episodes": episodes, "refused": refused }),
            ))
        }
        DoctorCommand::Episodes => {
            let mut text = String::new();
            let mut list = Vec::new();
            for one in desk.episodes() {
                let line = format!(
                    "{:>4}  UID {}  {} records\n",
                    one.number, one.uid, one.records
                );
                text.push_str(&line);
                list.push(json!({ "episode": one.number, "uid": one.uid, "records": one.records }));
            }
            if list.is_empty() {
                text.push_str("No episode yet: `willis doctor handovers` accepts those that wait.");
            }
            Ok(Said::new(text, json!({ "episodes": list })))
        }
        DoctorCommand::Store {
            episode,
            amends,
            files,
        } => {
            let stored = desk.store(episode, &files, amends, &mut terminal).await?;
            let id = hex::encode(stored.transaction.as_bytes());
            let text = format!(
                "Stored: record {id}. It is final on the chain, a search finds it, and its receipt waits for the patient."
            );
            Ok(Said::new(
                text,
                json!({ "record": id, "episode": stored.episode }),
            ))
        }
        DoctorCommand::Records => {
            let failures = desk.finish_records(&mut terminal).await?;
            let (mut text, mut list) = (String::new(), Vec::new());
            for one in desk.records() {
                let id = hex::encode(one.transaction.as_bytes());
                let state = if one.stored { "" } else { "  (not finished)" };
                let amends = one.amends.map(|id| hex::encode(id.as_bytes()));
                let history = amends
                    .as_ref()
                    .map_or_else(String::new, |id| format!("  amends {}", &id[..16]));
                text.push_str(&format!(
                    "{id}  episode {}  {}  {}{history}{state}\n",
                    one.episode,
                    date(one.time),
                    one.name
                ));
                list.push(json!({
                    "record": id, "episode": one.episode, "time": one.time,
                    "name": one.name, "stored": one.stored, "amends": amends,
                }));
            }
            for why in &failures {
                text.push_str(&format!("not finished: {why}\n"));
            }
            if list.is_empty() && failures.is_empty() {
                text.push_str("No record yet: `willis doctor store` stores one.");
            }
            Ok(Said::new(
                text,
                json!({ "records": list, "failures": failures }),
            ))
        }
        DoctorCommand::Receipt { record } => {
            desk.leave_receipt(record).await?;
            let text = "The receipt waits for the patient: `willis patient receipts` fetches it.";
            Ok(Said::new(text, json!({})))
        }
        DoctorCommand::Own { record, into } => {
            let opened = desk.read_own(record, &into, &mut terminal).await?;
            let (text, list) = files(&opened.files);
            Ok(Said::new(
                text,
                json!({ "files": list, "amends": super::amends(opened.amends) }),
            ))
        }
        DoctorCommand::Ask {
            inbox,
            purpose,
            classes,
            episodes,
            hours,
            colleagues,
        } => {
            let ask = Ask {
                inbox: desk.inbox_of(&inbox).await?,
                classes,
                purpose,
                episodes,
                hours,
            };
            if !colleagues.is_empty() {
                let colleagues: Vec<_> = colleagues.into_iter().map(DoctorId::new).collect();
                let team = desk.invite(&ask, &colleagues, &mut terminal).await?;
                let text = format!(
                    "Asked {} to join: team {}. `willis doctor teams --wait 3600` goes on with it.",
                    colleagues.len(),
                    &team.id[..8]
                );
                return Ok(Said::new(text, json!({ "team": team_json(&team) })));
            }
            let view = desk.ask(&ask, &mut terminal).await?;
            let text = format!(
                "Asked: request {}. `willis doctor follow {}` waits for the answer.",
                view.id,
                &view.id[..8]
            );
            Ok(Said::new(text, request_json(&view)))
        }
        DoctorCommand::Find {
            document_kind,
            document_number,
            birth_date,
            purpose,
        } => {
            let patient = FindPatient {
                birth_date,
                document_kind,
                document_number,
                purpose,
            };
            let inbox = workstation::inbox_to_text(&desk.find(&patient).await?);
            Ok(Said::new(inbox.clone(), json!({ "inbox": inbox })))
        }
        DoctorCommand::Colleagues => {
            let ids = desk.colleagues().await?;
            let lines: Vec<String> = ids.iter().map(|id| format!("doctor {id}\n")).collect();
            Ok(Said::new(lines.concat(), json!({ "doctors": ids })))
        }
        DoctorCommand::Teams { wait } => {
            let end = tokio::time::Instant::now() + bound(wait);
            let mut refused = Vec::new();
            loop {
                refused.extend(desk.follow_teams(&mut terminal).await?);
                let gathered =
                    desk.teams().is_empty() && desk.invitations().iter().all(|one| !one.joined);
                if gathered || tokio::time::Instant::now() >= end {
                    break;
                }
                tokio::time::sleep(AGAIN).await;
            }
            Ok(teams_said(&desk, &refused))
        }
        DoctorCommand::Join { team } => {
            let joined = desk.join(&team).await?;
            let text =
                "Joined. `willis doctor teams --wait 3600` signs the request once it is complete.";
            Ok(Said::new(text, json!({ "team": joined.id })))
        }
        DoctorCommand::DeclineTeam { team } => {
            desk.decline_team(&team).await?;
            Ok(Said::new("The colleague is told.", json!({})))
        }
        DoctorCommand::SendTeam { team } => {
            desk.close_team(&team, &mut terminal).await?;
            let text = "Those who joined are asked to sign: `willis doctor teams --wait 3600` sends the request once they have.";
            Ok(Said::new(text, json!({})))
        }
        DoctorCommand::CancelTeam { team } => {
            desk.cancel_team(&team)?;
            Ok(Said::new("The patient is not asked.", json!({})))
        }
        DoctorCommand::Follow { request, wait } => {
            let view = desk.follow(&request, bound(wait), &mut terminal).await?;
            Ok(Said::new(request_text(&view), request_json(&view)))
        }
        DoctorCommand::Watch { request, wait } => {
            let changes = desk.watch(&request, bound(wait), &mut terminal).await?;
            let (mut text, mut list) = (String::new(), Vec::new());
            for one in changes {
                let standing = serde_json::to_value(one.standing).unwrap_or(Value::Null);
                text.push_str(&format!(
                    "{}  grant {}  {}\n",
                    date(one.time),
                    one.gid,
                    standing.as_str().unwrap_or_default()
                ));
                list.push(json!({ "grant": one.gid, "standing": standing, "time": one.time }));
            }
            if list.is_empty() {
                text.push_str("No grant answered the request in that time.");
            }
            Ok(Said::new(text, json!({ "changes": list })))
        }
        DoctorCommand::Requests => {
            let (mut text, mut list) = (String::new(), Vec::new());
            for view in desk.requests().await? {
                text.push_str(&request_text(&view));
                list.push(request_json(&view));
            }
            if list.is_empty() {
                text.push_str("No request: `willis doctor ask` makes one.");
            }
            Ok(Said::new(text, json!({ "requests": list })))
        }
        DoctorCommand::Search { request } => {
            let (mut text, mut list) = (String::new(), Vec::new());
            let mut refused = Vec::new();
            for searched in desk.search(&request).await? {
                let gid = searched.gid;
                match searched.hits {
                    Ok(hits) => {
                        text.push_str(&format!("grant {gid}: {} records\n", hits.len()));
                        for hit in hits {
                            let id = hex::encode(hit.transaction.as_bytes());
                            text.push_str(&format!("  {id}\n"));
                            list.push(json!({ "grant": gid, "record": id }));
                        }
                    }
                    Err(why) => {
                        text.push_str(&format!("grant {gid}: {why}\n"));
                        refused.push(json!({ "grant": gid, "reason": why }));
                    }
                }
            }
            Ok(Said::new(text, json!({ "hits": list, "refused": refused })))
        }
        DoctorCommand::Read {
            request,
            record,
            into,
        } => {
            let read = desk.read(&request, record, &into, &mut terminal).await?;
            let (mut text, mut list) = (String::new(), Vec::new());
            for one in read.records {
                let id = hex::encode(one.transaction.as_bytes());
                let (lines, put_back) = files(&one.files);
                text.push_str(&format!(
                    "record {id} of institution {}: {} sections\n{lines}",
                    one.institution.number(),
                    one.sections
                ));
                if let Some(amends) = &one.amends {
                    text.push_str(&format!(
                        "  it amends the record whose container has the digest {}\n",
                        hex::encode(amends.digest.as_bytes())
                    ));
                }
                let lying: Vec<u32> = one.lying.iter().map(|node| node.number()).collect();
                for node in &lying {
                    text.push_str(&format!(
                        "  the node of institution {node} gave shares that are proved wrong: tell the consortium\n"
                    ));
                }
                for file in &one.evidence {
                    text.push_str(&format!("  the proof: {}\n", file.display()));
                }
                list.push(json!({
                    "record": id, "institution": one.institution.number(), "grant": one.gid,
                    "sections": one.sections, "files": put_back, "wrong_shares": lying,
                    "amends": super::amends(one.amends),
                    "evidence": one.evidence,
                }));
            }
            let mut refused = Vec::new();
            for (gid, why) in read.refused {
                text.push_str(&format!("grant {gid}: {why}\n"));
                refused.push(json!({ "grant": gid, "reason": why }));
            }
            Ok(Said::new(
                text,
                json!({ "records": list, "refused": refused }),
            ))
        }
    }
}

/// How often colleagues' messages are looked for while one waits.
const AGAIN: Duration = Duration::from_millis(500);

fn teams_said(desk: &DoctorDesk, refused: &[String]) -> Said {
    let mut text = String::new();
    let (teams, invitations) = (desk.teams(), desk.invitations());
    for team in &teams {
        text.push_str(&format!("team {}  \"{}\"\n", &team.id[..16], team.purpose));
        for (id, state) in &team.colleagues {
            text.push_str(&format!("  doctor {id}: {}\n", colleague_state(*state)));
        }
    }
    for one in &invitations {
        let joined = if one.joined {
            "joined"
        } else {
            "`willis doctor join` joins it"
        };
        text.push_str(&format!(
            "doctor {} asks you to join {}  \"{}\", until {}: {joined}\n",
            one.lead,
            &one.id[..16],
            one.purpose,
            date(one.not_after)
        ));
    }
    for why in refused {
        text.push_str(&format!("not followed: {why}\n"));
    }
    if text.is_empty() {
        text.push_str("No team is being gathered: `willis doctor requests` lists what was sent.");
    }
    let teams: Vec<Value> = teams.iter().map(team_json).collect();
    let invitations: Vec<Value> = invitations
        .iter()
        .map(|one| {
            json!({
                "team": one.id, "lead": one.lead, "purpose": one.purpose,
                "not_after": one.not_after, "joined": one.joined, "signed": one.signed,
            })
        })
        .collect();
    Said::new(
        text,
        json!({ "teams": teams, "invitations": invitations, "refused": refused }),
    )
}

fn team_json(team: &TeamView) -> Value {
    let colleagues: Vec<Value> = team
        .colleagues
        .iter()
        .map(|(id, state)| json!({ "doctor": id, "state": colleague_state(*state) }))
        .collect();
    json!({
        "team": team.id, "purpose": team.purpose, "not_after": team.not_after,
        "closed": team.closed, "colleagues": colleagues,
    })
}

fn colleague_state(state: ColleagueState) -> &'static str {
    match state {
        ColleagueState::Invited => "invited",
        ColleagueState::Joined => "joined",
        ColleagueState::Signed => "signed",
        ColleagueState::Out => "does not take part",
    }
}

fn request_text(view: &RequestView) -> String {
    let mut text = format!(
        "request {}  {}  \"{}\"\n",
        &view.id[..16],
        state_name(view.state),
        view.purpose
    );
    if let Some(reason) = &view.reason {
        text.push_str(&format!("  {reason}\n"));
    }
    for grant in &view.grants {
        let ended = if grant.revoked { ", revoked" } else { "" };
        text.push_str(&format!(
            "  grant {} until {}{ended}\n",
            &grant.gid[..16],
            date(grant.expiry)
        ));
    }
    text
}

fn request_json(view: &RequestView) -> Value {
    let grants: Vec<Value> = view
        .grants
        .iter()
        .map(|one| json!({ "grant": one.gid, "expiry": one.expiry, "revoked": one.revoked }))
        .collect();
    json!({
        "request": view.id, "team": view.team, "state": state_name(view.state), "reason": view.reason,
        "purpose": view.purpose, "not_after": view.not_after, "grants": grants,
    })
}

/// As the query manager's interface names it.
fn state_name(state: RequestState) -> String {
    serde_json::to_value(state)
        .ok()
        .and_then(|value| Some(value.as_str()?.to_owned()))
        .unwrap_or_default()
}
