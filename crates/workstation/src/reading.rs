//! Doctor B's reading over the network (steps 8 to 10), and everybody's reading of containers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use client::{ClientError, ConsortiumClient, TRACED};
use futures::StreamExt;
use ledger::{NodeSet, RecordTransaction, TransactionId};
use parties::{
    Hit, InTransaction, OpenGrant, OpenedSection, Reader, ReaderError, SectionShares, ShareAnswer,
    ShareEvidence, ShareOutcome, WantProof,
};
use record::{Amends, SectionClass};
use scheme::{
    Address, ClassPlace, ConsortiumId, ContentKey, Digest, DigestStream, GrantNode,
    HEADER_BYTES_MAX, Header, InstitutionId, SectionIndex, Threshold, VerifiedHeader,
};
use tracing::instrument;

use crate::error::{WorkError, not};
use crate::network::{Network, Progress, Unit};
use crate::shelf::{self, PutBack};

/// What a search under a grant came to.
pub struct Found {
    /// Records, as f + 1 nodes say alike.
    pub hits: Vec<Hit>,
    /// Bytes of questions and answers.
    pub bytes: u64,
}

/// Searches under a grant at all accounting nodes; believed when f + 1 agree.
///
/// # Errors
/// [`WorkError::Not`] with a node's reason if they do not.
#[instrument(target = TRACED, name = "8 search", skip_all)]
pub async fn search(
    client: &ConsortiumClient,
    reader: &Reader,
    grant: &OpenGrant,
) -> Result<Found, WorkError> {
    let height = client.height().await?;
    let request = reader.search(grant, height);
    let nodes = client.nodes();
    let mut replies = Vec::new();
    let errors = client
        .search(&request, grant.grant(), |reply| {
            replies.push(reply);
            match reader.agree(&request, &replies, &nodes) {
                Ok(_) => ControlFlow::Break(()),
                Err(_) => ControlFlow::Continue(()),
            }
        })
        .await;
    match reader.agree(&request, &replies, &nodes) {
        Ok(hits) => {
            let asked = request.encode().len() * (replies.len() + errors.len());
            let answered: usize = replies.iter().map(|reply| reply.0.len()).sum();
            let bytes = (asked + answered) as u64;
            Ok(Found {
                hits: hits.0,
                bytes,
            })
        }
        Err(error) => not(with_reason(&error.to_string(), &errors)),
    }
}

/// A container that was fetched and whose header was checked, with the keys of its granted sections.
pub struct Fetched {
    /// Where the container lies.
    pub path: PathBuf,
    /// Its header.
    pub header: VerifiedHeader,
    /// Granted sections that it has.
    pub sections: Vec<(ClassPlace, OpenedSection)>,
    /// Which node gave it.
    pub from: InstitutionId,
    /// Institutions whose nodes gave shares that are proved wrong.
    pub lying: Vec<InstitutionId>,
    /// The proofs, for everyone to check.
    pub evidence: Vec<ShareEvidence>,
    /// Bytes that moved.
    pub bytes: u64,
}

