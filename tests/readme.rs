//! The tables of rules in the README and in the guide match the registry: names, settings, defaults, bytes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use wgpu_optim::optim::{ALL, Entry, Rule, Value};
use wgpu_optim::tools::bench::bytes_per_element;

const README: &str = include_str!("../README.md");
const RULES: &str = include_str!("../docs/guide/rules.md");
/// The first cells of the README's table of rules, and of the guide's table.
const README_HEAD: &str = "| name | type |";
const RULES_HEAD: &str = "| name | settings and defaults |";

fn rows(page: &'static str, head: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let table = page.split_once(head).unwrap().1.lines().skip(2).take_while(|line| line.starts_with('|'));
    table.map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

/// The cells of an optimizer's row.
fn row(page: &'static str, head: &str, name: &str) -> Vec<&'static str> {
    let found = rows(page, head).find(|row| row[0] == format!("`{name}`"));
    found.unwrap_or_else(|| panic!("no row of {name}"))
}

fn defaults(entry: &Entry) -> Box<dyn Rule> {
    entry.configure(entry.required.iter().map(|name| (*name, Value::Number(0.1)))).unwrap()
}

#[test]
fn every_optimizer_has_its_row() {
    for (page, head, cells) in [(README, README_HEAD, 5), (RULES, RULES_HEAD, 3)] {
        assert_eq!(rows(page, head).count(), ALL.len(), "{head}");
        assert!(ALL.iter().all(|entry| row(page, head, entry.name).len() == cells), "{head}");
    }
}

#[test]
fn settings_and_defaults_match_the_code() {
    for entry in ALL {
        let rule = defaults(entry);
        let given: Vec<(&str, &str)> =
            row(RULES, RULES_HEAD, entry.name)[1].split(", ").map(|cell| cell.split_once(' ').unwrap()).collect();
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
        let (rule, row) = (defaults(entry), row(README, README_HEAD, entry.name));
        let kept = rule.states().iter().filter(|s| s.used && !s.scratch).count() as f64;
        assert_eq!(first(row[3]), 4.0 * kept, "{}: state", entry.name);
        assert_eq!(first(row[4]), bytes_per_element(rule.as_ref()), "{}: traffic", entry.name);
    }
}
