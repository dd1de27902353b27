//! Groups with rules of their own in one optimizer: the same bits as one optimizer for each rule, and, where the groups share a clip, a loss
//! scale or a test for finite numbers, the results of the oracle.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod bits;
    pub(crate) mod close;
    pub(crate) mod device;
    pub(crate) mod gpu;
    pub(crate) mod micro_batches;
    pub(crate) mod numbers;
    pub(crate) mod snapshot;
    pub(crate) mod step;
    pub(crate) mod wide;
}

use pollster::block_on;
use wgpu_optim::checkpoint::Checkpoint;
use wgpu_optim::memory::Role;
use wgpu_optim::optim::{self, CustomRule, Integrator, Range};
use wgpu_optim::tools::verify::{report_together, rules_together, run_together};
use wgpu_optim::{
    Accumulate, Adai, AdamW, Builder, Clip, Ema, Error, EvalRequest, FlowAdam, Group, Lamb, Lion, LossScale, Optimizer,
    RowSet, Rule, SAdam, Schedule, Sgd, Tensor, VRAdam, cpu, wgpu,
};

use support::bits::bits;
use support::close::close;
use support::gpu::GPU;
use support::micro_batches;
use support::numbers::numbers;
use support::snapshot::snapshot;
use support::step;
use support::wide::wide;

/// The tensors: the group and the count of elements of each. Tails, an empty tensor, several chunks.
const TENSORS: [(usize, usize); 9] =
    [(0, 1025), (1, 3), (2, 700), (3, 18), (0, 0), (4, 260), (1, 4100), (2, 33), (5, 5)];
const STEPS: u32 = 5;

/// A rule of a user: the sign of the gradient, with a count of steps as its state.
fn custom() -> CustomRule {
    let text = "\
struct Hyper { lr: f32 }
struct State { seen: vec4<f32> }
fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    (*s).seen += 1.0;
    return -h.lr * sign(g);
}
";
    CustomRule::from_wgsl("sign_steps", text)
        .unwrap()
        .setting("lr", 0.01, Range::NOT_NEGATIVE)
        .call("lr", |s| s.get("lr"))
}

/// The groups: four rules of the crate, one of them in two groups, and a rule of a user.
fn rules() -> [Box<dyn Rule>; 6] {
    [
        AdamW { weight_decay: 0.1, ..AdamW::default() }.into(),
        Lion { weight_decay: 0.1, ..Lion::default() }.into(),
        VRAdam { weight_decay: 0.05, ..VRAdam::default() }.into(),
        Adai { weight_decay: 0.02, ..Adai::new(0.05) }.into(),
        custom().into(),
        AdamW { lr: 0.02, weight_decay: 0.0, ..AdamW::default() }.into(),
    ]
}

/// The groups that share a rule, in the order of the rules.
const OF_RULE: [&[usize]; 5] = [&[0, 5], &[1], &[2], &[3], &[4]];

/// A builder with these groups and their tensors.
fn builder(groups: &[usize], options: fn(&mut Builder, &[Option<Group>])) -> (Builder, Vec<Tensor>) {
    let rules = rules();
    let mut handles = vec![None; rules.len()];
    let mut builder = Optimizer::builder(rules[groups[0]].clone());
    handles[groups[0]] = Some(Group::DEFAULT);
    for &group in &groups[1..] {
        handles[group] = Some(builder.group(format!("group {group}"), rules[group].clone()));
    }
    let mut tensors = Vec::new();
    for (t, (group, elements)) in TENSORS.into_iter().enumerate() {
        if let Some(group) = handles[group] {
            tensors.push(builder.tensor(group, format!("t{t}"), &builder.sample_shape(group, elements)));
        }
    }
    options(&mut builder, &handles);
    (builder, tensors)
}

/// The numbers of the tensors of some groups.
fn of_groups<T: Clone>(groups: &[usize], all: &[T]) -> Vec<T> {
    TENSORS.iter().zip(all).filter(|((group, _), _)| groups.contains(group)).map(|(_, x)| x.clone()).collect()
}

fn start() -> Vec<Vec<f32>> {
    TENSORS.iter().enumerate().map(|(t, (_, n))| numbers(t as u32 + 1000, *n)).collect()
}

fn gradients(step: u32, micro: u32) -> Vec<Vec<f32>> {
    TENSORS.iter().enumerate().map(|(t, (_, n))| numbers(step * 100 + micro * 10 + t as u32, *n)).collect()
}

fn write(optimizer: &Optimizer, tensors: &[Tensor], params: &[Vec<f32>]) {
    for (tensor, values) in tensors.iter().zip(params) {
        optimizer.write_param(*tensor, values).unwrap();
    }
}

/// The parameters and all states of a tensor, as bits.
fn arrays(optimizer: &Optimizer, tensor: Tensor) -> Vec<(String, Vec<u32>)> {
    let mut arrays = vec![("param".to_owned(), bits(&block_on(optimizer.read_param(tensor)).unwrap()))];
    for state in optimizer.state_names(tensor).unwrap() {
        arrays.push((state.to_owned(), bits(&block_on(optimizer.read_state(tensor, state)).unwrap())));
    }
    arrays
}

