//! The options around every rule: clips, loss scale, accumulation, averages, zeroed gradients, maximizing, frozen tensors. Every rule
//! with every feature, on the GPU and on the fast path, against the oracle with the same feature.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod bits;
    pub(crate) mod close;
    pub(crate) mod device;
    pub(crate) mod gpu;
    pub(crate) mod micro_batches;
    pub(crate) mod numbers;
    pub(crate) mod rates;
    pub(crate) mod step;
    pub(crate) mod wide;
}

use wgpu_optim::cpu::{self, Number};
use wgpu_optim::optim::procedure::spec::Feature;
use wgpu_optim::optim::procedure::{probes, refusal};
use wgpu_optim::optim::{ALL, Integrator, Rule, Value};
use wgpu_optim::{
    Accumulate, AdamW, Builder, Clip, Ema, Error, EvalRequest, FlowAdam, Group, LossScale, NoDecay, Optimizer, RowSet,
    SAdam, Schedule, Sgd, Stats, Storage, Tensor, VRAdam, wgpu,
};

use support::bits::bits;
use support::close::close;
use support::gpu::GPU;
use support::micro_batches;
use support::numbers::numbers;
use support::rates::two_rates;
use support::step::step;
use support::wide::wide;

/// Fails if a tensor is further from the expected numbers than a trajectory may be.
#[track_caller]
fn all_close(case: &str, got: &[Vec<f32>], want: &[Vec<f64>], path: &[Vec<f64>]) {
    assert_eq!(got.len(), want.len(), "{case}");
    for (t, ((got, want), path)) in got.iter().zip(want).zip(path).enumerate() {
        close(&format!("{case}: tensor {t}"), STEPS, got, want, path);
    }
}

/// Two groups: the first and the last tensor in one, the others in the second. Tails, an empty tensor, several chunks.
const LENGTHS: [usize; 5] = [1025, 3, 0, 700, 18];
const GROUPS: [usize; 5] = [0, 1, 1, 1, 0];
const MASKED: [usize; 2] = [0, 3];
const STEPS: u32 = 4;

fn flags(rows: usize) -> Vec<u32> {
    (0..rows as u32).map(|i| i % 3).collect()
}

/// Features of an optimizer, on the GPU and on the host.
#[derive(Clone, Copy, Debug, Default)]
struct Features {
    clip: Option<Clip>,
    scale: Option<LossScale>,
    skip: bool,
    accumulate: Option<Accumulate>,
    ema: Option<Ema>,
    maximize: bool,
    no_decay: bool,
    schedule: bool,
    /// Two of three elements of the first tensor and of the fourth.
    mask: bool,
    /// The storage of all tensors; f32 by default.
    storage: Option<&'static str>,
}

impl Features {
    fn all() -> Vec<(&'static str, Self)> {
        let none = Self::default();
        let scale = Some(LossScale { initial: 256.0, interval: 2, ..LossScale::default() });
        let ema = Some(Ema { decay: 0.9, warmup: true });
        let global = Some(Clip::GlobalNorm(3.0));
        let mean = Some(Accumulate::Mean(2));
        vec![
            ("none", none),
            ("global", Self { clip: global, ..none }),
            ("group", Self { clip: Some(Clip::GroupNorm(3.0)), ..none }),
            ("tensor", Self { clip: Some(Clip::TensorNorm(1.0)), ..none }),
            ("value", Self { clip: Some(Clip::Value(0.5)), ..none }),
            ("skip", Self { skip: true, ..none }),
            ("scale", Self { scale, ..none }),
            ("sum", Self { accumulate: Some(Accumulate::Sum), ..none }),
            ("ema", Self { ema, ..none }),
            ("maximize", Self { maximize: true, ..none }),
            ("mask", Self { mask: true, ..none }),
            ("mean", Self { accumulate: mean, ..none }),
            ("no_decay", Self { no_decay: true, ..none }),
            ("schedule", Self { schedule: true, ..none }),
            (
                "every",
                Self {
                    clip: global,
                    scale,
                    skip: true,
                    accumulate: mean,
                    ema,
                    maximize: true,
                    no_decay: true,
                    schedule: true,
                    mask: true,
                    storage: None,
                },
            ),
            ("tensor_scale", Self { clip: Some(Clip::TensorNorm(1.0)), scale, ..none }),
            ("every_group", Self { clip: Some(Clip::GroupNorm(3.0)), scale, accumulate: mean, ema, ..none }),
        ]
    }

    /// Sets the features in a builder, and returns the row sets of the masked tensors.
    fn describe(self, rule: &dyn Rule, builder: &mut Builder, second: Group, tensors: &[Tensor]) -> Vec<RowSet> {
        if let Some(clip) = self.clip {
            builder.clip(clip);
        }
        if let Some(scale) = self.scale {
            builder.loss_scale(scale);
        }
        if let Some(how) = self.accumulate {
            builder.accumulate(how);
        }
        if let Some(ema) = self.ema {
            builder.ema(ema);
        }
        if let Some(storage) = self.storage {
            builder.storage(storage.parse().unwrap());
        }
        builder.skip_nonfinite(self.skip);
        if self.maximize {
            builder.maximize(second);
        }
        if self.schedule {
            builder.schedule(second, schedule());
        }
        if self.no_decay && decays(rule) {
            builder.exclude_from_decay(second, no_decay()).unwrap();
        }
        let masked = MASKED.into_iter().filter(|_| self.mask);
        masked
            .map(|t| {
                let rows = builder.row_set(format!("rows of {t}"), &tensors[t..=t]);
                builder.mask(rows);
                rows
            })
            .collect()
    }

    /// The gradients of a step's micro-batches; the third step has one number that is not finite where steps may be left out.
    fn gradients(self, step: u32) -> Vec<Vec<Vec<f32>>> {
        let micro = if self.accumulate.is_some() { 2 } else { 1 };
        let scale = self.scale.map_or(1.0, |s| s.initial as f32);
        let mut batches: Vec<Vec<Vec<f32>>> = (0..micro)
            .map(|batch| {
                let of = |(t, n): (usize, &usize)| numbers(step * 100 + batch * 10 + t as u32, *n);
                LENGTHS.iter().enumerate().map(of).map(|g| g.iter().map(|g| g * scale).collect()).collect()
            })
            .collect();
        if step == 3 && (self.skip || self.scale.is_some()) {
            batches[0][4][17] = f32::NAN;
        }
        batches
    }
}

/// A tenth after the first step, and again after the third.
fn schedule() -> Schedule {
    "multi_step:milestones=1+3".parse().unwrap()
}

/// One of the second group's tensors.
fn no_decay() -> NoDecay {
    NoDecay::Names("*3".to_owned())
}

fn decays(rule: &dyn Rule) -> bool {
    rule.settings().iter().any(|(name, _)| *name == "weight_decay")
}

/// Two groups and five tensors with features: one description of the optimizers on the GPU and on the host.
struct Described {
    builder: Builder,
    tensors: Vec<Tensor>,
    masked: Vec<RowSet>,
}

impl Described {
    fn new(rule: &dyn Rule, features: Features) -> Self {
        let [first, second] = two_rates(rule);
        let mut builder = Optimizer::builder(first);
        builder.undamped_steps(true);
        let second = builder.group("second", second);
        let groups = [Group::DEFAULT, second];
        let tensor = |t: usize| {
            let shape = builder.sample_shape(groups[GROUPS[t]], LENGTHS[t]);
            builder.tensor(groups[GROUPS[t]], format!("t{t}"), &shape)
        };
        let tensors: Vec<Tensor> = (0..5).map(tensor).collect();
        let masked = features.describe(rule, &mut builder, second, &tensors);
        Self { builder, tensors, masked }
    }

    fn gpu(&self) -> Optimizer {
        let optimizer = self.builder.build(&GPU.device, &GPU.queue).unwrap();
        for (tensor, values) in self.tensors.iter().zip(start()) {
            optimizer.write_param(*tensor, &values).unwrap();
        }
        for (rows, t) in self.masked.iter().zip(MASKED) {
            optimizer.write_mask(*rows, &flags(LENGTHS[t])).unwrap();
        }
        optimizer
    }

    fn host<F: Number>(&self) -> cpu::Optimizer<F> {
        let mut optimizer = self.builder.build_cpu().unwrap();
        for (rows, t) in self.masked.iter().zip(MASKED) {
            optimizer.write_mask(*rows, &flags(LENGTHS[t])).unwrap();
        }
        optimizer
    }

    /// The same with everything in f32.
    fn in_f32(&self) -> Self {
        let mut builder = self.builder.clone();
        builder.storage(Storage::default());
        Self { builder, tensors: self.tensors.clone(), masked: self.masked.clone() }
    }
}

fn start() -> Vec<Vec<f32>> {
    LENGTHS.iter().enumerate().map(|(t, n)| numbers(t as u32 + 1000, *n)).collect()
}

fn on_gpu(rule: &dyn Rule, features: Features) -> (Optimizer, Vec<Tensor>) {
    let described = Described::new(rule, features);
    (described.gpu(), described.tensors)
}

