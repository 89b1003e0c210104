//! The founding ceremony by its commands, and a whole consortium of processes that stands on one.
#![allow(clippy::unwrap_used, reason = "a test")]

mod dev;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use client::{
    ClientError, Endpoint, Founding, IdempotencyKey, NodeStatus, ServiceClient, ServiceName,
};
use dev::{Dev, done, refused};
use scheme::InstitutionId;

/// Every party's keys and statement, each in its own folder; gives the arguments of a draft.
fn parties(root: &Path) -> Vec<String> {
    let mut statements = Vec::new();
    for (id, tier) in [
        (1, "tertiary"),
        (2, "secondary"),
        (3, "secondary"),
        (4, "community"),
    ] {
        let folder = root.join(format!("hospital-{id}"));
        let url = format!("https://127.0.0.1:{}", 9_000 + id);
        done(&[
            "genesis",
            "founder",
            "--institution",
            &id.to_string(),
            "--name",
            &format!("Hospital {id}"),
            "--tier",
            tier,
            "--hospital",
            &url,
            "--node",
            &url,
            "--consensus",
            &format!("127.0.0.1:{}", 9_100 + id),
            "--folder",
            folder.to_str().unwrap(),
        ]);
        statements.push("--founder".to_owned());
        statements.push(folder.join("founder.toml").display().to_string());
    }
    for role in ["centre", "query", "cloud"] {
        let folder = root.join(role);
        let url = "https://127.0.0.1:9200";
        let folder_text = folder.to_str().unwrap();
        done(&[
            "genesis",
            "service",
            "--role",
            role,
            "--address",
            url,
            "--folder",
            folder_text,
        ]);
        statements.push("--service".to_owned());
        statements.push(folder.join("service.toml").display().to_string());
    }
    statements
}

fn draft(statements: &[String], out: &Path) {
    let mut arguments = vec!["genesis", "draft", "--out", out.to_str().unwrap()];
    arguments.extend(statements.iter().map(String::as_str));
    done(&arguments);
}

fn sign(founding: &Path, folder: &Path) -> Vec<String> {
    let texts = ["genesis", "sign", founding.to_str().unwrap(), "--folder"];
    let mut arguments: Vec<String> = texts.map(str::to_owned).into();
    arguments.push(folder.display().to_string());
    arguments.push("--yes".to_owned());
    arguments
}

