//! The learning rate and other numeric settings of a rule: read, and replaced in a copy.

use crate::Result;
use crate::optim::{Rule, Value};

/// A rule's learning rate, if the rule has one.
pub(super) fn rate(rule: &dyn Rule) -> Option<f64> {
    setting(rule, "lr")
}

/// A numeric setting of a rule, if the rule has it.
pub(super) fn setting(rule: &dyn Rule, wanted: &str) -> Option<f64> {
    rule.settings().into_iter().find_map(|(name, value)| match value {
        Value::Number(x) if name == wanted => Some(x),
        _ => None,
    })
}

pub(super) fn with_rate(rule: &dyn Rule, lr: f64) -> Result<Box<dyn Rule>> {
    with(rule, "lr", lr)
}

pub(super) fn with(rule: &dyn Rule, name: &str, value: f64) -> Result<Box<dyn Rule>> {
    let mut rule = rule.boxed();
    rule.set(name, &Value::Number(value))?;
    rule.check()?;
    Ok(rule)
}

/// A product of decimal rates, rounded to its shortest decimal: 0.3 times 0.01 is 0.003.
pub(super) fn rounded(rate: f64) -> f64 {
    format!("{rate:.12e}").parse().unwrap_or(rate)
}