fn run(case: &str, rule: &dyn Rule, features: Features) {
    let described = Described::new(rule, features);
    let (mut gpu, in_f32) = (described.gpu(), described.in_f32());
    let (mut fast, mut oracle) = (in_f32.host::<f32>(), in_f32.host::<f64>());
    let tensors = &described.tensors;
    let (mut p32, mut p64) = (start(), wide(&start()));
    let mut path: Vec<Vec<f64>> = LENGTHS.iter().map(|n| vec![0.0; *n]).collect();
    for step in 1..=STEPS {
        let batches = features.gradients(step);
        let before = p64.clone();
        micro_batches::on_host(&mut oracle, &mut p64, &batches);
        micro_batches::on_host(&mut fast, &mut p32, &batches);
        micro_batches::on_gpu(&mut gpu, tensors, &batches);
        for ((path, before), after) in path.iter_mut().flatten().zip(before.iter().flatten()).zip(p64.iter().flatten())
        {
            *path += (after - before).abs();
        }
    }
    let read = |tensor: &Tensor| pollster::block_on(gpu.read_param(*tensor)).unwrap();
    all_close(&format!("{case} gpu"), &tensors.iter().map(read).collect::<Vec<_>>(), &p64, &path);
    all_close(&format!("{case} fast"), &p32, &p64, &path);
    if features.ema.is_some() {
        let average = |tensor: &Tensor| pollster::block_on(gpu.read_state(*tensor, "ema")).unwrap();
        let want: Vec<Vec<f64>> = tensors.iter().map(|t| oracle.ema(*t).unwrap().to_vec()).collect();
        all_close(&format!("{case} gpu ema"), &tensors.iter().map(average).collect::<Vec<_>>(), &want, &path);
    }
    assert_eq!(pollster::block_on(gpu.read_step_count()).unwrap(), oracle.step_count(), "{case}: step count");
    assert_eq!(pollster::block_on(gpu.read_skipped()).unwrap(), oracle.skipped(), "{case}: skipped");
    assert_eq!(f64::from(pollster::block_on(gpu.read_loss_scale()).unwrap()), oracle.loss_scale(), "{case}: scale");
    assert!(path.iter().flatten().any(|x| *x > 0.0), "{case}: nothing moved");
}

#[test]
fn every_rule_with_every_feature_is_the_oracle() {
    for entry in ALL {
        let rule = entry.sample();
        // The sign of a momentum near zero is undefined: a clip by norm changes the momentum by a rounding error.
        for (name, features) in Features::all() {
            if entry.name == "lion" && features.clip.is_some_and(|c| !matches!(c, Clip::Value(_))) {
                continue;
            }
            let mask = features.mask && refusal(&rule.procedure(), rule.name(), Feature::Rows).is_none();
            // A rule with steps that do not count takes no schedule.
            let schedule = features.schedule && !rule.sums().may_hold;
            run(&format!("{}/{name}", entry.name), rule.as_ref(), Features { mask, schedule, ..features });
        }
    }
}

/// The rules with which the tests try the storages: one rule without sums, and one with sums.
fn stored_rules() -> [Box<dyn Rule>; 2] {
    ["adamw", "vradam"].map(|name| wgpu_optim::optim::find(name).unwrap().sample())
}

/// If the storage keeps full precision beside 16-bit parameters, every feature gives the results of f32, averages included.
#[test]
fn every_feature_with_full_precision_kept_is_the_oracle() {
    for rule in stored_rules() {
        for storage in ["bf16-split,grads=f32", "f16-master,grads=f32"] {
            for (name, features) in Features::all() {
                let mask = features.mask
                    && refusal(&rule.procedure(), rule.name(), Feature::Rows).is_none()
                    && !storage.contains("split");
                let features = Features { mask, storage: Some(storage), ..features };
                run(&format!("{} {storage}/{name}", rule.name()), rule.as_ref(), features);
            }
        }
    }
}

/// If the storage rounds, every feature gives the results of the host, which rounds in the same way. A number near the middle of two
/// stored numbers may round to either. Then this number, and the numbers that follow from it, are off by one place.
#[test]
fn every_feature_with_rounded_numbers_is_the_hosts() {
    for rule in stored_rules() {
        for storage in ["bf16-sr,states=bf16-sr", "f16-sr", "f16-master,8bit,min=0"] {
            for (name, features) in Features::all() {
                let mask = features.mask
                    && refusal(&rule.procedure(), rule.name(), Feature::Rows).is_none()
                    && storage == "f16-sr";
                let features = Features { mask, storage: Some(storage), ..features };
                run_rounded(&format!("{} {storage}/{name}", rule.name()), rule.as_ref(), features);
            }
        }
    }
}

fn run_rounded(case: &str, rule: &dyn Rule, features: Features) {
    let described = Described::new(rule, features);
    let (mut gpu, mut host, tensors) = (described.gpu(), described.host::<f32>(), &described.tensors);
    let mut params = start();
    host.store_params(&mut params.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
    let start = params.clone();
    for step in 1..=STEPS {
        let batches = features.gradients(step);
        micro_batches::on_host(&mut host, &mut params, &batches);
        micro_batches::on_gpu(&mut gpu, tensors, &batches);
    }
    let (mut other, mut off, mut way) = (0, 0.0, 0.0);
    for (t, tensor) in tensors.iter().enumerate() {
        let got = pollster::block_on(gpu.read_param(*tensor)).unwrap();
        for (i, ((got, want), start)) in got.iter().zip(&params[t]).zip(&start[t]).enumerate() {
            // The host's parameters are those that the model sees. The parameters in full precision lie within half a place of them.
            let place = want.abs() / 128.0;
            let error = (got - want).abs();
            assert!(error <= 2.0 * place + 0.1 * (want - start).abs(), "{case}: t{t} element {i}: {got}, host {want}");
            other += usize::from(error > place);
            off += f64::from(error);
            way += f64::from((want - start).abs());
        }
    }
    let count: usize = LENGTHS.iter().sum();
    assert!(other * 50 < count, "{case}: {other} of {count} are off by more than a place");
    println!("{case}: off by {off:.2e} in all of a way of {way:.2e}");
    assert_eq!(pollster::block_on(gpu.read_step_count()).unwrap(), host.step_count(), "{case}: step count");
    assert_eq!(pollster::block_on(gpu.read_skipped()).unwrap(), host.skipped(), "{case}: skipped");
}

/// Everything that a step could change.
fn everything(optimizer: &Optimizer, tensors: &[Tensor]) -> Vec<Vec<u32>> {
    let mut all = Vec::new();
    for tensor in tensors {
        all.push(bits(&pollster::block_on(optimizer.read_param(*tensor)).unwrap()));
        for state in optimizer.state_names(*tensor).unwrap() {
            if state != "gradient_accumulator" {
                all.push(bits(&pollster::block_on(optimizer.read_state(*tensor, state)).unwrap()));
            }
        }
    }
    all
}

#[test]
fn a_skipped_step_leaves_every_byte_and_the_next_is_right() {
    for entry in ALL {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let features = Features { skip: true, ..Features::default() };
            let (mut with, tensors) = on_gpu(entry.sample().as_ref(), features);
            let (mut without, others) = on_gpu(entry.sample().as_ref(), features);
            let gradients = |step| Features::default().gradients(step);
            micro_batches::on_gpu(&mut with, &tensors, &gradients(1));
            micro_batches::on_gpu(&mut without, &others, &gradients(1));
            let before = everything(&with, &tensors);
            let mut poisoned = gradients(2);
            // The last element of the last tensor.
            *poisoned[0].last_mut().unwrap().last_mut().unwrap() = bad;
            micro_batches::on_gpu(&mut with, &tensors, &poisoned);
            assert_eq!(everything(&with, &tensors), before, "{}: {bad} left a trace", entry.name);
            micro_batches::on_gpu(&mut with, &tensors, &gradients(5));
            micro_batches::on_gpu(&mut without, &others, &gradients(5));
            assert_eq!(everything(&with, &tensors), everything(&without, &others), "{}: the next step", entry.name);
            assert_eq!(pollster::block_on(with.read_skipped()).unwrap(), 1);
            assert_eq!(pollster::block_on(with.read_step_count()).unwrap(), 2);
        }
    }
}

#[test]
fn an_infinity_in_the_last_of_a_thousand_tensors_is_found() {
    let mut builder = Optimizer::builder(AdamW::default());
    let tensors: Vec<Tensor> = (0..1000).map(|t| builder.tensor(Group::DEFAULT, format!("t{t}"), &[7])).collect();
    builder.skip_nonfinite(true);
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    assert_eq!(optimizer.dispatches(), 3);
    let last = *tensors.last().unwrap();
    optimizer.write_param(tensors[0], &[1.0; 7]).unwrap();
    optimizer.write_grad(tensors[0], &[1.0; 7]).unwrap();
    optimizer.write_grad(last, &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, f32::INFINITY]).unwrap();
    GPU.run(|e| optimizer.step(e)).unwrap();
    assert_eq!(pollster::block_on(optimizer.read_skipped()).unwrap(), 1);
    assert_eq!(pollster::block_on(optimizer.read_param(tensors[0])).unwrap(), [1.0; 7]);
}

