//! What a patient takes along: a folder that anybody who has it reads without this program, and that
//! anybody who has the consortium's founding document checks without a network (`spec/formats.md`, M30).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use client::{ProofFile, Proved};
use ledger::Genesis;
use scheme::{Digest, DisclosedSecret, SectionIndex};
use serde::{Deserialize, Serialize};

use crate::error::{WorkError, not};
use crate::reading::{header_of, open_into, opened_for_a_moment};
use crate::shelf::digest_of_file;

/// The version of the folder's layout.
pub(crate) const VERSION: u32 = 1;
pub(crate) const CONTENTS: &str = "contents.json";
/// The founding document.
pub(crate) const FOUNDING: &str = "founding";
pub(crate) const CONTAINER: &str = "container";
pub(crate) const RECORD: &str = "record.proof";
pub(crate) const FILES: &str = "files";
pub(crate) const GRANT: &str = "grant.proof";
pub(crate) const ACCESS_LOG: &str = "access-log.proof";
/// The longest list of what an export holds: 65,536 records of 1 KiB.
const CONTENTS_BYTES_MAX: u64 = 64 << 20;

pub(crate) const README: &str = "\
Your records, as you took them along.
您带走的全部病历。

Whoever has this folder can read all of it: keep it as you keep your papers.
任何得到此文件夹的人都能阅读其中全部内容，请像保管证件一样保管它。

records/NNNN-.../files     the files of a record, byte for byte 病历文件原样
records/NNNN-.../container the same as it lies in the cloud, sealed 云端密文
records/NNNN-.../record.proof  that it stands on the hospitals' chain 链上证明
grants/NNNN-.../           who could read, and each access, with proofs 授权与查阅记录及证明
contents.json              all of it as a list for programs 供程序读取的清单
founding                   by what the proofs are checked: compare it with the hospitals' 创始文件

Check it without a network 离线核对:
  willis proof export FOLDER --founding FOUNDING
with FOUNDING from your hospital, not from this folder.
";

/// The list of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// 1.
    pub version: u32,
    /// The consortium's id.
    pub consortium: String,
    /// When it was made, in ms since 1970.
    pub made: u64,
    /// The records.
    pub records: Vec<ExportedRecord>,
    /// The grants.
    pub grants: Vec<ExportedGrant>,
    /// What could not be taken along.
    pub left_out: Vec<LeftOut>,
}

/// Something that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// What.
    pub what: String,
    /// Why, and what to do.
    pub why: String,
}

/// A record of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedRecord {
    /// Its folder in `records`.
    pub folder: String,
    /// Its transaction's id.
    pub transaction: String,
    /// The hospital's number.
    pub institution: u32,
    /// The hospital's name.
    pub hospital: String,
    /// The doctor's id.
    pub doctor: u64,
    /// When its author signed it, in ms since 1970.
    pub time: u64,
    /// SHA-256 of the container of the record that it amends.
    pub amends: Option<String>,
    /// What opens each section of its container.
    pub sections: Vec<ExportedSection>,
    /// Its files.
    pub files: Vec<ExportedFile>,
}

/// A section of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedSection {
    /// Its class.
    pub class: String,
    /// Its place in the container.
    pub index: usize,
    /// HT(K): opens this section of this container, and nothing else.
    pub secret: String,
}

/// A file of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedFile {
    /// Its name in `files`.
    pub name: String,
    /// What it was taken for when it was stored.
    pub media_type: String,
    /// Of its bytes.
    pub sha256: String,
}

/// A grant of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedGrant {
    /// Its folder in `grants`.
    pub folder: String,
    /// gid.
    pub gid: String,
    /// Whether a family agent gave it.
    pub by_agent: bool,
    /// Why it was asked for.
    pub purpose: String,
    /// What it opened.
    pub classes: Vec<String>,
    /// For whom.
    pub doctors: Vec<ExportedDoctor>,
    /// Until when, in ms since 1970.
    pub expiry: u64,
    /// Whether it was taken back; none if the chain has no such grant.
    pub revoked: Option<bool>,
    /// Each access under it.
    pub accesses: Vec<ExportedAccess>,
}

/// A doctor of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedDoctor {
    /// The doctor's id.
    pub doctor: u64,
    /// The hospital's number.
    pub institution: u32,
}

