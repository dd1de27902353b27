//! Fits an image with 2-D Gaussians (splats), as Gaussian splatting does. The caller's kernels render the image, and write the gradients and a
//! mask of the visible splats. The optimizer steps the visible splats only. After each round of 40 steps, one `remap` clones the splats with
//! large gradients and prunes the faint ones, together with their states.

use wgpu_optim::tools::adapter::{Gpu, Selector};
use wgpu_optim::{AdamW, Builder, Group, Optimizer, Result, RowSet, Tensor, read_buffer, wgpu};

const SIZE: u32 = 40;
const ROOM: usize = 160;

const KERNELS: &str = "
const SIZE = 40u;
@group(0) @binding(0) var<storage, read> places: array<f32>;               // x, y, log of the radius
@group(0) @binding(1) var<storage, read> colours: array<f32>;
@group(0) @binding(2) var<storage, read_write> residual: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> live: u32;
@group(0) @binding(4) var<storage, read_write> place_grads: array<f32>;
@group(0) @binding(5) var<storage, read_write> colour_grads: array<f32>;
@group(0) @binding(6) var<storage, read_write> seen: array<u32>;

fn pixel(i: u32) -> vec2<f32> { return (vec2(f32(i % SIZE), f32(i / SIZE)) + 0.5) / f32(SIZE); }
fn place(i: u32) -> vec3<f32> { return vec3(places[3u * i], places[3u * i + 1u], places[3u * i + 2u]); }
fn colour(i: u32) -> vec3<f32> { return vec3(colours[3u * i], colours[3u * i + 1u], colours[3u * i + 2u]); }

// A sky, a sun and a hill.
fn wanted(x: vec2<f32>) -> vec3<f32> {
    let sun = smoothstep(0.16, 0.12, distance(x, vec2(0.7, 0.3)));
    let sky = mix(vec3(0.2, 0.4, 0.9), vec3(1.0, 0.8, 0.2), sun);
    return mix(sky, vec3(0.1, 0.5, 0.15), smoothstep(0.0, 0.03, x.y - 0.75 - 0.1 * sin(7.0 * x.x)));
}

@compute @workgroup_size(64)
fn render(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= SIZE * SIZE { return; }
    let x = pixel(id.x);
    var sum = -wanted(x);
    for (var i = 0u; i < live; i++) {
        let at = place(i);
        let d = (x - at.xy) * exp(-at.z);
        sum += colour(i) * exp(-0.5 * dot(d, d));
    }
    residual[id.x] = vec4(sum, 0.0);
}

@compute @workgroup_size(64)
fn gradients(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= live { return; }
    let at = place(id.x);
    let c = colour(id.x);
    var to_place = vec3(0.0);
    var to_colour = vec3(0.0);
    for (var i = 0u; i < SIZE * SIZE; i++) {
        let d = (pixel(i) - at.xy) * exp(-at.z);
        let q = dot(d, d);
        if q < 16.0 {
            let r = residual[i].xyz * exp(-0.5 * q);
            to_colour += r;
            to_place += dot(r, c) * vec3(d * exp(-at.z), q);
        }
    }
    for (var k = 0u; k < 3u; k++) {
        place_grads[3u * id.x + k] = to_place[k] / f32(SIZE);
        colour_grads[3u * id.x + k] = to_colour[k] / f32(SIZE);
    }
    seen[id.x] = u32(any(to_colour != vec3(0.0)));
}";

struct Splats {
    gpu: Gpu,
    optimizer: Optimizer,
    rows: RowSet,
    places: Tensor,
    colours: Tensor,
    residual: wgpu::Buffer,
    live: wgpu::Buffer,
    kernels: [(wgpu::ComputePipeline, wgpu::BindGroup, u32); 2],
}

fn main() -> Result<()> {
    let mut splats = Splats::new(pollster::block_on(Selector::default().open())?)?;
    println!("on {}", splats.gpu.name());
    splats.step(0)?;
    let first = splats.error()?;
    for round in 1..=6 {
        splats.step(40)?;
        println!("{:3} splats, mean square error {:.5}", splats.optimizer.row_count(splats.rows)?, splats.error()?);
        if round < 6 {
            splats.densify_and_prune()?;
        }
    }
    let last = splats.error()?;
    assert!(last < first / 30.0 && splats.optimizer.row_count(splats.rows)? > 36, "{first} became {last}");
    Ok(())
}

