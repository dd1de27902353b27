//! A rule with another text or other scalars, which is never trusted.

use std::sync::Arc;

use super::host::HostKernel;
use super::object::Rule;
use super::sealed::Sealed;
use super::settings::Value;
use super::spec::{Scalar, StateSpec, Sums};
use crate::Result;
use crate::optim::procedure::Shared;

/// Changes one scalar of the `t`-th step of a rule.
type ChangeScalar = fn(&dyn Rule, u64, &mut Scalar);

/// A rule with another WGSL text or other scalars; everything else is the rule's own, its CPU form included. Tests run it to show that
/// the verification finds a mistake. Its text never counts as the crate's own: it runs with all checks of wgpu on.
#[derive(Clone, Debug)]
pub struct Altered {
    rule: Box<dyn Rule>,
    text: Arc<str>,
    change: Option<ChangeScalar>,
}

impl Altered {
    /// The rule with this text.
    #[must_use]
    pub fn with_text(rule: Box<dyn Rule>, text: &str) -> Self {
        Self { rule, text: text.into(), change: None }
    }

    /// The rule with its own text and changed scalars.
    #[must_use]
    pub fn with_scalars(rule: Box<dyn Rule>, change: ChangeScalar) -> Self {
        Self { text: rule.text().into(), rule, change: Some(change) }
    }
}

impl Sealed for Altered {}

impl Rule for Altered {
    fn name(&self) -> &'static str {
        self.rule.name()
    }
    fn settings(&self) -> Vec<(&'static str, Value)> {
        self.rule.settings()
    }
    fn set(&mut self, name: &str, value: &Value) -> Result<()> {
        self.rule.set(name, value)
    }
    fn check(&self) -> Result<()> {
        self.rule.check()
    }
    fn text(&self) -> &str {
        &self.text
    }
    fn tolerance(&self) -> f64 {
        self.rule.tolerance()
    }
    fn flags(&self) -> Vec<(&'static str, bool)> {
        self.rule.flags()
    }
    fn scalars(&self, t: u64) -> Vec<Scalar> {
        let mut scalars = self.rule.scalars(t);
        if let Some(change) = self.change {
            scalars.iter_mut().for_each(|scalar| change(self.rule.as_ref(), t, scalar));
        }
        scalars
    }
    fn own_count(&self) -> Option<Vec<Scalar>> {
        self.rule.own_count()
    }
    fn states(&self) -> Vec<StateSpec> {
        self.rule.states()
    }
    fn evaluation(&self) -> Option<(&'static str, f64)> {
        self.rule.evaluation()
    }
    fn sums(&self) -> Sums {
        self.rule.sums()
    }
    fn sums_read(&self) -> &[&'static str] {
        self.rule.sums_read()
    }
    fn decision(&self) -> &[&'static str] {
        self.rule.decision()
    }
    fn global_state(&self) -> &[&'static str] {
        self.rule.global_state()
    }
    fn progress(&self) -> &[&'static str] {
        self.rule.progress()
    }
    fn progress_after(&self, t: u64) -> Vec<f64> {
        self.rule.progress_after(t)
    }
    fn procedure(&self) -> Shared {
        self.rule.procedure()
    }
    fn common(&self) -> &[&'static str] {
        self.rule.common()
    }
    fn shares_rows(&self) -> bool {
        self.rule.shares_rows()
    }
    fn needs_one_rate(&self) -> bool {
        self.rule.needs_one_rate()
    }
    fn finds_rate(&self) -> bool {
        self.rule.finds_rate()
    }
    fn has_cpu(&self) -> bool {
        self.rule.has_cpu()
    }
    fn cpu_f32(&self) -> &dyn HostKernel<f32> {
        self.rule.cpu_f32()
    }
    fn cpu_f64(&self) -> &dyn HostKernel<f64> {
        self.rule.cpu_f64()
    }
    fn boxed(&self) -> Box<dyn Rule> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::ALL;

    #[test]
    fn an_altered_rule_is_never_the_crates_own() {
        for entry in ALL {
            let rule = entry.sample();
            assert!(rule.origin().is_own(), "{}", entry.name);
            // Even the crate's own text is not trusted if a caller passes it.
            let same = Altered::with_text(rule.boxed(), rule.text());
            let other = Altered::with_scalars(rule, |_, _, scalar| scalar.call *= 2.0);
            for altered in [same, other] {
                assert!(!altered.origin().is_own(), "{}", entry.name);
                assert!(!altered.boxed().origin().is_own(), "a copy of {}", entry.name);
            }
        }
    }
}
