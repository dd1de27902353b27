//! Runs of several ranks under `mpirun`: they agree with one process, end when a rank ends, and share checkpoints.
//!
//! `sh crates/mpi/tests/run.sh` installs what these tests need. Without MPI they fail: a test that does not run has not passed.
#![cfg(feature = "cli")]
// Tests stop where something is missing, and say in their names what they show.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use wgpu_optim::checkpoint::Checkpoint;
use wgpu_optim_mpi::checkpoint::join;
use wgpu_optim_mpi::tools::scale::{self, PerParameter, Scale};
use wgpu_optim_mpi::{States, Wire};

const COMMAND: &str = env!("CARGO_BIN_EXE_wgpu-optim-mpi");

/// One run at a time: more ranks than cores make every run slower.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// `run.sh` sets what Open MPI needs to run as root and with more ranks than cores.
fn mpirun(ranks: usize, arguments: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["-n", &ranks.to_string(), COMMAND]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn run(ranks: usize, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = mpirun(ranks, arguments).output().expect("mpirun: install Open MPI");
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{ranks} ranks, {arguments:?}: {status}\n{out}\n{err}");
    out.into_owned()
}

#[track_caller]
fn verify(ranks: usize) {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let out = run(ranks, &["verify", "--folder", folder.path().to_str().unwrap()]);
    let passed = out.lines().filter(|line| line.starts_with("passed ")).count();
    assert_eq!(passed, wgpu_optim_mpi::tools::verify::names().len(), "{out}");
    assert!(out.contains(&format!("{ranks} ranks")), "{out}");
}

#[test]
fn one_rank_is_one_process() {
    verify(1);
}

#[test]
fn two_ranks_are_one_process() {
    verify(2);
}

#[test]
fn three_ranks_are_one_process() {
    verify(3);
}

#[test]
fn four_ranks_are_one_process() {
    verify(4);
}

#[test]
fn a_checkpoint_of_four_ranks_loads_on_three_and_on_one() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let path = path.to_str().unwrap();
    run(4, &["verify", "--save", path]);
    let files = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    assert_eq!(files(folder.path()), 4);
    run(3, &["verify", "--load", path]);
    run(1, &["verify", "--load", path]);
    wrong_indices_are_refused(path);
    let of_four = join(path).unwrap().to_bytes().unwrap();
    // A second save replaces the first and its parts.
    run(3, &["verify", "--save", path]);
    assert_eq!(files(folder.path()), 3);
    assert!(join(path).unwrap().to_bytes().unwrap() == of_four, "three ranks save another model than four");
    let joined = folder.path().join("joined.safetensors");
    run(1, &["join", path, joined.to_str().unwrap()]);
    run(4, &["verify", "--load", joined.to_str().unwrap()]);
    // Without one of its parts a checkpoint does not load, on any rank.
    let part = std::fs::read_dir(folder.path())
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_str().unwrap().ends_with(".2-of-3"));
    std::fs::remove_file(part.unwrap().path()).unwrap();
    let refused = mpirun(3, &["verify", "--load", path]).output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains(".2-of-3"), "{refused:?}");
}

