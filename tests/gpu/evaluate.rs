//! Steps that evaluate the objective or learn while they are under way, beside the same steps on the host.

use wgpu_optim::checkpoint::Checkpoint;
use wgpu_optim::optim::{Directions, FlowAdam, Injection, Integrator, Rule, WarpMode};
use wgpu_optim::{
    Adam, AdamWScheduleFree, Clip, Ema, EvalRequest, Evaluations, Group, Optimizer, SAdam, Tensor, WarpAdam, cpu, wgpu,
};

use crate::common::{block_on, gpu};

/// Less than a vec4, a block and a bit, a chunk and a bit.
const SIZES: [usize; 3] = [3, 70, 1037];

/// f(θ) = ½ Σ c θ² with curvatures of several magnitudes, on the host.
struct Bowl {
    curvature: Vec<Vec<f64>>,
}

impl Bowl {
    fn new() -> Self {
        let c = |i: usize| 0.3 + 3.0 * ((i * 7919 % 101) as f64 / 101.0);
        Self { curvature: SIZES.iter().map(|n| (0..*n).map(c).collect()).collect() }
    }

    fn start() -> Vec<Vec<f32>> {
        let p = |i: usize| ((i * 37 % 61) as f32 - 30.0) / 30.0;
        SIZES.iter().map(|n| (0..*n).map(p).collect()).collect()
    }

    fn loss(&self, params: &[Vec<f64>]) -> f64 {
        let one = |(c, p): (&Vec<f64>, &Vec<f64>)| c.iter().zip(p).map(|(c, p)| 0.5 * c * p * p).sum::<f64>();
        self.curvature.iter().zip(params).map(one).sum()
    }

    fn gradient(&self, i: usize, p: &[f64]) -> Vec<f64> {
        self.curvature[i].iter().zip(p).map(|(c, p)| c * p).collect()
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|x| *x as f32).collect()
}

/// A rule on the GPU and its oracle, on the same bowl.
struct Pair {
    bowl: Bowl,
    device: Optimizer,
    tensors: Vec<Tensor>,
    oracle: cpu::Optimizer<f64>,
    params: Vec<Vec<f64>>,
}

impl Pair {
    fn new(rule: impl Rule + 'static, configure: impl FnOnce(&mut wgpu_optim::Builder)) -> Self {
        let mut builder = Optimizer::builder(rule);
        let tensors: Vec<Tensor> =
            SIZES.iter().map(|n| builder.tensor(Group::DEFAULT, format!("of {n}"), &[*n])).collect();
        builder.seed(7);
        configure(&mut builder);
        let device = builder.build(&gpu().device, &gpu().queue).unwrap();
        let oracle = builder.build_cpu().unwrap();
        let params: Vec<Vec<f64>> = Bowl::start().iter().map(|p| wide(p)).collect();
        for (tensor, p) in tensors.iter().zip(Bowl::start()) {
            device.write_param(*tensor, &p).unwrap();
        }
        Self { bowl: Bowl::new(), device, tensors, oracle, params }
    }

    /// The same, stored in another way on both.
    fn stored(rule: impl Rule + 'static, storage: &str) -> Self {
        Self::new(rule, |builder| _ = builder.storage(storage.parse().unwrap()))
    }

    fn step_oracle(&mut self) {
        let mut grads = self.params.clone();
        let bowl = &self.bowl;
        let mut params: Vec<&mut [f64]> = self.params.iter_mut().map(Vec::as_mut_slice).collect();
        let mut grads: Vec<&mut [f64]> = grads.iter_mut().map(Vec::as_mut_slice).collect();
        self.oracle
            .step_with(&mut params, &mut grads, |evaluation, params, grads| {
                if evaluation == EvalRequest::Gradient {
                    for (i, (g, p)) in grads.iter_mut().zip(params).enumerate() {
                        g.copy_from_slice(&bowl.gradient(i, p));
                    }
                }
                Ok(bowl.loss(&params.iter().map(|p| p.to_vec()).collect::<Vec<_>>()))
            })
            .unwrap();
    }

    fn params(optimizer: &Optimizer, tensors: &[Tensor]) -> Vec<Vec<f64>> {
        tensors.iter().map(|t| wide(&block_on(optimizer.read_param(*t)).unwrap())).collect()
    }

