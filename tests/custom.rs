//! Rules of the user's own: the same results as the crate's, every mistake with its place, and no text that crashes the checks.

mod support {
    pub(crate) mod device;
    pub(crate) mod gpu;
    pub(crate) mod handle;
    pub(crate) mod host;
    pub(crate) mod numbers;
    pub(crate) mod snapshot;
}

use proptest::prelude::*;
use wgpu_optim::checkpoint::Checkpoint;
use wgpu_optim::optim::{CustomCpu, CustomRule, Range, Scalar, Value, rule::MAX_SUMS};
use wgpu_optim::schedule::Exponential;
use wgpu_optim::tools::bench::{Plan, Size, bytes_per_element};
use wgpu_optim::tools::verify::run_rule;
use wgpu_optim::{Accumulate, AdamW, Builder, Clip, Ema, Error, Group, LossScale, Optimizer, Rule, Tensor, VRAdam};

use support::gpu::GPU;
use support::handle;
use support::host;
use support::numbers::numbers;
use support::snapshot::snapshot;

const ADAMW: &str = "\
struct Hyper {
    step_size: f32,
    eps_hat: f32,
    decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
}

struct State { m: vec4<f32>, v: vec4<f32> }

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let m = h.beta1 * (*s).m + h.one_minus_beta1 * g;
    let v = h.beta2 * (*s).v + h.one_minus_beta2 * g * g;
    (*s).m = m;
    (*s).v = v;
    return -h.decay * p - h.step_size * m / (sqrt(v) + h.eps_hat);
}
";

fn bc(beta: f64, t: u64) -> f64 {
    -(t as f64 * beta.ln()).exp_m1()
}

fn adamw(lr: f64, weight_decay: f64) -> CustomRule {
    adamw_of(ADAMW, lr, weight_decay)
}

fn adamw_of(text: &str, lr: f64, weight_decay: f64) -> CustomRule {
    CustomRule::from_wgsl("my_adamw", text)
        .expect("the text is a rule")
        .setting("lr", lr, Range::NOT_NEGATIVE)
        .setting("beta1", 0.9, Range::BELOW_ONE)
        .setting("beta2", 0.999, Range::BELOW_ONE)
        .setting("eps", 1e-8, Range::EPSILON)
        .setting("weight_decay", weight_decay, Range::NOT_NEGATIVE)
        .product("step_size", |s| s.get("lr"), |s, t| bc(s.get("beta2"), t).sqrt() / bc(s.get("beta1"), t))
        .count("eps_hat", |s, t| s.get("eps") * bc(s.get("beta2"), t).sqrt())
        .call("decay", |s| s.get("lr") * s.get("weight_decay"))
        .cpu(|h, p, g, s| {
            s[0] = h[3] * s[0] + h[4] * g;
            s[1] = h[5] * s[1] + h[6] * g * g;
            -h[2] * p - h[0] * s[0] / (s[1].sqrt() + h[1])
        })
}

const SHAPES: [usize; 4] = [1, 7, 1024, 3001];

/// Runs five steps over tensors of two groups and returns all bits of parameters and states. A learning rate changes before the fourth step.
fn run(rules: [Box<dyn Rule>; 2], states: &[&str], around: impl Fn(&mut Builder)) -> Vec<Vec<u32>> {
    let [first, second] = rules;
    let mut builder = Optimizer::builder(first);
    let other = builder.group("other", second);
    let tensors: Vec<_> = SHAPES
        .iter()
        .enumerate()
        .map(|(i, &n)| builder.tensor(if i % 2 == 0 { Group::DEFAULT } else { other }, format!("t{i}"), &[n]))
        .collect();
    around(&mut builder);
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).expect("the optimizer is built");
    for (i, &tensor) in tensors.iter().enumerate() {
        optimizer.write_param(tensor, &numbers(i as u32, SHAPES[i])).expect("the length fits");
    }
    for step in 0..5 {
        for (i, &tensor) in tensors.iter().enumerate() {
            optimizer.write_grad(tensor, &numbers(100 * step + i as u32, SHAPES[i])).expect("the length fits");
        }
        if step == 3 {
            optimizer.set_lr(other, 0.003).expect("lr is a setting");
        }
        GPU.run(|encoder| optimizer.step(encoder)).expect("the step runs");
    }
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    let mut all = Vec::new();
    for tensor in tensors {
        all.push(bits(pollster::block_on(optimizer.read_param(tensor)).expect("it is read")));
        for state in states {
            all.push(bits(pollster::block_on(optimizer.read_state(tensor, state)).expect("it is read")));
        }
    }
    all
}

type Groups = [Box<dyn Rule>; 2];

fn pair_of_adamw() -> (Groups, Groups) {
    let own = |lr, weight_decay| Box::new(AdamW { lr, weight_decay, ..AdamW::default() }) as Box<dyn Rule>;
    let custom = |lr, weight_decay| Box::new(adamw(lr, weight_decay)) as Box<dyn Rule>;
    ([custom(0.01, 0.1), custom(0.02, 0.0)], [own(0.01, 0.1), own(0.02, 0.0)])
}

#[test]
fn a_text_of_adamw_is_adamw_bit_for_bit() {
    let (custom, own) = pair_of_adamw();
    let states = ["m", "v"];
    assert_eq!(run(custom, &states, |_| ()), run(own, &states, |_| ()));
}

#[test]
fn everything_around_a_rule_works_for_a_custom_one() {
    let around = |builder: &mut Builder| {
        builder
            .clip(Clip::GlobalNorm(0.5))
            .loss_scale(LossScale::fixed(4.0))
            .ema(Ema::default())
            .accumulate(Accumulate::Mean(2))
            .zero_grad(true)
            .schedule(Group::DEFAULT, Exponential::new(0.9));
    };
    let (custom, own) = pair_of_adamw();
    let states = ["m", "v", "ema", "gradient_accumulator"];
    let results = run(custom, &states, around);
    assert_eq!(results, run(own, &states, around));
    let (plain, _) = pair_of_adamw();
    assert_ne!(results[0], run(plain, &["m", "v"], |_| ())[0], "the clip and the scale do something");
}

// ---- closures that change late

const PULL: &str = "\
struct Hyper { pull: f32 }

fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    return -h.pull * g;
}
";

/// A rule that moves by `pull(settings, t)` times the gradient, with the setting `late`.
fn pulled(pull: impl Fn(f64, u64) -> f64 + Send + Sync + 'static) -> CustomRule {
    CustomRule::from_wgsl("pulled", PULL)
        .expect("the text is a rule")
        .setting("late", 1.0, Range::ANY)
        .count("pull", move |s, t| pull(s.get("late"), t))
        .cpu(|h, _, g, _| -h[0] * g)
}

