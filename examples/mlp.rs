//! Trains a perceptron with one hidden layer. Its forward and backward passes are WGSL kernels in this file. The kernels bind the
//! parameters and gradients in the optimizer's buffers, so a whole training step is one encoder, and no number leaves the GPU.
//!
//! The task is to learn sin(3x)·cos(2y) from its values at 512 points of the square [-1, 1]².

use std::num::NonZeroU64;

use wgpu_optim::wgpu::util::DeviceExt as _;
use wgpu_optim::{AdamW, Group, Optimizer, random, read_buffer, wgpu};

const SAMPLES: usize = 512;
const HIDDEN: usize = 64;
const STEPS: usize = 2000;

/// One thread per sample: the hidden layer, the prediction, and its error.
const FORWARD: &str = "
@group(0) @binding(0) var<storage, read> w1: array<vec2<f32>, 64>;
@group(0) @binding(1) var<storage, read> b1: array<f32, 64>;
@group(0) @binding(2) var<storage, read> w2: array<f32, 64>;
@group(0) @binding(3) var<storage, read> b2: array<f32, 1>;
@group(0) @binding(4) var<storage, read> samples: array<vec4<f32>>; // x, y, target, unused
@group(0) @binding(5) var<storage, read_write> hidden: array<array<f32, 64>>;
@group(0) @binding(6) var<storage, read_write> errors: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3<u32>) {
    let s = id.x;
    if s >= arrayLength(&samples) { return; }
    var prediction = b2[0];
    for (var j = 0u; j < 64u; j++) {
        let h = tanh(dot(w1[j], samples[s].xy) + b1[j]);
        hidden[s][j] = h;
        prediction += w2[j] * h;
    }
    errors[s] = prediction - samples[s].z;
}";

/// One thread per hidden unit: the gradients of the mean squared error. Each thread adds over all samples in a fixed order, so that
/// equal inputs give equal bits.
const BACKWARD: &str = "
@group(0) @binding(0) var<storage, read> w2: array<f32, 64>;
@group(0) @binding(1) var<storage, read> samples: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> hidden: array<array<f32, 64>>;
@group(0) @binding(3) var<storage, read> errors: array<f32>;
@group(0) @binding(4) var<storage, read_write> grad_w1: array<vec2<f32>, 64>;
@group(0) @binding(5) var<storage, read_write> grad_b1: array<f32, 64>;
@group(0) @binding(6) var<storage, read_write> grad_w2: array<f32, 64>;
@group(0) @binding(7) var<storage, read_write> grad_b2: array<f32, 1>;

@compute @workgroup_size(64)
fn backward(@builtin(local_invocation_index) j: u32) {
    let count = arrayLength(&samples);
    var by_w1 = vec2(0.0);
    var by_b1 = 0.0;
    var by_w2 = 0.0;
    var by_b2 = 0.0;
    for (var s = 0u; s < count; s++) {
        let e = 2.0 * errors[s] / f32(count);
        let h = hidden[s][j];
        let back = e * w2[j] * (1.0 - h * h);
        by_w1 += back * samples[s].xy;
        by_b1 += back;
        by_w2 += e * h;
        by_b2 += e;
    }
    grad_w1[j] = by_w1;
    grad_b1[j] = by_b1;
    grad_w2[j] = by_w2;
    if j == 0u { grad_b2[0] = by_b2; }
}";

/// A kernel with its bindings, in the order of their numbers.
struct Kernel {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    workgroups: u32,
}

impl Kernel {
    fn new(device: &wgpu::Device, text: &str, slices: &[wgpu::BufferSlice<'_>], workgroups: u32) -> Self {
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(text.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let entries: Vec<_> = slices
            .iter()
            .zip(0..)
            .map(|(slice, binding)| wgpu::BindGroupEntry { binding, resource: bind(*slice) })
            .collect();
        let layout = &pipeline.get_bind_group_layout(0);
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries });
        Self { pipeline, bindings, workgroups }
    }

    fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.dispatch_workgroups(self.workgroups, 1, 1);
    }
}

/// A slice as a binding. The optimizer places each of its tensors at a multiple of the device's offset alignment.
fn bind(slice: wgpu::BufferSlice<'_>) -> wgpu::BindingResource<'_> {
    wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer: slice.buffer(),
        offset: slice.offset(),
        size: NonZeroU64::new(slice.size()),
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let instance = wgpu::Instance::default();
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;

    let mut builder = Optimizer::builder(AdamW { lr: 3e-3, ..AdamW::default() });
    let w1 = builder.tensor(Group::DEFAULT, "layer1.weight", &[HIDDEN, 2]);
    let b1 = builder.tensor(Group::DEFAULT, "layer1.bias", &[HIDDEN]);
    let w2 = builder.tensor(Group::DEFAULT, "layer2.weight", &[1, HIDDEN]);
    let b2 = builder.tensor(Group::DEFAULT, "layer2.bias", &[1]);
    let mut optimizer = builder.build(&device, &queue)?;

    // Every tensor in the optimizer's buffers begins at zero. That is right for the biases, but the weights must differ from each other.
    let normals = |key: u32, count: usize, scale: f64| -> Vec<f32> {
        (0..count as u32).map(|i| (scale * random::normal(key, i)) as f32).collect()
    };
    optimizer.write_param(w1, &normals(1, 2 * HIDDEN, 1.5))?;
    optimizer.write_param(w2, &normals(2, HIDDEN, 1.0 / (HIDDEN as f64).sqrt()))?;

    let points: Vec<[f32; 4]> = (0..SAMPLES as u32)
        .map(|i| {
            let [x, y] = [0, 1].map(|k| 2.0 * random::unit(3, 2 * i + k) - 1.0);
            [x, y, (3.0 * x).sin() * (2.0 * y).cos(), 0.0]
        })
        .collect();
    let samples = device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: Some("samples"),
        contents: bytemuck::cast_slice(&points),
        usage: wgpu::BufferUsages::STORAGE,
    });
    let make = |label, floats: usize| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: 4 * floats as u64,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        })
    };
    let (hidden, errors) = (make("hidden", SAMPLES * HIDDEN), make("errors", SAMPLES));
    let [samples, hidden, errors] = [&samples, &hidden, &errors].map(|buffer| buffer.slice(..));

    let forward = [
        optimizer.param(w1)?,
        optimizer.param(b1)?,
        optimizer.param(w2)?,
        optimizer.param(b2)?,
        samples,
        hidden,
        errors,
    ];
    let backward = [
        optimizer.param(w2)?,
        samples,
        hidden,
        errors,
        optimizer.grad(w1)?,
        optimizer.grad(b1)?,
        optimizer.grad(w2)?,
        optimizer.grad(b2)?,
    ];
    let forward = Kernel::new(&device, FORWARD, &forward, SAMPLES.div_ceil(64) as u32);
    let backward = Kernel::new(&device, BACKWARD, &backward, 1);

    // The mean squared error at the current parameters. The program reads nothing else back.
    let loss = || -> wgpu_optim::Result<f32> {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        forward.record(&mut encoder);
        queue.submit([encoder.finish()]);
        let bytes = pollster::block_on(read_buffer(&device, &queue, errors))?;
        let errors: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        Ok(errors.iter().map(|e| e * e).sum::<f32>() / SAMPLES as f32)
    };

    let first = loss()?;
    for _ in 0..STEPS {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        forward.record(&mut encoder);
        backward.record(&mut encoder);
        optimizer.step(&mut encoder)?;
        queue.submit([encoder.finish()]);
    }
    let last = loss()?;
    println!("on {}: the loss fell from {first:.4} to {last:.6} in {STEPS} steps", adapter.get_info().name);
    assert!(last < first / 100.0, "the loss went from {first} to {last}");
    Ok(())
}
