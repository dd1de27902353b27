//! Construction of an optimizer: every buffer, pipeline and bind group.

use std::sync::Arc;

use futures::FutureExt as _;

use crate::gpu::access::telemetry::Telemetry;
use crate::gpu::build::blame::{blame, check_bound, check_device};
use crate::gpu::build::buffers::{Buffers, Made, OWNED, Source, TABLE, Which};
use crate::gpu::build::builder::Builder;
use crate::gpu::build::joint::{Joint, JointPlan};
use crate::gpu::build::plan::Plan;
use crate::gpu::build::scope::{Patience, Scope};
use crate::gpu::build::spec::{Slice, Spec};
use crate::gpu::hyper::scalars::Scalars;
use crate::gpu::kernel::arena::Arena;
use crate::gpu::kernel::context::Context;
use crate::gpu::kernel::exchange::Exchange;
use crate::gpu::kernel::factors::FactorPasses;
use crate::gpu::kernel::kernels::{DispatchSet, Kernels, Offsets, Pass, RoundDispatch};
use crate::gpu::kernel::matrices::Matrices;
use crate::gpu::kernel::passes;
use crate::gpu::kernel::passes::PASS_BYTES;
use crate::gpu::kernel::pipelines::{Compiler, Pipeline, bind_group};
use crate::gpu::layout::class::{Class, Stage};
use crate::gpu::layout::factors::FactorRecords;
use crate::gpu::layout::placement::Placement;
use crate::gpu::layout::tables::fold;
use crate::gpu::layout::units::{CONTROL_HEAD, VEC4};
use crate::gpu::layout::windows::Window;
use crate::gpu::record::mode::Modes;
use crate::gpu::record::probed::Probed;
use crate::gpu::{Optimizer, Part};
use crate::optim::procedure::evaluation::Evaluations;
use crate::optim::rule::Rule;
use crate::options::storage::half::rounding_key;
use crate::{Error, Result};

/// The factories of an optimizer's buffers and pipelines.
struct Maker<'a> {
    buffers: &'a Buffers<'a>,
    compiler: &'a Compiler<'a>,
    joint: &'a Joint,
    /// The number of the part.
    number: usize,
}

impl Maker<'_> {
    /// A buffer for a binding that an entry point does not use.
    fn stand_in(&self) -> Result<wgpu::Buffer> {
        self.buffers.extra("stand-in", VEC4, OWNED)
    }
}

