//! Telemetry: the measurements of a step, on the GPU and on the host, against sums over the numbers that the step read and wrote.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod device;
    pub(crate) mod gpu;
    pub(crate) mod numbers;
    pub(crate) mod step;
    pub(crate) mod wide;
}

use wgpu_optim::cpu;
use wgpu_optim::optim::procedure::probes;
use wgpu_optim::optim::{ALL, Rule};
use wgpu_optim::{Accumulate, AdamW, Builder, Clip, Group, Lamb, LossScale, Norms, Optimizer, Stats, Tensor, VRAdam};

use support::gpu::GPU;
use support::numbers::numbers;
use support::step::step;
use support::wide::wide;

/// Tails, an empty tensor, several chunks.
const LENGTHS: [usize; 4] = [5, 0, 3077, 1024];

fn many(seed: u32) -> Vec<Vec<f32>> {
    LENGTHS.iter().zip(seed..).map(|(n, seed)| numbers(seed, *n)).collect()
}

/// One description of the optimizers on the GPU and on the host.
fn described(rule: &dyn Rule, around: impl Fn(&mut Builder)) -> (Builder, Vec<Tensor>) {
    let mut builder = Optimizer::builder(rule.boxed());
    builder.undamped_steps(true);
    let second = builder.group("second", rule.boxed());
    let tensor = |t: usize| {
        let group = if t == 0 { second } else { Group::DEFAULT };
        builder.tensor(group, format!("t{t}"), &builder.sample_shape(group, LENGTHS[t]))
    };
    let tensors: Vec<Tensor> = (0..LENGTHS.len()).map(tensor).collect();
    builder.telemetry(true);
    around(&mut builder);
    (builder, tensors)
}

fn started(builder: &Builder, tensors: &[Tensor]) -> Optimizer {
    let optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    for (tensor, values) in tensors.iter().zip(many(1000)) {
        optimizer.write_param(*tensor, &values).unwrap();
    }
    optimizer
}

fn on_gpu(rule: &dyn Rule, around: impl Fn(&mut Builder)) -> (Optimizer, Vec<Tensor>) {
    let (builder, tensors) = described(rule, around);
    (started(&builder, &tensors), tensors)
}

fn on_both(rule: &dyn Rule, around: impl Fn(&mut Builder)) -> (Optimizer, cpu::Optimizer<f64>, Vec<Tensor>) {
    let (builder, tensors) = described(rule, around);
    (started(&builder, &tensors), builder.build_cpu().unwrap(), tensors)
}

fn host_step(host: &mut cpu::Optimizer<f64>, params: &mut [Vec<f64>], grads: &[Vec<f32>]) {
    step(host, params, &wide(grads));
}

fn gpu_step(optimizer: &mut Optimizer, tensors: &[Tensor], grads: &[Vec<f32>]) {
    for (tensor, gradient) in tensors.iter().zip(grads) {
        optimizer.write_grad(*tensor, gradient).unwrap();
    }
    GPU.run(|e| optimizer.step(e)).unwrap();
}

fn near(what: &str, got: f64, want: f64) {
    assert!((got - want).abs() <= 2e-5 * want.abs() + 1e-12, "{what} is {got}, want {want}");
}

fn same(case: &str, got: &Stats, want: &Stats) {
    assert_eq!((got.step_count, got.skipped, got.dropped), (want.step_count, want.skipped, 0), "{case}");
    let total = [("total", &got.total, &want.total)];
    let tensors = got.tensors.iter().zip(&want.tensors).map(|(a, b)| {
        assert_eq!(a.name, b.name);
        (&*a.name, &a.norms, &b.norms)
    });
    for (name, got, want) in total.into_iter().chain(tensors) {
        let each = |n: &Norms| [n.gradient, n.parameter, n.update, n.update_ratio(), n.clip];
        let names = ["gradient", "parameter", "update", "ratio", "clip"];
        for ((what, got), want) in names.into_iter().zip(each(got)).zip(each(want)) {
            if want.is_finite() {
                near(&format!("{case} {name}: {what}"), got, want);
            } else {
                assert!(!got.is_finite(), "{case} {name}: {what}");
            }
        }
        assert_eq!(got.nonfinite, want.nonfinite, "{case} {name}");
    }
}