/// The index of the checkpoint's files is in a note of the first. Each change of it is an error that says what is wrong.
#[track_caller]
fn wrong_indices_are_refused(path: &str) {
    const NOTE: &str = "wgpu-optim-mpi ranks";
    let note = Checkpoint::load(path).unwrap().notes_mut()[NOTE].clone();
    let index: serde_json::Value = serde_json::from_str(&note).unwrap();
    let of_rank_1 = index["ranges"][1].as_array().unwrap();
    let cut = of_rank_1.iter().position(|range| range[1] != 0).expect("rank 1 has the second part of a tensor");
    let [start, end] = [1, 2].map(|at| of_rank_1[cut][at].as_u64().unwrap());
    type Change<'a> = &'a dyn Fn(&mut serde_json::Value);
    let changes: [(&str, Change<'_>); 5] = [
        ("4 files of 3 ranks", &|index| index["ranks"] = 3.into()),
        ("has null where a count belongs", &|index| index["ranks"] = serde_json::Value::Null),
        ("has shape", &|index| index["ranges"][1][cut][2] = (end + 1024).into()),
        ("lacks element", &|index| {
            index["ranges"][1][cut][1] = (start + 1024).into();
            index["ranges"][1][cut][2] = (end + 1024).into();
        }),
        ("tensor", &|index| index["parts"].as_array_mut().unwrap().swap(0, 1)),
    ];
    for (words, change) in changes {
        let mut wrong = index.clone();
        change(&mut wrong);
        let copy = format!("{path}-wrong");
        let mut first = Checkpoint::load(path).unwrap();
        first.notes_mut().insert(NOTE.to_owned(), wrong.to_string());
        first.save(&copy).unwrap();
        let error = join(&copy).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
        std::fs::remove_file(copy).unwrap();
    }
}

/// The run of three ranks that saves a checkpoint, in which rank 1 may write no file longer than 4 KiB and begins with `prologue`.
fn save_into_a_limit(path: &str, prologue: &str) -> Output {
    let limited = format!("{prologue} ulimit -f 8; exec \"$0\" \"$@\"");
    let mut command = mpirun(1, &["verify", "--save", path]);
    command.args([":", "-n", "1", "sh", "-c", &limited, COMMAND, "verify", "--save", path]);
    command.args([":", "-n", "1", COMMAND, "verify", "--save", path]);
    // Neither shared memory between ranks nor the driver's cache is a file then.
    command.env("OMPI_MCA_btl", "self,tcp").env("MESA_SHADER_CACHE_DISABLE", "true");
    command.output().expect("mpirun: install Open MPI")
}

#[test]
fn a_save_that_fails_on_one_rank_leaves_the_checkpoint_before() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let path = path.to_str().unwrap();
    run(4, &["verify", "--save", path]);
    let before = join(path).unwrap().to_bytes().unwrap();
    // The system kills a process that writes beyond its limit. Where the process ignores the signal, writing is an error.
    for (prologue, words) in [("", "process rank 1"), ("trap '' XFSZ;", "rank 1: ")] {
        let Output { status, stderr, .. } = save_into_a_limit(path, prologue);
        let messages = String::from_utf8_lossy(&stderr);
        assert!(!status.success() && messages.contains(words), "{status}: {messages}");
        assert!(join(path).unwrap().to_bytes().unwrap() == before);
        run(4, &["verify", "--load", path]);
    }
}

/// The process of a rank.
fn process(run: &Child, rank: usize) -> Option<u32> {
    let wanted = format!("OMPI_COMM_WORLD_RANK={rank}");
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let processes =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes.into_iter().find(|pid: &u32| {
        parent(*pid) == Some(run.id())
            && std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|all| all.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()))
    })
}

