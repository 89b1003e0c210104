//! A party's TLS authority: it issues the certificates of that party's services and of nobody else's,
//! and its own certificate stands in the directory of services.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use client::Party;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::keys::{self, KeyError};

/// How long a service's certificate is valid: renewed by `willis tls` before.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(397 * 24 * 60 * 60);
/// How long an authority is.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Clocks of peers may be behind.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

const AUTHORITY_KEY: &str = "authority.key";
const AUTHORITY: &str = "authority.pem";
/// A service's certificate and key, beside its authority's.
pub(crate) const CERTIFICATE: &str = "tls.pem";
pub(crate) const CERTIFICATE_KEY: &str = "tls.key";

/// Why an authority cannot be made or does not issue.
#[derive(Debug, Error)]
pub(crate) enum AuthorityError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("{0} cannot be read or written: {1}; check the path and its permissions")]
    File(PathBuf, #[source] io::Error),
    #[error("{0} is no host name or address that a certificate can name: {1}")]
    Host(String, #[source] rcgen::Error),
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// Makes an authority in a folder that has none and gives its certificate in PEM.
pub(crate) fn make(folder: &Path, party: Party) -> Result<String, AuthorityError> {
    let key = KeyPair::generate()?;
    let params = authority_params(party)?;
    let certificate = params.self_signed(&key)?.pem();
    keys::write(
        &folder.join(AUTHORITY_KEY),
        Zeroizing::new(key.serialize_pem()).as_bytes(),
    )?;
    write(&folder.join(AUTHORITY), &certificate)?;
    Ok(certificate)
}

/// Issues a certificate for a service at these hosts, with a fresh key, beside the authority; one that
/// is there is replaced.
pub(crate) fn issue(folder: &Path, party: Party, hosts: &[String]) -> Result<(), AuthorityError> {
    let file = folder.join(AUTHORITY_KEY);
    let pem = fs::read_to_string(&file).map_err(|error| AuthorityError::File(file, error))?;
    let authority = KeyPair::from_pem(&Zeroizing::new(pem))?;
    let issuer = Issuer::new(authority_params(party)?, authority);
    let mut params = CertificateParams::new(hosts.to_vec())
        .map_err(|error| AuthorityError::Host(hosts.join(", "), error))?;
    params
        .distinguished_name
        .push(DnType::CommonName, format!("willis, {party}"));
    (params.not_before, params.not_after) = validity(CERTIFICATE_LIFE);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?.pem();
    let file = folder.join(CERTIFICATE_KEY);
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(AuthorityError::File(file, error));
        }
        _ => {}
    }
    keys::write(&file, Zeroizing::new(key.serialize_pem()).as_bytes())?;
    write(&folder.join(CERTIFICATE), &certificate)
}

/// The same at every call but for the time, so that what it issues names the authority that was made.
fn authority_params(party: Party) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, format!("willis authority, {party}"));
    (params.not_before, params.not_after) = validity(AUTHORITY_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn validity(life: Duration) -> (time::OffsetDateTime, time::OffsetDateTime) {
    let now = SystemTime::now();
    ((now - BACKDATED).into(), (now + life).into())
}

fn write(file: &Path, text: &str) -> Result<(), AuthorityError> {
    fs::write(file, text).map_err(|error| AuthorityError::File(file.to_owned(), error))
}
