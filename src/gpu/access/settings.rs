//! Settings of a running optimizer.

#[cfg(feature = "checkpoint")]
use std::collections::BTreeMap;

use crate::gpu::Optimizer;
use crate::gpu::build::spec::Group;
use crate::optim::{Rule, Value};
use crate::options::around::Clip;
use crate::{Error, Result};

impl Optimizer {
    /// A group's learning rate for the step that is recorded next. With a schedule, the rate of the step after those that the GPU is
    /// known to have counted or may still count: where steps are skipped, the GPU's own count decides.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the rule has no learning rate.
    pub fn lr(&self, group: Group) -> Result<f64> {
        self.spec.lr(group, self.scalars.most_steps())
    }

    /// Sets a group's learning rate for the steps recorded from now on.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the rate is out of its range, or belongs to a schedule.
    pub fn set_lr(&mut self, group: Group, lr: f64) -> Result<()> {
        self.set(group, "lr", &Value::Number(lr))
    }

    /// Sets all settings of a group that no schedule owns, for the steps recorded from now on.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Group, Optimizer};
    /// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
    /// # let mut builder = Optimizer::builder(AdamW { lr: 1e-3, ..AdamW::default() });
    /// # builder.tensor(Group::DEFAULT, "w", &[8]);
    /// # let mut optimizer = builder.build(&gpu.device, &gpu.queue)?;
    /// optimizer.set_rule(Group::DEFAULT, AdamW { lr: 3e-4, weight_decay: 0.1, ..AdamW::default() })?;
    /// assert_eq!(optimizer.lr(Group::DEFAULT)?, 3e-4);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`set`](Self::set); the group holds another rule.
    pub fn set_rule(&mut self, group: Group, rule: impl Rule) -> Result<()> {
        let settings = self.spec.settings_of(group, &rule)?;
        self.set_all(group, settings.iter().map(|(name, value)| (*name, value)))
    }

    /// Sets one of a group's settings for the steps recorded from now on. Nothing is compiled.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; an unknown name; a value out of range; a setting that would change which states are kept, or
    /// that belongs to a schedule; a setting that enters bias corrections (β1, β2, ε …), or any where there is a schedule, while recorded
    /// steps are not yet finished.
    pub fn set(&mut self, group: Group, name: &str, value: &Value) -> Result<()> {
        self.set_all(group, [(name, value)])
    }

    /// As [`set`](Self::set) for several settings at once.
    ///
    /// # Errors
    /// As [`set`](Self::set); none is changed then.
    pub fn set_all<'a>(
        &mut self,
        group: Group,
        settings: impl IntoIterator<Item = (&'a str, &'a Value)>,
    ) -> Result<()> {
        let rule = self.spec.changed_rule(group, settings)?;
        self.take_rule(group, rule)
    }

    /// Goes on with rules that were checked, by their groups' indices, while no recorded step is unfinished.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn put_rules(&mut self, rules: BTreeMap<usize, Box<dyn Rule>>) {
        for (index, rule) in rules {
            self.spec.groups[index].rule = rule;
        }
        self.scalars.restart(None);
        self.scalars.settings_changed();
    }

    /// Goes on with a rule that was checked.
    fn take_rule(&mut self, group: Group, rule: Box<dyn Rule>) -> Result<()> {
        let info = self.spec.group_info(group)?;
        let counts_differ = |&t: &u64| {
            let count = |rule: &dyn Rule| rule.scalars(t).iter().map(|s| s.count).collect::<Vec<_>>();
            count(rule.as_ref()) != count(info.rule.as_ref())
        };
        let counts_change = self.spec.around.scheduled || [1, 2, 3, 10, 100].iter().any(counts_differ);
        if counts_change && !self.scalars.idle(&self.context.device) {
            return Err(Error::Usage(format!(
                "a setting of group `{}` that is computed ahead (bias corrections; with a schedule, all) may change only while no \
                 recorded step is unfinished: submit and wait first",
                info.name
            )));
        }
        let index = self.spec.group(group)?;
        self.spec.groups[index].rule = rule;
        if counts_change {
            self.scalars.restart(None);
        }
        self.scalars.settings_changed();
        Ok(())
    }

    /// Sets the largest norm or value of the clip for the steps recorded from now on.
    ///
    /// # Errors
    /// It is not a finite number above 0; the optimizer was built without a clip.
    pub fn set_clip(&mut self, most: f64) -> Result<()> {
        let clip = match self.spec.around.clip {
            None => return Err(Error::Usage("the optimizer was built without a clip".to_owned())),
            Some(Clip::GlobalNorm(_)) => Clip::GlobalNorm(most),
            Some(Clip::GroupNorm(_)) => Clip::GroupNorm(most),
            Some(Clip::TensorNorm(_)) => Clip::TensorNorm(most),
            Some(Clip::Value(_)) => Clip::Value(most),
        };
        clip.check()?;
        self.spec.around.clip = Some(clip);
        self.scalars.set_around(self.spec.around);
        Ok(())
    }
}
