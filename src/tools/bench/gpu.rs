//! The measurement on the GPU: the engine's step, beside a copy and a stream kernel over arrays of the same sizes.

use web_time::Instant;

use crate::tools::adapter::{Gpu, is_hardware};
use crate::tools::bench::clock::Clock;
use crate::tools::bench::sampling::{Sample, Subject, Times, Turn, interleave};
use crate::tools::bench::{
    BackendKind, Feature, GRAD, Measured, Measurement, PARAM, Place, Plan, STREAM_ARRAYS, StageTime, check_memory,
};
use crate::{Error, Optimizer, Result};

const COPY: &str = include_str!("../../../shaders/bench/copy.wgsl");
const STREAM: &str = include_str!("../../../shaders/bench/stream.wgsl");
/// Bytes of a vec4 of f32.
const VEC4: u64 = 16;
/// Threads per workgroup; each takes one vec4.
const WORKGROUP: u64 = 256;

/// Measures a rule on an adapter.
pub(super) async fn measure(plan: &Plan, gpu: &Gpu, of: Measured<'_>) -> Result<Measurement> {
    let total = of.size.total()?;
    if !is_hardware(&gpu.info) {
        check_memory(of.size, of.bytes_needed(total)?)?;
    }
    let kernels = Kernels::new(gpu, total as u64 * 4).await?;
    let optimizer = optimizer(gpu, of).await?;
    let accumulates = of.with.has(Feature::Accumulate);
    let stages = optimizer.step_stages();
    // A micro-batch writes no timestamps.
    let clock = Clock::new(gpu, stages.len()).filter(|_| !accumulates);
    let stages = stages.into_iter().map(|stage| (stage, Vec::new())).collect();
    let mut subject = Steps { gpu, optimizer, accumulates, kernels, clock, stages, record_s: f64::INFINITY };
    let sampled = interleave(&mut subject, plan.seconds, plan.samples).await?;
    let place = Place {
        backend: BackendKind::Gpu,
        adapter: gpu.info.name.clone(),
        dispatches: Some(subject.dispatches()),
        record_s: Some(subject.record_s),
        stages: subject.stage_times(),
    };
    subject.destroy();
    Measurement::new(of, &sampled, place)
}

/// An optimizer with tensors of this size, with values in parameters and gradients.
pub(super) async fn optimizer(gpu: &Gpu, of: Measured<'_>) -> Result<Optimizer> {
    let size = of.size;
    let optimizer = of.builder()?.build_async(&gpu.device, &gpu.queue).await?;
    let tensors: Vec<_> = optimizer.tensors().map(|(tensor, ..)| tensor).collect();
    let (params, grads) = (vec![PARAM; size.elements], vec![GRAD; size.elements]);
    for tensor in tensors {
        optimizer.write_param(tensor, &params)?;
        optimizer.write_grad(tensor, &grads)?;
    }
    gpu.run_async(|_| Ok(())).await?;
    Ok(optimizer)
}

struct Steps<'a> {
    gpu: &'a Gpu,
    optimizer: Optimizer,
    accumulates: bool,
    kernels: Kernels,
    /// `None`: the device writes no timestamps.
    clock: Option<Clock>,
    /// The seconds of each stage of the timed steps.
    stages: Vec<(&'static str, Vec<f64>)>,
    record_s: f64,
}