    /// A step whose evaluations happen on the host.
    fn step_device(&mut self) {
        let mut step = self.device.begin_step().unwrap();
        while let Some(need) = block_on(step.next_submitted()).unwrap() {
            let params = Self::params(step.optimizer(), &self.tensors);
            match need {
                EvalRequest::Gradient => {
                    for (i, tensor) in self.tensors.iter().enumerate() {
                        step.optimizer().write_grad(*tensor, &narrow(&self.bowl.gradient(i, &params[i]))).unwrap();
                    }
                }
                EvalRequest::Loss(slot) => {
                    let slot = step.loss_slot(slot).unwrap();
                    let loss = self.bowl.loss(&params) as f32;
                    gpu().queue.write_buffer(slot.buffer(), slot.offset(), bytemuck::bytes_of(&loss));
                }
            }
        }
    }

    /// The largest distance between the parameters of both, and the largest distance that the oracle's parameters travelled.
    fn apart(&self) -> (f64, f64) {
        let (mut apart, mut way) = (0.0_f64, 0.0_f64);
        let device = Self::params(&self.device, &self.tensors);
        for ((ours, theirs), start) in device.iter().zip(&self.params).zip(Bowl::start()) {
            for ((a, b), c) in ours.iter().zip(theirs).zip(start) {
                assert!(a.is_finite(), "{a}");
                apart = apart.max((a - b).abs());
                way = way.max((b - f64::from(c)).abs());
            }
        }
        (apart, way)
    }

    fn follow(&mut self, steps: usize, tolerance: f64) {
        for t in 1..=steps {
            self.step_oracle();
            self.step_device();
            let (apart, way) = self.apart();
            assert!(apart <= tolerance * way + 1e-6, "step {t}: {apart:e} apart after a way of {way}");
        }
    }
}

#[test]
fn sadam_probes_the_same_directions_and_damps_alike() {
    for directions in [Directions::Tensor, Directions::Global] {
        let rule = SAdam { lr: 0.02, k: 5, sigma: 0.3, directions, weight_decay: 0.1, ..SAdam::default() };
        let mut pair = Pair::new(rule, |_| ());
        for t in 1..=6 {
            pair.step_oracle();
            pair.step_device();
            let decision = block_on(pair.device.read_decision(pair.tensors[0])).unwrap();
            let lgi = pair.oracle.decision(pair.tensors[0], "lgi").unwrap().unwrap();
            assert!((f64::from(decision[1]) - lgi).abs() < 2e-3 * lgi, "{directions:?} {t}: {decision:?} {lgi}");
            assert!(lgi > 0.05, "the probes see nothing: {lgi}");
        }
        let (apart, way) = pair.apart();
        assert!(apart < 1e-3 * way, "{directions:?}: {apart:e} of {way}");
        let expected = Evaluations { gradients: 6, losses: 36, abandoned: 0 };
        assert_eq!(pair.device.evaluations(), expected);
        assert_eq!(pair.oracle.evaluations(), Evaluations { gradients: 6, losses: 30, abandoned: 0 });
    }
}

/// If states are rounded, a state near the middle of two stored numbers may round to either.
#[test]
fn rules_that_evaluate_step_alike_with_rounded_states() {
    let sadam = SAdam { lr: 0.02, k: 5, sigma: 0.3, weight_decay: 0.1, ..SAdam::default() };
    let flow =
        FlowAdam { lr: 0.03, integrator: Integrator::Rk4, ode_t_scale: Some(20.0), warmup: 3, ..FlowAdam::default() };
    for storage in ["states=bf16", "states=bf16-sr", "8bit,min=0"] {
        let mut pair = Pair::stored(sadam, storage);
        pair.follow(6, 0.02);
        let mut pair = Pair::stored(flow, storage);
        pair.follow(8, 0.02);
        let triggers = pair.oracle.global_state("triggers").unwrap();
        assert!((1.0..8.0).contains(&triggers), "{storage}: {triggers} of 8 steps followed the flow");
        assert_eq!(f64::from(block_on(pair.device.read_global_state()).unwrap()[3]), triggers, "{storage}");
    }
}