/// Steps one optimizer with all groups, and one optimizer for each rule. Compares parameters, states, counts and global states.
fn equal_separate(case: &str, micro: u32, options: fn(&mut Builder, &[Option<Group>])) {
    let all: Vec<usize> = (0..rules().len()).collect();
    let (whole, tensors) = builder(&all, options);
    let mut whole = whole.build(&GPU.device, &GPU.queue).unwrap();
    write(&whole, &tensors, &start());
    let mut alone: Vec<(&[usize], Optimizer, Vec<Tensor>)> = Vec::new();
    for groups in OF_RULE {
        let (builder, tensors) = builder(groups, options);
        let optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
        write(&optimizer, &tensors, &of_groups(groups, &start()));
        alone.push((groups, optimizer, tensors));
    }
    assert_eq!(whole.dispatches(), alone.iter().map(|(_, one, _)| one.dispatches()).sum::<usize>(), "{case}");
    for step in 1..=STEPS {
        let batches: Vec<Vec<Vec<f32>>> = (0..micro).map(|batch| gradients(step, batch)).collect();
        micro_batches::on_gpu(&mut whole, &tensors, &batches);
        for (groups, one, tensors) in &mut alone {
            let batches: Vec<Vec<Vec<f32>>> = batches.iter().map(|all| of_groups(groups, all)).collect();
            micro_batches::on_gpu(one, tensors, &batches);
        }
    }
    let mut global = Vec::new();
    for (groups, one, own) in &alone {
        let in_whole = of_groups(groups, &tensors);
        for (a, b) in in_whole.into_iter().zip(own) {
            let (a, b) = (arrays(&whole, a), arrays(one, *b));
            assert!(a == b, "{case}: groups {groups:?}\n{a:?}\n{b:?}");
        }
        global.extend(block_on(one.read_global_state()).unwrap());
        assert_eq!(block_on(one.read_step_count()).unwrap(), u64::from(STEPS), "{case}");
    }
    assert_eq!(block_on(whole.read_step_count()).unwrap(), u64::from(STEPS), "{case}");
    assert_eq!(bits(&block_on(whole.read_global_state()).unwrap()), bits(&global), "{case}");
    let moved = tensors.iter().zip(start()).filter(|(_, start)| !start.is_empty());
    for (tensor, start) in moved {
        assert_ne!(block_on(whole.read_param(*tensor)).unwrap(), start, "{case}: a tensor did not move");
    }
}

#[test]
fn an_optimizer_with_five_rules_equals_five_optimizers_bit_for_bit() {
    equal_separate("bare", 1, |_, _| ());
    equal_separate("group norm", 1, |builder, _| _ = builder.clip(Clip::GroupNorm(0.5)));
    equal_separate("tensor norm", 1, |builder, _| _ = builder.clip(Clip::TensorNorm(0.3)));
    equal_separate("average, micro-batches", 3, |builder, _| {
        builder.ema(Ema::default()).accumulate(Accumulate::Mean(3)).zero_grad(true);
    });
    equal_separate("storage", 1, |builder, _| _ = builder.storage("bf16-sr,states=bf16-sr".parse().unwrap()).seed(7));
    equal_separate("blocks", 1, |builder, _| _ = builder.storage("bf16-split,8bit,min=0".parse().unwrap()));
    equal_separate("schedule, maximize", 1, |builder, groups| {
        if let Some(group) = groups[0] {
            builder.schedule(group, "multi_step:milestones=1+3".parse::<Schedule>().unwrap());
        }
        if let Some(group) = groups[1] {
            builder.maximize(group);
        }
    });
}

/// Steps with evaluations. The gradients and losses are given for each request, so that they do not depend on the parameters.
fn evaluate(optimizer: &mut Optimizer, tensors: &[(usize, Tensor)], step: u32) -> usize {
    let mut pending = optimizer.begin_step().unwrap();
    let mut requests = 0;
    while let Some(request) = block_on(pending.next_submitted()).unwrap() {
        match request {
            EvalRequest::Gradient => {
                for (t, tensor) in tensors {
                    let gradient = numbers(step * 100 + requests as u32 * 10 + *t as u32, LENGTHS[*t]);
                    pending.optimizer().write_grad(*tensor, &gradient).unwrap();
                }
            }
            EvalRequest::Loss(slot) => {
                let to = pending.loss_slot(slot).unwrap();
                let loss = 1.0 + 0.25 * (slot as f32) / (step as f32);
                GPU.queue.write_buffer(to.buffer(), to.offset(), &loss.to_le_bytes());
            }
        }
        requests += 1;
    }
    requests
}

const LENGTHS: [usize; 4] = [1025, 30, 7, 500];

/// The tensors 0 and 2 have a rule that evaluates; the tensors 1 and 3 have Lion.
fn equal_evaluating(case: &str, rule: &dyn Rule, requests: usize) {
    let lion: Box<dyn Rule> = Lion { weight_decay: 0.1, ..Lion::default() }.into();
    let build = |groups: &[usize]| {
        let of = |group: usize| if group == 0 { rule.boxed() } else { lion.clone() };
        let mut builder = Optimizer::builder(of(groups[0]));
        let mut handles = vec![(groups[0], Group::DEFAULT)];
        for &group in &groups[1..] {
            handles.push((group, builder.group("other", of(group))));
        }
        let mut tensors = Vec::new();
        for (t, n) in LENGTHS.into_iter().enumerate() {
            if let Some((_, group)) = handles.iter().find(|(group, _)| *group == t % 2) {
                tensors.push((t, builder.tensor(*group, format!("t{t}"), &builder.sample_shape(*group, n))));
            }
        }
        let optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
        for (t, tensor) in &tensors {
            optimizer.write_param(*tensor, &numbers(*t as u32, LENGTHS[*t])).unwrap();
        }
        (optimizer, tensors)
    };
    // The rule that evaluates comes first or last.
    for order in [[0, 1], [1, 0]] {
        let (mut whole, tensors) = build(&order);
        let (mut first, of_first) = build(&[0]);
        let (mut second, of_second) = build(&[1]);
        for step in 1..=4 {
            let made = evaluate(&mut whole, &tensors, step);
            assert!(made == requests || step == 1, "{case}: {made} requests in step {step}");
            assert_eq!(evaluate(&mut first, &of_first, step), made, "{case}");
            evaluate(&mut second, &of_second, step);
        }
        for (t, tensor) in &tensors {
            let (one, own) = if t % 2 == 0 { (&first, &of_first) } else { (&second, &of_second) };
            let (_, other) = own.iter().find(|(other, _)| other == t).unwrap();
            assert!(arrays(&whole, *tensor) == arrays(one, *other), "{case} {order:?}: tensor {t}");
        }
        assert_eq!(whole.evaluations(), first.evaluations(), "{case}");
    }
}

