//! What to train, and how.

use std::path::PathBuf;

use crate::io::checkpoint::Fit;
use crate::optim::Rule;
use crate::options::schedule::{Schedule, Scheduled};
use crate::tools::objectives::{Mlp, Samples, Split};
use crate::{Clip, Ema, LossScale, NoDecay, Result, Storage};

/// What to train, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The optimizer with its settings.
    pub rule: Box<dyn Rule>,
    /// The model.
    pub mlp: Mlp,
    /// How often the data is gone through. Default 20.
    pub epochs: u32,
    /// Rows of a mini-batch. Default 64.
    pub batch: usize,
    /// Decides the initial weights, the split and each epoch's order. Default 0.
    pub seed: u64,
    /// The share of rows that are held out. Default 0.2.
    pub held_out: f64,
    /// How gradients are clipped. Default: not.
    pub clip: Option<Clip>,
    /// The learning rate by applied step. Default: the optimizer's own.
    pub schedule: Option<Schedule>,
    /// The weights' average, with which held-out rows are classified too. Default: none.
    pub ema: Option<Ema>,
    /// The tensors without weight decay. Default: none.
    pub no_decay: Option<NoDecay>,
    /// What gradients are multiplied by before the step divides them again. Default: nothing.
    pub loss_scale: Option<LossScale>,
    /// How parameters, gradients and states are stored; the model computes with parameters as they are stored. Default f32.
    pub storage: Storage,
    /// Where everything that going on needs is saved after each epoch. Not on the reference, whose numbers are f64.
    pub save: Option<PathBuf>,
    /// What an earlier run of the same plan saved: this one goes on after its last epoch.
    pub resume: Option<PathBuf>,
    /// Whether that may be stored otherwise than this plan says: it is converted then, to the nearest. Default: no.
    pub convert: bool,
}

impl Plan {
    /// The default model and course with this optimizer.
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

    /// Checks every number that can be checked before the backend is there.
    ///
    /// # Errors
    /// Names the first that makes no sense.
    pub fn check(&self) -> Result<()> {
        self.rule.check()?;
        self.clip.map_or(Ok(()), Clip::check)?;
        self.ema.map_or(Ok(()), Ema::check)?;
        self.no_decay.as_ref().map_or(Ok(()), |_| NoDecay::twin_rule(self.rule.as_ref()).map(drop))?;
        self.loss_scale.map_or(Ok(()), LossScale::check)?;
        self.storage.formats(self.rule.as_ref(), 0)?;
        self.scheduled().map_or(Ok(()), |scheduled| scheduled.check(self.rule.as_ref(), "default"))
    }

    fn scheduled(&self) -> Option<Scheduled> {
        Some(Scheduled::new(self.rule.as_ref(), "lr", self.schedule.clone()?))
    }

    /// The scheduled rate of the step that was the `applied`-th.
    pub(super) fn rate(&self, applied: u64) -> Option<f64> {
        Some(self.scheduled()?.schedule.rate(applied.saturating_sub(1)))
    }

    /// How what is resumed must fit.
    pub(super) const fn fit(&self) -> Fit {
        if self.convert { Fit::Converted } else { Fit::Whole }
    }

    pub(super) fn split(&self, samples: &Samples) -> Result<Split> {
        samples.split(self.held_out, self.seed)
    }
}