impl Builder {
    /// Creates every buffer, bind group and pipeline of an optimizer on this device. The builder stays as it is: it may build again, and
    /// its handles belong to every optimizer that it builds. `build` may run on any thread and never waits.
    ///
    /// In a browser, the device answers later: errors that only the device finds reach its `uncapturederror` event. Call
    /// [`build_async`](Self::build_async) there.
    ///
    /// # Errors
    /// No tensor; a setting out of range, a name given twice, a handle of another builder; a range that is misaligned, of the wrong
    /// length, outside its buffer or overlapping another; a buffer without `STORAGE` usage, that was destroyed, or of another device or wgpu
    /// instance; a queue of another device; a lost device; a limit of the device that is too low; two rules that evaluate the objective
    /// inside the step; row sets with tensors of other rows, or with a mask that does not fit.
    pub fn build(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Optimizer> {
        // Natively every answer is known at once, and in a browser no question was asked.
        let built = self.construct(device, queue, Patience::Now).now_or_never();
        built.unwrap_or_else(|| Err(Error::Wgpu("the device did not answer at once: call build_async".to_owned())))
    }

    /// As [`build`](Self::build), and waits without blocking until the device has created everything. In a browser this is the call that
    /// reports every error: a buffer of another device, memory that was not found, a device that was lost.
    ///
    /// # Errors
    /// As [`build`](Self::build); the device was lost.
    pub async fn build_async(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Optimizer> {
        let optimizer = self.construct(device, queue, Patience::Later).await?;
        // In a browser a lost device reports no errors, but it maps no buffer.
        match optimizer.read_step_count().await {
            Ok(_) => Ok(optimizer),
            Err(error) => {
                optimizer.destroy();
                Err(error)
            }
        }
    }

    async fn construct(&self, device: &wgpu::Device, queue: &wgpu::Queue, patience: Patience) -> Result<Optimizer> {
        let spec = self.settled()?;
        let software = device.adapter_info().device_type == wgpu::DeviceType::Cpu;
        let (specs, directory) = spec.divide();
        let plan = |part: &Spec| Plan::new(part, self.sum_lanes, &device.limits(), software);
        let plans = specs.iter().map(plan).collect::<Result<Vec<_>>>()?;
        let joint = JointPlan::new(&specs, &plans, &device.limits())?;
        check_device(device, queue)?;
        check_bound(device, &spec)?;
        let made = Made::new(patience);
        let scope = Scope::open(device, wgpu::ErrorFilter::Validation, patience);
        let created = self.create(specs, plans, &joint, (device, queue), &made);
        let answer = scope.close();
        // A buffer that found no memory makes every use of it an error too: the memory comes first.
        let owned = made.all().await?;
        let (parts, exchange) = created.inspect_err(|_| owned.destroy())?;
        match answer.wait().await {
            None => {
                let memory_usage = joint.memory_usage(parts.iter().map(|part| &part.memory_usage));
                let evaluations = Evaluations::default();
                Ok(Optimizer { spec, parts, directory, exchange, evaluations, memory_usage, owned })
            }
            Some(error) => {
                let error = blame(device, &error, &spec).await;
                owned.destroy();
                Err(error)
            }
        }
    }
}

impl Builder {
    /// Creates the parts, and the exchange between them if they have one.
    fn create(
        &self,
        specs: Vec<Spec>,
        plans: Vec<Plan>,
        plan: &JointPlan,
        (device, queue): (&wgpu::Device, &wgpu::Queue),
        made: &Made,
    ) -> Result<(Vec<Part>, Option<Exchange>)> {
        let compiler = Compiler { device, label: &self.label, cache: self.cache.as_ref() };
        let buffers = Buffers { device, queue, label: &self.label, sizes: &plan.sizes, contents: &[], made };
        let joint = plan.create(&buffers)?;
        let is_joint = specs.len() > 1;
        let mut parts = Vec::with_capacity(specs.len());
        for (number, (spec, plan)) in specs.into_iter().zip(plans).enumerate() {
            // The names of buffers and pipelines tell the rules apart.
            let rule = spec.rule().name();
            let label = if is_joint { format!("{} {rule}", self.label) } else { self.label.clone() };
            let buffers =
                Buffers { device, queue, label: &label, sizes: &plan.sizes.clone(), contents: &plan.contents(), made };
            let compiler = Compiler { label: &label, ..compiler };
            let maker = Maker { buffers: &buffers, compiler: &compiler, joint: &joint, number };
            parts.push(Part::create(self, spec, plan, &maker)?);
        }
        let exchange = match joint.totals.first() {
            Some(totals) => Some(Exchange::new(&buffers, &compiler, &totals.buffer, &plan.norms)?),
            None => None,
        };
        Ok((parts, exchange))
    }
}

impl Part {
    fn create(builder: &Builder, spec: Spec, plan: Plan, maker: &Maker<'_>) -> Result<Self> {
        let &Maker { buffers, compiler, .. } = maker;
        let &Buffers { device, queue, label, .. } = buffers;
        let memory_usage = plan.memory_usage(&spec);
        let needs_stand_in = plan.sizes.of(Which::StandIn) > 0;
        let Plan {
            planned,
            mut rows,
            row_table,
            classes,
            layout,
            rings,
            runs,
            factor_records,
            passes,
            matrices,
            sample,
            ..
        } = plan;
        let created = buffers.create_pages(OWNED | builder.param_usages, OWNED | builder.grad_usages)?;
        rows.create(buffers, maker.joint.masks.as_ref())?;
        let class = &classes.distinct[0];
        let scalars = Scalars::new(buffers, rings, spec.groups.len(), spec.around, row_table)?;
        let control = match class.scalars_in_control {
            Some(_) => scalars.buffer.clone(),
            None => buffers.create(Which::Control, OWNED)?,
        };
        let scale = spec.around.loss_scale.map_or(1.0, |s| s.initial as f32).to_bits();
        let rounding = rounding_key(spec.seed);
        queue.write_buffer(&control, 0, bytemuck::cast_slice(&[0, 0, 0, 0, scale, 0, rounding, 0]));
        if let (Some(records), Some(factors)) = (&factor_records, &classes.factors) {
            let table = CONTROL_HEAD + factors.table as u64 * VEC4;
            queue.write_buffer(&control, table, bytemuck::cast_slice(&records.tensors));
        }
        let own = control.clone();
        let kernels = Kernels {
            dispatches: Vec::new(),
            rounds: Vec::new(),
            main_rounds: 0,
            control,
            factors: None,
            losses: (class.probes() > 0).then(|| buffers.create(Which::Losses, OWNED)).transpose()?,
            passes: passes::create(&passes, buffers)?,
            matrices: None,
            stand_in: needs_stand_in.then(|| buffers.create(Which::StandIn, OWNED)).transpose()?,
            runs: runs.map(|runs| runs.create(buffers)).transpose()?,
        };
        let placement = Placement {
            places: planned.places,
            buffers: planned.sources.iter().map(|source| source.buffer(&created).clone()).collect(),
            callers: planned.sources.iter().filter_map(Source::of_caller).cloned().collect(),
            class_of: classes.items.iter().map(|item| item.class).collect(),
            classes: classes.distinct,
            layout,
            factors: classes.factors,
            rows,
        };
        let mut part = Self {
            context: Context { device: device.clone(), queue: queue.clone(), label: label.to_owned(), own },
            spec,
            placement,
            kernels,
            remap: None,
            scalars,
            probed: Probed::default(),
            modes: Modes::default(),
            telemetry: None,
            memory_usage,
        };
        if let Some(records) = factor_records {
            part.create_factors(maker, &records)?;
        }
        part.create_passes(maker)?;
        if let Some(plan) = matrices {
            let arenas: Vec<&Arena> = part.kernels.dispatches.iter().map(|shard| &shard.arena).collect();
            part.kernels.matrices = Some(Matrices::new(&plan, buffers, compiler, &arenas)?);
        }
        part.remap = part.create_remap(buffers, compiler)?;
        let names = part.spec.tensors.iter().map(|tensor| tensor.name.as_str().into());
        part.telemetry = sample.map(|sample| Telemetry::new(buffers, sample, names)).transpose()?;
        Ok(part)
    }

    fn create_passes(&mut self, maker: &Maker<'_>) -> Result<()> {
        let classes = self.placement.classes.clone();
        self.kernels.main_rounds = classes[0].rounds().len();
        for (index, round) in classes[0].all_rounds().enumerate() {
            let made = self.create_round(maker, index, &Class { round, ..classes[0].clone() })?;
            self.kernels.rounds.push(made);
        }
        let pipelines: Vec<_> = classes.iter().map(|v| ClassPipelines::compile(maker.compiler, v)).collect();
        for shard in 0..self.placement.layout.shards.len() {
            let class = &pipelines[self.placement.layout.shards[shard].class];
            let made = self.create_dispatches(maker, shard, class)?;
            for fill in class.fill.iter().chain(&class.setup) {
                self.fill_states(maker, shard, &made, fill)?;
            }
            self.kernels.dispatches.push(made);
        }
        Ok(())
    }

    fn create_dispatches(&self, maker: &Maker<'_>, index: usize, class: &ClassPipelines) -> Result<DispatchSet> {
        let buffers = maker.buffers;
        let shard = &self.placement.layout.shards[index];
        let arena =
            Arena { buffer: buffers.create(Which::Arena(index), OWNED)?, whole: shard.whole(), packed: shard.packed() };
        // The update writes its measurements after the records of chunks.
        let chunks = buffers.create_with(Which::Chunks(index), OWNED, bytemuck::cast_slice(&shard.chunks))?;
        let spans = buffers.create_with(Which::Spans(index), TABLE, bytemuck::cast_slice(&shard.spans))?;
        let pass = |pipeline: &Arc<Pipeline>, records: usize, table: &wgpu::Buffer, round: usize| {
            let group = self.pass_group(pipeline, index, &arena, table, round);
            let grid = fold(records, self.context.device.limits().max_compute_workgroups_per_dimension);
            Pass { pipeline: pipeline.clone(), group, without_grads: None, table: table.clone(), grid, round }
        };
        let mut update = pass(&class.update, shard.chunks.len(), &chunks, 0);
        if update.group.is_none() && (class.swap.is_some() || class.evaluation.is_some()) {
            let unused = maker.stand_in()?;
            update.without_grads = Some(self.group_without_grads(&unused, index, &arena, &chunks, &class.update));
        }
        let stats = class.stats.iter().enumerate();
        Ok(DispatchSet {
            update,
            stats: stats
                .map(|(round, stats)| stats.as_ref().map(|stats| pass(stats, shard.spans.len(), &spans, round)))
                .collect(),
            procedure: class.procedure.as_ref().map(|procedure| pass(procedure, shard.chunks.len(), &chunks, 0)),
            tiles: class.tiles.as_ref().map(|tiles| self.create_tiles(maker, index, tiles, &pass)).transpose()?,
            accumulate: class.accumulate.clone(),
            swap: class.swap.clone(),
            evaluation: class.evaluation.clone(),
            arena,
        })
    }

    /// The bindings of a pass of a shard; `None` where each run of gradients has its own.
    pub(crate) fn pass_group(
        &self,
        pipeline: &Pipeline,
        index: usize,
        arena: &Arena,
        table: &wgpu::Buffer,
        round: usize,
    ) -> Option<wgpu::BindGroup> {
        let shard = &self.placement.layout.shards[index];
        let per_run = pipeline.bindings.iter().any(|binding| binding.name == "wo_run");
        (!per_run).then(|| {
            bind_group(&self.context.device, &self.context.label, pipeline, |name| match name {
                "wo_grads" => self.window_binding(shard.grad.as_ref().unwrap_or(&shard.param)),
                "wo_mask" => self.mask_binding(index),
                _ => self.resource(name, shard.param.clone(), arena, table, round),
            })
        })
    }

    /// The resource of a binding of a shard. The calling function binds gradients itself.
    pub(crate) fn resource<'a>(
        &'a self,
        name: &str,
        param: Window,
        arena: &'a Arena,
        table: &'a wgpu::Buffer,
        round: usize,
    ) -> wgpu::BindingResource<'a> {
        match name {
            "wo_chunks" => table.as_entire_binding(),
            "wo_arena" => arena.binding(0..arena.whole),
            "wo_packed" => arena.binding(arena.packed..arena.buffer.size()),
            "wo_params" => self.window_binding(&param),
            shared => self.shared_resource(shared, round),
        }
    }

