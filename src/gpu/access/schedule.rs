//! A schedule by call: the caller's count, and not the step count on the GPU, sets the rate of the next recorded steps.

use crate::optim::Value;
use crate::options::schedule::Schedule;
use crate::{Error, Group, Optimizer, Result};

impl Schedule {
    /// Sets a group's learning rate to `rate(call)` for the next recorded steps. `call` is the caller's own count: it advances for
    /// skipped steps too.
    ///
    /// ```
    /// use wgpu_optim::schedule::{Linear, Schedule};
    /// use wgpu_optim::{Group, Lion, Optimizer};
    /// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
    /// # let (device, queue) = (gpu.device, gpu.queue);
    /// let schedule = Schedule::from(Linear { start: 1.0, end: 0.0, steps: 100 }).base(1e-4);
    /// let mut builder = Optimizer::builder(Lion::default());
    /// builder.tensor(Group::DEFAULT, "w", &[8]);
    /// let mut optimizer = builder.build(&device, &queue)?;
    /// for call in 0..3 {
    ///     let mut encoder = device.create_command_encoder(&Default::default());
    ///     schedule.apply(&mut optimizer, Group::DEFAULT, call)?;
    ///     optimizer.step(&mut encoder)?;
    ///     queue.submit([encoder.finish()]);
    /// }
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// A number of the schedule is not valid; no [`base`](Self::base); as [`Optimizer::set`].
    pub fn apply(&self, optimizer: &mut Optimizer, group: Group, call: u64) -> Result<()> {
        self.apply_to(optimizer, group, "lr", call)
    }

    /// As [`apply`](Self::apply), for any numeric setting.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_to(&self, optimizer: &mut Optimizer, group: Group, setting: &str, call: u64) -> Result<()> {
        self.check()?;
        if self.lacks_base() {
            return Err(Error::Usage(format!(
                "the schedule `{self}` of {setting} has no base: give it one with base()"
            )));
        }
        optimizer.set(group, setting, &Value::Number(self.rate(call)))
    }
}