#[test]
fn probes_put_every_bit_back() {
    let mut pair = Pair::new(SAdam::paper(), |_| ());
    let before = Pair::params(&pair.device, &pair.tensors);
    let mut step = pair.device.probe().unwrap();
    let mut losses = Vec::new();
    while let Some(need) = block_on(step.next_submitted()).unwrap() {
        let EvalRequest::Loss(slot) = need else { panic!("{need:?}") };
        losses.push(slot);
        if slot > 0 {
            assert_ne!(Pair::params(step.optimizer(), &pair.tensors), before, "probe {slot} moved nothing");
        }
    }
    assert_eq!(losses, (0..=8).collect::<Vec<_>>());
    assert_eq!(Pair::params(&pair.device, &pair.tensors), before);
    assert_eq!(block_on(pair.device.read_step_count()).unwrap(), 0, "probes are no step");
}

/// Excluded rows are not probed, and the direction over the other rows has length one.
#[test]
fn sadam_probes_the_rows_that_it_steps() {
    let rule = SAdam { lr: 0.02, k: 4, sigma: 0.3, weight_decay: 0.1, ..SAdam::default() };
    for nonzero in [false, true] {
        let mut rows = None;
        let mut pair = Pair::new(rule, |builder| {
            let tensor = builder.tensor(Group::DEFAULT, "rows", &[20, 2]);
            let set = builder.row_set("s", &[tensor]);
            builder.mask(set);
            if nonzero {
                builder.skip_zero_gradients(set);
            }
            rows = Some((tensor, set));
        });
        let (tensor, set) = rows.expect("configured");
        let flags: Vec<u32> = (0..20).map(|i| u32::from(i % 3 != 0)).collect();
        pair.device.write_mask(set, &flags).unwrap();
        pair.tensors.push(tensor);
        let start: Vec<f32> = (0..40).map(|i| (i as f32 - 17.5) / 20.0).collect();
        pair.device.write_param(tensor, &start).unwrap();
        pair.params.push(wide(&start));
        pair.bowl.curvature.push((0..40).map(|i| 0.5 + f64::from(i % 7)).collect());
        pair.oracle.write_mask(set, &flags).unwrap();
        for t in 1..=4 {
            pair.step_oracle();
            pair.step_device();
            let lgi = pair.oracle.decision(pair.tensors[0], "lgi").unwrap().unwrap();
            let found = block_on(pair.device.read_decision(tensor)).unwrap()[1];
            assert!((f64::from(found) - lgi).abs() < 2e-3 * lgi, "{nonzero} {t}: {found} {lgi}");
        }
        let ours = block_on(pair.device.read_param(tensor)).unwrap();
        for (i, ((ours, theirs), start)) in ours.iter().zip(&pair.params[3]).zip(&start).enumerate() {
            let flagged = flags[i / 2] != 0;
            assert_eq!(ours.to_bits() != start.to_bits(), flagged, "{i}");
            assert!((f64::from(*ours) - theirs).abs() < 1e-4, "{i}: {ours} {theirs}");
        }
    }
}

#[test]
fn losses_that_are_not_finite_skip_the_step() {
    for (bad, slot) in [(f32::NAN, 1), (f32::INFINITY, 0), (f32::NEG_INFINITY, 2)] {
        let mut pair = Pair::new(SAdam { weight_decay: 0.1, ..SAdam::default() }, |_| ());
        let mut losses = [1.0, 2.0, 3.0];
        losses[slot] = bad;
        pair.device.write_losses(&losses).unwrap();
        for (tensor, p) in pair.tensors.iter().zip(Bowl::start()) {
            pair.device.write_grad(*tensor, &p).unwrap();
        }
        let before = Pair::params(&pair.device, &pair.tensors);
        gpu().run(|encoder| pair.device.step(encoder)).unwrap();
        assert_eq!(Pair::params(&pair.device, &pair.tensors), before, "{bad}");
        assert_eq!(block_on(pair.device.read_step_count()).unwrap(), 0, "{bad}");
        pair.device.write_losses(&[1.0, 2.0, 3.0]).unwrap();
        gpu().run(|encoder| pair.device.step(encoder)).unwrap();
        assert_ne!(Pair::params(&pair.device, &pair.tensors), before, "{bad}");
    }
}

