//! Trajectories that other implementations produced, replayed on the oracle and on the fast path.
#![cfg(feature = "tools")]

// A path, because rustfmt takes the folder tests/golden for that of this file's modules.
#[path = "support"]
mod support {
    pub(crate) mod handle;
    pub(crate) mod stand_ins;
    pub(crate) mod step;
    pub(crate) mod trajectories;
    pub(crate) mod ulp;
}

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value as Json;
use wgpu_optim::cpu::{Number, Optimizer};
use wgpu_optim::optim::{Rule, Value, find};
use wgpu_optim::{EvalRequest, Group};

use support::handle;

use support::stand_ins::{self, StandIn};
use support::step::step;
use support::trajectories::files;
use support::ulp::ulp32;

/// Rules without another implementation.
const STAND_INS: [StandIn; 2] = [
    StandIn {
        rule: "prox_sgd",
        source: include_str!("cpu.rs"),
        tests: &[
            "prox_sgd_is_the_soft_threshold_in_closed_form",
            "prox_sgd_finds_the_lasso_solution",
            "prox_sgd_without_l1_is_sgd",
        ],
    },
    StandIn {
        rule: "warpadam",
        source: include_str!("evaluate.rs"),
        tests: &[
            "warpadam_with_the_identity_is_adam",
            "warpadam_with_a_diagonal_is_adam_with_another_epsilon",
            "warpadam_learns_along_the_hypergradient",
        ],
    },
];

struct Golden {
    name: String,
    bytes: Vec<u8>,
    rule: Box<dyn Rule>,
    steps: usize,
    tolerance_f32: f64,
    tolerance_f64: f64,
}

fn optimizer_of(path: &Path) -> String {
    let bytes = std::fs::read(path).expect("readable");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    metadata.metadata().as_ref().expect("metadata")["optimizer"].clone()
}

fn value(json: &Json) -> Value {
    match json {
        Json::Number(x) => Value::Number(x.as_f64().expect("a number")),
        Json::Bool(x) => Value::Flag(*x),
        Json::String(x) => Value::Word(x.clone()),
        other => panic!("{other}"),
    }
}

fn load(path: &Path) -> Golden {
    let bytes = std::fs::read(path).expect("readable");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let metadata = header.metadata().clone().expect("metadata");
    let hyper: serde_json::Map<String, Json> = serde_json::from_str(&metadata["hyper"]).expect("JSON");
    let entry = find(&metadata["optimizer"]).expect("in the registry");
    let rule = entry.configure(hyper.iter().map(|(k, v)| (k.as_str(), value(v)))).expect("valid settings");
    let number = |key: &str| metadata[key].parse::<f64>().expect("a number");
    Golden {
        name: path.file_stem().expect("a name").to_string_lossy().into_owned(),
        rule,
        steps: number("steps") as usize,
        tolerance_f32: number("tolerance_f32"),
        tolerance_f64: number("tolerance_f64"),
        bytes,
    }
}

impl Golden {
    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("checked by load")
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.tensors().names().iter().filter_map(|k| k.strip_prefix("param/").map(str::to_owned)).collect();
        names.sort();
        names
    }

    fn has(&self, key: &str) -> bool {
        self.tensors().names().contains(&key)
    }

    fn numbers(&self, key: &str) -> Vec<f64> {
        let tensors = self.tensors();
        let view = tensors.tensor(key).unwrap_or_else(|e| panic!("{}: {key}: {e}", self.name));
        let data = view.data();
        match view.dtype() {
            Dtype::F32 => {
                data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().expect("four")))).collect()
            }
            Dtype::F64 => data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("eight"))).collect(),
            Dtype::I64 => {
                data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("eight")) as f64).collect()
            }
            other => panic!("{key}: {other:?}"),
        }
    }

    fn shape(&self, key: &str) -> Vec<usize> {
        self.tensors().tensor(key).expect("a known tensor").shape().to_vec()
    }

    /// The numbers to compare after step t: the key's second half, the tensor's index, the numbers.
    fn expected(&self, t: usize) -> Vec<(String, usize, Vec<f64>)> {
        let names = self.names();
        let prefix = format!("expect/{t}/");
        let mut found = Vec::new();
        for key in self.tensors().names() {
            let Some((what, tensor)) = key.strip_prefix(&prefix).and_then(|rest| rest.split_once('/')) else {
                continue;
            };
            let at = names.iter().position(|n| n == tensor).expect("a known tensor");
            found.push((what.to_owned(), at, self.numbers(key)));
        }
        found
    }
}

