//! The rules of the groups with the scalars of one step.

use crate::Result;
use crate::cpu::number::Number;
use crate::gpu::build::spec::GroupInfo;
use crate::optim::rule::host::HostKernel;
use crate::optim::{Rule, Sums};
use crate::options::schedule::scalars_of;

/// The rule of a group with the scalars of one step.
#[derive(Clone)]
pub(crate) struct Scaled<'a, F> {
    pub(crate) cpu: &'a dyn HostKernel<F>,
    pub(crate) hyper: Vec<F>,
    pub(crate) rule: &'a dyn Rule,
    pub(crate) sums: Sums,
}

impl<'a, F: Number> Scaled<'a, F> {
    /// The scalars of step number `n`, with the settings of the `t`-th step.
    pub(crate) fn at(group: &'a GroupInfo, t: u64, n: u64) -> Result<Self> {
        let rule = group.rule.as_ref();
        let scalars = scalars_of(rule, &group.scheduled, &group.name, t, |now| now.scalars(n))?;
        let hyper = scalars.iter().map(|s| F::from_f64(s.value())).collect();
        Ok(Self { cpu: F::of_rule(rule), hyper, rule, sums: rule.sums() })
    }

    /// A member of `Hyper`; 0 where the rule has no member of this name.
    pub(crate) fn member(&self, name: &str) -> F {
        let at = self.rule.scalars(1).iter().position(|s| s.name == name);
        at.map_or(F::zero(), |at| self.hyper[at])
    }

    /// As [`member`](Self::member), for writing.
    pub(crate) fn member_mut(&mut self, name: &str) -> Option<&mut F> {
        let at = self.rule.scalars(1).iter().position(|s| s.name == name)?;
        self.hyper.get_mut(at)
    }

    /// One of the rule's flags.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.rule.flags().iter().any(|(n, on)| *n == name && *on)
    }
}

/// The rule of every group with its scalars at the `t`-th step.
pub(crate) fn scale<F: Number>(groups: &[GroupInfo], t: u64) -> Result<Vec<Scaled<'_, F>>> {
    let mut scaled = Vec::with_capacity(groups.len());
    for group in groups {
        scaled.push(Scaled::at(group, t, t)?);
    }
    Ok(scaled)
}
