//! The stages of a step: the sums of every round with the decisions from them, then the update. A profiler sees each as a group of
//! commands.

use crate::gpu::Optimizer;
use crate::gpu::record::joint::Call;
use crate::{Error, Result};

/// A stage of a step, over all parts of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The sums of the round of this number.
    Sums(usize),
    /// The decisions from these sums.
    Decisions(usize),
    Update,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Sums(_) => "statistics",
            Self::Decisions(_) => "finalize",
            Self::Update => "update",
        }
    }
}

impl Optimizer {
    /// The stages of a step, in order.
    fn stages(&self) -> impl Iterator<Item = Stage> + use<> {
        let rounds = self.parts.iter().map(|part| part.kernels.main_rounds).max().unwrap_or(0);
        (0..rounds).flat_map(|round| [Stage::Sums(round), Stage::Decisions(round)]).chain([Stage::Update])
    }

    /// Records a stage as a group of commands.
    fn stage(&self, pass: &mut wgpu::ComputePass<'_>, call: &Call, stage: Stage) {
        pass.push_debug_group(stage.name());
        match stage {
            Stage::Sums(round) => self.sum_round(pass, call, round),
            Stage::Decisions(round) => self.decide_round(pass, call, round),
            Stage::Update => self.update(pass, call, None),
        }
        pass.pop_debug_group();
    }

    /// Records a step, in one pass.
    pub(crate) fn record(&self, encoder: &mut wgpu::CommandEncoder, call: &Call) {
        let mut pass = self.begin_pass(encoder);
        self.stages().for_each(|stage| self.stage(&mut pass, call, stage));
    }

    /// Records the sums that every step makes, and the decisions from them.
    pub(crate) fn decide(&self, pass: &mut wgpu::ComputePass<'_>, call: &Call) {
        self.stages().filter(|stage| *stage != Stage::Update).for_each(|stage| self.stage(pass, call, stage));
    }

    /// The names of the stages of a step, in order: `statistics` and `finalize` for each round of sums, then `update`.
    /// [`step`](Self::step) records each as a debug group of this name, which graphics debuggers show;
    /// [`step_with_timestamps`](Self::step_with_timestamps) measures them.
    #[must_use]
    pub fn step_stages(&self) -> Vec<&'static str> {
        self.stages().map(Stage::name).collect()
    }

    /// As [`step`](Self::step), with each stage in a compute pass of its own that writes the given timestamps, or none. There are as many as
    /// [`step_stages`](Self::step_stages), in their order. Their query sets belong to the optimizer's device, which needs
    /// [`Features::TIMESTAMP_QUERY`](wgpu::Features::TIMESTAMP_QUERY). Profilers such as wgpu-profiler hand out such writes.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Clip, Group, Optimizer, wgpu};
    /// # let adapter = pollster::block_on(wgpu_optim::tools::adapter::Selector::default().find())?;
    /// # if !adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY) { return Ok(()); }
    /// let features = wgpu::Features::TIMESTAMP_QUERY;
    /// let descriptor = wgpu::DeviceDescriptor { required_features: features, ..Default::default() };
    /// let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("the adapter has the feature");
    /// let mut builder = Optimizer::builder(AdamW::default());
    /// builder.tensor(Group::DEFAULT, "w", &[64, 32]);
    /// builder.clip(Clip::GlobalNorm(1.0));
    /// let mut optimizer = builder.build(&device, &queue)?;
    ///
    /// let stages = optimizer.step_stages();
    /// assert_eq!(stages, ["statistics", "finalize", "update"]);
    /// let query_set = device.create_query_set(&wgpu::QuerySetDescriptor {
    ///     label: None,
    ///     ty: wgpu::QueryType::Timestamp,
    ///     count: 2 * stages.len() as u32,
    /// });
    /// let writes = (0..stages.len() as u32).map(|stage| {
    ///     Some(wgpu::ComputePassTimestampWrites {
    ///         query_set: &query_set,
    ///         beginning_of_pass_write_index: Some(2 * stage),
    ///         end_of_pass_write_index: Some(2 * stage + 1),
    ///     })
    /// });
    /// let mut encoder = device.create_command_encoder(&Default::default());
    /// optimizer.step_with_timestamps(&mut encoder, writes)?;
    /// queue.submit([encoder.finish()]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// Another number of timestamp writes than stages; the optimizer has dynamic gradients; as [`step`](Self::step).
    pub fn step_with_timestamps<'a>(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        writes: impl IntoIterator<Item = Option<wgpu::ComputePassTimestampWrites<'a>>>,
    ) -> Result<()> {
        if self.spec.dynamic_gradients {
            let problem = "a step with dynamic gradients takes no timestamps: call step_with_grads in a timed encoder";
            return Err(Error::Usage(problem.to_owned()));
        }
        let (stages, writes): (Vec<_>, Vec<_>) = (self.stages().collect(), writes.into_iter().collect());
        if stages.len() != writes.len() {
            let names = self.step_stages().join(", ");
            let (given, needs) = (writes.len(), stages.len());
            return Err(Error::Usage(format!(
                "{given} timestamp writes were given, the step has {needs} stages: {names}"
            )));
        }
        self.check_whole()?;
        let call = self.begin()?;
        for (stage, writes) in stages.into_iter().zip(writes) {
            let mut pass = self.begin_timed_pass(encoder, writes);
            self.stage(&mut pass, &call, stage);
        }
        self.finish(encoder, call);
        Ok(())
    }
}