/// An optimizer under replay with its parameters.
struct Run<F> {
    optimizer: Optimizer<F>,
    params: Vec<Vec<F>>,
}

impl<F: Number> Run<F> {
    fn new(golden: &Golden) -> Self {
        let names = golden.names();
        let params: Vec<Vec<F>> = names.iter().map(|n| narrow(&golden.numbers(&format!("param/{n}")))).collect();
        let mut builder = wgpu_optim::Optimizer::builder(golden.rule.clone());
        builder.undamped_steps(true);
        builder.tensors(Group::DEFAULT, names.iter().map(|name| (name, golden.shape(&format!("param/{name}")))));
        let optimizer = builder.build_cpu().expect("valid");
        Self { optimizer, params }
    }

    fn step(&mut self, golden: &Golden, t: usize) {
        let names = golden.names();
        let all = |kind: &str| -> Vec<Vec<F>> {
            names.iter().map(|n| narrow(&golden.numbers(&format!("{kind}{n}")))).collect()
        };
        if !golden.has(&format!("curvature/{}", names[0])) {
            let grads = all(&format!("grad/{t}/"));
            return step(&mut self.optimizer, &mut self.params, &grads);
        }
        let probes = (1..).take_while(|j| golden.has(&format!("direction/{t}/{j}/{}", names[0])));
        let directions: Vec<_> = probes.map(|j| all(&format!("direction/{t}/{j}/"))).collect();
        if !directions.is_empty() {
            self.optimizer.set_directions(Some(directions)).expect("directions that fit");
        }
        let curvature = all("curvature/");
        let mut grads: Vec<Vec<F>> = curvature.clone();
        let mut params: Vec<&mut [F]> = self.params.iter_mut().map(Vec::as_mut_slice).collect();
        let mut grads: Vec<&mut [F]> = grads.iter_mut().map(Vec::as_mut_slice).collect();
        self.optimizer
            .step_with(&mut params, &mut grads, |evaluation, params, grads| {
                Ok(quadratic(&curvature, evaluation, params, grads))
            })
            .expect("a step");
    }

    fn read(&self, what: &str, tensor: usize) -> Vec<f64> {
        let numbers = match what {
            "param" => &self.params[tensor],
            state => self.optimizer.state(handle::tensor(&self.optimizer, tensor), state).expect("it is kept"),
        };
        numbers.iter().map(|x| x.to_f64()).collect()
    }
}

/// ½ Σ c θ², and its gradient if the request is for the gradient.
fn quadratic<F: Number>(curvature: &[Vec<F>], evaluation: EvalRequest, params: &[&[F]], grads: &mut [&mut [F]]) -> f64 {
    let mut loss = 0.0;
    for ((c, p), g) in curvature.iter().zip(params).zip(grads) {
        loss += c.iter().zip(*p).map(|(c, p)| 0.5 * c.to_f64() * p.to_f64() * p.to_f64()).sum::<f64>();
        if evaluation == EvalRequest::Gradient {
            g.iter_mut().zip(c).zip(*p).for_each(|((g, c), p)| *g = *c * *p);
        }
    }
    loss
}

fn narrow<F: Number>(numbers: &[f64]) -> Vec<F> {
    numbers.iter().map(|x| F::from_f64(*x)).collect()
}

/// The cumulative Σ|Δ| of everything that is compared, over the oracle's steps.
#[derive(Default)]
struct Paths(std::collections::BTreeMap<(String, usize), (Vec<f64>, Vec<f64>)>);

impl Paths {
    fn follow(&mut self, golden: &Golden, oracle: &Run<f64>) {
        for (what, at, _) in golden.expected(golden.steps) {
            let now = oracle.read(&what, at);
            let (last, path) = self.0.entry((what, at)).or_insert_with(|| (now.clone(), vec![0.0; now.len()]));
            for ((path, last), now) in path.iter_mut().zip(last.iter_mut()).zip(now) {
                *path += (now - *last).abs();
                *last = now;
            }
        }
    }

