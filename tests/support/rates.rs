//! Rules of two groups.

use wgpu_optim::Rule;
use wgpu_optim::optim::Value;

/// The rule, and the rule with another rate for a second group.
pub(crate) fn two_rates(rule: &dyn Rule) -> [Box<dyn Rule>; 2] {
    let mut second = rule.boxed();
    second.set("lr", &Value::Number(5e-3)).expect("every rule has a rate");
    [rule.boxed(), second]
}
