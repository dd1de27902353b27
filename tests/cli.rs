//! The command line as a user sees it: the built program, its exit status and its output.
#![cfg(feature = "cli")]

mod support {
    pub(crate) mod trajectories;
}

use std::process::{Command, Output, Stdio};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use wgpu_optim::optim::ALL;

use support::trajectories;

const HEADER: &str =
    "schema crate_version wgpu_version adapter vendor device device_type api driver driver_info cpu time";

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wgpu-optim"));
    // Mesa prints a warning on standard error if this folder is missing.
    command.args(arguments).env("XDG_RUNTIME_DIR", env!("CARGO_TARGET_TMPDIR"));
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the program starts")
}

#[track_caller]
fn passes(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", errors(&output));
    text(&output)
}

/// Expects this exit status and one line of error, and returns the line.
#[track_caller]
fn fails(arguments: &[&str], status: i32) -> String {
    let output = run(arguments);
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {errors}");
    let lines: Vec<&str> = errors.lines().filter(|line| !line.starts_with("note: ")).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("error: "), "{arguments:?}: {errors}");
    lines[0].to_owned()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// The objects after the header. Every line must be an object.
#[track_caller]
fn objects(stdout: &str) -> Vec<Value> {
    let lines: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect();
    assert_eq!(keys(&lines[0]), HEADER, "{stdout}");
    lines[1..].to_vec()
}