/// torch 2.15's GradScaler with the same settings and overflows: `init_scale=16, growth_factor=2, backoff_factor=0.5,
/// growth_interval=3`, non-finite at steps 4, 5 and 12.
#[test]
fn the_scale_doubles_and_halves_as_torch_does() {
    let torch = [16.0, 16.0, 32.0, 16.0, 8.0, 8.0, 8.0, 16.0, 16.0, 16.0, 32.0, 16.0, 16.0, 16.0, 32.0];
    let mut builder = Optimizer::builder(Sgd::default());
    let tensor = builder.tensor(Group::DEFAULT, "w", &[2]);
    builder.loss_scale(LossScale { initial: 16.0, interval: 3, ..LossScale::default() });
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    for (step, want) in (1..).zip(torch) {
        let bad = [4, 5, 12].contains(&step);
        optimizer.write_grad(tensor, &[1.0, if bad { f32::NAN } else { 1.0 }]).unwrap();
        GPU.run(|e| optimizer.step(e)).unwrap();
        assert_eq!(pollster::block_on(optimizer.read_loss_scale()).unwrap(), want, "after step {step}");
    }
}

/// One optimizer on the GPU and on the host, with the same parameters.
struct Both {
    gpu: Optimizer,
    host: cpu::Optimizer<f32>,
    tensors: Vec<Tensor>,
    params: Vec<Vec<f32>>,
}

impl Both {
    fn new(rule: impl Into<Box<dyn Rule>>, start: &[&[f32]], tell: impl FnOnce(&mut Builder)) -> Self {
        let mut builder = Optimizer::builder(rule);
        builder.undamped_steps(true);
        let add = |(t, values): (usize, &&[f32])| {
            builder.tensor(Group::DEFAULT, format!("t{t}"), &builder.sample_shape(Group::DEFAULT, values.len()))
        };
        let tensors: Vec<Tensor> = start.iter().enumerate().map(add).collect();
        tell(&mut builder);
        let (gpu, host) = (builder.build(&GPU.device, &GPU.queue).unwrap(), builder.build_cpu().unwrap());
        let params: Vec<Vec<f32>> = start.iter().map(|values| values.to_vec()).collect();
        for (tensor, values) in tensors.iter().zip(&params) {
            gpu.write_param(*tensor, values).unwrap();
        }
        Self { gpu, host, tensors, params }
    }

    /// A step of the given micro-batches. Afterwards parameters, states, counts and the loss scale of both must be the same.
    #[track_caller]
    fn step(&mut self, batches: &[&[&[f32]]]) -> &[Vec<f32>] {
        let batches: Vec<Vec<Vec<f32>>> =
            batches.iter().map(|batch| batch.iter().map(|g| g.to_vec()).collect()).collect();
        micro_batches::on_host(&mut self.host, &mut self.params, &batches);
        micro_batches::on_gpu(&mut self.gpu, &self.tensors, &batches);
        for (tensor, want) in self.tensors.iter().zip(&self.params) {
            same("parameters", &pollster::block_on(self.gpu.read_param(*tensor)).unwrap(), want);
            for name in self.host.state_names(*tensor).unwrap() {
                let got = pollster::block_on(self.gpu.read_state(*tensor, name)).unwrap();
                same(name, &got, self.host.state(*tensor, name).unwrap());
            }
        }
        assert_eq!(pollster::block_on(self.gpu.read_step_count()).unwrap(), self.host.step_count(), "step count");
        assert_eq!(pollster::block_on(self.gpu.read_skipped()).unwrap(), self.host.skipped(), "skipped");
        if self.gpu.loss_scale().is_some() {
            let scale = pollster::block_on(self.gpu.read_loss_scale()).unwrap();
            assert_eq!(f64::from(scale), self.host.loss_scale(), "scale");
        }
        &self.params
    }
}

/// The same numbers up to rounding, NaNs and infinities included.
#[track_caller]
fn same(what: &str, got: &[f32], want: &[f32]) {
    let near = |(got, want): (&f32, &f32)| {
        got == want || (got.is_nan() && want.is_nan()) || (got - want).abs() <= 4.0 * f32::EPSILON * want.abs()
    };
    assert!(got.len() == want.len() && got.iter().zip(want).all(near), "{what}: {got:?}, host {want:?}");
}

/// A scale that halves without end becomes 0, and its reciprocal infinite.
#[test]
fn a_loss_scale_backs_off_to_a_floor_and_the_next_good_step_is_right() {
    for (initial, floor) in [(65536.0, 2.0_f32.powi(-14)), (2.0_f64.powi(-40), 2.0_f32.powi(-40))] {
        let scale = LossScale { initial, ..LossScale::default() };
        let mut both = Both::new(Sgd { lr: 0.5, ..Sgd::default() }, &[&[1.0, 2.0]], |b| _ = b.loss_scale(scale));
        for _ in 0..5 {
            both.step(&[&[&[f32::NAN, 1.0]]]);
        }
        for _ in 0..45 {
            both.step(&[&[&[f32::INFINITY, 1.0]]]);
        }
        assert_eq!(both.host.loss_scale(), f64::from(floor));
        assert_eq!(both.step(&[&[&[floor, -floor]]]), [[0.5, 2.5]]);
        assert_eq!((both.host.step_count(), both.host.skipped()), (1, 50));
    }
}

#[test]
fn a_loss_scale_grows_to_a_ceiling() {
    let scale = LossScale { initial: 2.0_f64.powi(95), interval: 1, ..LossScale::default() };
    let mut both = Both::new(Sgd { lr: 0.5, ..Sgd::default() }, &[&[1.0]], |b| _ = b.loss_scale(scale));
    for step in 1..=4 {
        let scale = both.host.loss_scale() as f32;
        assert_eq!(both.step(&[&[&[-scale]]]), [[1.0 + 0.5 * step as f32]]);
    }
    assert_eq!(both.host.loss_scale(), 2.0_f64.powi(96));
}

/// The scaled gradients are finite, and the gradients that the rule would see are not.
#[test]
fn the_test_for_finite_numbers_reads_the_gradient_without_its_scale() {
    type Told = fn(&mut Builder);
    let told: [Told; 3] = [|_| (), |b| _ = b.clip(Clip::Value(1.0)), |b| _ = b.maximize(Group::DEFAULT)];
    for tell in told {
        let mut both = Both::new(Sgd { lr: 0.5, ..Sgd::default() }, &[&[1.0, 2.0]], |b| {
            b.loss_scale(LossScale::fixed(2.0_f64.powi(-20)));
            tell(b);
        });
        assert_eq!(both.step(&[&[&[1e36, 0.0]]]), [[1.0, 2.0]]);
        assert_eq!((both.host.step_count(), both.host.skipped()), (0, 1));
        assert_eq!(both.host.nonfinite().unwrap(), Some("t0"));
        assert_eq!(pollster::block_on(both.gpu.read_nonfinite()).unwrap(), Some("t0"));
        both.step(&[&[&[2.0_f32.powi(-20), 0.0]]]);
        assert_eq!((both.host.step_count(), both.host.skipped()), (1, 1));
    }
}

const NAN: f32 = f32::NAN;

/// Gradients without a norm: of a NaN, of an infinity, and of finite numbers with squares past f32's range.
const WITHOUT_NORM: [[&[f32]; 2]; 3] = [
    [&[NAN, 1.0, 2.0, 2.0], &[0.0, 0.0, 0.0, 0.5]],
    [&[f32::INFINITY, 1.0, 2.0, 2.0], &[0.0, 0.0, 0.0, 0.5]],
    [&[3e19, 4e19, 0.0, 1.0], &[0.0, 0.0, 0.0, 0.5]],
];

/// torch 2.15's `clip_grad_norm_` with the same gradients.
#[test]
fn no_step_is_unclipped_where_the_norm_is_not_finite() {
    let torch: [[&[f32]; 2]; 3] = [[&[NAN; 4], &[NAN; 4]], [&[NAN, 0.0, 0.0, 0.0], &[0.0; 4]], [&[0.0; 4], &[0.0; 4]]];
    let own: [&[f32]; 2] = [&[0.0; 4], &[0.0, 0.0, 0.0, -0.5]];
    let start: [&[f32]; 2] = [&[0.0; 4], &[0.0; 4]];
    for (gradients, want) in WITHOUT_NORM.iter().zip(torch) {
        for clip in [Clip::GlobalNorm(1.0), Clip::GroupNorm(1.0), Clip::TensorNorm(1.0)] {
            let case = format!("{gradients:?} {clip}");
            let want = [want[0], if matches!(clip, Clip::TensorNorm(_)) { own[1] } else { want[1] }];
            let sgd = || Sgd { lr: 1.0, ..Sgd::default() };
            let mut both = Both::new(sgd(), &start, |b| _ = b.clip(clip).telemetry(true));
            for (got, want) in both.step(&[gradients]).iter().zip(want) {
                same(&case, got, want);
            }
            let (gpu, host) = (both.gpu.try_stats().unwrap(), both.host.stats().unwrap());
            let numbers = |stats: &Stats| {
                let all = stats.tensors.iter().map(|t| t.norms).chain([stats.total]);
                all.flat_map(|n| [n.gradient as f32, n.clip as f32, n.nonfinite as f32]).collect::<Vec<_>>()
            };
            same(&case, &numbers(&gpu), &numbers(&host));
            assert_eq!((gpu.first_nonfinite(), host.first_nonfinite()), (Some("t0"), Some("t0")), "{case}");

            let mut both = Both::new(sgd(), &start, |b| _ = b.clip(clip).skip_nonfinite(true));
            assert_eq!(both.step(&[gradients]), start, "{case}");
            assert_eq!((both.host.step_count(), both.host.skipped()), (0, 1), "{case}");
            assert_eq!(both.host.nonfinite().unwrap(), Some("t0"), "{case}");
            assert_eq!(pollster::block_on(both.gpu.read_nonfinite()).unwrap(), Some("t0"), "{case}");
        }
    }
}

