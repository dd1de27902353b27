//! The schedule-free rules against the paper's three sequences z, x and y, written out, and the point at which gradients are evaluated.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod device;
    pub(crate) mod gpu;
    pub(crate) mod host;
}

use wgpu_optim::checkpoint::Checkpoint;
use wgpu_optim::{AdamW, AdamWScheduleFree, Group, Optimizer, SgdScheduleFree};

use support::gpu::GPU;
use support::host;

const N: usize = 1029;
const STEPS: u64 = 12;

fn number(i: u64) -> f64 {
    f64::from((((i.wrapping_mul(2_654_435_761) >> 7) % 20_011) as f32) / 10_000.0 - 1.0)
}

fn gradient(t: u64) -> Vec<f64> {
    (0..N as u64).map(|i| number(i * 31 + t * 7919)).collect()
}

/// The paper's sequences for SGD: x is an average of z, and gradients are taken at y, between z and x.
struct Paper {
    rule: SgdScheduleFree,
    z: Vec<f64>,
    x: Vec<f64>,
    weights: f64,
}

impl Paper {
    fn y(&self) -> Vec<f64> {
        let beta = self.rule.momentum;
        self.z.iter().zip(&self.x).map(|(z, x)| (1.0 - beta) * z + beta * x).collect()
    }

    fn step(&mut self, t: u64) {
        let SgdScheduleFree { lr, weight_decay, warmup_steps, r, weight_lr_power, .. } = self.rule;
        let warm = if t < u64::from(warmup_steps) { t as f64 / f64::from(warmup_steps) } else { 1.0 };
        let rate = lr * warm;
        let weight = (t as f64).powf(r) * rate.powf(weight_lr_power);
        self.weights += weight;
        let c = weight / self.weights;
        let y = self.y();
        for (i, g) in gradient(t).into_iter().enumerate() {
            self.z[i] -= rate * (g + weight_decay * y[i]);
            self.x[i] = (1.0 - c) * self.x[i] + c * self.z[i];
        }
    }
}

fn close(what: &str, got: &[f64], want: &[f64], limit: f64) {
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= limit * (1.0 + want.abs()), "{what}: element {i} is {got}, want {want}");
    }
}

