//! A role's configuration: one TOML file, single values overridden by the environment, everything
//! explained and validated by `--check`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use client::{Founding, FoundingError, Members, TlsError, TlsIdentity};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use services::ServerTls;
use thiserror::Error;
use toml::{Table, Value};

/// A role's file.
pub(crate) trait RoleFile: DeserializeOwned {
    /// The subcommand.
    const ROLE: &'static str;
    /// Every field that there can be, with its meaning. A table's are joined by dots.
    const FIELDS: &'static [(&'static str, &'static str)];

    /// Where traces go, if anywhere.
    fn traces(&self) -> Option<&str>;
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ConfigurationError {
    #[error("{0} cannot be read: {1}; check the path and its permissions")]
    File(PathBuf, #[source] io::Error),
    #[error("{0} is no configuration of a {1}: {2}")]
    Malformed(PathBuf, &'static str, #[source] Box<toml::de::Error>),
    #[error(
        "the environment variable {0} overrides no field of this role: `--check` lists those that there are"
    )]
    Variable(String),
    #[error("{}", client::sentence(.0))]
    Founding(#[from] FoundingError),
    #[error("{}", client::sentence(.0))]
    Tls(#[from] TlsError),
    #[error("{}", client::sentence(.0))]
    Server(#[from] services::ServerError),
    #[error("{0} is no list of revoked certificates in PEM")]
    Revoked(PathBuf),
}

/// A configuration as it holds: the file with what the environment overrides.
pub(crate) struct Configuration<F> {
    pub(crate) file: F,
    base: PathBuf,
    effective: Table,
    overridden: Vec<&'static str>,
}

/// A service's TLS.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsFile {
    /// PEM, the own certificate first.
    pub(crate) certificate: PathBuf,
    /// PEM.
    pub(crate) key: PathBuf,
    /// PEM lists of revoked certificates.
    #[serde(default)]
    pub(crate) revoked: Vec<PathBuf>,
}

/// The fields that every role has.
pub(crate) const FOUNDING: (&str, &str) = (
    "founding",
    "folder with the founding document, the directory of services and the founders' signatures",
);
pub(crate) const TLS_CERTIFICATE: (&str, &str) = (
    "tls.certificate",
    "PEM file with this service's certificate; without tls it listens on a loopback address only",
);
pub(crate) const TLS_KEY: (&str, &str) = ("tls.key", "PEM file with the certificate's private key");
pub(crate) const TLS_REVOKED: (&str, &str) = (
    "tls.revoked",
    "list of PEM files with revoked certificates (CRL) of the parties; none by default",
);

pub(crate) const WATCH: (&str, &str) = (
    "watch",
    "address and port at which the role is watched (/live, /ready, /metrics), in plain HTTP: a loopback address, or one in the operator's network; without it nothing listens",
);

pub(crate) const TRACES: (&str, &str) = (
    "traces",
    "http://host:port of an OpenTelemetry collector (OTLP) to which spans are sent; without it none are made",
);

impl<F: RoleFile> Configuration<F> {
    /// Reads a file and what the environment overrides: `WILLIS_ROLE_FIELD`, dots as underscores.
    pub(crate) fn load(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigurationError> {
        let text = fs::read_to_string(path)
            .map_err(|error| ConfigurationError::File(path.to_owned(), error))?;
        let malformed =
            |error| ConfigurationError::Malformed(path.to_owned(), F::ROLE, Box::new(error));
        let mut effective: Table = toml::from_str(&text).map_err(malformed)?;
        let prefix = format!("WILLIS_{}_", F::ROLE.to_uppercase());
        let mut overridden = Vec::new();
        for (variable, value) in environment {
            let Some(name) = variable.strip_prefix(&prefix) else {
                continue;
            };
            let field = F::FIELDS
                .iter()
                .map(|(field, _)| *field)
                .find(|field| field.replace('.', "_").to_uppercase() == name)
                .ok_or(ConfigurationError::Variable(variable.clone()))?;
            set(&mut effective, field, value_of(&value));
            overridden.push(field);
        }
        // A value of the environment is read as the file is, so its error says the same.
        let file = effective.clone().try_into().map_err(malformed)?;
        let base = path.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(Self {
            file,
            base,
            effective,
            overridden,
        })
    }

    /// A path of the file: relative ones are relative to the file's folder.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// The founding that it names, with every signature checked.
    pub(crate) fn founding(&self, folder: &Path) -> Result<Founding, ConfigurationError> {
        Ok(Founding::open(&self.path(folder))?)
    }

    /// The service's own certificate.
    pub(crate) fn identity(
        &self,
        tls: Option<&TlsFile>,
    ) -> Result<Option<TlsIdentity>, ConfigurationError> {
        let load =
            |tls: &TlsFile| TlsIdentity::load(&self.path(&tls.certificate), &self.path(&tls.key));
        Ok(tls.map(load).transpose()?)
    }

    /// What the service speaks at its own address.
    pub(crate) fn server_tls(
        &self,
        tls: Option<&TlsFile>,
        founding: &Founding,
        members: &Members,
    ) -> Result<Option<ServerTls>, ConfigurationError> {
        let (Some(tls), Some(identity)) = (tls, self.identity(tls)?) else {
            return Ok(None);
        };
        let mut revoked = Vec::new();
        for file in &tls.revoked {
            let file = self.path(file);
            let pem =
                fs::read(&file).map_err(|error| ConfigurationError::File(file.clone(), error))?;
            for list in CertificateRevocationListDer::pem_slice_iter(&pem) {
                revoked.push(list.map_err(|_| ConfigurationError::Revoked(file.clone()))?);
            }
        }
        Ok(Some(ServerTls::new(
            identity,
            &founding.directory,
            members,
            revoked,
        )?))
    }

    /// Every field with its value and meaning, for `--check`.
    pub(crate) fn explain(&self) -> String {
        let mut text = format!("willis {}\n", F::ROLE);
        for (field, meaning) in F::FIELDS {
            let value = match get(&self.effective, field) {
                Some(value) => value.to_string(),
                None => "(not set)".to_owned(),
            };
            let from = if self.overridden.contains(field) {
                format!(
                    " (from WILLIS_{}_{})",
                    F::ROLE.to_uppercase(),
                    field.replace('.', "_").to_uppercase()
                )
            } else {
                String::new()
            };
            text += &format!("\n{field} = {value}{from}\n    {meaning}\n");
        }
        text
    }
}

/// A value of the environment: TOML if it is any, else a text.
fn value_of(text: &str) -> Value {
    let document = format!("value = {text}");
    match toml::from_str::<Table>(&document) {
        Ok(mut table) => table.remove("value").unwrap_or(Value::String(text.into())),
        Err(_) => Value::String(text.to_owned()),
    }
}

fn set(table: &mut Table, field: &str, value: Value) {
    match field.split_once('.') {
        None => {
            table.insert(field.to_owned(), value);
        }
        Some((head, rest)) => {
            let inner = table
                .entry(head)
                .or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

fn get<'a>(table: &'a Table, field: &str) -> Option<&'a Value> {
    match field.split_once('.') {
        None => table.get(field),
        Some((head, rest)) => get(table.get(head)?.as_table()?, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        folder: PathBuf,
        count: u32,
        inner: Option<Inner>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        name: String,
    }

    impl RoleFile for Example {
        const ROLE: &'static str = "example";
        const FIELDS: &'static [(&'static str, &'static str)] = &[
            ("folder", "where it lies"),
            ("count", "how many"),
            ("inner.name", "whose it is"),
        ];

        fn traces(&self) -> Option<&str> {
            None
        }
    }

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Example, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("example.toml");
        fs::write(&file, text).unwrap();
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Configuration::load(&file, environment)
            .map(|configuration| configuration.file)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_overrides_single_values_and_nothing_unknown_is_taken() {
        let text = "folder = \"data\"\ncount = 1\n";
        let plain = load(text, &[("PATH", "/bin"), ("WILLIS_OTHER_COUNT", "9")]).unwrap();
        assert_eq!((plain.count, plain.inner), (1, None));
        let changed = [
            ("WILLIS_EXAMPLE_COUNT", "2"),
            ("WILLIS_EXAMPLE_FOLDER", "/srv/else"),
            ("WILLIS_EXAMPLE_INNER_NAME", "x y"),
        ];
        let expected = Example {
            folder: "/srv/else".into(),
            count: 2,
            inner: Some(Inner { name: "x y".into() }),
        };
        assert_eq!(load(text, &changed).unwrap(), expected);
        let unknown = load(text, &[("WILLIS_EXAMPLE_COUNTS", "2")]).unwrap_err();
        assert!(unknown.contains("WILLIS_EXAMPLE_COUNTS"), "{unknown}");
        let wrong = load(text, &[("WILLIS_EXAMPLE_COUNT", "many")]).unwrap_err();
        assert!(wrong.contains("count"), "{wrong}");
        let unknown = load("folder = \"\"\ncount = 1\nmore = 2\n", &[]).unwrap_err();
        assert!(unknown.contains("more"), "{unknown}");
    }
}