#[test]
fn every_rule_is_measured_as_the_oracle_is() {
    for entry in ALL.iter().filter(|e| probes(&e.sample().procedure()) == 0) {
        let rule = entry.sample();
        let (mut gpu, mut host, tensors) = on_both(rule.as_ref(), |b| _ = b.clip(Clip::GlobalNorm(3.0)));
        let mut params = wide(&many(1000));
        for step in 1..=3 {
            gpu_step(&mut gpu, &tensors, &many(step * 10));
            host_step(&mut host, &mut params, &many(step * 10));
            let stats = gpu.try_stats().unwrap();
            same(&format!("{} step {step}", entry.name), &stats, &host.stats().unwrap());
            assert!(stats.total.update > 0.0 && stats.total.clip < 1.0, "{stats:?}");
        }
        assert!(gpu.try_stats().is_none(), "a sample is handed out once");
    }
}

#[test]
fn every_feature_is_seen() {
    type Around = (&'static str, fn(&mut Builder));
    let cases: [Around; 6] = [
        ("bare", |_| ()),
        ("group", |b| _ = b.clip(Clip::GroupNorm(2.0))),
        ("tensor", |b| _ = b.clip(Clip::TensorNorm(1.0))),
        ("value", |b| _ = b.clip(Clip::Value(0.3))),
        ("scale", |b| _ = b.loss_scale(LossScale::fixed(8.0))),
        ("mean", |b| _ = b.accumulate(Accumulate::Mean(1))),
    ];
    let rules: [Box<dyn Rule>; 3] = [AdamW::default().into(), VRAdam::default().into(), Lamb::default().into()];
    for (name, around) in cases {
        for rule in &rules {
            let (mut gpu, mut host, tensors) = on_both(rule.as_ref(), around);
            let mut params = wide(&many(1000));
            for step in 1..=2 {
                gpu_step(&mut gpu, &tensors, &many(step * 10));
                host_step(&mut host, &mut params, &many(step * 10));
            }
            same(&format!("{} {name}", rule.name()), &gpu.try_stats().unwrap(), &host.stats().unwrap());
        }
    }
}

#[test]
fn a_skipped_step_names_its_tensor() {
    let (mut gpu, mut host, tensors) = on_both(&AdamW::default(), |b| _ = b.skip_nonfinite(true));
    let mut params = wide(&many(1000));
    for (step, bad) in [None, Some((3, 1023)), Some((2, 3076)), None].into_iter().enumerate() {
        let mut grads = many(step as u32 * 10);
        if let Some((tensor, at)) = bad {
            let tensor: usize = tensor;
            let at: usize = at;
            grads[tensor][at] = f32::NEG_INFINITY;
            grads[3][0] = f32::NAN;
        }
        gpu_step(&mut gpu, &tensors, &grads);
        host_step(&mut host, &mut params, &grads);
        let name = bad.map(|(tensor, _)| format!("t{tensor}"));
        let stats = gpu.try_stats().unwrap();
        same(&format!("step {step}"), &stats, &host.stats().unwrap());
        assert_eq!(stats.first_nonfinite(), name.as_deref());
        assert_eq!(host.nonfinite().unwrap(), name.as_deref());
        assert_eq!(pollster::block_on(gpu.read_nonfinite()).unwrap(), name.as_deref());
        assert_eq!(stats.total.update == 0.0, bad.is_some());
    }
    assert_eq!(host.skipped(), 2);

    let mut builder = Optimizer::builder(AdamW::default());
    builder.tensor(Group::DEFAULT, "w", &[3]);
    let bare = builder.build(&GPU.device, &GPU.queue).unwrap();
    assert!(pollster::block_on(bare.read_nonfinite()).unwrap_err().to_string().contains("no step counts"));
    assert!(bare.try_stats().is_none());
}

#[test]
fn a_full_ring_drops_samples_and_the_newest_is_given() {
    let (mut gpu, tensors) = on_gpu(&AdamW::default(), |_| ());
    // Ten steps in one encoder: four places.
    for (tensor, gradient) in tensors.iter().zip(many(3)) {
        gpu.write_grad(*tensor, &gradient).unwrap();
    }
    GPU.run(|e| (0..10).try_for_each(|_| gpu.step(e))).unwrap();
    let stats = gpu.try_stats().unwrap();
    assert_eq!((stats.step_count, stats.dropped), (4, 6));
    // After ten finished steps without a reader, the newest sample is there.
    (0..10).for_each(|_| GPU.run(|e| gpu.step(e)).unwrap());
    let stats = gpu.try_stats().unwrap();
    assert_eq!((stats.step_count, stats.dropped), (20, 6));
    // A dropped encoder gives its places back.
    for _ in 0..3 {
        let mut encoder = GPU.device.create_command_encoder(&Default::default());
        (0..4).for_each(|_| gpu.step(&mut encoder).unwrap());
        drop(encoder);
    }
    assert!(gpu.try_stats().is_none());
    GPU.run(|e| gpu.step(e)).unwrap();
    assert_eq!(gpu.try_stats().unwrap().step_count, 21);
}

#[test]
fn telemetry_changes_no_bit_and_adds_no_dispatch_beside_the_sums() {
    let run = |telemetry: bool| {
        let (mut gpu, tensors) = on_gpu(&AdamW::default(), |b| _ = b.clip(Clip::GlobalNorm(1.0)).telemetry(telemetry));
        (1..=3).for_each(|step| gpu_step(&mut gpu, &tensors, &many(step * 10)));
        let read = |t: &Tensor| pollster::block_on(gpu.read_param(*t)).unwrap();
        let bits: Vec<u32> = tensors.iter().flat_map(read).map(f32::to_bits).collect();
        (gpu.dispatches(), bits)
    };
    assert_eq!(run(true).0, 3);
    assert_eq!(run(true).0, run(false).0);
    let differing = run(true).1.iter().zip(&run(false).1).filter(|(a, b)| a.abs_diff(**b) > 1).count();
    assert_eq!(differing, 0, "another pipeline may round otherwise by one ulp, no more");
}

#[test]
fn rebound_gradients_and_halves_are_measured() {
    let (mut gpu, mut host, tensors) = on_both(&AdamW::default(), |b| _ = b.dynamic_gradients(true));
    let mut params = wide(&many(1000));
    gpu_step(&mut gpu, &tensors, &many(10));
    host_step(&mut host, &mut params, &many(10));
    same("moving", &gpu.try_stats().unwrap(), &host.stats().unwrap());

    let (mut gpu, tensors) = on_gpu(&AdamW::default(), |_| ());
    for (tensor, gradient) in tensors.iter().zip(many(10)) {
        gpu.write_grad(*tensor, &gradient).unwrap();
    }
    GPU.run(|e| gpu.record_sums(e)).unwrap();
    assert!(gpu.try_stats().is_none());
    GPU.run(|e| gpu.record_update(e)).unwrap();
    same("halves", &gpu.try_stats().unwrap(), &host.stats().unwrap());
}

/// Rows that a mask excludes have no update, but their parameters count.
#[test]
fn excluded_rows_are_measured_as_unmoved() {
    let flags: Vec<u32> = (0..LENGTHS[2] as u32).map(|i| u32::from(i % 5 == 2 || i > 3000)).collect();
    let mut builder = Optimizer::builder(AdamW::default());
    let w = builder.tensor(Group::DEFAULT, "w", &[LENGTHS[2]]);
    let rows = builder.row_set("rows", &[w]);
    builder.mask(rows);
    builder.telemetry(true);
    let mut gpu = builder.build(&GPU.device, &GPU.queue).unwrap();
    gpu.write_param(w, &numbers(1, LENGTHS[2])).unwrap();
    gpu.write_mask(rows, &flags).unwrap();
    gpu.write_grad(w, &numbers(2, LENGTHS[2])).unwrap();

    let mut host = builder.build_cpu::<f64>().unwrap();
    host.write_mask(rows, &flags).unwrap();
    let mut params = wide(&[numbers(1, LENGTHS[2])]);
    for step in 1..=2 {
        GPU.run(|e| gpu.step(e)).unwrap();
        host_step(&mut host, &mut params, &[numbers(2, LENGTHS[2])]);
        same(&format!("step {step}"), &gpu.try_stats().unwrap(), &host.stats().unwrap());
    }
}