/// If the flow is not finite, the step is Adam's step from the unchanged parameters.
#[test]
fn a_flow_that_is_not_finite_is_a_step_of_adams() {
    let rule = FlowAdam {
        lr: 0.05,
        integrator: Integrator::Dopri5,
        warmup: 1,
        switch_sensitivity: Some(1e6),
        ..FlowAdam::default()
    };
    let adam = FlowAdam { switch_sensitivity: Some(0.0), curvature_sensitivity: Some(1e6), ..rule };
    let (mut lost, mut plain) = (Pair::new(rule, |_| ()), Pair::new(adam, |_| ()));
    for _ in 0..3 {
        for pair in [&mut lost, &mut plain] {
            let (tensors, mut first) = (&pair.tensors, true);
            let mut step = pair.device.begin_step().unwrap();
            while let Some(need) = block_on(step.next_submitted()).unwrap() {
                assert_eq!(need, EvalRequest::Gradient);
                for (tensor, mut g) in tensors.iter().zip(Bowl::start()) {
                    if !first {
                        g.fill(f32::NAN);
                    }
                    step.optimizer().write_grad(*tensor, &g).unwrap();
                }
                first = false;
            }
        }
    }
    assert_eq!(lost.device.evaluations().abandoned, 2);
    assert_eq!(plain.device.evaluations(), Evaluations { gradients: 3, ..Evaluations::default() });
    let (lost, plain) = (Pair::params(&lost.device, &lost.tensors), Pair::params(&plain.device, &plain.tensors));
    assert_eq!(lost, plain);
}

#[test]
fn a_flow_by_runge_and_kutta_is_the_oracles() {
    for injection in [Injection::Soft, Injection::Hard] {
        let rule = FlowAdam {
            lr: 0.03,
            integrator: Integrator::Rk4,
            ode_t_scale: Some(20.0),
            warmup: 3,
            injection,
            ..FlowAdam::default()
        };
        let mut pair = Pair::new(rule, |_| ());
        pair.follow(12, 2e-4);
        let triggers = pair.oracle.global_state("triggers").unwrap();
        assert!((2.0..12.0).contains(&triggers), "{triggers} of 12 steps followed the flow");
        assert_eq!(f64::from(block_on(pair.device.read_global_state()).unwrap()[3]), triggers);
        assert_eq!(
            block_on(pair.device.read_step_count()).unwrap(),
            12 - triggers as u64,
            "flows are not applied steps"
        );
        assert_eq!(pair.device.evaluations(), pair.oracle.evaluations(), "gradients that were not needed");
    }
}

#[test]
fn a_flow_by_dormand_and_prince_is_the_oracles_over_several_steps() {
    // A long way at a high tolerance: attempts are refused and steps follow one another.
    let rule = FlowAdam {
        lr: 0.05,
        integrator: Integrator::Dopri5,
        ode_t_scale: Some(120.0),
        ode_tol: 1e-5,
        warmup: 2,
        ..FlowAdam::default()
    };
    let mut pair = Pair::new(rule, |_| ());
    pair.follow(6, 2e-4);
    let gradients = pair.oracle.evaluations().gradients;
    assert!(gradients > 6 + 2 * 14, "{gradients} gradients: no flow took more than a step");
    assert_eq!(pair.device.evaluations(), pair.oracle.evaluations());
}

/// The form that never reads back, all in one encoder, gives the same bits as the form that awaits the GPU's choice.
#[test]
fn the_resident_form_has_the_same_bits() {
    let rule = FlowAdam {
        lr: 0.03,
        integrator: Integrator::Rk4,
        ode_t_scale: Some(20.0),
        warmup: 1,
        switch_sensitivity: Some(1e6),
        ..FlowAdam::default()
    };
    let mut awaited = Pair::new(rule, |_| ());
    let mut resident = Pair::new(rule, |_| ());
    for _ in 0..4 {
        // The gradient is constant, so that no evaluation is needed between the passes.
        for pair in [&awaited, &resident] {
            for (tensor, p) in pair.tensors.iter().zip(Bowl::start()) {
                pair.device.write_grad(*tensor, &p).unwrap();
            }
        }
        block_on(awaited.device.step_with_submits(|_, _| Ok(()))).unwrap();
        gpu().run(|encoder| resident.device.step_with(encoder, |_, _, _| Ok(()))).unwrap();
    }
    assert_eq!(Pair::params(&awaited.device, &awaited.tensors), Pair::params(&resident.device, &resident.tensors));
    assert_eq!(
        block_on(resident.device.read_global_state()).unwrap(),
        block_on(awaited.device.read_global_state()).unwrap()
    );
    assert_eq!(resident.device.evaluations().gradients, 16);
    assert_eq!(awaited.device.evaluations().gradients, 13, "the first step has no flow");
}

