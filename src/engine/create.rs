//! Construction: every buffer, pipeline and bind group of an optimizer.

use std::sync::Arc;

use futures::FutureExt as _;

use super::builder::{Builder, GroupInfo, Slice, Storage, TensorInfo, index_of};
use super::layout::{Chunk, Item, Layout, Limits, Part, Place, VEC4, Window, fold};
use super::pipelines::{Compiler, Pipeline};
use super::scalars::Scalars;
use super::text::{Stage, Variant};
use super::{LaunchGpu, Optimizer, Pass, Places, RunPart, Runs, SumsGpu};
use crate::{Error, Result};

/// Bytes from one run's record to the next: a dynamic offset is a multiple of this in every device.
const RUN_STRIDE: u64 = 256;

pub(super) fn buffer(
    device: &wgpu::Device,
    label: &str,
    what: &str,
    size: u64,
    usage: wgpu::BufferUsages,
) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(&format!("{label} {what}")),
        size: size.next_multiple_of(VEC4).max(VEC4),
        usage,
        mapped_at_creation: false,
    })
}

const TABLE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST);
const OWNED: wgpu::BufferUsages = TABLE.union(wgpu::BufferUsages::COPY_SRC);

impl Optimizer {
    pub(super) fn create(builder: Builder, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Self> {
        check_limits(device)?;
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let made = Self::create_unscoped(builder, device, queue);
        // Natively an error is there at once; a browser reports it later, to the device's own handler.
        let validation = validation.pop().now_or_never().flatten();
        let memory = memory.pop().now_or_never().flatten();
        let made = made?;
        if let Some(error) = memory {
            return Err(Error::OutOfMemory { what: error.to_string(), bytes: made.owned_bytes() });
        }
        if let Some(error) = validation {
            return Err(Error::Wgpu(error.to_string()));
        }
        Ok(made)
    }

    fn create_unscoped(builder: Builder, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Self> {
        let limits = Limits::of(device);
        let places = place_tensors(&builder, device, limits)?;
        let classes = Classes::new(&builder, &places);
        let layout = Layout::new(&classes.items, limits)?;
        let moving = builder.moving_gradients;
        let scalars =
            Scalars::new(device, queue, &builder.label, &builder.groups, if moving { places.len() } else { 0 })?;
        let control_bytes = 16 + (places.len().max(1) * classes.variants[0].decision_vec4s().max(1)) as u64 * VEC4;
        let mut optimizer = Self {
            device: device.clone(),
            queue: queue.clone(),
            control: buffer(device, &builder.label, "control", control_bytes, OWNED),
            runs: moving.then(|| Runs::new(device, queue, &builder.label, &layout, limits)),
            label: builder.label,
            groups: builder.groups,
            tensors: builder.tensors,
            places,
            variants: classes.variants.clone(),
            class_of: classes.items.iter().map(|item| item.class).collect(),
            buffers: classes.buffers.clone(),
            launches: Vec::new(),
            sums: None,
            scalars,
            layout,
            half: None,
        };
        let label = optimizer.label.clone();
        let compiler = Compiler { device, label: &label, cache: builder.cache.as_ref() };
        optimizer.create_passes(&compiler, &classes);
        Ok(optimizer)
    }

    fn create_passes(&mut self, compiler: &Compiler<'_>, classes: &Classes) {
        let has_sums = self.groups[0].rule.sums().sums > 0;
        if has_sums {
            self.sums = Some(self.create_sums(compiler, &classes.variants[0]));
        }
        let needs_fill = |v: &Variant| v.states.iter().any(|s| s.used && s.initial != 0.0);
        let pipelines: Vec<_> = classes
            .variants
            .iter()
            .map(|variant| {
                let entries: &[&str] = if needs_fill(variant) { &["wo_update", "wo_fill"] } else { &["wo_update"] };
                let mut update = compiler.compile(variant, Stage::Update, entries).into_iter();
                let stats = has_sums.then(|| compiler.compile(variant, Stage::Stats, &["wo_stats"]).swap_remove(0));
                (update.next().map(Arc::new), update.next(), stats.map(Arc::new))
            })
            .collect();
        for launch in 0..self.layout.launches.len() {
            let (update, fill, stats) = &pipelines[self.layout.launches[launch].class];
            let Some(update) = update else { continue };
            let made = self.create_launch(compiler, launch, update, stats.as_ref());
            if let Some(fill) = fill {
                self.fill_states(compiler, launch, &made, fill);
            }
            self.launches.push(made);
        }
    }

    fn create_launch(
        &self,
        compiler: &Compiler<'_>,
        index: usize,
        update: &Arc<Pipeline>,
        stats: Option<&Arc<Pipeline>>,
    ) -> LaunchGpu {
        let launch = &self.layout.launches[index];
        let arena = self.buffer(&format!("arena {index}"), launch.arena * VEC4, OWNED);
        let pass = |pipeline: &Arc<Pipeline>, records: &[Chunk], what: &str| {
            let table = self.table(&format!("{what} {index}"), bytemuck::cast_slice(records));
            let group = self.runs.is_none().then(|| {
                compiler.bind_group(pipeline, |name| match name {
                    "wo_grads" => self.window_binding(launch.grad.as_ref().unwrap_or(&launch.param)),
                    _ => self.resource(name, launch.param.clone(), &arena, &table),
                })
            });
            let grid = fold(records.len(), self.device.limits().max_compute_workgroups_per_dimension);
            Pass { pipeline: pipeline.clone(), group, table, grid }
        };
        LaunchGpu {
            update: pass(update, &launch.chunks, "chunks"),
            stats: stats.map(|stats| pass(stats, &launch.spans, "spans")),
            arena,
        }
    }

    /// The resource of a launch's binding; gradients are for the caller.
    pub(super) fn resource<'a>(
        &'a self,
        name: &str,
        param: Window,
        arena: &'a wgpu::Buffer,
        table: &'a wgpu::Buffer,
    ) -> wgpu::BindingResource<'a> {
        let uniform = |buffer, size| {
            wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size: wgpu::BufferSize::new(size) })
        };
        match name {
            "wo_call" => uniform(&self.scalars.calls, 32),
            "wo_run" => uniform(self.runs.as_ref().map_or(&self.control, |r| &r.buffer), 16),
            "wo_scalars" => self.scalars.buffer.as_entire_binding(),
            "wo_control" => self.control.as_entire_binding(),
            "wo_chunks" => table.as_entire_binding(),
            "wo_arena" => arena.as_entire_binding(),
            "wo_params" => self.window_binding(&param),
            "wo_partials" => self.sums.as_ref().map_or(&self.control, |s| &s.partials).as_entire_binding(),
            other => unreachable!("no resource for {other}"),
        }
    }

    pub(super) fn window_binding(&self, window: &Window) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffers[window.buffer],
            offset: window.range.start,
            size: wgpu::BufferSize::new(window.range.end - window.range.start),
        })
    }

    fn create_sums(&self, compiler: &Compiler<'_>, variant: &Variant) -> SumsGpu {
        let sums = self.groups[0].rule.sums();
        let records = self.tensors.len() as u64 + 1;
        let rows = u64::from(self.layout.rows).max(1);
        let partials = self.buffer("partial sums", rows * sums.sums as u64 * 4, OWNED);
        let totals = self.buffer("totals", records * sums.totals as u64 * VEC4, OWNED);
        let segments = self.table("segments", bytemuck::cast_slice(&self.layout.segments));
        let tensors = self.table("tensors", bytemuck::cast_slice(&self.layout.tensors));
        let pipelines = compiler.compile(variant, Stage::Finalize, &["wo_finalize", "wo_reduce", "wo_decide"]);
        let group = compiler.bind_group(&pipelines[0], |name| match name {
            "wo_partials" => partials.as_entire_binding(),
            "wo_segments" => segments.as_entire_binding(),
            "wo_tensors" => tensors.as_entire_binding(),
            "wo_totals" => totals.as_entire_binding(),
            _ => self.resource(name, Window { buffer: 0, range: 0..0 }, &self.control, &self.control),
        });
        let [finalize, reduce, decide] = [0, 1, 2].map(|i| pipelines[i].pipeline.clone());
        SumsGpu { finalize, reduce, decide, group, partials, totals }
    }

    /// Writes the first values of states that do not start at zero.
    fn fill_states(&self, compiler: &Compiler<'_>, index: usize, launch: &LaunchGpu, fill: &Pipeline) {
        let window = self.layout.launches[index].param.clone();
        // The fill reads no gradient; the control buffer stands in where gradients may not be there yet.
        let group = compiler.bind_group(fill, |name| match name {
            "wo_grads" => self.control.as_entire_binding(),
            _ => self.resource(name, window.clone(), &launch.arena, &launch.update.table),
        });
        let mut encoder =
            self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(&self.label) });
        {
            let mut compute = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            compute.set_pipeline(&fill.pipeline);
            compute.set_bind_group(0, &group, if self.runs.is_some() { &[0, 0] } else { &[0] });
            compute.dispatch_workgroups(launch.update.grid.0, launch.update.grid.1, 1);
        }
        self.queue.submit([encoder.finish()]);
    }

    fn table(&self, what: &str, bytes: &[u8]) -> wgpu::Buffer {
        let table = self.buffer(what, bytes.len() as u64, TABLE);
        self.queue.write_buffer(&table, 0, bytes);
        table
    }

    fn owned_bytes(&self) -> u64 {
        let arenas: u64 = self.launches.iter().map(|l| l.arena.size()).sum();
        let own = self.tensors.iter().zip(&self.places).filter(|(t, _)| matches!(t.storage, Storage::Own));
        arenas + own.map(|(_, p)| 2 * p.param.size).sum::<u64>()
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

/// Finds every tensor's place; the crate's own go into as few buffers as the device allows.
fn place_tensors(builder: &Builder, device: &wgpu::Device, limits: Limits) -> Result<Vec<Places>> {
    let max = device.limits().max_buffer_size;
    let mut pages: Vec<u64> = vec![0];
    let mut at = Vec::with_capacity(builder.tensors.len());
    for tensor in &builder.tensors {
        let bytes = (tensor.elements * 4).next_multiple_of(VEC4).max(VEC4);
        if !matches!(tensor.storage, Storage::Own) {
            at.push((0, 0));
            continue;
        }
        if bytes > max {
            return Err(Error::Limit { limit: "max_buffer_size", actual: max, needs: bytes });
        }
        let mut page = pages.len() - 1;
        let mut offset = pages[page].next_multiple_of(limits.alignment.max(VEC4));
        if offset + bytes > max {
            pages.push(0);
            (page, offset) = (page + 1, 0);
        }
        pages[page] = offset + bytes;
        at.push((page, offset));
    }
    let make = |what: &str, extra| -> Vec<wgpu::Buffer> {
        let page =
            |(i, &size): (usize, &u64)| buffer(device, &builder.label, &format!("{what} {i}"), size, OWNED | extra);
        pages.iter().enumerate().map(page).collect()
    };
    let params = make("parameters", builder.param_usages);
    let grads = make("gradients", builder.grad_usages);
    let own = |buffers: &[wgpu::Buffer], (page, offset): (usize, u64), tensor: &TensorInfo| Slice {
        buffer: buffers[page].clone(),
        offset,
        size: (tensor.elements * 4).max(VEC4 / 4),
    };
    Ok(builder
        .tensors
        .iter()
        .zip(at)
        .map(|(tensor, at)| match &tensor.storage {
            Storage::Own => Places { param: own(&params, at, tensor), grad: Some(own(&grads, at, tensor)) },
            Storage::Bound { param, grad } => Places { param: param.clone(), grad: grad.clone() },
        })
        .collect())
}

/// The classes of an optimizer's tensors: what changes a pipeline's text.
struct Classes {
    variants: Vec<Variant>,
    items: Vec<Item>,
    /// The buffers that the items' places number.
    buffers: Vec<wgpu::Buffer>,
}

impl Classes {
    fn new(builder: &Builder, places: &[Places]) -> Self {
        let rules = united(&builder.groups);
        let mut variants: Vec<Variant> = Vec::new();
        let mut buffers = Vec::new();
        let mut items = Vec::with_capacity(places.len());
        for (tensor, places) in builder.tensors.iter().zip(places) {
            let param = Place { buffer: index_of(&mut buffers, &places.param.buffer), offset: places.param.offset };
            let grad =
                places.grad.as_ref().map(|g| Place { buffer: index_of(&mut buffers, &g.buffer), offset: g.offset });
            let moving = builder.moving_gradients;
            let shared = !moving && grad.as_ref().is_some_and(|g| g.buffer == param.buffer);
            let variant = Variant { shared, moving, ..rules[tensor.group].clone() };
            let class = variants.iter().position(|v| *v == variant).unwrap_or_else(|| {
                variants.push(variant);
                variants.len() - 1
            });
            let states = variants[class].kept() as u64;
            let grad = grad.filter(|_| !moving);
            items.push(Item { elements: tensor.elements, group: tensor.group as u32, class, states, param, grad });
        }
        if variants.is_empty() {
            variants.push(rules[0].clone());
        }
        Self { variants, items, buffers: buffers.into_iter().cloned().collect() }
    }
}

/// Each group's variant. A rule with sums has one text for all its groups, because its sums are decided in one pass: a state that
/// one group needs is kept for all, which changes no result.
fn united(groups: &[GroupInfo]) -> Vec<Variant> {
    let mut variants: Vec<Variant> = groups.iter().map(|g| Variant::of(g.rule.as_ref(), false, false)).collect();
    if groups[0].rule.sums().sums > 0 {
        let used = |k: usize| variants.iter().any(|v| v.states[k].used);
        let all: Vec<bool> = (0..variants[0].states.len()).map(used).collect();
        for variant in &mut variants {
            for (state, &used) in variant.states.iter_mut().zip(&all) {
                state.used = used;
            }
        }
    }
    variants
}

impl Runs {
    fn new(device: &wgpu::Device, queue: &wgpu::Queue, label: &str, layout: &Layout, limits: Limits) -> Self {
        let mut records = Vec::new();
        let chunks = run_parts(layout, limits, &mut records, |part| part.chunks.clone());
        let spans = run_parts(layout, limits, &mut records, |part| part.spans.clone());
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let buffer = buffer(device, label, "runs", (records.len() as u64 * 4).max(RUN_STRIDE), usage);
        queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&records));
        Self { buffer, chunks, spans }
    }
}

/// Every tensor's chunks or spans in the order of the launches' tables, each with a record in `records`.
fn run_parts(
    layout: &Layout,
    limits: Limits,
    records: &mut Vec<u32>,
    pick: impl Fn(&Part) -> std::ops::Range<usize>,
) -> Vec<RunPart> {
    let mut parts = Vec::new();
    for (tensor, of_tensor) in layout.parts.iter().enumerate() {
        for part in of_tensor {
            let range = pick(part);
            for first in range.clone().step_by(limits.grid as usize) {
                let count = (range.end - first).min(limits.grid as usize) as u32;
                parts.push(RunPart { launch: part.launch, tensor, first: first as u32, count, offset: 0 });
            }
        }
    }
    parts.sort_by_key(|part| (part.launch, part.first));
    for part in &mut parts {
        part.offset = (records.len() * 4) as u32;
        records.push(part.first);
        records.resize(records.len() - 1 + (RUN_STRIDE / 4) as usize, 0);
    }
    parts
}
