//! Settings of a running optimizer.

#[cfg(feature = "checkpoint")]
use std::collections::BTreeMap;

use crate::gpu::Optimizer;
use crate::gpu::build::spec::{Group, GroupInfo};
use crate::optim::{Rule, Value};
use crate::options::around::Clip;
use crate::{Error, Result};

impl Optimizer {
    /// The learning rate of a group for the next recorded step. With a schedule, the result assumes that the GPU skips no recorded step. The GPU
    /// itself uses its own step count.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the rule has no learning rate.
    pub fn lr(&self, group: Group) -> Result<f64> {
        self.spec.lr(group, self.scalars.most_steps())
    }

    /// Sets a group's learning rate for the next recorded steps.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; the rate is out of its range, or belongs to a schedule.
    pub fn set_lr(&mut self, group: Group, lr: f64) -> Result<()> {
        self.set(group, "lr", &Value::Number(lr))
    }

    /// Sets all settings of a group that have no schedule, for the next recorded steps.
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

    /// Sets one of a group's settings for the next recorded steps. Nothing is compiled.
    ///
    /// # Errors
    /// The handle belongs to another optimizer; an unknown name; a value out of range; a setting that changes which states are kept, or that has
    /// a schedule; while recorded steps are not yet finished, a setting that enters bias corrections (β1, β2, ε …), or any setting if the
    /// optimizer has a schedule.
    pub fn set(&mut self, group: Group, name: &str, value: &Value) -> Result<()> {
        self.set_all(group, [(name, value)])
    }

    /// As [`set`](Self::set) for several settings at once.
    ///
    /// # Errors
    /// As [`set`](Self::set). The call then changes no setting.
    pub fn set_all<'a>(
        &mut self,
        group: Group,
        settings: impl IntoIterator<Item = (&'a str, &'a Value)>,
    ) -> Result<()> {
        let rule = self.spec.changed_rule(group, settings)?;
        self.take_rule(group, rule)
    }

    /// Takes checked rules, by the indices of their groups. Only while every recorded step is finished.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn put_rules(&mut self, rules: BTreeMap<usize, Box<dyn Rule>>) {
        for (index, rule) in rules {
            self.spec.groups[index].rule = rule;
        }
        self.scalars.restart(None);
        self.scalars.settings_changed();
    }

    /// Takes a checked rule.
    fn take_rule(&mut self, group: Group, rule: Box<dyn Rule>) -> Result<()> {
        let index = self.spec.group(group)?;
        let before = &self.spec.groups[index];
        let after = GroupInfo { rule, ..before.clone() };
        let rows_change = self.scalars.written_differ(before, &after);
        if rows_change && !self.scalars.idle(&self.context) {
            return Err(Error::Usage(format!(
                "a setting of group `{}` that is computed ahead (bias corrections; with a schedule, all) may change only while \
                 every recorded step is finished: submit and wait first",
                after.name
            )));
        }
        self.spec.groups[index] = after;
        if rows_change {
            self.scalars.restart(None);
        }
        self.scalars.settings_changed();
        Ok(())
    }

    /// Sets the largest norm or value of the clip for the next recorded steps.
    ///
    /// # Errors
    /// The number is not finite or not above 0; the optimizer was built without a clip.
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
