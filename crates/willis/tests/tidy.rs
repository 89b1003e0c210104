//! House rules that a machine checks: the architecture's edges, who names which library, what no file
//! may hold, and that `docs/paper.md` names only files and tests that exist.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which of our crates each of them may depend on. No other edge.
const EDGES: &[(&str, &[&str])] = &[
    ("willis-scheme", &[]),
    ("willis-record", &["willis-scheme"]),
    ("willis-viewing", &[]),
    ("willis-token", &["willis-scheme"]),
    ("willis-ledger", &["willis-scheme", "willis-record"]),
    (
        "willis-chain",
        &["willis-scheme", "willis-record", "willis-ledger"],
    ),
    (
        "willis-parties",
        &["willis-scheme", "willis-record", "willis-ledger"],
    ),
    (
        "willis-client",
        &[
            "willis-scheme",
            "willis-record",
            "willis-ledger",
            "willis-chain",
            "willis-parties",
        ],
    ),
    (
        "willis-services",
        &[
            "willis-scheme",
            "willis-record",
            "willis-ledger",
            "willis-chain",
            "willis-parties",
            "willis-client",
        ],
    ),
    (
        "willis-gateway",
        &[
            "willis-scheme",
            "willis-record",
            "willis-viewing",
            "willis-ledger",
            "willis-parties",
            "willis-client",
            "willis-services",
            "willis-workstation",
        ],
    ),
    (
        "willis-workstation",
        &[
            "willis-scheme",
            "willis-record",
            "willis-ledger",
            "willis-parties",
            "willis-client",
        ],
    ),
    (
        "willis-portal",
        &[
            "willis-scheme",
            "willis-record",
            "willis-viewing",
            "willis-ledger",
            "willis-chain",
            "willis-client",
            "willis-workstation",
        ],
    ),
    (
        "willis-fuzzing",
        &[
            "willis-scheme",
            "willis-record",
            "willis-viewing",
            "willis-ledger",
            "willis-chain",
            "willis-parties",
            "willis-client",
            "willis-services",
            "willis-gateway",
        ],
    ),
    (
        "willis-simulation",
        &[
            "willis-scheme",
            "willis-record",
            "willis-ledger",
            "willis-chain",
            "willis-parties",
            "willis-client",
            "willis-services",
        ],
    ),
    (
        "willis",
        &[
            "willis-scheme",
            "willis-record",
            "willis-ledger",
            "willis-chain",
            "willis-parties",
            "willis-client",
            "willis-services",
            "willis-gateway",
            "willis-workstation",
            "willis-simulation",
            "willis-portal",
            "willis-token",
        ],
    ),
];

/// A library that only some places of `crates/*/src` may name, by the text that names it.
const NAMED_ONLY_IN: &[(&str, &[&str], &[&str])] = &[
    (
        "the pairing library",
        &["blst::", "blstrs::", "blst_"],
        &["crates/scheme/src/group.rs"],
    ),
    (
        "the engine",
        &["commonware_"],
        &["crates/chain/src/engine/"],
    ),
    (
        "the library for tokens",
        &["cryptoki::"],
        &["crates/token/src/pkcs11.rs"],
    ),
    (
        "the node's store",
        &["fjall::"],
        &["crates/chain/src/store_fjall.rs"],
    ),
    (
        "the HTTP client",
        &["reqwest::"],
        &["crates/client/src/", "crates/gateway/src/intake/orthanc.rs"],
    ),
    (
        "the key stretching",
        &["argon2::"],
        &["crates/client/src/stretching.rs"],
    ),
    (
        "the services' database",
        &["sqlx::"],
        &["crates/services/src/database.rs"],
    ),
    (
        "the object store",
        &["object_store::"],
        &["crates/services/src/cloud/store.rs"],
    ),
    (
        "the writer of QR codes",
        &["qrcode::"],
        &["crates/portal/src/codes.rs"],
    ),
    (
        "the writer of pictures",
        &["png::"],
        &["crates/viewing/src/pictures.rs"],
    ),
    (
        "the reader of XML",
        &["quick_xml::"],
        &[
            "crates/gateway/src/fhir/xml.rs",
            "crates/record/src/xml.rs",
            "crates/viewing/src/cda.rs",
            "crates/viewing/src/fhir_xml.rs",
        ],
    ),
    (
        "the sender of traces",
        &["opentelemetry_otlp::"],
        &["crates/willis/src/traces.rs"],
    ),
];

/// No tracked file is larger. The largest is a sample: a stay of weeks has 2.1 MiB.
const FILE_BYTES_MAX: u64 = 5 * 512 * 1024;