/// An access under a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedAccess {
    /// Counts the accesses of its key, from 0.
    pub number: u64,
    /// The key that signed it.
    pub access_key: String,
    /// The doctor who has the key.
    pub doctor: Option<u64>,
    /// When, in ms since 1970.
    pub time: u64,
    /// Which record was read.
    pub record: Option<String>,
}

/// What a check of an export came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Records whose container and files are proved.
    pub records: usize,
    /// Grants whose state and complete log are proved.
    pub grants: usize,
    /// Accesses that are proved.
    pub accesses: usize,
    /// What does not stand, and what the export says that it left out.
    pub wrong: Vec<String>,
}

/// Checks an export against the founding document, without a network: that each record stands on the
/// chain, signed for the hospital and at the time that the list names, that its container is the one that
/// its doctor signed, that each of its files comes out of it byte for byte; that each grant stands as it
/// says, and that no access is missing from its log, each with the time of its block.
///
/// # Errors
/// [`WorkError`] if the folder is no export or cannot be read. What does not stand is in the result.
pub fn check(folder: &Path, founding: &Genesis) -> Result<Checked, WorkError> {
    let text = read(&folder.join(CONTENTS), CONTENTS_BYTES_MAX)?;
    let contents: Contents = match serde_json::from_slice(&text) {
        Ok(contents) => contents,
        Err(error) => {
            return not(format!(
                "{} is no list of an export: {error}; give the folder that `willis patient export` wrote",
                folder.join(CONTENTS).display()
            ));
        }
    };
    if contents.version != VERSION {
        return not("the export is of a later release: check it with that one");
    }
    let mut checked = Checked {
        records: 0,
        grants: 0,
        accesses: 0,
        wrong: Vec::new(),
    };
    if contents.consortium != hex::encode(founding.consortium().as_bytes()) {
        checked
            .wrong
            .push("the export is of another consortium than the founding document".to_owned());
        return Ok(checked);
    }
    for record in &contents.records {
        match check_record(folder, founding, record) {
            Ok(()) => checked.records += 1,
            Err(error) => checked.wrong.push(format!(
                "record {}: {}",
                record.transaction,
                client::sentence(&error)
            )),
        }
    }
    for grant in &contents.grants {
        match check_grant(folder, founding, grant) {
            Ok(accesses) => {
                checked.grants += 1;
                checked.accesses += accesses;
            }
            Err(error) => {
                checked
                    .wrong
                    .push(format!("grant {}: {}", grant.gid, client::sentence(&error)));
            }
        }
    }
    let left_out = contents.left_out.iter();
    checked.wrong.extend(
        left_out.map(|one| format!("left out when it was made: {}: {}", one.what, one.why)),
    );
    Ok(checked)
}

fn check_record(folder: &Path, founding: &Genesis, of: &ExportedRecord) -> Result<(), WorkError> {
    let place = inside(&folder.join("records"), &of.folder)?;
    let Proved::Record { id, record, .. } = proved(&place.join(RECORD), founding)? else {
        return not("its proof is about something else");
    };
    if hex::encode(id.as_bytes()) != of.transaction {
        return not("its proof is about another record");
    }
    let container = place.join(CONTAINER);
    let statement = &record.statement;
    if digest_of(&container)? != statement.digest {
        return not("its container is not the one that its doctor signed");
    }
    let header = header_of(&founding.consortium(), &container)?;
    if header.digest() != statement.header_digest || header.clone().verify().is_err() {
        return not("its container's header was not made by its doctor");
    }
    if (of.institution, of.time) != (statement.institution.number(), statement.time.number()) {
        return not("its doctor signed another hospital or another time");
    }
    let mut sections = Vec::new();
    for section in &of.sections {
        let mut secret = [0; 32];
        let decoded = hex::decode_to_slice(&section.secret, &mut secret);
        let index = header.sections().nth(section.index);
        let (Ok(()), Some(index)) = (decoded, index) else {
            return not("what opens a section is malformed");
        };
        match DisclosedSecret::from_bytes(secret).content_key(&header, index) {
            Ok(key) => sections.push((index, key)),
            Err(error) => return not(client::sentence(&error)),
        }
    }
    let opened: BTreeSet<SectionIndex> = sections.iter().map(|(index, _)| *index).collect();
    if opened.len() != sections.len() || opened.len() != header.sections().count() {
        return not("not every section of its container is opened, once");
    }
    let again = opened_for_a_moment()?;
    let opened = open_into(&container, &header, &sections, &again.path().join(FILES))?;
    let classes = of.sections.iter().map(|section| section.class.as_str());
    if !classes.eq(opened.classes.iter().map(|class| class.name())) {
        return not("its sections are of other classes");
    }
    if of.amends != opened.amends.map(|one| hex::encode(one.digest.as_bytes())) {
        return not("its doctor sealed another record that it amends, or none");
    }
    let mut sealed = BTreeMap::new();
    for file in &opened.files {
        let name = file.path.file_name().unwrap_or_default();
        let of_it = (digest_of(&file.path)?, &file.media_type);
        sealed.insert(name.to_string_lossy().into_owned(), of_it);
    }
    let files = place.join(FILES);
    for file in &of.files {
        let Some((digest, media_type)) = sealed.remove(&file.name) else {
            return not(format!("the file {} does not come out of it", file.name));
        };
        if file.media_type != *media_type {
            return not(format!("the file {} was stored as another type", file.name));
        }
        let there = digest_of(&inside(&files, &file.name)?)?;
        if there != digest || file.sha256 != hex::encode(digest.as_bytes()) {
            return not(format!("the file {} was changed", file.name));
        }
    }
    match sealed.into_keys().next() {
        Some(name) => not(format!("the file {name} is missing")),
        None => Ok(()),
    }
}

