//! Properties that the papers' rules have by their mathematics, on the host's f64 path.

mod support {
    pub(crate) mod handle;
    pub(crate) mod host;
}

use wgpu_optim::cpu::Optimizer;
use wgpu_optim::optim::{Adam, Directions, FlowAdam, Integrator, Rule, SAdam, WarpAdam, WarpMode};
use wgpu_optim::random::{draw, fill_normals, normals, unit};
use wgpu_optim::{EvalRequest, Group};

use support::handle;

use support::host;

fn optimizer(rule: impl Rule + 'static, sizes: &[usize]) -> Optimizer<f64> {
    let tensors = sizes.iter().enumerate().map(|(i, n)| (format!("tensor {i}"), 0, *n));
    host::builder([("all", rule.boxed())], tensors).build_cpu().expect("valid")
}

/// Numbers in [-1, 1).
fn numbers(key: u32, n: usize) -> Vec<f64> {
    (0..n as u32).map(|i| 2.0 * f64::from(unit(key, i)) - 1.0).collect()
}

/// One step on ½‖θ‖² + gᵀθ with its losses changed by `spoil`, which gets the slot.
fn step(optimizer: &mut Optimizer<f64>, w: &mut [f64], spoil: impl Fn(usize) -> f64) -> wgpu_optim::Result<()> {
    let mut g = vec![0.0; w.len()];
    optimizer.step_with(&mut [w], &mut [&mut g], |evaluation, params, grads| {
        let slot = if let EvalRequest::Loss(slot) = evaluation { slot } else { 0 };
        if evaluation == EvalRequest::Gradient {
            grads[0].copy_from_slice(params[0]);
        }
        Ok(params[0].iter().map(|x| 0.5 * x * x).sum::<f64>() + spoil(slot))
    })
}

/// While the slope dominates, LGI is (k/(k-1))(1 - B) with B ~ Beta(½, (k-1)/2).
#[test]
fn sadams_damping_on_a_smooth_function_has_the_mean_of_its_law() {
    for (k, damping, lgi_spread) in [(2, 0.3085, 0.71), (8, 0.145, 0.19)] {
        for directions in [Directions::Tensor, Directions::Global] {
            let rule = SAdam { k, directions, lr: 0.0, sigma: 1e-4, ..SAdam::default() };
            let mut optimizer = optimizer(rule, &[400]);
            let mut w = numbers(3, 400);
            let (mut lgis, mut damps) = (Vec::new(), Vec::new());
            let steps = 3000;
            for _ in 0..steps {
                step(&mut optimizer, &mut w, |_| 0.0).expect("a step");
                lgis.push(optimizer.decision(handle::tensor(&optimizer, 0), "lgi").unwrap().expect("decided"));
                damps.push(optimizer.decision(handle::tensor(&optimizer, 0), "damp").unwrap().expect("decided"));
            }
            let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
            let error = 4.0 * lgi_spread / f64::from(steps).sqrt();
            assert!((mean(&lgis) - 1.0).abs() < error, "k {k}: mean LGI {}", mean(&lgis));
            assert!((mean(&damps) - damping).abs() < 0.025, "k {k}: mean damping {}", mean(&damps));
            let most = f64::from(k) / (f64::from(k) - 1.0);
            assert!(lgis.iter().all(|lgi| (0.0..=most + 1e-9).contains(lgi)));
        }
    }
}

#[test]
fn sadam_with_one_probe_is_not_damped_and_with_lambda_zero_neither() {
    for rule in [SAdam { k: 1, ..SAdam::default() }, SAdam { lgi_lambda: 0.0, ..SAdam::default() }] {
        let mut optimizer = optimizer(rule, &[5]);
        step(&mut optimizer, &mut numbers(1, 5), |_| 0.0).expect("a step");
        assert_eq!(optimizer.decision(handle::tensor(&optimizer, 0), "damp").unwrap(), Some(1.0));
    }
}

