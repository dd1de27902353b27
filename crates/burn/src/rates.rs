//! The learning rates of a step.

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;

/// The learning rates of a step, as Burn's optimizers take them: a number, or what a scheduler of Burn returns.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum LearningRates {
    /// The rates that the rules have, or their schedules ([`Builder::schedule`](wgpu_optim::Builder::schedule)).
    #[default]
    Own,
    /// One rate for all parameters.
    All(f64),
    /// Rates by parameter, from a [`ModuleLrScheduler`](burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler). All parameters of a group
    /// of the optimizer must have the same rate.
    ByParam(ModuleLearningRate),
}

impl From<()> for LearningRates {
    fn from((): ()) -> Self {
        Self::Own
    }
}

impl From<f64> for LearningRates {
    fn from(rate: f64) -> Self {
        Self::All(rate)
    }
}

impl From<ModuleLearningRate> for LearningRates {
    fn from(rates: ModuleLearningRate) -> Self {
        Self::ByParam(rates)
    }
}
