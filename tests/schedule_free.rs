//! The schedule-free rules against the paper's three sequences z, x and y, written out, and the point at which gradients are evaluated.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod device;
    pub(crate) mod gpu;
    pub(crate) mod host;
}

use wgpu_optim::checkpoint::Checkpoint;
use wgpu_optim::optim::{Rule, Value};
use wgpu_optim::{AdamW, AdamWScheduleFree, Builder, Group, Optimizer, SgdScheduleFree, Tensor};

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

/// A step of the authors' package on one tensor, with the numbers that it keeps per group.
struct Package {
    y: Vec<f64>,
    z: Vec<f64>,
    v: Vec<f64>,
    k: i32,
    weight_sum: f64,
    lr_max: f64,
}

/// The settings of a step of the package.
#[derive(Clone, Copy)]
struct Settings {
    lr: f64,
    r: f64,
    power: f64,
    decay: f64,
    /// β2 and ε of AdamW; `None` for SGD.
    adamw: Option<(f64, f64)>,
}

const BETA: f64 = 0.9;

impl Package {
    fn new(start: &[f64]) -> Self {
        let (y, z, v) = (start.to_vec(), start.to_vec(), vec![0.0; start.len()]);
        Self { y, z, v, k: 0, weight_sum: 0.0, lr_max: -1.0 }
    }

    fn step(&mut self, s: Settings, gradient: &[f64]) {
        self.k += 1;
        self.lr_max = self.lr_max.max(s.lr);
        let weight = f64::from(self.k).powf(s.r) * self.lr_max.powf(s.power);
        self.weight_sum += weight;
        let c = if self.weight_sum == 0.0 { 0.0 } else { weight / self.weight_sum };
        for (i, g) in gradient.iter().enumerate() {
            let mut u = *g;
            if let Some((beta2, eps)) = s.adamw {
                self.v[i] = beta2 * self.v[i] + (1.0 - beta2) * g * g;
                u = g / ((self.v[i] / (1.0 - beta2.powi(self.k))).sqrt() + eps);
            }
            u += s.decay * self.y[i];
            let (y, z) = (self.y[i], self.z[i]);
            self.y[i] = y + c * (z - y) + s.lr * (BETA * (1.0 - c) - 1.0) * u;
            self.z[i] = z - s.lr * u;
        }
    }

    fn x(&self) -> Vec<f64> {
        self.y.iter().zip(&self.z).map(|(y, z)| y + (1.0 - 1.0 / BETA) * (z - y)).collect()
    }
}

/// Each schedule-free rule with these settings.
fn rules(s: Settings) -> [(Box<dyn Rule>, Settings); 2] {
    let Settings { lr, r, power: weight_lr_power, decay: weight_decay, .. } = s;
    let adamw = AdamWScheduleFree { lr, r, weight_lr_power, weight_decay, ..Default::default() };
    let sgd = SgdScheduleFree { lr, r, weight_lr_power, weight_decay, ..Default::default() };
    [(adamw.into(), Settings { adamw: Some((0.999, 1e-8)), ..s }), (sgd.into(), Settings { adamw: None, ..s })]
}

fn slope(t: u64) -> Vec<f64> {
    (0..4).map(|i| (f64::from(i + 1) / 4.0 - 0.3) * (1.0 + 0.1 * t as f64)).collect()
}

fn built(rule: &dyn Rule, change: impl Fn(&mut Builder)) -> (Builder, Tensor) {
    let mut builder = Optimizer::builder(rule.boxed());
    let w = builder.tensor(Group::DEFAULT, "w", &[4]);
    change(&mut builder);
    (builder, w)
}

const START: [f64; 4] = [1.0, 2.0, 3.0, 4.0];

/// The package's own numbers: three steps at a rate of 0, then three at 0.1.
#[test]
fn steps_at_a_rate_of_zero_have_no_weight() {
    let plain = Settings { lr: 0.0, r: 0.0, power: 2.0, decay: 0.0, adamw: None };
    for ((rule, settings), (y0, x0)) in rules(plain).into_iter().zip([(1.24114, 1.229_354), (1.0144, 1.013_667)]) {
        let mut package = Package::new(&START);
        let (builder, w) = built(rule.as_ref(), |_| ());
        let mut host = builder.build_cpu::<f64>().unwrap();
        let mut y = START;
        let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
        optimizer.write_param(w, &START.map(|x| x as f32)).unwrap();
        for t in 0..6 {
            let lr = if t < 3 { 0.0 } else { 0.1 };
            package.step(Settings { lr, ..settings }, &slope(t));
            host.set_lr(Group::DEFAULT, lr).unwrap();
            host.step(&mut [&mut y], &[&slope(t)]).unwrap();
            optimizer.set_lr(Group::DEFAULT, lr).unwrap();
            optimizer.write_grad(w, &slope(t).iter().map(|g| *g as f32).collect::<Vec<_>>()).unwrap();
            GPU.run(|e| optimizer.step(e)).unwrap();
        }
        close("the package's y", &package.y[..1], &[y0], 1e-5);
        close("the package's x", &package.x()[..1], &[x0], 1e-5);
        close("host y", &y, &package.y, 1e-13);
        close("gpu y", &wide(pollster::block_on(optimizer.read_param(w)).unwrap()), &package.y, 1e-6);
        host.to_eval_params(&mut [&mut y]).unwrap();
        close("host x", &y, &package.x(), 1e-13);
        GPU.run(|e| optimizer.to_eval_params(e)).unwrap();
        close("gpu x", &wide(pollster::block_on(optimizer.read_param(w)).unwrap()), &package.x(), 1e-6);
    }
}

