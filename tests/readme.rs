//! The README's table of optimizers matches the registry: names, settings, defaults, bytes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use wgpu_optim::optim::{ALL, Entry, Rule, Value};
use wgpu_optim::tools::bench::bytes_per_element;

const README: &str = include_str!("../README.md");

/// The cells of an optimizer's row in the table that begins with `name | type`.
fn row(name: &str) -> Vec<&'static str> {
    let table = README.split_once("| name | type |").unwrap().1;
    let row = table
        .lines()
        .find(|line| line.starts_with(&format!("| `{name}` |")))
        .unwrap_or_else(|| panic!("no row of {name}"));
    row.trim_matches('|').split('|').map(str::trim).collect()
}

fn defaults(entry: &Entry) -> Box<dyn Rule> {
    entry.configure(entry.required.iter().map(|name| (*name, Value::Number(0.1)))).unwrap()
}

#[test]
fn every_optimizer_has_its_row() {
    let rows =
        README.split_once("| name | type |").unwrap().1.lines().skip(2).take_while(|l| l.starts_with('|')).count();
    assert_eq!(rows, ALL.len());
    for entry in ALL {
        assert_eq!(row(entry.name).len(), 6, "{}", entry.name);
    }
}

#[test]
fn settings_and_defaults_match_the_code() {
    for entry in ALL {
        let rule = defaults(entry);
        let given: Vec<(&str, &str)> =
            row(entry.name)[2].split(", ").map(|cell| cell.split_once(' ').unwrap()).collect();
        assert_eq!(given.len(), entry.settings.len(), "{}", entry.name);
        for ((name, value), (setting, default)) in given.into_iter().zip(rule.settings()) {
            assert_eq!(name, setting, "{}", entry.name);
            if entry.required.contains(&name) {
                assert_eq!(value, "(required)", "{}: {name}", entry.name);
            } else {
                assert_eq!(Value::parse(value), default, "{}: {name}", entry.name);
            }
        }
    }
}

/// The number that a cell begins with.
fn first(cell: &str) -> f64 {
    cell.split([';', ' ']).next().unwrap().parse().unwrap()
}

#[test]
fn bytes_match_the_defaults() {
    for entry in ALL {
        let (rule, row) = (defaults(entry), row(entry.name));
        let kept = rule.states().iter().filter(|s| s.used).count() as f64;
        assert_eq!(first(row[4]), 4.0 * kept, "{}: state", entry.name);
        assert_eq!(first(row[5]), bytes_per_element(rule.as_ref()), "{}: traffic", entry.name);
    }
}