fn late_from_500(late: f64, t: u64) -> f64 {
    if t < 500 { 1.0 } else { late }
}

/// An optimizer of one number with the gradient -1, at this step count.
fn at_count(rule: impl Rule + 'static, count: u32) -> (Optimizer, Tensor) {
    let mut builder = Optimizer::builder(rule);
    let tensor = builder.tensor(Group::DEFAULT, "w", &[1]);
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).expect("the optimizer is built");
    optimizer.write_grad(tensor, &[-1.0]).expect("the length fits");
    optimizer.write_step_count(count).expect("no step is unfinished");
    (optimizer, tensor)
}

fn value(optimizer: &Optimizer, tensor: Tensor) -> f32 {
    pollster::block_on(optimizer.read_param(tensor)).expect("it is read")[0]
}

#[test]
fn a_setting_that_changes_only_late_steps_changes_them() {
    let (mut optimizer, tensor) = at_count(pulled(late_from_500), 497);
    let host = host::builder([("default", pulled(late_from_500).boxed())], [("w", 0, 1)]);
    let mut host = host.build_cpu::<f64>().expect("the optimizer is built");
    host.set_step_count(497);
    let mut on_host = [0.0];
    // Counts 498 and 499 pull by 1, before and after the change; 500 and 501 by 4.
    for (step, moved) in [1.0, 2.0, 6.0, 10.0].into_iter().enumerate() {
        if step == 1 {
            optimizer.set(Group::DEFAULT, "late", &Value::Number(4.0)).expect("no step is unfinished");
            host.set(Group::DEFAULT, "late", &Value::Number(4.0)).expect("it is a setting");
        }
        GPU.run(|encoder| optimizer.step(encoder)).expect("the step runs");
        host.step(&mut [&mut on_host], &[&[-1.0]]).expect("the step runs");
        assert_eq!((value(&optimizer, tensor), on_host[0]), (moved, f64::from(moved)), "step {step}");
    }
}

#[test]
fn a_setting_waits_for_unfinished_steps_only_if_it_changes_written_rows() {
    for (rule, count, waits) in [
        (pulled(late_from_500), 400, true),
        // Rows of the first 500 steps are not kept at a count of 10,000; those of step 1 million are not written at 0.
        (pulled(|late, t| if t < 500 { late } else { 1.0 }), 10_000, false),
        (pulled(|late, t| if t < 1_000_000 { 1.0 } else { late }), 0, false),
    ] {
        let (mut optimizer, _) = at_count(rule, count);
        let mut encoder = GPU.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        optimizer.step(&mut encoder).expect("the step is recorded");
        let set = optimizer.set(Group::DEFAULT, "late", &Value::Number(4.0)).map_err(|e| e.to_string());
        match set {
            Err(error) => assert!(waits && error.contains("submit and wait first"), "{count}: {error}"),
            Ok(()) => assert!(!waits, "{count}"),
        }
        GPU.queue.submit([encoder.finish()]);
    }
    // β2's correction is 1 in f32 long before step 10 million.
    let (mut optimizer, _) = at_count(AdamW::default(), 10_000_000);
    let mut encoder = GPU.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    optimizer.step(&mut encoder).expect("the step is recorded");
    optimizer.set(Group::DEFAULT, "beta2", &Value::Number(0.99)).expect("no row changes");
    let eps = optimizer.set(Group::DEFAULT, "eps", &Value::Number(1e-3)).map_err(|e| e.to_string());
    assert!(eps.is_err_and(|error| error.contains("submit and wait first")));
    GPU.queue.submit([encoder.finish()]);
}

/// A closure's value that f32 does not hold, at step 5000 and not before.
#[test]
fn a_value_that_is_not_finite_stops_its_own_step() {
    for (bad, said) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (1e39, "1000000000000000000000000000000000000000")] {
        let rule = pulled(move |_, t| if t < 5000 { 1.0 } else { bad });
        let (mut optimizer, tensor) = at_count(rule.clone(), 4998);
        let host = host::builder([("default", rule.boxed())], [("w", 0, 1)]);
        let mut host = host.build_cpu::<f32>().expect("the optimizer is built");
        host.set_step_count(4998);
        let mut on_host = [0.0];
        GPU.run(|encoder| optimizer.step(encoder)).expect("the step runs");
        host.step(&mut [&mut on_host], &[&[-1.0]]).expect("the step runs");
        let says = format!("group `default`: Hyper.pull of pulled is {said} at step 5000, needs a finite number");
        let error = GPU.run(|encoder| optimizer.step(encoder)).expect_err("step 5000 has no value").to_string();
        assert!(error.starts_with(&says), "{error}");
        let of_host = host.step(&mut [&mut on_host], &[&[-1.0]]).expect_err("step 5000 has no value").to_string();
        assert_eq!(error, of_host);
        assert_eq!((value(&optimizer, tensor), on_host[0], host.step_count()), (1.0, 1.0, 4999));
    }
}

/// VRAdam with members of `Hyper` that the host computes.
const BRAKED: &str = "\
//! setting lr = 1e-3 (0..)
//! setting lr_cutoff = 10 (0..)
//! setting beta1 = 0.9 (0..1)
//! setting beta2 = 0.999 (0..1)
//! setting beta3 = 1 (0..)
//! setting eps = 1e-8 (1e-30..)
//! setting weight_decay = 0.1 (0..)
// The rate falls with the norm of the moment.
const SUMS = 3u;
const TOTALS = 1u;
struct Hyper {
    lr: f32, lr_cutoff: f32, beta3: f32, weight_decay: f32,
    sqrt_bias_correction2: f32, inv_bias_correction1: f32, eps: f32,
    beta1: f32, one_minus_beta1: f32, beta2: f32, one_minus_beta2: f32,
}
struct State { m: vec4<f32>, v: vec4<f32> }
struct Decision { eta: f32 }
fn contribute(h: Hyper, p: vec4<f32>, g: vec4<f32>, s: State) -> array<vec4<f32>, SUMS> {
    return array<vec4<f32>, SUMS>(s.m * s.m, s.m * g, g * g);
}
fn total(h: Hyper, sums: array<f32, SUMS>, elements: f32) -> array<vec3<f32>, TOTALS> {
    let a = h.one_minus_beta1;
    return array<vec3<f32>, TOTALS>(vec3(h.beta1 * h.beta1 * sums[0], 2.0 * a * h.beta1 * sums[1], a * a * sums[2]));
}
fn decide(h: Hyper, totals: array<f32, TOTALS>, own: array<f32, TOTALS>) -> Decision {
    return Decision(h.lr / (1.0 + min(h.beta3 * max(totals[0], 0.0), h.lr_cutoff)));
}
fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    let m = h.beta1 * (*s).m + h.one_minus_beta1 * g;
    let v = h.beta2 * (*s).v + h.one_minus_beta2 * g * g;
    (*s).m = m;
    (*s).v = v;
    let correction = h.sqrt_bias_correction2 * h.inv_bias_correction1;
    return -d.eta * (h.weight_decay * p + correction * m / (sqrt(v) + h.eps * h.sqrt_bias_correction2));
}
";