#[test]
fn crates_depend_on_each_other_only_as_the_architecture_allows() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--locked",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let may = allowed
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in the architecture"));
        seen.insert(name.to_owned());
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            if on.starts_with("willis") {
                assert!(may.contains(&on), "{name} must not depend on {on}");
            }
        }
    }
    assert_eq!(
        seen.len(),
        EDGES.len(),
        "a crate of the architecture is missing"
    );
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for manifest in files(".toml")
        .iter()
        .filter(|path| path.ends_with("Cargo.toml") && path.starts_with("crates"))
    {
        let text = read(manifest);
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{} does not",
            manifest.display()
        );
        let clippy = manifest.with_file_name("clippy.toml");
        let own = fs::read_to_string(root().join(&clippy)).unwrap_or_default();
        if !own.is_empty() {
            for line in read(Path::new("clippy.toml"))
                .lines()
                .filter(|line| line.starts_with("allow-"))
            {
                assert!(
                    own.contains(line),
                    "{} does not repeat {line}",
                    clippy.display()
                );
            }
        }
    }
    assert!(read(Path::new("Cargo.toml")).contains("unsafe_code = \"forbid\""));
}

#[test]
fn only_its_places_name_each_outside_engine() {
    for (what, names, places) in NAMED_ONLY_IN {
        let mut found_in: BTreeSet<&str> = BTreeSet::new();
        for path in files(".rs").iter().filter(|path| in_source(path)) {
            let code: String = read(path)
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect::<Vec<_>>()
                .join("\n");
            if !names.iter().any(|name| names_as_a_word(&code, name)) {
                continue;
            }
            let path = path.to_string_lossy();
            let place = places.iter().find(|place| path.starts_with(**place));
            let only = places.join(" and ");
            assert!(place.is_some(), "{path} names {what}; only {only} may");
            found_in.extend(place);
        }
        for place in *places {
            assert!(
                found_in.contains(place),
                "{place} no longer names {what}: the rule checks nothing"
            );
        }
    }
}

