//! Construction: every buffer, pipeline and bind group of an optimizer.

use std::sync::Arc;

use futures::FutureExt as _;

use super::blame::{blame, bound};
use super::builder::Builder;
use super::layout::{Chunk, Layout, Limits, VEC4, Window, fold, sum_lanes};
use super::passes::{self, PASS_BYTES};
use super::pipelines::{Compiler, Pipeline};
use super::places::{Classes, place_tensors};
use super::rows::RowState;
use super::runs::Runs;
use super::scalars::{Scalars, Tables};
use super::telemetry::{Telemetry, measured_bytes};
use super::text::LOSS_STRIDE;
use super::variant::{Stage, Variant};
use super::{Arena, LaunchGpu, Optimizer, Pass, RoundGpu};
use crate::evaluate::Evaluations;
use crate::storage::half::rounding_key;
use crate::{Error, Result, random};

/// Creates a buffer of at least one vec4, or says which one found no memory.
pub(super) fn buffer(
    device: &wgpu::Device,
    label: &str,
    what: &str,
    size: u64,
    usage: wgpu::BufferUsages,
) -> Result<wgpu::Buffer> {
    let size = size.next_multiple_of(VEC4).max(VEC4);
    let scope = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let label = format!("{label} {what}");
    let buffer =
        device.create_buffer(&wgpu::BufferDescriptor { label: Some(&label), size, usage, mapped_at_creation: false });
    match scope.pop().now_or_never().flatten() {
        Some(_) => Err(Error::OutOfMemory { what: label, bytes: size }),
        None => Ok(buffer),
    }
}

/// Bytes of `wo_Control` before the decisions.
pub(super) const CONTROL_HEAD: u64 = 32;
/// Where in it the key of chances lies.
#[cfg(feature = "checkpoint")]
pub(super) const ROUNDING: u64 = 24;
/// Where in it the steps are counted that rounded anything.
pub(super) const ROUNDED: u64 = 28;
/// Bytes from one loss slot to the next.
pub(super) const LOSS_BYTES: u64 = LOSS_STRIDE as u64 * 4;
const TABLE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST);
pub(super) const OWNED: wgpu::BufferUsages = TABLE.union(wgpu::BufferUsages::COPY_SRC);