struct BrakedCpu;

impl CustomCpu for BrakedCpu {
    fn contribute(&self, _: &[f64], _: f64, g: f64, s: &[f64]) -> [f64; MAX_SUMS] {
        let mut terms = [0.0; MAX_SUMS];
        terms[..3].copy_from_slice(&[s[0] * s[0], s[0] * g, g * g]);
        terms
    }

    fn total(&self, h: &[f64], sums: &[f64], _: f64) -> [[f64; 3]; MAX_SUMS] {
        let (b, a) = (h[7], h[8]);
        let mut totals = [[0.0; 3]; MAX_SUMS];
        totals[0] = [b * b * sums[0], 2.0 * a * b * sums[1], a * a * sums[2]];
        totals
    }

    fn decide(&self, h: &[f64], totals: &[f64], _: &[f64]) -> Vec<f64> {
        vec![h[0] / (1.0 + (h[2] * totals[0]).min(h[1]))]
    }

    fn update(&self, h: &[f64], d: &[f64], p: f64, g: f64, s: &mut [f64]) -> f64 {
        s[0] = h[7] * s[0] + h[8] * g;
        s[1] = h[9] * s[1] + h[10] * g * g;
        -d[0] * (h[3] * p + h[4] * h[5] * s[0] / (s[1].sqrt() + h[6] * h[4]))
    }
}

fn floats(bits: &[Vec<u32>]) -> impl Iterator<Item = f32> + '_ {
    bits.iter().flatten().map(|b| f32::from_bits(*b))
}

#[test]
fn a_custom_rule_with_sums_agrees_with_vradam_clipped_or_not() {
    for clip in [None, Some(Clip::GlobalNorm(0.5)), Some(Clip::TensorNorm(0.5))] {
        let custom = || Box::new(CustomRule::from_wgsl("braked", BRAKED).expect("the text is a rule")) as Box<dyn Rule>;
        let own = || Box::new(VRAdam { weight_decay: 0.1, ..VRAdam::default() }) as Box<dyn Rule>;
        let around = |builder: &mut Builder| {
            if let Some(clip) = clip {
                builder.clip(clip);
            }
        };
        let a = run([custom(), custom()], &["m", "v"], around);
        let b = run([own(), own()], &["m", "v"], around);
        for (a, b) in floats(&a).zip(floats(&b)) {
            assert!((a - b).abs() <= 1e-6 * b.abs().max(1e-2), "{clip:?}: {a} and {b}");
        }
    }
}

fn on_cpu(rule: Box<dyn Rule>) -> Vec<f64> {
    let mut optimizer = host::builder([("all", rule)], [("w", 0, 100)]).build_cpu::<f64>().expect("it is built");
    let mut w = vec![0.5; 100];
    for step in 0..5 {
        let g: Vec<f64> = numbers(step, 100).iter().map(|x| f64::from(*x)).collect();
        optimizer.step(&mut [&mut w], &[&g]).expect("the step runs");
    }
    w.extend(optimizer.state(handle::tensor(&optimizer, 0), "v").expect("v is a state"));
    w
}

#[test]
fn closures_give_a_cpu_form() {
    let braked = CustomRule::from_wgsl("braked", BRAKED).expect("the text is a rule").cpu_form(BrakedCpu);
    let own = VRAdam { weight_decay: 0.1, ..VRAdam::default() };
    let adam = AdamW { lr: 0.01, weight_decay: 0.1, ..AdamW::default() };
    let pairs: [(Box<dyn Rule>, Box<dyn Rule>); 2] =
        [(Box::new(braked), Box::new(own)), (Box::new(adamw(0.01, 0.1)), Box::new(adam))];
    for (custom, own) in pairs {
        let (name, custom, own) = (own.name(), on_cpu(custom), on_cpu(own));
        assert!(custom.iter().zip(&own).all(|(a, b)| (a - b).abs() <= 1e-14 * b.abs()), "{name}");
    }
}

fn step_with(optimizer: &mut Optimizer, tensor: Tensor, seed: u32) {
    optimizer.write_grad(tensor, &numbers(seed, 2000)).expect("the length fits");
    GPU.run(|encoder| optimizer.step(encoder)).expect("the step runs");
}

#[test]
fn a_checkpoint_of_a_custom_rule_resumes_bit_for_bit() {
    let build = |rule: Box<dyn Rule>| {
        let mut builder = Optimizer::builder(rule);
        let tensor = builder.tensor(Group::DEFAULT, "w", &[2000]);
        (builder.build(&GPU.device, &GPU.queue).expect("it is built"), tensor)
    };
    let (mut first, w) = build(Box::new(adamw(0.01, 0.1)));
    (0..3).for_each(|seed| step_with(&mut first, w, seed));
    let bytes = snapshot(&first).to_bytes().expect("it is written");
    let saved = Checkpoint::from_bytes("memory", bytes).expect("it is read");
    let (mut second, v) = build(Box::new(adamw(0.01, 0.1)));
    saved.restore(&mut second).expect("it fits");
    for (optimizer, tensor) in [(&mut first, w), (&mut second, v)] {
        (3..6).for_each(|seed| step_with(optimizer, tensor, seed));
    }
    assert_eq!(
        snapshot(&first).to_bytes().expect("it is written"),
        snapshot(&second).to_bytes().expect("it is written")
    );
    let (mut own, _) = build(Box::new(AdamW { lr: 0.01, ..AdamW::default() }));
    let error = saved.restore(&mut own).expect_err("it is another rule").to_string();
    assert!(error.contains("it belongs to my_adamw, the optimizer is adamw"), "{error}");
}

#[test]
fn a_custom_rule_is_measured() {
    let rules: Vec<Box<dyn Rule>> = vec![Box::new(adamw(0.01, 0.1)), Box::new(AdamW::default())];
    assert_eq!(bytes_per_element(rules[0].as_ref()), bytes_per_element(rules[1].as_ref()));
    let braked = CustomRule::from_wgsl("braked", BRAKED).expect("the text is a rule");
    assert_eq!(braked.sums_read(), ["p", "g", "m", "v"]);
    let size = Size::new(2, 5000);
    let plan = Plan { rules, sizes: vec![size], seconds: 0.0, samples: 1, ..Plan::default() };
    let results = wgpu_optim::tools::bench::run(&plan, Some(&GPU), |_| ()).expect("it is measured");
    assert_eq!(results[0].optimizer, "my_adamw");
}

