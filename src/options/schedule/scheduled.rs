//! A setting that a schedule drives.

use super::sequence::Schedule;
use crate::optim::rule::goes_on;
use crate::optim::{Rule, Scalar, Value};
use crate::{Error, Result};

/// A schedule and the setting that it drives.
#[derive(Clone, Debug)]
pub(crate) struct Scheduled {
    pub(crate) setting: String,
    pub(crate) schedule: Schedule,
}

impl Scheduled {
    /// A schedule without a base starts from the setting's value.
    pub(crate) fn new(rule: &dyn Rule, setting: &str, mut schedule: Schedule) -> Self {
        let now = rule.settings().into_iter().find(|(name, _)| *name == setting);
        if let (None, Some((_, Value::Number(base)))) = (schedule.own_base(), now) {
            schedule = schedule.base(base);
        }
        Self { setting: setting.to_owned(), schedule }
    }

    /// Checks the schedule and its first value, and that every step of the rule advances the step count.
    pub(crate) fn check(&self, rule: &dyn Rule, group: &str) -> Result<()> {
        self.schedule.check()?;
        if rule.sums().may_hold {
            return Err(Error::Usage(format!(
                "group `{group}`: {} does not count its steps along the flow, and its schedule `{}` would stand still: set {} before \
                 each step from a count of your own",
                rule.name(),
                self.schedule,
                self.setting
            )));
        }
        self.set(rule.boxed().as_mut(), rule, group, 1)
    }

    fn set(&self, rule: &mut dyn Rule, built: &dyn Rule, group: &str, t: u64) -> Result<()> {
        let value = Value::Number(self.schedule.rate(t - 1));
        rule.set(&self.setting, &value)?;
        let problem = match rule.check() {
            Err(error) => error.to_string(),
            Ok(()) if !goes_on(rule, built) => {
                format!("{} = {value} changes which states are kept", self.setting)
            }
            Ok(()) => return Ok(()),
        };
        Err(Error::Usage(format!("group `{group}`: its schedule `{}` at step {t}: {problem}", self.schedule)))
    }
}

/// The rule's scalars at the `t`-th step, with the scheduled value of the setting.
///
/// # Errors
/// A scheduled value out of its range; a scalar that f32 does not hold, as a caller's closure may return at any step.
pub(crate) fn scalars_at(rule: &dyn Rule, scheduled: &[Scheduled], group: &str, t: u64) -> Result<Vec<Scalar>> {
    scalars_of(rule, scheduled, group, t, |now| now.scalars(t))
}

/// As [`scalars_at`], with the scalars that `pick` takes from the rule with the scheduled values of the `t`-th step.
pub(crate) fn scalars_of(
    rule: &dyn Rule,
    scheduled: &[Scheduled],
    group: &str,
    t: u64,
    pick: impl Fn(&dyn Rule) -> Vec<Scalar>,
) -> Result<Vec<Scalar>> {
    let scalars = if scheduled.is_empty() {
        pick(rule)
    } else {
        let mut now = rule.boxed();
        for one in scheduled {
            one.set(now.as_mut(), rule, group, t)?;
        }
        pick(now.as_ref())
    };
    let holds = |s: &Scalar| [s.call, s.count, s.value()].into_iter().all(|x| (x as f32).is_finite());
    match scalars.iter().find(|s| !holds(s)) {
        None => Ok(scalars),
        Some(bad) => Err(Error::Usage(format!(
            "group `{group}`: Hyper.{} of {} is {} at step {t}, needs a finite number that f32 holds",
            bad.name,
            rule.name(),
            bad.value()
        ))),
    }
}

/// Refuses a call that sets a setting by hand while a schedule owns it.
pub(crate) fn refuse_owned(scheduled: &[Scheduled], group: &str, setting: &str) -> Result<()> {
    match scheduled.iter().find(|s| s.setting == setting) {
        None => Ok(()),
        Some(one) => Err(Error::Usage(format!(
            "{setting} of group `{group}` belongs to its schedule `{}` and cannot be set by hand",
            one.schedule
        ))),
    }
}