impl Steps<'_> {
    /// The median seconds of each stage.
    fn stage_times(&self) -> Vec<StageTime> {
        let timed = self.stages.iter().filter(|(_, seconds)| !seconds.is_empty());
        let time = |(stage, seconds): &(&'static str, Vec<f64>)| StageTime {
            stage: (*stage).to_owned(),
            median_s: Times::new(seconds.clone()).median(),
        };
        timed.map(time).collect()
    }

    fn dispatches(&self) -> usize {
        let micro_batch = if self.accumulates { self.optimizer.accumulate_dispatches() } else { 0 };
        self.optimizer.dispatches() + micro_batch
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("bench") })
    }

    async fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<f64> {
        let commands = encoder.finish();
        let start = Instant::now();
        self.gpu.queue.submit([commands]);
        self.gpu.done().await?;
        Ok(start.elapsed().as_secs_f64())
    }

    async fn dispatch(
        &self,
        pipeline: &wgpu::ComputePipeline,
        group: fn(&Piece) -> &wgpu::BindGroup,
    ) -> Result<Sample> {
        let mut encoder = self.encoder();
        {
            let timestamp_writes = self.clock.as_ref().map(|clock| clock.writes(0));
            let label = Some("bench");
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label, timestamp_writes });
            pass.set_pipeline(pipeline);
            for piece in &self.kernels.pieces {
                pass.set_bind_group(0, group(piece), &[]);
                pass.dispatch_workgroups(piece.grid.0, piece.grid.1, 1);
            }
        }
        let wall = self.submit(encoder).await?;
        let Some(clock) = &self.clock else { return Ok(Sample { wall, gpu: None }) };
        Ok(Sample { wall, gpu: Some(clock.read(self.gpu, 1).await?.whole) })
    }

    /// A step as a caller records it, and one more with timestamps, which need a pass for each stage.
    async fn step(&mut self) -> Result<Sample> {
        let wall = self.plain_step().await?;
        let Some(clock) = &self.clock else { return Ok(Sample { wall, gpu: None }) };
        let mut encoder =
            self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("bench") });
        self.optimizer.step_with_timestamps(&mut encoder, clock.all_writes())?;
        self.submit(encoder).await?;
        let elapsed = clock.read(self.gpu, self.stages.len() as u32).await?;
        for ((_, seconds), of_stage) in self.stages.iter_mut().zip(elapsed.passes) {
            seconds.push(of_stage);
        }
        Ok(Sample { wall, gpu: Some(elapsed.whole) })
    }

    async fn plain_step(&mut self) -> Result<f64> {
        let mut encoder = self.encoder();
        let start = Instant::now();
        if self.accumulates {
            self.optimizer.accumulate(&mut encoder)?;
        }
        self.optimizer.step(&mut encoder)?;
        self.record_s = self.record_s.min(start.elapsed().as_secs_f64());
        self.submit(encoder).await
    }

    /// Gives the memory back, for a page with many measurements.
    fn destroy(self) {
        self.optimizer.destroy();
        self.kernels.pieces.iter().flat_map(|piece| &piece.arrays).for_each(wgpu::Buffer::destroy);
    }
}

impl Subject for Steps<'_> {
    async fn sample(&mut self, turn: Turn) -> Result<Sample> {
        match turn {
            Turn::Copy => self.dispatch(&self.kernels.copy, |piece| &piece.copy).await,
            Turn::Stream => self.dispatch(&self.kernels.stream, |piece| &piece.stream).await,
            Turn::Step => self.step().await,
        }
    }
}

/// The copy and the stream kernel with their arrays p, g, m and v, in as many pieces as the device's limits require.
struct Kernels {
    copy: wgpu::ComputePipeline,
    stream: wgpu::ComputePipeline,
    pieces: Vec<Piece>,
}

struct Piece {
    copy: wgpu::BindGroup,
    stream: wgpu::BindGroup,
    grid: (u32, u32),
    /// p, g, m and v.
    arrays: [wgpu::Buffer; 4],
}

impl Kernels {
    async fn new(gpu: &Gpu, bytes: u64) -> Result<Self> {
        let (copy, stream) = (kernel(gpu, "copy", COPY), kernel(gpu, "stream", STREAM));
        let limits = gpu.device.limits();
        let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) / VEC4 * VEC4;
        let memory = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let pieces = (0..bytes.div_ceil(most))
            .map(|i| Piece::new(gpu, &copy, &stream, most.min(bytes - i * most).next_multiple_of(VEC4)))
            .collect();
        match memory.pop().await {
            Some(_) => {
                Err(Error::OutOfMemory { what: "the stream kernel's arrays".to_owned(), bytes: STREAM_ARRAYS * bytes })
            }
            None => Ok(Self { copy, stream, pieces }),
        }
    }
}

impl Piece {
    fn new(gpu: &Gpu, copy: &wgpu::ComputePipeline, stream: &wgpu::ComputePipeline, bytes: u64) -> Self {
        let [p, g, m, v] = ["p", "g", "m", "v"].map(|label| {
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: bytes,
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            })
        });
        let workgroups = bytes.div_ceil(VEC4 * WORKGROUP);
        let limit = u64::from(gpu.device.limits().max_compute_workgroups_per_dimension);
        let rows = workgroups.div_ceil(limit);
        Self {
            copy: group(gpu, copy, &[&p, &g]),
            stream: group(gpu, stream, &[&p, &g, &m, &v]),
            grid: (workgroups.div_ceil(rows) as u32, rows as u32),
            arrays: [p, g, m, v],
        }
    }
}

fn group(gpu: &Gpu, pipeline: &wgpu::ComputePipeline, buffers: &[&wgpu::Buffer]) -> wgpu::BindGroup {
    let layout = &pipeline.get_bind_group_layout(0);
    let entries: Vec<_> = buffers
        .iter()
        .zip(0..)
        .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
        .collect();
    gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some("bench"), layout, entries: &entries })
}

fn kernel(gpu: &Gpu, name: &str, text: &str) -> wgpu::ComputePipeline {
    let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(name),
        source: wgpu::ShaderSource::Wgsl(text.into()),
    });
    gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(name),
        layout: None,
        module: &module,
        entry_point: Some(name),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    })
}