#[test]
fn a_rule_with_a_cpu_form_is_verified() {
    let braked = || CustomRule::from_wgsl("braked", BRAKED).expect("the text is a rule");
    let rules: [CustomRule; 2] = [adamw(0.01, 0.1), braked().cpu_form(BrakedCpu)];
    for rule in rules {
        for size in [5, 1025] {
            let errors = run_rule(&GPU, &rule, size).expect("the rule runs");
            assert!(errors.passed(), "{} {size}: {errors:?}", rule.name());
        }
    }
    let wrong = adamw(0.01, 0.1).cpu(|h, p, g, s| {
        s[0] = h[3] * s[0] + h[4] * g;
        s[1] = h[5] * s[1] + h[6] * g * g;
        -h[0] * s[0] / (s[1].sqrt() + h[1]) - 0.999 * h[2] * p
    });
    assert!(!run_rule(&GPU, &wrong, 1025).expect("the rule runs").passed(), "a wrong decay must be noticed");
    let error = run_rule(&GPU, &braked(), 5).expect_err("there is nothing to compare with").to_string();
    assert!(error.contains("has no CPU form"), "{error}");
}

#[test]
fn without_a_cpu_form_the_cpu_says_so() {
    let rule = CustomRule::from_wgsl("braked", BRAKED).expect("the text is a rule");
    assert!(!rule.has_cpu());
    let made = host::builder([("all", rule.boxed())], [("w", 0, 1)]).build_cpu::<f64>();
    let error = made.expect_err("there is no CPU form").to_string();
    assert_eq!(error, "braked has no CPU form: it runs on the GPU only");
    let rule = CustomRule::from_wgsl("braked", BRAKED).expect("the text is a rule").cpu(|_, _, _, _| 0.0);
    let error = rule.check().expect_err("a closure knows no sums").to_string();
    assert!(error.contains("cpu_form"), "{error}");
}

const HEAD: &str = "struct Hyper { lr: f32 }\nstruct State { m: vec4<f32> }\n";
const UPDATE: &str = "fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> \
                      { return -h.lr * g; }\n";

fn refused(text: &str) -> String {
    let error = CustomRule::from_wgsl("mine", text).expect_err("the text is no rule");
    assert!(matches!(error, Error::Shader(_)), "{error:?}");
    error.to_string()
}

/// `rest` follows the two lines of `HEAD`. The error must name `place` and hold `says`.
#[track_caller]
fn check_refused(rest: &str, place: &str, says: &str) {
    let error = refused(&format!("{HEAD}{rest}"));
    assert!(error.starts_with(&format!("shader: mine:{place}: ")), "{error}");
    assert!(error.contains(says), "{error}");
}

#[test]
fn a_forbidden_declaration_is_refused_with_its_place() {
    let with = |more: &str| format!("{more}\n{UPDATE}");
    check_refused(&with("fn max(a: f32, b: f32) -> f32 { return a; }"), "3:4", "`max` is built into WGSL");
    check_refused(&with("const select = 1;"), "3:7", "`select` is built into WGSL");
    check_refused(&with("struct vec4f { a: f32 }"), "3:8", "`vec4f` is built into WGSL");
    check_refused(&with("@group(0) @binding(0) var<storage> b: array<f32>;"), "3:1", "a binding");
    check_refused(&with("var<private> x: f32;"), "3:1", "a global variable");
    check_refused(&with("override x = 1;"), "3:1", "an override");
    check_refused(&with("@id(1) override x = 1;"), "3:1", "an override");
    check_refused(&with("alias T = f32;"), "3:1", "an alias");
    check_refused(&with("@compute @workgroup_size(1) fn main() {}"), "3:1", "an entry point");
    check_refused(&with("fn wo_mine() {}"), "3:4", "belong to the harness");
    check_refused(&with("fn a() -> u32 { return wo_call.groups; }"), "3:24", "belong to the harness");
    check_refused(&with("fn a() { workgroupBarrier(); }"), "3:10", "cannot wait");
    check_refused(&with("/* open"), "3:1", "this comment is never closed");
    check_refused(&with("fn a() {"), "3:8", "this bracket is never closed");
    check_refused(&with("fn a() } {"), "3:8", "closes nothing");
    check_refused(&with("return 1;"), "3:1", "`return` does not begin a declaration");
    check_refused(&with("fn a() -> f32 { return subgroupAdd(1.0); }"), "3:24", "SUBGROUP");
    assert!(refused(&format!("enable f16;\n{HEAD}{UPDATE}")).contains("mine:1:1: a directive"));
}

#[test]
fn functions_that_the_harness_calls_need_their_signatures() {
    for name in ["param", "master", "remainder", "ema", "warp_00"] {
        let error = refused(&format!("struct Hyper {{ lr: f32 }}\nstruct State {{ {name}: vec4<f32> }}\n{UPDATE}"));
        assert!(error.starts_with("shader: mine:2:") && error.contains("give the state another name"), "{error}");
    }
    check_refused("", "2:30", "`update` is missing");
    assert!(refused(UPDATE).contains("Hyper"));
    check_refused(
        "fn update(h: Hyper) -> vec4<f32> { return vec4(h.lr); }",
        "3:4",
        "`update` is fn(Hyper) -> vec4<f32>, must be fn(",
    );
    let with = |more: &str| format!("{UPDATE}{more}");
    check_refused(&with("struct Decision { a: f32 }"), "4:8", "`contribute`, `total` and `decide`, which are missing");
    check_refused(
        &with("fn refuse(t: array<f32, 1>) -> bool { return true; }"),
        "4:4",
        "`refuse` also needs `contribute`",
    );
    let sums =
        "fn contribute(h: Hyper, p: vec4<f32>, g: vec4<f32>, s: State) -> array<vec4<f32>, 1> { return array(p); }
fn total(h: Hyper, sums: array<f32, 1>, elements: f32) -> array<vec3<f32>, 1> { return array(vec3(1.0)); }
fn decide(h: Hyper, a: array<f32, 1>, b: array<f32, 1>) -> Decision { return Decision(1.0); }
struct Decision { a: f32 }\n";
    check_refused(&with(sums), "4:4", "`const SUMS = 1u;` is missing");
    let ok = format!("{HEAD}{UPDATE}{sums}const SUMS = 1u;\nconst TOTALS = 1u;\n");
    CustomRule::from_wgsl("mine", &ok).expect("this is whole");
    assert!(
        refused(&ok.replace("SUMS = 1u", "SUMS = 2u"))
            .contains("8:7: SUMS must be 1, the count that `contribute` returns")
    );
    let wrong = ok.replace("elements: f32", "elements: u32");
    assert!(
        refused(&wrong).contains("mine:5:4: `total` is fn(Hyper, array<f32, 1>, u32) -> array<vec3<f32>, 1>, must be")
    );
    assert!(
        refused(&ok.replace("a: f32 }", "a: u32 }").replace("Decision(1.0)", "Decision(1u)"))
            .contains("Decision.a is u32")
    );
    assert!(
        refused(&format!("{HEAD}{UPDATE}").replace("lr: f32", "lr: f32, k: vec2<f32>"))
            .contains("1:25: Hyper.k is vec2<f32>, needs f32")
    );
    assert!(
        refused(&format!("{HEAD}{UPDATE}").replace("m: vec4<f32>", "m: f32"))
            .contains("2:16: State.m is f32, needs vec4<f32>")
    );
}

