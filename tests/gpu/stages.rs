//! The stages of a step: a step that is recorded stage by stage, with timestamps, is the step, bit for bit.

use pollster::block_on;
use wgpu_optim::tools::adapter::{Gpu, Selector};
use wgpu_optim::{
    Adafactor, AdamW, Clip, Group, Lamb, LossScale, Muon, Optimizer, Tensor, VRAdam, optim::Rule, read_buffer, wgpu,
};

use crate::common::gpu;

/// A device that can write timestamps, if the adapter can.
fn timed() -> Option<Gpu> {
    let adapter = block_on(Selector::default().find()).unwrap();
    let required_features = wgpu::Features::TIMESTAMP_QUERY;
    let descriptor = wgpu::DeviceDescriptor { required_features, ..wgpu::DeviceDescriptor::default() };
    adapter.features().contains(required_features).then(|| {
        let (device, queue) = block_on(adapter.request_device(&descriptor)).unwrap();
        Gpu::of(adapter.get_info(), device, queue)
    })
}

/// The stages of an optimizer, its rules, and whether they share a clip by norm and a loss scale.
type Case<'a> = (&'a [&'static str], &'a [Box<dyn Rule>], bool);

/// An optimizer of several rules with norms that they exchange, and one of a single rule.
fn optimizers(gpu: &Gpu) -> Vec<(Vec<&'static str>, Optimizer, Vec<Tensor>)> {
    let build = |rules: &[Box<dyn Rule>], clip: bool| {
        let mut builder = Optimizer::builder(rules[0].clone());
        let mut tensors = vec![builder.tensor(Group::DEFAULT, "0", &[40, 33])];
        for (i, rule) in rules.iter().enumerate().skip(1) {
            let group = builder.group(format!("group {i}"), rule.clone());
            tensors.push(builder.tensor(group, i.to_string(), &[40, 33]));
        }
        if clip {
            builder.clip(Clip::GlobalNorm(1.0)).loss_scale(LossScale::default());
        }
        let optimizer = builder.build(&gpu.device, &gpu.queue).unwrap();
        for (tensor, t) in tensors.iter().zip(0_u8..) {
            let numbers = |scale: f32| -> Vec<f32> {
                (0..40 * 33_u16).map(|i| scale * (f32::from(i % 97) - 48.0 + f32::from(t))).collect()
            };
            optimizer.write_param(*tensor, &numbers(0.01)).unwrap();
            optimizer.write_grad(*tensor, &numbers(0.3)).unwrap();
        }
        (optimizer, tensors)
    };
    let several: [Box<dyn Rule>; 5] = [
        AdamW::default().into(),
        VRAdam::default().into(),
        Lamb::default().into(),
        Muon::default().into(),
        Adafactor::default().into(),
    ];
    let cases: [Case<'_>; 3] = [
        (&["update"], &several[..1], false),
        (&["statistics", "finalize", "update"], &several[1..2], true),
        (&["statistics", "finalize", "statistics", "finalize", "update"], &several, true),
    ];
    let built = cases.map(|(stages, rules, clip)| (stages.to_vec(), build(rules, clip)));
    built.into_iter().map(|(stages, (optimizer, tensors))| (stages, optimizer, tensors)).collect()
}

fn params(optimizer: &Optimizer, tensors: &[Tensor]) -> Vec<Vec<u32>> {
    let bits = |tensor: &Tensor| block_on(optimizer.read_param(*tensor)).unwrap().iter().map(|x| x.to_bits()).collect();
    tensors.iter().map(bits).collect()
}

#[test]
fn a_step_in_timed_stages_is_the_step() {
    let timed = timed();
    let gpu = timed.as_ref().unwrap_or_else(|| gpu());
    for ((stages, mut plain, tensors), (_, mut staged, of_staged)) in optimizers(gpu).into_iter().zip(optimizers(gpu)) {
        assert_eq!(staged.step_stages(), stages);
        let before = params(&plain, &tensors);
        for _ in 0..3 {
            gpu.run(|encoder| plain.step(encoder)).unwrap();
            let count = 2 * stages.len() as u32;
            let queries = timed.as_ref().map(|gpu| {
                let descriptor = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count };
                gpu.device.create_query_set(&descriptor)
            });
            let writes = |stage| {
                queries.as_ref().map(|query_set| wgpu::ComputePassTimestampWrites {
                    query_set,
                    beginning_of_pass_write_index: Some(2 * stage),
                    end_of_pass_write_index: Some(2 * stage + 1),
                })
            };
            gpu.run(|encoder| staged.step_with_timestamps(encoder, (0..count / 2).map(writes))).unwrap();
            if let Some(queries) = &queries {
                let times = times(gpu, queries, count);
                assert!(times.is_sorted() && times[0] > 0 && times[0] < times[times.len() - 1], "{times:?}");
            }
        }
        assert_ne!(params(&staged, &of_staged), before);
        assert_eq!(params(&staged, &of_staged), params(&plain, &tensors), "{stages:?}");
        assert_eq!(block_on(staged.read_step_count()).unwrap(), 3);
    }
}

/// The timestamps of a query set.
fn times(gpu: &Gpu, queries: &wgpu::QuerySet, count: u32) -> Vec<u64> {
    let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: u64::from(count) * 8,
        usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    gpu.run(|encoder| {
        encoder.resolve_query_set(queries, 0..count, &buffer, 0);
        Ok(())
    })
    .unwrap();
    let bytes = block_on(read_buffer(&gpu.device, &gpu.queue, buffer.slice(..))).unwrap();
    bytemuck::pod_collect_to_vec(&bytes)
}

#[test]
fn timestamps_for_other_stages_are_refused_and_nothing_is_recorded() {
    let (_, mut optimizer, tensors) = optimizers(gpu()).swap_remove(1);
    let before = params(&optimizer, &tensors);
    let step = |optimizer: &mut Optimizer| gpu().run(|encoder| optimizer.step_with_timestamps(encoder, [None, None]));
    let error = step(&mut optimizer).unwrap_err().to_string();
    let names = "2 timestamp writes were given, the step has 3 stages: statistics, finalize, update";
    assert!(error.contains(names), "{error}");
    assert_eq!(params(&optimizer, &tensors), before);
}
