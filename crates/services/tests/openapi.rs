//! Each service's interface is the one that was agreed: its OpenAPI document equals the file in
//! `docs/openapi`. Run with WILLIS_WRITE=1 to write a change there, and review it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;

use utoipa::openapi::OpenApi;

fn is_as_agreed(name: &str, document: &OpenApi) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/openapi")
        .join(format!("{name}.json"));
    let found = format!("{}\n", document.to_pretty_json().unwrap());
    if std::env::var_os("WILLIS_WRITE").is_some() {
        std::fs::write(&file, &found).unwrap();
    }
    let agreed = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = || {
        let lines = found.lines().zip(agreed.lines()).enumerate();
        let first = lines.into_iter().find(|(_, (one, other))| one != other);
        first.map(|(number, (one, _))| format!("from line {} on: {one}", number + 1))
    };
    assert!(
        found == agreed,
        "{} is another one {}; WILLIS_WRITE=1 writes it there",
        file.display(),
        differs().unwrap_or_default()
    );
}

#[test]
fn the_cloud() {
    is_as_agreed("cloud", &services::cloud_openapi());
}

#[test]
fn the_hospital() {
    is_as_agreed("hospital", &services::hospital_openapi());
}

#[test]
fn the_node() {
    is_as_agreed("node", &services::node_openapi());
}

#[test]
fn the_centre() {
    is_as_agreed("centre", &services::centre_openapi());
}

#[test]
fn the_query_manager() {
    is_as_agreed("query", &services::query_openapi());
}