/// Gives how many accesses its log has.
fn check_grant(folder: &Path, founding: &Genesis, of: &ExportedGrant) -> Result<usize, WorkError> {
    let place = inside(&folder.join("grants"), &of.folder)?;
    let Proved::Grant { gid, state, .. } = proved(&place.join(GRANT), founding)? else {
        return not("its proof is about something else");
    };
    let Some(state) = state.filter(|_| hex::encode(gid.as_bytes()) == of.gid) else {
        return not("its proof is about another grant");
    };
    if state.expiry.number() != of.expiry {
        return not("the chain names another end");
    }
    // A withdrawn agent's grants are over without a revocation of their own.
    if state.revoked.is_some() && of.revoked != Some(true) {
        return not("the chain says that it was revoked");
    }
    let log = proved(&place.join(ACCESS_LOG), founding)?;
    let Proved::AccessLog {
        gid: logged,
        accesses,
        ..
    } = log
    else {
        return not("the proof of its log is about something else");
    };
    if logged != gid {
        return not("the proof of its log is about another grant");
    }
    let proved: Vec<(String, u64, u64)> = accesses
        .iter()
        .map(|(block, entry)| {
            let key = hex::encode(entry.access_key.as_bytes());
            (key, entry.number.number(), block.time.number())
        })
        .collect();
    let named: Vec<(String, u64, u64)> = of
        .accesses
        .iter()
        .map(|one| (one.access_key.clone(), one.number, one.time))
        .collect();
    // The list can be newer than the proof by what was read while it was made.
    if !named.starts_with(&proved) {
        return not("its list of accesses is not the one that the chain proves");
    }
    Ok(proved.len())
}

fn proved(path: &Path, founding: &Genesis) -> Result<Proved, WorkError> {
    let bytes = read(path, ProofFile::BYTES_MAX)?;
    let proved = ProofFile::decode(&bytes).and_then(|file| file.check(founding));
    proved.or_else(|error| {
        not(format!(
            "{} proves nothing: {}",
            path.display(),
            client::sentence(&error)
        ))
    })
}

/// A name that leads nowhere but into this folder.
fn inside(folder: &Path, name: &str) -> Result<PathBuf, WorkError> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(only)), None) if only == name => Ok(folder.join(name)),
        _ => not(format!("the name {name:?} leads out of the export")),
    }
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, WorkError> {
    let failed = |error| WorkError::File(path.to_owned(), error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let length = file
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if length as u64 > most {
        return not(format!("{} is longer than such a file is", path.display()));
    }
    Ok(bytes)
}

pub(crate) fn digest_of(path: &Path) -> Result<Digest, WorkError> {
    digest_of_file(path).map_err(|error| WorkError::File(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_no_name_of_an_export_leads_out_of_it() {
        let folder = Path::new("/export/records");
        for name in ["", ".", "..", "../x", "a/b", "/etc/passwd", "a/", "./a"] {
            assert!(inside(folder, name).is_err(), "{name:?}");
        }
        assert_eq!(inside(folder, "0001-ab").unwrap(), folder.join("0001-ab"));
    }
}