impl Optimizer {
    pub(super) fn create(builder: Builder, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Self> {
        check_limits(device)?;
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let made = Self::create_unscoped(builder, device, queue);
        // Natively an error is there at once; a browser reports it later, to the device's own handler.
        let error = scope.pop().now_or_never().flatten();
        let made = made?;
        match error {
            None => Ok(made),
            Some(error) => Err(blame(device, queue, &error, bound(&made.tensors))),
        }
    }

    fn create_unscoped(builder: Builder, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Self> {
        let limits = Limits::of(device);
        let places = place_tensors(&builder, device, limits)?;
        let largest = builder.tensors.iter().map(|t| t.elements).max().unwrap_or(0);
        let lanes = builder.sum_lanes.unwrap_or_else(|| sum_lanes(device, largest));
        let rows = RowState::new(&builder, device, queue, limits)?;
        let classes = Classes::new(&builder, &places, &rows, lanes);
        let layout = Layout::new(&classes.items, limits)?;
        let moving = builder.moving_gradients;
        let control_size = CONTROL_HEAD + classes.variants[0].all_decisions(places.len()) as u64 * VEC4;
        let scalars = Scalars::new(
            device,
            queue,
            &builder.label,
            &builder.groups,
            builder.around,
            Tables {
                moved: if moving { places.len() } else { 0 },
                rows: rows.table(&builder.tensors),
                packed: classes.variants[0].packed.map(|_| control_size),
            },
        )?;
        let variant = &classes.variants[0];
        let control = match variant.packed {
            Some(_) => scalars.buffer.clone(),
            None => buffer(device, &builder.label, "control", control_size, OWNED)?,
        };
        let losses = (variant.probes() > 0)
            .then(|| buffer(device, &builder.label, "losses", (variant.probes() as u64 + 1) * LOSS_BYTES, OWNED))
            .transpose()?;
        let scale = builder.around.loss_scale.map_or(1.0, |s| s.initial as f32).to_bits();
        let rounding = rounding_key(builder.seed);
        queue.write_buffer(&control, 0, bytemuck::cast_slice(&[0, 0, 0, 0, scale, 0, rounding, 0]));
        let key = random::key(builder.seed, random::Stream::Probe);
        let passes = passes::records(device, queue, &builder.label, variant.procedure, key)?;
        let mut optimizer = Self {
            device: device.clone(),
            queue: queue.clone(),
            control,
            runs: moving.then(|| Runs::new(device, queue, &builder.label, &layout, limits)).transpose()?,
            label: builder.label,
            groups: builder.groups,
            tensors: builder.tensors,
            places,
            variants: classes.variants.clone(),
            class_of: classes.items.iter().map(|item| item.class).collect(),
            buffers: classes.buffers.clone(),
            launches: Vec::new(),
            rounds: Vec::new(),
            around: builder.around,
            scalars,
            losses,
            passes,
            main_rounds: 0,
            evaluations: Evaluations::default(),
            layout,
            rows,
            remap: None,
            telemetry: None,
            half: None,
        };
        let label = optimizer.label.clone();
        let compiler = Compiler { device, label: &label, cache: builder.cache.as_ref() };
        optimizer.create_passes(&compiler, &classes)?;
        optimizer.remap = optimizer.create_remap(&compiler)?;
        optimizer.telemetry = builder.around.telemetry.then(|| Telemetry::new(&optimizer)).transpose()?;
        Ok(optimizer)
    }

    fn create_passes(&mut self, compiler: &Compiler<'_>, classes: &Classes) -> Result<()> {
        let rounds = classes.variants[0].rounds();
        self.main_rounds = rounds.len();
        for round in rounds.into_iter().chain(classes.variants[0].later_rounds()) {
            let made = self.create_round(compiler, &Variant { round, ..classes.variants[0].clone() })?;
            self.rounds.push(made);
        }
        let pipelines: Vec<_> = classes.variants.iter().map(|v| ClassPipelines::compile(compiler, v)).collect();
        for launch in 0..self.layout.launches.len() {
            let class = &pipelines[self.layout.launches[launch].class];
            let made = self.create_launch(compiler, launch, class)?;
            for fill in class.fill.iter().chain(&class.identity) {
                self.fill_states(compiler, launch, &made, fill)?;
            }
            self.launches.push(made);
        }
        Ok(())
    }

    fn create_launch(&self, compiler: &Compiler<'_>, index: usize, class: &ClassPipelines) -> Result<LaunchGpu> {
        let launch = &self.layout.launches[index];
        let arena = Arena {
            buffer: self.buffer(&format!("arena {index}"), launch.arena(), OWNED)?,
            whole: launch.whole(),
            packed: launch.packed(),
        };
        let chunks = self.chunk_table(index)?;
        let spans = self.table(&format!("spans {index}"), bytemuck::cast_slice(&launch.spans))?;
        let pass = |pipeline: &Arc<Pipeline>, records: &[Chunk], table: &wgpu::Buffer, round: usize| {
            let moves = pipeline.bindings.iter().any(|binding| binding.name == "wo_run");
            let group = (!moves).then(|| {
                compiler.bind_group(pipeline, |name| match name {
                    "wo_grads" => self.window_binding(launch.grad.as_ref().unwrap_or(&launch.param)),
                    "wo_mask" => self.mask_binding(index),
                    _ => self.resource(name, launch.param.clone(), &arena, table, round),
                })
            });
            let grid = fold(records.len(), self.device.limits().max_compute_workgroups_per_dimension);
            Pass { pipeline: pipeline.clone(), group, table: table.clone(), grid, round }
        };
        let stats = class.stats.iter().enumerate();
        Ok(LaunchGpu {
            update: pass(&class.update, &launch.chunks, &chunks, 0),
            stats: stats
                .map(|(round, stats)| stats.as_ref().map(|stats| pass(stats, &launch.spans, &spans, round)))
                .collect(),
            procedure: class.procedure.as_ref().map(|procedure| pass(procedure, &launch.chunks, &chunks, 0)),
            accumulate: class.accumulate.clone(),
            swap: class.swap.clone(),
            evaluation: class.evaluation.clone(),
            arena,
        })
    }

    /// The resource of a launch's binding; gradients are for the caller.
    pub(super) fn resource<'a>(
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

    /// The resource of a binding that all launches share.
    fn shared_resource(&self, name: &str, round: usize) -> wgpu::BindingResource<'_> {
        let uniform = |buffer, size| {
            wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size: wgpu::BufferSize::new(size) })
        };
        match name {
            "wo_call" => uniform(&self.scalars.calls, self.scalars.call_size),
            "wo_run" => uniform(self.runs.as_ref().map_or(&self.control, |r| &r.buffer), 16),
            "wo_scalars" => self.scalars.buffer.as_entire_binding(),
            "wo_control" => self.control.as_entire_binding(),
            "wo_losses" => self.losses.as_ref().unwrap_or(&self.control).as_entire_binding(),
            "wo_pass" => uniform(self.passes.as_ref().unwrap_or(&self.control), PASS_BYTES),
            // A probe's directions are brought to length one by the sums of their round, which is the last.
            "wo_totals" => self.rounds.last().map_or(&self.control, |r| &r.totals).as_entire_binding(),
            "wo_partials" => self.rounds.get(round).map_or(&self.control, |r| &r.partials).as_entire_binding(),
            other => unreachable!("no resource for {other}"),
        }
    }

    /// The masks of a launch's class.
    pub(super) fn mask_binding(&self, launch: usize) -> wgpu::BindingResource<'_> {
        self.rows.mask_binding(self.variants[self.layout.launches[launch].class].rows)
    }

    pub(super) fn window_binding(&self, window: &Window) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffers[window.buffer],
            offset: window.range.start,
            size: wgpu::BufferSize::new(window.range.end - window.range.start),
        })
    }

    fn create_round(&self, compiler: &Compiler<'_>, variant: &Variant) -> Result<RoundGpu> {
        let (sums, totals) = variant.sum_counts();
        let records = self.tensors.len() as u64 + 1;
        let rows = u64::from(self.layout.rows).max(1);
        let partials = self.buffer("partial sums", rows * sums.max(1) as u64 * 4, OWNED)?;
        let totals = self.buffer("totals", records * totals.max(1) as u64 * VEC4, OWNED)?;
        let segments = self.table("segments", bytemuck::cast_slice(&self.layout.segments))?;
        let tensors = self.table("tensors", bytemuck::cast_slice(&self.layout.tensors))?;
        let pipelines = compiler.compile(variant, Stage::Finalize, &["wo_finalize", "wo_reduce", "wo_conclude"]);
        let group = compiler.bind_group(&pipelines[0], |name| match name {
            "wo_partials" => partials.as_entire_binding(),
            "wo_segments" => segments.as_entire_binding(),
            "wo_tensors" => tensors.as_entire_binding(),
            "wo_totals" => totals.as_entire_binding(),
            _ => self.shared_resource(name, 0),
        });
        let [finalize, reduce, conclude] = [0, 1, 2].map(|i| pipelines[i].pipeline.clone());
        Ok(RoundGpu { finalize, reduce, conclude, group, partials, totals })
    }

    /// Writes the first values of states that do not start at zero.
    fn fill_states(&self, compiler: &Compiler<'_>, index: usize, launch: &LaunchGpu, fill: &Pipeline) -> Result<()> {
        let window = self.layout.launches[index].param.clone();
        // The fill touches no gradient, and gradients may not be there yet; a buffer of nobody's stands in, because the step may write them.
        let stand_in = self.buffer("stand-in", VEC4, OWNED)?;
        let group = compiler.bind_group(fill, |name| match name {
            "wo_grads" => stand_in.as_entire_binding(),
            "wo_mask" => self.mask_binding(index),
            _ => self.resource(name, window.clone(), &launch.arena, &launch.update.table, 0),
        });
        let mut encoder =
            self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(&self.label) });
        {
            let mut compute = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            compute.set_pipeline(&fill.pipeline);
            let moves = fill.bindings.iter().any(|binding| binding.name == "wo_run");
            compute.set_bind_group(0, &group, if moves { &[0, 0] } else { &[0] });
            compute.dispatch_workgroups(launch.update.grid.0, launch.update.grid.1, 1);
        }
        self.queue.submit([encoder.finish()]);
        Ok(())
    }

    /// A launch's chunks, and behind them where the update leaves what it measures.
    fn chunk_table(&self, index: usize) -> Result<wgpu::Buffer> {
        let chunks = &self.layout.launches[index].chunks;
        let records = bytemuck::cast_slice(chunks);
        let measured = if self.around.telemetry { measured_bytes(chunks.len()) } else { 0 };
        let table = self.buffer(&format!("chunks {index}"), records.len() as u64 + measured, OWNED)?;
        self.queue.write_buffer(&table, 0, records);
        Ok(table)
    }

    fn table(&self, what: &str, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let table = self.buffer(what, bytes.len() as u64, TABLE)?;
        self.queue.write_buffer(&table, 0, bytes);
        Ok(table)
    }

    fn buffer(&self, what: &str, size: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        buffer(&self.device, &self.label, what, size, usage)
    }
}