/// Sends a signal to a rank of a run that steps forever, and returns the time until the run ended, and its messages.
fn strike(signal: &str, rank: usize, timeout: &str) -> (Duration, String) {
    let arguments = ["bench", "--elements", "200000", "--steps", "100000000", "--timeout", timeout];
    let mut run = mpirun(4, &arguments).spawn().expect("mpirun: install Open MPI");
    let start = Instant::now();
    let pid = loop {
        assert!(start.elapsed() < Duration::from_secs(60), "the ranks do not start");
        if let Some(pid) = process(&run, rank) {
            break pid;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    // The ranks are in the middle of their steps by then.
    std::thread::sleep(Duration::from_secs(6));
    assert!(run.try_wait().unwrap().is_none(), "the run ended by itself: {:?}", run.wait_with_output());
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
    let struck = Instant::now();
    while run.try_wait().unwrap().is_none() {
        if struck.elapsed() > Duration::from_secs(120) {
            let _ = Command::new("kill").args(["-CONT", &pid.to_string()]).status();
            run.kill().unwrap();
            panic!("the other ranks hang");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let took = struck.elapsed();
    let output = run.wait_with_output().unwrap();
    assert!(!output.status.success());
    (took, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// `mpirun` sees the end of a process and ends the others.
#[test]
fn a_killed_rank_ends_the_others() {
    let _turn = turn();
    let (took, messages) = strike("-KILL", 2, "100");
    assert!(messages.contains("rank 2"), "{messages}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

/// Nobody sees that a rank hangs, but the others wait no longer than their timeout.
#[test]
fn a_rank_that_hangs_ends_the_others_within_the_timeout() {
    let _turn = turn();
    let (took, messages) = strike("-STOP", 1, "5");
    assert!(messages.contains("rank 1 did not answer within 5 s while this rank waited to"), "{messages}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

/// A bench of ranks as objects.
fn bench(ranks: usize, arguments: &[&str]) -> Vec<serde_json::Value> {
    let all = [&["bench", "--json", "--steps", "1"], arguments].concat();
    run(ranks, &all).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The page's numbers come from these formulas, and the formulas agree with what ranks report.
#[test]
fn the_formulas_of_the_page_are_what_ranks_measure() {
    let _turn = turn();
    let elements = 4_000_000.0;
    for (storage, wire, states) in [
        ("f32", "stored", "sharded"),
        ("bf16-sr,8bit", "stored", "sharded"),
        ("f32", "bf16", "sharded"),
        ("f32", "stored", "whole"),
    ] {
        for ranks in [1, 2, 4] {
            // Buckets that are smaller than the model.
            let sizes = ["--elements", "4000000", "--bucket", "1000000"];
            let kinds = ["--storage", storage, "--wire", wire, "--states", states];
            let objects = bench(ranks, &[&sizes[..], &kinds[..]].concat());
            assert_eq!(objects.len(), ranks);
            let wire = if wire == "bf16" { Wire::Bf16 } else { Wire::Stored };
            let states = if states == "whole" { States::Whole } else { States::Sharded };
            let bytes = PerParameter::of(&storage.parse().unwrap(), wire).unwrap();
            let scale = Scale { parameters: elements, ranks: ranks as f64, bytes, states };
            for object in &objects {
                let close = |key: &str, expected: f64| {
                    let measured = object[key].as_f64().unwrap();
                    assert!(
                        (measured - expected).abs() <= 0.02 * expected,
                        "{key} is {measured}, computed {expected}: {object}"
                    );
                };
                close("state_bytes", scale.state_bytes());
                close("sent_bytes", scale.sent_bytes());
                close("received_bytes", scale.sent_bytes());
                close("parameter_bytes", elements * bytes.parameters);
                close("gradient_bytes", elements * bytes.gradients);
                // Five buffers, whatever the size of the model.
                let staging = object["staging_bytes"].as_u64().unwrap();
                assert!(staging <= 5 * object["bucket"].as_u64().unwrap(), "{object}");
            }
        }
    }
}

/// Every tensor of a rule of whole matrices is on one rank.
#[test]
fn whole_tensors_are_shared_out() {
    let _turn = turn();
    // Four tensors of 2²⁰ elements, of one dimension: each has a state of f32.
    let objects = bench(3, &["--optimizer", "adafactor", "--elements", "4194304"]);
    let states: Vec<u64> = objects.iter().map(|object| object["state_bytes"].as_u64().unwrap()).collect();
    let tensor = 4 << 20;
    assert_eq!(states, [2 * tensor, tensor, tensor]);
}

#[test]
fn the_page_has_the_tables() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/scale.md")).unwrap();
    assert!(page.contains(&scale::page().unwrap()), "print the tables with `cargo run -p wgpu-optim-mpi -- scale`");
}

#[test]
fn mistakes_are_errors_on_every_rank() {
    let _turn = turn();
    for (arguments, words) in [
        (&["bench", "--optimizer", "adamww"][..], "did you mean `adamw`?"),
        (&["bench", "--bucket", "100"], "bucket is 100 bytes, needs 4096 to 2^30"),
        (&["bench", "--timeout", "0"], "--timeout needs a number of seconds above 0"),
        (&["bench", "--optimizer", "sadam"], "evaluates gradients of whole tensors inside a step"),
        (&["verify", "--case", "nothing"], "no case has `nothing` in its name"),
        (&["verify", "--load", "/nowhere"], "/nowhere"),
    ] {
        let output = mpirun(2, arguments).output().expect("mpirun: install Open MPI");
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && messages.contains(words), "{arguments:?}: {messages}");
    }
}

/// Two ranks with other arguments each build no optimizer, and the error says what differs.
#[test]
fn ranks_that_build_other_optimizers_are_refused() {
    let _turn = turn();
    for (arguments, what) in [
        (["--optimizer", "lion"], "groups or settings"),
        (["--elements", "9000"], "tensors"),
        (["--storage", "bf16-sr"], "tensors"),
        (["--bucket", "8192"], "options"),
    ] {
        let bench = ["bench", "--elements", "8000", "--timeout", "20"];
        let mut command = mpirun(1, &bench);
        command.args([":", "-n", "1", COMMAND, "bench", "--timeout", "20"]).args(arguments);
        if arguments[0] != "--elements" {
            command.args(["--elements", "8000"]);
        }
        let output = command.output().expect("mpirun: install Open MPI");
        let messages = String::from_utf8_lossy(&output.stderr);
        let expected = format!("rank 1: its {what} differ from those of rank 0");
        assert!(!output.status.success() && messages.contains(&expected), "{arguments:?}: {messages}");
    }
}
