//! Changes of a group's settings, and their checks, for the GPU and the host.

#[cfg(feature = "checkpoint")]
use std::collections::BTreeMap;

use crate::gpu::build::spec::{Group, Spec};
use crate::optim::rule::{check_common, goes_on, same_rule};
use crate::optim::{Rule, Value};
use crate::options::schedule::refuse_owned;
use crate::{Error, Result};

impl Spec {
    /// The rule of a group with other settings, if the optimizer can continue with it.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; an unknown name; a value out of range; a setting that has a schedule, that changes which states
    /// are kept, or that all groups share.
    pub(crate) fn changed_rule<'a>(
        &self,
        group: Group,
        settings: impl IntoIterator<Item = (&'a str, &'a Value)>,
    ) -> Result<Box<dyn Rule>> {
        let info = self.group_info(group)?;
        let settings: Vec<_> = settings.into_iter().collect();
        for (name, _) in &settings {
            refuse_owned(&info.scheduled, &info.name, name)?;
        }
        self.restored_rule(group, settings)
    }

    /// As [`changed_rule`](Self::changed_rule), for settings with a schedule too. Restoring a checkpoint needs it.
    pub(crate) fn restored_rule<'a>(
        &self,
        group: Group,
        settings: impl IntoIterator<Item = (&'a str, &'a Value)>,
    ) -> Result<Box<dyn Rule>> {
        let rule = self.rule_with(group, settings)?;
        let index = self.group(group)?;
        self.check_common(|i| (i == index).then_some(rule.as_ref()))?;
        Ok(rule)
    }

    /// The rules of several groups that change at once, by the groups' indices. A setting that all groups share may change if it changes in
    /// all groups.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn restored_rules<'a>(
        &self,
        groups: impl IntoIterator<Item = (Group, &'a [(String, Value)])>,
    ) -> Result<BTreeMap<usize, Box<dyn Rule>>> {
        let rule = |(group, settings): (Group, &'a [(String, Value)])| {
            let settings = settings.iter().map(|(name, value)| (name.as_str(), value));
            Ok((self.group(group)?, self.rule_with(group, settings)?))
        };
        let rules = groups.into_iter().map(rule).collect::<Result<BTreeMap<_, _>>>()?;
        self.check_common(|i| rules.get(&i).map(AsRef::as_ref))?;
        Ok(rules)
    }

    /// A group's rule with other settings. Checks this rule alone.
    fn rule_with<'a>(
        &self,
        group: Group,
        settings: impl IntoIterator<Item = (&'a str, &'a Value)>,
    ) -> Result<Box<dyn Rule>> {
        let info = self.group_info(group)?;
        let mut rule = info.rule.clone();
        for (name, value) in settings {
            rule.set(name, value)?;
        }
        rule.check()?;
        if !goes_on(rule.as_ref(), info.rule.as_ref()) {
            return Err(Error::Usage(format!(
                "the settings of group `{}` change which states are kept: build a new optimizer",
                info.name
            )));
        }
        Ok(rule)
    }

    /// Checks the settings that all groups of a rule share; `changed` gives the new rules.
    fn check_common<'a>(&'a self, changed: impl Fn(usize) -> Option<&'a dyn Rule>) -> Result<()> {
        let rule_of = |i: usize| changed(i).unwrap_or(self.groups[i].rule.as_ref());
        let named = |i: usize| (self.groups[i].name.as_str(), rule_of(i));
        self.groups_by_rule().into_iter().try_for_each(|groups| check_common(groups.into_iter().map(named)))
    }

    /// The settings of `rule` that have no schedule in the group.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the group holds another rule.
    pub(crate) fn settings_of(&self, group: Group, rule: &dyn Rule) -> Result<Vec<(&'static str, Value)>> {
        let info = self.group_info(group)?;
        if !same_rule(rule, info.rule.as_ref()) {
            return Err(Error::Usage(format!(
                "group `{}` holds {}, the new settings are of {}: build a new optimizer",
                info.name,
                info.rule.name(),
                rule.name()
            )));
        }
        let owned = |name: &str| info.scheduled.iter().any(|s| s.setting == name);
        Ok(rule.settings().into_iter().filter(|(name, _)| !owned(name)).collect())
    }

    /// The learning rate of a group at this step count, with the schedule if the group has one.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the rule has no learning rate.
    pub(crate) fn lr(&self, group: Group, step: u64) -> Result<f64> {
        let info = self.group_info(group)?;
        if let Some(scheduled) = info.scheduled.iter().find(|s| s.setting == "lr") {
            return Ok(scheduled.schedule.rate(step));
        }
        match info.rule.settings().into_iter().find(|(name, _)| *name == "lr") {
            Some((_, Value::Number(lr))) => Ok(lr),
            _ => Err(Error::Usage(format!("{} has no setting `lr`", info.rule.name()))),
        }
    }
}
