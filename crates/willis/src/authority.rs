//! A party's TLS authority: it issues the certificates of that party's services and of nobody else's,
//! and its own certificate stands in the directory of services.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use client::{Party, SystemRandom, now};
use rand_core::Rng;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};
use serde::{Deserialize, Serialize};
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
/// What it issued, and what of that is revoked.
const ISSUED: &str = "issued.toml";
/// Its list of revoked certificates, for the other parties.
pub(crate) const REVOKED: &str = "revoked.pem";
/// A list says until when it stands; it is made anew with every revocation.
const LIST_LIFE: Duration = AUTHORITY_LIFE;
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
    #[error("{0} is no list of issued certificates: {1}")]
    Issued(PathBuf, String),
    #[error("this authority issued no certificate of serial number {0}: see `willis tls list`")]
    NoSerial(String),
}

/// The certificates of one authority, oldest first.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Issued {
    #[serde(default)]
    pub(crate) certificates: Vec<IssuedCertificate>,
}

/// One of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuedCertificate {
    /// 16 bytes in hexadecimal.
    pub(crate) serial: String,
    /// In ms since 1970.
    pub(crate) issued: u64,
    /// In ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked: Option<u64>,
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
/// is there is replaced. Gives its serial number.
pub(crate) fn issue(
    folder: &Path,
    party: Party,
    hosts: &[String],
) -> Result<String, AuthorityError> {
    let issuer = issuer(folder, party)?;
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
    let mut serial = [0; 16];
    SystemRandom.fill_bytes(&mut serial);
    // Positive and of full length, whatever the encoding does with a leading bit or zero.
    serial[0] = serial[0] & 0x3f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let mut issued = issued(folder)?;
    issued.certificates.push(IssuedCertificate {
        serial: hex::encode(serial),
        issued: now().number(),
        revoked: None,
    });
    // Before it is issued: one that is not in the list could not be revoked.
    keep(folder, &issued)?;
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
    write(&folder.join(CERTIFICATE), &certificate)?;
    Ok(hex::encode(serial))
}

/// What the authority in a folder issued.
pub(crate) fn issued(folder: &Path) -> Result<Issued, AuthorityError> {
    let file = folder.join(ISSUED);
    match fs::read_to_string(&file) {
        Ok(text) => {
            toml::from_str(&text).map_err(|error| AuthorityError::Issued(file, error.to_string()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Issued::default()),
        Err(error) => Err(AuthorityError::File(file, error)),
    }
}

fn keep(folder: &Path, issued: &Issued) -> Result<(), AuthorityError> {
    let file = folder.join(ISSUED);
    let text = toml::to_string(issued)
        .map_err(|error| AuthorityError::Issued(file.clone(), error.to_string()))?;
    write(&file, &text)
}

/// Revokes a certificate and makes the list of all revoked ones anew; gives where the list lies.
pub(crate) fn revoke(folder: &Path, party: Party, serial: &str) -> Result<PathBuf, AuthorityError> {
    let mut issued = issued(folder)?;
    let found = issued
        .certificates
        .iter_mut()
        .find(|one| one.serial == serial);
    let one = found.ok_or_else(|| AuthorityError::NoSerial(serial.to_owned()))?;
    one.revoked.get_or_insert(now().number());
    keep(folder, &issued)?;
    let (this_update, next_update) = validity(LIST_LIFE);
    let revoked = issued.certificates.iter().filter_map(|one| {
        let serial = hex::decode(&one.serial).ok()?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(one.revoked?);
        Some(RevokedCertParams {
            serial_number: SerialNumber::from_slice(&serial),
            revocation_time: time.into(),
            reason_code: None,
            invalidity_date: None,
        })
    });
    let list = CertificateRevocationListParams {
        this_update,
        next_update,
        crl_number: SerialNumber::from(now().number()),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let pem = list.signed_by(&issuer(folder, party)?)?.pem()?;
    let file = folder.join(REVOKED);
    write(&file, &pem)?;
    Ok(file)
}

fn issuer(folder: &Path, party: Party) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
    let file = folder.join(AUTHORITY_KEY);
    let pem = fs::read_to_string(&file).map_err(|error| AuthorityError::File(file, error))?;
    let authority = KeyPair::from_pem(&Zeroizing::new(pem))?;
    Ok(Issuer::new(authority_params(party)?, authority))
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