    fn of(&self, what: &str, at: usize) -> &[f64] {
        &self.0[&(what.to_owned(), at)].1
    }
}

/// The worst share of the tolerance that one run used after step t.
fn share<F: Number>(golden: &Golden, run: &Run<F>, paths: &Paths, t: usize) -> f64 {
    let mut worst = 0.0_f64;
    for (what, at, expected) in golden.expected(t) {
        let ours = run.read(&what, at);
        assert_eq!(ours.len(), expected.len());
        for ((x, e), path) in ours.iter().zip(&expected).zip(paths.of(&what, at)) {
            let allowed = if F::FAST {
                3.0 * t as f64 * ulp32(*e) + golden.tolerance_f32 * path
            } else {
                golden.tolerance_f64 * (e.abs() + path)
            };
            let error = (x - e).abs();
            assert!(!error.is_nan(), "{}: {what} at step {t}", golden.name);
            worst = worst.max(if error == 0.0 { 0.0 } else { error / allowed });
        }
    }
    worst
}

/// The worst shares on the oracle and on the fast path.
fn replay(golden: &Golden) -> (f64, f64) {
    let (mut oracle, mut fast) = (Run::<f64>::new(golden), Run::<f32>::new(golden));
    let mut paths = Paths::default();
    paths.follow(golden, &oracle);
    let (mut worst, mut compared) = ((0.0_f64, 0.0_f64), 0);
    for t in 1..=golden.steps {
        oracle.step(golden, t);
        fast.step(golden, t);
        paths.follow(golden, &oracle);
        compared += golden.expected(t).len();
        worst.0 = worst.0.max(share(golden, &oracle, &paths, t));
        worst.1 = worst.1.max(share(golden, &fast, &paths, t));
    }
    assert!(compared > 0, "{}: nothing to compare", golden.name);
    worst
}

#[test]
fn every_trajectory_is_met() {
    let (mut replayed, mut failed) = (0, Vec::new());
    for path in files() {
        let optimizer = optimizer_of(&path);
        assert!(find(&optimizer).is_ok(), "{optimizer} is not in the registry");
        let golden = load(&path);
        let (oracle, fast) = replay(&golden);
        println!("{:16} oracle {oracle:7.4}   fast path {fast:7.4}   of the tolerance", golden.name);
        if oracle > 1.0 || fast > 1.0 {
            failed.push(golden.name);
        }
        replayed += 1;
    }
    assert!(failed.is_empty(), "past the tolerance: {failed:?}");
    assert!(replayed >= 34, "{replayed} files replayed");
}

/// The oracle's LGI and the steps that followed the flow, if the file holds them.
#[test]
fn damping_and_triggers_are_the_authors() {
    let (mut lgis, mut triggers) = (0, 0);
    for path in files() {
        let golden = load(&path);
        let mut oracle = Run::<f64>::new(&golden);
        let mut flowed = Vec::new();
        let first = handle::tensor(&oracle.optimizer, 0);
        for t in 1..=golden.steps {
            oracle.step(&golden, t);
            let decided = |name| oracle.optimizer.decision(first, name).expect("its own handle");
            if golden.has("expect/lgi") {
                let (ours, theirs) = (decided("lgi").expect("decided"), golden.numbers("expect/lgi"));
                // The authors round the slopes to f32, and the LGI is the square of a difference of slopes.
                let allowed = 4e-7 * (theirs[t - 1] + theirs[t - 1].sqrt());
                assert!((ours - theirs[t - 1]).abs() <= allowed, "{t}: {ours} {}", theirs[t - 1]);
                lgis += 1;
            }
            if decided("flow") == Some(1.0) {
                flowed.push(t as f64);
            }
        }
        if golden.has("expect/triggers") {
            assert_eq!(flowed, golden.numbers("expect/triggers"), "{}", golden.name);
            assert_eq!(oracle.optimizer.global_state("triggers"), Some(flowed.len() as f64));
            triggers += 1;
        }
    }
    assert!(lgis == 10 && triggers == 4, "{lgis} {triggers}");
}

#[test]
fn every_rule_has_a_trajectory_or_stand_ins() {
    stand_ins::check(&files().iter().map(|path| optimizer_of(path)).collect(), &STAND_INS);
}
