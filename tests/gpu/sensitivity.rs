//! The tolerances must tell right from wrong: every rule with every mistake of the list is caught, and no rule without one.

use wgpu_optim::optim::{ALL, Rule};
use wgpu_optim::verify::{Errors, Problem, varied};

use crate::common::{gpu, groups, passed, take};
use crate::mutants::{Mutant, mutants};

const TENSORS: &[(usize, usize)] = &[(0, 1030), (1, 515), (1, 7)];
const APPLIED: [u32; 3] = [0, 2, 6];

/// Takes the steps of the right rule with an optimizer of `built`.
fn errors(right: &dyn Rule, built: Vec<Box<dyn Rule>>) -> Errors {
    let mut all = Errors::default();
    let mut optimizer = None;
    for applied in APPLIED {
        let problem = Problem::random(groups(right, 2), TENSORS, applied, 11).unwrap();
        let optimizer = optimizer.get_or_insert_with(|| {
            let wrong = Problem { groups: built.clone(), ..problem.clone() };
            wrong.build(&gpu().device, &gpu().queue).unwrap()
        });
        let errors = problem.compare(&take(gpu(), optimizer, &problem));
        if errors.passed() {
            passed(right.name(), &errors, &problem);
        }
        all.merge(errors);
    }
    all
}

fn check(names: &[&str]) {
    for name in names {
        let entry = wgpu_optim::optim::find(name).unwrap();
        for (variant, rule) in entry.variants() {
            let right = errors(rule.as_ref(), groups(rule.as_ref(), 2));
            assert!(right.passed(), "{name} {variant} without a mistake: {:?}", right.worst);
        }
        for (variant, what, mistake) in mutants(name) {
            let rule = entry.variants().into_iter().find(|(v, _)| *v == variant).expect(variant).1;
            let wrong = [rule.boxed(), varied(rule.as_ref())].map(|rule| Mutant::new(rule.as_ref(), mistake).boxed());
            let errors = errors(rule.as_ref(), wrong.into());
            let times = errors.step.max(errors.state) / errors.tolerance;
            println!("{name} {variant}, {what}: {times:.3e} times the tolerance");
            assert!(!errors.passed(), "{name} {variant}, {what}: only {times:.3} of what is tolerated");
        }
    }
}

// A few tests, so that they run side by side.
const TESTED: &[&[&str]] = &[
    &["sgd", "prox_sgd", "rmsprop", "adagrad", "lion"],
    &["adam", "adamw", "nadam"],
    &["radam", "adabelief", "lamb"],
    &["vradam"],
    &["adai", "adaiw"],
    &["flowadam"],
    &["sadam", "warpadam"],
    &["adamw_schedule_free", "sgd_schedule_free"],
];

#[test]
fn momentum_and_its_kin() {
    check(TESTED[0]);
}

#[test]
fn adam_and_its_kin() {
    check(TESTED[1]);
}

#[test]
fn radam_adabelief_lamb() {
    check(TESTED[2]);
}

#[test]
fn vradam() {
    check(TESTED[3]);
}

#[test]
fn adai_and_adaiw() {
    check(TESTED[4]);
}

#[test]
fn flowadam() {
    check(TESTED[5]);
}

#[test]
fn sadam_and_warpadam() {
    check(TESTED[6]);
}

#[test]
fn schedule_free() {
    check(TESTED[7]);
}

#[test]
fn every_rule_and_variant_has_mutants() {
    for entry in ALL {
        assert!(TESTED.concat().contains(&entry.name), "{} is in no list of this file", entry.name);
        assert!(mutants(entry.name).len() >= 2, "{} has no mutants", entry.name);
        for (variant, _) in entry.variants() {
            assert!(mutants(entry.name).iter().any(|(v, ..)| *v == variant), "{} {variant} has none", entry.name);
        }
    }
}