#[test]
fn a_syntax_error_names_its_line_and_shows_it() {
    check_refused(&format!("{UPDATE}\nfn a() -> f32 {{\n    return 1.0 +;\n}}\n"), "6:17", "    return 1.0 +;\n");
    check_refused(&format!("{UPDATE}\r\n// ü\r\nfn a() -> f32 {{ return nix; }}\r\n"), "6:24", "nix");
    check_refused(&format!("{UPDATE}fn a() -> f32 {{ return 1u; }}"), "4:24", "fn a() -> f32 { return 1u; }\n");
}

#[test]
fn an_undefined_member_is_named_with_the_known_ones() {
    let text = format!("{HEAD}{UPDATE}").replace("lr: f32", "lr: f32,\n gamma: f32, lr2: f32");
    let rule = CustomRule::from_wgsl("mine", &text).expect("the text is a rule");
    let rule = rule.setting("lr", 0.1, Range::NOT_NEGATIVE).setting("beta1", 0.9, Range::BELOW_ONE);
    let error = rule.check().expect_err("gamma is unknown").to_string();
    assert!(error.starts_with("shader: mine:2:2: Hyper.gamma is undefined"), "{error}");
    assert!(error.contains("lr, beta1, step, one_minus_lr, one_minus_beta1, bias_correction1, "), "{error}");
    let mut builder = Optimizer::builder(rule.clone());
    builder.tensor(Group::DEFAULT, "w", &[1]);
    builder.build(&GPU.device, &GPU.queue).expect_err("the builder checks it");
    let rule = rule.call("gamma", |s| s.get("lrr")).count("lr2", |_, t| 1.0 / t as f64);
    let error = rule.check().expect_err("lrr is unknown").to_string();
    assert!(error.contains("unknown setting of mine `lrr`, did you mean `lr`?"), "{error}");
}

#[test]
fn names_that_the_host_fills_have_their_values() {
    let members = [
        "beta2",
        "one_minus_beta2",
        "step",
        "bias_correction2",
        "inv_bias_correction2",
        "sqrt_bias_correction2",
        "inv_sqrt_bias_correction2",
    ];
    let text = format!("struct Hyper {{ {}: f32 }}\n{UPDATE}", members.join(": f32, ")).replace("h.lr", "h.step");
    let rule =
        CustomRule::from_wgsl("mine", &text).expect("the text is a rule").setting("beta2", 0.99, Range::BELOW_ONE);
    rule.check().expect("all are filled");
    let values: Vec<f64> = rule.scalars(7).iter().map(Scalar::value).collect();
    let c = 1.0 - 0.99_f64.powi(7);
    for (value, expected) in values.iter().zip([0.99, 0.01, 7.0, c, 1.0 / c, c.sqrt(), 1.0 / c.sqrt()]) {
        assert!((value - expected).abs() < 1e-14 * expected, "{values:?}");
    }
}

#[test]
fn mistakes_in_the_methods_are_reported_by_check() {
    let rule = || CustomRule::from_wgsl("mine", &format!("{HEAD}{UPDATE}")).expect("the text is a rule");
    let lr = || rule().setting("lr", 0.1, Range::between(0.0, 1.0));
    lr().check().expect("this is whole");
    let says = |rule: CustomRule, what: &str| {
        let error = rule.check().expect_err(what).to_string();
        assert!(error.contains(what), "{error}");
    };
    says(lr().setting("lr", 0.2, Range::ANY), "`lr` is declared twice");
    says(rule().setting("lr", 2.0, Range::between(0.0, 1.0)), "mine: lr is 2, needs a number in [0, 1]");
    says(rule().setting("lr", f64::NAN, Range::ANY), "lr is NaN");
    says(lr().initial("n", 1.0), "`n` is not a member of State");
    says(lr().initial("m", f64::INFINITY), "needs a finite number");
    says(lr().initial("m", -1e300), "m is -1e300, needs a finite number that f32 holds");
    says(rule().setting("lr", 1e300, Range::ANY), "lr is 1e300, needs a finite number that f32 holds");
    says(
        rule(),
        "Hyper.lr is undefined: declare the setting in a line `//! setting lr = NUMBER` at the start of the text",
    );
    // The advice is right.
    let told =
        CustomRule::from_wgsl("mine", &format!("//! setting lr = 0.1\n{HEAD}{UPDATE}")).expect("the text is a rule");
    told.check().expect("the setting is declared");
    says(lr().call("n", |_| 1.0), "`n` is not a member of Hyper");
    says(rule().call("lr", |_| f64::NAN), "Hyper.lr is NaN at step 1");
    let mut set = lr();
    assert!(set.set("lr", &Value::Flag(true)).is_err());
    assert!(set.set("l", &Value::Number(1.0)).is_err_and(|e| e.to_string().contains("did you mean `lr`")));
    for name in ["", "a b", "lr;", "l\nr", "wo_lr", "1r", "größe", "x\0", &"x".repeat(65), "/*", "`"] {
        says(rule().setting(name, 0.1, Range::ANY), "is not a name");
        assert!(CustomRule::from_wgsl(name, &format!("{HEAD}{UPDATE}")).is_err(), "{name}");
    }
    assert!(CustomRule::from_wgsl("adamw", &format!("{HEAD}{UPDATE}")).is_err());
}

