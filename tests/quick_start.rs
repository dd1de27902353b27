//! The README's quick start is a package of its own outside the workspace, with exactly the printed `Cargo.toml` and `src/main.rs`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../README.md");

/// The only block of the README in this language.
fn block(language: &str) -> &'static str {
    let mut blocks = README.split("\n```").filter_map(|part| part.strip_prefix(language)?.strip_prefix('\n'));
    let block = blocks.next().unwrap_or_else(|| panic!("the README has no block of {language}"));
    assert!(blocks.next().is_none(), "the README has one block of {language}");
    block
}

#[test]
fn the_quick_start_runs_as_a_package_outside_the_workspace() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = tempfile::tempdir().unwrap();
    std::fs::create_dir(package.path().join("src")).unwrap();
    std::fs::write(package.path().join("Cargo.toml"), block("toml")).unwrap();
    std::fs::write(package.path().join("src/main.rs"), block("rust")).unwrap();
    // The same versions of the dependencies, which were fetched for this workspace.
    std::fs::copy(root.join("Cargo.lock"), package.path().join("Cargo.lock")).unwrap();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let output = Command::new(env!("CARGO"))
        .current_dir(package.path())
        .args(["run", "--release", "--offline", "--target-dir"])
        .arg(target)
        .arg("--config")
        .arg(format!("patch.crates-io.wgpu-optim.path = {:?}", root.to_str().unwrap()))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.starts_with('[') && printed.contains("7.0"), "{printed}");
}