#[test]
fn a_plain_rule_asks_for_its_gradient_alone() {
    let mut pair = Pair::new(Adam { weight_decay: 0.1, ..Adam::default() }, |_| ());
    pair.follow(3, 1e-4);
    assert_eq!(pair.device.evaluations(), Evaluations { gradients: 3, ..Evaluations::default() });
}

#[test]
fn warpadam_learns_the_oracles_matrix() {
    for warp in [WarpMode::Raw, WarpMode::Normalised] {
        for warp_block in [1, 2, 4, 32, 64] {
            let rule = WarpAdam {
                lr: 0.02,
                warp,
                warp_block,
                warp_lr: if warp == WarpMode::Raw { 3.0 } else { 0.05 },
                warp_decay: 0.1,
                ..WarpAdam::default()
            };
            let mut pair = Pair::new(rule, |_| ());
            pair.follow(5, 1e-3);
            for (i, tensor) in pair.tensors.iter().enumerate() {
                let ours = block_on(pair.device.read_warp(*tensor)).unwrap();
                let theirs = pair.oracle.warp(*tensor).unwrap();
                let mut learned = 0.0_f64;
                for (at, (a, b)) in ours.iter().zip(&theirs).enumerate() {
                    let b_is = (at / warp_block as usize) % warp_block as usize == at % warp_block as usize;
                    learned = learned.max((b - f64::from(u8::from(b_is))).abs());
                    assert!(
                        (f64::from(*a) - b).abs() < 1e-4 * b.abs().max(0.05),
                        "{warp:?} {warp_block} {i} {at}: {a} {b}"
                    );
                }
                assert!(learned > 1e-3, "{warp:?} {warp_block} {i}: nothing was learned ({learned:e})");
            }
        }
    }
}

#[test]
fn a_matrix_that_was_given_multiplies_the_gradient() {
    let rule = WarpAdam { lr: 0.02, warp: WarpMode::Frozen, warp_block: 8, ..WarpAdam::default() };
    let mut pair = Pair::new(rule, |builder| {
        builder.clip(Clip::GlobalNorm(0.5));
    });
    for (i, n) in SIZES.into_iter().enumerate() {
        let mut rows = vec![0.0_f32; n * 8];
        for (at, p) in rows.iter_mut().enumerate() {
            let (row, column) = (at / 8, at % 8);
            let width = (n - row / 8 * 8).min(8);
            *p = if column < width { ((at * 13 % 17) as f32 - 8.0) / 8.0 } else { 0.0 };
        }
        pair.device.write_warp(pair.tensors[i], &rows).unwrap();
        pair.oracle.set_warp(pair.tensors[i], &wide(&rows)).unwrap();
        assert_eq!(block_on(pair.device.read_warp(pair.tensors[i])).unwrap(), rows);
    }
    pair.follow(3, 1e-3);
    let mut past = vec![0.0; 3 * 8];
    past[7] = 1.0;
    let error = pair.device.write_warp(pair.tensors[0], &past).unwrap_err().to_string();
    assert!(error.contains("of 3") && error.contains("3 columns"), "{error}");
}

/// A skipped step leaves the global state and the matrices as they were.
#[test]
fn a_skipped_step_leaves_no_trace() {
    let warp = WarpAdam { warp_block: 4, warp_lr: 0.1, ..WarpAdam::default() };
    let flow = FlowAdam { warmup: 0, ..FlowAdam::default() };
    let rules: [Box<dyn Rule>; 2] = [Box::new(warp), Box::new(flow)];
    for rule in rules {
        let mut builder = Optimizer::builder(rule.clone());
        let tensor = builder.tensor(Group::DEFAULT, "w", &[70]);
        builder.skip_nonfinite(true);
        let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
        optimizer.write_param(tensor, &Bowl::start()[1]).unwrap();
        let mut grads = Bowl::start().swap_remove(1);
        optimizer.write_grad(tensor, &grads).unwrap();
        gpu().run(|encoder| optimizer.step(encoder).and_then(|()| optimizer.step(encoder))).unwrap();
        let read = |optimizer: &Optimizer| {
            let state = |name: &&str| block_on(optimizer.read_state(tensor, name)).unwrap();
            let states: Vec<Vec<f32>> = optimizer.state_names(tensor).unwrap().iter().map(state).collect();
            let param = block_on(optimizer.read_param(tensor)).unwrap();
            (param, states, block_on(optimizer.read_global_state()).unwrap())
        };
        let before = read(&optimizer);
        grads[69] = f32::INFINITY;
        optimizer.write_grad(tensor, &grads).unwrap();
        gpu().run(|encoder| optimizer.step(encoder)).unwrap();
        assert_eq!(read(&optimizer), before, "{}", rule.name());
        assert_eq!(block_on(optimizer.read_skipped()).unwrap(), 1);
        grads[69] = 1.0;
        optimizer.write_grad(tensor, &grads).unwrap();
        gpu().run(|encoder| optimizer.step(encoder)).unwrap();
        assert_ne!(read(&optimizer), before, "{}", rule.name());
    }
}