#[test]
fn a_rule_that_evaluates_and_another_equal_two_optimizers_bit_for_bit() {
    equal_evaluating("probes", &SAdam { weight_decay: 0.1, ..SAdam::default() }, 4);
    // A step that follows the flow requests three more gradients. These settings make the steps after the first follow it.
    let flow = FlowAdam {
        integrator: Integrator::Rk4,
        warmup: 1,
        switch_sensitivity: Some(1e6),
        ode_t_scale: Some(2.0),
        ..FlowAdam::default()
    };
    equal_evaluating("rk4", &flow, 4);
}

// ---- shared options

/// The groups of the comparison with the oracle: rules with sums in one round, in two rounds, with a state of the whole, and without sums.
fn summing_rules() -> [Box<dyn Rule>; 5] {
    [
        AdamW { weight_decay: 0.1, ..AdamW::default() }.into(),
        VRAdam { weight_decay: 0.05, ..VRAdam::default() }.into(),
        Adai { weight_decay: 0.02, ..Adai::new(0.05) }.into(),
        Lamb { weight_decay: 0.1, ..Lamb::default() }.into(),
        Sgd { lr: 0.05, momentum: 0.9, weight_decay: 0.01, ..Sgd::default() }.into(),
    ]
}

/// The group and the count of elements of each tensor.
const SUMMING: [(usize, usize); 7] = [(3, 1025), (0, 3), (1, 700), (2, 0), (2, 40), (4, 260), (0, 2050)];

struct Shared {
    builder: Builder,
    tensors: Vec<Tensor>,
    groups: Vec<Group>,
}

fn shared_builder(options: &dyn Fn(&mut Builder, &[Group])) -> Shared {
    let mut rules = summing_rules().into_iter().enumerate();
    let mut builder = Optimizer::builder(rules.next().unwrap().1);
    let mut groups = vec![Group::DEFAULT];
    groups.extend(rules.map(|(i, rule)| builder.group(format!("group {i}"), rule)));
    let tensors = SUMMING.iter().enumerate();
    let tensors = tensors.map(|(t, (group, n))| builder.tensor(groups[*group], format!("t{t}"), &[*n])).collect();
    options(&mut builder, &groups);
    Shared { builder, tensors, groups }
}

/// Steps the GPU, the fast path and the oracle. `bad`: the step and the tensor in which one gradient is not finite.
fn is_the_oracle(
    case: &str,
    micro: u32,
    scale: f32,
    bad: Option<(u32, usize)>,
    options: &dyn Fn(&mut Builder, &[Group]),
) -> (Optimizer, cpu::Optimizer<f64>, Vec<Tensor>) {
    let Shared { builder, tensors, .. } = shared_builder(options);
    let Trained { mut gpu, mut fast, mut oracle, tensors, mut p32, mut p64, mut path } =
        Trained::start(&builder, tensors);
    for step in 1..=STEPS {
        let of = |batch: u32, t: usize, n: usize| -> Vec<f32> {
            numbers(step * 100 + batch * 10 + t as u32, n).into_iter().map(|g| g * scale).collect()
        };
        let mut batches: Vec<Vec<Vec<f32>>> =
            (0..micro).map(|b| SUMMING.iter().enumerate().map(|(t, (_, n))| of(b, t, *n)).collect()).collect();
        if let Some((_, tensor)) = bad.filter(|(at, _)| *at == step) {
            batches[0][tensor][2] = f32::NAN;
        }
        let before = p64.clone();
        micro_batches::on_host(&mut oracle, &mut p64, &batches);
        micro_batches::on_host(&mut fast, &mut p32, &batches);
        micro_batches::on_gpu(&mut gpu, &tensors, &batches);
        for ((path, before), after) in path.iter_mut().flatten().zip(before.iter().flatten()).zip(p64.iter().flatten())
        {
            *path += (after - before).abs();
        }
    }
    let trained = Trained { gpu, fast, oracle, tensors, p32, p64, path };
    trained.compare(case);
    (trained.gpu, trained.oracle, trained.tensors)
}

/// The same steps on the GPU, on the fast path and by the oracle.
struct Trained {
    gpu: Optimizer,
    fast: cpu::Optimizer<f32>,
    oracle: cpu::Optimizer<f64>,
    tensors: Vec<Tensor>,
    /// The parameters of the fast path and of the oracle.
    p32: Vec<Vec<f32>>,
    p64: Vec<Vec<f64>>,
    /// The sum of the magnitudes of each parameter's changes.
    path: Vec<Vec<f64>>,
}

impl Trained {
    /// The optimizers of a builder before their first step.
    fn start(builder: &Builder, tensors: Vec<Tensor>) -> Self {
        let gpu = builder.build(&GPU.device, &GPU.queue).unwrap();
        let (fast, oracle) = (builder.build_cpu::<f32>().unwrap(), builder.build_cpu::<f64>().unwrap());
        let p32: Vec<Vec<f32>> = SUMMING.iter().enumerate().map(|(t, (_, n))| numbers(t as u32 + 70, *n)).collect();
        write(&gpu, &tensors, &p32);
        let p64 = wide(&p32);
        let path = p64.iter().map(|p| vec![0.0; p.len()]).collect();
        Self { gpu, fast, oracle, tensors, p32, p64, path }
    }