/// The rate rises, falls and is 0 in between; some steps are skipped, some encoders dropped, and a file is in the middle.
#[test]
fn the_largest_rate_and_the_weights_are_kept() {
    const RATES: [f64; 14] = [0.02, 0.05, 0.03, 0.0, 0.0, 0.04, 0.2, 0.1, 0.1, 0.3, 0.01, 0.01, 0.25, 0.3];
    for (r, power) in [(0.0, 2.0), (1.0, 1.5), (2.5, 0.0), (0.0, 10.0), (10.0, 3.25)] {
        let settings = Settings { lr: 0.02, r, power, decay: 0.1, adamw: None };
        for (rule, settings) in rules(settings) {
            let what = format!("{} r {r} power {power}", rule.name());
            let mut package = Package::new(&START);
            let (builder, w) = built(rule.as_ref(), |builder| _ = builder.skip_nonfinite(true));
            let mut host = builder.build_cpu::<f64>().unwrap();
            let mut y = START;
            let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
            optimizer.write_param(w, &START.map(|x| x as f32)).unwrap();
            for (t, lr) in (0..).zip(RATES) {
                package.step(Settings { lr, ..settings }, &slope(t));
                // A skipped step at a larger rate, and a dropped encoder with one, leave no trace.
                for (lr, gradient) in [(9.0, vec![f64::NAN; 4]), (lr, slope(t))] {
                    host.set(Group::DEFAULT, "lr", &Value::Number(lr)).unwrap();
                    host.step(&mut [&mut y], &[&gradient]).unwrap();
                    optimizer.set_lr(Group::DEFAULT, lr).unwrap();
                    optimizer.write_grad(w, &gradient.iter().map(|g| *g as f32).collect::<Vec<_>>()).unwrap();
                    let mut dropped = GPU.device.create_command_encoder(&Default::default());
                    optimizer.step(&mut dropped).unwrap();
                    drop(dropped);
                    GPU.run(|e| optimizer.step(e)).unwrap();
                }
                if t == 6 {
                    let mut encoder = GPU.device.create_command_encoder(&Default::default());
                    let snapshot = optimizer.snapshot(&mut encoder).unwrap();
                    GPU.queue.submit([encoder.finish()]);
                    let file = pollster::block_on(snapshot.checkpoint()).unwrap().to_bytes().unwrap();
                    optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
                    Checkpoint::from_bytes("file", file).unwrap().restore(&mut optimizer).unwrap();
                }
                close(&format!("{what}: host, step {t}"), &y, &package.y, 1e-12);
                let got = wide(pollster::block_on(optimizer.read_param(w)).unwrap());
                close(&format!("{what}: gpu, step {t}"), &got, &package.y, 3e-6);
            }
            let kept = pollster::block_on(optimizer.read_progress(w)).unwrap();
            close(&what, &wide(kept), host.progress(w).unwrap(), 1e-5);
            assert_eq!(host.progress(w).unwrap()[1], 0.3, "{what}");
        }
    }
}

/// A file from before the weights were kept, and a step count that is set, have the weights of as many steps at the settings.
#[test]
fn a_count_that_is_set_brings_its_weights() {
    let settings = Settings { lr: 0.05, r: 1.5, power: 2.0, decay: 0.1, adamw: None };
    for (rule, settings) in rules(settings) {
        let (builder, w) = built(rule.as_ref(), |_| ());
        let mut host = builder.build_cpu::<f64>().unwrap();
        let mut y = START;
        let mut package = Package::new(&START);
        for t in 0..7 {
            host.step(&mut [&mut y], &[&slope(t)]).unwrap();
            package.step(settings, &slope(t));
        }
        let file = Checkpoint::of_host(&host, &[(&[4], &y)]).unwrap().to_bytes().unwrap();
        let text = String::from_utf8_lossy(&file);
        assert!(text.contains("progress_bits"), "{text}");
        // The same length, so that the header stays as long as it says.
        let old: Vec<u8> = replaced(&file, b"progress_bits", b"progress_were");
        let mut other = builder.build_cpu::<f64>().unwrap();
        let mut at = START;
        Checkpoint::from_bytes("old", old).unwrap().restore_host(&mut other, &mut [&mut at]).unwrap();
        close("an old file", other.progress(w).unwrap(), host.progress(w).unwrap(), 1e-6);
        let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
        optimizer.write_step_count(7).unwrap();
        let kept = pollster::block_on(optimizer.read_progress(w)).unwrap();
        close("a count", &wide(kept), host.progress(w).unwrap(), 1e-6);
        assert!(
            (host.progress(w).unwrap()[0] - package.weight_sum / (7_f64.powf(1.5) * 0.05_f64.powi(2))).abs() < 1e-9
        );
    }
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut out = bytes.to_vec();
    for at in 0..=bytes.len() - from.len() {
        if &bytes[at..at + from.len()] == from {
            out[at..at + from.len()].copy_from_slice(to);
        }
    }
    out
}
