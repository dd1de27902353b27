//! Tests that stand in for the trajectory of a rule that has no other implementation.

use std::collections::BTreeSet;

use wgpu_optim::optim::{ALL, find};

/// A rule and the tests that show that it is the rule of the paper, with the source that holds these tests.
pub(crate) struct StandIn {
    pub(crate) rule: &'static str,
    pub(crate) source: &'static str,
    pub(crate) tests: &'static [&'static str],
}

/// Fails unless every rule has either a trajectory or stand-ins, and every stand-in is a test in its source.
pub(crate) fn check(with_trajectory: &BTreeSet<String>, stand_ins: &[StandIn]) {
    for entry in ALL {
        let stands_in = stand_ins.iter().any(|one| one.rule == entry.name);
        assert!(with_trajectory.contains(entry.name) != stands_in, "{}", entry.name);
    }
    for StandIn { rule, source, tests } in stand_ins {
        assert!(find(rule).is_ok(), "{rule} is not in the registry");
        assert!(!tests.is_empty(), "{rule} has no stand-in");
        for test in *tests {
            assert!(source.contains(&format!("\n#[test]\nfn {test}() {{\n")), "{rule}: there is no test {test}");
        }
    }
}