/// Rules with sums of their own read the clip factor in the sums too. Such a rule's sums carry a NaN to every tensor, with undefined
/// results, so these rules get only the finite gradients.
#[test]
fn every_rule_clips_a_norm_that_is_not_finite_alike_on_the_gpu_and_the_host() {
    for entry in ALL.iter().filter(|entry| probes(&entry.sample().procedure()) == 0) {
        let first = if entry.sample().sums().sums > 0 { 2 } else { 0 };
        for gradients in &WITHOUT_NORM[first..] {
            for clip in [Clip::GlobalNorm(1.0), Clip::GroupNorm(1.0), Clip::TensorNorm(1.0)] {
                println!("{} {clip} {gradients:?}", entry.name);
                let start: [&[f32]; 2] = [&[1.0, -2.0, 0.5, 3.0], &[0.25; 4]];
                let mut both = Both::new(entry.sample(), &start, |b| _ = b.clip(clip));
                both.step(&[&[&[0.5, -0.25, 1.0, 0.125], &[0.5, 0.25, -0.5, 1.0]]]);
                both.step(&[gradients]);
            }
        }
    }
}

#[test]
fn a_clip_by_value_keeps_a_nan() {
    let mut both = Both::new(Sgd { lr: 1.0, ..Sgd::default() }, &[&[0.0; 3]], |b| _ = b.clip(Clip::Value(0.5)));
    same("value", &both.step(&[&[&[NAN, f32::INFINITY, -3e38]]])[0], &[NAN, -0.5, 0.5]);
}

/// The gradients are finite, and their squares would make states infinite.
#[test]
fn skip_nonfinite_skips_gradients_with_squares_past_the_range() {
    for entry in ALL {
        for gradients in [[&[3e38_f32, 1.0][..], &[1.0]], [&[1.0, 2.0], &[-2e19]]] {
            println!("{} {gradients:?}", entry.name);
            let mut both = Both::new(entry.sample(), &[&[1.0, 2.0], &[3.0]], |b| _ = b.skip_nonfinite(true));
            let before = both.step(&[&[&[0.5, -0.25], &[1.0]]]).to_vec();
            assert_eq!(both.step(&[&gradients]), before);
            assert_eq!((both.host.step_count(), both.host.skipped()), (1, 1));
            let bad = if gradients[0][0] > 1.0 { "t0" } else { "t1" };
            assert_eq!(both.host.nonfinite().unwrap(), Some(bad));
            assert_eq!(pollster::block_on(both.gpu.read_nonfinite()).unwrap(), Some(bad));
            assert!(both.step(&[&[&[0.25, -0.5], &[1.0]]]).iter().flatten().all(|p| p.is_finite()));
            assert_eq!((both.host.step_count(), both.host.skipped()), (2, 1));
        }
    }
}

/// Micro-batches with these gradients of two numbers.
fn micro(gradients: &[[f32; 2]]) -> Vec<Vec<&[f32]>> {
    gradients.iter().map(|g| vec![&g[..]]).collect()
}

#[test]
fn a_window_that_ends_early_is_divided_by_its_own_count() {
    let windows: [&[[f32; 2]]; 5] = [
        &[[1.0, 2.0], [3.0, 4.0]],
        &[[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 1.0]],
        &[[0.5, -1.0]],
        &[[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0], [0.0, 5.0]],
        &[[1.0, 2.0], [2.0, 4.0], [3.0, 0.0]],
    ];
    type Case = (&'static str, fn(&mut Builder), f32);
    let cases: [Case; 4] = [
        ("mean", |_| (), 1.0),
        ("scale", |b| _ = b.loss_scale(LossScale::fixed(8.0)), 8.0),
        ("maximize", |b| _ = b.maximize(Group::DEFAULT), 1.0),
        ("zero_grad", |b| _ = b.zero_grad(true), 1.0),
    ];
    for (case, tell, scale) in cases {
        let sign = if case == "maximize" { -1.0 } else { 1.0 };
        let mut both = Both::new(Sgd { lr: 1.0, ..Sgd::default() }, &[&[0.0; 2]], |b| {
            b.accumulate(Accumulate::Mean(4)).telemetry(true);
            tell(b);
        });
        for window in windows {
            let scaled: Vec<[f32; 2]> = window.iter().map(|g| g.map(|g| scale * g)).collect();
            let mean = |i: usize| window.iter().map(|g| g[i]).sum::<f32>() / window.len() as f32;
            let want: Vec<f32> = both.params[0].iter().enumerate().map(|(i, p)| p - sign * mean(i)).collect();
            let batches = micro(&scaled);
            let got = &both.step(&batches.iter().map(Vec::as_slice).collect::<Vec<_>>())[0];
            same(case, got, &want);
            let norm = mean(0).hypot(mean(1));
            for stats in [both.gpu.try_stats().unwrap(), both.host.stats().unwrap()] {
                same(&format!("{case}: norm"), &[stats.total.gradient as f32], &[norm]);
            }
        }
    }
}

/// A clip takes the norm of the mean, a skipped step ends its window, and a sum stays a sum.
#[test]
fn a_clip_sees_the_mean_of_a_short_window_and_a_skipped_step_ends_it() {
    let sgd = || Sgd { lr: 1.0, ..Sgd::default() };
    let mean = |b: &mut Builder| _ = b.accumulate(Accumulate::Mean(4)).skip_nonfinite(true);
    let clips: [(Clip, &[f32]); 3] = [
        (Clip::GlobalNorm(1.0), &[-0.6, -0.8]),
        (Clip::TensorNorm(10.0), &[-3.0, -4.0]),
        (Clip::Value(3.5), &[-3.0, -3.5]),
    ];
    for (clip, want) in clips {
        let mut both = Both::new(sgd(), &[&[0.0; 2]], |b| {
            mean(b);
            b.clip(clip);
        });
        same("clip", &both.step(&[&[&[2.0, 3.0]], &[&[4.0, 5.0]]])[0], want);
    }
    let mut both = Both::new(sgd(), &[&[0.0; 2]], mean);
    assert_eq!(both.step(&[&[&[1.0, 1.0]], &[&[NAN, 1.0]], &[&[1.0, 1.0]]]), [[0.0; 2]]);
    assert_eq!(both.step(&[&[&[1.0, 2.0]], &[&[3.0, 4.0]]]), [[-2.0, -3.0]]);
    let mut both = Both::new(sgd(), &[&[0.0; 2]], |b| _ = b.accumulate(Accumulate::Sum));
    assert_eq!(both.step(&[&[&[1.0, 2.0]], &[&[3.0, 4.0]]]), [[-4.0, -6.0]]);
}

#[test]
fn a_micro_batch_in_a_dropped_encoder_does_not_count() {
    for dynamic in [false, true] {
        let mut both = Both::new(Sgd { lr: 1.0, ..Sgd::default() }, &[&[0.0; 2]], |b| {
            b.accumulate(Accumulate::Mean(4)).dynamic_gradients(dynamic);
        });
        let mut encoder = GPU.device.create_command_encoder(&Default::default());
        both.gpu.accumulate(&mut encoder).unwrap();
        drop(encoder);
        assert_eq!(both.step(&[&[&[1.0, 2.0]], &[&[3.0, 4.0]]]), [[-2.0, -3.0]]);
        assert_eq!(both.step(&[&[&[1.0, 2.0]]]), [[-3.0, -5.0]]);
    }
}

#[test]
fn gradients_are_zeroed_also_by_skipped_steps_and_guards_stay() {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let make = |label| {
        GPU.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: 64,
            usage,
            mapped_at_creation: false,
        })
    };
    for shared in [false, true] {
        let params = make("params");
        let grads = if shared { params.clone() } else { make("grads") };
        let offset = if shared { 32 } else { 0 };
        let mut builder = Optimizer::builder(AdamW::default());
        builder.bind(Group::DEFAULT, "w", &[5], params.slice(..20), grads.slice(offset..offset + 20));
        builder.zero_grad(true).skip_nonfinite(true);
        let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
        for bad in [false, true] {
            let mut gradient = [3.0_f32; 8];
            gradient[4] = if bad { f32::NAN } else { 2.0 };
            GPU.queue.write_buffer(&grads, offset, &gradient.map(f32::to_le_bytes).concat());
            GPU.run(|e| optimizer.step(e)).unwrap();
            let bytes =
                pollster::block_on(wgpu_optim::read_buffer(&GPU.device, &GPU.queue, grads.slice(offset..offset + 32)))
                    .unwrap();
            let after: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            assert_eq!(after, [0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 3.0, 3.0], "shared {shared}, skipped {bad}");
        }
    }
}

