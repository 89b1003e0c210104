//! What founders agree on, in a folder that each of them and every service has: the founding document
//! (`founding`), the directory of services (`services.toml`), and a founder's signature over both in
//! `signatures/NUMBER` (128 hexadecimal digits). No signature, no service: whoever starts checks all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ledger::{Genesis, GenesisError, Quorum};
use scheme::{ConsortiumId, HeldKey, InstitutionId, Signature, SignerError};
use thiserror::Error;

use crate::directory::{Directory, DirectoryError};

/// The longest founding document: 255 institutions of some 140 bytes, with room.
const FOUNDING_BYTES_MAX: u64 = 256 * 1024;
/// The longest directory.
const DIRECTORY_BYTES_MAX: u64 = 2 << 20;

/// Why a folder founds nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FoundingError {
    /// A file cannot be read or written.
    #[error("{0} cannot be read or written: {1}; check the path and its permissions")]
    File(PathBuf, #[source] io::Error),
    /// A file is larger than it can be.
    #[error("{0} is larger than such a file can be: obtain it again from a founder")]
    TooLong(PathBuf),
    /// The founding document founds nothing.
    #[error("{0} is no founding document: obtain it again from a founder")]
    Genesis(PathBuf, #[source] GenesisError),
    /// The directory cannot be used.
    #[error("the directory of services in {0} cannot be used")]
    Directory(PathBuf, #[source] DirectoryError),
    /// A signature file holds none.
    #[error("{0} holds no signature of 128 hexadecimal digits: have that founder sign again")]
    Signature(PathBuf),
    /// The key is no founder's.
    #[error("the key is not the one that the founding document names for institution {0}")]
    NotAFounder(u32),
    /// The founder's key does not sign.
    #[error("nothing was signed")]
    Key(#[from] SignerError),
}

/// A founding document and its directory of services, with the founders who have signed them.
#[derive(Debug, Clone)]
pub struct Founding {
    /// The founding document.
    pub genesis: Genesis,
    /// Where the services are.
    pub directory: Directory,
    text: String,
    signed: Vec<InstitutionId>,
}

impl Founding {
    /// Reads a folder that enough founders have signed: all of them for the first directory, 2f + 1
    /// for a later one.
    ///
    /// # Errors
    /// [`FoundingError`]; [`DirectoryError::Signatures`] within it if signatures are missing.
    pub fn open(folder: &Path) -> Result<Self, FoundingError> {
        let founding = Self::draft(folder)?;
        let (found, needed) = (founding.signed.len(), founding.signatures_needed());
        if found < needed {
            let error = DirectoryError::Signatures { found, needed };
            return Err(FoundingError::Directory(folder.to_owned(), error));
        }
        Ok(founding)
    }

    /// Reads a folder that is still being signed.
    ///
    /// # Errors
    /// [`FoundingError`].
    pub fn draft(folder: &Path) -> Result<Self, FoundingError> {
        let file = folder.join("founding");
        let bytes = read(&file, FOUNDING_BYTES_MAX)?;
        let genesis =
            Genesis::decode(&bytes).map_err(|error| FoundingError::Genesis(file, error))?;
        let wrong = |error| FoundingError::Directory(folder.to_owned(), error);
        let bytes = read(&folder.join("services.toml"), DIRECTORY_BYTES_MAX)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| wrong(DirectoryError::Malformed("it is not UTF-8".into())))?;
        let directory = Directory::parse(&text, &genesis).map_err(wrong)?;
        let consortium = genesis.consortium();
        let mut signed = Vec::new();
        for institution in &genesis.institutions {
            let file = signature_file(folder, institution.id);
            let Some(signature) = read_signature(&file)? else {
                continue;
            };
            if Directory::is_signed_by(&consortium, &text, &institution.key, &signature) {
                signed.push(institution.id);
            }
        }
        Ok(Self {
            genesis,
            directory,
            text,
            signed,
        })
    }

    /// Writes a draft for founders to sign; signatures of an earlier one do not stand for it.
    ///
    /// # Errors
    /// [`FoundingError`].
    pub fn write(
        folder: &Path,
        genesis: &Genesis,
        directory: &Directory,
    ) -> Result<Self, FoundingError> {
        let wrong = |error| FoundingError::Directory(folder.to_owned(), error);
        let text = directory.text().map_err(wrong)?;
        let signatures = folder.join("signatures");
        fs::create_dir_all(&signatures)
            .map_err(|error| FoundingError::File(signatures.clone(), error))?;
        for (name, bytes) in [
            ("founding", genesis.encode()),
            ("services.toml", text.into_bytes()),
        ] {
            let file = folder.join(name);
            fs::write(&file, bytes).map_err(|error| FoundingError::File(file, error))?;
        }
        Self::draft(folder)
    }

    /// Adds a founder's signature to the folder.
    ///
    /// # Errors
    /// [`FoundingError::NotAFounder`] if the key is not the institution's; [`FoundingError::Key`] if it
    /// does not sign.
    pub fn sign(
        &self,
        folder: &Path,
        institution: InstitutionId,
        key: &HeldKey,
    ) -> Result<(), FoundingError> {
        let founder = self.genesis.institutions.iter();
        let mut founder = founder.filter(|one| one.id == institution);
        if founder.next().map(|one| one.key) != Some(key.verifying_key()) {
            return Err(FoundingError::NotAFounder(institution.number()));
        }
        let signature = Directory::sign(&self.consortium(), &self.text, key)?;
        let file = signature_file(folder, institution);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)
                .map_err(|error| FoundingError::File(parent.to_owned(), error))?;
        }
        let text = format!("{}\n", hex::encode(signature.as_bytes()));
        fs::write(&file, text).map_err(|error| FoundingError::File(file, error))
    }

    /// The consortium's id.
    pub fn consortium(&self) -> ConsortiumId {
        self.genesis.consortium()
    }

    /// Who has signed.
    pub fn signed(&self) -> &[InstitutionId] {
        &self.signed
    }

    /// How many must.
    pub fn signatures_needed(&self) -> usize {
        let institutions = self.genesis.institutions.len();
        let quorum = Quorum::of(institutions);
        self.directory.signatures_needed(quorum, institutions)
    }
}