#[test]
fn combinations_that_cannot_work_are_refused() {
    let staged = FlowAdam { integrator: Integrator::Rk4, ..FlowAdam::default() };
    let mut pair = Pair::new(staged, |_| ());
    let error = gpu().run(|encoder| pair.device.step(encoder)).unwrap_err().to_string();
    assert!(error.contains("evaluate"), "{error}");
    let mut builder = Optimizer::builder(staged);
    builder.tensor(Group::DEFAULT, "w", &[4]);
    builder.clip(Clip::GlobalNorm(1.0));
    let error = builder.build(&gpu().device, &gpu().queue).unwrap_err().to_string();
    assert!(error.contains("clip by norm"), "{error}");
    let mut builder = Optimizer::builder(SAdam::default());
    builder.tensor(Group::DEFAULT, "w", &[4]);
    builder.group("other", SAdam { k: 3, ..SAdam::default() });
    let error = builder.build(&gpu().device, &gpu().queue).unwrap_err().to_string();
    assert!(error.contains("another sadam"), "{error}");
    let dopri5 = FlowAdam { integrator: Integrator::Dopri5, ..FlowAdam::default() };
    let mut pair = Pair::new(dopri5, |_| ());
    let error = gpu().run(|encoder| pair.device.step_with(encoder, |_, _, _| Ok(()))).unwrap_err().to_string();
    assert!(error.contains("call step_with_submits"), "{error}");
    let error = gpu().run(|encoder| pair.device.step(encoder)).unwrap_err().to_string();
    assert!(error.contains("call step_with_submits"), "{error}");
    let by_hand = gpu().run(|encoder| {
        let mut step = pair.device.begin_step()?;
        while step.next(encoder)?.is_some() {}
        Ok(())
    });
    let error = by_hand.unwrap_err().to_string();
    assert!(error.contains("call next_submitted"), "{error}");
    assert!(pair.device.write_losses(&[0.0]).is_err());
    assert!(pair.device.loss_slot(0).is_err());
}

/// Before the first probes, a plain step would be AdamW's. A snapshot from before the probes holds no slopes.
#[test]
fn a_plain_step_before_the_first_probes_is_refused() {
    let build = |allow: bool| {
        let mut builder = Optimizer::builder(SAdam::default());
        builder.undamped_steps(allow).tensor(Group::DEFAULT, "w", &[4]);
        builder.build(&gpu().device, &gpu().queue).unwrap()
    };
    let refused = |optimizer: &mut Optimizer| {
        for half in [false, true] {
            let step = |e: &mut wgpu::CommandEncoder| if half { optimizer.record_sums(e) } else { optimizer.step(e) };
            let error = gpu().run(step).unwrap_err().to_string();
            assert!(error.contains("sadam has no slopes") && error.contains("undamped_steps(true)"), "{error}");
        }
    };
    let plain = |optimizer: &mut Optimizer| gpu().run(|encoder| optimizer.step(encoder)).unwrap();
    let mut fresh = build(false);
    refused(&mut fresh);
    let saved = saved(&fresh);
    plain(&mut build(true));
    let mut probed = build(false);
    gpu()
        .run(|encoder| {
            let mut step = probed.probe()?;
            while step.next(encoder)?.is_some() {}
            Ok(())
        })
        .unwrap();
    plain(&mut probed);
    fresh.write_losses(&[1.0, 1.5, 2.0]).unwrap();
    let later = self::saved(&fresh);
    plain(&mut fresh);
    saved.restore(&mut fresh).unwrap();
    refused(&mut fresh);
    later.restore(&mut fresh).unwrap();
    plain(&mut fresh);
}

