//! Settings of a running optimizer.

#[cfg(feature = "checkpoint")]
use std::collections::BTreeMap;

use crate::gpu::build::division::InPart;
use crate::gpu::build::spec::Group;
use crate::gpu::optimizer::Optimizer;
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
        let place = self.directory.group(&self.spec, group)?;
        let part = &self.parts[place.map_or(0, |place| place.part)];
        self.spec.lr(group, part.scalars.most_steps())
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
        if let Some(InPart { part, index }) = self.directory.group(&self.spec, group)? {
            self.parts[part].take_rule(index, rule.clone())?;
        }
        self.spec.groups[group.index].rule = rule;
        Ok(())
    }

    /// Takes checked rules of a part, by the indices of their groups in it. Only while every recorded step is finished.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn put_rules(&mut self, part: usize, rules: BTreeMap<usize, Box<dyn Rule>>) {
        let part = &mut self.parts[part];
        for (index, rule) in rules {
            let group = &mut part.spec.groups[index];
            let whole = self.spec.groups.iter_mut().filter(|other| other.id == group.id);
            whole.for_each(|whole| whole.rule = rule.clone());
            group.rule = rule;
        }
        part.restart();
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
        self.parts.iter_mut().for_each(|part| part.set_clip(clip));
        Ok(())
    }
}
