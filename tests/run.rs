//! The script that runs every test, `tests/run.sh`, with a fake cargo that only prints results.
#![cfg(unix)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// The output of cargo for a pass with these numbers of GPU tests and of other tests.
fn pass(gpu: u32, others: u32, failed: u32) -> String {
    let result = |passed: u32, failed: u32| {
        let word = if failed == 0 { "ok" } else { "FAILED" };
        format!("test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 7 filtered out")
    };
    format!(
        "     Running unittests src/lib.rs (target/x)\n{}\n     Running tests/gpu/main.rs (target/y)\n{}\n",
        result(others, failed),
        result(gpu, 0)
    )
}

/// A program in the folder.
fn program(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
}

/// Runs the script; its first pass prints `first`, its second, on SwiftShader, `second`.
fn script(first: &str, second: Option<&str>, status: u32) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    std::fs::write(path("first"), first).expect("written");
    std::fs::write(path("second"), second.unwrap_or_default()).expect("written");
    let cargo = "case \"$*\" in *--no-run*) exit 0 ;; esac\n\
                 if [ \"${WGPU_ADAPTER_NAME:-}\" = SwiftShader ]; then cat \"$PASSES/second\"; exit 0; fi\n\
                 cat \"$PASSES/first\"\nexit \"$FIRST_STATUS\"";
    program(folder.path(), "cargo", cargo);
    let target = folder.path().join("target/release");
    std::fs::create_dir_all(&target).expect("made");
    // `info` begins with the machine.
    program(&target, "wgpu-optim", r#"printf '{"adapter":null}\n{"index":0,"adapter":"An Adapter"}\n'"#);
    // On Linux the script would install a driver if there is none.
    program(folder.path(), "uname", "echo Other");
    program(folder.path(), "ldd", "exit 0");
    for file in ["vk_swiftshader_icd.json", "libvk_swiftshader.so"] {
        std::fs::write(path(file), "").expect("written");
    }
    let swiftshader = second.map_or_else(|| "0".to_owned(), |_| path("vk_swiftshader_icd.json"));
    let programs = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a path"));
    Command::new("sh")
        .args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/run.sh"), "--", "some_filter"])
        .env("PATH", programs)
        .env("PASSES", folder.path())
        .env("FIRST_STATUS", status.to_string())
        .env("CARGO_TARGET_DIR", path("target"))
        .env("WGPU_OPTIM_SWIFTSHADER", swiftshader)
        .env_remove("WGPU_ADAPTER_NAME")
        .output()
        .expect("the script starts")
}

/// The last line, and whether the script succeeded.
fn verdict(output: &Output) -> (String, bool) {
    let text = String::from_utf8_lossy(&output.stdout);
    (text.lines().last().unwrap_or_default().to_owned(), output.status.success())
}

#[test]
fn the_last_line_counts_the_tests_and_those_on_each_adapter() {
    let (line, passed) = verdict(&script(&pass(40, 200, 0), Some(&pass(38, 0, 0)), 0));
    assert!(passed && line.starts_with("All tests passed. 278 tests ran, 78 of them GPU tests: 40 on "), "{line}");
    assert!(line.contains(", 38 on "), "{line}");
    let (line, passed) = verdict(&script(&pass(40, 200, 0), None, 0));
    assert!(
        passed && line.starts_with("All tests passed. 240 tests ran, 40 of them GPU tests: 40 on An Adapter "),
        "{line}"
    );
    assert_eq!(line.matches(" on ").count(), 1, "{line}");
}

#[test]
fn a_run_without_tests_is_a_failure() {
    for second in [None, Some(pass(0, 0, 0))] {
        let (line, passed) = verdict(&script(&pass(0, 0, 0), second.as_deref(), 0));
        assert!(!passed && line.starts_with("FAILED: no test ran. 0 tests ran, "), "{line}");
    }
}

#[test]
fn a_failed_test_is_a_failure_and_counted() {
    let (line, passed) = verdict(&script(&pass(3, 5, 2), None, 101));
    assert!(!passed && line.starts_with("FAILED: tests. 10 tests ran, 3 of them GPU tests: 3 on "), "{line}");
}