fn signature_file(folder: &Path, institution: InstitutionId) -> PathBuf {
    folder
        .join("signatures")
        .join(institution.number().to_string())
}

fn read_signature(file: &Path) -> Result<Option<Signature>, FoundingError> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FoundingError::File(file.to_owned(), error)),
    };
    let mut bytes = [0; 64];
    hex::decode_to_slice(text.trim(), &mut bytes)
        .map_err(|_| FoundingError::Signature(file.to_owned()))?;
    Ok(Some(Signature::new(bytes)))
}

fn read(file: &Path, most: u64) -> Result<Vec<u8>, FoundingError> {
    let failed = |error| FoundingError::File(file.to_owned(), error);
    if fs::metadata(file).map_err(failed)?.len() > most {
        return Err(FoundingError::TooLong(file.to_owned()));
    }
    fs::read(file).map_err(failed)
}

#[cfg(test)]
mod tests {
    use ledger::testing::FourHospitals;
    use scheme::SigningKey;

    use super::*;
    use crate::directory::{CloudEntry, InstitutionEntry, ServiceEntry};
    use crate::text::Hex;

    fn directory(hospitals: &FourHospitals) -> Directory {
        let address = |port: u16| format!("http://127.0.0.1:{port}");
        let entry = |port| ServiceEntry {
            address: address(port),
            authority: None,
        };
        Directory {
            serial: 0,
            centre: entry(1),
            query: entry(2),
            cloud: CloudEntry {
                address: address(3),
                authority: None,
                receipt_key: Hex([1; 32]),
            },
            institutions: hospitals
                .genesis
                .institutions
                .iter()
                .map(|one| InstitutionEntry {
                    institution: one.id.number(),
                    hospital: address(4),
                    node: address(5),
                    consensus: "127.0.0.1:6".into(),
                    authority: None,
                })
                .collect(),
        }
    }

    #[test]
    fn a_founding_stands_once_every_founder_has_signed_this_one() {
        let hospitals = FourHospitals::default();
        let folder = std::env::temp_dir().join(format!("willis-founding-{}", std::process::id()));
        let mut services = directory(&hospitals);
        let draft = Founding::write(&folder, &hospitals.genesis, &services).unwrap();
        for (place, hospital) in hospitals.hospitals.iter().enumerate() {
            let Err(FoundingError::Directory(_, DirectoryError::Signatures { found, needed })) =
                Founding::open(&folder)
            else {
                panic!("signatures are missing");
            };
            assert_eq!((found, needed), (place, 4));
            let id = hospital.institution.id;
            let other = HeldKey::from(SigningKey::from_seed([77; 32]));
            let refused = draft.sign(&folder, id, &other);
            assert!(matches!(refused, Err(FoundingError::NotAFounder(_))));
            draft
                .sign(&folder, id, &hospital.key.clone().into())
                .unwrap();
        }
        assert_eq!(Founding::open(&folder).unwrap().signed().len(), 4);

        // One letter of the directory more, and nobody has signed it.
        services.query.address = "http://127.0.0.1:22".into();
        let changed = Founding::write(&folder, &hospitals.genesis, &services).unwrap();
        assert!(changed.signed().is_empty());
        // A later directory needs 2f + 1 of them.
        services.serial = 1;
        let later = Founding::write(&folder, &hospitals.genesis, &services).unwrap();
        for hospital in &hospitals.hospitals[..3] {
            assert!(Founding::open(&folder).is_err());
            later
                .sign(
                    &folder,
                    hospital.institution.id,
                    &hospital.key.clone().into(),
                )
                .unwrap();
        }
        assert!(Founding::open(&folder).is_ok());
        fs::remove_dir_all(&folder).unwrap();
    }
}
