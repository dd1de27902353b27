//! Storage formats on a GPU: every rule in every form against the oracle followed by the same rounding.

use wgpu_optim::optim::ALL;
use wgpu_optim::verify::{Errors, Problem};
use wgpu_optim::{Rule, Storage};

use crate::common::{gpu, groups, read};

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
/// Of one block, of several with a last that is not whole, of several chunks; odd lengths end within a word.
const SIZES: [(usize, usize); 4] = [(0, 2900), (1, 1025), (0, 300), (1, 7)];

/// Three steps of a problem that is stored so, each compared; `None` where the rule cannot be.
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

#[test]
fn every_rule_in_every_form() {
    let mut forms = 0;
    for form in FORMS {
        let storage: Storage = form.parse().unwrap();
        for entry in ALL {
            for (variant, rule) in entry.variants() {
                let Some(errors) = errors(rule.as_ref(), &storage) else { continue };
                let worst = errors.worst.as_ref().map(ToString::to_string).unwrap_or_default();
                assert!(errors.passed(), "{} {variant} {form}: {worst}", entry.name);
                forms += 1;
            }
        }
    }
    assert!(forms > 500, "{forms}");
}