/// Fetches a record's container from the master node or the next, once its access is final, checks
/// it, and opens the keys of the granted sections with t nodes' shares.
///
/// # Errors
/// [`WorkError`].
#[instrument(target = TRACED, name = "9 verify and re-encrypt", skip_all)]
pub async fn fetch(
    client: &ConsortiumClient,
    consortium: ConsortiumId,
    reader: &Reader,
    grant: &OpenGrant,
    of: InTransaction,
    hit: &Hit,
    path: &Path,
) -> Result<Fetched, WorkError> {
    let found = client.transaction(hit.transaction).await?;
    let ledger::Transaction::Record(record) = found.transaction else {
        return not("the transaction that the search found is no record: search again");
    };
    let Some(on_chain) = client.agreed_grant(grant.gid()).await? else {
        return not("the grant does not stand on the chain: ask the patient for another one");
    };
    let failed = |error| WorkError::File(path.to_owned(), error);
    let mut file = File::create(path).map_err(failed)?;
    let mut unwritten = None;
    let request = reader.ask_container(grant, of);
    let digest = record.statement.digest;
    let from = client
        .container(&request, on_chain.state.master, digest, &mut |piece| {
            let written = match piece {
                Some(piece) => file.write_all(piece),
                None => file.set_len(0).and_then(|()| file.rewind()),
            };
            if let Err(error) = written {
                unwritten = Some(error);
            }
        })
        .await?;
    if let Some(error) = unwritten {
        return Err(failed(error));
    }
    let length = file.metadata().map_err(failed)?.len();
    let start = start_of(path)?;
    let header = reader.check_header(grant, hit, &record.statement, &record.doctor, &start)?;
    let granted = grant.granted_sections(&header);
    let classes: Vec<ClassPlace> = granted.iter().map(|(class, _)| *class).collect();
    let opened = open_sections(client, consortium, reader, grant, of, &header, &classes).await?;
    Ok(Fetched {
        path: path.to_owned(),
        header,
        sections: opened.sections,
        from,
        lying: opened.lying,
        evidence: opened.evidence,
        bytes: length + opened.bytes,
    })
}

struct Opened {
    sections: Vec<(ClassPlace, OpenedSection)>,
    lying: Vec<InstitutionId>,
    evidence: Vec<ShareEvidence>,
    bytes: u64,
}

