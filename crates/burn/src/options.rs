//! What an optimizer is made of, before it knows a module.

use std::sync::Arc;

use burn::module::{Module, ParamGroup, ParamId};
use burn::tensor::wgpu::WgpuSetup;
use wgpu_optim::storage::Storage;
use wgpu_optim::{Builder, Clip, Group, Optimizer, Rule};

use crate::error::{Error, Result};
use crate::optimizer::WgpuOptimizer;

/// A change to the engine's builder.
type Change = Arc<dyn Fn(&mut Builder) -> wgpu_optim::Result<()> + Send + Sync>;

/// The options of a [`WgpuOptimizer`], which [`WgpuOptimizer::new`] begins and [`init`](Self::init) ends.
#[derive(Clone)]
pub struct Options {
    rule: Box<dyn Rule>,
    groups: Vec<(ParamGroup, Box<dyn Rule>)>,
    clip: Option<Clip>,
    storage: Storage,
    changes: Vec<Change>,
    pub(crate) setup: Option<WgpuSetup>,
    pub(crate) gathers: bool,
}

impl Options {
    pub(crate) fn new(rule: Box<dyn Rule>) -> Self {
        Self {
            rule,
            groups: Vec::new(),
            clip: None,
            storage: Storage::default(),
            changes: Vec::new(),
            setup: None,
            gathers: false,
        }
    }

    /// The wgpu device and queue of Burn: those of `Device::wgpu_options().init_with_setup()`, or those that were given to
    /// `Device::wgpu_options().setup(…)`. Burn gives them to nobody later, so [`init`](Self::init) needs them here.
    #[must_use]
    pub fn with_setup(mut self, setup: &WgpuSetup) -> Self {
        self.setup = Some(setup.clone());
        self
    }

    /// Settings of their own for the parameters that `group` matches, by id or by path, as Burn's `ModuleOptimizer::with_group`. Of several
    /// groups that match, the last one counts.
    #[must_use]
    pub fn with_group(mut self, group: ParamGroup, rule: impl Into<Box<dyn Rule>>) -> Self {
        self.groups.push((group, rule.into()));
        self
    }

    /// Clips the gradients inside the step.
    #[must_use]
    pub fn with_clip(mut self, clip: Clip) -> Self {
        self.clip = Some(clip);
        self
    }

    /// The storage of states, such as `"f32,8bit".parse()?`. The format of the parameters must be the one of the module's tensors.
    #[must_use]
    pub fn with_storage(mut self, storage: Storage) -> Self {
        self.storage = storage;
        self
    }

    /// Any other option: the closure gets the engine's [`Builder`], which has all groups and all parameters, by the paths of the module.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Ema};
    /// use wgpu_optim_burn::WgpuOptimizer;
    /// let options = WgpuOptimizer::new(AdamW::default()).with(|builder| {
    ///     builder.skip_nonfinite(true).telemetry(true);
    ///     Ok(())
    /// });
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn with(mut self, change: impl Fn(&mut Builder) -> wgpu_optim::Result<()> + Send + Sync + 'static) -> Self {
        self.changes.push(Arc::new(change));
        self
    }

    /// Copies the gradients of every step into a buffer of the optimizer, which costs 4 bytes per parameter and their traffic. Some options of
    /// the engine need it: averages that are [swapped](Optimizer::swap_ema), steps in halves. Rules that evaluate the model do so by themselves.
    #[must_use]
    pub fn with_gathered_gradients(mut self) -> Self {
        self.gathers = true;
        self
    }

    /// Makes the optimizer of a module. The module stays as it is; the first step copies its parameters into one allocation of Burn, in which they
    /// lie from then on.
    ///
    /// # Errors
    /// [`with_setup`](Self::with_setup) was not called, or its device is not the module's; the module has no parameter that requires a gradient;
    /// its parameters are on two devices, or not on wgpu; a number type that the storage does not have; everything that
    /// [`Builder::build`] refuses.
    pub fn init<M: Module>(self, module: &M) -> Result<WgpuOptimizer> {
        WgpuOptimizer::build(self, module)
    }

    /// The engine's builder with all groups, and the groups' handles: the first for the parameters that no group matches.
    pub(crate) fn builder(&self) -> (Builder, Vec<Group>) {
        let mut builder = Optimizer::builder(self.rule.clone());
        let mut handles = vec![Group::DEFAULT];
        for (number, (_, rule)) in self.groups.iter().enumerate() {
            handles.push(builder.group(format!("group {}", number + 1), rule.clone()));
        }
        (builder, handles)
    }

    /// Sets the options of a builder that has all parameters.
    pub(crate) fn change(&self, builder: &mut Builder) -> Result<()> {
        builder.storage(self.storage.clone());
        // A parameter that the loss does not use has no gradient. Integrators need the gradients of all.
        builder.partial_steps(self.rule.procedure().is_none_or(|procedure| procedure.needs_call().is_none()));
        self.clip.map(|clip| builder.clip(clip));
        self.changes.iter().try_for_each(|change| change(builder)).map_err(Error::from)
    }

    /// The storage of all parameters, unless [`with`](Self::with) may have changed it for some.
    pub(crate) fn storage(&self) -> Option<&Storage> {
        self.changes.is_empty().then_some(&self.storage)
    }

    /// The number of a parameter's group.
    pub(crate) fn group_of(&self, id: ParamId, path: &str) -> usize {
        self.groups.iter().rposition(|(group, _)| group.matches(&id, Some(path))).map_or(0, |number| number + 1)
    }

    pub(crate) fn rule(&self) -> &dyn Rule {
        self.rule.as_ref()
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("rule", &self.rule).field("groups", &self.groups).finish_non_exhaustive()
    }
}
