//! Binaries: documents' bytes, as they are (ITI-68), and bytes that are sent before the submission that
//! refers to them. Both are streamed: memory does not grow with a study.

use std::io::{BufReader, Read as _, Write as _};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::answer::{Answer, BODY_BYTES_MAX, Call, Headers, essence, room_for};
use super::audit;
use super::outcome::Refused;
use super::xml::{from_xml, root_of};
use crate::gateway::Gateway;
use crate::smart::Act;

/// Bytes of one upload: as long as a file of a record can be.
const UPLOAD_BYTES_MAX: u64 = record::FILE_BYTES_MAX;
/// What may wait of one system.
struct Quota {
    uploads: usize,
    bytes: u64,
}

/// The slices of two studies of 2,000, and 96 documents beside them; 512 GiB, which are two uploads of the
/// longest kind.
const QUOTA: Quota = Quota {
    uploads: 2 * 2_000 + 96,
    bytes: 2 * UPLOAD_BYTES_MAX,
};
/// After how many bytes of an upload it is counted again what waits, since others come in meanwhile: 1 GiB,
/// by which each of those that come at a time can exceed the quota until it is refused.
const COUNTED_BYTES: u64 = 1 << 30;
/// Bytes that are read from a file at a time.
const PIECE: usize = 64 * 1024;

/// `POST Binary`: takes bytes of any type for a submission that follows; they wait for a day.
pub(crate) async fn create(call: Call, request: Request) -> Result<Answer, Refused> {
    call.may(Act::Create, "Binary")?;
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    if kind.is_empty() || kind.len() > record::MEDIA_TYPE_BYTES_MAX {
        return Err(Refused::invalid(
            "the bytes have no Content-Type, or one that is too long; say what they are",
        ));
    }
    let id = call.gateway.fresh_id();
    let uploads = Uploads {
        folder: call.gateway.uploads(),
        owner: owner_of(&call.caller.id),
    };
    let said = uploads
        .take(&id, &kind, request.into_body(), &QUOTA)
        .await?;
    let resource = json!({
        "resourceType": "Binary",
        "id": id,
        "meta": { "versionId": "1" },
        "contentType": said,
    });
    let location = call.gateway.address_of("Binary", &id);
    Ok(Answer::created(resource, location))
}

/// The uploads of one system. Whose they are stands in their names: no other system can refer to them.
#[derive(Clone)]
struct Uploads {
    folder: PathBuf,
    owner: String,
}

/// An upload that is being written: gone with this, also when the client goes away, unless it is kept.
struct Part(Option<PathBuf>);

impl Part {
    fn path(&self) -> &FilePath {
        self.0.as_deref().unwrap_or(FilePath::new(""))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let Some(path) = self.0.take() else {
            return;
        };
        let remove = move || {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, "an upload that ended early cannot be removed now; it goes in a day");
            }
        };
        // To remove a long file takes a while, for which no other call is held up.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

