//! Storage formats on a GPU: every rule in every form against the oracle followed by the same rounding.

mod bound;
mod errors;
mod extremes;
mod functions;
mod independence;
mod precision;
mod rows;

use wgpu_optim::optim::{ALL, Adam};
use wgpu_optim::tools::adapter::Gpu;
use wgpu_optim::tools::verify::{Errors, Problem};
use wgpu_optim::{Optimizer, Rule, Storage};

use crate::common::{block_on, gpu, groups, read};

/// Forms that together reach every load and store; tensors are small.
const FORMS: [&str; 11] = [
    "bf16-nearest",
    "bf16-sr",
    "bf16-master",
    "bf16-split",
    "f16-sr",
    "f16-master,grads=bf16",
    "params=f16-nearest,states=bf16",
    "states=bf16-sr",
    "8bit,min=0",
    "bf16-sr,8bit,min=0",
    "bf16-split,states=bf16-sr",
];
/// Tensors of one block, of several blocks with an incomplete last one, and of several chunks; odd lengths end within a word.
const SIZES: [(usize, usize); 4] = [(0, 2900), (1, 1025), (0, 300), (1, 7)];

/// The bits of all that an optimizer keeps: parameters, and every array with its tensor's name.
type Bits = Vec<(String, Vec<u32>)>;

fn everything(optimizer: &Optimizer) -> Bits {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    let mut all = Vec::new();
    for (tensor, name, _) in optimizer.tensors() {
        all.push((format!("{name}: parameters"), bits(block_on(optimizer.read_param(tensor)).unwrap())));
        for state in optimizer.state_names(tensor).unwrap() {
            all.push((format!("{name}: {state}"), bits(block_on(optimizer.read_state(tensor, state)).unwrap())));
        }
    }
    all
}

/// Fails if two runs differ in a bit.
#[track_caller]
fn same_bits(what: &str, a: &Bits, b: &Bits) {
    assert_eq!(a.len(), b.len(), "{what}: arrays");
    for ((array, a), (other, b)) in a.iter().zip(b) {
        assert_eq!((array, a.len()), (other, b.len()), "{what}");
        let different = a.iter().zip(b).position(|(a, b)| a != b);
        assert_eq!(different, None, "{what}: {array} differs first there");
    }
}

fn storage(text: &str) -> Storage {
    text.parse().unwrap()
}

/// A rule with signed states and with states by which the step divides.
fn amsgrad() -> Adam {
    Adam { lr: 0.01, weight_decay: 0.1, amsgrad: true, ..Adam::default() }
}

/// A problem of one group before its first step.
fn problem(rule: &dyn Rule, form: &str, sizes: &[usize]) -> Problem {
    let tensors: Vec<(usize, usize)> = sizes.iter().map(|n| (0, *n)).collect();
    Problem::random(vec![rule.boxed()], &tensors, 0, 5).unwrap().stored(&storage(form)).unwrap()
}

/// Writes the problem and takes `count` steps, each in its own submit.
fn steps(gpu: &Gpu, mut optimizer: Optimizer, problem: &Problem, count: usize) -> Bits {
    problem.upload(&mut optimizer).unwrap();
    (0..count).for_each(|_| gpu.run(|encoder| optimizer.step(encoder)).unwrap());
    everything(&optimizer)
}

/// Three steps of a problem in this storage, each compared; `None` if the rule refuses the storage.
fn errors(rule: &dyn Rule, storage: &Storage) -> Option<Errors> {
    let gpu = gpu();
    let mut errors = Errors::default();
    let problem = |applied| Problem::random(groups(rule, 2), &SIZES, applied, 3 + applied).unwrap().stored(storage);
    let mut optimizer = problem(0).ok()?.build(&gpu.device, &gpu.queue).unwrap();
    for applied in [0, 2, 6] {
        let problem = problem(applied).unwrap();
        problem.upload(&mut optimizer).unwrap();
        gpu.run(|encoder| optimizer.step(encoder)).unwrap();
        let found = problem.compare(&read(&optimizer));
        errors.merge(found);
    }
    Some(errors)
}

/// Every rule that accepts the storage, in every variant.
fn every_rule(forms: &[&str]) {
    for form in forms {
        let (storage, mut compared) = (storage(form), 0);
        for entry in ALL {
            for (variant, rule) in entry.variants() {
                let Some(errors) = errors(rule.as_ref(), &storage) else { continue };
                let worst = errors.worst.as_ref().map(ToString::to_string).unwrap_or_default();
                assert!(errors.passed(), "{} {variant} {form}: {worst}", entry.name);
                compared += 1;
            }
        }
        assert!(compared > 40, "{compared} in {form}");
    }
}

// A few tests, so that they run side by side.
#[test]
fn every_rule_with_bf16_parameters() {
    every_rule(&FORMS[..4]);
}

#[test]
fn every_rule_with_f16_parameters_or_bf16_states() {
    every_rule(&FORMS[4..8]);
}

#[test]
fn every_rule_with_states_in_eight_bits_and_mixed() {
    every_rule(&FORMS[8..]);
}