/// The pipelines of a class.
struct ClassPipelines {
    update: Arc<Pipeline>,
    fill: Option<Pipeline>,
    accumulate: Option<wgpu::ComputePipeline>,
    swap: Option<wgpu::ComputePipeline>,
    evaluation: Option<[wgpu::ComputePipeline; 2]>,
    /// One a round, where it has sums.
    stats: Vec<Option<Arc<Pipeline>>>,
    procedure: Option<Arc<Pipeline>>,
    identity: Option<Pipeline>,
}

impl ClassPipelines {
    fn compile(compiler: &Compiler<'_>, variant: &Variant) -> Self {
        let fills = variant.states.iter().any(|s| s.used && s.initial != 0.0);
        let wanted = [
            ("wo_update", true),
            ("wo_fill", fills),
            ("wo_accumulate", variant.around.accumulate.is_some()),
            ("wo_swap", variant.around.ema.is_some()),
            ("wo_to_evaluation", variant.evaluated.is_some()),
            ("wo_to_training", variant.evaluated.is_some()),
        ];
        let entries: Vec<&str> = wanted.iter().filter(|(_, wanted)| *wanted).map(|(entry, _)| *entry).collect();
        let made = compiler.compile(variant, Stage::Update, &entries);
        let find = |entry: &str| entries.iter().position(|e| *e == entry).map(|i| made[i].clone());
        let rounds = variant.rounds().into_iter().chain(variant.later_rounds());
        let stats = rounds.map(|round| {
            let variant = Variant { round, ..variant.clone() };
            // A round without sums decides from what is there already.
            let sums = variant.sum_counts().0 > 0;
            sums.then(|| Arc::new(compiler.compile(&variant, Stage::Stats, &["wo_stats"]).swap_remove(0)))
        });
        let mut procedure = variant.procedure_stage().map(|stage| {
            let entries: &[&str] = match stage {
                Stage::Probe => &["wo_perturb"],
                Stage::Flow => &["wo_flow"],
                _ => &["wo_warp", "wo_identity"],
            };
            compiler.compile(variant, stage, entries).into_iter()
        });
        let mut next = || procedure.as_mut().and_then(Iterator::next);
        let (procedure, identity) = (next().map(Arc::new), next());
        Self {
            update: Arc::new(made[0].clone()),
            fill: find("wo_fill"),
            accumulate: find("wo_accumulate").map(|p| p.pipeline),
            swap: find("wo_swap").map(|p| p.pipeline),
            evaluation: find("wo_to_evaluation")
                .zip(find("wo_to_training"))
                .map(|(there, back)| [there.pipeline, back.pipeline]),
            stats: stats.collect(),
            procedure,
            identity,
        }
    }
}

fn check_limits(device: &wgpu::Device) -> Result<()> {
    let limits = device.limits();
    for (limit, actual, needs) in [
        ("max_compute_invocations_per_workgroup", limits.max_compute_invocations_per_workgroup, 256),
        ("max_compute_workgroup_size_x", limits.max_compute_workgroup_size_x, 256),
        ("max_storage_buffers_per_shader_stage", limits.max_storage_buffers_per_shader_stage, 7),
        ("max_compute_workgroup_storage_size", limits.max_compute_workgroup_storage_size, 16384),
        ("max_dynamic_uniform_buffers_per_pipeline_layout", limits.max_dynamic_uniform_buffers_per_pipeline_layout, 2),
    ] {
        if actual < needs {
            return Err(Error::Limit { limit, actual: u64::from(actual), needs: u64::from(needs) });
        }
    }
    Ok(())
}