#[test]
fn tensors_without_decay_go_into_a_group_of_their_own() {
    let mut builder = Optimizer::builder(AdamW { weight_decay: 0.5, lr: 0.1, ..AdamW::default() });
    let before = builder.tensor(Group::DEFAULT, "a.bias", &[3]);
    let undecayed = builder.exclude_from_decay(Group::DEFAULT, NoDecay::Rank(1)).unwrap();
    let after = builder.tensor(Group::DEFAULT, "b.bias", &[3]);
    let weight = builder.tensor(Group::DEFAULT, "weight", &[3, 1]);
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    for tensor in [before, after, weight] {
        optimizer.write_param(tensor, &[1.0; 3]).unwrap();
    }
    GPU.run(|e| optimizer.step(e)).unwrap();
    let read = |t| pollster::block_on(optimizer.read_param(t)).unwrap();
    assert_eq!((read(before), read(after)), (vec![1.0; 3], vec![1.0; 3]));
    assert!(read(weight).iter().all(|x| (x - 0.95).abs() < 1e-6), "{:?}", read(weight));
    assert_eq!((optimizer.group_of(before).unwrap(), optimizer.group_of(weight).unwrap()), (undecayed, Group::DEFAULT));
    assert!(optimizer.groups().any(|(group, name)| group == undecayed && name == "default, no decay"));

    let mut builder = Optimizer::builder(wgpu_optim::ProxSgd::default());
    let error = builder.exclude_from_decay(Group::DEFAULT, NoDecay::Rank(1)).unwrap_err().to_string();
    assert!(error.contains("prox_sgd has no weight_decay"), "{error}");
}

#[test]
fn frozen_tensors_take_no_part() {
    let run = |freeze: bool| {
        let mut builder = Optimizer::builder(wgpu_optim::AdaiW::new(0.1));
        let a = builder.tensor(Group::DEFAULT, "a", &[10]);
        let b = freeze.then(|| builder.tensor(Group::DEFAULT, "b", &[1000]));
        if let Some(b) = b {
            builder.freeze(b);
        }
        let mut gpu = builder.build(&GPU.device, &GPU.queue).unwrap();
        let mut host = builder.build_cpu::<f32>().unwrap();
        let (mut params, mut grads) = (vec![numbers(1, 10)], vec![numbers(2, 10)]);
        if b.is_some() {
            params.push(vec![2.0; 1000]);
            grads.push(vec![f32::NAN; 1000]);
        }
        for ((tensor, p), g) in [Some(a), b].into_iter().flatten().zip(&params).zip(&grads) {
            gpu.write_param(tensor, p).unwrap();
            gpu.write_grad(tensor, g).unwrap();
        }
        GPU.run(|e| gpu.step(e)).unwrap();
        step(&mut host, &mut params, &grads);
        if let Some(b) = b {
            assert_eq!(pollster::block_on(gpu.read_param(b)).unwrap(), [2.0; 1000]);
            assert_eq!(params[1], [2.0; 1000]);
            assert!(gpu.state_names(b).unwrap().is_empty() && host.state_names(b).unwrap().is_empty());
        }
        assert_ne!(params[0], numbers(1, 10));
        [bits(&pollster::block_on(gpu.read_param(a)).unwrap()), bits(&params[0])]
    };
    assert_eq!(run(true), run(false));
}