    fn compare(&self, case: &str) {
        let Self { gpu, fast, oracle, tensors, p32, p64, path } = self;
        for (t, tensor) in tensors.iter().enumerate() {
            close(&format!("{case}: gpu {t}"), STEPS, &block_on(gpu.read_param(*tensor)).unwrap(), &p64[t], &path[t]);
            close(&format!("{case}: fast {t}"), STEPS, &p32[t], &p64[t], &path[t]);
            for state in oracle.state_names(*tensor).unwrap() {
                let want = oracle.state(*tensor, state).unwrap();
                // A state moves as far as the largest of its numbers.
                let most = want.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
                let path = vec![most; want.len()];
                let got = block_on(gpu.read_state(*tensor, state)).unwrap();
                close(&format!("{case}: gpu {t} {state}"), STEPS, &got, want, &path);
                close(&format!("{case}: fast {t} {state}"), STEPS, fast.state(*tensor, state).unwrap(), want, &path);
            }
            if gpu.state_names(*tensor).unwrap().contains(&"ema") {
                let got = block_on(gpu.read_state(*tensor, "ema")).unwrap();
                close(&format!("{case}: ema {t}"), STEPS, &got, oracle.ema(*tensor).unwrap(), &path[t]);
            }
        }
        assert_eq!(block_on(gpu.read_step_count()).unwrap(), oracle.step_count(), "{case}: step count");
        assert_eq!(block_on(gpu.read_skipped()).unwrap(), oracle.skipped(), "{case}: skipped");
        assert_eq!(fast.skipped(), oracle.skipped(), "{case}: skipped");
        assert_eq!(f64::from(block_on(gpu.read_loss_scale()).unwrap()), oracle.loss_scale(), "{case}: scale");
        assert!(path.iter().all(|path| path.iter().all(|x| *x > 0.0)), "{case}: an element did not move");
    }
}

#[test]
fn a_clip_by_global_norm_runs_over_the_groups_of_all_rules() {
    let clip =
        |most: f64| is_the_oracle("clip", 1, 1.0, None, &move |builder, _| _ = builder.clip(Clip::GlobalNorm(most)));
    let (mut gpu, ..) = clip(3.0);
    gpu.set_clip(2.0).unwrap();
    // Sums: a dispatch per class and one for the totals. The first round is concluded after the exchange. LAMB has a second round.
    let parts = summing_rules().len();
    assert_eq!(
        gpu.dispatches(),
        parts * (1 + 1 + 1) + 2 + 1 + parts,
        "updates, sums, totals, LAMB's round, exchange, decisions"
    );
    // The norm of one group alone would not be clipped.
    is_the_oracle("large norms", 1, 1e6, None, &|builder, _| _ = builder.clip(Clip::GlobalNorm(1.0)));
}

#[test]
fn one_number_that_is_not_finite_skips_the_step_of_all_groups() {
    let scale = LossScale { initial: 256.0, interval: 2, ..LossScale::default() };
    for tensor in [0, 2, 4, 5, 6] {
        let (_, oracle, _) =
            is_the_oracle("scale", 1, 256.0, Some((3, tensor)), &|builder, _| _ = builder.loss_scale(scale));
        assert_eq!((oracle.skipped(), oracle.step_count()), (1, u64::from(STEPS) - 1));
        let skip = |builder: &mut Builder, _: &[Group]| _ = builder.skip_nonfinite(true).clip(Clip::TensorNorm(0.5));
        let (_, oracle, _) = is_the_oracle("skip", 1, 1.0, Some((2, tensor)), &skip);
        assert_eq!(oracle.skipped(), 1);
    }
}

#[test]
fn a_step_may_leave_out_tensors_of_some_rules() {
    let shared = shared_builder(&|builder, _| _ = builder.partial_steps(true).clip(Clip::GlobalNorm(2.0)));
    let Shared { builder, tensors, .. } = shared;
    let Trained { mut gpu, mut fast, mut oracle, tensors, mut p32, mut p64, mut path } =
        Trained::start(&builder, tensors);
    // Step 2 leaves out all tensors of Adai, step 3 those of all rules but SGD, step 4 one of AdamW's tensors and LAMB's.
    let left_out: [&[usize]; 4] = [&[], &[3, 4], &[0, 1, 2, 3, 4, 6], &[0, 1]];
    for (step, left_out) in left_out.into_iter().enumerate() {
        let grads: Vec<Vec<f32>> =
            SUMMING.iter().enumerate().map(|(t, (_, n))| numbers((step * 10 + t) as u32, *n)).collect();
        let wide_grads = wide(&grads);
        let takes = |t: &usize| !left_out.contains(t);
        let before = p64.clone();
        let some: Vec<Option<&[f64]>> = (0..tensors.len()).map(|t| takes(&t).then_some(&*wide_grads[t])).collect();
        oracle.step_tensors(&mut p64.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(), &some).unwrap();
        let some: Vec<Option<&[f32]>> = (0..tensors.len()).map(|t| takes(&t).then_some(&*grads[t])).collect();
        fast.step_tensors(&mut p32.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(), &some).unwrap();
        for (tensor, g) in tensors.iter().zip(&grads) {
            gpu.write_grad(*tensor, g).unwrap();
        }
        let taken: Vec<Tensor> = (0..tensors.len()).filter(takes).map(|t| tensors[t]).collect();
        GPU.run(|encoder| gpu.step_tensors(encoder, taken.iter().copied())).unwrap();
        for (path, (before, after)) in path.iter_mut().zip(before.iter().zip(&p64)) {
            path.iter_mut().zip(before.iter().zip(after)).for_each(|(path, (a, b))| *path += (a - b).abs());
        }
    }
    let trained = Trained { gpu, fast, oracle, tensors, p32, p64, path };
    trained.compare("left out");
    let Trained { gpu, oracle, tensors, .. } = trained;
    let counts = |optimizer: &Optimizer| -> Vec<u64> {
        tensors.iter().map(|tensor| block_on(optimizer.read_tensor_step_count(*tensor)).unwrap()).collect()
    };
    assert_eq!(counts(&gpu), [2, 2, 3, 2, 2, 4, 3]);
    assert_eq!(counts(&gpu), tensors.iter().map(|t| oracle.tensor_step_count(*t).unwrap()).collect::<Vec<_>>());
    // A checkpoint keeps the counts of the tensors of every rule.
    let saved = Checkpoint::from_bytes("left out", snapshot(&gpu).to_bytes().unwrap()).unwrap();
    let mut resumed = builder.build(&GPU.device, &GPU.queue).unwrap();
    saved.restore(&mut resumed).unwrap();
    assert_eq!(counts(&resumed), counts(&gpu));
    assert_eq!(snapshot(&resumed).to_bytes().unwrap(), saved.to_bytes().unwrap());
}