#[test]
fn a_loss_that_is_not_finite_is_an_error_and_nothing_moves() {
    let mut optimizer = optimizer(SAdam::default(), &[6]);
    let mut w = numbers(2, 6);
    let before = w.clone();
    let error = step(&mut optimizer, &mut w, |slot| if slot == 2 { f64::INFINITY } else { 0.0 });
    let error = error.expect_err("a loss is infinite").to_string();
    assert!(error.contains("slot 2"), "{error}");
    assert_eq!((w.clone(), optimizer.step_count()), (before, 0));
    step(&mut optimizer, &mut w, |_| 0.0).expect("the next step is a step");
    assert_eq!(optimizer.step_count(), 1);
}

#[test]
fn an_evaluation_that_fails_leaves_everything_as_it_was() {
    let flow =
        FlowAdam { integrator: Integrator::Rk4, switch_sensitivity: Some(1e6), warmup: 0, ..FlowAdam::default() };
    let mut optimizer = optimizer(flow, &[6]);
    let mut w = numbers(2, 6);
    step(&mut optimizer, &mut w, |_| 0.0).expect("a step");
    let before = (w.clone(), optimizer.global_state_values().to_vec());
    let mut calls = 0;
    let mut g = vec![0.0; 6];
    let failed = optimizer.step_with(&mut [&mut w], &mut [&mut g], |_, params, grads| {
        calls += 1;
        grads[0].copy_from_slice(params[0]);
        if calls == 3 { Err(wgpu_optim::Error::Usage("no".to_owned())) } else { Ok(0.0) }
    });
    assert!(failed.is_err() && calls == 3);
    assert_eq!((w, optimizer.global_state_values().to_vec()), before);
}

/// If the flow is not finite, the step is Adam's step from the unchanged parameters, and it counts.
#[test]
fn a_flow_that_is_not_finite_is_a_step_of_adams() {
    let rule =
        FlowAdam { integrator: Integrator::Dopri5, switch_sensitivity: Some(1e6), warmup: 1, ..FlowAdam::default() };
    let adam = FlowAdam {
        integrator: Integrator::Euler,
        switch_sensitivity: Some(0.0),
        curvature_sensitivity: Some(1e9),
        ..rule
    };
    let run = |rule: FlowAdam| {
        let mut optimizer = optimizer(rule, &[7]);
        let mut w = numbers(4, 7);
        for _ in 0..3 {
            let (mut g, mut first) = (vec![0.0; 7], true);
            optimizer
                .step_with(&mut [&mut w], &mut [&mut g], |_, params, grads| {
                    grads[0].copy_from_slice(params[0]);
                    if !std::mem::take(&mut first) {
                        grads[0].fill(f64::NAN);
                    }
                    Ok(0.0)
                })
                .expect("a step");
        }
        (w, optimizer.evaluations().abandoned, optimizer.step_count())
    };
    let ((lost, abandoned, applied), (plain, none, _)) = (run(rule), run(adam));
    assert_eq!((abandoned, none, applied), (2, 0, 3));
    assert_eq!(lost, plain);
}

fn adam_beside(rule: WarpAdam, matrix: Option<&[f64]>, steps: u32) -> (Vec<f64>, Vec<f64>) {
    let mut warped = optimizer(rule, &[70]);
    if let Some(matrix) = matrix {
        warped.set_warp(handle::tensor(&warped, 0), matrix).expect("it fits");
    }
    let mut adam = optimizer(Adam { lr: rule.lr, ..Adam::default() }, &[70]);
    let (mut a, mut b) = (numbers(1, 70), numbers(1, 70));
    for t in 0..steps {
        let g = numbers(draw(9, t), 70);
        warped.step(&mut [&mut a], &[&g]).expect("a step");
        adam.step(&mut [&mut b], &[&g]).expect("a step");
    }
    (a, b)
}