#[test]
fn two_texts_are_two_rules_even_with_one_name() {
    let step = |other: CustomRule| {
        let mut builder = Optimizer::builder(adamw(0.1, 0.0));
        let group = builder.group("other", other);
        let tensors = [builder.tensor(Group::DEFAULT, "w", &[3]), builder.tensor(group, "u", &[3])];
        let mut optimizer = builder.build(&GPU.device, &GPU.queue).expect("it is built");
        for tensor in tensors {
            optimizer.write_grad(tensor, &[1.0, -2.0, 0.5]).expect("the length fits");
        }
        GPU.run(|encoder| optimizer.step(encoder)).expect("a step");
        let read = |tensor| pollster::block_on(optimizer.read_param(tensor)).expect("it is read");
        (optimizer.dispatches(), tensors.map(read))
    };
    let (dispatches, [same, half]) = step(adamw(0.05, 0.0));
    assert_eq!(dispatches, 1, "one rule with other settings shares the dispatch");
    assert!(same.iter().zip(&half).all(|(same, half)| (half / same - 0.5).abs() < 1e-5), "{same:?} {half:?}");
    let text = ADAMW.replace("return ", "return 3.0 * (").replace("eps_hat);", "eps_hat));");
    let (dispatches, [plain, triple]) = step(adamw_of(&text, 0.1, 0.0));
    assert_eq!(dispatches, 2);
    assert_eq!(plain, same);
    assert!(plain.iter().zip(&triple).all(|(plain, triple)| (triple / plain - 3.0).abs() < 1e-5), "{triple:?}");
}

#[test]
fn a_file_is_a_whole_rule() {
    let folder = tempfile::tempdir().expect("a folder is made");
    let path = folder.path().join("slow-start.wgsl");
    let text =
        format!("// prose\n//! A rule.\n//! setting lr = 1e-3 (0..=0.5)\n\n//! initial m = 0.25\n{HEAD}{UPDATE}");
    std::fs::write(&path, &text).expect("it is written");
    let mut rule = CustomRule::from_file(&path).expect("the file is a rule");
    rule.check().expect("the file is whole");
    assert_eq!((rule.name(), rule.settings()), ("slow-start", vec![("lr", Value::Number(1e-3))]));
    rule.set("lr", &Value::Number(0.6)).expect("the range is for check");
    assert!(rule.check().is_err_and(|e| e.to_string().contains("[0, 0.5]")));
    rule.set("lr", &Value::Number(0.5)).expect("lr is a setting");

    let mut builder = Optimizer::builder(rule);
    let w = builder.tensor(Group::DEFAULT, "w", &[2]);
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).expect("it is built");
    optimizer.write_grad(w, &[1.0, -2.0]).expect("the length fits");
    assert_eq!(pollster::block_on(optimizer.read_state(w, "m")).expect("it is read"), [0.25, 0.25]);
    GPU.run(|encoder| optimizer.step(encoder)).expect("the step runs");
    assert_eq!(pollster::block_on(optimizer.read_param(w)).expect("it is read"), [-0.5, 1.0]);

    for (bad, says) in [
        ("setting lr", "must be `setting"),
        ("setting lr = x", "`x` is not a number"),
        ("setting lr = 1 (0-1)", "a range is"),
        ("initial n = 1", "`n` is not a member of State"),
        ("initial m", "must be `initial"),
        ("sums before clip", "must be `sums after clip`"),
    ] {
        let error = refused(&format!("// prose\n//! {bad}\n{HEAD}{UPDATE}"));
        assert!(error.contains("mine:2:1: ") && error.contains(says), "{error}");
    }
    assert!(matches!(CustomRule::from_file(folder.path().join("none.wgsl")), Err(Error::Io { .. })));
    std::fs::write(&path, [0xff, 0xfe]).expect("it is written");
    assert!(matches!(CustomRule::from_file(&path), Err(Error::File { .. })));
    std::fs::write(&path, " ".repeat(300_000)).expect("it is written");
    assert!(matches!(CustomRule::from_file(&path), Err(Error::File { .. })));
}

/// Runs on a thread with half the stack that Rust gives threads.
fn survives(text: String) {
    let checked = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        let _ = CustomRule::from_wgsl("mine", &text);
    });
    checked.expect("the thread starts").join().expect("the check returns");
}

#[test]
fn hostile_texts_neither_overflow_the_stack_nor_take_long() {
    let begin = std::time::Instant::now();
    let in_function = |body: String| format!("{HEAD}{UPDATE}fn a(x: f32) -> f32 {{ {body} }}");
    for n in [22, 23, 43, 46, 91, 94, 180, 189, 5000, 60_000] {
        let twice = |open: &str, middle: &str, close: &str| open.repeat(n) + middle + &close.repeat(n);
        for expression in [
            twice("(", "x", ")"),
            twice("abs(", "x", ")"),
            twice("-", "x", ""),
            twice("- ", "x", ""),
            twice("!", "x", ""),
            twice("&*", "x", ""),
            twice("x+", "x", ""),
            twice("x<", "x", ">x"),
            twice("x", ".x", ".x"),
            twice("x[", "0", "]"),
            "x".to_owned() + &"[0]".repeat(n),
            twice("array<f32,", "2", ">"),
            twice("vec2<", "f32", ">"),
            twice("x==x&&", "x", ""),
        ] {
            survives(in_function(format!("return {expression};")));
            survives(in_function(format!("let y: {expression} = 1;")));
            survives(format!("{HEAD}{UPDATE}const c = {expression};"));
        }
        survives(in_function(twice("{", "", "}")));
        survives(in_function(twice("if true {", "", "}")));
        survives(in_function(twice("loop {", "break;", "}")));
        survives(in_function(twice("if true {} else ", "{}", "")));
        survives(in_function(twice("switch 1 { default: {", "", "}}")));
        survives(in_function(twice("for (;;) {", "", "}")));
        survives(in_function(twice("x = 1;", "", "")));
        survives(twice("/*", "", "*/"));
        survives(twice("@must_use ", "fn a() {}", ""));
        survives(twice("{", "", ""));
        survives(twice("}", "", ""));
        survives(twice("<", "", ""));
        let chain = |f: fn(usize) -> String| (0..n.min(8000)).map(f).collect::<String>();
        survives(HEAD.to_owned() + UPDATE + &chain(|i| format!("const c{i} = c{};", i + 1)) + "const c5000 = 1;");
        survives(HEAD.to_owned() + UPDATE + &chain(|i| format!("struct S{i} {{ a: S{}, b: S{} }}", i + 1, i + 1)));
        survives(
            HEAD.to_owned()
                + UPDATE
                + "struct S0 { a: vec4<f32> }"
                + &chain(|i| format!("struct S{} {{ a: S{i}, b: S{i} }}", i + 1)),
        );
        survives(HEAD.to_owned() + UPDATE + &chain(|i| format!("fn f{i}() {{ f{}(); f{}(); }}", i + 1, i + 1)));
    }
    for size in ["4294967295", "1000000000", "4096 * 4096 * 64", "-1", "0"] {
        survives(in_function(format!("var y = array<f32, {size}>(); return y[1];")));
        survives(in_function(format!("return array<vec4<f32>, {size}>()[3].x;")));
        survives(in_function(format!("var y: array<array<f32, {size}>, {size}>; return y[1][1];")));
    }
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}

/// A declaration of level 0, then `levels` more, each with its own number and the one below.
fn levels(count: usize, first: &str, next: impl Fn(usize, usize) -> String) -> String {
    (1..=count).fold(first.to_owned(), |text, level| text + &next(level, level - 1))
}

