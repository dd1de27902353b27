//! Groups with rules of their own in one optimizer: the same bits as one optimizer for each rule, and, where the groups share a clip, a loss
//! scale or a test for finite numbers, the results of the oracle.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod bits;
    pub(crate) mod device;
    pub(crate) mod gpu;
    pub(crate) mod micro_batches;
    pub(crate) mod numbers;
    pub(crate) mod step;
}

use pollster::block_on;
use wgpu_optim::optim::{CustomRule, Integrator, Range};
use wgpu_optim::{
    Accumulate, Adai, AdamW, Builder, Clip, Ema, EvalRequest, FlowAdam, Group, Lion, Optimizer, Rule, SAdam, Schedule,
    Tensor, VRAdam,
};

use support::bits::bits;
use support::gpu::GPU;
use support::micro_batches;
use support::numbers::numbers;

/// The tensors: the group and the count of elements of each. Tails, an empty tensor, several chunks.
const TENSORS: [(usize, usize); 9] =
    [(0, 1025), (1, 3), (2, 700), (3, 18), (0, 0), (4, 260), (1, 4100), (2, 33), (5, 5)];
const STEPS: u32 = 5;

/// A rule of a user: the sign of the gradient, with a count of steps as its state.
fn custom() -> CustomRule {
    let text = "\
struct Hyper { lr: f32 }
struct State { steps: vec4<f32> }
fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
    (*s).steps += 1.0;
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
            tensors.push(builder.tensor(group, format!("t{t}"), &[elements]));
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
        builder.accumulate(Accumulate::Sum);
        let mut tensors = Vec::new();
        for (t, n) in LENGTHS.into_iter().enumerate() {
            if let Some((_, group)) = handles.iter().find(|(group, _)| *group == t % 2) {
                tensors.push((t, builder.tensor(*group, format!("t{t}"), &[n])));
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
        for step in 1..=3 {
            assert_eq!(evaluate(&mut whole, &tensors, step), requests, "{case}");
            evaluate(&mut first, &of_first, step);
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
    // A step that follows the flow requests four gradients; this schedule of thresholds makes every step follow it.
    let flow = FlowAdam { integrator: Integrator::Rk4, ..FlowAdam::default() };
    equal_evaluating("rk4", &flow, 4);
}
