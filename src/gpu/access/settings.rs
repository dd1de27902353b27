//! Settings of a part.

use crate::gpu::Part;
use crate::gpu::build::spec::GroupInfo;
use crate::optim::Rule;
use crate::options::around::Clip;
use crate::{Error, Result};

impl Part {
    /// Takes a checked rule of a group, for the next recorded steps.
    pub(crate) fn take_rule(&mut self, index: usize, rule: Box<dyn Rule>) -> Result<()> {
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

    /// Writes all scalars again, after the rules were replaced. Only while every recorded step is finished.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn restart(&mut self) {
        self.scalars.restart(None);
        self.scalars.settings_changed();
    }

    /// Takes a checked clip, for the next recorded steps.
    pub(crate) fn set_clip(&mut self, clip: Clip) {
        self.spec.around.clip = Some(clip);
        self.scalars.set_around(self.spec.around);
    }
}