fn wide(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

#[test]
fn the_sequences_are_the_papers_on_both_sides() {
    let rule =
        SgdScheduleFree { lr: 0.3, momentum: 0.8, weight_decay: 0.05, warmup_steps: 5, r: 0.5, ..Default::default() };
    let start: Vec<f64> = (0..N as u64).map(|i| number(i + 77)).collect();
    let mut paper = Paper { rule, z: start.clone(), x: start.clone(), weights: 0.0 };

    let mut host = host::builder([("all", rule.into())], [("w", 0, N)]).build_cpu::<f64>().unwrap();
    let mut y = start.clone();

    let mut builder = Optimizer::builder(rule);
    let w = builder.tensor(Group::DEFAULT, "w", &[N]);
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    optimizer.write_param(w, &start.iter().map(|x| *x as f32).collect::<Vec<_>>()).unwrap();
    for t in 1..=STEPS {
        paper.step(t);
        host.step(&mut [&mut y], &[&gradient(t)]).unwrap();
        optimizer.write_grad(w, &gradient(t).iter().map(|g| *g as f32).collect::<Vec<_>>()).unwrap();
        GPU.run(|e| optimizer.step(e)).unwrap();
        let read = |o: &Optimizer| wide(pollster::block_on(o.read_param(w)).unwrap());
        close("host y", &y, &paper.y(), 1e-13);
        close("gpu y", &read(&optimizer), &paper.y(), 5e-6);
        // A change to x and back, in the middle of training.
        let kept = y.clone();
        host.to_eval_params(&mut [&mut y]).unwrap();
        close("host x", &y, &paper.x, 1e-13);
        host.to_train_params(&mut [&mut y]).unwrap();
        close("host y again", &y, &kept, 1e-15);
        GPU.run(|e| optimizer.to_eval_params(e)).unwrap();
        close("gpu x", &read(&optimizer), &paper.x, 5e-6);
        GPU.run(|e| optimizer.to_train_params(e)).unwrap();
        close("gpu y again", &read(&optimizer), &paper.y(), 5e-6);
    }
    let apart = paper.x.iter().zip(paper.y()).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    assert!(apart > 1e-2, "x and y must differ for the test to mean anything: {apart}");
}

#[test]
fn each_group_uses_its_own_factor_and_other_settings_are_refused() {
    let mut builder = Optimizer::builder(AdamWScheduleFree { beta1: 0.5, ..Default::default() });
    let second = builder.group("second", AdamWScheduleFree { beta1: 0.8, ..Default::default() });
    let tensors = [builder.tensor(Group::DEFAULT, "a", &[3]), builder.tensor(second, "b", &[3])];
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    for tensor in tensors {
        optimizer.write_param(tensor, &[1.0; 3]).unwrap();
        optimizer.write_state(tensor, "gap", &[2.0; 3]).unwrap();
    }
    GPU.run(|e| optimizer.to_eval_params(e)).unwrap();
    let read = |t| pollster::block_on(optimizer.read_param(t)).unwrap();
    assert_eq!(read(tensors[0]), [-1.0; 3]);
    assert_eq!(read(tensors[1]), [0.5; 3]);

    let mut builder = Optimizer::builder(AdamW::default());
    builder.tensor(Group::DEFAULT, "w", &[3]);
    let mut adamw = builder.build(&GPU.device, &GPU.queue).unwrap();
    let mut encoder = GPU.device.create_command_encoder(&Default::default());
    let error = adamw.to_eval_params(&mut encoder).unwrap_err().to_string();
    assert!(error.contains("adamw is evaluated where it is trained"), "{error}");
}

#[test]
fn the_point_of_evaluation_is_known_on_both_sides() {
    let mut builder = Optimizer::builder(SgdScheduleFree { lr: 0.1, ..Default::default() });
    let w = builder.tensor(Group::DEFAULT, "w", &[2]);
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    let mut host = builder.build_cpu::<f32>().unwrap();
    let mut params = [1.0, 2.0];
    optimizer.write_param(w, &params).unwrap();
    optimizer.write_grad(w, &[0.5, -0.5]).unwrap();
    let same = |on_gpu: wgpu_optim::Result<()>, on_host: wgpu_optim::Result<()>, what: &str| {
        let (on_gpu, on_host) = (on_gpu.unwrap_err().to_string(), on_host.unwrap_err().to_string());
        assert_eq!(on_gpu, on_host);
        assert!(on_gpu.contains(what), "{on_gpu}");
    };
    for _ in 0..3 {
        GPU.run(|e| optimizer.step(e)).unwrap();
        host.step(&mut [&mut params], &[&[0.5, -0.5]]).unwrap();
    }
    let training = "to_train_params is refused because the parameters are at the point of training";
    same(GPU.run(|e| optimizer.to_train_params(e)), host.to_train_params(&mut [&mut params]), training);
    GPU.run(|e| optimizer.to_eval_params(e)).unwrap();
    host.to_eval_params(&mut [&mut params]).unwrap();
    let at = params;
    let twice = "to_eval_params is refused because the parameters are at the point of evaluation";
    same(GPU.run(|e| optimizer.to_eval_params(e)), host.to_eval_params(&mut [&mut params]), twice);
    let step = "a step is refused because the parameters are at the point of evaluation: call to_train_params first";
    same(GPU.run(|e| optimizer.step(e)), host.step(&mut [&mut params], &[&[0.5, -0.5]]), step);
    assert_eq!(params, at);

    // A file goes on at the same point, on both sides.
    let mut encoder = GPU.device.create_command_encoder(&Default::default());
    let snapshot = optimizer.snapshot(&mut encoder).unwrap();
    GPU.queue.submit([encoder.finish()]);
    let of_gpu = pollster::block_on(snapshot.checkpoint()).unwrap();
    let of_host = Checkpoint::of_host(&host, &[(&[2], &params)]).unwrap();
    for file in [of_gpu, of_host] {
        let file = Checkpoint::from_bytes("file", file.to_bytes().unwrap()).unwrap();
        let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
        let mut host = builder.build_cpu::<f32>().unwrap();
        let mut params = [0.0; 2];
        file.restore(&mut optimizer).unwrap();
        file.restore_host(&mut host, &mut [&mut params]).unwrap();
        same(GPU.run(|e| optimizer.step(e)), host.step(&mut [&mut params], &[&[0.5, -0.5]]), step);
        GPU.run(|e| optimizer.to_train_params(e).and_then(|()| optimizer.step(e))).unwrap();
        host.to_train_params(&mut [&mut params]).unwrap();
        host.step(&mut [&mut params], &[&[0.5, -0.5]]).unwrap();
    }
}