    /// The resource of a binding that all shards share.
    fn shared_resource(&self, name: &str, round: usize) -> wgpu::BindingResource<'_> {
        let uniform = |buffer, size| {
            wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size: wgpu::BufferSize::new(size) })
        };
        match name {
            "wo_call" => uniform(&self.scalars.calls, self.scalars.call_size()),
            "wo_run" => uniform(self.kernels.runs.as_ref().map_or(&self.kernels.control, |r| &r.buffer), 16),
            "wo_scalars" => self.scalars.buffer.as_entire_binding(),
            "wo_control" => self.kernels.control.as_entire_binding(),
            "wo_losses" => self.kernels.losses.as_ref().unwrap_or(&self.kernels.control).as_entire_binding(),
            "wo_pass" => uniform(self.kernels.passes.as_ref().unwrap_or(&self.kernels.control), PASS_BYTES),
            // The sums of the last round normalize the directions of a probe.
            "wo_totals" => match self.kernels.rounds.last() {
                Some(round) => round.totals.binding(),
                None => self.kernels.control.as_entire_binding(),
            },
            "wo_tile_sums" => match &self.kernels.factors {
                Some(factors) => factors.sums.as_entire_binding(),
                None => self.kernels.control.as_entire_binding(),
            },
            "wo_partials" => {
                self.kernels.rounds.get(round).map_or(&self.kernels.control, |r| &r.partials).as_entire_binding()
            }
            other => unreachable!("no resource for {other}"),
        }
    }

    /// The binding of the masks of a shard's class.
    pub(crate) fn mask_binding(&self, shard: usize) -> wgpu::BindingResource<'_> {
        self.placement.rows.mask_binding(self.placement.classes[self.placement.layout.shards[shard].class].rows)
    }

    pub(crate) fn window_binding(&self, window: &Window) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.placement.buffers[window.buffer],
            offset: window.range.start,
            size: wgpu::BufferSize::new(window.range.end - window.range.start),
        })
    }

    /// Creates the passes over the factors of matrices.
    fn create_factors(&mut self, maker: &Maker<'_>, records: &FactorRecords) -> Result<()> {
        let &Maker { buffers, compiler, .. } = maker;
        let sums = buffers.create(Which::TileSums, OWNED)?;
        let table = buffers.create_with(Which::FactorTable, TABLE, bytemuck::cast_slice(&records.table))?;
        let pipelines = compiler.compile(&self.placement.classes[0], Stage::Fold);
        let group = compiler.bind_group(&pipelines[0], |name| match name {
            "wo_tile_sums" => sums.as_entire_binding(),
            "wo_factor_table" => table.as_entire_binding(),
            _ => self.shared_resource(name, 0),
        });
        let limit = self.context.device.limits().max_compute_workgroups_per_dimension;
        self.kernels.factors = FactorPasses::new(&pipelines, group, sums, [records.folds, records.divides], limit);
        Ok(())
    }

    /// Creates the pass over the tiles of a shard.
    fn create_tiles(
        &self,
        maker: &Maker<'_>,
        index: usize,
        pipeline: &Arc<Pipeline>,
        pass: &impl Fn(&Arc<Pipeline>, usize, &wgpu::Buffer, usize) -> Pass,
    ) -> Result<Pass> {
        let tiles = &self.placement.layout.tiles[index];
        let table = maker.buffers.create_with(Which::Tiles(index), TABLE, bytemuck::cast_slice(tiles))?;
        Ok(pass(pipeline, tiles.len(), &table, 0))
    }

    fn create_round(&self, maker: &Maker<'_>, index: usize, class: &Class) -> Result<RoundDispatch> {
        let Maker { buffers, compiler, .. } = maker;
        let partials = buffers.create(Which::Partials(index), OWNED)?;
        let totals = match maker.joint.totals.get(maker.number).filter(|_| index == 0) {
            Some(range) => range.clone(),
            None => Slice::whole(buffers.create(Which::Totals(index), OWNED)?),
        };
        let segments = bytemuck::cast_slice(&self.placement.layout.segments);
        let segments = buffers.create_with(Which::Segments(index), TABLE, segments)?;
        let tensors =
            buffers.create_with(Which::Tensors(index), TABLE, bytemuck::cast_slice(&self.placement.layout.tensors))?;
        let pipelines = compiler.compile(class, Stage::Finalize);
        let group = compiler.bind_group(&pipelines[0], |name| match name {
            "wo_partials" => partials.as_entire_binding(),
            "wo_segments" => segments.as_entire_binding(),
            "wo_tensors" => tensors.as_entire_binding(),
            "wo_totals" => totals.binding(),
            _ => self.shared_resource(name, 0),
        });
        let pipeline = |entry| find(&pipelines, entry).map(|p| p.pipeline.clone());
        let finalize = pipelines[0].pipeline.clone();
        // Without decisions, `wo_finalize` computes only the totals, so it serves as `wo_reduce` too.
        let reduce = pipeline("wo_reduce").unwrap_or_else(|| finalize.clone());
        let (conclude, wait) = (pipeline("wo_conclude"), pipeline("wo_wait"));
        Ok(RoundDispatch { finalize, reduce, conclude, wait, group, partials, totals })
    }

    /// The bindings of an entry point that reads no gradient, before gradients exist. The layout allows writes to gradients, so an unused
    /// buffer takes their place.
    pub(crate) fn group_without_grads(
        &self,
        unused: &wgpu::Buffer,
        index: usize,
        arena: &Arena,
        table: &wgpu::Buffer,
        pipeline: &Pipeline,
    ) -> wgpu::BindGroup {
        let window = self.placement.layout.shards[index].param.clone();
        bind_group(&self.context.device, &self.context.label, pipeline, |name| match name {
            "wo_grads" => unused.as_entire_binding(),
            "wo_mask" => self.mask_binding(index),
            _ => self.resource(name, window.clone(), arena, table, 0),
        })
    }

    /// Writes the first values of states that do not start at zero.
    fn fill_states(&self, maker: &Maker<'_>, index: usize, shard: &DispatchSet, fill: &Pipeline) -> Result<()> {
        let group = self.group_without_grads(&maker.stand_in()?, index, &shard.arena, &shard.update.table, fill);
        let mut encoder = self
            .context
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(&self.context.label) });
        {
            let mut compute = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            compute.set_pipeline(&fill.pipeline);
            compute.set_bind_group(0, &group, Offsets { slot: 0, record: 0, run: 0 }.of(fill).as_slice());
            compute.dispatch_workgroups(shard.update.grid.0, shard.update.grid.1, 1);
        }
        self.context.submit(encoder)
    }
}

