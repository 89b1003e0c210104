//! Writes each target's seeds into `fuzz/corpus`, beside what is kept there already.

use std::fs;
use std::io;
use std::path::Path;

use fuzzing::TARGETS;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for target in TARGETS {
        let folder = corpus.join(target.name);
        fs::create_dir_all(&folder)?;
        for seed in (target.seeds)() {
            // As long as the names that libFuzzer gives.
            let name = scheme::sha256(&seed).to_string();
            fs::write(folder.join(&name[..40]), seed)?;
        }
    }
    Ok(())
}
