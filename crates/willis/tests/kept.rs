//! The folders that each release left, opened by this one: `tests/kept` has an archive for each, and none
//! of them is ever changed. Nothing here depends on the day on which it runs, as long as the kept TLS
//! authorities live: ten years.
#![allow(clippy::unwrap_used, reason = "a test")]

mod script;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// After the guide: what a release writes beside its folders.
const LEAVES: &str = r#"
willis node back-up --config machine-a/hospital/node.toml --out chain.backup
record=$(willis doctor --keystore wang records --json | said record)
grant=$(willis patient --keystore chen grants --json | said grant)
willis proof record "$record" --out record.proof
willis proof grant "$grant" --out grant.proof
willis proof access-log "$grant" --out access-log.proof
height=$(willis membership show --json | said height)
printf 'record=%s\nheight=%s\n' "$record" "$height" >left
"#;

/// Without a network, then with all parts running again.
const OPENS: &str = r#"
export WILLIS_PASSPHRASE_FILE="$PWD/passphrase" WILLIS_FOUNDING="$PWD/machine-a/founding"
. ./left
said() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p"; }

willis genesis check machine-a/founding
for machine in a b c; do
  willis node verify --config "machine-$machine/hospital/node.toml"
done
willis node verify --founding machine-a/founding --backup chain.backup
willis node unpack chain.backup --into unpacked
sed 's/^folder = .*/folder = "restored"/' machine-b/hospital/node.toml >machine-b/hospital/restored.toml
willis node restore --config machine-b/hospital/restored.toml --from chain.backup
for proof in record grant access-log; do
  willis proof check "$proof.proof"
done

# As an operator does whose certificates have run out.
for party in machine-a/hospital machine-a/centre machine-a/query machine-b/hospital machine-b/cloud machine-c/hospital; do
  willis tls renew --folder "$party"
done
for part in a/hospital/node b/hospital/node c/hospital/node b/cloud/cloud a/centre/centre a/query/query a/hospital/hospital b/hospital/hospital c/hospital/hospital; do
  willis "$(basename "$part")" --config "machine-$part.toml" 2>>log &
done
for attempt in $(seq 120); do
  now=$(willis membership show --json 2>>log | said height) || now=0
  [ "${now:-0}" -gt "$((height + 3))" ] && break
  sleep 1
done
echo "kept at block $height, now at block $now"
[ "$now" -gt "$((height + 3))" ]

# Keystores, databases and containers: a patient reads what is hers, its author what is his.
willis proof record "$record" --out again.proof
willis proof check again.proof
willis patient --keystore chen episodes
willis patient --keystore chen receipts
willis patient --keystore chen read "$record" --into hers
willis doctor --keystore wang own "$record" --into his
grep -r "no haemorrhage" hers his
willis doctor --keystore lin requests
willis officer --keystore machine-a/officer waiting
"#;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kept")
}

fn tar(arguments: &[&str]) {
    let done = Command::new("tar").args(arguments).status().unwrap();
    assert!(done.success(), "tar {arguments:?}");
}

/// The archive of this release, if there is none: `WILLIS_WRITE=1` makes it.
fn leave(archive: &Path) {
    let root = tempfile::tempdir().unwrap();
    let output = script::run(root.path(), &script::guide(LEAVES));
    assert!(output.status.success(), "{}", script::said(&output));
    let mut names = vec!["chain.backup", "left", "passphrase"];
    names.extend(["record.proof", "grant.proof", "access-log.proof"]);
    names.extend(["machine-a", "machine-b", "machine-c", "chen", "wang", "lin"]);
    let from = root.path().to_str().unwrap();
    let mut arguments = vec!["--exclude=*.log", "-C", from, "-czf"];
    arguments.push(archive.to_str().unwrap());
    arguments.extend(names);
    tar(&arguments);
}

#[test]
fn this_release_opens_what_every_release_left() {
    let own = folder().join(format!("{}.tar.gz", env!("CARGO_PKG_VERSION")));
    if std::env::var_os("WILLIS_WRITE").is_some() && !own.exists() {
        leave(&own);
    }
    assert!(own.exists(), "WILLIS_WRITE=1 leaves this release's folders");
    let mut opened = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let archive = entry.unwrap().path();
        if archive.extension().is_none_or(|kind| kind != "gz") {
            continue;
        }
        let root = tempfile::tempdir().unwrap();
        let into = root.path().to_str().unwrap();
        tar(&["-xzf", archive.to_str().unwrap(), "-C", into]);
        let output = script::run(root.path(), OPENS);
        let log = fs::read_to_string(root.path().join("log")).unwrap_or_default();
        let said = script::said(&output);
        assert!(
            output.status.success(),
            "{}: {said}{log}",
            archive.display()
        );
        assert!(said.contains("no haemorrhage"), "{said}");
        opened += 1;
    }
    assert!(opened > 0);
}