impl Uploads {
    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.{}", self.owner))
    }

    /// Takes an upload; gives the type that its bytes are said to have.
    async fn take(
        &self,
        id: &str,
        kind: &str,
        body: Body,
        quota: &Quota,
    ) -> Result<String, Refused> {
        let path = self.folder.join(format!("{id}.{}.part", self.owner));
        // What is made here and not taken any more is removed with what is returned.
        let (file, part) = blocking(move || {
            let file = std::fs::File::create_new(&path).map_err(not_kept)?;
            Ok((file, Part(Some(path))))
        })
        .await?;
        let length = self
            .keep(tokio::fs::File::from_std(file), body, quota)
            .await?;
        let essence = essence(kind);
        let form = match essence.to_ascii_lowercase().as_str() {
            "application/fhir+json" | "application/json+fhir" => Some(Form::Json),
            "application/fhir+xml" | "application/xml+fhir" => Some(Form::Xml),
            _ => None,
        };
        let (kind, whole) = (kind.to_owned(), self.path(id));
        // What stands inside a resource is read whole.
        let room = match form {
            Some(_) => Some(room_for(length).await?),
            None => None,
        };
        blocking(move || {
            let (mut part, _room) = (part, room);
            let inner = form.map(|form| unwrap(part.path(), form)).transpose()?;
            std::fs::rename(part.path(), whole).map_err(not_kept)?;
            part.0 = None;
            Ok(inner.flatten().unwrap_or(kind))
        })
        .await
    }

    async fn keep(
        &self,
        mut file: tokio::fs::File,
        body: Body,
        quota: &Quota,
    ) -> Result<u64, Refused> {
        self.must_fit(quota).await?;
        let mut stream = body.into_data_stream();
        let (mut length, mut counted) = (0, 0);
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|_| {
                Refused::invalid("the bytes ended before their length; send them again")
            })?;
            length += piece.len() as u64;
            if length > UPLOAD_BYTES_MAX {
                return Err(Refused::too_long(
                    "a document has at most 256 GiB; split it",
                ));
            }
            file.write_all(&piece).await.map_err(not_kept)?;
            if length - counted >= COUNTED_BYTES {
                counted = length;
                self.must_fit(quota).await?;
            }
        }
        file.flush().await.map_err(not_kept)?;
        file.sync_all().await.map_err(not_kept)?;
        self.must_fit(quota).await?;
        Ok(length)
    }

    /// Checks what waits of this system, with the upload that is being written.
    async fn must_fit(&self, quota: &Quota) -> Result<(), Refused> {
        let own = self.clone();
        let (uploads, bytes) = blocking(move || own.waiting().map_err(not_kept)).await?;
        if uploads > quota.uploads {
            return Err(Refused {
                status: StatusCode::TOO_MANY_REQUESTS,
                code: "throttled",
                ..Refused::invalid(format!(
                    "{} uploads of this system wait; submit what refers to them, or wait until they go, a day after they came",
                    quota.uploads
                ))
            });
        }
        if bytes > quota.bytes {
            return Err(Refused::too_long(format!(
                "more than {} bytes of this system would wait; submit what refers to them first, or wait until they go, a day after they came",
                quota.bytes
            )));
        }
        Ok(())
    }

    /// How many uploads of this system there are, whole or not, and how many bytes they have.
    fn waiting(&self) -> std::io::Result<(usize, u64)> {
        let (mut uploads, mut bytes) = (0, 0);
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_string_lossy().split('.').nth(1) != Some(&self.owner) {
                continue;
            }
            // One that went meanwhile waits no more.
            if let Ok(found) = entry.metadata() {
                uploads += 1;
                bytes += found.len();
            }
        }
        Ok((uploads, bytes))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is what map_err takes")]
fn not_kept(error: std::io::Error) -> Refused {
    Refused::failed(format!(
        "the bytes cannot be kept: {error}; tell the hospital's IT"
    ))
}

/// Work with files, beside the calls.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    let worked = tokio::task::spawn_blocking(work).await;
    worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// How a resource is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Xml,
}

/// Takes a Binary around the bytes of a file off, and gives the type that it says they have. None if there
/// is none around them: another resource is a document as it is.
fn unwrap(path: &FilePath, form: Form) -> Result<Option<String>, Refused> {
    #[derive(Deserialize)]
    struct Resource {
        #[serde(rename = "resourceType")]
        kind: String,
    }
    let file = std::fs::File::open(path).map_err(not_kept)?;
    let length = file.metadata().map_err(not_kept)?.len();
    let source = BufReader::new(&file);
    let kind = match form {
        Form::Json => serde_json::from_reader(source)
            .ok()
            .map(|Resource { kind }| kind),
        Form::Xml => root_of(source),
    };
    if kind.as_deref() != Some("Binary") {
        return Ok(None);
    }
    if length > BODY_BYTES_MAX as u64 {
        return Err(Refused::too_long(
            "a Binary as a resource has at most 64 MiB; send the bytes themselves, with their own Content-Type",
        ));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(not_kept)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Refused::invalid("the body is not UTF-8; send it as UTF-8"))?;
    let binary = match form {
        Form::Json => serde_json::from_str(&text).map_err(|error| {
            Refused::invalid(format!(
                "the body is no JSON: {error}; send what its writer wrote"
            ))
        })?,
        Form::Xml => from_xml(text.trim_start_matches('\u{feff}'))
            .map_err(|error| Refused::invalid(error.to_string()))?,
    };
    let said = binary["contentType"].as_str().unwrap_or_default();
    if said.is_empty() || said.len() > record::MEDIA_TYPE_BYTES_MAX {
        return Err(Refused::invalid(
            "the Binary has no contentType, or one that is too long; say what its bytes are",
        ));
    }
    // FHIR lets base64 be broken into lines.
    let mut data = binary["data"].as_str().unwrap_or_default().to_owned();
    data.retain(|c| !c.is_ascii_whitespace());
    let data = BASE64
        .decode(data)
        .map_err(|_| Refused::invalid("the Binary's data is no base64; encode the bytes"))?;
    let mut file = std::fs::File::create(path).map_err(not_kept)?;
    file.write_all(&data).map_err(not_kept)?;
    file.sync_all().map_err(not_kept)?;
    Ok(Some(said.to_owned()))
}

