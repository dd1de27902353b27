//! Every rule through the adapter: against the engine's f64 reference.

use burn::module::{Module, Param, ParamGroup, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use wgpu_optim::optim::{ALL, Rule};
use wgpu_optim::{Adam, EvalRequest, FlowAdam, Group, Optimizer, SAdam};
use wgpu_optim_burn::{WgpuOptimizer, burn, wgpu_optim};

use crate::support::{Gpu, exclusive, numbers, shared, values};

/// Parameters of sizes around the engine's chunks.
#[derive(Module, Debug)]
struct Four {
    a: Param<Tensor<1>>,
    b: Param<Tensor<2>>,
    c: Param<Tensor<3>>,
    d: Param<Tensor<1>>,
}

const SHAPES: [(&str, &[usize]); 4] = [("a", &[5]), ("b", &[33, 40]), ("c", &[2, 3, 171]), ("d", &[1])];

impl Four {
    fn new(device: &Device) -> Self {
        fn param<const D: usize>(shape: [usize; D], salt: u64, device: &Device) -> Param<Tensor<D>> {
            let data = TensorData::new(numbers(shape.iter().product(), salt), shape);
            Param::from_tensor(Tensor::from_data(data, device).require_grad())
        }
        Self {
            a: param([5], 0, device),
            b: param([33, 40], 1, device),
            c: param([2, 3, 171], 2, device),
            d: param([1], 3, device),
        }
    }

    fn grads(&self, step: u64) -> GradientsParams {
        fn register<const D: usize>(grads: &mut GradientsParams, param: &Param<Tensor<D>>, salt: u64) {
            let shape = param.shape();
            let data = TensorData::new(numbers(shape.num_elements(), salt), shape);
            let id: ParamId = param.id;
            grads.register(id, Tensor::<D>::from_data(data, &param.device().without_autodiff()));
        }
        let mut grads = GradientsParams::new();
        register(&mut grads, &self.a, 10 + 4 * step);
        register(&mut grads, &self.b, 11 + 4 * step);
        register(&mut grads, &self.c, 12 + 4 * step);
        register(&mut grads, &self.d, 13 + 4 * step);
        grads
    }
}

/// The parameters as the reference begins with them.
fn first_values() -> Vec<Vec<f64>> {
    let count = |shape: &[usize]| shape.iter().product::<usize>();
    (0..)
        .zip(SHAPES)
        .map(|(salt, (_, shape))| numbers(count(shape), salt).into_iter().map(f64::from).collect())
        .collect()
}

fn grads_of(step: u64) -> Vec<Vec<f64>> {
    let count = |shape: &[usize]| shape.iter().product::<usize>();
    (10 + 4 * step..)
        .zip(SHAPES)
        .map(|(salt, (_, shape))| numbers(count(shape), salt).into_iter().map(f64::from).collect())
        .collect()
}

/// The largest difference of the module and its states from the reference, relative to 1 plus the number.
fn worst(model: &Four, optim: &WgpuOptimizer, host: &wgpu_optim::cpu::Optimizer<f64>, params: &[Vec<f64>]) -> f64 {
    let mut worst = 0.0_f64;
    let mut compare = |what: &str, ours: &[f32], theirs: &[f64]| {
        assert_eq!(ours.len(), theirs.len(), "{what}");
        for (a, b) in ours.iter().zip(theirs) {
            assert!(a.is_finite(), "{what}");
            worst = worst.max((f64::from(*a) - b).abs() / (1.0 + b.abs()));
        }
    };
    for ((path, values), params) in values(model).iter().zip(params) {
        compare(path, values, params);
        let (ours, theirs) = (optim.engine().tensor(path).unwrap(), host.tensor(path).unwrap());
        for state in host.state_names(theirs).unwrap() {
            let values = pollster::block_on(optim.engine().read_state(ours, state)).unwrap();
            compare(&format!("{path}.{state}"), &values, host.state(theirs, state).unwrap());
        }
    }
    worst
}

fn steps_like_the_reference(gpu: &Gpu, name: &str, rule: Box<dyn Rule>) {
    let mut model = Four::new(&gpu.device);
    // Muon steps matrices only.
    let refuses = |shape: &[usize]| {
        rule.procedure().is_some_and(|procedure| procedure.refuses_shape(rule.name(), shape).is_some())
    };
    let mut options = WgpuOptimizer::new(rule.clone()).with_setup(&gpu.setup);
    let mut builder = Optimizer::builder(rule.clone());
    for (path, shape) in SHAPES {
        let mut group = Group::DEFAULT;
        if refuses(shape) {
            options = options.with_group(ParamGroup::from_path(path), Adam::default());
            group = builder.group(path, Adam::default());
        }
        builder.tensor(group, path, shape);
    }
    let mut optim = options.init(&model).unwrap();
    let mut host = builder.build_cpu::<f64>().unwrap();
    let mut params = first_values();
    for step in 0..4 {
        let grads = model.grads(step);
        model = optim.step((), model, grads).unwrap();
        let grads = grads_of(step);
        let mut slices: Vec<&mut [f64]> = params.iter_mut().map(Vec::as_mut_slice).collect();
        host.step(&mut slices, &grads.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    }
    let worst = worst(&model, &optim, &host, &params);
    assert!(worst < 2e-5, "{name}: {worst:e}");
}

#[test]
fn every_rule_steps_like_the_reference() {
    let mut tried = 0;
    for entry in ALL {
        for (variant, rule) in entry.variants() {
            if rule.procedure().is_none_or(|procedure| procedure.losses() == 0 && procedure.needs_call().is_none()) {
                steps_like_the_reference(shared(), &format!("{} {variant}", entry.name), rule);
                tried += 1;
            }
        }
    }
    assert!(tried > 15, "{tried} rules");
    steps_like_the_reference(exclusive(), "adam", Box::new(Adam::default()));
}

/// The curvature of the loss at an element.
fn slope(i: usize) -> f32 {
    0.5 + (i % 7) as f32 / 7.0
}

/// ½ Σ slope (w - 0.9 w₀)², with the first values w₀. It is small: a loss of f32 has few digits left in the difference of two.
fn loss(model: &Four) -> Tensor<1> {
    let part = |x: Tensor<1>, salt: u64| {
        let n = x.shape().num_elements();
        let constants = |values: Vec<f32>| Tensor::<1>::from_data(TensorData::new(values, [n]), &x.device());
        let targets = constants(numbers(n, salt).iter().map(|w| 0.9 * w).collect());
        ((x.clone() - targets).powi_scalar(2) * constants((0..n).map(slope).collect())).sum() * 0.5
    };
    let (b, c) = (model.b.val().flatten(0, 1), model.c.val().flatten(0, 2));
    part(model.a.val(), 0) + part(b, 1) + part(c, 2) + part(model.d.val(), 3)
}

fn loss_of(request: EvalRequest, params: &[&[f64]], grads: &mut [&mut [f64]]) -> f64 {
    let mut loss = 0.0;
    for ((grads, params), first) in grads.iter_mut().zip(params).zip(first_values()) {
        for (i, ((g, w), first)) in grads.iter_mut().zip(*params).zip(first).enumerate() {
            let away = w - f64::from(0.9_f32 * first as f32);
            loss += 0.5 * f64::from(slope(i)) * away * away;
            if request == EvalRequest::Gradient {
                *g = f64::from(slope(i)) * away;
            }
        }
    }
    loss
}

/// `expected_calls` are those of the closure in a step, where their number is fixed.
fn evaluates_like_the_reference(rule: impl Rule + Clone + 'static, expected_calls: Option<usize>, tolerance: f64) {
    let gpu = shared();
    let mut model = Four::new(&gpu.device);
    let mut optim = WgpuOptimizer::new(rule.clone()).with_setup(&gpu.setup).init(&model).unwrap();
    let mut host = Optimizer::builder(rule).tensors(Group::DEFAULT, SHAPES).build_cpu::<f64>().unwrap();
    let mut params = first_values();
    let mut kept = None;
    for _ in 0..3 {
        let mut calls = 0;
        model = optim
            .step_with((), model, |model| {
                calls += 1;
                if calls == 2 {
                    // A clone of the displaced model keeps the values that it has now.
                    kept = Some((model.clone(), values(model)));
                }
                loss(model)
            })
            .unwrap();
        assert!(expected_calls.is_none_or(|expected| calls == expected), "{calls} calls");
        let mut grads: Vec<Vec<f64>> = params.iter().map(|params| vec![0.0; params.len()]).collect();
        let mut slices: Vec<&mut [f64]> = params.iter_mut().map(Vec::as_mut_slice).collect();
        let mut grads: Vec<&mut [f64]> = grads.iter_mut().map(Vec::as_mut_slice).collect();
        host.step_with(&mut slices, &mut grads, |request, params, grads| Ok(loss_of(request, params, grads))).unwrap();
    }
    let worst = worst(&model, &optim, &host, &params);
    assert!(worst < tolerance, "{worst:e}");
    if let Some((kept, before)) = kept {
        assert_eq!(values(&kept), before, "a clone that the closure kept changed");
    }
}

#[test]
fn probes_evaluate_like_the_reference() {
    let rule = SAdam { lr: 0.01, sigma: 0.5, ..SAdam::default() };
    // The evaluation of the gradients gives the loss at the parameters too.
    let losses = rule.procedure().map(|procedure| procedure.losses());
    evaluates_like_the_reference(rule, losses, 1e-4);
}

#[test]
fn rk4_evaluates_like_the_reference() {
    evaluates_like_the_reference(
        FlowAdam { integrator: wgpu_optim::optim::Integrator::Rk4, ..FlowAdam::default() },
        Some(4),
        1e-4,
    );
}

#[test]
fn dopri5_evaluates_like_the_reference() {
    evaluates_like_the_reference(
        FlowAdam { integrator: wgpu_optim::optim::Integrator::Dopri5, ..FlowAdam::default() },
        None,
        1e-4,
    );
}
