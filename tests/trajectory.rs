//! Trajectory files: golden files, hostile files, the writer and the comparison.
#![cfg(feature = "tools")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support {
    pub(crate) mod counting;
    pub(crate) mod trajectories;
}

use std::collections::BTreeSet;

use proptest::{prelude::*, sample::Index, test_runner::Config};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use wgpu_optim::Error;
use wgpu_optim::optim::rule::Real;
use wgpu_optim::tools::replay::trajectory::{
    Comparison, Element, Precision, Tensor, Trajectory, Writer, add_travel, raise_peak,
};

use support::counting::counted;
use support::trajectories;

// ---- files

fn golden(stem: &str) -> Trajectory {
    Trajectory::load(trajectories::folder().join(stem).with_extension("safetensors")).unwrap()
}

/// A file in parts, which a test can corrupt.
#[derive(Clone)]
struct Draft {
    metadata: Vec<(String, Value)>,
    entries: Vec<Part>,
}

#[derive(Clone)]
struct Part {
    key: String,
    dtype: String,
    shape: Value,
    data: Vec<u8>,
}

const ODD: &str = "layer/1 \"ü\"\n\u{1b}[31m";

impl Draft {
    /// Three steps of two tensors, one of them with an unusual name, with every kind of key that a file of gradients may hold.
    fn new() -> Self {
        let texts = [
            ("optimizer", "adamw"),
            ("hyper", r#"{"lr": 0.5, "amsgrad": true, "norm_of": "velocity", "k": 2}"#),
            ("steps", "3"),
            ("source", "by hand"),
            ("tolerance_f32", "5e-5"),
            ("tolerance_f64", "1e-12"),
            ("format", "ignored"),
        ];
        let metadata = texts.map(|(key, value)| (key.to_owned(), value.into())).into();
        let mut draft = Self { metadata, entries: Vec::new() };
        for (tensor, shape) in [("w", &[2, 3][..]), (ODD, &[])] {
            draft.floats(&format!("param/{tensor}"), shape);
            for t in 1..=3 {
                draft.floats(&format!("grad/{t}/{tensor}"), shape);
                for j in 1..=2 {
                    draft.floats(&format!("direction/{t}/{j}/{tensor}"), shape);
                }
            }
            for t in [1, 3] {
                draft.doubles(&format!("expect/{t}/param/{tensor}"), shape);
                draft.doubles(&format!("expect/{t}/m/{tensor}"), shape);
            }
        }
        draft.doubles("expect/lgi", &[3]);
        draft.put("expect/triggers", "I64", json!([2]), [1_i64, 3].iter().flat_map(|t| t.to_le_bytes()).collect());
        draft
    }

    fn floats(&mut self, key: &str, shape: &[usize]) {
        let numbers = (0..shape.iter().product()).map(|i| i as f32 - 1.5);
        self.put(key, "F32", json!(shape), numbers.flat_map(f32::to_le_bytes).collect());
    }

    fn doubles(&mut self, key: &str, shape: &[usize]) {
        let numbers = (0..shape.iter().product()).map(|i| i as f64 - 1.5);
        self.put(key, "F64", json!(shape), numbers.flat_map(f64::to_le_bytes).collect());
    }

    fn put(&mut self, key: &str, dtype: &str, shape: Value, data: Vec<u8>) {
        self.entries.push(Part { key: key.to_owned(), dtype: dtype.to_owned(), shape, data });
    }

    fn part(&mut self, key: &str) -> &mut Part {
        self.entries.iter_mut().find(|part| part.key == key).unwrap()
    }

    fn remove(&mut self, key: &str) {
        let before = self.entries.len();
        self.entries.retain(|part| part.key != key);
        assert_eq!(self.entries.len(), before - 1);
    }

    fn text(&mut self, key: &str, value: impl Into<Value>) {
        self.metadata.iter_mut().find(|(k, _)| k == key).unwrap().1 = value.into();
    }

    fn bytes(&self) -> Vec<u8> {
        let mut data = Vec::new();
        let member = |key: &str, value: &Value| format!("{}:{value}", json!(key));
        let texts: Vec<_> = self.metadata.iter().map(|(key, value)| member(key, value)).collect();
        let mut members = vec![format!("\"__metadata__\":{{{}}}", texts.join(","))];
        for Part { key, dtype, shape, data: bytes } in &self.entries {
            let offsets = [data.len(), data.len() + bytes.len()];
            members.push(member(key, &json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets })));
            data.extend(bytes);
        }
        file(&format!("{{{}}}", members.join(",")), &data)
    }
}

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// The problem that the loader finds, after a check that the error names the file.
#[track_caller]
fn refused(bytes: &[u8]) -> String {
    match Trajectory::from_bytes("some.file", bytes) {
        Err(Error::File { file, problem }) if file == "some.file" => problem,
        other => panic!("expected Error::File, got {other:?}"),
    }
}

/// Reads everything that a trajectory offers, so that a fuzzer reaches all of it.
fn touch(trajectory: &Trajectory) -> usize {
    let mut numbers = 0;
    for (i, tensor) in trajectory.tensors().iter().enumerate() {
        assert_eq!(trajectory.initial(i).len(), tensor.elements());
        numbers += trajectory.curvature(i).map_or(0, |c| c.len());
        for t in 1..=trajectory.steps() {
            numbers += trajectory.gradient(t, i).map_or(0, |g| g.len());
            numbers +=
                (1..=trajectory.directions()).map(|j| trajectory.direction(t, j, i).unwrap().len()).sum::<usize>();
        }
        for t in trajectory.expected_steps() {
            numbers += trajectory.expected_param(t, i).map_or(0, |p| p.len());
            let states = trajectory.states().iter();
            numbers += states.filter_map(|state| Some(trajectory.expected_state(t, state, i)?.len())).sum::<usize>();
        }
    }
    numbers + trajectory.lgi().map_or(0, |l| l.len()) + trajectory.triggers().map_or(0, |t| t.len())
}