/// If every tensor is frozen or empty, no step counts. If a row set may grow, steps count even while the set is empty.
#[test]
fn steps_of_nothing_do_not_count() {
    type Describe<'a> = &'a dyn Fn(&mut Builder) -> usize;
    let frozen = |builder: &mut Builder| {
        let w = builder.tensor(Group::DEFAULT, "w", &[3]);
        builder.freeze(w);
        3
    };
    let empty = |builder: &mut Builder| {
        builder.tensor(Group::DEFAULT, "w", &[0, 3]);
        0
    };
    let may_grow = |builder: &mut Builder| {
        let w = builder.tensor(Group::DEFAULT, "w", &[0, 3]);
        let set = builder.row_set("rows", &[w]);
        builder.row_capacity(set, 8);
        0
    };
    let cases: [(&str, Describe<'_>, u64); 3] =
        [("frozen", &frozen, 0), ("empty", &empty, 0), ("may grow", &may_grow, 2)];
    for (case, describe, steps) in cases {
        for rule in [AdamW::default().boxed(), VRAdam::default().boxed()] {
            let mut builder = Optimizer::builder(rule);
            let elements = describe(&mut builder);
            builder.schedule(Group::DEFAULT, "linear:steps=10".parse::<Schedule>().unwrap());
            let mut gpu = builder.build(&GPU.device, &GPU.queue).unwrap();
            let mut host = builder.build_cpu::<f32>().unwrap();
            let mut params = vec![vec![1.0; elements]];
            for _ in 0..2 {
                GPU.run(|e| gpu.step(e)).unwrap();
                step(&mut host, &mut params, &[vec![1.0; elements]]);
            }
            let on_gpu = pollster::block_on(gpu.read_step_count()).unwrap();
            assert_eq!((on_gpu, host.step_count()), (steps, steps), "{case}");
            assert_eq!(gpu.lr(Group::DEFAULT).unwrap(), host.lr(Group::DEFAULT).unwrap(), "{case}");
        }
    }
}

/// Parameters, states, averages, counts and telemetry, with NaN as every gradient of the frozen tensor.
#[test]
fn the_host_freezes_tensors_as_the_gpu_does() {
    for rule in stored_rules() {
        let case = rule.name();
        let clip = Some(Clip::GlobalNorm(3.0));
        let ema = Some(Ema { decay: 0.9, warmup: true });
        let features = Features { clip, ema, skip: true, ..Features::default() };
        let mut described = Described::new(rule.as_ref(), features);
        let frozen = described.tensors[3];
        described.builder.freeze(frozen).telemetry(true);
        let (mut gpu, mut fast, mut oracle) = (described.gpu(), described.host::<f32>(), described.host::<f64>());
        let (mut p32, mut p64) = (start(), wide(&start()));
        let mut path: Vec<Vec<f64>> = LENGTHS.iter().map(|n| vec![0.0; *n]).collect();
        for step in 1..=STEPS {
            let mut batches = features.gradients(step);
            batches[0][3].fill(f32::NAN);
            let before = p64.clone();
            micro_batches::on_host(&mut oracle, &mut p64, &batches);
            micro_batches::on_host(&mut fast, &mut p32, &batches);
            micro_batches::on_gpu(&mut gpu, &described.tensors, &batches);
            let moved = before.iter().flatten().zip(p64.iter().flatten()).map(|(before, after)| (after - before).abs());
            path.iter_mut().flatten().zip(moved).for_each(|(path, moved)| *path += moved);
        }
        let read = |tensor: &Tensor| pollster::block_on(gpu.read_param(*tensor)).unwrap();
        let params: Vec<Vec<f32>> = described.tensors.iter().map(read).collect();
        all_close(&format!("{case} gpu"), &params, &p64, &path);
        all_close(&format!("{case} fast"), &p32, &p64, &path);
        assert_eq!((&params[3], &p32[3], &p64[3]), (&start()[3], &start()[3], &wide(&start())[3]), "{case}: it moved");
        assert!(path[0].iter().all(|way| *way > 0.0), "{case}: the others did not");
        for (t, tensor) in described.tensors.iter().enumerate() {
            let names = oracle.state_names(*tensor).unwrap();
            assert_eq!(names.is_empty(), *tensor == frozen, "{case}: states of t{t}");
            let average = (*tensor != frozen).then_some("ema");
            let kept: Vec<&str> = names.iter().copied().chain(average).collect();
            assert_eq!(gpu.state_names(*tensor).unwrap(), kept, "{case}: states of t{t}");
            assert_eq!(fast.state_names(*tensor).unwrap(), names, "{case}: states of t{t}");
            for name in names {
                let want = oracle.state(*tensor, name).unwrap();
                let largest = want.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
                let scale: Vec<f64> = want.iter().map(|x| x.abs() + 1e-3 * largest).collect();
                let got = pollster::block_on(gpu.read_state(*tensor, name)).unwrap();
                close(&format!("{case} gpu {name} of t{t}"), STEPS, &got, want, &scale);
                let got = fast.state(*tensor, name).unwrap();
                close(&format!("{case} fast {name} of t{t}"), STEPS, got, want, &scale);
            }
            if average.is_some() {
                let want = oracle.ema(*tensor).unwrap();
                let got = pollster::block_on(gpu.read_state(*tensor, "ema")).unwrap();
                close(&format!("{case} gpu average of t{t}"), STEPS, &got, want, &path[t]);
                close(&format!("{case} fast average of t{t}"), STEPS, fast.ema(*tensor).unwrap(), want, &path[t]);
            }
        }
        assert!(pollster::block_on(gpu.read_state(frozen, "ema")).is_err());
        let error = oracle.ema(frozen).unwrap_err().to_string();
        assert!(error.contains("`t3`") && error.contains("frozen"), "{error}");
        assert_eq!((oracle.step_count(), oracle.skipped()), (u64::from(STEPS) - 1, 1), "{case}");
        assert_eq!(pollster::block_on(gpu.read_step_count()).unwrap(), oracle.step_count(), "{case}: step count");
        assert_eq!(pollster::block_on(gpu.read_skipped()).unwrap(), oracle.skipped(), "{case}: skipped");
        for stats in [gpu.try_stats().unwrap(), oracle.stats().unwrap()] {
            let norms = stats.tensors[3].norms;
            let measured = [norms.gradient, norms.parameter, norms.update];
            assert_eq!((measured, norms.nonfinite), ([0.0; 3], 0), "{case}: a frozen tensor is not measured");
        }
    }
}

/// The objective sees the whole frozen tensor. The step equals the step of an optimizer without this tensor.
#[test]
fn steps_that_evaluate_leave_frozen_tensors() {
    const ANCHOR: [f64; 4] = [0.5, -1.0, 2.0, 0.25];
    let flow = FlowAdam { integrator: Integrator::Rk4, ode_t_scale: Some(20.0), warmup: 1, ..FlowAdam::default() };
    let rules: [Box<dyn Rule>; 4] = [
        AdamW { lr: 0.03, weight_decay: 0.1, ..AdamW::default() }.into(),
        VRAdam { lr: 0.03, ..VRAdam::default() }.into(),
        SAdam { lr: 0.03, k: 3, sigma: 0.3, ..SAdam::default() }.into(),
        FlowAdam { lr: 0.03, ..flow }.into(),
    ];
    for rule in rules {
        let run = |freeze: bool| {
            let mut builder = Optimizer::builder(rule.clone());
            let w = builder.tensor(Group::DEFAULT, "w", &[4]);
            let anchor = freeze.then(|| builder.tensor(Group::DEFAULT, "anchor", &[4]));
            if let Some(anchor) = anchor {
                builder.freeze(anchor);
            }
            let mut host = builder.build_cpu::<f64>().unwrap();
            let mut params = vec![vec![1.0, -2.0, 0.0, 3.0]];
            params.extend(freeze.then(|| ANCHOR.to_vec()));
            let mut grads = params.clone();
            for _ in 0..5 {
                let mut params: Vec<&mut [f64]> = params.iter_mut().map(Vec::as_mut_slice).collect();
                let mut grads: Vec<&mut [f64]> = grads.iter_mut().map(Vec::as_mut_slice).collect();
                let objective = |request, params: &[&[f64]], grads: &mut [&mut [f64]]| {
                    assert_eq!((params.len(), grads.len()), (1 + usize::from(freeze), 1 + usize::from(freeze)));
                    let anchor = if freeze { params[1] } else { &ANCHOR };
                    let off: Vec<f64> = params[0].iter().zip(anchor).map(|(p, a)| p - a).collect();
                    if request == EvalRequest::Gradient {
                        grads[0].copy_from_slice(&off);
                        grads.iter_mut().skip(1).for_each(|g| g.copy_from_slice(&[f64::NAN; 4]));
                    }
                    Ok(off.iter().map(|x| x * x / 2.0).sum())
                };
                host.step_with(&mut params, &mut grads, objective).unwrap();
            }
            if let Some(anchor) = anchor {
                assert_eq!(params[1], ANCHOR, "{}", rule.name());
                assert!(host.state_names(anchor).unwrap().is_empty());
            }
            let names = host.state_names(w).unwrap();
            let states: Vec<Vec<f64>> = names.iter().map(|name| host.state(w, name).unwrap().to_vec()).collect();
            let globals = (host.global_state_values().to_vec(), host.totals().to_vec());
            (params.swap_remove(0), states, globals, host.step_count(), host.evaluations())
        };
        let with = run(true);
        assert_eq!(with, run(false), "{}", rule.name());
        assert!(with.0.iter().zip([1.0, -2.0, 0.0, 3.0]).all(|(p, start)| *p != start), "{}", rule.name());
    }
}

/// A frozen tensor has no state, no average and no array with its full precision, in a checkpoint of the GPU and of the host.
#[cfg(feature = "checkpoint")]
#[test]
fn checkpoints_with_frozen_tensors_go_between_the_gpu_and_the_host() {
    use wgpu_optim::checkpoint::Checkpoint;
    for storage in ["f32", "bf16-split,grads=f32", "bf16-master,grads=f32"] {
        let mut builder = Optimizer::builder(AdamW { lr: 0.1, ..AdamW::default() });
        let w = builder.tensor(Group::DEFAULT, "w", &[4]);
        let frozen = builder.tensor(Group::DEFAULT, "frozen", &[5]);
        builder.freeze(frozen).ema(Ema::default()).storage(storage.parse().unwrap());
        let (mut gpu, mut host) =
            (builder.build(&GPU.device, &GPU.queue).unwrap(), builder.build_cpu::<f32>().unwrap());
        let mut params = vec![vec![1.0, -2.0, 0.5, 3.0], vec![1.0, -4.0, 0.5, 2.0, -0.25]];
        host.store_params(&mut params.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
        step(&mut host, &mut params, &[vec![0.1, -0.2, 0.3, 0.4], vec![f32::NAN; 5]]);
        let shaped = [(&[4][..], params[0].as_slice()), (&[5], params[1].as_slice())];
        Checkpoint::of_host(&host, &shaped).unwrap().restore(&mut gpu).unwrap();
        assert_eq!(pollster::block_on(gpu.read_param(frozen)).unwrap(), params[1], "{storage}");
        let m = pollster::block_on(gpu.read_state(w, "m")).unwrap();
        assert_eq!(bits(&m), bits(host.state(w, "m").unwrap()), "{storage}");

        let mut encoder = GPU.device.create_command_encoder(&Default::default());
        let snapshot = gpu.snapshot(&mut encoder).unwrap();
        GPU.queue.submit([encoder.finish()]);
        let checkpoint = pollster::block_on(snapshot.checkpoint()).unwrap();
        let (mut other, mut back) = (builder.build_cpu::<f32>().unwrap(), vec![vec![0.0; 4], vec![0.0; 5]]);
        let mut slices: Vec<&mut [f32]> = back.iter_mut().map(Vec::as_mut_slice).collect();
        checkpoint.restore_host(&mut other, &mut slices).unwrap();
        assert_eq!(back, params, "{storage}");
        assert_eq!(other.ema(w).unwrap(), host.ema(w).unwrap(), "{storage}");
    }
}

#[test]
fn the_average_swaps_in_and_out() {
    let features = Features { ema: Some(Ema::default()), ..Features::default() };
    let (mut optimizer, tensors) = on_gpu(&AdamW::default(), features);
    let read = |optimizer: &Optimizer| pollster::block_on(optimizer.read_param(tensors[0])).unwrap();
    let start = read(&optimizer);
    GPU.run(|e| optimizer.swap_ema(e)).unwrap();
    assert_eq!(read(&optimizer), start, "there is no average before the first step");
    for step in 1..4 {
        micro_batches::on_gpu(&mut optimizer, &tensors, &features.gradients(step));
    }
    let (weights, average) = (read(&optimizer), pollster::block_on(optimizer.read_state(tensors[0], "ema")).unwrap());
    assert_ne!(weights, average);
    GPU.run(|e| optimizer.swap_ema(e)).unwrap();
    assert_eq!(read(&optimizer), average);
    GPU.run(|e| optimizer.swap_ema(e)).unwrap();
    assert_eq!(read(&optimizer), weights);
}

#[test]
fn a_clip_set_between_two_steps_of_one_encoder_holds_for_the_second() {
    let mut builder = Optimizer::builder(Sgd { lr: 1.0, ..Sgd::default() });
    let tensor = builder.tensor(Group::DEFAULT, "w", &[1]);
    builder.clip(Clip::Value(2.0));
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    optimizer.write_grad(tensor, &[10.0]).unwrap();
    GPU.run(|e| {
        optimizer.step(e)?;
        optimizer.set_clip(0.5)?;
        optimizer.step(e)
    })
    .unwrap();
    assert_eq!(pollster::block_on(optimizer.read_param(tensor)).unwrap(), [-2.5]);
    assert!(optimizer.set_clip(f64::NAN).is_err());
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let refused = |change: &dyn Fn(&mut Builder)| {
        let mut builder = Optimizer::builder(AdamW::default());
        builder.tensor(Group::DEFAULT, "w", &[1]);
        change(&mut builder);
        match (builder.build(&GPU.device, &GPU.queue), builder.build_cpu::<f32>()) {
            (Err(Error::Usage(text)), Err(Error::Usage(host))) => {
                assert_eq!(host, text, "the host");
                text
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(&|b| _ = b.clip(Clip::GlobalNorm(0.0))).contains("clip is 0"));
    assert!(refused(&|b| _ = b.clip(Clip::Value(f64::NAN))).contains("clip is NaN"));
    assert!(refused(&|b| _ = b.loss_scale(LossScale::fixed(-1.0))).contains("loss scale is -1"));
    for scale in [0.0, 1e-39, 1e-30, 1e29, 3e38, f64::INFINITY, f64::NAN] {
        assert!(
            refused(&|b| _ = b.loss_scale(LossScale::fixed(scale)))
                .contains(&format!("loss scale is {}", Value::Number(scale)))
        );
    }
    assert!(refused(&|b| _ = b.loss_scale(LossScale { interval: 0, ..LossScale::default() })).contains("interval"));
    assert!(refused(&|b| _ = b.ema(Ema { decay: 1.0, warmup: false })).contains("average is 1"));
    assert!(refused(&|b| _ = b.accumulate(Accumulate::Mean(0))).contains("micro-batches is 0"));
}

/// A builder with one of everything that has a handle, and these handles.
struct Handles {
    builder: Builder,
    group: Group,
    tensor: Tensor,
    rows: RowSet,
}

impl Handles {
    fn new() -> Self {
        let mut builder = Optimizer::builder(AdamW::default());
        let group = builder.group("second", AdamW::default());
        let tensor = builder.tensor(group, "w", &[4, 2]);
        let rows = builder.row_set("rows", &[tensor]);
        builder.mask(rows).row_capacity(rows, 4).column_rates(tensor, &[1.0; 2]);
        builder.dynamic_gradients(true).accumulate(Accumulate::Sum).ema(Ema::default());
        Self { builder, group, tensor, rows }
    }

    /// Handles that this builder did not make: those of another builder at the same places, those that a clone added, and those of
    /// another builder at the places of these.
    fn foreign(&self) -> [(Group, Tensor, RowSet); 3] {
        let other = Self::new();
        let mut clone = self.builder.clone();
        let group = clone.group("third", AdamW::default());
        let tensor = clone.tensor(group, "of the clone", &[4, 2]);
        let past = (group, tensor, clone.row_set("rows of the clone", &[tensor]));
        let mut more = Self::new();
        let group = more.builder.group("third", AdamW::default());
        let tensor = more.builder.tensor(group, "w2", &[4, 2]);
        let rows = more.builder.row_set("rows 2", &[tensor]);
        [(other.group, other.tensor, other.rows), past, (group, tensor, rows)]
    }
}

#[track_caller]
fn foreign<T>(method: &str, kind: &str, result: wgpu_optim::Result<T>) {
    let Err(error) = result else { panic!("{method} takes the handle of another optimizer") };
    let (text, want) = (error.to_string(), format!("the handle of a {kind} belongs to another optimizer"));
    assert!(text.contains(&want), "{method}: {text}");
}

#[test]
fn the_gpus_optimizer_takes_no_handle_of_another() {
    let ours = Handles::new();
    let mut gpu = ours.builder.build(&GPU.device, &GPU.queue).unwrap();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let words = GPU.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("words"),
        size: 32,
        usage,
        mapped_at_creation: false,
    });
    let value = wgpu_optim::optim::Value::Number(0.1);
    let schedule: Schedule = "constant:base=0.1".parse().unwrap();
    for (group, tensor, rows) in ours.foreign() {
        foreign("rule", "group", gpu.rule(group));
        foreign("schedule", "group", gpu.schedule(group, "lr"));
        foreign("lr", "group", gpu.lr(group));
        foreign("set_lr", "group", gpu.set_lr(group, 0.1));
        foreign("set_rule", "group", gpu.set_rule(group, AdamW::default()));
        foreign("set", "group", gpu.set(group, "lr", &value));
        foreign("set_all", "group", gpu.set_all(group, [("lr", &value)]));
        foreign("apply", "group", schedule.apply(&mut gpu, group, 0));
        foreign("apply_to", "group", schedule.apply_to(&mut gpu, group, "lr", 0));
        foreign("group_of", "tensor", gpu.group_of(tensor));
        foreign("param", "tensor", gpu.param(tensor));
        foreign("grad", "tensor", gpu.grad(tensor));
        foreign("read_param", "tensor", pollster::block_on(gpu.read_param(tensor)));
        foreign("read_grad", "tensor", pollster::block_on(gpu.read_grad(tensor)));
        foreign("write_param", "tensor", gpu.write_param(tensor, &[1.0; 8]));
        foreign("write_grad", "tensor", gpu.write_grad(tensor, &[1.0; 8]));
        foreign("state_names", "tensor", gpu.state_names(tensor));
        foreign("read_state", "tensor", pollster::block_on(gpu.read_state(tensor, "m")));
        foreign("write_state", "tensor", gpu.write_state(tensor, "m", &[1.0; 8]));
        foreign("read_decision", "tensor", pollster::block_on(gpu.read_decision(tensor)));
        foreign("read_warp", "tensor", pollster::block_on(gpu.read_warp(tensor)));
        foreign("write_warp", "tensor", gpu.write_warp(tensor, &[1.0; 8]));
        foreign("set_column_rates", "tensor", gpu.set_column_rates(tensor, &[1.0; 2]));
        let mut encoder = GPU.device.create_command_encoder(&Default::default());
        let e = &mut encoder;
        foreign("step_with_grads", "tensor", gpu.step_with_grads(e, [(tensor, words.slice(..))]));
        foreign("accumulate_with_grads", "tensor", gpu.accumulate_with_grads(e, [(tensor, words.slice(..))]));
        foreign("reset_states", "tensor", gpu.reset_states(e, &[ours.tensor, tensor]));
        foreign("row_count", "row set", gpu.row_count(rows));
        foreign("row_capacity", "row set", gpu.row_capacity(rows));
        foreign("set_row_count", "row set", gpu.set_row_count(rows, 4));
        foreign("mask", "row set", gpu.mask(rows));
        foreign("write_mask", "row set", gpu.write_mask(rows, &[0; 4]));
        foreign("remap", "row set", gpu.remap(e, rows, words.slice(..), 4));
        foreign("reset_rows", "row set", gpu.reset_rows(e, rows, words.slice(..)));
    }
    GPU.run(|e| gpu.step(e)).unwrap();
    assert_eq!(pollster::block_on(gpu.read_param(ours.tensor)).unwrap(), [0.0; 8], "nothing was written");
}

#[test]
fn the_hosts_optimizer_takes_no_handle_of_another() {
    let ours = Handles::new();
    let mut host = ours.builder.build_cpu::<f32>().unwrap();
    let value = wgpu_optim::optim::Value::Number(0.1);
    let mut params = vec![0.0; 8];
    for (group, tensor, rows) in ours.foreign() {
        foreign("rule", "group", host.rule(group));
        foreign("schedule", "group", host.schedule(group, "lr"));
        foreign("lr", "group", host.lr(group));
        foreign("set_lr", "group", host.set_lr(group, 0.1));
        foreign("set_rule", "group", host.set_rule(group, AdamW::default()));
        foreign("set", "group", host.set(group, "lr", &value));
        foreign("set_all", "group", host.set_all(group, [("lr", &value)]));
        foreign("group_of", "tensor", host.group_of(tensor));
        foreign("state_names", "tensor", host.state_names(tensor));
        foreign("state", "tensor", host.state(tensor, "m"));
        foreign("state_mut", "tensor", host.state_mut(tensor, "m"));
        foreign("decision", "tensor", host.decision(tensor, "damp"));
        foreign("ema", "tensor", host.ema(tensor));
        foreign("warp", "tensor", host.warp(tensor));
        foreign("set_warp", "tensor", host.set_warp(tensor, &[1.0; 8]));
        foreign("set_column_rates", "tensor", host.set_column_rates(tensor, &[1.0; 2]));
        foreign("reset_states", "tensor", host.reset_states(tensor, &[1.0; 8]));
        foreign("row_count", "row set", host.row_count(rows));
        foreign("write_mask", "row set", host.write_mask(rows, &[0; 4]));
        foreign("remap", "row set", host.remap(rows, &[0; 4], &mut [&mut params]));
        foreign("reset_rows", "row set", host.reset_rows(rows, &[1; 4], &[&[0.0; 8]]));
    }
}

#[test]
fn the_builder_takes_no_handle_of_another() {
    let page = GPU.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("page"),
        size: 64,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    type Told<H> = (&'static str, fn(&mut Builder, H, &wgpu::Buffer));
    let groups: [Told<Group>; 7] = [
        ("tensor", |b, group, _| _ = b.tensor(group, "x", &[8])),
        ("tensors", |b, group, _| _ = b.tensors(group, [("x", [8])])),
        ("bind", |b, group, page| _ = b.bind(group, "x", &[8], page.slice(..32), page.slice(32..))),
        ("bind_param", |b, group, page| _ = b.bind_param(group, "x", &[8], page.slice(..32))),
        ("maximize", |b, group, _| _ = b.maximize(group)),
        ("schedule", |b, group, _| _ = b.schedule(group, schedule())),
        ("schedule_setting", |b, group, _| _ = b.schedule_setting(group, "weight_decay", schedule())),
    ];
    let tensors: [Told<Tensor>; 5] = [
        ("freeze", |b, tensor, _| _ = b.freeze(tensor)),
        ("tensor_storage", |b, tensor, _| _ = b.tensor_storage(tensor, Storage::default())),
        ("row_set", |b, tensor, _| _ = b.row_set("x", &[tensor])),
        ("column_rates", |b, tensor, _| _ = b.column_rates(tensor, &[1.0; 2])),
        ("share_second_moment", |b, tensor, _| _ = b.share_second_moment(tensor)),
    ];
    let sets: [Told<RowSet>; 4] = [
        ("row_capacity", |b, rows, _| _ = b.row_capacity(rows, 9)),
        ("mask", |b, rows, _| _ = b.mask(rows)),
        ("mask_in", |b, rows, page| _ = b.mask_in(rows, page.slice(..16))),
        ("skip_zero_gradients", |b, rows, _| _ = b.skip_zero_gradients(rows)),
    ];
    let refused = |method: &str, kind: &str, builder: &Builder| {
        foreign(method, kind, builder.build(&GPU.device, &GPU.queue));
        foreign(method, kind, builder.build_cpu::<f32>());
    };
    let ours = Handles::new();
    for (group, tensor, rows) in ours.foreign() {
        for (method, tell) in groups {
            let mut builder = ours.builder.clone();
            tell(&mut builder, group, &page);
            refused(method, "group", &builder);
        }
        for (method, tell) in tensors {
            let mut builder = ours.builder.clone();
            tell(&mut builder, tensor, &page);
            refused(method, "tensor", &builder);
        }
        for (method, tell) in sets {
            let mut builder = ours.builder.clone();
            tell(&mut builder, rows, &page);
            refused(method, "row set", &builder);
        }
        foreign("exclude_from_decay", "group", ours.builder.clone().exclude_from_decay(group, NoDecay::Rank(1)));
    }
}

#[test]
fn the_handles_of_a_builder_are_those_of_all_that_it_builds() {
    let mut ours = Handles::new();
    let mut clone = ours.builder.clone();
    // Two tensors at the same place.
    let added = clone.tensor(ours.group, "added", &[3]);
    let own = ours.builder.tensor(ours.group, "own", &[3]);
    foreign("freeze", "tensor", ours.builder.clone().freeze(added).build_cpu::<f32>());
    foreign("freeze", "tensor", clone.clone().freeze(own).build_cpu::<f32>());
    let gpus = [(), ()].map(|()| ours.builder.build(&GPU.device, &GPU.queue).unwrap());
    for (k, gpu) in gpus.iter().enumerate() {
        assert_eq!((gpu.tensor("w").unwrap(), gpu.row_set("rows").unwrap()), (ours.tensor, ours.rows));
        assert_eq!(gpu.group_of(ours.tensor).unwrap(), ours.group);
        gpu.write_param(ours.tensor, &[k as f32 + 1.0; 8]).unwrap();
        assert!(gpu.param(own).is_ok());
        foreign("param", "tensor", gpu.param(added));
    }
    for (k, gpu) in gpus.iter().enumerate() {
        assert_eq!(pollster::block_on(gpu.read_param(ours.tensor)).unwrap(), [k as f32 + 1.0; 8], "each has its own");
    }
    let hosts = [(), ()].map(|()| ours.builder.build_cpu::<f32>().unwrap());
    for host in &hosts {
        assert_eq!((host.tensor("w").unwrap(), host.row_set("rows").unwrap()), (ours.tensor, ours.rows));
        assert_eq!(host.group_of(ours.tensor).unwrap(), ours.group);
        assert!(host.state(own, "m").is_ok());
        foreign("state", "tensor", host.state(added, "m"));
    }
    // Tensors that the clone shares with the builder have the same handles.
    let both = clone.build_cpu::<f32>().unwrap();
    assert_eq!(both.state(ours.tensor, "m").unwrap().len(), 8);
    assert_eq!(both.state(added, "m").unwrap().len(), 3);
    foreign("state", "tensor", both.state(own, "m"));
}

#[test]
fn a_builder_without_a_tensor_is_refused() {
    let builder = Optimizer::builder(AdamW::default());
    for error in [builder.build(&GPU.device, &GPU.queue).map(drop), builder.build_cpu::<f32>().map(drop)] {
        let text = error.unwrap_err().to_string();
        assert!(text.contains("has no tensor"), "{text}");
    }
}

#[test]
fn a_pattern_that_fits_no_tensor_is_refused() {
    let build = |pattern: &str| {
        let mut builder = Optimizer::builder(AdamW { weight_decay: 0.1, ..AdamW::default() });
        let second = builder.group("second", AdamW::default());
        builder.tensor(Group::DEFAULT, "a.bias", &[3]);
        builder.exclude_from_decay(Group::DEFAULT, NoDecay::Names(pattern.to_owned())).unwrap();
        builder.tensor(Group::DEFAULT, "norm.scale", &[3]);
        builder.tensor(second, "other.weight", &[3]);
        let gpu = builder.build(&GPU.device, &GPU.queue).map(drop).map_err(|error| error.to_string());
        assert_eq!(builder.build_cpu::<f32>().map(drop).map_err(|error| error.to_string()), gpu);
        gpu
    };
    for fits in ["*.bias", "norm*", "*"] {
        assert_eq!(build(fits), Ok(()), "{fits}");
    }
    // The last pattern fits only a tensor of another group.
    for none in ["*.biass", "bias", "norm", "other*"] {
        let text = build(none).unwrap_err();
        assert!(text.contains(&format!("`{none}`")) && text.contains("group `default`"), "{text}");
    }
}

/// The test trains with `Sgd` at rate 1 and gradients of 1, so that three steps lead from 0 to -3.
#[cfg(feature = "checkpoint")]
#[test]
fn steps_from_the_average_are_refused_and_a_file_records_the_swap() {
    use wgpu_optim::checkpoint::Checkpoint;
    let mut builder = Optimizer::builder(Sgd { lr: 1.0, ..Sgd::default() });
    let w = builder.tensor(Group::DEFAULT, "w", &[1]);
    builder.ema(Ema { decay: 0.5, warmup: false }).accumulate(Accumulate::Sum);
    let build = || builder.build(&GPU.device, &GPU.queue).unwrap();
    let value = |optimizer: &Optimizer| pollster::block_on(optimizer.read_param(w)).unwrap()[0];
    let refused = |optimizer: &mut Optimizer| {
        let calls: [fn(&mut Optimizer, &mut wgpu::CommandEncoder) -> wgpu_optim::Result<()>; 4] = [
            |o, e| o.step(e),
            |o, e| o.step_with(e, |_, _, _| Ok(())),
            |o, e| o.accumulate(e),
            |o, e| o.record_sums(e),
        ];
        for call in calls {
            let error = GPU.run(|e| call(optimizer, e)).unwrap_err().to_string();
            assert!(error.contains("the average of the weights is swapped in: call swap_ema first"), "{error}");
        }
    };
    let mut optimizer = build();
    optimizer.write_grad(w, &[1.0]).unwrap();
    GPU.run(|e| (0..3).try_for_each(|_| optimizer.step(e))).unwrap();
    // An encoder that is dropped swaps nothing.
    optimizer.swap_ema(&mut GPU.device.create_command_encoder(&Default::default())).unwrap();
    GPU.run(|e| optimizer.swap_ema(e)).unwrap();
    assert_eq!(value(&optimizer), -2.125);
    refused(&mut optimizer);
    let mut encoder = GPU.device.create_command_encoder(&Default::default());
    let snapshot = optimizer.snapshot(&mut encoder).unwrap();
    GPU.queue.submit([encoder.finish()]);
    let bytes = pollster::block_on(snapshot.checkpoint()).unwrap().to_bytes().unwrap();
    let file = Checkpoint::from_bytes("file", bytes).unwrap();
    let mut resumed = build();
    resumed.write_grad(w, &[1.0]).unwrap();
    file.restore(&mut resumed).unwrap();
    refused(&mut resumed);
    for optimizer in [&mut optimizer, &mut resumed] {
        GPU.run(|e| optimizer.swap_ema(e)).unwrap();
        assert_eq!(value(optimizer), -3.0);
        GPU.run(|e| optimizer.step(e)).unwrap();
        assert_eq!(value(optimizer), -4.0);
    }
    // The host has no swap_ema with which it could leave the average.
    let mut host = builder.build_cpu::<f32>().unwrap();
    let error = file.restore_host(&mut host, &mut [&mut [0.0]]).unwrap_err().to_string();
    assert!(error.contains("no swap_ema"), "{error}");
}