#[test]
fn shared_options_together_are_the_oracles() {
    let scale = LossScale { initial: 256.0, interval: 2, ..LossScale::default() };
    let options = move |builder: &mut Builder, groups: &[Group]| {
        builder.clip(Clip::GlobalNorm(2.0)).loss_scale(scale).accumulate(Accumulate::Mean(2));
        builder.ema(Ema { decay: 0.9, warmup: true }).telemetry(true).maximize(groups[1]);
        builder.schedule(groups[0], "multi_step:milestones=1+3".parse::<Schedule>().unwrap());
    };
    let (gpu, _, tensors) = is_the_oracle("all", 2, 256.0, Some((3, 4)), &options);
    let stats = gpu.try_stats().unwrap();
    let names: Vec<&str> = stats.tensors.iter().map(|tensor| &*tensor.name).collect();
    assert_eq!(names, gpu.tensors().map(|(_, name, _)| name).collect::<Vec<_>>());
    assert_eq!((stats.skipped, stats.step_count), (1, u64::from(STEPS) - 1));
    // All tensors have the clip factor of the common norm.
    let squared: f64 = stats.tensors.iter().map(|tensor| tensor.norms.gradient.powi(2)).sum();
    assert!((stats.total.gradient - squared.sqrt()).abs() < 1e-6 * stats.total.gradient);
    let factor = 2.0 / (squared.sqrt() + 1e-6);
    assert!(factor < 0.9, "the clip must act");
    for tensor in &stats.tensors {
        assert!((tensor.norms.clip - factor).abs() < 1e-5 * factor, "{}: {} {factor}", tensor.name, tensor.norms.clip);
    }
    assert_eq!(tensors.len(), stats.tensors.len());
}

#[test]
fn the_host_measures_the_tensors_of_all_rules() {
    let Shared { builder, .. } = shared_builder(&|builder, _| _ = builder.telemetry(true).clip(Clip::GlobalNorm(2.0)));
    let mut host = builder.build_cpu::<f64>().unwrap();
    let mut params: Vec<Vec<f64>> = wide(&SUMMING.iter().map(|(_, n)| numbers(1, *n)).collect::<Vec<_>>());
    let grads: Vec<Vec<f64>> = wide(&SUMMING.iter().map(|(_, n)| numbers(2, *n)).collect::<Vec<_>>());
    step::step(&mut host, &mut params, &grads);
    let stats = host.stats().unwrap();
    let squared: f64 = grads.iter().flatten().map(|g| g * g).sum();
    assert!((stats.total.gradient - squared.sqrt()).abs() < 1e-9 * squared.sqrt());
    for (tensor, grads) in stats.tensors.iter().zip(&grads) {
        let own: f64 = grads.iter().map(|g| g * g).sum();
        assert!((tensor.norms.gradient - own.sqrt()).abs() <= 1e-9 * own.sqrt(), "{}", tensor.name);
        assert!((tensor.norms.clip - 2.0 / (squared.sqrt() + 1e-6)).abs() < 1e-9);
    }
    assert_eq!(host.nonfinite().unwrap(), None);
}

// ---- checkpoints, rows, errors