/// The pipelines of a class.
struct ClassPipelines {
    update: Arc<Pipeline>,
    fill: Option<Pipeline>,
    accumulate: Option<wgpu::ComputePipeline>,
    swap: Option<wgpu::ComputePipeline>,
    evaluation: Option<[wgpu::ComputePipeline; 2]>,
    /// One per round; `None` if the round has no sums.
    stats: Vec<Option<Arc<Pipeline>>>,
    procedure: Option<Arc<Pipeline>>,
    tiles: Option<Arc<Pipeline>>,
    /// The procedure's entry point that runs once.
    setup: Option<Pipeline>,
}

impl ClassPipelines {
    fn compile(compiler: &Compiler<'_>, class: &Class) -> Self {
        let update = compiler.compile(class, Stage::Update);
        let pipeline = |entry| find(&update, entry).map(|p| p.pipeline.clone());
        let stats = class.all_rounds().map(|round| {
            let class = Class { round, ..class.clone() };
            // A round without sums decides from the losses or from earlier totals.
            let sums = class.sum_counts().0 > 0;
            sums.then(|| Arc::new(compiler.compile(&class, Stage::Stats).swap_remove(0)))
        });
        let procedure = class.procedure_stage().map(|stage| compiler.compile(class, stage));
        let tiles = class.factored().map(|_| {
            let class = Class { round: class.rule_round(), ..class.clone() };
            Arc::new(compiler.compile(&class, Stage::Tiles).swap_remove(0))
        });
        Self {
            update: Arc::new(update[0].clone()),
            fill: find(&update, "wo_fill").cloned(),
            accumulate: pipeline("wo_accumulate"),
            swap: pipeline("wo_swap"),
            evaluation: pipeline("wo_to_evaluation").zip(pipeline("wo_to_training")).map(<[_; 2]>::from),
            stats: stats.collect(),
            tiles,
            procedure: procedure.as_ref().map(|made| Arc::new(made[0].clone())),
            setup: procedure.as_ref().and_then(|made| made.get(1)).cloned(),
        }
    }
}