// ---- valid files

#[test]
fn every_golden_file_matches_its_readme() {
    let mut optimizers = BTreeSet::new();
    for path in trajectories::files() {
        let trajectory = Trajectory::load(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let raw = SafeTensors::deserialize(&bytes).unwrap();
        optimizers.insert(trajectory.optimizer().to_owned());

        assert_eq!(trajectory.name(), path.display().to_string());
        assert!(trajectory.hyper()["lr"].as_f64().is_some_and(|lr| lr > 0.0), "{name}");
        assert!(!trajectory.source().is_empty(), "{name}");
        assert!(trajectory.tolerance_f32() > trajectory.tolerance_f64() && trajectory.tolerance_f64() > 0.0, "{name}");
        assert_eq!(trajectory.expected_steps(), [1, 2, 3, trajectory.steps()], "{name}");
        let names: Vec<_> = trajectory.tensors().iter().map(Tensor::name).collect();
        let known: [&[&str]; 4] = [
            &["a", "b", "c", "d", "e"],
            &["a", "b", "c"],
            &["row", "square", "tall", "wide"],
            &["bias", "row", "square", "tall", "wide"],
        ];
        assert!(known.contains(&names.as_slice()), "{name}: {names:?}");

        // Every number of the file is read once; the initial parameters are read in addition.
        let total: usize = raw.iter().map(|(_, view)| view.shape().iter().product::<usize>()).sum();
        let initial: usize = trajectory.tensors().iter().map(Tensor::elements).sum();
        assert_eq!(touch(&trajectory) + initial, total, "{name}");
        for (i, tensor) in trajectory.tensors().iter().enumerate() {
            let view = raw.tensor(&format!("param/{}", tensor.name())).unwrap();
            assert_eq!(view.shape(), tensor.shape());
            assert_eq!(view.data(), bytemuck::cast_slice::<f32, u8>(&trajectory.initial(i)));
            for t in trajectory.expected_steps() {
                let view = raw.tensor(&format!("expect/{t}/param/{}", tensor.name())).unwrap();
                assert_eq!(view.data(), bytemuck::cast_slice::<f64, u8>(&trajectory.expected_param(t, i).unwrap()));
            }
        }
    }
    let known = "adabelief adadelta adafactor adagrad adai adaiw adam adamax adamw adamw_schedule_free adan ademamix asgd flowadam lamb lion muon nadam prodigy radam rmsprop rprop sadam sgd sgd_schedule_free vradam";
    assert_eq!(optimizers, known.split(' ').map(str::to_owned).collect());
}

#[test]
fn gradients_states_directions_and_records_are_found() {
    let adamw = golden("adamw");
    assert_eq!((adamw.steps(), adamw.states().to_vec()), (10, vec!["m".to_owned(), "v".to_owned()]));
    assert_eq!((adamw.tolerance_f32(), adamw.tolerance_f64()), (5e-5, 1e-12));
    assert_eq!(Value::Object(adamw.hyper().clone()), json!({ "lr": 0.01, "weight_decay": 0.1 }));
    let m = adamw.expected_state(1, "m", 4).unwrap();
    let g = adamw.gradient(1, 4).unwrap();
    assert_eq!((m.len(), g.len()), (1025, 1025));
    assert!(m.iter().zip(g.iter()).all(|(m, g)| (m - 0.1 * f64::from(*g)).abs() <= 1e-15 * f64::from(*g).abs()));
    assert!(adamw.curvature(0).is_none() && adamw.lgi().is_none() && adamw.triggers().is_none());
    assert!(adamw.gradient(0, 0).is_none() && adamw.gradient(11, 0).is_none() && adamw.gradient(1, 5).is_none());
    assert!(adamw.expected_param(4, 0).is_none() && adamw.expected_state(1, "v_max", 0).is_none());
    assert!(golden("adamw_amsgrad").expected_state(10, "v_max", 0).is_some());

    let flow = golden("flowadam_cap");
    assert_eq!((flow.steps(), flow.triggers().unwrap().len()), (45, 20));
    assert!(flow.gradient(1, 0).is_none() && flow.curvature(2).unwrap().len() == 257);

    let sadam = golden("sadam");
    assert_eq!((sadam.directions(), sadam.lgi().unwrap().len(), sadam.hyper()["k"].as_u64()), (2, 10, Some(2)));
    for (t, i) in (1..=10).flat_map(|t| (0..3).map(move |i| (t, i))) {
        let direction = sadam.direction(t, 2, i).unwrap();
        let norm = direction.iter().map(|d| f64::from(*d).powi(2)).sum::<f64>().sqrt();
        assert!((norm - 1.0).abs() < 1e-6, "step {t}, tensor {i}: {norm}");
    }
    assert!(sadam.direction(1, 3, 0).is_none() && sadam.direction(0, 1, 0).is_none());
}

#[test]
fn odd_names_scalars_empty_tensors_and_any_bits_are_valid() {
    let mut draft = Draft::new();
    draft.part("grad/2/w").data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let trajectory = Trajectory::from_bytes("x", draft.bytes()).unwrap();
    assert_eq!(trajectory.tensors().iter().map(Tensor::name).collect::<Vec<_>>(), [ODD, "w"]);
    assert_eq!(trajectory.tensors()[0].shape(), [0; 0]);
    assert_eq!((trajectory.tensors()[0].elements(), trajectory.tensors()[1].elements()), (1, 6));
    assert_eq!(trajectory.expected_steps(), [1, 3]);
    assert_eq!(*trajectory.triggers().unwrap(), [1, 3]);
    assert!(trajectory.gradient(2, 1).unwrap()[0].is_nan());
    let hyper = json!({ "lr": 0.5, "amsgrad": true, "norm_of": "velocity", "k": 2 });
    assert_eq!(Value::Object(trajectory.hyper().clone()), hyper);

    let mut empty = Draft::new();
    for part in empty.entries.iter_mut().filter(|part| part.key.ends_with("/w")) {
        (part.shape, part.data) = (json!([4, 0]), Vec::new());
    }
    assert_eq!(Trajectory::from_bytes("x", empty.bytes()).unwrap().tensors()[1].elements(), 0);
}

#[test]
fn unaligned_numbers_are_read_too() {
    for padding in 0..8 {
        let mut draft = Draft::new();
        draft.metadata.push(("padding".to_owned(), "x".repeat(padding).into()));
        let trajectory = Trajectory::from_bytes("x", draft.bytes()).unwrap();
        assert_eq!(*trajectory.gradient(3, 1).unwrap(), [-1.5, -0.5, 0.5, 1.5, 2.5, 3.5]);
        assert_eq!(*trajectory.expected_state(3, "m", 1).unwrap(), [-1.5, -0.5, 0.5, 1.5, 2.5, 3.5]);
    }
}

// ---- refused files

#[test]
fn every_corrupt_file_is_refused_by_name() {
    type Spoil = fn(&mut Draft);
    let cases: &[(&str, Spoil)] = &[
        ("lacks `grad/2/w`", |d| d.remove("grad/2/w")),
        ("no `param/<tensor>`, needs at least one", |d| d.entries.retain(|part| !part.key.starts_with("param/"))),
        ("`direction/1/1/w` belongs to no `param/<tensor>`", |d| d.remove("param/w")),
        ("lacks `direction/3/1/w`", |d| d.remove("direction/3/1/w")),
        ("lacks `expect/1/m/w`", |d| d.remove("expect/1/m/w")),
        ("lacks `direction/1/3/w`", |d| {
            for t in 1..=3 {
                d.floats(&format!("direction/{t}/3/{ODD}"), &[]);
            }
        }),
        // The check ends at the first missing step, and does not count up to the number.
        ("lacks `direction/1/3/layer", |d| d.floats("direction/1/999999999999999999/w", &[2, 3])),
        ("both `grad/…` and `curvature/…`", |d| d.floats("curvature/w", &[2, 3])),
        ("lacks `curvature/w`", |d| {
            d.entries.retain(|part| !part.key.starts_with("grad/"));
            d.floats(&format!("curvature/{ODD}"), &[]);
        }),
        ("`grad/2/w` is F64, needs F32", |d| {
            d.remove("grad/2/w");
            d.doubles("grad/2/w", &[2, 3]);
        }),
        ("`expect/1/param/w` is F32, needs F64", |d| {
            d.remove("expect/1/param/w");
            d.floats("expect/1/param/w", &[2, 3]);
        }),
        ("`grad/2/w` has shape [3, 2], needs [2, 3]", |d| d.part("grad/2/w").shape = json!([3, 2])),
        ("`expect/3/m/w` has shape [6], needs [2, 3]", |d| d.part("expect/3/m/w").shape = json!([6])),
        ("`expect/lgi` has shape [3, 1], needs [3]", |d| d.part("expect/lgi").shape = json!([3, 1])),
        ("`expect/triggers` has 1 after 1", |d| d.part("expect/triggers").data[8] = 1),
        ("`expect/triggers` has 4 after 1, needs ascending steps from 1 to 3", |d| {
            d.part("expect/triggers").data[8] = 4;
        }),
        ("`expect/triggers` has -1 after 0", |d| d.part("expect/triggers").data[..8].fill(0xff)),
        ("`gradient/1/w` is not a key of a trajectory", |d| d.floats("gradient/1/w", &[2, 3])),
        ("`expect/0/m/w` is not a key", |d| d.doubles("expect/0/m/w", &[2, 3])),
        ("`expect/01/m/w` is not a key", |d| d.doubles("expect/01/m/w", &[2, 3])),
        ("`expect/+1/m/w` is not a key", |d| d.doubles("expect/+1/m/w", &[2, 3])),
        ("`expect/1//w` is not a key", |d| d.doubles("expect/1//w", &[2, 3])),
        ("`param/` is not a key", |d| d.floats("param/", &[2, 3])),
        ("`grad/4/\\u{1b}[31m` belongs to no", |d| d.floats("grad/4/\u{1b}[31m", &[2, 3])),
        ("`grad/99999999999999999999/w` is not a key", |d| d.floats("grad/99999999999999999999/w", &[2, 3])),
        ("`grad/1/w` appears twice", |d| d.floats("grad/1/w", &[2, 3])),
        ("lacks `grad/4/layer", |d| d.text("steps", "4")),
        ("`steps` is 2, needs 3, which a key names", |d| d.text("steps", "2")),
        ("`steps` is `0`, needs a whole number from 1", |d| d.text("steps", "0")),
        ("`steps` is `-1`, needs", |d| d.text("steps", "-1")),
        ("`steps` is `18446744073709551616`, needs", |d| d.text("steps", "18446744073709551616")),
        ("lacks `grad/4/layer", |d| d.text("steps", "18446744073709551615")),
        ("`tolerance_f32` is `nan`, needs a number", |d| d.text("tolerance_f32", "nan")),
        ("`tolerance_f32` is `inf`, needs", |d| d.text("tolerance_f32", "inf")),
        ("`tolerance_f64` is `-1e-3`, needs", |d| d.text("tolerance_f64", "-1e-3")),
        ("`tolerance_f64` is `1`, needs", |d| d.text("tolerance_f64", "1")),
        ("`tolerance_f64` is `tight`, needs", |d| d.text("tolerance_f64", "tight")),
        ("`hyper`: expected value", |d| d.text("hyper", "lr=3")),
        ("`hyper`: `betas`: invalid type: sequence, expected a number", |d| d.text("hyper", r#"{"betas":[0.9]}"#)),
        ("`hyper`: `lr`: invalid type: null", |d| d.text("hyper", r#"{"lr":null}"#)),
        ("`hyper`: `lr` appears twice", |d| d.text("hyper", r#"{"lr":1,"lr":2}"#)),
        ("`hyper`: `lr`: number out of range", |d| d.text("hyper", r#"{"lr":1e999}"#)),
        ("`hyper`: invalid type: sequence, expected an object", |d| d.text("hyper", "[]")),
        ("`steps` appears twice", |d| d.metadata.push(("steps".to_owned(), "3".into()))),
        ("`steps`: invalid type: integer `3`, expected a string", |d| d.text("steps", 3)),
        ("`grad/1/w`: unknown variant `F33`", |d| d.part("grad/1/w").dtype = "F33".to_owned()),
        ("`grad/1/w`: invalid value: integer `-2`", |d| d.part("grad/1/w").shape = json!([-2, -3])),
        ("`grad/1/w`: invalid type: floating point `2.5`", |d| d.part("grad/1/w").shape = json!([2.5, 3])),
        ("`grad/1/w`: F32 [2, 4] needs 32 bytes, its offsets are", |d| d.part("grad/1/w").shape = json!([2, 4])),
        ("`grad/1/w`: F32 [4611686018427387904, 4] has no size", |d| {
            d.part("grad/1/w").shape = json!([1_u64 << 62, 4]);
        }),
        ("`grad/1/w`: invalid length 65, expected a list of at most 64 sizes", |d| {
            d.part("grad/1/w").shape = json!(vec![1; 65]);
        }),
    ];
    assert!(Trajectory::from_bytes("x", Draft::new().bytes()).is_ok());
    for (text, spoil) in cases {
        let mut draft = Draft::new();
        spoil(&mut draft);
        let problem = refused(&draft.bytes());
        assert!(problem.contains(text), "expected \"{text}\", got \"{problem}\"");
        assert!(!problem.contains(char::is_control), "{problem:?}");
    }
    for key in ["optimizer", "hyper", "steps", "source", "tolerance_f32", "tolerance_f64"] {
        let mut draft = Draft::new();
        draft.metadata.retain(|(k, _)| k != key);
        assert_eq!(refused(&draft.bytes()), format!("its metadata lacks `{key}`"));
    }
}

#[test]
fn a_header_that_lies_is_refused_by_name() {
    let entry =
        |start: u64, end: u64| format!(r#"{{"param/a":{{"dtype":"U8","shape":[4],"data_offsets":[{start},{end}]}}}}"#);
    let huge = r#"{"dtype":"U8","shape":[2305843009213693951],"data_offsets":[0,2305843009213693951]}"#;
    let twice = r#"{"__metadata__":{},"__metadata__":{}}"#;
    let overlap =
        r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
    let cases: &[(&str, Vec<u8>)] = &[
        ("is 3 bytes long, needs 8", vec![1, 2, 3]),
        ("is 0 bytes long, needs 8", vec![]),
        ("its header: EOF", file("", &[])),
        ("its header: EOF", file("{", &[])),
        ("its header: invalid type: sequence, expected an object of tensors", file("[]", &[])),
        ("its header: trailing characters", file("{}{}", &[])),
        ("its header: expected value", file("\u{1}", &[])),
        ("give a header of 18446744073709551615 bytes, at most 2 can follow", [&[0xff; 8][..], b"{}"].concat()),
        ("give a header of 3 bytes, at most 2 can follow", [&3_u64.to_le_bytes()[..], b"{}"].concat()),
        ("`param/a`: U8 [4] needs 4 bytes, its offsets are 4..0", file(&entry(4, 0), &[0; 4])),
        ("`param/a`: U8 [4] needs 4 bytes, its offsets are 0..5", file(&entry(0, 5), &[0; 5])),
        ("`param/a`: begins at byte 1 of the data, needs 0", file(&entry(1, 5), &[0; 5])),
        ("`param/a`: ends at byte 4 of the data, the file ends at 3", file(&entry(0, 4), &[0; 3])),
        ("holds 5 bytes of data, its header accounts for 4", file(&entry(0, 4), &[0; 5])),
        ("`b`: begins at byte 2 of the data, needs 4", file(overlap, &[0; 6])),
        ("`param/a`: ends at byte 2305843009213693951 of the data", file(&format!(r#"{{"param/a":{huge}}}"#), &[0; 9])),
        ("`param/a`: invalid type: string", file(r#"{"param/a":"here"}"#, &[])),
        ("`param/a`: missing field `shape`", file(r#"{"param/a":{"dtype":"U8","data_offsets":[0,0]}}"#, &[])),
        ("`__metadata__` appears twice", file(twice, &[])),
        ("its metadata lacks `optimizer`", file("{}", &[])),
    ];
    for (text, bytes) in cases {
        let problem = refused(bytes);
        assert!(problem.contains(text), "expected \"{text}\", got \"{problem}\"");
    }
    assert!(refused(&file(&"[".repeat(100_000), &[])).contains("its header"));
    let long = format!(r#"{{"{}":0}}"#, "x".repeat(1_000_000));
    assert!(refused(&file(&long, &[])).len() < 4000);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = Draft::new().bytes();
    for length in 0..bytes.len() {
        refused(&bytes[..length]);
    }
    refused(&[&bytes[..], &[0]].concat());
}

#[test]
fn steps_without_gradients_are_bounded() {
    let mut draft = Draft::new();
    draft.entries.retain(|part| part.key.starts_with("param/"));
    draft.floats("curvature/w", &[2, 3]);
    draft.floats(&format!("curvature/{ODD}"), &[]);
    draft.text("steps", "1000000");
    assert_eq!(Trajectory::from_bytes("x", draft.bytes()).unwrap().steps(), 1_000_000);
    draft.text("steps", "1000001");
    assert_eq!(refused(&draft.bytes()), "`steps` is 1000001, needs at most 1000000");
    draft.doubles("expect/2000000/param/w", &[2, 3]);
    draft.doubles(&format!("expect/2000000/param/{ODD}"), &[]);
    for steps in ["1", "2000000", "2000001"] {
        draft.text("steps", steps);
        assert_eq!(refused(&draft.bytes()), "a key names step 2000000, needs at most 1000000");
    }
    draft.doubles("expect/18446744073709551615/param/w", &[2, 3]);
    draft.doubles(&format!("expect/18446744073709551615/param/{ODD}"), &[]);
    draft.text("steps", "18446744073709551615");
    assert_eq!(refused(&draft.bytes()), "a key names step 18446744073709551615, needs at most 1000000");
}

#[test]
fn a_missing_file_is_named() {
    let error = Trajectory::load("no/such/file.safetensors").unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path == "no/such/file.safetensors"), "{error}");
    assert!(matches!(Trajectory::load(trajectories::folder().join("README.md")), Err(Error::File { .. })));
}

// ---- memory

/// Loads `bytes`; fails if the loader held more memory at once than a few times the file.
#[track_caller]
fn load_in_bounds(bytes: &[u8]) -> Result<Trajectory, Error> {
    let (loaded, used) = counted(|| Trajectory::from_bytes("some.file", bytes));
    let bound = 6 * bytes.len() + 128 * 1024;
    assert!(used.peak <= bound, "held {} bytes for a file of {}", used.peak, bytes.len());
    loaded
}

#[test]
fn no_header_makes_the_loader_allocate_much_more_than_the_file() {
    let many = |member: &str| vec![member; 100_000].join(",");
    let nothing = r#":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    let headers = [
        format!(r#"{{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[0,1]}}}}"#, many("1")),
        format!(r#"{{"a":{{"dtype":"F64","shape":[{0},{0}],"data_offsets":[0,{0}]}}}}"#, u32::MAX),
        format!(r#"{{"a":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, u64::MAX / 8),
        format!(
            r#"{{"__metadata__":{{{}}}}}"#,
            (0..100_000).map(|i| format!("\"{i}\":\"\"")).collect::<Vec<_>>().join(",")
        ),
        format!("{{{}}}", many(&format!("\"\"{nothing}"))),
        format!("{{{}}}", (0..100_000).map(|i| format!("\"{i}\"{nothing}")).collect::<Vec<_>>().join(",")),
        format!("{{\"{}\":0}}", "\\u0000".repeat(100_000)),
        format!(r#"{{"a":{{"dtype":"{}"}}}}"#, "\\n".repeat(100_000)),
        "[".repeat(100_000),
    ];
    for header in headers {
        assert!(load_in_bounds(&file(&header, &[])).is_err());
    }
    for prefix in [1_u64 << 20, 1 << 40, u64::MAX, u64::MAX - 8] {
        assert!(load_in_bounds(&[&prefix.to_le_bytes()[..], b"{}"].concat()).is_err());
    }
    let mut settings = Draft::new();
    settings.text("hyper", format!("{{{}}}", (0..100_000).map(|i| format!("\"{i}\":0")).collect::<Vec<_>>().join(",")));
    assert!(load_in_bounds(&settings.bytes()).is_err());

    let mut states = Draft::new();
    states.entries.retain(|part| !part.key.contains(ODD));
    (0..20_000).for_each(|i| states.doubles(&format!("expect/{}/{i}/w", i % 3 + 1), &[2, 3]));
    assert_eq!(load_in_bounds(&states.bytes()).unwrap().states().len(), 20_001);
}

#[test]
fn golden_files_are_held_once() {
    for path in trajectories::files() {
        let bytes = std::fs::read(&path).unwrap();
        let (trajectory, loading) = counted(|| Trajectory::from_bytes("x", bytes.as_slice()).unwrap());
        assert!(loading.held < 2 * bytes.len() as isize, "{}", path.display());
        let (_, reading) = counted(|| touch(&trajectory));
        assert!(reading.peak < 100_000, "{}", path.display());
    }
}

// ---- fuzzing

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// Loads within the memory bound and reads the result; any error except [`Error::File`] fails.
fn survives(bytes: &[u8]) {
    match load_in_bounds(bytes) {
        Ok(trajectory) => drop(touch(&trajectory)),
        Err(Error::File { file, problem }) => assert!(file == "some.file" && !problem.is_empty()),
        Err(other) => panic!("{other}"),
    }
}

fn small_golden() -> Vec<Vec<u8>> {
    let files = trajectories::files().into_iter().map(|path| std::fs::read(path).unwrap());
    files.filter(|bytes| bytes.len() < 120_000).collect()
}

/// A header with one value replaced by another.
fn spoil(value: &mut Value, way: u8, number: u64, other: &Value) {
    *value = match way % 8 {
        0 => json!(number),
        1 => json!(-(number as i64)),
        2 => json!(number % 300),
        3 => json!([]),
        4 => json!({}),
        5 => json!(format!("{number}")),
        6 => Value::Null,
        _ => other.clone(),
    };
}

/// Every value inside `value`, including `value` itself.
fn places(value: &Value, here: String, all: &mut Vec<String>) {
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| places(value, format!("{here}/{}", escape(key)), all)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, value)| places(value, format!("{here}/{i}"), all)),
        _ => {}
    }
    all.push(here);
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn mutated_bytes_never_panic(
        which in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<bool>(), any::<u8>()), 0..6),
        cut in prop::option::weighted(0.3, any::<Index>()),
    ) {
        let files = small_golden();
        let mut bytes = which.get(&files).clone();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (at, anywhere, byte) in changes {
            let at = at.index(if anywhere { bytes.len() } else { header });
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survives(&bytes);
    }

    #[test]
    fn mutated_headers_never_panic(
        which in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>(), any::<u64>(), any::<Index>()), 1..4),
    ) {
        let files = small_golden();
        let bytes = which.get(&files);
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
        for (at, way, number, other) in changes {
            let mut all = Vec::new();
            places(&header, String::new(), &mut all);
            let other = header.pointer(other.get(&all[..]).as_str()).unwrap().clone();
            spoil(header.pointer_mut(at.get(&all[..]).as_str()).unwrap(), way, number, &other);
        }
        survives(&file(&header.to_string(), &bytes[end..]));
    }

    #[test]
    fn random_headers_never_panic(
        entries in prop::collection::vec(
            ("(param|grad/[0-3]|curvature|direction/[1-2]/[1-2]|expect/[1-3]/[mv]|expect|.*)/(a|b|lgi|.*)",
             "(F32|F32|F64|I64|F4|U8|.*)", prop::collection::vec(prop_oneof![0..4_usize, any::<usize>()], 0..3), any::<bool>()),
            0..12,
        ),
        steps in "(1|2|3|[0-9]{1,22}|.*)",
        extra in prop::collection::vec(any::<u8>(), 0..16),
    ) {
        let mut draft = Draft::new();
        draft.text("steps", steps);
        draft.entries.clear();
        for (key, dtype, shape, honest) in entries {
            let size = if dtype == "F32" { 4 } else { 8 };
            let bytes = shape.iter().try_fold(size, |n: usize, s| n.checked_mul(*s)).filter(|n| honest && *n < 10_000);
            draft.put(&key, &dtype, json!(shape), vec![1; bytes.unwrap_or(7)]);
        }
        survives(&draft.bytes());
        survives(&[draft.bytes(), extra.clone()].concat());
        survives(&extra);
    }

    #[test]
    fn files_with_keys_left_out_never_panic(kept in prop::collection::vec(prop::bool::weighted(0.97), 40), steps in 0..5_usize) {
        let mut draft = Draft::new();
        let mut kept = kept.into_iter().chain(std::iter::repeat(true));
        draft.entries.retain(|_| kept.next().unwrap());
        draft.text("steps", steps.to_string());
        survives(&draft.bytes());
    }
}

// ---- the writer

#[test]
fn written_files_read_back_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.safetensors");
    std::fs::write(&path, "an older file").unwrap();
    let mut writer = Writer::create(&path, &[("optimizer", "adamw"), ("backend", "cpu \"fast\"")]).unwrap();
    for t in 1..=3 {
        writer.add("param", t, "w", &[2, 1], &[t as f32, f32::NAN]).unwrap();
        writer.add("m", t, ODD, &[], &[1e-300 * t as f64]).unwrap();
        writer.add::<f32>("m", t, "empty", &[0], &[]).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "an older file");
    writer.finish().unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "temporary files are left");

    let bytes = std::fs::read(&path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["backend"], "cpu \"fast\"");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), 9);
    let w = file.tensor("param/2/w").unwrap();
    assert_eq!((w.dtype(), w.shape()), (Dtype::F32, &[2, 1][..]));
    assert_eq!(w.data(), [2.0_f32.to_le_bytes(), f32::NAN.to_le_bytes()].concat());
    let m = file.tensor(&format!("m/3/{ODD}")).unwrap();
    assert_eq!((m.dtype(), m.data()), (Dtype::F64, &3e-300_f64.to_le_bytes()[..]));
    assert_eq!(file.tensor("m/1/empty").unwrap().shape(), [0]);
}

#[test]
fn an_empty_output_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    Writer::create(&path, &[]).unwrap().finish().unwrap();
    assert!(SafeTensors::deserialize(&std::fs::read(&path).unwrap()).unwrap().is_empty());
}

#[test]
fn the_writer_refuses_invalid_input_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let mut writer = Writer::create(&path, &[]).unwrap();
    writer.add("param", 1, "w", &[2], &[1.0_f32, 2.0]).unwrap();
    let again = writer.add("param", 1, "w", &[1], &[1.0_f32]);
    assert!(matches!(again, Err(Error::Duplicate { name, .. }) if name == "param/1/w"));
    let short = writer.add("param", 2, "w", &[2], &[1.0_f32]).unwrap_err().to_string();
    assert_eq!(short, "tensor `w`: has 1 values, needs as many as its shape [2]");
    assert!(matches!(writer.add("m/1", 1, "w", &[1], &[1.0_f32]), Err(Error::Usage(_))));
    assert!(matches!(writer.add("", 1, "w", &[1], &[1.0_f32]), Err(Error::Usage(_))));
    assert!(writer.add::<f32>("param", 3, "w", &[usize::MAX, 2], &[]).is_err());
    drop(writer);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "temporary files are left");
    assert!(matches!(Writer::create(folder.path(), &[]), Err(Error::Io { .. })));
    assert!(matches!(Writer::create(folder.path().join("no/out"), &[]), Err(Error::Io { .. })));
    assert!(matches!(Writer::create("", &[]), Err(Error::Io { .. })));
}

// ---- the comparison

fn param(precision: Precision, step: usize, got: f64, want: f64, path: f64) -> f64 {
    let mut comparison = Comparison::new(precision, 1e-3);
    comparison.param(step, "w", &[got], &[want], &[path]).unwrap();
    let worst = comparison.worst().unwrap();
    assert_eq!(comparison.passed(), worst.share <= 1.0);
    worst.share
}

#[test]
fn parameters_are_measured_as_designed() {
    use Precision::{F32, F64};
    let ulp = 2.0_f64.powi(-23);
    // Three ulps per step, and the tolerance times the path.
    assert!((param(F32, 2, 1.0 + 6.0 * ulp, 1.0, 0.0) - 1.0).abs() < 1e-9);
    assert!((param(F32, 2, 1.0 - 3.0 * ulp, 1.0, 0.0) - 0.5).abs() < 1e-9);
    assert!((param(F32, 1, -8.0 - 24.0 * ulp - 1e-3, -8.0, 1.0) - 1.0).abs() < 1e-9);
    assert!(param(F32, 1, 1.0 + 3.1 * ulp, 1.0, 0.0) > 1.0);
    // The limit depends on the path, not on the parameter: an error of half a percent of a small step shows beside a large weight.
    assert!(param(F32, 1, 1.0 + 0.005, 1.0, 1.0) > 1.0 && param(F32, 1, 1.0 + 0.0005, 1.0, 1.0) < 1.0);
    assert!((param(F64, 9, 2.0 + 1e-3, 2.0, 0.5) - 0.4).abs() < 1e-9);
    assert!(param(F64, 9, 2.0 + 3e-3, 2.0, 0.5) > 1.0);
    // Numbers that a device may flush to 0.
    assert!(param(F32, 1, 0.0, 1e-39, 0.0) < 1.0 && param(F64, 1, 1e-300, 0.0, 0.0) > 1.0);
    assert_eq!(param(F32, 1, 0.0, -0.0, 0.0), 0.0);
    assert_eq!(param(F64, 1, 0.0, 0.0, 0.0), 0.0);
}

#[test]
fn numbers_that_are_not_finite_never_pass() {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    for precision in [Precision::F32, Precision::F64] {
        for x in odd {
            for y in [0.0, 1.0, f64::MAX, x] {
                assert_eq!(param(precision, 1, x, y, 1.0), f64::INFINITY);
                assert_eq!(param(precision, 1, y, x, 1.0), f64::INFINITY);
                assert_eq!(param(precision, 1, y, y, x), f64::INFINITY);
                let mut states = Comparison::new(precision, 1e-3);
                states.state(1, "m", "w", &[x, 0.0], &[y, 0.0], &[1.0, 1.0]).unwrap();
                assert!(!states.passed());
                let mut states = Comparison::new(precision, 1e-3);
                states.state(1, "m", "w", &[0.0, 0.0], &[0.0, 0.0], &[0.0, x]).unwrap();
                assert!(!states.passed());
            }
        }
    }
    let mut untold = Comparison::new(Precision::F32, f64::NAN);
    untold.param(1, "w", &[1.0_f32], &[1.0], &[1.0]).unwrap();
    assert!(!untold.passed());
}

#[test]
fn the_worst_element_is_named() {
    let mut comparison = Comparison::new(Precision::F32, 1e-3);
    assert!(comparison.passed() && comparison.worst().is_none());
    comparison.param(1, "a", &[1.0_f32, 2.0], &[1.0, 2.0], &[1.0, 1.0]).unwrap();
    comparison.param(2, "b", &[1.0_f32, 2.25, 3.0], &[1.0, 2.0, 3.0], &[1.0; 3]).unwrap();
    comparison.state(3, "m", "c", &[0.5_f32], &[0.5], &[1.0]).unwrap();
    let worst = comparison.worst().unwrap();
    assert_eq!((worst.step, &*worst.quantity, &*worst.tensor, worst.index), (2, "param", "b", 1));
    assert_eq!((worst.got, worst.want), (2.25, 2.0));
    assert!(worst.share > 200.0 && worst.limit > 1e-3 && !comparison.passed());
    assert_eq!(comparison.compared(), 6);
    let text = worst.to_string();
    assert!(text.starts_with("`param` of `b`, element 1, step 2: got 2.25e0, expected 2e0, off by"), "{text}");

    let short = comparison.param(1, "a", &[1.0_f32], &[1.0, 2.0], &[1.0, 1.0]).unwrap_err();
    assert_eq!(short.to_string(), "tensor `a`: `param` has 1 elements and scales for 2, needs 2 of each");
    assert!(comparison.state(1, "m", "a", &[1.0_f32], &[1.0], &[]).is_err());
    comparison.param::<f32>(1, "empty", &[], &[], &[]).unwrap();
    assert_eq!(comparison.compared(), 6);
}

#[test]
fn paths_and_peaks_accumulate() {
    let mut path = [0.0; 2];
    add_travel(&mut path, &[1.0, 1.0], &[3.0, 0.5]);
    add_travel(&mut path, &[3.0, 0.5], &[1.0, 0.5]);
    assert_eq!(path, [4.0, 0.5]);
    let mut peak = [0.0; 3];
    raise_peak(&mut peak, &[-2.0, 1.0, f64::NAN]);
    raise_peak(&mut peak, &[1.0, 1.5, 1.0]);
    assert_eq!(peak[..2], [2.0, 1.5]);
    assert!(peak[2].is_nan());
}

/// The textbook AdamW, with the mistakes that the comparison must detect.
struct AdamW {
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    corrected: bool,
}

const ADAMW: AdamW = AdamW { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, corrected: true };

/// θ, m and v of all tensors.
type Run<T> = Vec<[Vec<T>; 3]>;

impl AdamW {
    fn start<T: Real>(trajectory: &Trajectory) -> Run<T> {
        let tensors = 0..trajectory.tensors().len();
        let param = |i| trajectory.initial(i).iter().map(|x| T::from_f64((*x).into())).collect::<Vec<_>>();
        tensors.map(|i| [param(i), vec![T::zero(); param(i).len()], vec![T::zero(); param(i).len()]]).collect()
    }

    fn step<T: Real>(&self, t: usize, run: &mut Run<T>, trajectory: &Trajectory) {
        let c = |x: f64| T::from_f64(x);
        let correction = |beta: f64| if self.corrected { 1.0 - beta.powi(t as i32) } else { 1.0 };
        let (rate, root) = (c(self.lr / correction(self.beta1)), c(correction(self.beta2).sqrt()));
        for (i, [p, m, v]) in run.iter_mut().enumerate() {
            for (j, g) in trajectory.gradient(t, i).unwrap().iter().enumerate() {
                let g = T::from_f64((*g).into());
                m[j] = m[j] + c(1.0 - self.beta1) * (g - m[j]);
                v[j] = c(self.beta2) * v[j] + c(1.0 - self.beta2) * g * g;
                p[j] =
                    p[j] - (c(self.lr * self.weight_decay) * p[j] + rate * m[j] / (v[j].sqrt() / root + c(self.eps)));
            }
        }
    }

    /// Replays against the file, with paths and peaks of the correct rule in f64.
    fn replay<T: Real + Element>(&self, trajectory: &Trajectory, precision: Precision) -> [Comparison; 2] {
        let [mut params, mut states] = [(); 2].map(|()| trajectory.comparison(precision));
        let mut oracle = AdamW::start::<f64>(trajectory);
        let mut run = AdamW::start::<T>(trajectory);
        let mut scales: Run<f64> = oracle.iter().map(|[p, ..]| [(); 3].map(|()| vec![0.0; p.len()])).collect();
        for t in 1..=trajectory.steps() {
            let before = oracle.clone();
            ADAMW.step(t, &mut oracle, trajectory);
            self.step(t, &mut run, trajectory);
            for (i, [path, m, v]) in scales.iter_mut().enumerate() {
                add_travel(path, &before[i][0], &oracle[i][0]);
                raise_peak(m, &oracle[i][1]);
                raise_peak(v, &oracle[i][2]);
                let name = trajectory.tensors()[i].name();
                if let Some(want) = trajectory.expected_param(t, i) {
                    params.param(t, name, &run[i][0], &want, path).unwrap();
                }
                for (state, k, peak) in [("m", 1, m), ("v", 2, v)] {
                    if let Some(want) = trajectory.expected_state(t, state, i) {
                        states.state(t, state, name, &run[i][k], &want, peak).unwrap();
                    }
                }
            }
        }
        [params, states]
    }
}

#[test]
fn the_comparison_passes_adamw_and_detects_its_mistakes() {
    let trajectory = golden("adamw");
    let elements = trajectory.tensors().iter().map(|tensor| tensor.elements() as u64).sum::<u64>();
    for comparison in ADAMW.replay::<f64>(&trajectory, Precision::F64) {
        assert!(comparison.passed(), "{}", comparison.worst().unwrap());
    }
    let [params, states] = ADAMW.replay::<f32>(&trajectory, Precision::F32);
    assert_eq!((params.compared(), states.compared()), (4 * elements, 2 * 2 * elements));
    let [params, states] = [params, states].map(|comparison| comparison.worst().unwrap().clone());
    eprintln!("f32 AdamW beside torch's f64: {params}; {states}");
    // A limit far above the errors of f32 would detect nothing.
    assert!((0.1..0.9).contains(&params.share) && (0.001..0.5).contains(&states.share), "{params}; {states}");
    let slips = [
        AdamW { weight_decay: 0.0, ..ADAMW },
        AdamW { weight_decay: 0.0999, ..ADAMW },
        AdamW { lr: 0.010_01, ..ADAMW },
        AdamW { beta1: 0.999, beta2: 0.9, ..ADAMW },
        AdamW { beta2: 0.9995, ..ADAMW },
        AdamW { eps: 1e-4, ..ADAMW },
        AdamW { corrected: false, ..ADAMW },
    ];
    for (i, slip) in slips.iter().enumerate() {
        let [params, states] = slip.replay::<f32>(&trajectory, Precision::F32);
        assert!(!params.passed(), "slip {i} passed: {}", params.worst().unwrap());
        let [_, exact_states] = slip.replay::<f64>(&trajectory, Precision::F64);
        let wrong_state = slip.beta1 != ADAMW.beta1 || slip.beta2 != ADAMW.beta2;
        assert_eq!((states.passed(), exact_states.passed()), (!wrong_state, !wrong_state), "slip {i}");
    }
}