/// Takes shares until t nodes' open each section. If a key does not fit, all nodes are asked again
/// with proofs, by which the honest ones are told from the others.
async fn open_sections(
    client: &ConsortiumClient,
    consortium: ConsortiumId,
    reader: &Reader,
    grant: &OpenGrant,
    of: InTransaction,
    header: &VerifiedHeader,
    classes: &[ClassPlace],
) -> Result<Opened, WorkError> {
    let mut done = Opened {
        sections: Vec::new(),
        lying: Vec::new(),
        evidence: Vec::new(),
        bytes: 0,
    };
    if classes.is_empty() {
        return Ok(done);
    }
    let terms = grant.grant().terms();
    let threshold = terms.threshold.count();
    let seated = client.nodes_of(terms.validator_epoch);
    enough_are_left(&terms.nodes, terms.threshold, &client.nodes())?;
    let mut refusals = Vec::new();
    for proof in [WantProof::No, WantProof::Yes] {
        let mut collected: BTreeMap<ClassPlace, SectionShares<'_>> = classes
            .iter()
            .map(|class| {
                let shares = SectionShares::new(consortium, grant, header, of.record, *class);
                (*class, shares)
            })
            .collect();
        let request = reader.ask_shares(grant, of, classes.to_vec(), proof);
        let more = client
            .shares(&request, grant.grant(), |answers| {
                done.bytes += ShareAnswer::encode_all(&answers).len() as u64;
                for answer in answers {
                    if let Some(shares) = collected.get_mut(&answer.class) {
                        // One that its node did not sign for this section does not count.
                        let _ = shares.add(answer);
                    }
                }
                let enough = collected.values().all(|shares| shares.count() >= threshold);
                // With proofs every node is heard, since some of them lie.
                if enough && proof == WantProof::No {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .await;
        refusals.extend(more);
        let mut opened = Vec::new();
        for (class, mut shares) in collected {
            let section = match (shares.open(), proof) {
                (Ok(section), _) => section,
                (Err(ReaderError::AskForProofs), WantProof::No) => break,
                (Err(ReaderError::AskForProofs), WantProof::Yes) => {
                    let judgement = shares.judge(&seated)?;
                    done.evidence.extend(judgement.evidence);
                    for liar in judgement.lying {
                        if !done.lying.contains(&liar) {
                            done.lying.push(liar);
                        }
                    }
                    match judgement.outcome {
                        ShareOutcome::Opened(section) => section,
                        ShareOutcome::AuthorOrGranter => {
                            return not(
                                "no share opens the section, and every proof holds: the author or the granter is at fault; complain to them",
                            );
                        }
                        ShareOutcome::TooFew { found, needed } => {
                            return not(with_reason(
                                &format!(
                                    "{found} nodes proved their shares, {needed} are needed: try again"
                                ),
                                &refusals,
                            ));
                        }
                    }
                }
                (Err(error), _) => return not(with_reason(&error.to_string(), &refusals)),
            };
            opened.push((class, section));
        }
        if opened.len() == classes.len() {
            done.sections = opened;
            return Ok(done);
        }
    }
    not(with_reason(
        "the shares do not open the sections: try again",
        &refusals,
    ))
}

/// A sentence with what nodes said.
fn with_reason(text: &str, errors: &[ClientError]) -> String {
    let mut said: Vec<String> = Vec::new();
    for error in errors.iter().map(ToString::to_string) {
        if !said.contains(&error) {
            said.push(error);
        }
    }
    if said.is_empty() {
        text.to_owned()
    } else {
        format!("{text}; nodes said: {}", said.join("; "))
    }
}

/// The first bytes of a container in a file, which hold its header.
fn start_of(path: &Path) -> Result<Vec<u8>, WorkError> {
    let failed = |error| WorkError::File(path.to_owned(), error);
    let mut start = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(HEADER_BYTES_MAX as u64)
        .read_to_end(&mut start)
        .map_err(failed)?;
    Ok(start)
}

/// The header of a container in a file.
///
/// # Errors
/// [`WorkError`] if it is none.
pub fn header_of(consortium: &ConsortiumId, path: &Path) -> Result<Header, WorkError> {
    Ok(Header::decode(consortium, &start_of(path)?)?.0)
}

/// Downloads a container from the cloud into a file, and compares it with what stands on the chain.
async fn download(
    network: &Network,
    address: Address,
    record: &RecordTransaction,
    path: &Path,
    progress: &mut dyn Progress,
) -> Result<(), WorkError> {
    let failed = |error| WorkError::File(path.to_owned(), error);
    let mut file = File::create(path).map_err(failed)?;
    let mut digest = DigestStream::new();
    let mut pieces = network.cloud_reader()?.read(address, 0).await?;
    let mut done = 0;
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        digest.update(&piece);
        file.write_all(&piece).map_err(failed)?;
        done += piece.len() as u64;
        progress.part(done, 0, Unit::Bytes);
    }
    let found: Digest = digest.finish();
    if found == record.statement.digest {
        Ok(())
    } else {
        not(
            "the cloud's container is not the one that stands on the chain: nothing of it is shown; tell the hospital's IT, which can restore it",
        )
    }
}

/// For what is sealed: nothing opened ever lies there.
pub(crate) fn temporary() -> Result<tempfile::TempDir, WorkError> {
    tempfile::tempdir().map_err(|error| WorkError::File(std::env::temp_dir(), error))
}

/// For what is opened only to be read by this program: for nobody else on this machine, and gone with what
/// is returned.
pub(crate) fn opened_for_a_moment() -> Result<tempfile::TempDir, WorkError> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new()
        .prefix("willis-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir();
    folder.map_err(|error| WorkError::File(std::env::temp_dir(), error))
}

/// The container of a record on the chain, from the cloud, with its header.
pub(crate) async fn from_cloud(
    network: &Network,
    address: Address,
    id: TransactionId,
    progress: &mut dyn Progress,
) -> Result<(tempfile::TempPath, Header), WorkError> {
    let record = network.record(id).await?;
    progress.step("fetching the container from the cloud");
    let failed = |error| WorkError::File(std::env::temp_dir(), error);
    let path = tempfile::NamedTempFile::new()
        .map_err(failed)?
        .into_temp_path();
    download(network, address, &record, &path, progress).await?;
    let header = header_of(&network.consortium(), &path)?;
    Ok((path, header))
}

/// A folder for a record's files: there is none yet, or an empty one.
pub(crate) fn must_be_fresh(folder: &Path) -> Result<(), WorkError> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => not(format!(
                "{} holds files already, and none is overwritten: choose another folder",
                folder.display()
            )),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(WorkError::File(folder.to_owned(), error)),
    }
}