/// The pipeline of an entry point, if the stage has this entry point.
fn find<'a>(pipelines: &'a [Pipeline], entry: &str) -> Option<&'a Pipeline> {
    pipelines.iter().find(|pipeline| pipeline.entry == entry)
}

impl<R: Rule + 'static> From<R> for Box<dyn Rule> {
    fn from(rule: R) -> Self {
        Box::new(rule)
    }
}

/// Natively, one thread may build an optimizer and another may step it.
#[cfg(not(target_arch = "wasm32"))]
const _: () = {
    const fn may_cross_threads<T: Send + Sync>() {}
    may_cross_threads::<Optimizer>();
    may_cross_threads::<Builder>();
    // A future of any thread may build.
    fn may_move<T: Send>(_: T) {}
    fn building(builder: &Builder, device: &wgpu::Device, queue: &wgpu::Queue) {
        may_move(builder.build_async(device, queue));
    }
    let _ = building;
};

#[cfg(all(test, feature = "tools"))]
mod tests {
    use super::*;
    use crate::gpu::read_buffer;
    use crate::{Group, VRAdam};

    /// The totals of two steps with this many threads per workgroup of the sums. Software GPUs use another count than hardware.
    fn totals(gpu: &crate::tools::adapter::Gpu, sum_lanes: u32) -> Vec<f32> {
        let mut builder = Optimizer::builder(VRAdam::default());
        builder.sum_lanes = Some(sum_lanes);
        let lengths = [1, 5, 8 * 4 + 1, 1000, 16 * 1024 + 1, 70_001];
        let tensors = lengths.map(|n| builder.tensor(Group::DEFAULT, format!("of {n}"), &[n]));
        let mut optimizer = builder.build(&gpu.device, &gpu.queue).expect("it builds");
        for step in 0..2 {
            for (tensor, n) in tensors.into_iter().zip(lengths) {
                let grads: Vec<f32> = (0..n).map(|i| ((i * 37 + step * 11) % 101) as f32 / 100.0).collect();
                optimizer.write_grad(tensor, &grads).expect("lengths agree");
            }
            gpu.run(|encoder| optimizer.step(encoder)).expect("it runs");
        }
        let totals = optimizer.totals().expect("the rule has sums").slice(..);
        let bytes = pollster::block_on(read_buffer(&gpu.device, &gpu.queue, totals)).expect("it is read");
        bytemuck::pod_collect_to_vec(&bytes)
    }

    #[test]
    fn sums_do_not_depend_on_how_many_threads_add_them() {
        let gpu = pollster::block_on(crate::tools::adapter::Selector::default().open()).expect("an adapter");
        let few = totals(&gpu, 8);
        let many = totals(&gpu, 64);
        assert_eq!(few.len(), many.len());
        for (a, b) in few.iter().zip(&many) {
            assert!((a - b).abs() <= 1e-5 * b.abs(), "{a} with 8 threads, {b} with 64");
        }
        assert!(many[..3].iter().all(|sum| *sum > 0.0), "{:?}", &many[..4]);
    }
}
