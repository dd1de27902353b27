//! Settings of an optimizer on the host.

#[cfg(feature = "checkpoint")]
use std::collections::BTreeMap;

use crate::Result;
use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::gpu::build::spec::Group;
use crate::optim::{Rule, Value};

impl<F: Number> Optimizer<F> {
    /// The learning rate of a group for the next step, with the schedule where the group has one.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the rule has no learning rate.
    pub fn lr(&self, group: Group) -> Result<f64> {
        let place = self.directory.group(&self.spec, group)?;
        self.spec.lr(group, self.parts[place.map_or(0, |place| place.part)].step_count)
    }

    /// Sets a group's learning rate from the next step on.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the rate is out of its range, or belongs to a schedule.
    pub fn set_lr(&mut self, group: Group, lr: f64) -> Result<()> {
        self.set(group, "lr", &Value::Number(lr))
    }

    /// Sets all settings of a group that have no schedule, from the next step on.
    ///
    /// # Errors
    /// As [`set`](Self::set); the group holds another rule.
    pub fn set_rule(&mut self, group: Group, rule: impl Rule) -> Result<()> {
        let settings = self.spec.settings_of(group, &rule)?;
        self.set_all(group, settings.iter().map(|(name, value)| (*name, value)))
    }

    /// Sets one of a group's settings from the next step on.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; an unknown name; a value out of range; a setting that changes which states are kept, or that
    /// has a schedule.
    pub fn set(&mut self, group: Group, name: &str, value: &Value) -> Result<()> {
        self.set_all(group, [(name, value)])
    }

    /// As [`set`](Self::set) for several settings at once.
    ///
    /// # Errors
    /// As [`set`](Self::set). Then no setting is changed.
    pub fn set_all<'a>(
        &mut self,
        group: Group,
        settings: impl IntoIterator<Item = (&'a str, &'a Value)>,
    ) -> Result<()> {
        let rule = self.spec.changed_rule(group, settings)?;
        self.put_rule(group, rule);
        Ok(())
    }

    /// Takes checked rules of a part, by the indices of their groups in it.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn put_rules(&mut self, part: usize, rules: BTreeMap<usize, Box<dyn Rule>>) {
        for (index, rule) in rules {
            let group = &mut self.parts[part].spec.groups[index];
            let whole = self.spec.groups.iter_mut().filter(|other| other.id == group.id);
            whole.for_each(|whole| whole.rule = rule.clone());
            group.rule = rule;
        }
    }

    fn put_rule(&mut self, group: Group, rule: Box<dyn Rule>) {
        if let Ok(Some(place)) = self.directory.group(&self.spec, group) {
            self.parts[place.part].spec.groups[place.index].rule = rule.clone();
        }
        self.spec.groups[group.index].rule = rule;
    }
}