fn texts(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn every_founder_compares_and_signs_and_nothing_starts_before() {
    let root = tempfile::tempdir().unwrap();
    let statements = parties(root.path());
    let founding = root.path().join("founding");
    draft(&statements, &founding);
    let home = |id: u32| root.path().join(format!("hospital-{id}"));

    // Private keys are their owner's alone, and no statement holds one.
    for name in ["institution.key", "node.key", "tls.key", "authority.key"] {
        let file = home(1).join(name);
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let secret = fs::read_to_string(&file).unwrap();
        let statement = fs::read_to_string(home(1).join("founder.toml")).unwrap();
        assert!(!statement.contains(secret.trim()), "{name}");
    }
    let again = refused(&[
        "genesis",
        "service",
        "--role",
        "query",
        "--address",
        "https://127.0.0.1:1",
        "--folder",
        home(1).to_str().unwrap(),
    ]);
    assert!(again.contains("hospital-1"), "{again}");

    let config = home(1).join("node.toml");
    let text = "founding = \"../founding\"\ninstitution = 1\nkey = \"node.key\"\nfolder = \"data\"\nlisten = \"127.0.0.1:9101\"\nserve = \"127.0.0.1:9001\"\n[tls]\ncertificate = \"tls.pem\"\nkey = \"tls.key\"\n";
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap().to_owned();
    for id in 1..=4 {
        let missing = refused(&["node", "--config", &config, "--check"]);
        assert!(
            missing.contains(&format!("{} of the 4 signatures", id - 1)),
            "{missing}"
        );
        done(&texts(&sign(&founding, &home(id))));
    }
    let whole = done(&["genesis", "check", founding.to_str().unwrap()]);
    assert!(whole.contains("The founding stands"), "{whole}");
    let checked = done(&["node", "--config", &config, "--check"]);
    for part in [
        "serve = \"127.0.0.1:9001\"",
        "consensus key",
        "The configuration is valid.",
    ] {
        assert!(checked.contains(part), "{part}: {checked}");
    }
    // Another hospital's key is none of this node's.
    fs::copy(home(2).join("node.key"), home(1).join("node.key")).unwrap();
    let wrong = refused(&["node", "--config", &config, "--check"]);
    assert!(
        wrong.contains("is not the one that the founding names"),
        "{wrong}"
    );
    // A key that others can read is refused.
    let file = home(1).join("node.key");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let open = refused(&["node", "--config", &config, "--check"]);
    assert!(open.contains("node.key"), "{open}");
    fs::remove_file(&file).unwrap();
    let gone = refused(&["node", "--config", &config, "--check"]);
    assert!(gone.contains("node.key"), "{gone}");
}

/// Whoever draws the founding up cannot put another key, address or authority under a founder's name.
#[test]
fn a_founder_does_not_sign_what_says_something_else_of_it() {
    let root = tempfile::tempdir().unwrap();
    let statements = parties(root.path());
    let honest = fs::read_to_string(root.path().join("hospital-2/founder.toml")).unwrap();
    let other = fs::read_to_string(root.path().join("hospital-3/founder.toml")).unwrap();
    let line = |text: &str, name: &str| {
        let found = text.lines().find(|line| line.starts_with(name));
        found.unwrap().to_owned()
    };
    let changes = [
        (
            "key",
            line(&honest, "key = "),
            format!("key = \"{}\"", hex_of_a_point()),
        ),
        (
            "node",
            line(&honest, "node = "),
            "node = \"https://127.0.0.1:1\"".to_owned(),
        ),
        (
            "tier",
            line(&honest, "tier = "),
            "tier = \"community\"".to_owned(),
        ),
        ("authority", authority(&honest), authority(&other)),
    ];
    for (number, (what, from, to)) in changes.into_iter().enumerate() {
        let forged = root.path().join(format!("forged-{number}.toml"));
        let text = honest.replacen(&from, &to, 1);
        assert_ne!(text, honest, "{what}");
        fs::write(&forged, text).unwrap();
        let mut changed = statements.clone();
        let place = changed
            .iter()
            .position(|one| one.contains("hospital-2"))
            .unwrap();
        changed[place] = forged.display().to_string();
        let founding = root.path().join(format!("founding-{number}"));
        draft(&changed, &founding);
        let said = refused(&texts(&sign(&founding, &root.path().join("hospital-2"))));
        assert!(said.contains("Do not sign"), "{what}: {said}");
        assert!(!founding.join("signatures/2").exists(), "{what}");
        // The others see nothing wrong with their own entries.
        done(&texts(&sign(&founding, &root.path().join("hospital-1"))));
    }
}

/// A key that verifies, of nobody here.
fn hex_of_a_point() -> String {
    let key = scheme::SigningKey::from_seed([42; 32]).verifying_key();
    key.as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The certificate within a statement.
fn authority(statement: &str) -> String {
    let from = statement.find("-----BEGIN").unwrap();
    statement[from..].to_owned()
}

async fn status(founding: &Founding, node: u32) -> NodeStatus {
    let service = ServiceName::Node(InstitutionId::new(node));
    let endpoint = founding.directory.endpoint(service, None).unwrap();
    let client = ServiceClient::new(founding.consortium(), endpoint);
    client.get("/v1/status").await.unwrap()
}

#[test]
fn a_development_consortium_runs_and_is_found_again() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("dev");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dev = Dev::start(&folder, &[]);
    let first = dev.ready.clone();
    let services = dev.services();
    dev.assert_every_role_runs();

    let founding = PathBuf::from(first["founding"].as_str().unwrap());
    let founding = Founding::open(&founding).unwrap();
    let here = founding.consortium();
    let height = runtime.block_on(async {
        for service in &services {
            let address = service["address"].as_str().unwrap();
            let authority = service["authority"].as_str().unwrap();
            let authority = fs::read_to_string(authority).unwrap();
            // The name is bound by a call's signature only; here nothing is signed.
            let endpoint = |authority: &str| {
                Endpoint::new(ServiceName::Query, address, Some(authority), None).unwrap()
            };
            let client = ServiceClient::new(here, endpoint(&authority));
            let document: serde_json::Value = client.get("/v1/openapi.json").await.unwrap();
            assert_eq!(document["openapi"], "3.1.0", "{service}");
            let unknown = client.get::<serde_json::Value>("/v1/nothing").await;
            assert!(
                matches!(&unknown, Err(ClientError::Refused(problem)) if problem.status() == 404)
            );
        }
        // A service is judged by its own party's authority alone.
        let centre = founding.directory.centre.authority.as_deref();
        let query = &founding.directory.query.address;
        let endpoint = Endpoint::new(ServiceName::Query, query, centre, None).unwrap();
        let stranger = ServiceClient::new(here, endpoint);
        let untrusted = stranger.get_bytes("/v1/openapi.json").await;
        assert!(matches!(
            untrusted,
            Err(ClientError::Untrusted(ServiceName::Query, _))
        ));
        // And users sign.
        let endpoint = founding
            .directory
            .endpoint(ServiceName::Query, None)
            .unwrap();
        let unsigned = ServiceClient::new(here, endpoint);
        let body = serde_json::json!({});
        let key = IdempotencyKey::random();
        let refused = unsigned
            .post::<serde_json::Value>("/v1/inboxes", &body, &key)
            .await;
        assert!(matches!(&refused, Err(ClientError::Refused(problem)) if problem.status() == 401));
        status(&founding, 1).await.height
    });
    dev.stop();

    let dev = Dev::start(&folder, &[]);
    assert_eq!(dev.ready["consortium"], first["consortium"]);
    assert_eq!(dev.services(), services);
    let found = runtime.block_on(status(&founding, 1));
    assert!(found.height >= height, "{} was {height}", found.height);
    dev.stop();
}