fn saved(optimizer: &Optimizer) -> Checkpoint {
    let mut encoder = crate::common::encoder();
    let snapshot = optimizer.snapshot(&mut encoder).unwrap();
    crate::common::submit(encoder);
    block_on(snapshot.checkpoint()).unwrap()
}

/// Everything that a step leaves behind, with names: parameters and states of every tensor, the global state and the step count.
fn traces(optimizer: &Optimizer, tensors: &[Tensor]) -> Vec<(String, Vec<f32>)> {
    let mut traces = Vec::new();
    for (tensor, n) in tensors.iter().zip(SIZES) {
        traces.push((format!("param of {n}"), block_on(optimizer.read_param(*tensor)).unwrap()));
        for name in optimizer.state_names(*tensor).unwrap() {
            traces.push((format!("{name} of {n}"), block_on(optimizer.read_state(*tensor, name)).unwrap()));
        }
    }
    traces.push(("global state".to_owned(), block_on(optimizer.read_global_state()).unwrap()));
    traces.push(("step count".to_owned(), vec![block_on(optimizer.read_step_count()).unwrap() as f32]));
    traces
}

/// Compares the traces of two optimizers bit by bit.
fn same_traces(what: &str, ours: &Pair, theirs: &Pair) {
    let (ours, theirs) = (traces(&ours.device, &ours.tensors), traces(&theirs.device, &theirs.tensors));
    for ((name, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        let differ = ours.iter().zip(theirs).position(|(a, b)| a.to_bits() != b.to_bits());
        assert!(differ.is_none(), "{what}: {name} differs at {differ:?}");
    }
}

/// A buffer with this gradient at `offset`.
fn gradient_buffer(values: &[f32], offset: u64) -> wgpu::Buffer {
    let size = offset + (values.len() as u64 * 4).next_multiple_of(16);
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: Some("gradient"), size, usage, mapped_at_creation: false };
    let buffer = gpu().device.create_buffer(&descriptor);
    gpu().queue.write_buffer(&buffer, offset, bytemuck::cast_slice(values));
    buffer
}

/// One step of `pair`, whose gradients lie in other buffers, at other offsets, at each evaluation.
fn step_with_new_buffers(pair: &mut Pair) {
    let mut evaluations = 0;
    let mut step = pair.device.begin_step().unwrap();
    while let Some(need) = block_on(step.next_submitted()).unwrap() {
        let params = Pair::params(step.optimizer(), &pair.tensors);
        match need {
            EvalRequest::Gradient => {
                evaluations += 1;
                let offset = 256 * (evaluations % 3);
                let buffers: Vec<wgpu::Buffer> = (0..pair.tensors.len())
                    .map(|i| gradient_buffer(&narrow(&pair.bowl.gradient(i, &params[i])), offset))
                    .collect();
                let slices = buffers.iter().zip(SIZES).map(|(buffer, n)| buffer.slice(offset..offset + 4 * n as u64));
                step.set_grads(pair.tensors.iter().copied().zip(slices)).unwrap();
            }
            EvalRequest::Loss(slot) => {
                let slot = step.loss_slot(slot).unwrap();
                let loss = pair.bowl.loss(&params) as f32;
                gpu().queue.write_buffer(slot.buffer(), slot.offset(), bytemuck::bytes_of(&loss));
            }
        }
    }
}

