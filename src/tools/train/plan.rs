//! The plan of a training.

use std::path::PathBuf;

use crate::io::checkpoint::Fit;
use crate::optim::Rule;
use crate::options::schedule::{Schedule, Scheduled};
use crate::tools::objectives::{Mlp, Samples, Split};
use crate::{Clip, Ema, LossScale, NoDecay, Result, Storage};

/// A training: optimizer, model, data and options.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The optimizer with its settings.
    pub rule: Box<dyn Rule>,
    /// The model.
    pub mlp: Mlp,
    /// The number of passes through the data. Default: 20.
    pub epochs: u32,
    /// Rows per mini-batch. Default: 64.
    pub batch: usize,
    /// The seed of the initial weights, the split and each epoch's order. Default: 0.
    pub seed: u64,
    /// The share of rows that are held out. Default: 0.2.
    pub held_out: f64,
    /// How gradients are clipped. Default: no clip.
    pub clip: Option<Clip>,
    /// The learning rate by step count. Default: the optimizer's own learning rate.
    pub schedule: Option<Schedule>,
    /// The moving average of the weights, which classifies the held-out rows too. Default: none.
    pub ema: Option<Ema>,
    /// The tensors without weight decay. Default: none.
    pub no_decay: Option<NoDecay>,
    /// The loss scale. The model multiplies the gradients by the scale, and the step divides them by the scale. Default: none.
    pub loss_scale: Option<LossScale>,
    /// How parameters, gradients and states are stored. The model is evaluated with the stored parameters. Default: f32.
    pub storage: Storage,
    /// The checkpoint file that is written after each epoch, from which a run can resume. The reference cannot write one: its numbers are
    /// f64.
    pub save: Option<PathBuf>,
    /// The checkpoint file of an earlier run of the same plan. This run starts after the last epoch of that run.
    pub resume: Option<PathBuf>,
    /// Whether that checkpoint may have another storage, which is then converted with round to nearest. Default: no.
    pub convert: bool,
}

impl Plan {
    /// The default plan with this optimizer.
    pub fn new(rule: impl Into<Box<dyn Rule>>) -> Self {
        Self {
            rule: rule.into(),
            mlp: Mlp::default(),
            epochs: 20,
            batch: 64,
            seed: 0,
            held_out: 0.2,
            clip: None,
            schedule: None,
            ema: None,
            no_decay: None,
            loss_scale: None,
            storage: Storage::default(),
            save: None,
            resume: None,
            convert: false,
        }
    }

    /// Checks every option that can be checked without a backend.
    ///
    /// # Errors
    /// An option is out of range; the error names the first.
    pub fn check(&self) -> Result<()> {
        self.rule.check()?;
        self.clip.map_or(Ok(()), Clip::check)?;
        self.ema.map_or(Ok(()), Ema::check)?;
        self.no_decay.as_ref().map_or(Ok(()), |_| NoDecay::undecayed_rule(self.rule.as_ref()).map(drop))?;
        self.loss_scale.map_or(Ok(()), LossScale::check)?;
        self.storage.formats(self.rule.as_ref(), 0)?;
        self.scheduled().map_or(Ok(()), |scheduled| scheduled.check(self.rule.as_ref(), "default"))
    }

    fn scheduled(&self) -> Option<Scheduled> {
        Some(Scheduled::new(self.rule.as_ref(), "lr", self.schedule.clone()?))
    }

    /// The scheduled learning rate of the last step, at this step count.
    pub(super) fn rate(&self, step_count: u64) -> Option<f64> {
        Some(self.scheduled()?.schedule.rate(step_count.saturating_sub(1)))
    }

    /// How closely the resumed checkpoint must match the plan.
    pub(super) const fn fit(&self) -> Fit {
        if self.convert { Fit::Converted } else { Fit::Whole }
    }

    pub(super) fn split(&self, samples: &Samples) -> Result<Split> {
        samples.split(self.held_out, self.seed)
    }
}
