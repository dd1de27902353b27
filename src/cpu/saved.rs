//! What a checkpoint takes of an optimizer, and gives back.

use super::{Number, Optimizer};
use crate::optim::rule::goes_on;
use crate::optim::{Rule, Value};
use crate::{Error, Result};

/// Parameters in full, kept beside those in half precision, as a copy or as what was split off.
const MASTER: &str = "master";

/// The counters that live from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Counters {
    pub(crate) applied: u64,
    pub(crate) skipped: u64,
    pub(crate) streak: u32,
    pub(crate) scale: f64,
}

impl<F: Number> Optimizer<F> {
    /// The groups' names and settings.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&str, Vec<(&'static str, Value)>)> {
        self.groups.iter().map(|g| (g.name.as_str(), g.rule.settings()))
    }

    /// Changes settings, also those that belong to a schedule.
    pub(crate) fn put_settings(&mut self, group: usize, settings: &[(String, Value)]) -> Result<()> {
        self.groups[group].rule = self.with_settings(group, settings)?;
        Ok(())
    }

    /// A group's rule with other settings, if the optimizer could go on with it.
    pub(crate) fn with_settings(&self, group: usize, settings: &[(String, Value)]) -> Result<Box<dyn Rule>> {
        let info = &self.groups[group];
        let mut rule = info.rule.clone();
        for (name, value) in settings {
            rule.set(name, value)?;
        }
        rule.check()?;
        if !goes_on(rule.as_ref(), info.rule.as_ref()) {
            let problem = format!("the settings of group `{}` change which states are kept", info.name);
            return Err(Error::Usage(problem));
        }
        Ok(rule)
    }

    /// What is kept for a tensor, under the names that the GPU's optimizer has for it.
    pub(crate) fn arrays(&self, tensor: usize) -> Vec<(&'static str, &[F])> {
        let kept = &self.tensors[tensor];
        let names = self.groups[kept.spec.group].rule.states().into_iter().map(|s| s.name);
        let states = names.zip(&kept.states).filter_map(|(name, state)| Some((name, state.as_deref()?)));
        let warp = kept.warp.iter().flat_map(super::Warped::arrays);
        let master = kept.stored.full.as_deref().map(|full| (MASTER, full));
        states.chain(self.around.arrays(tensor)).chain(warp).chain(master).collect()
    }

    /// As [`arrays`](Self::arrays), to be overwritten.
    pub(crate) fn arrays_mut(&mut self, tensor: usize) -> Vec<(&'static str, &mut [F])> {
        let kept = &mut self.tensors[tensor];
        let names = self.groups[kept.spec.group].rule.states().into_iter().map(|s| s.name);
        let states = names.zip(&mut kept.states).filter_map(|(name, state)| Some((name, state.as_deref_mut()?)));
        let warp = kept.warp.iter_mut().flat_map(super::Warped::arrays_mut);
        let master = kept.stored.full.as_deref_mut().map(|full| (MASTER, full));
        states.chain(self.around.arrays_mut(tensor)).chain(warp).chain(master).collect()
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters { applied: self.applied, ..self.around.counters() }
    }

    pub(crate) fn set_counters(&mut self, counters: Counters) {
        self.applied = counters.applied;
        self.around.set_counters(counters);
    }
}