fn furthest((a, b): (Vec<f64>, Vec<f64>)) -> f64 {
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn warpadam_with_the_identity_is_adam() {
    for warp_block in [1, 8, 32] {
        let rule = WarpAdam { warp: WarpMode::Frozen, warp_block, lr: 0.1, ..WarpAdam::default() };
        assert!(furthest(adam_beside(rule, None, 30)) < 1e-14);
    }
}

/// A diagonal P only rescales ε: θ moves with sign(p) m̂ / (√v̂ + ε/|p|).
#[test]
fn warpadam_with_a_diagonal_is_adam_with_another_epsilon() {
    let rule = WarpAdam { warp: WarpMode::Frozen, warp_block: 8, lr: 0.1, eps: 1e-30, ..WarpAdam::default() };
    let mut matrix = vec![0.0; 70 * 8];
    for i in 0..70 {
        matrix[i * 8 + i % 8] = 0.01 + 3.0 * (i as f64 / 70.0);
    }
    let with_p = furthest(adam_beside(rule, Some(&matrix), 30));
    assert!(with_p < 1e-7, "{with_p:e}: the difference is Adam's own ε of 1e-8");
    matrix[10] = 0.5;
    assert!(furthest(adam_beside(rule, Some(&matrix), 30)) > 1e-2, "a P that mixes coordinates is another rule");
}

/// The hypergradient lowers the loss of the step that it looks back on: with raw learning, P moves against ∂L/∂P.
#[test]
fn warpadam_learns_along_the_hypergradient() {
    let rule = WarpAdam { warp: WarpMode::Raw, warp_block: 4, lr: 0.1, warp_lr: 1e-3, ..WarpAdam::default() };
    let (g1, g2) = (numbers(1, 4), numbers(2, 4));
    let mut learned = optimizer(rule, &[4]);
    let mut w = numbers(3, 4);
    learned.step(&mut [&mut w], &[&g1]).expect("a step");
    let v = learned.state(handle::tensor(&learned, 0), "v").expect("kept").to_vec();
    learned.step(&mut [&mut w], &[&g2]).expect("a step");
    let matrix = learned.warp(handle::tensor(&learned, 0)).expect("a matrix");
    for i in 0..4 {
        for j in 0..4 {
            // θ moved by -c·(P g1)_i / d_i, so that -∂L/∂P_ij = c g2_i g1_j / d_i.
            let d = (v[i] / (1.0 - 0.999)).sqrt() + 1e-8;
            let want = f64::from(u8::from(i == j)) + 1e-3 * 0.1 * (1.0 - 0.9) / (1.0 - 0.9) * g2[i] / d * g1[j];
            assert!((matrix[i * 4 + j] - want).abs() < 1e-12, "{i} {j}: {} {want}", matrix[i * 4 + j]);
        }
    }
}

#[test]
fn normal_numbers_are_the_same_one_by_one_and_at_once() {
    for n in [0, 1, 3, 32, 33, 1000] {
        let mut filled = vec![0.0; n];
        fill_normals(77, &mut filled);
        let single: Vec<f32> = (0..n as u32).map(|i| normals(77, i / 4)[i as usize % 4]).collect();
        assert_eq!(filled, single);
    }
    let mut many = vec![0.0; 200_000];
    fill_normals(5, &mut many);
    let mean = |power: i32| many.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / many.len() as f64;
    for (power, want, allowed) in [(1, 0.0, 0.01), (2, 1.0, 0.015), (3, 0.0, 0.04), (4, 3.0, 0.1)] {
        assert!((mean(power) - want).abs() < allowed, "moment {power} is {}", mean(power));
    }
}

/// Before the first probes, a plain step would be AdamW's.
#[test]
fn a_plain_step_before_the_first_probes_is_refused() {
    let build = |allow: bool| {
        let mut builder = wgpu_optim::Optimizer::builder(SAdam::default());
        builder.undamped_steps(allow).tensor(Group::DEFAULT, "w", &[2]);
        builder.build_cpu::<f64>().unwrap()
    };
    let plain = |optimizer: &mut Optimizer<f64>| optimizer.step(&mut [&mut [1.0, 2.0]], &[&[0.5, -0.5]]);
    let mut fresh = build(false);
    let error = plain(&mut fresh).unwrap_err().to_string();
    assert!(error.contains("sadam has no slopes") && error.contains("undamped_steps(true)"), "{error}");
    assert_eq!(fresh.step_count(), 0);
    plain(&mut build(true)).unwrap();
    fresh.set_losses(&[1.0, 1.5, 2.0]).unwrap();
    plain(&mut fresh).unwrap();
    let mut probed = build(false);
    step(&mut probed, &mut [1.0, 2.0], |_| 0.0).unwrap();
    plain(&mut probed).unwrap();
}
