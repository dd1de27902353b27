//! The tolerances must separate right from wrong: every listed mistake in every rule fails, and every rule without a mistake passes.

use wgpu_optim::Storage;
use wgpu_optim::optim::{ALL, Rule};
use wgpu_optim::tools::verify::{Errors, Problem, varied};

use crate::common::{gpu, groups, passed, take};
use crate::mutants::{mutant, mutants};

const TENSORS: &[(usize, usize)] = &[(0, 1030), (1, 515), (1, 7)];
/// The size for tensors in fewer bits. It is smaller, because most mistakes show in every element.
const STORED: &[(usize, usize)] = &[(0, 700), (1, 270), (1, 7)];
const APPLIED: [u32; 3] = [0, 2, 6];

/// Takes the steps of the right rule with an optimizer of `built`; `None` if the rule refuses the storage.
fn errors(right: &dyn Rule, built: Vec<Box<dyn Rule>>, storage: &Storage) -> Option<Errors> {
    let mut all = Errors::default();
    let mut optimizer = None;
    for applied in APPLIED {
        let tensors = if *storage == Storage::default() { TENSORS } else { STORED };
        let problem = Problem::random(groups(right, 2), tensors, applied, 11).unwrap().stored(storage).ok()?;
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
    Some(all)
}

/// The mutants of these rules in this storage, each with whether it is caught.
fn tried(names: &[&str], storage: &Storage) -> Vec<(String, bool)> {
    let mut tried = Vec::new();
    for name in names {
        let entry = wgpu_optim::optim::find(name).unwrap();
        for (variant, rule) in entry.variants() {
            let Some(right) = errors(rule.as_ref(), groups(rule.as_ref(), 2), storage) else { continue };
            assert!(right.passed(), "{name} {variant} {storage} without a mistake: {:?}", right.worst);
        }
        for (variant, what, mistake) in mutants(name) {
            let rule = entry.variants().into_iter().find(|(v, _)| *v == variant).expect(variant).1;
            let wrong = [rule.boxed(), varied(rule.as_ref())].map(|rule| mutant(rule.as_ref(), mistake));
            let Some(errors) = errors(rule.as_ref(), wrong.into(), storage) else { continue };
            let times = errors.step.max(errors.state) / errors.tolerance;
            println!("{name} {variant}, {what}: {times:.3e} times the tolerance");
            tried.push((format!("{name} {variant}, {what}"), !errors.passed()));
        }
    }
    tried
}

fn check(names: &[&str]) {
    for (mutant, caught) in tried(names, &Storage::default()) {
        assert!(caught, "{mutant}: within the tolerance");
    }
}

/// Full precision in the states hides no mistake.
#[test]
fn stored_as_halves_with_their_remainders() {
    let tried = tried(&TESTED.concat(), &"bf16-split".parse().unwrap());
    let missed: Vec<_> = tried.iter().filter(|(_, caught)| !caught).collect();
    assert!(missed.is_empty() && tried.len() > 100, "of {}: {missed:?}", tried.len());
}

/// If numbers are rounded, the test compares so many that no mistake hides below one place.
#[test]
fn stored_in_the_fewest_bits() {
    let tried = tried(&TESTED.concat(), &"bf16-sr,8bit,min=0".parse().unwrap());
    let missed: Vec<_> = tried.iter().filter(|(_, caught)| !caught).map(|(mutant, _)| mutant).collect();
    println!("{} of {} are missed: {missed:#?}", missed.len(), tried.len());
    assert!(missed.is_empty() && tried.len() > 150);
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
    &["adamax", "adadelta", "rprop", "asgd"],
    &["ademamix", "adan"],
    &["prodigy"],
    &["adafactor"],
    &["muon"],
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
fn adamax_adadelta_rprop_asgd() {
    check(TESTED[8]);
}

#[test]
fn ademamix_and_adan() {
    check(TESTED[9]);
}

#[test]
fn prodigy() {
    check(TESTED[10]);
}

#[test]
fn adafactor() {
    check(TESTED[11]);
}

#[test]
fn muon() {
    check(TESTED[12]);
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
