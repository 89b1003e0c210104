//! A hospital's gateway as its IT starts it, and a system of the hospital that calls it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part of it"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use crate::people::Person;
use crate::region::free_addresses;

/// How long a gateway may take to listen, and an answer to come.
const BOUND: Duration = Duration::from_secs(60);
/// The systems of these tests and their P-384 keys. The keys have the same name: what tells systems apart is
/// the keys alone.
const KEYS: [(&str, &str); 2] = [
    ("his", include_str!("../keys/es384.pem")),
    (
        "archive",
        include_str!("../../../gateway/tests/keys/other-es384.pem"),
    ),
];
const KID: &str = "system";

/// A gateway that runs.
pub struct Gateway {
    process: Child,
    pub address: String,
    folder: PathBuf,
    config: PathBuf,
}

fn key(system: &str) -> EncodingKey {
    let (_, pem) = KEYS.iter().find(|(id, _)| *id == system).unwrap();
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    EncodingKey::from_ec_der(&BASE64.decode(text).unwrap())
}

impl Gateway {
    /// Starts one for a doctor whose keystore is certified, in a folder of its own. `more` is further
    /// configuration.
    pub async fn start(dev: &Path, home: &Path, doctor: &Person, name: &str, more: &str) -> Self {
        let folder = home.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (id, _) in KEYS {
            let mut jwk = Jwk::from_encoding_key(&key(id), Algorithm::ES384).unwrap();
            jwk.common.key_id = Some(KID.to_owned());
            let keys = json!({ "keys": [jwk] }).to_string();
            std::fs::write(folder.join(format!("{id}.jwks")), keys).unwrap();
        }
        let [listen] = free_addresses();
        let config = folder.join("gateway.toml");
        let text = format!(
            "founding = {founding:?}\nkeystore = {keystore:?}\npassphrase_file = {passphrase:?}\n\
             folder = \"state\"\nlisten = \"{listen}\"\n{more}\n\
             [[systems]]\nid = \"his\"\nname = \"Hospital information system\"\nkeys = \"his.jwks\"\n\
             scopes = \"system/*.crus\"\n\
             [[systems]]\nid = \"archive\"\nkeys = \"archive.jwks\"\nscopes = \"system/DocumentReference.rs\"\n",
            founding = dev.join("founding"),
            keystore = doctor.keystore,
            passphrase = doctor.keystore.with_extension("passphrase"),
        );
        std::fs::write(&config, text).unwrap();
        let mut gateway = Self {
            process: Self::run(&config),
            address: format!("http://{listen}"),
            folder,
            config,
        };
        gateway.listens().await;
        gateway
    }

    fn run(config: &Path) -> Child {
        let log = std::fs::File::create(config.with_extension("log")).unwrap();
        Command::new(env!("CARGO_BIN_EXE_willis"))
            .args(["gateway", "--until-input-ends", "--config"])
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    async fn listens(&mut self) {
        let end = Instant::now() + BOUND;
        let metadata = format!("{}/fhir/metadata", self.address);
        while Client::new().get(&metadata).send().await.is_err() {
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "{}", self.log());
            assert!(Instant::now() < end, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.config.with_extension("log")).unwrap()
    }

    /// Its folder.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends it as a crash does, and starts it again.
    pub async fn crashes(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = Self::run(&self.config);
        self.listens().await;
    }

    /// A system that calls it, with the scopes it asks for.
    pub async fn system(&self, id: &str, scope: &str) -> System {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let http = Client::new();
        let known = format!("{}/fhir/.well-known/smart-configuration", self.address);
        let known: Value = http.get(known).send().await.unwrap().json().await.unwrap();
        let endpoint = known["token_endpoint"].as_str().unwrap();
        let claims = json!({
            "iss": id, "sub": id, "aud": endpoint,
            "exp": jsonwebtoken::get_current_timestamp() + 240,
            "jti": format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)),
        });
        let mut header = Header::new(Algorithm::ES384);
        header.kid = Some(KID.to_owned());
        let assertion = encode(&header, &claims, &key(id)).unwrap();
        let form = [
            ("grant_type", "client_credentials"),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", &assertion),
            ("scope", scope),
        ];
        let body: String = form
            .iter()
            .map(|(name, value)| {
                format!("{name}={}&", value.replace('+', "%2B").replace('*', "%2A"))
            })
            .collect();
        let mut system = System {
            http,
            base: format!("{}/fhir", self.address),
            token: String::new(),
            asked: (endpoint.to_owned(), body),
        };
        let (status, given) = system.asks_for_a_token().await;
        assert_eq!(status, 200, "{given}");
        system.token = given["access_token"].as_str().unwrap().to_owned();
        system
    }
}

#[allow(clippy::print_stderr, reason = "of a test that failed")]
impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A system of a hospital.
pub struct System {
    http: Client,
    pub base: String,
    token: String,
    /// Where and with which assertion it asked for its token.
    asked: (String, String),
}