#[test]
fn texts_that_double_at_each_level_are_refused_by_name() {
    let calls = levels(60, "fn do0(x: f32) -> f32 { return x; }", |i, below| {
        format!("fn do{i}(x: f32) -> f32 {{ return do{below}(x) + do{below}(x); }}")
    });
    let silent =
        levels(60, "fn do0() {}", |i, below| format!("fn do{i}() {{ do{below}(); if true {{ do{below}(); }} }}"));
    let constants =
        levels(60, "const c0 = array(1, 2);", |i, below| format!("const c{i} = array(c{below}, c{below});"));
    let sums = levels(60, "const c0 = vec4(1.0);", |i, below| format!("const c{i} = c{below} + c{below} * 0.5;"));
    let structs = levels(60, "struct S0 { a: f32 }", |i, below| format!("struct S{i} {{ a: S{below}, b: S{below} }}"));
    let zeros = levels(14, "struct S0 { a: mat4x4<f32> }", |i, below| {
        let members: String = (0..4).map(|m| format!("m{m}: S{below}, ")).collect();
        format!("struct S{i} {{ {members} }}")
    }) + "const z = S14().m0;";
    let mixed = levels(60, "const c0 = 1.0;", |i, below| {
        format!("fn do{i}() -> f32 {{ return c{below} + c{below}; }} const c{i} = c{below} * c{below};")
    });
    let deep_constants = levels(60, "const c0 = array(1);", |i, below| format!("const c{i} = array(c{below});"));
    let deep_structs = levels(60, "struct S0 { a: f32 }", |i, below| format!("struct S{i} {{ a: S{below} }}"));
    let grows = "the text grows to more than 131072 words, the limit, at `";
    for (text, says) in [
        (&calls, [grows, "`do1"]),
        (&silent, [grows, "`do1"]),
        (&constants, [grows, "`c1"]),
        (&sums, [grows, "`c1"]),
        (&structs, [grows, "`S1"]),
        (&zeros, [grows, "`S"]),
        (&mixed, [grows, "`"]),
        (&deep_constants, ["`c15` holds structs and arrays more than 15 deep", "WGSL"]),
        (&deep_structs, ["`S15` holds structs and arrays more than 15 deep", "WGSL"]),
    ] {
        for text in [format!("{HEAD}{text}\n{UPDATE}"), format!("{HEAD}{UPDATE}{text}")] {
            let error = refused(&text);
            assert!(says.iter().all(|part| error.contains(part)), "{says:?}: {error}");
        }
    }
    // One level less than too many is a rule, and so is a value that is used twice at each level.
    let few = levels(10, "fn do0(x: f32) -> f32 { return x; }", |i, below| {
        format!("fn do{i}(x: f32) -> f32 {{ return do{below}(x) + do{below}(x); }}")
    });
    let squares = levels(60, "let x0 = 1.5 + y;", |i, below| format!("let x{i} = x{below} * x{below};"));
    let shadows =
        "const m = 1.0; fn m1(m: f32) -> f32 { let m1 = m; return m1; } fn v() -> f32 { let v = m; return v; }";
    for text in [few, format!("fn a(y: f32) -> f32 {{ {squares} return x60; }}"), shadows.to_owned()] {
        CustomRule::from_wgsl("mine", &format!("{HEAD}{UPDATE}{text}")).expect("the text is small");
    }
}

#[test]
fn functions_whose_values_double_or_are_huge_are_refused_by_name() {
    let inside = |body: String| format!("{HEAD}{UPDATE}fn a(x: f32) -> f32 {{ {body} return x; }}");
    let abstracts =
        levels(60, "const b0 = array(1, 2);", |i, below| format!("const b{i} = array(b{below}, b{below});"));
    let constants = levels(60, "const b0 = vec4(1.0);", |i, below| format!("const b{i} = b{below} + b{below};"));
    let values = levels(60, "let b0 = array(x, x);", |i, below| format!("let b{i} = array(b{below}, b{below});"));
    let variables = levels(9000, "var b0 = array(x);", |i, below| format!("var b{i} = array(b{below});"));
    let copied = format!("const t = array({});", "1.0,".repeat(3000));
    let reads = format!("{copied} fn t1(i: u32) {{ var y = 0.0; {} }}", "y = t[i];".repeat(150));
    let reads = format!("{HEAD}{UPDATE}{reads}");
    let one = "var b: array<vec4<f32>, 513>;".to_owned();
    let many = (0..600).map(|i| format!("var b{i} = x;")).collect::<String>() + "var c: array<vec4<f32>, 400>;";
    let repeated = format!(
        "{HEAD}{UPDATE}fn b() -> f32 {{ var b: array<vec4<f32>, 512>; return b[1].x; }}\n\
         fn a() -> f32 {{ return {} 0.0; }}",
        "b() +".repeat(9)
    );
    let loads =
        "var b: array<vec4<f32>, 512>;".to_owned() + &(0..520).map(|i| format!("let c{i} = b;")).collect::<String>();
    let called = format!(
        "{HEAD}{UPDATE}fn b() {{ var b: array<vec4<f32>, 512>; {} }}\nfn a() {{ {} }}",
        (0..10).map(|i| format!("let c{i} = b;")).collect::<String>(),
        "b(); { b(); } if true { b(); } else { b(); } switch 1 { case 1: { b(); } default: { b(); } } \
         loop { b(); continuing { b(); break if true; } }"
    );
    for (text, says) in [
        (inside(abstracts), "`b15` holds structs and arrays more than 15 deep"),
        (inside(constants), "the text grows to more than 131072 words, the limit, at `a`"),
        (inside(values), "`b15` holds structs and arrays more than 15 deep"),
        (inside(variables), "`b15` holds structs and arrays more than 15 deep"),
        (reads, "the text grows to more than 131072 words, the limit, at `t1`"),
        (inside(one), "`a` has 8208 bytes of local variables, WGSL promises 8192"),
        (inside(many), "`a` has 8800 bytes of local variables, WGSL promises 8192"),
        (repeated, "`a` has 73728 bytes of local variables with those of all its calls, at most 65536 are allowed"),
        (called, "`a` computes values of 655398 bytes with those of all its calls, at most 524288 are allowed"),
        (inside(loads), "`a` computes values of"),
    ] {
        let error = refused(&text);
        assert!(error.contains(says), "{says}: {}", error.lines().next().unwrap_or_default());
    }
}