/// What came out of a container.
#[derive(Debug, Clone)]
pub struct OpenedRecord {
    /// Its files.
    pub files: Vec<PutBack>,
    /// The class of each section that was opened, in the order in which they were given.
    pub classes: Vec<SectionClass>,
    /// The earlier record that it amends, as its author sealed it.
    pub amends: Option<Amends>,
}

/// Opens sections of a container into files and puts their files together in a folder.
#[instrument(target = TRACED, name = "10 open", skip_all)]
pub(crate) fn open_into(
    container: &Path,
    header: &Header,
    sections: &[(SectionIndex, ContentKey)],
    folder: &Path,
) -> Result<OpenedRecord, WorkError> {
    let failed = |error| WorkError::File(folder.to_owned(), error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    // Beside the files that come out of them: what is opened never lies in another place.
    let opened = tempfile::Builder::new()
        .prefix(".opened-")
        .tempdir_in(folder)
        .map_err(failed)?;
    let mut paths = Vec::new();
    for (number, (index, key)) in sections.iter().enumerate() {
        let path = opened.path().join(number.to_string());
        let mut file = File::create(&path).map_err(failed)?;
        shelf::open_section(container, header, *index, key, &mut |plain| {
            file.write_all(plain)
        })?;
        paths.push(path);
    }
    let (classes, amends) = shelf::heads_of(&paths)?;
    Ok(OpenedRecord {
        classes,
        amends,
        files: shelf::put_back(&paths, folder)?,
    })
}

/// That of the nodes for which a grant was cut so many still belong to the consortium under the same key
/// as are needed to re-encrypt: the shares of the others are gone with them.
fn enough_are_left(
    holders: &[GrantNode],
    threshold: Threshold,
    now: &NodeSet,
) -> Result<(), WorkError> {
    let left = holders.iter();
    let left = left.filter(|node| now.by_key(&node.key).is_some()).count();
    if left >= threshold.count() {
        return Ok(());
    }
    not(format!(
        "{left} of the nodes that hold the grant's shares are left in the consortium, and {} are needed: ask the patient for the records again",
        threshold.count()
    ))
}

#[cfg(test)]
mod tests {
    use ledger::{Node, Tier};
    use scheme::{HpkePublicKey, SigningKey, ValidatorEpoch, VerifyingKey};

    use super::*;

    fn key(number: u8) -> VerifyingKey {
        SigningKey::from_seed([number; 32]).verifying_key()
    }

    #[test]
    fn a_doctor_is_told_when_too_few_of_a_grants_nodes_are_left() {
        let holders: Vec<_> = (1..=3)
            .map(|number| GrantNode {
                key: key(number),
                hpke_key: HpkePublicKey::new([number; 32]),
            })
            .collect();
        let left = |keys: [u8; 4]| {
            let nodes = (1u32..).zip(keys).map(|(institution, number)| Node {
                institution: InstitutionId::new(institution),
                tier: Tier::Tertiary,
                key: key(number),
            });
            let now = NodeSet::new(ValidatorEpoch::new(7), nodes.collect()).unwrap();
            enough_are_left(&holders, Threshold::new(2).unwrap(), &now)
        };
        assert!(left([1, 2, 3, 9]).is_ok());
        assert!(left([1, 3, 8, 9]).is_ok());
        let Err(why) = left([1, 7, 8, 9]) else {
            panic!("one share re-encrypts nothing");
        };
        let why = why.to_string();
        assert!(why.starts_with("1 of the nodes"), "{why}");
        assert!(why.contains("2 are needed: ask the patient"), "{why}");
    }
}
