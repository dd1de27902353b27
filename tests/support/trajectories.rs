//! The trajectories that other implementations produced.

use std::path::{Path, PathBuf};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// All trajectories, in the order of their names.
pub(crate) fn files() -> Vec<PathBuf> {
    let paths =
        std::fs::read_dir(folder()).expect("tests/golden is there").map(|entry| entry.expect("readable").path());
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    files.sort();
    assert!(files.len() >= 20, "found only {} golden files", files.len());
    files
}