impl System {
    /// Asks for a token with its one assertion.
    pub async fn asks_for_a_token(&self) -> (u16, Value) {
        let (endpoint, body) = self.asked.clone();
        let asked = self
            .http
            .post(endpoint)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        let given = asked.send().await.unwrap();
        (given.status().as_u16(), given.json().await.unwrap())
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        let url = match path.starts_with("http") {
            true => path.to_owned(),
            false => format!("{}{path}", self.base),
        };
        let call = self.http.request(method, url).bearer_auth(&self.token);
        let call = match body {
            None => call,
            Some(body) => call
                .header("content-type", "application/fhir+json")
                .body(body.to_string()),
        };
        call.send().await.unwrap()
    }

    /// A call that must be answered with this status: the resource.
    pub async fn does(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        status: u16,
    ) -> Value {
        let answer = self.call(method.clone(), path, body).await;
        let (found, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(found, status, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn gets(&self, path: &str) -> Value {
        self.does(Method::GET, path, None, 200).await
    }

    pub async fn posts(&self, path: &str, body: &Value) -> Value {
        let status = if path.is_empty() { 200 } else { 201 };
        self.does(Method::POST, path, Some(body), status).await
    }

    /// A document's bytes.
    pub async fn bytes(&self, url: &str) -> Vec<u8> {
        let answer = self.call(Method::GET, url, None).await;
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap().to_vec()
    }

    /// An answer in XML.
    pub async fn xml(&self, path: &str) -> String {
        let url = format!("{}{path}", self.base);
        let call = self.http.get(url).bearer_auth(&self.token);
        let answer = call
            .header("accept", "application/fhir+xml")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let kind = answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(kind.starts_with("application/fhir+xml"), "{kind}");
        answer.text().await.unwrap()
    }

    /// Sends bytes as a Binary of their own; gives its address.
    pub async fn uploads(&self, kind: &str, bytes: Vec<u8>) -> String {
        let call = self
            .http
            .post(format!("{}/Binary", self.base))
            .bearer_auth(&self.token);
        let answer = call
            .header("content-type", kind)
            .body(bytes)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201);
        answer.headers()["location"].to_str().unwrap().to_owned()
    }

    /// Asks again until it is not found: the nodes that the gateway asks may be a block behind those that
    /// said that something is over.
    pub async fn no_longer_has(&self, path: &str) {
        let end = Instant::now() + BOUND;
        while self.call(Method::GET, path, None).await.status() != 404 {
            assert!(Instant::now() < end, "{path} is still there");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Asks again until the answer is as it should be.
    pub async fn becomes(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + BOUND;
        loop {
            let found = self.gets(path).await;
            if holds(&found) {
                return found;
            }
            assert!(Instant::now() < end, "{path}: {found}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// A submission (ITI-65) of documents: media type, title and bytes, each in a Binary of the transaction or,
/// with an address, sent before.
pub fn submission(unique: &str, subject: &Value, documents: &[(&str, &str, &[u8])]) -> Value {
    let uuid = |number: usize| format!("urn:uuid:00000000-0000-4000-8000-{unique:0>8}{number:04}");
    let mut entries = vec![json!({
        "fullUrl": uuid(0),
        "resource": {
            "resourceType": "List",
            "meta": { "profile": ["https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.Minimal.SubmissionSet"] },
            "extension": [{
                "url": "https://profiles.ihe.net/ITI/MHD/StructureDefinition/ihe-sourceId",
                "valueIdentifier": { "value": "urn:oid:1.2.3.4" },
            }],
            "identifier": [{ "system": "urn:ietf:rfc:3986", "value": format!("urn:oid:1.2.3.{unique}"), "use": "usual" }],
            "status": "current",
            "mode": "working",
            "code": { "coding": [{ "system": "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes", "code": "submissionset" }] },
            "subject": subject,
            "date": "2026-11-27T08:00:00Z",
            "entry": (0..documents.len()).map(|number| json!({ "item": { "reference": uuid(1 + 2 * number) } })).collect::<Vec<_>>(),
        },
        "request": { "method": "POST", "url": "List" },
    })];
    for (number, (kind, title, bytes)) in documents.iter().enumerate() {
        entries.push(json!({
            "fullUrl": uuid(1 + 2 * number),
            "resource": {
                "resourceType": "DocumentReference",
                "meta": { "profile": ["https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.Minimal.DocumentReference"] },
                "masterIdentifier": { "system": "urn:ietf:rfc:3986", "value": format!("urn:oid:1.2.4.{unique}.{number}") },
                "status": "current",
                "type": { "coding": [{ "system": "http://loinc.org", "code": "18842-5" }] },
                "subject": subject,
                "description": title,
                "content": [{ "attachment": { "contentType": kind, "title": title, "size": bytes.len(), "url": uuid(2 + 2 * number) } }],
            },
            "request": { "method": "POST", "url": "DocumentReference" },
        }));
        entries.push(json!({
            "fullUrl": uuid(2 + 2 * number),
            "resource": { "resourceType": "Binary", "contentType": kind, "data": BASE64.encode(bytes) },
            "request": { "method": "POST", "url": "Binary" },
        }));
    }
    json!({
        "resourceType": "Bundle",
        "meta": { "profile": ["https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.Minimal.ProvideBundle"] },
        "type": "transaction",
        "entry": entries,
    })
}