impl Splats {
    fn new(gpu: Gpu) -> Result<Self> {
        let mut builder: Builder = Optimizer::builder(AdamW { lr: 0.01, weight_decay: 0.0, ..AdamW::default() });
        let places = builder.tensor(Group::DEFAULT, "places", &[36, 3]);
        let colours = builder.tensor(Group::DEFAULT, "colours", &[36, 3]);
        let rows = builder.row_set("splats", &[places, colours]);
        // Radii have a higher learning rate than centres.
        builder.mask(rows).row_capacity(rows, ROOM).column_rates(places, &[0.5, 0.5, 2.0]);
        let optimizer = builder.build(&gpu.device, &gpu.queue)?;
        let centre = |i: usize| [(i % 6) as f32 / 6.0 + 0.08, (i / 6) as f32 / 6.0 + 0.08, -2.5];
        optimizer.write_param(places, &(0..36).flat_map(centre).collect::<Vec<f32>>())?;
        optimizer.write_param(colours, &[0.3; 108])?;

        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let make = |size, usage| {
            let label = Some("splats");
            gpu.device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
        };
        let residual = make(u64::from(SIZE * SIZE) * 16, usage | wgpu::BufferUsages::STORAGE);
        let live = make(16, usage | wgpu::BufferUsages::UNIFORM);
        let mut bound = vec![
            optimizer.param(places)?,
            optimizer.param(colours)?,
            residual.slice(..),
            live.slice(..),
            optimizer.grad(places)?,
            optimizer.grad(colours)?,
        ];
        bound.extend(optimizer.mask(rows)?);
        let threads = [(SIZE * SIZE) as usize, ROOM].map(|n| n.div_ceil(64) as u32);
        let kernels = [
            kernel(&gpu.device, "render", &bound[..4], threads[0]),
            kernel(&gpu.device, "gradients", &bound, threads[1]),
        ];
        Ok(Self { gpu, optimizer, rows, places, colours, residual, live, kernels })
    }

    /// Takes this many steps in one submit, and then renders the residual of the image.
    fn step(&mut self, steps: usize) -> Result<()> {
        let live = self.optimizer.row_count(self.rows)? as u32;
        self.gpu.queue.write_buffer(&self.live, 0, &live.to_le_bytes());
        self.gpu.run(|encoder| {
            for step in 0..=steps {
                for (pipeline, group, workgroups) in &self.kernels {
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                    pass.set_pipeline(pipeline);
                    pass.set_bind_group(0, group, &[]);
                    pass.dispatch_workgroups(*workgroups, 1, 1);
                }
                if step < steps {
                    self.optimizer.step(encoder)?;
                }
            }
            Ok(())
        })
    }

    /// Clones the splats with the largest gradients of their centres, and prunes the splats that are almost invisible. A clone has its parent's
    /// states. Parent and clone each get half the colour, and move a little apart.
    fn densify_and_prune(&mut self) -> Result<()> {
        let (optimizer, queue) = (&mut self.optimizer, &self.gpu.queue);
        let pulls = pollster::block_on(optimizer.read_grad(self.places))?;
        let colours = pollster::block_on(optimizer.read_param(self.colours))?;
        let faint = |i: &u32| colours[*i as usize * 3..][..3].iter().all(|c| c.abs() < 0.1);
        let pull = |i: &u32| pulls[*i as usize * 3].hypot(pulls[*i as usize * 3 + 1]);
        let mut indices: Vec<u32> = (0..optimizer.row_count(self.rows)? as u32).filter(|i| !faint(i)).collect();
        indices.sort_by(|a, b| pull(b).total_cmp(&pull(a)));
        let kept = indices.len();
        let clones = (kept / 3).min(ROOM - kept);
        indices.extend_from_within(..clones);

        let bytes: Vec<u8> = indices.iter().flat_map(|i| i.to_le_bytes()).collect();
        let buffer = &self.residual; // any buffer that can be copied from
        queue.write_buffer(buffer, 0, &bytes);
        self.gpu.run(|encoder| optimizer.remap(encoder, self.rows, buffer.slice(..), indices.len()))?;

        let mut places = pollster::block_on(optimizer.read_param(self.places))?;
        let mut colours = pollster::block_on(optimizer.read_param(self.colours))?;
        for i in (0..clones).chain(kept..kept + clones) {
            let way = if i < kept { 0.3 } else { -0.3 } * places[3 * i + 2].exp();
            places[3 * i] += way;
            places[3 * i + 1] += if i % 2 == 0 { way } else { -way };
            colours[3 * i..][..3].iter_mut().for_each(|c| *c *= 0.5);
        }
        optimizer.write_param(self.places, &places)?;
        optimizer.write_param(self.colours, &colours)
    }

    fn error(&self) -> Result<f32> {
        let bytes = pollster::block_on(read_buffer(&self.gpu.device, &self.gpu.queue, self.residual.slice(..)))?;
        let values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Ok(values.map(|x| x * x).sum::<f32>() / (SIZE * SIZE * 3) as f32)
    }
}

fn kernel(
    device: &wgpu::Device,
    entry: &str,
    bound: &[wgpu::BufferSlice<'_>],
    workgroups: u32,
) -> (wgpu::ComputePipeline, wgpu::BindGroup, u32) {
    let source = wgpu::ShaderSource::Wgsl(KERNELS.into());
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(entry), source });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(entry),
        layout: None,
        module: &module,
        entry_point: Some(entry),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let entries = bound.iter().enumerate().map(|(binding, slice)| wgpu::BindGroupEntry {
        binding: binding as u32,
        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: slice.buffer(),
            offset: slice.offset(),
            size: wgpu::BufferSize::new(slice.size()),
        }),
    });
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(entry),
        layout: &pipeline.get_bind_group_layout(0),
        entries: &entries.collect::<Vec<_>>(),
    });
    (pipeline, group, workgroups)
}