#[test]
fn arrays_have_a_size_that_is_known_before_a_compiler_meets_it() {
    let with = |more: &str| format!("{UPDATE}{more}");
    let is_long = |elements: &str| format!("this array has {elements} elements, at most 65536 are allowed");
    for (size, elements) in [("4294967295", "4294967295"), ("0xffffffffu", "4294967295"), ("65537", "65537")] {
        check_refused(&with(&format!("const c = array<f32, {size}>()[3];")), "4:22", &is_long(elements));
        check_refused(&with(&format!("const c = array<array<f32, {size}>, 1>()[0];")), "4:28", &is_long(elements));
        let named = format!("const N = {size}; fn a() {{ var b: array<f32, N,>; }}");
        let place = named.find("N,>").expect("it is there") + 1;
        check_refused(&with(&named), &format!("4:{place}"), &is_long(elements));
    }
    for size in ["4096 * 4096", "-1", "1 << 30", "M", "u32(9)", "1.5", "(4)"] {
        let text = format!("const M = 2 * 4; fn a() {{ var b: array<f32, {size}>; }}");
        check_refused(&with(&text), "4:45", "must be a whole number, or a constant that is one: `const N = 4u;`");
    }
    let text =
        "const N: u32 = 4u; fn a() { const M = 0x3; var b: array<array<f32, N>, M,>; var c = array<f32, 2i>(); }";
    CustomRule::from_wgsl("mine", &format!("{HEAD}{UPDATE}{text}")).expect("the sizes are numbers");
    // Many arrays, each of which is allowed.
    let many = "b[1] + array<f32, 60000>()[2] +".repeat(5);
    check_refused(&with(&format!("fn a(b: vec4<f32>) -> f32 {{ return {many} b.x; }}")), "4:4", "`a`");
}

#[test]
fn names_and_types_have_a_limit() {
    let name = "n".repeat(65);
    check_refused(&format!("{UPDATE}fn {name}() {{}}"), "4:4", "this name has 65 bytes, at most 64 are allowed");
    check_refused(&format!("{UPDATE}fn a() {{ let {name} = 1; }}"), "4:14", "this name has 65 bytes");
    let nested = (0..16).fold("f32".to_owned(), |inner, _| format!("array<{inner}, 1>"));
    let error = refused(&format!("{HEAD}{UPDATE}fn a() {{ var b: {nested}; }}"));
    assert!(error.contains("structs and arrays nest 16 deep in this type, WGSL promises 15"), "{error}");
}

#[test]
fn limits_of_a_text() {
    let long = format!("{HEAD}{UPDATE}//{}", " ".repeat(256 * 1024));
    assert!(refused(&long).contains("bytes, at most 262144 are allowed"));
    let many: String = (0..300).map(|i| format!("const c{i} = 1;")).collect();
    assert!(refused(&format!("{HEAD}{UPDATE}{many}")).contains("declares more than 256 things"));
    let members: String = (0..64).map(|i| format!("m{i}: f32, ")).collect();
    assert!(
        refused(&format!("struct Hyper {{ {members}lr: f32 }}\n{UPDATE}")).contains("Hyper has 65 members, at most 64")
    );
    let deep = format!("{HEAD}{UPDATE}const c = {}1{};", "(".repeat(50), ")".repeat(50));
    assert!(refused(&deep).contains("4:58: blocks, brackets and operators nest too deep"));
    let large = format!("{HEAD}{UPDATE}fn a() {{ var x: array<f32, 20000>; }}");
    assert!(refused(&large).contains("more than 65536 bytes"));
}

#[test]
fn loops_are_allowed() {
    let text = "struct Hyper { lr: f32 }\nfn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> \
                { for (var i = 0u; i < 10u; i++) { if h.lr > 1.0 { break; } } return -h.lr * g; }";
    let rule = CustomRule::from_wgsl("looping", text).expect("loops are allowed").setting("lr", 0.5, Range::ANY);
    let mut builder = Optimizer::builder(rule);
    let w = builder.tensor(Group::DEFAULT, "w", &[5]);
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).expect("it is built");
    optimizer.write_grad(w, &[2.0; 5]).expect("the length fits");
    GPU.run(|encoder| optimizer.step(encoder)).expect("the step runs");
    assert_eq!(pollster::block_on(optimizer.read_param(w)).expect("it is read"), [-1.0; 5]);
}

/// Words and signs that texts are made of.
fn fragments() -> impl Strategy<Value = String> {
    let known = [
        "fn ",
        "struct ",
        "const ",
        "var ",
        "let ",
        "Hyper",
        "State",
        "Decision",
        "update",
        "contribute",
        "total",
        "decide",
        "SUMS",
        "TOTALS",
        "refuse",
        "vec4<f32>",
        "array<",
        "ptr<function, State>",
        "f32",
        "u32",
        "f16",
        "<",
        ">",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        ";",
        ",",
        ":",
        "@",
        "@compute",
        "wo_",
        "max",
        "->",
        "=",
        "==",
        "+",
        "-",
        "*",
        "/",
        "/*",
        "*/",
        "//",
        "//! setting ",
        "\n",
        "\r",
        " ",
        "0",
        "1u",
        "1e400",
        "0x1p-2000",
        "0xffffffffff",
        "h.lr",
        "(*s).m",
        "return ",
        "if ",
        "else ",
        "for ",
        "loop ",
        "switch ",
        "break;",
        "continuing",
        "enable f16;",
        "diagnostic(off, x);",
        "\u{feff}",
        "\u{2028}",
        "ü",
        "\0",
        "&",
        "|",
        "%",
        "<<",
        ">>",
        "_",
        "__a",
    ];
    prop_oneof![8 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,6}"]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn mutated_texts_never_panic(
        braked in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..30, prop::collection::vec(fragments(), 0..3)), 1..5),
    ) {
        let mut text = if braked { BRAKED.to_owned() } else { ADAMW.to_owned() };
        for (at, cut, put) in edits {
            let places: Vec<usize> = text.char_indices().map(|(i, _)| i).chain([text.len()]).collect();
            let start = at.index(places.len());
            let end = (start + cut).min(places.len() - 1);
            text.replace_range(places[start]..places[end], &put.concat());
        }
        if let Ok(rule) = CustomRule::from_wgsl("fuzzed", &text) {
            let _ = rule.check();
            let _ = rule.scalars(3);
        }
    }

    #[test]
    fn any_text_and_any_name_never_panic(parts in prop::collection::vec(fragments(), 0..60), name in "\\PC{0,70}") {
        let text = parts.concat();
        let _ = CustomRule::from_wgsl("fuzzed", &text);
        let rule = CustomRule::from_wgsl("fuzzed", &format!("{HEAD}{UPDATE}")).expect("the text is a rule");
        let rule = rule.setting(&name, 0.1, Range::ANY).initial(&name, 1.0).call(&name, |_| 1.0);
        let _ = rule.check();
        let _ = CustomRule::from_wgsl(&name, &text);
    }
}