#[test]
fn no_file_holds_what_must_not_land() {
    // Put together here, so that this file does not hold them.
    let banned = [
        ["to", "do!("].concat(),
        ["unimpl", "emented!("].concat(),
        ["FIX", "ME"].concat(),
        ["TO", "DO"].concat(),
    ];
    let places = [
        ["/wo", "rk/"].concat(),
        ["/ro", "ot/"].concat(),
        ["index.crates", ".io"].concat(),
    ];
    for path in files("") {
        let length = fs::metadata(root().join(&path)).unwrap().len();
        assert!(
            length <= FILE_BYTES_MAX,
            "{} has {length} bytes",
            path.display()
        );
        if path.starts_with("samples") || path.ends_with("Cargo.lock") {
            continue;
        }
        let Ok(text) = fs::read_to_string(root().join(&path)) else {
            continue;
        };
        for word in &places {
            assert!(
                !text.contains(word.as_str()),
                "{} holds {word}",
                path.display()
            );
        }
        if path
            .extension()
            .is_some_and(|kind| kind == "rs" || kind == "mjs" || kind == "toml")
        {
            for word in &banned {
                assert!(
                    !text.contains(word.as_str()),
                    "{} holds {word}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_paper_s_table_names_files_and_tests_that_exist() {
    check_references("docs/paper.md", 60);
}

#[test]
fn the_security_table_names_files_and_tests_that_exist() {
    check_references("SECURITY.md", 10);
}

/// Every backticked path of the document exists, and every `path::name` names a function of that file.
fn check_references(document: &str, least: usize) {
    let text = read(Path::new(document));
    let mut checked = 0;
    for reference in text.split('`').skip(1).step_by(2) {
        let (path, name) = match reference.split_once("::") {
            Some((path, name)) if path.contains('/') && path.ends_with(".rs") => (path, Some(name)),
            _ => (reference, None),
        };
        let looks_like_a_path = path.contains('/')
            && !path.contains(' ')
            && !path.starts_with('/')
            && ["rs", "md", "json", "mjs", "toml"]
                .iter()
                .any(|kind| path.ends_with(&format!(".{kind}")));
        if !looks_like_a_path {
            continue;
        }
        assert!(
            root().join(path).is_file(),
            "{document} names {path}, which does not exist"
        );
        if let Some(name) = name {
            assert!(
                has_test(&read(Path::new(path)), name),
                "{document} names {reference}, and that file has no such test"
            );
        }
        checked += 1;
    }
    assert!(
        checked >= least,
        "{document} names {checked} files and tests, at least {least} are expected"
    );
}

/// Whether the source has a function of this name with the attribute of a test.
fn has_test(source: &str, name: &str) -> bool {
    let declaration = format!("fn {name}(");
    source.match_indices(&declaration).any(|(place, _)| {
        // What stands between the item before and the function: attributes and documentation.
        let before = &source[..place];
        let item = before.rfind("}\n").map_or(before, |end| &before[end..]);
        item.contains("#[test]") || item.contains("#[tokio::test")
    })
}

#[test]
fn specification_and_code_of_the_scheme_cite_each_other() {
    let specification = read(Path::new("spec/scheme.md"));
    let code: String = files(".rs")
        .iter()
        .filter(|path| path.starts_with("crates/scheme/src") && !is_vectors(path))
        .map(|path| read(path))
        .collect();
    let cites = |text: &str, equation: &str| {
        text.match_indices(equation).any(|(place, _)| {
            let before = text[..place].chars().next_back();
            let after = text[place + equation.len()..].chars().next();
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        })
    };
    let mut number = 1;
    // Equations are numbered without a gap; each is defined by its number and a full stop.
    while specification.contains(&format!("E{number}. "))
        || cites(&specification, &format!("E{number}"))
    {
        let equation = format!("E{number}");
        assert!(
            cites(&code, &equation),
            "no file of crates/scheme/src cites {equation}"
        );
        number += 1;
    }
    assert!(
        number > 34,
        "spec/scheme.md has only {} equations",
        number - 1
    );
    for paper in 5..=16 {
        assert!(
            code.contains(&format!("({paper})")),
            "no file of crates/scheme/src cites equation ({paper}) of the paper"
        );
    }
    for section in specification.split("\n## ").skip(1) {
        let title = section.lines().next().unwrap_or_default();
        let number: u32 = title
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap();
        if !(1..=10).contains(&number) {
            continue;
        }
        let line = section
            .lines()
            .find_map(|line| line.strip_prefix("In `crates/scheme/src`: "))
            .unwrap_or_else(|| panic!("section \"{title}\" names no file"));
        for file in line.split('`').skip(1).step_by(2) {
            let path = Path::new("crates/scheme/src").join(file);
            assert!(
                root().join(&path).is_file(),
                "{} does not exist",
                path.display()
            );
        }
    }
}

fn is_vectors(path: &Path) -> bool {
    path.iter()
        .any(|part| part == "vectors" || part == "vectors.rs")
}

#[test]
fn the_paper_s_table_leaves_nothing_out_and_gives_a_test_or_a_reason() {
    let text = read(Path::new("docs/paper.md"));
    let mut rows: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    let mut section = "";
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        }
        let Some(row) = line
            .strip_prefix("| ")
            .and_then(|row| row.strip_suffix(" |"))
        else {
            continue;
        };
        rows.entry(section)
            .or_default()
            .push(row.split(" | ").collect());
    }
    let section = |number: &str| {
        let found = rows.iter().find(|(title, _)| title.starts_with(number));
        &found
            .unwrap_or_else(|| panic!("there is no section {number}"))
            .1[1..]
    };
    let first = |number: &str| section(number).iter().map(|row| row[0]).collect::<Vec<_>>();
    let has = |number: &str, what: &str| {
        assert!(
            first(number).iter().any(|row| row.starts_with(what)),
            "docs/paper.md section {number} has no row \"{what}\""
        );
    };
    for entity in 1..=6 {
        has("1 ", &format!("({entity}) "));
    }
    for interaction in 1..=11 {
        has("2 ", &format!("{interaction} "));
    }
    for phase in ["3.2.1", "3.2.2", "3.2.3", "3.2.4", "3.5.1", "3.5.4"] {
        has("3 ", phase);
    }
    for equation in 1..=16 {
        has("4 ", &format!("({equation}) "));
    }
    for field in [
        "block id",
        "block size",
        "hash of the previous block",
        "Merkle root",
        "timestamp",
        "digital signature of the producer",
    ] {
        has("6 ", &format!("header: {field}"));
    }
    for field in [
        "transaction id",
        "medical record index",
        "digital abstract",
        "doctor's signature",
        "hospital server's signature",
        "doctor's public key",
        "timestamp",
        "random number",
    ] {
        has("6 ", &format!("body: {field}"));
    }
    for step in [
        "(1) request",
        "(2) pre-prepare",
        "(3) prepare",
        "(4) confirm",
        "(5) reply",
    ] {
        has("7 ", step);
    }
    for claim in ["4.2.1", "4.2.2", "4.2.3"] {
        has("9 ", claim);
    }
    // Table 2 has eight rows.
    assert_eq!(section("10 ").len(), 8);
    for (title, rows) in &rows {
        for row in &rows[1..] {
            let (test, note) = (row[row.len() - 2], row[row.len() - 1]);
            assert!(
                test.contains("::") || note.len() > 1,
                "docs/paper.md, {title}: \"{}\" has neither a test nor a reason",
                row[0]
            );
        }
    }
}

/// Whether the text holds the name where a word begins: our own module `store_fjall` is not `fjall`.
fn names_as_a_word(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(place, _)| {
        !text[..place].ends_with(|before: char| before.is_alphanumeric() || before == '_')
    })
}

fn in_source(path: &Path) -> bool {
    let parts: Vec<_> = path
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    parts.len() > 3 && parts[0] == "crates" && parts[2] == "src"
}

/// Tracked and untracked files that git does not ignore, relative to the root, by their ending.
fn files(ending: &str) -> Vec<PathBuf> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "the house rules are checked in a git checkout"
    );
    let listed: Vec<PathBuf> = String::from_utf8(output.stdout)
        .unwrap()
        .split('\0')
        .filter(|name| !name.is_empty() && name.ends_with(ending))
        .map(PathBuf::from)
        .filter(|path| root().join(path).is_file())
        .collect();
    assert!(!listed.is_empty());
    listed
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}