fn owner_of(caller: &str) -> String {
    hex::encode(&scheme::sha256(caller.as_bytes()).as_bytes()[..8])
}

/// An upload of this system's, by its id, and where it lies.
pub(crate) fn upload(gateway: &Gateway, caller: &str, id: &str) -> Option<(String, PathBuf)> {
    // Ids are this gateway's own, so that none leads to another folder.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let uploads = Uploads {
        folder: gateway.uploads(),
        owner: owner_of(caller),
    };
    let path = uploads.path(id);
    path.is_file().then(|| {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        (name.unwrap_or_default(), path)
    })
}

/// Whether the bytes are wanted inside a resource.
fn wants_resource(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers.get(ACCEPT)?.to_str().ok()?;
    let first = essence(accept.split(',').next()?);
    match first {
        "application/fhir+json" | "application/json+fhir" => Some("json"),
        "application/fhir+xml" | "application/xml+fhir" => Some("xml"),
        _ => None,
    }
}

/// ITI-68: a document's bytes as they were stored, or inside a Binary resource if a FHIR type is asked for
/// first and the document is none.
pub(crate) async fn read(
    call: Call,
    Path(id): Path<String>,
    Headers(headers): Headers,
) -> Result<Response, Refused> {
    call.may(Act::Read, "Binary")?;
    let gateway = Arc::clone(&call.gateway);
    let document = gateway.standing(&id).await?;
    let attachment = document.resource["content"][0]["attachment"].clone();
    let kind = attachment["contentType"]
        .as_str()
        .unwrap_or("application/octet-stream");
    let path = gateway.bytes_of(&document).await?;
    let failed = |error: std::io::Error| {
        tracing::error!(%error, "an opened document cannot be read");
        Refused::failed("the document cannot be read on this machine; tell the hospital's IT")
    };
    let mut file = tokio::fs::File::open(&path).await.map_err(failed)?;
    let length = file.metadata().await.map_err(failed)?.len();
    audit::retrieved(&call, &document).await?;
    let essence = essence(kind);
    let wanted =
        wants_resource(&headers).filter(|form| !essence.ends_with(&format!("fhir+{form}")));
    if wanted.is_some() {
        if length > BODY_BYTES_MAX as u64 {
            return Err(Refused::too_long(
                "the document is too long for a resource; ask for its own type with Accept: */*",
            ));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).await.map_err(failed)?;
        let resource = json!({
            "resourceType": "Binary",
            "id": id,
            "meta": document.resource["meta"].clone(),
            "contentType": kind,
            "data": BASE64.encode(bytes),
        });
        return Ok(Answer::ok(without_profile(resource)).into_response());
    }
    let mut response = Response::new(streamed(file));
    *response.status_mut() = StatusCode::OK;
    let own = response.headers_mut();
    let header = |text: &str| HeaderValue::from_str(text);
    if let Ok(kind) = header(kind) {
        own.insert(CONTENT_TYPE, kind);
    }
    if let Some(hash) = attachment["hash"].as_str()
        && let Ok(tag) = header(&format!("\"{hash}\""))
    {
        own.insert(ETAG, tag);
    }
    own.insert(CONTENT_LENGTH, HeaderValue::from(length));
    own.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Nothing that a document says is run by a browser that is led here.
    own.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    own.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    Ok(response)
}

/// A description's profiles are not the Binary's.
fn without_profile(mut resource: Value) -> Value {
    if let Some(meta) = resource["meta"].as_object_mut() {
        meta.retain(|name, _| name == "versionId" || name == "lastUpdated");
    }
    resource
}