/// Frameworks allocate new gradient buffers in each backward pass: also in those inside of a step.
#[test]
fn gradients_that_are_named_at_each_evaluation_give_the_same_bits() {
    let flow = FlowAdam { warmup: 1, switch_sensitivity: Some(1e6), lr: 0.05, ..FlowAdam::default() };
    let rules: [Box<dyn Rule>; 7] = [
        Box::new(AdamWScheduleFree { lr: 0.05, ..AdamWScheduleFree::default() }),
        Box::new(FlowAdam { integrator: Integrator::Rk4, ..flow }),
        Box::new(FlowAdam { integrator: Integrator::Dopri5, ..flow }),
        Box::new(flow),
        Box::new(SAdam { lr: 0.05, weight_decay: 0.1, ..SAdam::default() }),
        Box::new(WarpAdam { warp_block: 8, warp_lr: 0.05, ..WarpAdam::default() }),
        Box::new(Adam { lr: 0.05, ..Adam::default() }),
    ];
    for rule in rules {
        let name = format!("{} {:?}", rule.name(), rule.procedure());
        let build = |dynamic: bool| {
            let mut builder = Optimizer::builder(rule.clone());
            let tensors: Vec<Tensor> =
                SIZES.iter().map(|n| builder.tensor(Group::DEFAULT, format!("of {n}"), &[*n])).collect();
            builder.seed(7).ema(Ema::default()).dynamic_gradients(dynamic);
            let device = builder.build(&gpu().device, &gpu().queue).unwrap();
            let params: Vec<Vec<f64>> = Bowl::start().iter().map(|p| wide(p)).collect();
            for (tensor, p) in tensors.iter().zip(Bowl::start()) {
                device.write_param(*tensor, &p).unwrap();
            }
            Pair { bowl: Bowl::new(), device, tensors, oracle: builder.build_cpu().unwrap(), params }
        };
        let (mut bound, mut named) = (build(false), build(true));
        for step in 0..4 {
            bound.step_device();
            step_with_new_buffers(&mut named);
            same_traces(&format!("{name}, step {step}"), &named, &bound);
        }
        assert_eq!(named.device.evaluations(), bound.device.evaluations(), "{name}");
        // The average takes the weights' place, and back.
        for _ in 0..2 {
            for pair in [&mut bound, &mut named] {
                gpu().run(|encoder| pair.device.swap_ema(encoder)).unwrap();
            }
            assert_eq!(
                Pair::params(&named.device, &named.tensors),
                Pair::params(&bound.device, &bound.tensors),
                "{name}"
            );
        }
    }
}

/// An evaluation whose gradients were not named reads the bound gradients, and a tensor without any is an error.
#[test]
fn an_evaluation_without_gradients_is_refused() {
    let mut builder = Optimizer::builder(FlowAdam { integrator: Integrator::Rk4, ..FlowAdam::default() });
    let param = gradient_buffer(&[1.0; 4], 0);
    let tensor = builder.bind_param(Group::DEFAULT, "w", &[4], param.slice(..));
    let mut optimizer = builder.build(&gpu().device, &gpu().queue).unwrap();
    let mut encoder = crate::common::encoder();
    let mut step = optimizer.begin_step().unwrap();
    assert_eq!(step.next(&mut encoder).unwrap(), Some(EvalRequest::Gradient));
    let error = step.next(&mut encoder).unwrap_err().to_string();
    assert!(error.contains("`w`") && error.contains("no gradient"), "{error}");
    drop(step);
    let mut step = optimizer.begin_step().unwrap();
    let gradient = gradient_buffer(&[1.0; 4], 0);
    let mut asked = 0;
    while let Some(EvalRequest::Gradient) = step.next(&mut encoder).unwrap() {
        asked += 1;
        step.set_grads([(tensor, gradient.slice(..))]).unwrap();
    }
    assert_eq!(asked, 4);
    let mut pair = Pair::new(Adam::default(), |_| ());
    let mut step = pair.device.begin_step().unwrap();
    let error = step.set_grads([]).unwrap_err().to_string();
    assert!(error.contains("dynamic_gradients"), "{error}");
}

/// An integrator's update moves the parameters from the start by the whole displacement: telemetry measures this change.
#[test]
fn a_step_along_the_flow_is_measured_as_the_oracle_is() {
    let flow = FlowAdam { warmup: 1, switch_sensitivity: Some(1e6), lr: 0.05, ..FlowAdam::default() };
    for integrator in [Integrator::Rk4, Integrator::Dopri5] {
        let mut pair = Pair::new(FlowAdam { integrator, ..flow }, |builder| _ = builder.telemetry(true));
        for step in 0..3 {
            pair.step_device();
            pair.step_oracle();
            gpu().wait().unwrap();
            let (got, want) = (pair.device.try_stats().unwrap().total, pair.oracle.stats().unwrap().total);
            for (what, got, want) in [
                ("gradient", got.gradient, want.gradient),
                ("parameter", got.parameter, want.parameter),
                ("update", got.update, want.update),
            ] {
                assert!(
                    want > 0.0 && (got - want).abs() <= 1e-4 * want,
                    "{integrator:?}, step {step}: {what} {got} {want}"
                );
            }
        }
    }
}
