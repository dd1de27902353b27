//! What a GPU's compiler makes of the kernels, without the GPU: Mesa's AMD compiler builds pipelines for GPUs that are not there, and
//! `budget.txt` bounds their registers, spills, loads, waits and instructions. Without this driver, or with another version of it than the
//! budgets are for, the test compares nothing and says that it did not run.
#![cfg(all(feature = "tools", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod assembly;
mod budget;
mod driver;
mod kernel;

use std::io::Write as _;

use budget::Budget;
use driver::Driver;

const BUDGETS: &str = include_str!("budget.txt");

/// The first word of the line of the driver's version.
const VERSION: &str = "driver";

/// Writes the line that `tests/run.sh` counts; the test harness keeps what a passing test prints.
fn not_run(reason: &str) {
    let mut stream = std::io::stderr();
    writeln!(stream, "\nnot run: the budgets of the kernels: {reason}").unwrap();
}

#[test]
fn no_kernel_is_past_its_budget() {
    let version = BUDGETS.lines().find_map(|line| line.strip_prefix(VERSION)).unwrap().trim();
    let budgets: Vec<Budget> = BUDGETS.lines().filter_map(Budget::parse).collect();
    assert!(budgets.len() > 20, "{} budgets", budgets.len());
    let mut problems = Vec::new();
    for family in budget::families(&budgets) {
        let driver = match Driver::open(family) {
            Ok(driver) if driver.version.contains(version) => driver,
            Ok(driver) => return not_run(&format!("the budgets are for {version}, the driver is {}", driver.version)),
            Err(reason) => return not_run(&reason),
        };
        for budget in budgets.iter().filter(|budget| budget.family == family) {
            let made = assembly::Made::of(&driver.compile(&kernel::Kernel::of(budget)));
            problems.extend(budget.exceeded_by(&made));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_kernel_past_its_budget_is_named_with_both_numbers() {
    let line =
        "navi21 adamw storage=f32 update: registers 32 spills 0 loads 4x16 late 0 waits 0 rounds 4 instructions 70";
    let budget = Budget::parse(line).unwrap();
    let made = |instructions| assembly::Made { instructions, ..budget.most.clone() };
    assert!(budget.exceeded_by(&made(70)).is_empty());
    let problems = budget.exceeded_by(&made(71));
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("instructions 71, budget 70"), "{}", problems[0]);
    let narrow = assembly::Made { loads: "16x4".to_owned(), ..budget.most.clone() };
    assert!(budget.exceeded_by(&narrow)[0].contains("loads 16x4, budget 4x16"));
}
