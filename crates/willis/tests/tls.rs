//! Certificates between institutions: wrong, expired, revoked and renewed ones, at a real service.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;

use std::path::Path;
use std::time::{Duration, SystemTime};

use client::{
    ClientError, Directory, Endpoint, Founding, NodeStatus, ServiceClient, ServiceName,
    TlsIdentity, sentence,
};
use dev::{Dev, done};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use scheme::InstitutionId;

const NODE: ServiceName = ServiceName::Node(InstitutionId::new(1));

/// Calls a service with this certificate.
async fn calls(
    founding: &Founding,
    identity: Option<&TlsIdentity>,
) -> Result<NodeStatus, ClientError> {
    let endpoint = founding.directory.endpoint(NODE, identity).unwrap();
    let client = ServiceClient::new(founding.consortium(), endpoint);
    client.get("/v1/status").await
}

/// A certificate that the second hospital's authority, or another one of its name, issued.
fn issued(folder: &Path, own_authority: bool, from_days: i64, to_days: i64) -> TlsIdentity {
    let authority = if own_authority {
        let pem = std::fs::read_to_string(folder.join("hospital-2/authority.key")).unwrap();
        KeyPair::from_pem(&pem).unwrap()
    } else {
        KeyPair::generate().unwrap()
    };
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "willis authority, institution 2");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let issuer = Issuer::new(params, authority);
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let now = SystemTime::now();
    let at = |days: i64| {
        let by = Duration::from_secs(days.unsigned_abs() * 24 * 60 * 60);
        if days < 0 { now - by } else { now + by }
    };
    (params.not_before, params.not_after) = (at(from_days).into(), at(to_days).into());
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let (chain, private) = (folder.join("try.pem"), folder.join("try.key"));
    std::fs::write(&chain, certificate.pem()).unwrap();
    std::fs::write(&private, key.serialize_pem()).unwrap();
    TlsIdentity::load(&chain, &private).unwrap()
}

fn own_identity(folder: &Path) -> TlsIdentity {
    let home = folder.join("hospital-2");
    TlsIdentity::load(&home.join("tls.pem"), &home.join("tls.key")).unwrap()
}

#[test]
fn a_wrong_expired_or_revoked_certificate_is_refused_and_the_next_one_is_taken() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("dev");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dev = Dev::start(&folder, &[]);
    let founding = Founding::open(&folder.join("founding")).unwrap();
    let status = |identity: Option<&TlsIdentity>| runtime.block_on(calls(&founding, identity));
    let old = own_identity(&folder);
    assert_eq!(status(None).unwrap().institution, 1);
    assert_eq!(status(Some(&old)).unwrap().institution, 1);
    let valid = issued(&folder, true, -1, 1);
    assert_eq!(status(Some(&valid)).unwrap().institution, 1);
    let refused = [
        ("of another authority", issued(&folder, false, -1, 1)),
        ("expired", issued(&folder, true, -10, -1)),
        ("not yet valid", issued(&folder, true, 1, 10)),
    ];
    for (what, identity) in refused {
        let why = status(Some(&identity)).unwrap_err();
        assert!(
            matches!(why, ClientError::NotAccepted(..)),
            "{what}: {}",
            sentence(&why)
        );
        assert!(
            status(None).is_ok(),
            "the service stays up after one {what}"
        );
    }
    dev.stop();

    // Revoked: the first hospital names the second's list.
    let home = folder.join("hospital-2");
    let home = home.to_str().unwrap();
    let serial = |line: &str| line.split_whitespace().next().unwrap().to_owned();
    let listed = done(&["tls", "list", "--folder", home]);
    let first = serial(listed.lines().next().unwrap());
    done(&["tls", "renew", "--folder", home]);
    done(&["tls", "revoke", "--folder", home, "--serial", &first]);
    let listed = done(&["tls", "list", "--folder", home]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(
        listed.lines().next().unwrap().contains("revoked"),
        "{listed}"
    );
    let config = folder.join("hospital-1/node.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.trim_end().to_owned() + "\nrevoked = [\"../hospital-2/revoked.pem\"]\n";
    std::fs::write(&config, text).unwrap();
    let dev = Dev::start(&folder, &[]);
    let why = status(Some(&old)).unwrap_err();
    assert!(
        matches!(why, ClientError::NotAccepted(..)),
        "{}",
        sentence(&why)
    );
    let renewed = own_identity(&folder);
    assert_eq!(status(Some(&renewed)).unwrap().institution, 1);
    assert!(status(None).is_ok());
    dev.stop();
}

/// Who answers under another party's certificate, or none that the directory names, is not believed.
#[test]
fn a_service_with_another_partys_certificate_is_not_believed() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("dev");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dev = Dev::start(&folder, &[]);
    let founding = Founding::open(&folder.join("founding")).unwrap();
    let directory: &Directory = &founding.directory;
    let address = directory.address(NODE).unwrap();
    let others = directory.institution(InstitutionId::new(2)).unwrap();
    let endpoint = Endpoint::new(NODE, address, others.authority.as_deref(), None).unwrap();
    let client = ServiceClient::new(founding.consortium(), endpoint);
    let answered: Result<NodeStatus, ClientError> = runtime.block_on(client.get("/v1/status"));
    let why = answered.unwrap_err();
    assert!(
        matches!(why, ClientError::Untrusted(..)),
        "{}",
        sentence(&why)
    );
    dev.stop();
}