/// A file as a body, piece by piece.
pub(crate) fn streamed(file: tokio::fs::File) -> Body {
    Body::from_stream(futures::stream::try_unfold(file, |mut file| async move {
        let mut piece = vec![0; PIECE];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        let more = (read > 0).then(|| (bytes::Bytes::from(piece), file));
        Ok::<_, std::io::Error>(more)
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const QUOTA: Quota = Quota {
        uploads: 3,
        bytes: 1_000,
    };

    fn uploads(folder: &FilePath, owner: &str) -> Uploads {
        Uploads {
            folder: folder.to_owned(),
            owner: owner.to_owned(),
        }
    }

    fn files(folder: &FilePath) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// What is removed is removed beside the calls.
    async fn becomes_empty(folder: &FilePath) {
        for _ in 0..500 {
            if files(folder).is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", files(folder));
    }

    #[tokio::test]
    async fn a_binary_around_bytes_is_taken_off_in_both_forms() {
        let root = tempfile::tempdir().unwrap();
        let own = uploads(root.path(), "o");
        let json = r#"{"resourceType":"Binary","contentType":"text/plain","data":"aGVs\nbG8="}"#;
        let xml = "<?xml version=\"1.0\"?><Binary xmlns=\"http://hl7.org/fhir\">\
            <contentType value=\"text/plain\"/><data value=\"aGVs&#10;bG8=\"/></Binary>";
        let prefixed = "<f:Binary xmlns:f=\"http://hl7.org/fhir\">\
            <f:contentType value=\"text/plain\"/><f:data value=\"aGVsbG8=\"/></f:Binary>";
        for (kind, text) in [
            ("application/fhir+json", json),
            ("application/fhir+xml; charset=utf-8", xml),
            ("Application/FHIR+XML", prefixed),
        ] {
            let said = own.take("1", kind, Body::from(text), &QUOTA).await.unwrap();
            assert_eq!(said, "text/plain");
            assert_eq!(std::fs::read(own.path("1")).unwrap(), b"hello", "{kind}");
            std::fs::remove_file(own.path("1")).unwrap();
        }
        // What is no Binary is a document as it is.
        let patient = "<Patient xmlns=\"http://hl7.org/fhir\"/>";
        for (kind, text) in [
            ("application/fhir+json", r#"{"resourceType":"Bundle"}"#),
            ("application/fhir+json", "no JSON"),
            ("application/fhir+xml", patient),
            ("text/xml", xml),
        ] {
            let said = own.take("2", kind, Body::from(text), &QUOTA).await.unwrap();
            assert_eq!(said, kind);
            assert_eq!(std::fs::read(own.path("2")).unwrap(), text.as_bytes());
            std::fs::remove_file(own.path("2")).unwrap();
        }
    }

    #[tokio::test]
    async fn nothing_is_left_of_an_upload_that_fails_or_ends() {
        let root = tempfile::tempdir().unwrap();
        let own = uploads(root.path(), "o");
        for (kind, text) in [
            (
                "application/fhir+json",
                r#"{"resourceType":"Binary","contentType":"a/b","data":"%"}"#,
            ),
            (
                "application/fhir+json",
                r#"{"resourceType":"Binary","data":"aGVsbG8="}"#,
            ),
            (
                "application/fhir+xml",
                "<Binary xmlns=\"http://hl7.org/fhir\"><colour/></Binary>",
            ),
        ] {
            let refused = own
                .take("1", kind, Body::from(text), &QUOTA)
                .await
                .unwrap_err();
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{text}");
            becomes_empty(root.path()).await;
        }
        // The client goes away in the middle.
        let begin = futures::stream::iter([Ok::<_, std::io::Error>("begin")]);
        let body = Body::from_stream(begin.chain(futures::stream::pending()));
        let taking = own.take("1", "text/plain", body, &QUOTA);
        let ended = tokio::time::timeout(Duration::from_millis(100), taking).await;
        assert!(ended.is_err());
        becomes_empty(root.path()).await;
        let broken = futures::stream::iter([Err::<&str, _>(std::io::Error::other("gone"))]);
        let body = Body::from_stream(broken);
        assert!(own.take("1", "text/plain", body, &QUOTA).await.is_err());
        becomes_empty(root.path()).await;
    }

    #[tokio::test]
    async fn one_system_cannot_fill_the_disk_and_takes_no_other_its_room() {
        let root = tempfile::tempdir().unwrap();
        let own = uploads(root.path(), "o");
        let take = async |own: &Uploads, id: &str, length: usize| {
            let body = Body::from(vec![0; length]);
            let taken = own.take(id, "text/plain", body, &QUOTA).await;
            taken.map_err(|refused| refused.status.as_u16())
        };
        assert!(take(&own, "1", 400).await.is_ok());
        assert_eq!(take(&own, "2", 601).await, Err(413));
        assert!(take(&own, "3", 599).await.is_ok());
        // One that was refused may still be on its way out.
        while files(root.path()).len() > 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(take(&own, "4", 1).await.is_ok());
        assert_eq!(take(&own, "5", 0).await, Err(429));
        let other = uploads(root.path(), "other");
        assert!(take(&other, "6", 1_000).await.is_ok());
    }
}
