//! The time of a step of every optimizer, on the GPU and on the host's fast path: one tensor of a million elements, and a thousand tensors
//! of a thousand elements. This bench gives criterion's statistics; `wgpu-optim bench` measures the same steps beside a copy and a stream
//! kernel.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wgpu_optim::optim::{ALL, Rule};
use wgpu_optim::tools::adapter::{Gpu, Selector};
use wgpu_optim::tools::bench::{Size, bytes_per_element};
use wgpu_optim::{Builder, Group, Optimizer};

const SIZES: [Size; 2] = [Size::new(1, 1_000_000), Size::new(1000, 1000)];

fn builder(rule: &dyn Rule, size: Size) -> Builder {
    let mut builder = Optimizer::builder(rule.boxed());
    builder.undamped_steps(true);
    let shape = builder.sample_shape(Group::DEFAULT, size.elements);
    builder.tensors(Group::DEFAULT, (0..size.tensors).map(|i| (format!("tensor {i}"), shape.clone())));
    builder
}

fn on_gpu(gpu: &Gpu, rule: &dyn Rule, size: Size) -> Optimizer {
    let optimizer = builder(rule, size).build(&gpu.device, &gpu.queue).expect("a sample of the registry builds");
    let tensors: Vec<_> = optimizer.tensors().map(|(tensor, ..)| tensor).collect();
    for tensor in tensors {
        optimizer.write_param(tensor, &vec![0.5; size.elements]).expect("lengths agree");
        optimizer.write_grad(tensor, &vec![0.01; size.elements]).expect("lengths agree");
    }
    optimizer
}

fn gpu_steps(c: &mut Criterion) {
    let gpu = pollster::block_on(Selector::default().open())
        .unwrap_or_else(|e| panic!("{e}; install a Vulkan driver, software will do: sh tests/run.sh does it"));
    eprintln!("adapter: {}", gpu.name());
    let mut group = c.benchmark_group("gpu");
    for entry in ALL {
        let rule = entry.sample();
        for size in SIZES {
            let mut optimizer = on_gpu(&gpu, rule.as_ref(), size);
            group.throughput(throughput(rule.as_ref(), size));
            group.bench_function(format!("{}/{}x{}", entry.name, size.tensors, size.elements), |b| {
                b.iter(|| gpu.run(|encoder| optimizer.step(encoder)).expect("the device lives"));
            });
        }
    }
    group.finish();
}

fn cpu_steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("cpu");
    for entry in ALL {
        let rule = entry.sample();
        for size in SIZES {
            let mut optimizer =
                builder(rule.as_ref(), size).build_cpu::<f32>().expect("a sample of the registry builds");
            let mut params = vec![vec![0.5; size.elements]; size.tensors];
            let grads = vec![vec![0.01; size.elements]; size.tensors];
            let grads: Vec<&[f32]> = grads.iter().map(Vec::as_slice).collect();
            group.throughput(throughput(rule.as_ref(), size));
            group.bench_function(format!("{}/{}x{}", entry.name, size.tensors, size.elements), |b| {
                let mut params: Vec<&mut [f32]> = params.iter_mut().map(Vec::as_mut_slice).collect();
                b.iter(|| optimizer.step(&mut params, &grads).expect("lengths agree"));
            });
        }
    }
    group.finish();
}

fn throughput(rule: &dyn Rule, size: Size) -> Throughput {
    Throughput::Bytes((bytes_per_element(rule) * (size.tensors * size.elements) as f64) as u64)
}

criterion_group! {
    name = steps;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(2));
    targets = gpu_steps, cpu_steps
}
criterion_main!(steps);
