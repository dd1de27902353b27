//! Rules with different points for training and evaluation: moves the parameters to the point of evaluation and back.

use crate::gpu::Optimizer;
use crate::gpu::kernel::kernels::Kind;
use crate::options::around::Mode;
use crate::{Error, Result};

impl Optimizer {
    /// Records that the parameters move to the point at which the model is evaluated: with the schedule-free rules from y to the average x.
    /// Call [`to_train_params`](Self::to_train_params) before the next step. The two moves together may change a parameter by an ulp.
    ///
    /// ```
    /// use wgpu_optim::{Group, Optimizer, SgdScheduleFree};
    /// # let gpu = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().open())?;
    /// # let (device, queue) = (gpu.device, gpu.queue);
    /// let mut builder = Optimizer::builder(SgdScheduleFree { lr: 0.1, ..SgdScheduleFree::default() });
    /// builder.tensor(Group::DEFAULT, "w", &[8]);
    /// let mut optimizer = builder.build(&device, &queue)?;
    /// let mut encoder = device.create_command_encoder(&Default::default());
    /// optimizer.step(&mut encoder)?;
    /// optimizer.to_eval_params(&mut encoder)?;
    /// // … passes that evaluate the model …
    /// optimizer.to_train_params(&mut encoder)?;
    /// queue.submit([encoder.finish()]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// The rule trains and evaluates the model at the same point; the parameters are not at the point of training. A step before
    /// [`to_train_params`](Self::to_train_params) is an error.
    pub fn to_eval_params(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        self.move_params(encoder, Kind::ToEvaluation)
    }

    /// Records that the parameters move back to the point at which the model is trained.
    ///
    /// # Errors
    /// As [`to_eval_params`](Self::to_eval_params).
    pub fn to_train_params(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        self.move_params(encoder, Kind::ToTraining)
    }

    fn move_params(&mut self, encoder: &mut wgpu::CommandEncoder, way: Kind) -> Result<()> {
        let rule = self.spec.groups[0].rule.as_ref();
        if rule.evaluation().is_none() {
            return Err(Error::Usage(format!("{} is evaluated where it is trained", rule.name())));
        }
        let (call, from) = match way {
            Kind::ToEvaluation => ("to_eval_params", Mode::Training),
            _ => ("to_train_params", Mode::Evaluation),
        };
        self.check_mode(call, &[from])?;
        self.record_aside(encoder, way)?;
        self.change_mode(encoder, Mode::Evaluation);
        Ok(())
    }
}
