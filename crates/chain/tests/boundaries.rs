//! Which file names which library: the engine's crates and the store's can be replaced in one place.

use std::path::Path;

#[test]
fn only_the_module_engine_names_the_engine_and_only_one_file_the_store_library() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    assert!(files.len() > 10, "the walk found the sources");
    for (path, text) in files {
        let inside_engine = path.starts_with("engine/");
        assert!(
            inside_engine || !text.contains("commonware"),
            "{path} names the engine"
        );
        let is_store = path == "store_fjall.rs";
        assert!(
            is_store || !text.contains("use fjall"),
            "{path} names the store's library"
        );
    }
}

fn collect(folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            collect(&path, files);
            continue;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let name = path
            .strip_prefix(&root)
            .expect("inside")
            .to_string_lossy()
            .into_owned();
        files.push((name, std::fs::read_to_string(&path).expect("UTF-8")));
    }
}