#[test]
fn a_checkpoint_holds_all_rules_and_names_the_rule_of_each_group() {
    let options = |builder: &mut Builder, _: &[Group]| {
        builder.loss_scale(LossScale { interval: 2, ..LossScale::default() }).accumulate(Accumulate::Sum);
        builder.storage("bf16-sr,8bit,min=0".parse().unwrap());
    };
    let Shared { builder, tensors, groups } = shared_builder(&options);
    let mut first = builder.build(&GPU.device, &GPU.queue).unwrap();
    let step = |optimizer: &mut Optimizer, number: u32| {
        let grads: Vec<Vec<f32>> = SUMMING.iter().map(|(_, n)| numbers(number, *n)).collect();
        micro_batches::on_gpu(optimizer, &tensors, &[grads.clone(), grads]);
    };
    (1..=3).for_each(|number| step(&mut first, number));
    first.set_lr(groups[4], 0.5).unwrap();
    let saved = snapshot(&first);
    assert_eq!(groups.iter().zip(["default", "group 1", "group 2", "group 3", "group 4"]).count(), 5);
    let rules: Vec<_> = first.groups().map(|(_, name)| saved.rule_of(name).unwrap()).collect();
    assert_eq!(rules, ["adamw", "vradam", "adai", "lamb", "sgd"]);
    let loaded = Checkpoint::from_bytes("rules", saved.to_bytes().unwrap()).unwrap();
    assert_eq!(loaded.to_bytes().unwrap(), saved.to_bytes().unwrap());

    let mut second = builder.build(&GPU.device, &GPU.queue).unwrap();
    assert_eq!(loaded.differences(&second), [""; 0]);
    loaded.restore(&mut second).unwrap();
    assert_eq!(second.lr(groups[4]).unwrap(), 0.5);
    for optimizer in [&mut first, &mut second] {
        (4..=5).for_each(|number| step(optimizer, number));
    }
    for tensor in &tensors {
        assert!(arrays(&first, *tensor) == arrays(&second, *tensor), "a resumed step differs");
    }
    assert_eq!(snapshot(&first).to_bytes().unwrap(), snapshot(&second).to_bytes().unwrap());

    // The host takes the same file.
    let mut host = builder.build_cpu::<f32>().unwrap();
    let mut params: Vec<Vec<f32>> = SUMMING.iter().map(|(_, n)| vec![0.0; *n]).collect();
    loaded.restore_host(&mut host, &mut params.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
    let shapes: Vec<[usize; 1]> = SUMMING.iter().map(|(_, n)| [*n]).collect();
    let params: Vec<(&[usize], &[f32])> = shapes.iter().zip(&params).map(|(s, p)| (&s[..], &p[..])).collect();
    assert_eq!(Checkpoint::of_host(&host, &params).unwrap().to_bytes().unwrap(), saved.to_bytes().unwrap());
}

#[test]
fn a_checkpoint_of_another_rule_is_refused_with_both_names() {
    let build = |rules: [Box<dyn Rule>; 2]| {
        let [first, second] = rules;
        let mut builder = Optimizer::builder(first);
        let group = builder.group("rest", second);
        builder.tensor(Group::DEFAULT, "w", &[3]);
        builder.tensor(group, "b", &[2]);
        builder.build(&GPU.device, &GPU.queue).unwrap()
    };
    let (adamw, lion, sgd) = (AdamW::default(), Lion::default(), Sgd::default());
    let saved = snapshot(&build([adamw.boxed(), lion.boxed()]));
    for (rules, parts) in [
        ([adamw.boxed(), sgd.boxed()], vec!["group `rest` holds lion", "the group here holds sgd"]),
        (
            [lion.boxed(), adamw.boxed()],
            vec!["group `default` holds adamw", "group here holds lion", "`rest` holds lion"],
        ),
        ([adamw.boxed(), adamw.boxed()], vec!["group `rest` holds lion", "here holds adamw"]),
    ] {
        let mut optimizer = build(rules);
        let error = saved.restore(&mut optimizer).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    // A file of one rule, for an optimizer of two.
    let error = snapshot(&build([adamw.boxed(), adamw.boxed()])).restore(&mut build([adamw.boxed(), lion.boxed()]));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("group `rest` holds adamw") && error.contains("here holds lion"), "{error}");
    // Groups in another order are the same groups.
    let mut builder = Optimizer::builder(lion.boxed());
    let group = builder.group("other", adamw.boxed());
    builder.tensor(group, "w", &[3]);
    builder.tensor(Group::DEFAULT, "b", &[2]);
    let saved = snapshot(&builder.build(&GPU.device, &GPU.queue).unwrap());
    let mut builder = Optimizer::builder(lion.boxed());
    let group = builder.group("other", adamw.boxed());
    builder.tensor(Group::DEFAULT, "b", &[2]);
    builder.tensor(group, "w", &[3]);
    saved.restore(&mut builder.build(&GPU.device, &GPU.queue).unwrap()).unwrap();
}

#[test]
fn a_row_set_holds_tensors_of_several_rules() {
    let build = |rules: &[Box<dyn Rule>], of: &[usize]| {
        let mut builder = Optimizer::builder(rules[0].clone());
        let mut groups = vec![Group::DEFAULT];
        groups.extend(rules[1..].iter().enumerate().map(|(i, rule)| builder.group(format!("group {i}"), rule.clone())));
        let tensors: Vec<Tensor> = of
            .iter()
            .enumerate()
            .map(|(i, &t)| builder.tensor(groups[i % groups.len()], format!("t{t}"), &[6, t + 1]))
            .collect();
        let rows = builder.row_set("rows", &tensors);
        builder.mask(rows).row_capacity(rows, 9).ema(Ema::default());
        (builder, tensors, rows)
    };
    let rules: [Box<dyn Rule>; 2] = [AdamW::default().into(), Lion::default().into()];
    let (builder, tensors, rows) = build(&rules, &[0, 1, 2, 3]);
    let alone = [build(&rules[..1], &[0, 2]), build(&rules[1..], &[1, 3])];
    let mut whole = builder.build(&GPU.device, &GPU.queue).unwrap();
    let mut host = builder.build_cpu::<f32>().unwrap();
    let mut parts: Vec<(Optimizer, &[Tensor], RowSet)> = alone
        .iter()
        .map(|(builder, tensors, rows)| (builder.build(&GPU.device, &GPU.queue).unwrap(), &tensors[..], *rows))
        .collect();
    let words = |values: &[u32]| {
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let size = values.len() as u64 * 4;
        let buffer =
            GPU.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        GPU.queue.write_buffer(&buffer, 0, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        buffer
    };
    let indices = [5, 0, 0, 3, u32::MAX, 1, 4];
    let drive = |optimizer: &mut Optimizer, tensors: &[Tensor], rows: RowSet, of: &[usize]| {
        for (tensor, t) in tensors.iter().zip(of) {
            optimizer.write_param(*tensor, &numbers(*t as u32, 6 * (t + 1))).unwrap();
        }
        optimizer.write_mask(rows, &[1, 0, 1, 1, 0, 1]).unwrap();
        let step = |optimizer: &mut Optimizer, live: usize, seed: u32| {
            for (tensor, t) in tensors.iter().zip(of) {
                optimizer.write_grad(*tensor, &numbers(seed + *t as u32, live * (t + 1))).unwrap();
            }
            GPU.run(|encoder| optimizer.step(encoder)).unwrap();
        };
        step(optimizer, 6, 10);
        step(optimizer, 6, 20);
        let (indices, flags) = (words(&indices), words(&[0, 1, 0, 0, 1, 0, 1]));
        GPU.run(|encoder| optimizer.remap(encoder, rows, indices.slice(..), 7)).unwrap();
        assert_eq!(optimizer.row_count(rows).unwrap(), 7);
        optimizer.write_mask(rows, &[1, 1, 1, 0, 1, 1, 1]).unwrap();
        step(optimizer, 7, 30);
        GPU.run(|encoder| optimizer.reset_rows(encoder, rows, flags.slice(..))).unwrap();
        GPU.run(|encoder| optimizer.reset_states(encoder, &tensors[..1])).unwrap();
        step(optimizer, 7, 40);
    };
    drive(&mut whole, &tensors, rows, &[0, 1, 2, 3]);
    for ((optimizer, tensors, rows), of) in parts.iter_mut().zip([[0, 2], [1, 3]]) {
        drive(optimizer, tensors, *rows, &of);
        // Only the first tensor of the whole is reset, which the second optimizer does not have.
        if of[0] == 0 {
            for (tensor, t) in tensors.iter().zip(of) {
                assert!(arrays(&whole, whole.tensor(&format!("t{t}")).unwrap()) == arrays(optimizer, *tensor), "t{t}");
            }
        }
    }
    let third = whole.tensor("t3").unwrap();
    assert!(arrays(&whole, third) == arrays(&parts[1].0, parts[1].1[1]), "t3");
    assert_eq!(whole.tensors().map(|(_, _, shape)| shape[0]).collect::<Vec<_>>(), [7; 4]);

    // The host does the same.
    let mut params: Vec<Vec<f32>> = (0..4).map(|t| numbers(t, 6 * (t as usize + 1))).collect();
    host.write_mask(rows, &[1, 0, 1, 1, 0, 1]).unwrap();
    let grads = |live: usize, seed: u32| -> Vec<Vec<f32>> {
        (0..4).map(|t| numbers(seed + t, live * (t as usize + 1))).collect()
    };
    step::step(&mut host, &mut params, &grads(6, 10));
    step::step(&mut host, &mut params, &grads(6, 20));
    host.remap(rows, &indices, &mut params.iter_mut().collect::<Vec<_>>()).unwrap();
    host.write_mask(rows, &[1, 1, 1, 0, 1, 1, 1]).unwrap();
    step::step(&mut host, &mut params, &grads(7, 30));
    host.reset_rows(rows, &[0, 1, 0, 0, 1, 0, 1], &params.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    host.reset_states(tensors[0], &params[0]).unwrap();
    step::step(&mut host, &mut params, &grads(7, 40));
    for (t, tensor) in tensors.iter().enumerate() {
        let got = block_on(whole.read_param(*tensor)).unwrap();
        for (got, want) in got.iter().zip(&params[t]) {
            assert!((got - want).abs() <= 1e-5 * want.abs().max(1e-2), "t{t}: {got} {want}");
        }
    }
    let error = whole.set_row_count(rows, 10).unwrap_err().to_string();
    assert!(error.contains("10 rows") && error.contains("room for 9"), "{error}");
}

#[test]
fn the_reported_memory_is_the_sum_over_the_rules() {
    let options = |builder: &mut Builder, _: &[Group]| _ = builder.clip(Clip::GlobalNorm(1.0));
    let Shared { builder, .. } = shared_builder(&options);
    let planned = builder.memory_usage(&GPU.device.limits()).unwrap();
    let built = builder.build(&GPU.device, &GPU.queue).unwrap().memory_usage();
    // The plan assumes a hardware GPU, which adds partial sums with more threads per workgroup; the bytes are the same.
    assert_eq!(planned, built);
    let elements: usize = SUMMING.iter().map(|(_, n)| n).sum();
    assert_eq!(planned.parameters(), elements as u64);
    assert_eq!(planned.of(Role::Parameters), 4 * elements as u64);
    let of =
        |groups: &[usize]| SUMMING.iter().filter(|(g, _)| groups.contains(g)).map(|(_, n)| 4 * *n as u64).sum::<u64>();
    assert!(planned.of(Role::State("v")) >= of(&[0, 1, 2, 3]), "{planned}");
}

#[test]
fn two_rules_that_evaluate_are_refused_with_the_reason() {
    let mut builder = Optimizer::builder(SAdam::default());
    builder.tensor(Group::DEFAULT, "w", &[4]);
    builder.group("flow", FlowAdam { integrator: Integrator::Rk4, ..FlowAdam::default() });
    let error = builder.build(&GPU.device, &GPU.queue).unwrap_err().to_string();
    for part in ["group `default` holds sadam", "group `flow` flowadam", "second optimizer"] {
        assert!(error.contains(part), "{error}");
    }
    let of_host = builder.build_cpu::<f32>().unwrap_err().to_string();
    assert_eq!(of_host, error);
}

#[test]
fn a_group_without_tensors_keeps_its_settings() {
    let mut builder = Optimizer::builder(AdamW::default());
    let group = builder.group("all", Lion::default());
    let w = builder.tensor(group, "w", &[4]);
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    optimizer.set_lr(Group::DEFAULT, 0.5).unwrap();
    assert_eq!(optimizer.lr(Group::DEFAULT).unwrap(), 0.5);
    assert_eq!(optimizer.rule(Group::DEFAULT).unwrap().name(), "adamw");
    assert_eq!(optimizer.dispatches(), 1);
    assert_eq!(optimizer.state_names(w).unwrap(), ["m"]);
    let error = optimizer.set_rule(group, AdamW::default()).unwrap_err().to_string();
    assert!(error.contains("group `all` holds lion") && error.contains("adamw"), "{error}");
    assert!(matches!(optimizer.set_lr(group, -1.0), Err(Error::Setting { .. } | Error::Usage(_))));
}

#[test]
fn a_step_on_the_host_with_evaluations_is_that_on_the_gpu() {
    for evaluating in
        [SAdam::default().boxed(), FlowAdam { integrator: Integrator::Rk4, ..FlowAdam::default() }.boxed()]
    {
        let mut builder = Optimizer::builder(Sgd { lr: 0.05, momentum: 0.9, ..Sgd::default() });
        let group = builder.group("evaluating", evaluating);
        let (a, b) = (builder.tensor(Group::DEFAULT, "a", &[5]), builder.tensor(group, "b", &[7]));
        let mut gpu = builder.build(&GPU.device, &GPU.queue).unwrap();
        let mut host = builder.build_cpu::<f64>().unwrap();
        let mut params = wide(&[numbers(1, 5), numbers(2, 7)]);
        for (tensor, values) in [a, b].into_iter().zip([numbers(1, 5), numbers(2, 7)]) {
            gpu.write_param(tensor, &values).unwrap();
        }
        // The gradient of each tensor depends on the parameters of both.
        let gradient = |p: &[&[f64]], t: usize| -> Vec<f64> {
            let mean = p.iter().flat_map(|p| p.iter()).sum::<f64>() / 12.0;
            p[t].iter().map(|x| x + 0.3 * mean).collect()
        };
        let loss = |p: &[&[f64]]| p.iter().flat_map(|p| p.iter()).map(|x| x * x / 2.0).sum::<f64>();
        for _ in 0..4 {
            let mut grads = [vec![0.0; 5], vec![0.0; 7]];
            let mut of_params: Vec<&mut [f64]> = params.iter_mut().map(Vec::as_mut_slice).collect();
            let mut of_grads: Vec<&mut [f64]> = grads.iter_mut().map(Vec::as_mut_slice).collect();
            host.step_with(&mut of_params, &mut of_grads, |request, p, g| {
                if request == EvalRequest::Gradient {
                    (0..2).for_each(|t| g[t].copy_from_slice(&gradient(p, t)));
                }
                Ok(loss(p))
            })
            .unwrap();
            let mut pending = gpu.begin_step().unwrap();
            while let Some(request) = block_on(pending.next_submitted()).unwrap() {
                let read = |tensor| wide(&[block_on(pending.optimizer().read_param(tensor)).unwrap()]).swap_remove(0);
                let params = [read(a), read(b)];
                let params = [&params[0][..], &params[1][..]];
                match request {
                    EvalRequest::Gradient => {
                        for (t, tensor) in [a, b].into_iter().enumerate() {
                            let g: Vec<f32> = gradient(&params, t).into_iter().map(|x| x as f32).collect();
                            pending.optimizer().write_grad(tensor, &g).unwrap();
                        }
                    }
                    EvalRequest::Loss(slot) => {
                        let to = pending.loss_slot(slot).unwrap();
                        GPU.queue.write_buffer(to.buffer(), to.offset(), &(loss(&params) as f32).to_le_bytes());
                    }
                }
            }
        }
        assert_eq!(gpu.evaluations().gradients, host.evaluations().gradients);
        for (tensor, want) in [a, b].into_iter().zip(&params) {
            let got = block_on(gpu.read_param(tensor)).unwrap();
            for (got, want) in got.iter().zip(want) {
                assert!((f64::from(*got) - want).abs() < 2e-4 * want.abs().max(0.05), "{got} {want}");
            }
        }
    }
}

#[test]
fn all_rules_in_one_optimizer_are_their_oracles() {
    let rules = rules_together();
    assert!(rules.len() + 2 > optim::ALL.len(), "{} rules", rules.len());
    for (rule, errors) in rules.iter().zip(run_together(&GPU, &rules, 1025).unwrap()) {
        assert!(errors.passed() && errors.compared > 3000, "{}: {errors:?}", rule.name());
    }
    assert!(report_together(&GPU, 5).unwrap().passed);
}

#[test]
fn parameters_of_several_rules_move_to_another_buffer() {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let buffer = || {
        let descriptor = wgpu::BufferDescriptor { label: None, size: 1024, usage, mapped_at_creation: false };
        GPU.device.create_buffer(&descriptor)
    };
    let run = |moves: bool| {
        let (params, moved, grads) = (buffer(), buffer(), buffer());
        GPU.queue.write_buffer(&params, 0, bytemuck::cast_slice(&numbers(1, 256)));
        GPU.queue.write_buffer(&grads, 0, bytemuck::cast_slice(&numbers(2, 256)));
        let mut builder = Optimizer::builder(AdamW::default());
        let rest = builder.group("rest", VRAdam::default());
        let w = builder.bind(Group::DEFAULT, "w", &[64], params.slice(..256), grads.slice(..256));
        let b = builder.bind(rest, "b", &[64], params.slice(512..768), grads.slice(512..768));
        let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
        GPU.run(|encoder| optimizer.step(encoder)).unwrap();
        if moves {
            GPU.run(|encoder| {
                encoder.copy_buffer_to_buffer(&params, 0, &moved, 0, 1024);
                optimizer.rebind_params(&params, &moved)
            })
            .unwrap();
        }
        let kept = block_on(wgpu_optim::read_buffer(&GPU.device, &GPU.queue, params.slice(..))).unwrap();
        GPU.run(|encoder| optimizer.step(encoder)).unwrap();
        let after = block_on(wgpu_optim::read_buffer(&GPU.device, &GPU.queue, params.slice(..))).unwrap();
        assert_eq!(kept == after, moves, "a step changes the buffer to which the parameters are bound");
        [arrays(&optimizer, w), arrays(&optimizer, b)]
    };
    assert!(run(true) == run(false));
}