fn keys(object: &Value) -> String {
    object.as_object().expect("an object").keys().map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn help_teaches() {
    for command in ["info", "verify", "bench", "replay", "train", "race", "shader"] {
        let long = passes(&[command, "--help"]);
        assert!(long.contains("Examples:") && long.contains("Exit status: 0 success; 1 past"), "{long}");
        assert!(passes(&[command, "-h"]).len() < long.len());
    }
    let train = passes(&["train", "--help"]);
    for entry in ALL {
        assert!(train.contains(&format!("  {:<10} lr ", entry.name)), "{} is not in {train}", entry.name);
    }
    for part in
        ["lr (required)", "a number in [0, 1): beta1, beta2", "[default: 128,64]", "one of velocity gradient: norm_of"]
    {
        assert!(train.contains(part), "{part} is not in {train}");
    }
    assert!(passes(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
}

/// clap wraps help to the terminal. A text with its own line breaks is wrapped twice, and its lines end up uneven.
#[test]
fn help_is_wrapped_once_and_has_no_example_twice() {
    for command_name in ["", "info", "verify", "bench", "replay", "train", "race", "shader"] {
        let arguments: Vec<&str> = [command_name, "--help"].into_iter().filter(|part| !part.is_empty()).collect();
        let output = command(&arguments).env("COLUMNS", "2000").stdin(Stdio::null()).output().expect("it starts");
        let help = text(&output);
        let (about, rest) = help.split_once("\nUsage: ").expect("a usage");
        let (_, rest) = rest.split_once("\n\n").expect("a paragraph");
        let prose = |line: &&str| !line.is_empty() && !line.starts_with(' ');
        for line in about.lines().skip(1).chain(rest.lines()).filter(prose) {
            assert!(line.ends_with(['.', ':']), "{command_name}: a line ends in the middle of a sentence: {line}");
        }
        let examples: Vec<&str> = help.lines().filter(|line| line.starts_with("  wgpu-optim")).collect();
        let unique: std::collections::BTreeSet<&str> =
            examples.iter().map(|line| line.trim().split("   ").next().unwrap_or_default()).collect();
        assert!(!examples.is_empty() && unique.len() == examples.len(), "{command_name}: {examples:?}");
        // At the width that clap assumes without a terminal, every example fits into one line.
        assert!(examples.iter().all(|line| line.chars().count() <= 100), "{command_name}: {examples:?}");
    }
}

#[test]
fn settings_show_their_defaults_and_ranges() {
    let named: Vec<&str> = ALL.iter().flat_map(|entry| ["--optimizer", entry.name]).collect();
    let found = objects(&passes(&[&["info", "--json"], &named[..]].concat()));
    let settings: Vec<(&str, &str)> =
        ALL.iter().flat_map(|entry| entry.settings.iter().map(|setting| (entry.name, *setting))).collect();
    let shown: Vec<(&str, &str)> = found
        .iter()
        .map(|o| (o["optimizer"].as_str().expect("a name"), o["setting"].as_str().expect("a name")))
        .collect();
    assert_eq!(shown, settings);
    let of = |optimizer: &str, setting: &str| {
        let found = found.iter().find(|o| o["optimizer"] == optimizer && o["setting"] == setting).expect("a setting");
        assert_eq!(keys(found), "optimizer setting default accepts");
        (found["default"].clone(), found["accepts"].as_str().expect("a text").to_owned())
    };
    assert_eq!(of("adamw", "amsgrad"), (false.into(), "true or false".to_owned()));
    assert_eq!(of("adamw", "beta1"), (0.9.into(), "a number in [0, 1)".to_owned()));
    assert_eq!(of("adai", "lr"), (Value::Null, "a finite number of at least 0".to_owned()));
    assert_eq!(of("sadam", "k").1, "a whole number in [1, 8]");
    assert_eq!(of("vradam", "norm_of"), ("velocity".into(), "one of velocity gradient".to_owned()));
    let human = passes(&["info", "--optimizer", "adamw"]);
    assert!(human.starts_with("adamw\n") && human.contains("  amsgrad       false       true or false\n"), "{human}");
    assert!(fails(&["info", "--set", "lr=1"], 2).contains("--set needs --model"));
}

#[test]
fn mistakes_are_named_in_one_line() {
    for (arguments, parts) in [
        (&["trian"][..], &["unrecognized subcommand 'trian'", "train"][..]),
        (&["train", "--epoch", "3"], &["--epoch", "--epochs"]),
        (&["train", "--epochs", "many"], &["many", "--epochs"]),
        (&["train", "--optimizer", "adamv"], &["unknown optimizer `adamv`, did you mean `adam`?", "known: sgd, "]),
        (&["train", "--set", "lr"], &["needs KEY=VALUE"]),
        (&["train", "--set", "beta_1=0.9"], &["unknown setting of adamw `beta_1`, did you mean `beta1`?"]),
        (
            &["train", "--set", "lr=1e300"],
            &["adamw: lr is 1e300, needs a finite number of at least 0 that f32 holds", "3.4028235e38"],
        ),
        (
            &["train", "--clip", "1e300"],
            &["clip is 1e300, needs a finite number above 0 that f32 holds", "3.4028235e38"],
        ),
        (&["train", "--loss-scale", "1e300"], &["loss scale is 1e300", "from 1.3e-29 to 7.9e28"]),
        (&["train", "--set", "lr=inf"], &["adamw: lr is inf, needs a finite number of at least 0"]),
        (&["train", "--set", "lr=-1"], &["adamw: lr is -1, needs a finite number of at least 0"]),
        (&["train", "--set", "lr=nan"], &["adamw: lr is NaN"]),
        (&["train", "--set", "lr=true"], &["adamw: lr is true, needs a number"]),
        (&["train", "--optimizer", "adai"], &["adai: lr has no default and must be given"]),
        (&["train", "--clip", "-1"], &["clip is -1, needs a finite number above 0"]),
        (&["train", "--clip", "glob:1"], &["unknown clip `glob`, did you mean `global`?"]),
        (&["train", "--clip", "value:much"], &["clip `value:much` needs a number"]),
        (&["train", "--schedule", "cosin:steps=5"], &["did you mean `cosine`?"]),
        (&["train", "--schedule", "constant:base=-1"], &["schedule constant: base is -1"]),
        (&["train", "--optimizer", "flowadam", "--schedule", "cosine:total=460"], &["would stand still"]),
        (&["train", "--ema", "1"], &["decay of the weights' average is 1, needs a number in [0, 1)"]),
        (&["train", "--no-decay", "rank:one"], &["no-decay `rank:one` needs a whole number"]),
        (&["train", "--optimizer", "prox_sgd", "--no-decay"], &["prox_sgd has no weight_decay"]),
        (&["train", "--loss-scale", "0"], &["loss scale is 0, needs a finite number above 0"]),
        (&["train", "--storage", "bf16"], &["unknown storage `bf16`", "bf16-nearest, bf16-sr"]),
        (&["train", "--storage", "w=8bit"], &["unknown state of adamw `w`", "known: m, v"]),
        (&["train", "--optimizer", "sadam", "--storage", "bf16-sr"], &["storage `bf16-sr`: sadam probes", "use f32"]),
        (&["train", "--resume", "missing.safetensors"], &["missing.safetensors: "]),
        (&["train", "--resume", "Cargo.toml"], &["Cargo.toml: "]),
        (&["train", "--backend", "reference", "--save", "x"], &["a checkpoint holds f32", "not the reference"]),
        (
            &["train", "--save", "x", "--optimizer", "sgd", "--optimizer", "lion"],
            &["take one --optimizer, but 2 are given"],
        ),
        (&["train", "--log", "/"], &["/: "]),
        (&["train", "--batch", "0"], &["batch size is 0, needs 1..=1438"]),
        (&["train", "--hidden", "0"], &["[64, 0, 10]"]),
        (&["train", "--backend", "cuda"], &["cuda", "gpu, cpu, reference, vulkan, metal, dx12, gl"]),
        (&["train", "--backend", "cpu", "--adapter", "0"], &["--adapter 0 needs --backend gpu, but --backend is cpu"]),
        (&["verify", "--optimizer", "adamv"], &["did you mean `adam`?"]),
        (&["verify", "--case", "adamw"], &["has no variant", "adamw/default/1025", "default, amsgrad"]),
        (&["verify", "--case", "adamw/"], &["has no variant", "adamw/default/1025"]),
        (&["verify", "--case", "adamw/amsgrad"], &["has no size", "adamw/amsgrad/1025"]),
        (&["verify", "--case", "adamw/slow/3"], &["unknown variant of adamw `slow`; known: default, amsgrad"]),
        (&["verify", "--backend", "reference"], &["--backend gpu or cpu"]),
        (&["--json", "info"], &["info", "--json"]),
        (&["info", "--model", "3x"], &["model: `3x` is not a shape", "768x768"]),
        (&["info", "--model", "99G"], &["model: it has more than 17179869184 parameters"]),
        (&["info", "--model", "missing.safetensors"], &["missing.safetensors: "]),
        (&["info", "--model", "1k", "--storage", "8-bit"], &["unknown storage `8-bit`, did you mean `8bit`?"]),
        (&["info", "--model", "1k", "--optimizer", "adamv"], &["unknown optimizer `adamv`, did you mean `adam`?"]),
        (&["info", "--model", "1k", "--set", "block=4"], &["unknown setting of sgd `block`"]),
        (&["info", "--model", "1k", "--backend", "cpu"], &["--model counts the memory of a GPU, but --backend is cpu"]),
        (&["info", "--storage", "8bit"], &["--storage needs --model"]),
        (&["info", "--roles"], &["--model"]),
        (&["replay"], &["FILE"]),
        (&["replay", "missing.safetensors"], &["missing.safetensors: "]),
        (&["replay", "Cargo.toml"], &["Cargo.toml: "]),
        (&["bench", "--backend", "reference"], &["--backend gpu or cpu"]),
        (&["bench", "--tensors", "1,2,3", "--elements", "4,5"], &["--tensors has 3 numbers and --elements 2"]),
        (&["bench", "--elements", "768x"], &["`` is no number of elements: give 1000000, or 768x3072"]),
        (&["bench", "--elements", "4294967296x4294967296"], &["a matrix of 4294967296x4294967296 has more than"]),
        (&["bench", "--with", "clip,emma"], &["unknown feature `emma`, did you mean `ema`?"]),
        (&["bench", "--baseline", "missing.jsonl"], &["missing.jsonl: "]),
        (&["shader", "adamv"], &["unknown optimizer or kernel `adamv`, did you mean `adam`?"]),
        (&["shader", "softmax", "--set", "lr=1"], &["`softmax` is an objective's kernel and has no setting `lr`"]),
        (&["shader", "adamw", "--stage", "stats"], &["adamw has no stage `stats`; it has update"]),
        (&["shader", "vradam", "--target", "spirv"], &["choose --stage stats or --stage finalize or --stage update"]),
    ] {
        let error = fails(arguments, 2);
        for part in parts {
            assert!(error.contains(part), "{arguments:?}: {part} is not in {error}");
        }
    }
}

#[test]
fn unknown_optimizers_of_files_are_named() {
    let mut bytes = std::fs::read(trajectories::folder().join("adamw.safetensors")).expect("a golden file");
    let (named, misnamed) = (br#""optimizer":"adamw""#, br#""optimizer":"adamv""#);
    let at = bytes.windows(named.len()).position(|part| part == named).expect("the header names the optimizer");
    bytes[at..at + misnamed.len()].copy_from_slice(misnamed);
    let file = temporary(&bytes);
    let error = fails(&["replay", file.path().to_str().expect("UTF-8"), "--backend", "cpu"], 2);
    assert!(error.contains(".safetensors: unknown optimizer `adamv`, did you mean `adam`?"), "{error}");
}

/// A file with these bytes.
fn temporary(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".safetensors").tempfile().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("written");
    file
}

/// A run that finds no adapter.
#[cfg(target_os = "linux")]
fn without_driver(arguments: &[&str]) -> Output {
    let mut command = command(arguments);
    command.env("WGPU_BACKEND", "vulkan").env_remove("WGPU_ADAPTER_NAME");
    command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent").output().expect("it starts")
}

#[test]
fn no_adapter_is_status_3() {
    let error = fails(&["train", "--adapter", "no such adapter"], 3);
    assert!(error.contains("no GPU adapter found for `no such adapter`, found: "), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn no_driver_is_status_3_where_a_gpu_was_asked_for() {
    let explicit = without_driver(&["train", "--backend", "gpu", "--epochs", "1"]);
    assert_eq!(explicit.status.code(), Some(3));
    assert!(errors(&explicit).contains("no driver is installed"), "{}", errors(&explicit));
    assert_eq!(without_driver(&["verify"]).status.code(), Some(3));
    let open = without_driver(&["train", "--epochs", "1"]);
    assert_eq!(open.status.code(), Some(0), "{}", errors(&open));
    let note = errors(&open);
    assert!(note.contains("running on the CPU") && note.contains("apt install mesa-vulkan-drivers"), "{note}");
}

/// The error of neither mistake mentions a missing driver.
#[test]
fn unknown_and_missing_backends_are_named() {
    for arguments in
        [&["info"][..], &["verify"], &["train", "--epochs", "1"], &["bench"], &["info", "--model", "1k"], &[]]
    {
        let output = command(arguments).env("WGPU_BACKEND", "vulcan").output().expect("it starts");
        let error = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        let parts =
            ["unknown value of WGPU_BACKEND `vulcan`, did you mean `vulkan`?", "known: vulkan, metal, dx12, gl"];
        assert!(parts.iter().all(|part| error.contains(part)) && !error.contains("driver"), "{arguments:?}: {error}");
    }
    if cfg!(target_os = "linux") {
        let error = fails(&["verify", "--backend", "metal"], 2);
        assert!(error.contains("the backend metal does not exist here: this build for linux has vulkan"), "{error}");
        let output = command(&["info"]).env("WGPU_BACKEND", "dx12").output().expect("it starts");
        assert!(errors(&output).contains("the backend dx12 does not exist here"), "{}", errors(&output));
        // One known backend of several is enough.
        let output = command(&["info"]).env("WGPU_BACKEND", "dx12,vulkan").output().expect("it starts");
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    }
}

#[test]
fn info_finds_an_adapter_that_runs() {
    let found = objects(&passes(&["info", "--json"]));
    let adapters: Vec<&Value> = found.iter().filter(|o| o.get("index").is_some()).collect();
    assert!(!adapters.is_empty(), "no adapter: these tests need one, sh tests/run.sh installs it");
    for adapter in &adapters {
        assert!(adapter["limits"]["max_storage_buffer_binding_size"].as_u64().is_some_and(|x| x > 0), "{adapter}");
        assert!(["discrete", "integrated", "virtual", "cpu", "other"].iter().any(|t| adapter["device_type"] == *t));
        assert!(adapter["runs"] == true || adapter["why_not"].is_string(), "{adapter}");
    }
    assert!(adapters.iter().any(|adapter| adapter["runs"] == true), "{adapters:?}");
    let cpu = found.iter().find(|o| o.get("vector_units").is_some()).expect("the CPU");
    assert!(cpu["threads"].as_u64().is_some_and(|n| n > 0));
    assert!(["gpu", "cpu"].contains(&found.last().expect("a choice")["chosen"].as_str().expect("a name")));
    let human = passes(&["info"]);
    assert!(human.contains("adapter 0: ") && human.contains("vector units") && human.contains("chosen: "), "{human}");
}

/// The guide shows the output of the command, on a machine without a GPU too.
#[test]
fn the_guide_shows_the_memory_that_the_program_prints() {
    let (_, section) = include_str!("../docs/guide/storage.md").split_once("\n## Memory").expect("the section");
    let command = section.lines().find_map(|line| line.strip_prefix("cargo run --release -- ")).expect("a command");
    let (_, shown) = section.split_once("```text\n").expect("its output");
    let (shown, _) = shown.split_once("```").expect("its end");
    if cfg!(target_os = "linux") {
        let output = without_driver(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
        assert_eq!(text(&output), shown);
        assert!(
            errors(&output).contains("note: no adapter: counted with wgpu's default limits"),
            "{}",
            errors(&output)
        );
    }
}

#[test]
fn memory_is_counted_for_every_optimizer_and_storage() {
    let found = objects(&passes(&["info", "--model", "2*300x20,16", "--json"]));
    assert_eq!(found.len(), 5 * ALL.len());
    for count in &found {
        let fields = "optimizer storage tensors parameters bytes bytes_per_parameter state_bytes roles refused";
        assert_eq!(keys(count), fields);
        let roles: u64 = count["roles"].as_object().expect("roles").values().filter_map(Value::as_u64).sum();
        let refused = count["refused"].is_string();
        assert_eq!(refused, roles == 0, "{count}");
        if !refused {
            assert_eq!((count["bytes"].as_u64(), count["parameters"].as_u64()), (Some(roles), Some(12_016)), "{count}");
        }
    }
    let of = |optimizer: &str, storage: &str| {
        let found = found.iter().find(|c| c["optimizer"] == optimizer && c["storage"] == storage);
        found.expect("it is counted").clone()
    };
    // The matrices have more than 4096 elements; the vector has fewer and keeps f32.
    let blocks = 2 * (6000 + 4 * 24) + 4 * 16;
    assert_eq!(of("adamw", "bf16-sr,8bit")["state_bytes"], 2 * blocks);
    assert_eq!(of("adamw", "bf16-sr,8bit")["roles"]["state v"], blocks);
    assert_eq!(
        of("sadam", "bf16-sr")["refused"],
        "storage `bf16-sr`: sadam probes the loss at distances that half precision does not resolve: use f32"
    );
    let one =
        passes(&["info", "--model", "1k", "--optimizer", "adam", "--set", "amsgrad=true", "--storage", "states=bf16"]);
    assert!(one.contains("adam in f32,states=bf16\n") && one.contains("state v_max "), "{one}");
    let table = passes(&["info", "--model", "1M"]);
    let line = table.lines().find(|line| line.starts_with("sadam ")).expect("a line");
    assert_eq!(line.matches("refused").count(), 3, "{table}");
    let roles = passes(&["info", "--model", "1M", "--roles", "--optimizer", "lion"]);
    assert_eq!(roles.matches("\ntotal ").count(), 5, "{roles}");
}

#[test]
fn memory_is_counted_for_files() {
    let file = trajectories::folder().join("adamw.safetensors");
    let file = file.to_str().expect("UTF-8");
    let bytes = std::fs::read(file).expect("readable");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let elements: usize = metadata.tensors().values().map(|info| info.shape.iter().product::<usize>()).sum();
    let found = objects(&passes(&["info", "--model", file, "--optimizer", "sgd", "--storage", "f32", "--json"]));
    assert_eq!((found.len(), &found[0]["parameters"]), (1, &Value::from(elements)));
    assert_eq!(found[0]["tensors"], metadata.tensors().len());
}

#[test]
fn golden_files_pass_on_every_backend() {
    let files: Vec<String> =
        trajectories::files().iter().map(|path| path.to_str().expect("UTF-8").to_owned()).collect();
    for backend in ["gpu", "cpu", "reference"] {
        let mut arguments = vec!["replay", "--json", "--backend", backend];
        arguments.extend(files.iter().map(String::as_str));
        let found = objects(&passes(&arguments));
        assert_eq!(found.len(), files.len());
        for (file, result) in files.iter().zip(&found) {
            assert_eq!(keys(result), "file optimizer backend steps compared worst_share worst passed");
            assert_eq!((&result["file"], &result["backend"]), (&Value::from(file.as_str()), &Value::from(backend)));
            assert!(result["passed"] == true && result["compared"].as_u64().is_some_and(|n| n > 0), "{result}");
            assert!(result["worst_share"].as_f64().is_some_and(|x| x <= 1.0), "{result}");
        }
    }
}

/// A golden file with one expected number of `key` moved by `offset`.
fn doctored(name: &str, key: &str, offset: f64) -> tempfile::NamedTempFile {
    let mut bytes = std::fs::read(trajectories::folder().join(name)).expect("a golden file");
    let (length, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let at = 8 + length + metadata.info(key).expect("the key").data_offsets.0;
    let number = f64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    bytes[at..at + 8].copy_from_slice(&(number + offset).to_le_bytes());
    temporary(&bytes)
}

#[test]
fn a_file_with_a_changed_expectation_is_past_its_tolerance() {
    for (key, quantity) in [("expect/2/param/d", "param"), ("expect/10/v/d", "v")] {
        let file = doctored("adamw.safetensors", key, 1e-3);
        for backend in ["gpu", "cpu", "reference"] {
            let output = run(&["replay", file.path().to_str().expect("UTF-8"), "--json", "--backend", backend]);
            assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
            let result = &objects(&text(&output))[0];
            assert_eq!(result["passed"], false);
            let worst = &result["worst"];
            assert_eq!(
                (&worst["quantity"], &worst["tensor"], &worst["index"]),
                (&quantity.into(), &"d".into(), &0.into())
            );
        }
    }
}

#[test]
fn a_changed_setting_is_past_the_tolerance() {
    let file = trajectories::folder().join("adamw.safetensors");
    let file = file.to_str().expect("UTF-8");
    assert_eq!(run(&["replay", file, "--backend", "cpu", "--set", "beta2=0.9"]).status.code(), Some(1));
    let error = fails(&["replay", file, "--backend", "cpu", "--set", "alpha=1"], 2);
    assert!(error.contains("unknown setting of adamw `alpha`"), "{error}");
}

/// A failure of one file does not stop the others: all files are replayed, and the worst status is returned.
#[test]
fn every_file_is_replayed() {
    let file = trajectories::folder().join("lion.safetensors");
    let file = file.to_str().expect("UTF-8");
    let output = run(&["replay", "missing.safetensors", file, "--backend", "cpu", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(objects(&text(&output))[0]["passed"], true);
}

#[test]
fn outputs_hold_every_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = trajectories::folder().join("adamw.safetensors");
    for (backend, dtype) in [("gpu", Dtype::F32), ("cpu", Dtype::F32), ("reference", Dtype::F64)] {
        let out = folder.path().join(backend);
        let (file, target) = (file.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
        passes(&["replay", file, "--backend", backend, "--output", target]);
        let (written, source) = (std::fs::read(&out).expect("written"), std::fs::read(file).expect("readable"));
        let written = SafeTensors::deserialize(&written).expect("a safetensors file");
        let source = SafeTensors::deserialize(&source).expect("a safetensors file");
        let tensors = source.names().into_iter().filter_map(|key| key.strip_prefix("param/")).collect::<Vec<_>>();
        assert_eq!(written.names().len(), 10 * 3 * tensors.len());
        for (t, tensor) in (1..=10).flat_map(|t| tensors.iter().map(move |tensor| (t, tensor))) {
            let initial = source.tensor(&format!("param/{tensor}")).expect("a tensor");
            for quantity in ["param", "m", "v"] {
                let found = written.tensor(&format!("{quantity}/{t}/{tensor}")).expect("a tensor");
                assert_eq!((found.dtype(), found.shape()), (dtype, initial.shape()));
            }
        }
        if let ("reference", tensor) = (backend, tensors[0]) {
            let numbers = |data: &[u8]| -> Vec<f64> {
                data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("eight"))).collect()
            };
            let found = numbers(written.tensor(&format!("param/10/{tensor}")).expect("a tensor").data());
            let want = numbers(source.tensor(&format!("expect/10/param/{tensor}")).expect("a tensor").data());
            assert!(found.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} {want:?}");
        }
    }
}

#[test]
fn several_outputs_go_to_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("new");
    let files = ["sgd.safetensors", "lion.safetensors"]
        .map(|name| trajectories::folder().join(name).to_str().expect("UTF-8").to_owned());
    passes(&["replay", &files[0], &files[1], "--backend", "cpu", "--output", target.to_str().expect("UTF-8")]);
    assert!(target.join("sgd.safetensors").is_file() && target.join("lion.safetensors").is_file());
}

fn train(arguments: &[&str]) -> Vec<Value> {
    let mut found = objects(&passes(&[&["train", "--json"], arguments].concat()));
    for epoch in &mut found {
        assert_eq!(keys(epoch), "optimizer backend epoch loss train_accuracy held_out_loss held_out_accuracy seconds");
        // The remaining metadata must be the same in every run.
        let seconds = epoch.as_object_mut().expect("an object").remove("seconds");
        assert!(seconds.and_then(|s| s.as_f64()).is_some_and(|s| s > 0.0));
    }
    found
}

#[test]
fn training_learns_alike_on_every_backend() {
    let runs = ["gpu", "cpu", "reference"].map(|backend| train(&["--epochs", "5", "--backend", backend]));
    for run in &runs {
        assert_eq!(run.iter().map(|e| e["epoch"].as_u64()).collect::<Vec<_>>(), (1..=5).map(Some).collect::<Vec<_>>());
        assert!(run[4]["held_out_accuracy"].as_f64().is_some_and(|x| x > 0.93), "{run:?}");
        for (epoch, exact) in run.iter().zip(&runs[2]) {
            for quantity in ["loss", "held_out_loss"] {
                let (loss, exact) =
                    (epoch[quantity].as_f64().expect("a loss"), exact[quantity].as_f64().expect("a loss"));
                assert!((loss - exact).abs() < 1e-3 * exact, "{quantity}: {loss}, in f64 {exact}");
            }
        }
    }
}

#[test]
fn a_seed_decides_the_run() {
    for backend in ["gpu", "cpu"] {
        let run = |seed| train(&["--epochs", "2", "--backend", backend, "--optimizer", "vradam", "--seed", seed]);
        let first = run("7");
        assert_eq!(first, run("7"));
        assert_ne!(first, run("8"));
    }
}

#[test]
fn training_takes_any_shape_and_several_optimizers() {
    let arguments = ["--optimizer", "sgd", "--optimizer", "prox_sgd", "--set", "lr=0.1", "--backend", "gpu"];
    let shape = ["--epochs", "1", "--hidden", "33", "--batch", "1438"];
    let found = train(&[&arguments[..], &shape].concat());
    assert_eq!(found.iter().map(|e| e["optimizer"].as_str()).collect::<Vec<_>>(), [Some("sgd"), Some("prox_sgd")]);
    // An epoch has more steps than the optimizer allows in flight.
    let found = train(&["--batch", "2", "--epochs", "1", "--hidden", "8", "--backend", "gpu"]);
    assert!(found[0]["loss"].as_f64().is_some_and(|loss| loss < 2.3), "{found:?}");
    let human = passes(&["train", "--epochs", "1", "--backend", "cpu", "--optimizer", "adamw", "--optimizer", "sgd"]);
    assert!(human.contains("64-128-64-10") && human.contains("held-out accuracy after the last epoch"), "{human}");
}

/// Epochs without their times.
fn timeless(mut epochs: Vec<Value>) -> Vec<Value> {
    epochs.iter_mut().for_each(|epoch| drop(epoch.as_object_mut().expect("an object").remove("seconds")));
    epochs
}

fn train_with(arguments: &[&str]) -> Vec<Value> {
    timeless(objects(&passes(&[&["train", "--json"], arguments].concat())))
}

fn number(epoch: &Value, key: &str) -> f64 {
    epoch[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {epoch}"))
}

#[test]
fn storage_shows_in_the_epochs() {
    let run = |storage: &str, backend| {
        train_with(&["--epochs", "3", "--no-decay", "--storage", storage, "--backend", backend])
    };
    let exact = run("f32", "cpu");
    for storage in ["bf16-sr,grads=f32", "bf16-split,8bit", "f16-master,states=bf16-sr", "f32,8bit"] {
        let stored = run(storage, "cpu");
        let (last, f32s) = (&stored[2], &exact[2]);
        assert_eq!(last["storage"], storage);
        assert!(number(last, "held_out_loss") != number(f32s, "held_out_loss"), "{storage} is not f32");
        assert!((number(last, "loss") - number(f32s, "loss")).abs() < 0.03, "{storage}: {last}, in f32 {f32s}");
    }
    for storage in ["f32,8bit", "bf16-split,8bit,min=0", "f16-sr,grads=bf16"] {
        let gpu = run(storage, "gpu");
        assert!((number(&gpu[2], "loss") - number(&exact[2], "loss")).abs() < 0.03, "{storage}: {gpu:?}");
    }
    assert!(
        passes(&["train", "--epochs", "1", "--backend", "cpu", "--storage", "8bit"]).contains("stored as f32,8bit")
    );
}

#[test]
fn training_options_show_in_the_epochs() {
    let around =
        ["--schedule", "linear:start=1,end=0,steps=46", "--ema", "0.9", "--loss-scale", "1024", "--clip", "0.5"];
    let runs = ["gpu", "cpu", "reference"]
        .map(|backend| train_with(&[&["--epochs", "2", "--backend", backend], &around[..]].concat()));
    for run in &runs {
        // 23 steps per epoch: the rate falls from 1e-3 to 0 over 46 steps, and t steps come before the last step of an epoch.
        for (epoch, t) in run.iter().zip([22.0, 45.0]) {
            assert!((number(epoch, "lr") - 1e-3 * (1.0 - t / 46.0)).abs() < 1e-12, "{epoch}");
            assert_eq!((number(epoch, "loss_scale"), number(epoch, "skipped_steps")), (1024.0, 0.0));
            let averaged = number(epoch, "averaged_held_out_loss");
            assert!(averaged > number(epoch, "held_out_loss"), "the average lags behind: {epoch}");
            for key in ["loss", "held_out_loss", "averaged_held_out_loss"] {
                let exact = number(&runs[2][number(epoch, "epoch") as usize - 1], key);
                assert!((number(epoch, key) - exact).abs() < 1e-3 * exact, "{key}: {epoch}, in f64 {exact}");
            }
        }
    }
    let human = passes(&[&["train", "--epochs", "1", "--backend", "cpu", "--no-decay"], &around[..]].concat());
    for part in ["averaged ", "  lr 5.2174e-4", "scale 1.024e3, 0 skipped"] {
        assert!(human.contains(part), "{part} is not in {human}");
    }
    let (header, _) = human.split_once("\nepoch ").expect("a header");
    let features = [
        "gradients clipped: norm over all tensors at most 0.5",
        "learning rate: linear:start=1,end=0,steps=46",
        "average of the weights: decay 0.9",
        "no weight decay for tensors of rank 1 or less",
        "loss scale: initially 1024",
    ];
    for feature in features {
        assert!(header.lines().any(|line| line.trim() == feature), "{feature} is not in {header}");
    }
    let plain = passes(&["train", "--epochs", "1", "--backend", "cpu", "--hidden", "8"]);
    let (header, _) = plain.split_once("\nepoch ").expect("a header");
    assert_eq!(header.lines().count(), 3, "features that are off are not shown: {header}");
}

/// A loss scale that is a power of two is exact, so that a run has the same bits without it. A scale that overflows skips steps.
#[test]
fn gradients_are_scaled_and_unscaled() {
    for backend in ["gpu", "cpu"] {
        let run = |more: &[&str]| train_with(&[&["--epochs", "1", "--backend", backend], more].concat());
        let (plain, scaled) = (run(&[]), run(&["--loss-scale"]));
        assert_eq!((&plain[0]["loss"], 65536.0), (&scaled[0]["loss"], number(&scaled[0], "loss_scale")));
        // With this scale the first gradients are above f16's 65504.
        let high = run(&["--loss-scale", "1e9", "--storage", "f16-master"]);
        let skipped = number(&high[0], "skipped_steps");
        assert!((1.0..100.0).contains(&skipped), "{high:?}");
        let halved = 1e9 * 0.5_f64.powf(skipped);
        assert!((number(&high[0], "loss_scale") / halved - 1.0).abs() < 1e-6, "{high:?}");
    }
}

#[test]
fn clips_change_the_run() {
    let run = |clip: &[&str]| {
        train_with(&[&["--epochs", "1", "--backend", "cpu", "--optimizer", "sgd", "--set", "lr=0.1"], clip].concat())
    };
    let plain = run(&[]);
    let clipped = ["0.1", "tensor:0.1", "value:0.001"].map(|clip| run(&["--clip", clip]));
    assert!(clipped.iter().all(|run| *run != plain) && clipped[0] != clipped[1] && clipped[1] != clipped[2]);
    assert_eq!(clipped[0], run(&["--clip", "group:0.1"]));
}

#[test]
fn a_resumed_run_converts_its_storage_on_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let common = ["--backend", "cpu", "--hidden", "8"];
    let run = |more: &[&str]| train_with(&[&common[..], more].concat());
    let packed = ["--storage", "bf16-sr,8bit,min=0"];
    let (plain, saved) = (place("plain"), place("packed"));
    run(&["--epochs", "1", "--save", &plain]);
    let resumed = [&packed[..], &["--epochs", "2", "--resume", &plain, "--save", &saved]].concat();
    let error = fails(&[&["train"], &common[..], &resumed].concat(), 2);
    assert!(error.contains("its storage: f32, here: bf16-sr,8bit,min=0"), "{error}");
    let first = run(&[&resumed[..], &["--convert"]].concat());
    assert_eq!(first.iter().map(|e| e["epoch"].as_u64()).collect::<Vec<_>>(), [Some(2)]);
    assert_ne!(first, run(&["--epochs", "2", "--resume", &plain]), "it goes on as it is stored");
    // A converted run resumes in its own storage, with the same stochastic rounding.
    let goes_on = || run(&[&packed[..], &["--epochs", "3", "--resume", &saved]].concat());
    assert_eq!(goes_on(), goes_on());
    let whole = run(&[&packed[..], &["--epochs", "2"]].concat());
    let mut broken = run(&[&packed[..], &["--epochs", "1", "--save", &saved]].concat());
    broken.extend(run(&[&packed[..], &["--epochs", "2", "--resume", &saved]].concat()));
    assert_eq!(broken, whole);
    let error = fails(&["train", "--convert"], 2);
    assert!(error.contains("--resume"), "{error}");
}

#[test]
fn a_resumed_run_has_the_bits_of_an_uninterrupted_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let around = ["--schedule", "cosine:steps=115,warmup=10", "--ema", "--loss-scale", "--clip", "1", "--seed", "3"];
    for backend in ["gpu", "cpu"] {
        let place = |name: &str| folder.path().join(format!("{backend}.{name}")).to_str().expect("UTF-8").to_owned();
        let (saved, log) = (place("safetensors"), place("jsonl"));
        let optimizer = ["--backend", backend, "--optimizer", "vradam"];
        let run = |more: &[&str]| train_with(&[&optimizer, &around[..], more].concat());
        let whole = run(&["--epochs", "5"]);
        let mut broken = run(&["--epochs", "2", "--save", &saved, "--log", &log]);
        broken.extend(run(&["--epochs", "5", "--save", &saved, "--log", &log, "--resume", &saved]));
        assert_eq!(broken, whole);
        let logged = std::fs::read_to_string(&log).expect("a log");
        let logged = logged.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
        assert_eq!(timeless(logged), whole);
        let again = |more: &[&str]| {
            let resume = ["train", "--resume", &saved];
            fails(&[&resume[..], &optimizer, &around, more].concat(), 2)
        };
        assert!(again(&["--epochs", "5"]).contains("has 5 completed epochs"));
        let error = again(&["--epochs", "9", "--batch", "32"]);
        assert!(error.contains("its batch: 64, here: 32") && !error.contains("its seed"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_says_where_it_is_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let saved = folder.path().join("run.safetensors");
    let path = saved.to_str().expect("UTF-8");
    let arguments = ["train", "--backend", "cpu", "--epochs", "1000000", "--hidden", "8", "--save", path];
    let child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    while !saved.exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(signal.is_ok_and(|status| status.success()));
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", errors(&output));
    assert!(
        errors(&output).contains(&format!("saved in {path}: --resume {path} continues the run")),
        "{}",
        errors(&output)
    );
    let epochs = text(&output).lines().last().and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let epochs = epochs.expect("an epoch's line");
    let next = (epochs + 1).to_string();
    let resumed = train_with(&["--backend", "cpu", "--hidden", "8", "--resume", path, "--epochs", &next]);
    assert_eq!(resumed.iter().map(|e| e["epoch"].as_u64()).collect::<Vec<_>>(), [Some(epochs + 1)]);
}

/// A trajectory of the folder `tests/golden`, copied.
fn trajectory_in(folder: &std::path::Path, name: &str) -> String {
    let copy = folder.join(name);
    std::fs::copy(trajectories::folder().join("sgd.safetensors"), &copy).expect("copied");
    copy.to_str().expect("UTF-8").to_owned()
}

const SHORT: [&str; 6] = ["train", "--backend", "cpu", "--hidden=8", "--epochs", "2"];

#[cfg(unix)]
#[test]
fn outputs_replace_only_regular_files() {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let file = trajectory_in(folder.path(), "in.safetensors");
    let replay = ["replay", file.as_str(), "--backend", "cpu"];
    let commands =
        [(&SHORT[..], "--save"), (&SHORT, "--log"), (&replay, "--output"), (&["shader", "adamw"], "--output")];
    std::fs::create_dir(at("folder")).expect("created");
    std::fs::create_dir(at("folder/in.safetensors")).expect("created");
    assert!(Command::new("mkfifo").arg(at("pipe")).status().is_ok_and(|status| status.success()));
    symlink("/dev/null", at("device")).expect("linked");
    symlink("around", at("around")).expect("linked");
    for (arguments, option) in commands {
        for name in ["folder", "pipe", "device", "around", "missing/file"] {
            let output = run(&[arguments, &[option, &at(name)]].concat());
            let case = format!("{arguments:?} {option} {name}: {}", errors(&output));
            assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{case}: {}", text(&output));
            assert!(errors(&output).starts_with(&format!("error: {}", at(name))), "{case}");
        }
        let (real, link) = (at(&format!("real{option}")), at(&format!("link{option}")));
        std::fs::write(&real, "old").expect("written");
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).expect("set");
        let _ = std::fs::remove_file(&link);
        symlink(format!("real{option}"), &link).expect("linked");
        passes(&[arguments, &[option, &link]].concat());
        assert!(std::fs::symlink_metadata(&link).expect("it is there").is_symlink());
        let mode = std::fs::metadata(&real).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{arguments:?} {option}");
        assert_ne!(std::fs::read(&real).expect("it is there"), b"old");
    }
    let kind = |name: &str| std::fs::symlink_metadata(at(name)).expect("it is there").file_type();
    assert!(kind("pipe").is_fifo() && kind("device").is_symlink() && kind("folder").is_dir());
    // The report of a race has several files.
    std::fs::create_dir(at("report")).expect("created");
    std::fs::create_dir(at("report/runs.csv")).expect("created");
    let refused = run(&[&RACE[..], &["--report", &at("report")]].concat());
    assert!(refused.status.code() == Some(2) && refused.stdout.is_empty(), "{}", text(&refused));
    assert!(errors(&refused).contains("runs.csv: is a folder"), "{}", errors(&refused));
    assert_eq!(std::fs::read_dir(at("report")).expect("a folder").count(), 1, "the race began");
}

#[test]
fn an_output_is_neither_an_input_nor_another_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let file = trajectory_in(folder.path(), "in.safetensors");
    let (saved, log, rule) = (at("run.safetensors"), at("log"), at("rule.wgsl"));
    passes(&[&SHORT[..], &["--save", &saved, "--log", &log]].concat());
    std::fs::create_dir(at("other")).expect("created");
    std::fs::copy(&file, at("other/in.safetensors")).expect("copied");
    std::fs::write(&rule, MOMENTUM).expect("written");
    std::fs::write(at("runs.csv"), include_str!("data/ratings.tsv")).expect("written");
    std::fs::hard_link(&saved, at("hard")).expect("linked");
    #[cfg(unix)]
    std::os::unix::fs::symlink(&file, at("soft")).expect("linked");
    let other = at("other/in.safetensors");
    let dotted = at("other/../in.safetensors");
    let resume = ["train", "--backend", "cpu", "--hidden=8", "--epochs", "4", "--resume", &saved];
    let twice = at("new");
    let mut cases = vec![
        (vec!["replay", &file, "--output", &file], "which FILE reads"),
        (vec!["replay", &file, "--output", &dotted], "which FILE reads"),
        (vec!["replay", &file, "--rule", &rule, "--output", &rule], "which --rule reads"),
        (vec!["replay", &file, &other, "--output", &twice], "both write"),
        ([&resume[..], &["--log", &saved]].concat(), "which --resume reads"),
        (vec!["train", "--rule", &rule, "--save", &rule], "which --rule reads"),
        (vec!["train", "--rule", &rule, "--log", &rule], "which --rule reads"),
        (vec!["train", "--backend", "cpu", "--save", &twice, "--log", &twice], "both write"),
    ];
    let (hard, soft, ratings, here) = (at("hard"), at("soft"), at("runs.csv"), at(""));
    cases.push((
        vec!["race", "ratings", "--backend", "cpu", "--file", &ratings, "--report", &here],
        "which --file reads",
    ));
    if cfg!(unix) {
        cases.push(([&resume[..], &["--log", &hard]].concat(), "which --resume reads"));
        cases.push((vec!["replay", &soft, "--output", &file], "which FILE reads"));
    }
    let contents = || {
        let entries = std::fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry").path());
        let mut files: Vec<_> = entries.map(|path| (std::fs::read(&path).ok(), path)).collect();
        files.sort();
        files
    };
    let before = contents();
    for (arguments, part) in &cases {
        let error = fails(arguments, 2);
        assert!(error.contains(part), "{arguments:?}: {error}");
        assert!(contents() == before, "{arguments:?} changed a file");
    }
    // A run may replace the checkpoint from which it resumes.
    passes(&[&resume[..], &["--save", &saved, "--log", &log]].concat());
    passes(&["replay", &file, "--backend", "cpu", "--output", &at("other")]);
}

/// The epochs of a log.
fn logged(path: &std::path::Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).expect("a log");
    let epoch = |line: &str| serde_json::from_str::<Value>(line).ok()?["epoch"].as_u64();
    text.lines().map(|line| epoch(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

#[test]
fn a_resumed_log_has_every_epoch_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (saved, log) = (at("run.safetensors"), at("run.jsonl"));
    for epochs in [0, 1, 3] {
        passes(&[&SHORT[..], &["--save", &saved, "--log", &log]].concat());
        // A kill between the log and the checkpoint leaves epochs that no checkpoint has, and perhaps a part of a line.
        let mut text = std::fs::read_to_string(&log).expect("a log");
        for epoch in 3..3 + epochs {
            text.push_str(&format!("{{\"epoch\":{epoch}}}\n"));
        }
        std::fs::write(&log, format!("{text}{{\"epoc")).expect("written");
        let resume = ["train", "--backend=cpu", "--hidden=8", "--epochs=4", "--resume", &saved, "--log", &log];
        passes(&resume);
        assert_eq!(logged(log.as_ref()), [1, 2, 3, 4], "{epochs} more epochs");
    }
    std::fs::write(&log, "my notes\n").expect("written");
    let resume = ["train", "--backend=cpu", "--hidden=8", "--epochs=4", "--resume", &saved, "--log", &log];
    let error = fails(&resume, 2);
    assert!(error.contains("line 1 is not an epoch of a log"), "{error}");
    assert_eq!(std::fs::read(&log).expect("a log"), b"my notes\n");
}

#[test]
fn a_killed_run_leaves_a_log_that_agrees_with_its_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let (saved, log) = (folder.path().join("run.safetensors"), folder.path().join("run.jsonl"));
    let arguments = ["train", "--backend", "cpu", "--hidden=8", "--epochs=100000", "--save"];
    let files = [saved.to_str().expect("UTF-8"), "--log", log.to_str().expect("UTF-8")];
    for round in 0..6_u64 {
        let resume = if round == 0 { vec![] } else { vec!["--resume", files[0]] };
        let mut child = command(&[&arguments[..], &files, &resume].concat());
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        while !saved.exists() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        std::thread::sleep(std::time::Duration::from_millis(300 + 37 * round));
        child.kill().expect("killed");
        child.wait().expect("ended");
        let notes = wgpu_optim::checkpoint::Checkpoint::load(&saved).expect("a checkpoint").notes().clone();
        let text = std::fs::read_to_string(&log).expect("a log");
        let whole = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["epoch"].as_u64());
        let epochs: Vec<u64> = whole.collect();
        assert_eq!(epochs, (1..=epochs.len() as u64).collect::<Vec<_>>(), "round {round}");
        let saved: usize = notes["epochs"].parse().expect("a number");
        assert!([saved, saved + 1].contains(&epochs.len()), "{saved} epochs saved, {} logged", epochs.len());
    }
}

/// Expects a refusal by a program that may take 2 GB at most.
#[cfg(target_os = "linux")]
#[track_caller]
fn fails_in_little_memory(arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_wgpu-optim");
    let limited = "ulimit -v 2000000; exec timeout 60 \"$0\" \"$@\"";
    let output = Command::new("sh").args(["-c", limited, program]).args(arguments).output().expect("it starts");
    let errors = errors(&output);
    assert!(
        output.status.code() == Some(2) && errors.starts_with("error: "),
        "{arguments:?}: {:?} {errors}",
        output.status
    );
    assert!(!errors.contains("out of memory"), "{arguments:?}: {errors}");
    errors
}

#[cfg(target_os = "linux")]
#[test]
fn no_file_is_read_without_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let cpu = ["--backend", "cpu"];
    for endless in ["/dev/zero", "/dev/urandom"] {
        for arguments in [
            &["replay", endless][..],
            &["train", "--resume", endless],
            &["train", "--rule", endless],
            &["bench", "--rule", endless],
            &["replay", "tests/golden/sgd.safetensors", "--rule", endless],
            &["race", "ratings", "--tune=false", "--file", endless],
            &["bench", "--baseline", endless],
        ] {
            let error = fails_in_little_memory(&[arguments, &cpu].concat());
            assert!(error.contains(endless) || error.contains("rule"), "{arguments:?}: {error}");
        }
        let linked = at(&format!("{}.safetensors", endless.replace('/', "")));
        std::os::unix::fs::symlink(endless, &linked).expect("linked");
        let error = fails_in_little_memory(&["info", "--model", &linked]);
        assert!(error.contains("header"), "{error}");
    }
    // Files that claim a large size, or that need much memory when they are read.
    let nested = format!("{{\"a\":[{}]}}\n", vec!["[]"; 1 << 20].join(","));
    std::fs::write(at("baseline"), &nested).expect("written");
    let error = fails_in_little_memory(&["bench", "--baseline", &at("baseline"), "--backend", "cpu"]);
    assert!(error.contains("line 1: longer than 16384 bytes"), "{error}");
    let run = serde_json::json!({ "schema": wgpu_optim::tools::report::SCHEMA });
    std::fs::write(at("baseline"), format!("{run}\n").repeat(10_001)).expect("written");
    let error = fails_in_little_memory(&["bench", "--baseline", &at("baseline"), "--backend", "cpu"]);
    assert!(error.contains("it has more than 10000 lines"), "{error}");
    std::fs::create_dir(at("report")).expect("created");
    std::fs::File::create(at("report/runs.jsonl")).and_then(|file| file.set_len(1 << 33)).expect("created");
    let error = fails_in_little_memory(&[&RACE[..], &["--report", &at("report")]].concat());
    assert!(error.contains("line 1: longer than"), "{error}");
    std::fs::File::create(at("log")).and_then(|file| file.set_len(1 << 33)).expect("created");
    passes(&[&SHORT[..], &["--save", &at("saved")]].concat());
    let resume = ["train", "--backend=cpu", "--hidden=8", "--epochs=4", "--resume", &at("saved"), "--log", &at("log")];
    let error = fails_in_little_memory(&resume);
    assert!(error.contains("line 1: longer than"), "{error}");
    // A sparse file of 8 GB after the header of a small one.
    for name in ["saved", "in.safetensors"] {
        trajectory_in(folder.path(), "in.safetensors");
        std::fs::File::options().write(true).open(at(name)).and_then(|file| file.set_len(1 << 33)).expect("set");
        let command = if name == "saved" { &["train", "--hidden=8", "--resume"][..] } else { &["replay"] };
        let error = fails_in_little_memory(&[command, &[&at(name)], &cpu].concat());
        assert!(error.contains("of data, its header accounts for"), "{error}");
    }
}

/// No error and no table may hold characters that a terminal obeys.
#[test]
fn texts_of_files_are_escaped() {
    const HOSTILE: &str = "\u{1b}[31m\u{7}\u{202e}evil";
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (saved, odd) = (at("run.safetensors"), at("odd.safetensors"));
    passes(&[&SHORT[..], &["--save", &saved]].concat());
    let mut checkpoint = wgpu_optim::checkpoint::Checkpoint::load(&saved).expect("a checkpoint");
    checkpoint.notes_mut().insert("seed".to_owned(), HOSTILE.to_owned());
    checkpoint.save(&saved).expect("saved");
    let golden = std::fs::read(trajectories::folder().join("sgd.safetensors")).expect("a file");
    let file = SafeTensors::deserialize(&golden).expect("a file");
    let (_, metadata) = SafeTensors::read_metadata(&golden).expect("a header");
    let mut texts = metadata.metadata().clone().expect("texts");
    let tensors = || file.tensors().into_iter().map(|(name, view)| (name.replace("/w", &format!("/w{HOSTILE}")), view));
    safetensors::serialize_to_file(tensors(), Some(texts.clone()), odd.as_ref()).expect("written");
    let named = at("named.safetensors");
    texts.insert("optimizer".to_owned(), HOSTILE.to_owned());
    safetensors::serialize_to_file(tensors(), Some(texts), named.as_ref()).expect("written");
    std::fs::write(at("ratings"), format!("1\t2\t3\n1\t3\t{HOSTILE}\n")).expect("written");
    std::fs::write(at("baseline"), format!("{HOSTILE}\n")).expect("written");
    std::fs::write(at("rule.wgsl"), format!("struct {HOSTILE} {{}}")).expect("written");
    // The name of a file is such a text too.
    let hostile = trajectory_in(folder.path(), &format!("{HOSTILE}.safetensors"));
    for arguments in [
        &["train", "--backend", "cpu", "--hidden=8", "--epochs=4", "--resume", &saved][..],
        &["replay", "--backend", "cpu", &odd],
        &["replay", "--backend", "cpu", "--set", "lr=0.5", &odd],
        &["replay", "--backend", "cpu", &named],
        &["race", "ratings", "--backend", "cpu", "--tune=false", "--file", &at("ratings")],
        &["bench", "--backend", "cpu", "--baseline", &at("baseline")],
        &["train", "--rule", &at("rule.wgsl")],
        &["info", "--model", &odd, "--optimizer", "sgd"],
        &["replay", "--backend", "cpu", &hostile],
        &["train", "--backend", "cpu", "--hidden=8", "--epochs=1", "--save", &at(&format!("{HOSTILE}.saved"))],
    ] {
        let output = run(arguments);
        let all = text(&output) + &errors(&output);
        let obeyed = all.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(obeyed, None, "{arguments:?}: {all:?}");
    }
    std::fs::write(at("model.safetensors.index.json"), "{}").expect("written");
    let error = fails(&["info", "--model", &at("model.safetensors.index.json")], 2);
    assert!(error.contains("give one of its shards"), "{error}");
}

const MOMENTUM: &str = "\
//! setting lr = 0.1 (0..)
//! setting momentum = 0.9 (0..1)
struct Hyper { lr: f32, momentum: f32 }
struct State { m: vec4<f32> }
fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    (*s).m = h.momentum * (*s).m + g;
    return -h.lr * (*s).m;
}
";

#[test]
fn custom_rules_run_on_the_gpu() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let rule = file("heavy_ball.wgsl", MOMENTUM);
    let own = train_with(&["--rule", &rule, "--epochs", "2", "--backend", "gpu", "--set", "lr=0.05"]);
    assert!(own[1]["optimizer"] == "heavy_ball" && number(&own[1], "held_out_accuracy") > 0.8, "{own:?}");
    let known =
        ["--optimizer", "sgd", "--set", "lr=0.05", "--set", "momentum=0.9", "--epochs", "2", "--backend", "gpu"];
    let known = train_with(&known);
    assert!((number(&own[1], "loss") / number(&known[1], "loss") - 1.0).abs() < 1e-3, "{own:?} {known:?}");

    let bench = ["bench", "--rule", &rule, "--elements", "1000", "--seconds", "0", "--samples", "2"];
    let found = objects(&passes(&[&bench[..], &["--json"]].concat()));
    assert_eq!(found.iter().map(|m| m["backend"].as_str()).collect::<Vec<_>>(), [Some("gpu")]);
    assert_eq!(found[0]["optimizer"], "heavy_ball");

    let lion = trajectories::folder().join("lion.safetensors");
    let replayed = run(&["replay", lion.to_str().expect("UTF-8"), "--rule", &rule]);
    assert_ne!(replayed.status.code(), Some(0), "momentum is no lion: {}", text(&replayed));

    for arguments in
        [&["train", "--rule", &rule, "--backend", "cpu"][..], &[&bench[..], &["--backend", "cpu"]].concat()]
    {
        assert!(fails(arguments, 2).contains("heavy_ball has no CPU form: it runs on the GPU only"));
    }
    assert!(fails(&["train", "--rule", &rule, "--optimizer", "sgd"], 2).contains("cannot be used with"));
    assert!(fails(&["train", "--rule", &rule, "--set", "rate=1"], 2).contains("unknown setting of heavy_ball `rate`"));
    assert!(fails(&["train", "--rule", "missing.wgsl"], 2).contains("missing.wgsl: "));
    let broken = run(&["train", "--rule", &file("broken.wgsl", &MOMENTUM.replace("(*s).m;", "(*s).n;"))]);
    assert!(broken.status.code() == Some(2) && errors(&broken).contains("broken:7:"), "{}", errors(&broken));
}

/// A custom rule that is the author's rule replays the author's numbers.
#[test]
fn a_custom_rule_replays_another_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let rule = folder.path().join("sign_momentum.wgsl");
    let text = "\
//! setting lr = 1e-4 (0..)
//! setting beta1 = 0.9 (0..1)
//! setting beta2 = 0.99 (0..1)
//! setting weight_decay = 0 (0..)
struct Hyper { lr: f32, beta1: f32, one_minus_beta1: f32, beta2: f32, one_minus_beta2: f32, weight_decay: f32 }
struct State { m: vec4<f32> }
fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let way = sign(h.beta1 * (*s).m + h.one_minus_beta1 * g);
    (*s).m = h.beta2 * (*s).m + h.one_minus_beta2 * g;
    return -h.lr * (way + h.weight_decay * p);
}
";
    std::fs::write(&rule, text).expect("written");
    let lion = trajectories::folder().join("lion.safetensors");
    let rule = rule.to_str().expect("UTF-8");
    let found = objects(&passes(&["replay", lion.to_str().expect("UTF-8"), "--rule", rule, "--json"]));
    assert!(found[0]["passed"] == true && found[0]["backend"] == "gpu", "{found:?}");
}

