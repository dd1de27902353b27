//! The guide's table of problems matches the registry: names, settings, defaults, measures.

use crate::problems::configured;
use wgpu_optim::optim::Value;
use wgpu_optim::tools::objectives::problems::ALL;

const PAGE: &str = include_str!("../../docs/guide/problems.md");

#[test]
fn the_table_of_problems_is_that_of_the_code() {
    let table = PAGE.split_once("| name | what it is |").expect("the table").1;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), ALL.len());
    for (row, entry) in rows.iter().zip(ALL) {
        assert_eq!(row[0], format!("`{}`", entry.name));
        let given = row[2].split(", ").map(|cell| cell.split_once(' ').expect("a name and a default"));
        let given: Vec<_> = given.map(|(name, value)| (name, Value::parse(value))).collect();
        assert_eq!(given, entry.defaults(), "{}", entry.name);
        assert_eq!(given.iter().map(|(name, _)| *name).collect::<Vec<_>>(), entry.settings, "{}", entry.name);
        let measure = configured(entry.name, "").expect("made").measure();
        assert_eq!(row[3], measure.map_or("–", |measure| measure.name), "{}", entry.name);
    }
}
