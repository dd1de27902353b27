//! Whether the rules of an optimizer's groups fit together, and whether a rule can do what a feature needs.

use super::object::Rule;
use super::spec::Depends;
use crate::optim::ALL;
use crate::optim::procedure::refusal;
use crate::optim::procedure::spec::Feature;
use crate::{Error, Result};

/// Whether two groups of one optimizer may hold these rules: the mathematics must be the same, the settings may differ.
pub(crate) fn same_rule(a: &dyn Rule, b: &dyn Rule) -> bool {
    let scalars = |rule: &dyn Rule| rule.scalars(1).iter().map(|s| (s.name, s.depends)).collect::<Vec<_>>();
    let states = |rule: &dyn Rule| rule.states().iter().map(|s| s.name).collect::<Vec<_>>();
    a.name() == b.name()
        && a.text() == b.text()
        && a.sums() == b.sums()
        && a.procedure() == b.procedure()
        && a.progress() == b.progress()
        && scalars(a) == scalars(b)
        && states(a) == states(b)
}

/// Whether an optimizer that was built with `before` can continue with `after`.
pub(crate) fn goes_on(after: &dyn Rule, before: &dyn Rule) -> bool {
    after.states() == before.states() && after.flags() == before.flags() && after.procedure() == before.procedure()
}

/// Checks the settings that all groups must share.
pub(crate) fn check_common<'a>(groups: impl Iterator<Item = (&'a str, &'a dyn Rule)>) -> Result<()> {
    let groups: Vec<_> = groups.collect();
    let [(first, rule), others @ ..] = groups.as_slice() else { return Ok(()) };
    let value = |rule: &dyn Rule, name: &str| rule.settings().into_iter().find(|(n, _)| *n == name).map(|(_, v)| v);
    for (group, other) in others {
        for name in rule.common() {
            if let (Some(a), Some(b)) = (value(*rule, name), value(*other, name))
                && a != b
            {
                return Err(Error::Usage(format!(
                    "{name} is {a} in group `{first}` and {b} in group `{group}`; {} needs one value for all groups",
                    rule.name()
                )));
            }
        }
    }
    Ok(())
}

/// A shape with this many elements that `rule` can step: one dimension, or for a rule that steps matrices the matrix that is nearest to a
/// square.
#[must_use]
pub(crate) fn sample_shape(rule: &dyn Rule, elements: usize) -> Vec<usize> {
    let flat = vec![elements];
    if rule.procedure().and_then(|procedure| procedure.refuses_shape(rule.name(), &flat)).is_none() {
        return flat;
    }
    matrix_shape(elements).to_vec()
}

/// The shape of the matrix with this many elements that is nearest to a square.
pub(crate) fn matrix_shape(elements: usize) -> [usize; 2] {
    let rows = (1..=elements.isqrt()).rev().find(|rows| elements.is_multiple_of(*rows)).unwrap_or(1);
    [rows, elements / rows]
}

/// Refuses column rates for a rule that keeps an average beside the parameters, because the average moves at the rule's own rate.
pub(crate) fn need_one_rate(rule: &dyn Rule) -> Result<()> {
    if !rule.needs_one_rate() {
        return Ok(());
    }
    let problem = "keeps an average beside the parameters, which one rate must move: no column rates";
    Err(Error::Usage(format!("{} {problem}", rule.name())))
}

/// Refuses a second moment per row for a rule that cannot share it.
pub(crate) fn need_shared(rule: &dyn Rule) -> Result<()> {
    if rule.shares_rows() {
        return Ok(());
    }
    let names = ALL.iter().filter(|e| e.sample().shares_rows()).map(|e| e.name).collect::<Vec<_>>().join(", ");
    Err(Error::Usage(format!("{} cannot share a second moment over rows; these can: {names}", rule.name())))
}

/// Refuses skipped rows and column rates for a rule with a procedure that needs whole tensors.
pub(crate) fn need_rows(rule: &dyn Rule) -> Result<()> {
    need(rule, Feature::Rows)
}

/// Refuses a feature that the rule's procedure cannot go with.
pub(crate) fn need(rule: &dyn Rule, feature: Feature) -> Result<()> {
    refusal(&rule.procedure(), rule.name(), feature).map_or(Ok(()), |reason| Err(Error::Usage(reason)))
}

/// Refuses step counts of tensors or elements for a rule whose scalars cannot be computed at another count.
pub(crate) fn need_own_counts(rule: &dyn Rule, what: &str) -> Result<()> {
    need(rule, Feature::OwnCounts)?;
    let counts = rule.scalars(1).into_iter().find(|scalar| scalar.depends != Depends::Call);
    match counts.filter(|_| rule.own_count().is_none()) {
        None => Ok(()),
        Some(scalar) => Err(Error::Usage(format!(
            "Hyper.{} of {} depends on the step count, and its text has no at_count that computes it at another count: no {what}",
            scalar.name,
            rule.name()
        ))),
    }
}

/// Refuses step counts of elements for a rule that decides from numbers of one count.
pub(crate) fn need_element_counts(rule: &dyn Rule, what: &str) -> Result<()> {
    need_own_counts(rule, what)?;
    let problem = if !rule.progress().is_empty() {
        "keeps the weights of its average once per tensor"
    } else if rule.sums().sums > 0 && !rule.sums().any_count && rule.own_count().is_some() {
        "sums over elements, which all need one step count"
    } else {
        return Ok(());
    };
    Err(Error::Usage(format!("{} {problem}: no {what}", rule.name())))
}

/// Refuses the CPU for a rule without a CPU form.
pub(crate) fn need_cpu(rule: &dyn Rule) -> Result<()> {
    if rule.has_cpu() {
        return Ok(());
    }
    let why = if cfg!(feature = "cpu") { "it runs on the GPU only" } else { "turn on the feature `cpu` of wgpu-optim" };
    Err(Error::Usage(format!("{} has no CPU form: {why}", rule.name())))
}
