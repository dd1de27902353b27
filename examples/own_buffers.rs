//! Steps parameters in the caller's own buffers. The caller's own kernel writes the gradients in the same encoder, as in a renderer or a
//! framework. The objective is ½‖θ - target‖², so the gradient is θ - target.

use wgpu_optim::tools::adapter::Selector;
use wgpu_optim::{AdaiW, Group, Optimizer, Result, read_buffer, wgpu};

const GRADIENT: &str = "
@group(0) @binding(0) var<storage, read> params: array<f32>;
@group(0) @binding(1) var<storage, read_write> grads: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&params) { grads[id.x] = params[id.x] - f32(id.x % 7u); }
}";

fn main() -> Result<()> {
    let gpu = pollster::block_on(Selector::default().open())?;
    let (device, queue) = (&gpu.device, &gpu.queue);

    // One buffer holds the parameters of two tensors, another buffer their gradients. Ranges begin at multiples of 16 bytes. The end of
    // the last range, rounded up to 16 bytes, still lies in the buffer.
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let make = |label| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: 4096,
            usage,
            mapped_at_creation: false,
        })
    };
    let (params, grads) = (make("params"), make("grads"));

    let mut builder = Optimizer::builder(AdaiW::new(0.5));
    builder.bind(Group::DEFAULT, "positions", &[200, 3], params.slice(..2400), grads.slice(..2400));
    builder.bind(Group::DEFAULT, "colours", &[106, 4], params.slice(2400..), grads.slice(2400..));
    let mut optimizer = builder.build(device, queue)?;

    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("gradient"),
        source: wgpu::ShaderSource::Wgsl(GRADIENT.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("gradient"),
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[
            wgpu::BindGroupEntry { binding: 0, resource: params.as_entire_binding() },
            wgpu::BindGroupEntry { binding: 1, resource: grads.as_entire_binding() },
        ],
    });

    // Two hundred steps in one submit, without a wait between them.
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    for _ in 0..200 {
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(16, 1, 1);
        }
        optimizer.step(&mut encoder)?;
    }
    queue.submit([encoder.finish()]);

    let bytes = pollster::block_on(read_buffer(device, queue, params.slice(..)))?;
    let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let worst = values.iter().enumerate().map(|(i, x)| (x - (i % 7) as f32).abs()).fold(0.0, f32::max);
    println!("worst distance to the target after 200 steps: {worst:.4}");
    assert!(worst < 0.2);
    Ok(())
}