#[test]
fn verification_has_its_fields() {
    for backend in ["gpu", "cpu"] {
        let found = objects(&passes(&[
            "verify",
            "--case",
            "vradam/free/1025",
            "--case",
            "lion/default/3",
            "--json",
            "--backend",
            backend,
        ]));
        assert_eq!(found.len(), 2);
        for case in &found {
            let fields = "optimizer backend adapter storage case worst_param_ulp worst_step_error worst_state_error tolerance passed";
            assert_eq!(keys(case), fields);
            assert_eq!((&case["passed"], &case["backend"]), (&Value::from(true), &Value::from(backend)));
        }
        assert_eq!((&found[0]["case"], &found[1]["optimizer"]), (&"vradam/free/1025".into(), &"lion".into()));
    }
    let human = passes(&["verify", "--optimizer", "lion", "--backend", "cpu"]);
    assert!(human.contains("lion/default/1025 ") && human.contains("18 of 18 cases passed"), "{human}");
}

/// Without a driver, the tour names what to install, and continues on the CPU.
#[cfg(target_os = "linux")]
#[test]
fn the_tour_runs_without_a_gpu() {
    let tour = |arguments: &[&str]| {
        let output = without_driver(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
        text(&output)
    };
    let human = tour(&[]);
    for part in [
        "none was found",
        "apt install mesa-vulkan-drivers",
        "`param ulp` is the worst error of a parameter, in units in its last place",
        "`of copy` and `of stream` are the step's GB/s divided by those of",
        "All passed",
        "Does it learn?",
        "adaiw",
        "1000 × 1000",
        "What next",
    ] {
        assert!(human.contains(part), "{part} is not in {human}");
    }
    let found = objects(&tour(&["--json"]));
    let learnt = found.iter().filter(|o| o["epoch"] == 10);
    let accuracies: Vec<f64> = learnt.filter_map(|o| o["held_out_accuracy"].as_f64()).collect();
    assert!(accuracies.len() == 5 && accuracies.iter().all(|x| *x > 0.93), "{accuracies:?}");
    for entry in ALL {
        assert!(found.iter().any(|o| o["optimizer"] == entry.name && o["passed"] == true), "{}", entry.name);
    }
    assert!(found.last().is_some_and(|o| o["median_s"].as_f64().is_some_and(|s| s > 0.0)));
}

#[test]
fn measurements_have_their_fields_and_regressions_their_status() {
    let bench =
        ["bench", "--optimizer", "adamw", "--tensors", "3", "--elements", "1000", "--seconds", "0", "--samples", "2"];
    let lines = passes(&[&bench[..], &["--json"]].concat());
    let found = objects(&lines);
    assert_eq!(found.iter().map(|m| m["backend"].as_str()).collect::<Vec<_>>(), [Some("gpu"), Some("cpu")]);
    for m in &found {
        let fields = "optimizer backend adapter storage tensors elements samples median_s min_s bytes_per_element gb_per_s \
                      copy_gb_per_s stream_gb_per_s dispatches";
        assert!(keys(m).starts_with(fields), "{m}");
        assert_eq!((m["tensors"].as_u64(), m["elements"].as_u64()), (Some(3), Some(1000)));
    }
    assert_eq!((found[0]["dispatches"].as_u64(), found[1]["dispatches"].as_u64()), (Some(1), None));

    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut fast = found[1].clone();
    let against = |line: &Value, limit: &str| {
        std::fs::write(file.path(), format!("{line}\n")).expect("written");
        let path = file.path().to_str().expect("UTF-8");
        run(&[&bench[..], &["--backend", "cpu", "--baseline", path, "--max-regression", limit]].concat())
    };
    assert_eq!(against(&fast, "1000").status.code(), Some(0));
    fast["gb_per_s"] = Value::from(1e9);
    let slower = against(&fast, "0.05");
    assert_eq!(slower.status.code(), Some(1));
    assert!(errors(&slower).contains("regressed: adamw 3 × 1000"), "{}", errors(&slower));
}

#[test]
fn matrices_are_benched_with_their_rows_and_columns() {
    let sizes = ["--tensors", "3,2", "--elements", "30x20,35"];
    let bench = ["bench", "--optimizer", "muon", "--optimizer", "adamw", "--seconds", "0", "--samples", "1"];
    let found = objects(&passes(&[&bench[..], &sizes, &["--backend", "gpu", "--json"]].concat()));
    let size = |m: &serde_json::Value| (m["tensors"].clone(), m["elements"].clone(), m["columns"].clone());
    let sizes: Vec<_> = found.iter().map(size).collect();
    let (matrices, others) = ((3.into(), 600.into(), 20.into()), (2.into(), 35.into(), serde_json::Value::Null));
    assert_eq!(sizes, [matrices.clone(), matrices, others.clone(), others]);
    let table = passes(&[&bench[..], &["--elements", "30x20", "--backend", "gpu"]].concat());
    assert!(table.contains("1 × 30x20"), "{table}");
}

#[test]
fn features_are_benched_each_combination() {
    let bench = ["bench", "--optimizer", "adamw", "--elements", "1000", "--seconds", "0", "--samples", "1", "--json"];
    let with = ["--with", "none", "--with", "accumulate", "--with", "ema,clip", "--backend", "gpu"];
    let found = objects(&passes(&[&bench[..], &with[..]].concat()));
    let of = |m: &Value| (m["with"].to_string(), m["bytes_per_element"].as_f64(), m["dispatches"].as_u64());
    let expected = [("[]", 28.0, 1), ("[\"accumulate\"]", 48.0, 2), ("[\"clip\",\"ema\"]", 40.0, 3)];
    let expected = expected.map(|(with, bytes, dispatches)| (with.to_owned(), Some(bytes), Some(dispatches)));
    assert_eq!(found.iter().map(of).collect::<Vec<_>>(), expected);
}

#[test]
fn biases_train_without_decay_on_both_sides() {
    let train = ["train", "--epochs", "1", "--hidden", "16", "--set", "weight_decay=0.9", "--set", "lr=0.01", "--json"];
    let loss = |more: &[&str]| {
        let epochs = objects(&passes(&[&train[..], more].concat()));
        epochs[0]["held_out_loss"].as_f64().expect("a loss")
    };
    let plain = loss(&["--backend", "cpu"]);
    let misspelt = fails(&[&train[..], &["--backend", "cpu", "--no-decay", "nothing*"]].concat(), 2);
    assert!(misspelt.contains("no tensor of group `default` fits the pattern `nothing*`"), "{misspelt}");
    let without = loss(&["--backend", "cpu", "--no-decay"]);
    assert_ne!(without, plain);
    let gpu = loss(&["--backend", "gpu", "--no-decay"]);
    assert!(
        (gpu - without).abs() < 0.1 * (gpu - plain).abs().max(1e-3),
        "gpu {gpu}, cpu {without}, with decay {plain}"
    );
}

#[test]
fn every_shader_prints_in_every_language() {
    for entry in ALL {
        let wgsl = passes(&["shader", entry.name]);
        assert!(wgsl.contains("fn update(") && wgsl.contains("@compute"), "{wgsl}");
        for (target, part) in [("msl", "kernel void"), ("hlsl", "[numthreads("), ("glsl", "#version 310 es")] {
            let text = passes(&["shader", entry.name, "--target", target]);
            assert!(text.contains(part), "{} in {target}: {text}", entry.name);
        }
        let spirv = run(&["shader", entry.name, "--stage", "update", "--target", "spirv"]);
        assert_eq!(spirv.status.code(), Some(0));
        assert_eq!(spirv.stdout[..4], 0x0723_0203_u32.to_le_bytes());
    }
    for (kernel, _) in wgpu_optim::tools::objectives::shaders() {
        assert!(passes(&["shader", kernel, "--target", "msl"]).contains("kernel void"));
    }
}

#[test]
fn shaders_depend_on_settings_and_stages() {
    let stages = passes(&["shader", "vradam"]);
    for stage in ["stats", "finalize", "update"] {
        assert!(stages.contains(&format!("// ======== vradam, {stage}\n")), "{stages}");
        let one = passes(&["shader", "vradam", "--stage", stage]);
        assert!(stages.contains(&one) && !one.contains("// ========"));
    }
    let matrices = passes(&["shader", "muon"]);
    let kernels = ["direction", "gather", "gram", "norm", "blend", "product", "scatter", "update"];
    let places = kernels.map(|kernel| matrices.find(&format!("// ======== muon, {kernel}\n")).expect(kernel));
    assert!(places.is_sorted(), "the order of a step: {places:?}");
    assert!(passes(&["shader", "muon", "--stage", "product"]).contains("fn wo_multiply("));
    assert!(passes(&["shader", "adafactor"]).contains("// ======== adafactor, tiles\n"));
    assert_ne!(passes(&["shader", "sgd"]), passes(&["shader", "sgd", "--set", "momentum=0.9"]));
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    assert_eq!(passes(&["shader", "lion", "--target", "spirv", "--output", path]), "");
    assert_eq!(std::fs::read(file.path()).expect("written")[..4], 0x0723_0203_u32.to_le_bytes());
}

#[test]
fn layouts_are_described() {
    let found = objects(&passes(&["shader", "lamb", "--json"]));
    assert_eq!(
        found.iter().map(|o| o["stage"].as_str()).collect::<Vec<_>>(),
        [Some("stats"), Some("finalize"), Some("update")]
    );
    for stage in &found {
        assert_eq!(keys(stage), "name stage target entry_points bindings structs text");
    }
    let update = &found[2];
    let params =
        update["bindings"].as_array().expect("a list").iter().find(|b| b["name"] == "wo_params").expect("wo_params");
    assert_eq!(keys(params), "group binding name access type");
    assert_eq!((&params["access"], &params["type"]), (&"read_write".into(), &"array<vec4<f32>>".into()));
    let state = update["structs"].as_array().expect("a list").iter().find(|s| s["name"] == "State").expect("State");
    assert_eq!(state["size"], 32);
    let v = &state["members"][1];
    assert_eq!(
        (&v["name"], &v["type"], &v["offset"], &v["size"]),
        (&"v".into(), &"vec4<f32>".into(), &16.into(), &16.into())
    );
    let words = objects(&passes(&["shader", "adamw", "--target", "spirv", "--json"]))[0]["words"].clone();
    assert_eq!(words[0], 0x0723_0203);
}

#[test]
fn a_reader_that_closes_the_pipe_is_not_a_failure() {
    for arguments in [&["shader", "adamw"][..], &["train", "--backend", "cpu", "--epochs", "3"], &["train", "--help"]] {
        let mut child = command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.code() == Some(0) && errors(&output).is_empty(), "{output:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("the device");
    let output = command(&["shader", "adamw"]).stdout(full).output().expect("it starts");
    assert!(output.status.code() == Some(2) && errors(&output).starts_with("error: standard output: "), "{output:?}");
}

/// A race that takes little time.
const RACE: [&str; 13] = [
    "race",
    "matrix",
    "--backend",
    "cpu",
    "--problem",
    "rows=16",
    "--problem",
    "columns=20",
    "--problem",
    "rank=2",
    "--seeds",
    "2",
    "--budget=steps:12",
];

#[test]
fn races_print_tables_json_and_reports() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("UTF-8");
    let field = ["--optimizer", "adam", "--optimizer", "adamw", "--tune=false"];
    let table = passes(&[&RACE[..], &field, &["--report", path]].concat());
    assert!(table.contains("adamw") && table.contains("rmse") && table.contains("report.md"), "{table}");
    assert!(table.contains("A smoke run: with 2 seeds, "), "{table}");
    let paper =
        ["race", "paper-flowadam", "--backend", "cpu", "--heat", "rosenbrock", "--budget=steps:4", "--seeds", "5"];
    let table = passes(&paper);
    assert!(table.contains("(subject)") && !table.contains("**") && !table.contains("smoke run"), "{table}");
    for file in ["report.md", "runs.csv", "runs.jsonl", "matrix-loss.svg"] {
        assert!(directory.path().join(file).exists(), "{file}");
    }
    let json = objects(&passes(&[&RACE[..], &field, &["--json"]].concat()));
    let kinds: Vec<&str> = json.iter().map(|object| object["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["run", "run", "run", "run", "standing", "standing"]);
    assert!(json.iter().all(|object| object["heat"] == "matrix"));
    assert_eq!(json[0]["gradients"], 12);
    // Runs that the report holds are not repeated.
    let again = run(&[&RACE[..], &field, &["--report", path]].concat());
    assert!(errors(&again).contains("the report holds 4 runs"), "{}", errors(&again));
}

/// The report shows the command of the race, whatever bytes its arguments hold.
#[cfg(target_os = "linux")]
#[test]
fn a_report_goes_to_a_folder_of_any_name() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join(std::ffi::OsStr::from_bytes(b"no\xffUTF-8"));
    let field = ["--optimizer", "adam", "--tune=false", "--report"];
    let output = command(&[&RACE[..], &field].concat()).arg(&report).output().expect("it runs");
    assert!(output.status.success(), "{}", errors(&output));
    let markdown = std::fs::read_to_string(report.join("report.md")).expect("a report");
    assert!(markdown.contains("no\u{fffd}UTF-8"), "{markdown}");
}

#[test]
fn a_race_skips_bad_lines_of_its_file_on_request() {
    let good = include_str!("data/ratings.tsv");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{good}seven eight nine\n")).expect("written");
    let path = file.path().to_str().expect("a path");
    let race = ["race", "ratings", "--file", path, "--backend", "cpu", "--quick", "--seeds", "1", "--tune=false"];
    let refused = run(&race);
    assert_eq!(refused.status.code(), Some(2));
    let number = format!("line {}", good.lines().count() + 1);
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&number), "{refused:?}");
    passes(&[&race[..], &["--skip-bad"]].concat());
}

#[test]
fn mistakes_in_races_are_named() {
    for (arguments, part) in [
        (&["race", "matrx"][..], "unknown suite `matrx`, did you mean `matrix`?"),
        (&["race", "matrix", "--budget", "eval:5"], "unknown budget `eval`, did you mean `evals`?"),
        (&["race", "matrix", "--seeds", "0"], "0 seeds"),
        (
            &["race", "paper-adai", "--heat", "digit", "--heat", "didgits"],
            "unknown heat `didgits`, did you mean `digits`?",
        ),
        (&["race", "matrix", "--set", "lr=1"], "--set needs --optimizer or --rule"),
        (&["race", "matrix", "--file", "ratings.csv"], "takes no file"),
        (&["race", "matrix", "--backend", "cpu", "--problem", "row=5"], "did you mean `rows`?"),
        (&["race", "matrix", "--problem", "row"], "needs KEY=VALUE"),
        (&["race"], "SUITE"),
    ] {
        let error = fails(arguments, 2);
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}
