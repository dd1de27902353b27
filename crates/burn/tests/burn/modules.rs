//! Modules of every kind: ranks, tied and frozen parameters, parameters that come and go, groups and rates.

use burn::lr_scheduler::constant::ConstantLr;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::{Module, Param, ParamGroup};
use burn::nn::Linear;
use burn::optim::{AdamWConfig, GradientsParams, SgdConfig};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use wgpu_optim::{Accumulate, AdamW, Clip, SAdam, Sgd};
use wgpu_optim_burn::{WgpuOptimizer, burn, wgpu_optim};

use crate::support::{Mlp, difference, exclusive, linear, random, shared, values};

fn adamw() -> AdamW {
    AdamW { weight_decay: 0.1, eps: 1e-8, ..AdamW::default() }
}

fn burns() -> AdamWConfig {
    AdamWConfig::new().with_weight_decay(0.1).with_epsilon(1e-8)
}

#[derive(Module, Debug)]
struct Ranks {
    one: Param<Tensor<1>>,
    two: Param<Tensor<2>>,
    three: Param<Tensor<3>>,
    four: Param<Tensor<4>>,
    five: Param<Tensor<5>>,
    list: Vec<Linear>,
    maybe: Option<Param<Tensor<1>>>,
}

impl Ranks {
    fn new(device: &Device) -> Self {
        Self {
            one: Param::from_tensor(random([1], device)),
            two: Param::from_tensor(random([3, 5], device)),
            three: Param::from_tensor(random([2, 1, 7], device)),
            four: Param::from_tensor(random([4, 3, 3, 3], device)),
            five: Param::from_tensor(random([1, 2, 1, 2, 1025], device)),
            list: (0..3).map(|_| linear(5, 2, device)).collect(),
            maybe: Some(Param::from_tensor(random([9], device))),
        }
    }

    fn loss(&self) -> Tensor<1> {
        let x = self.list.iter().map(|linear| linear.forward(self.two.val()).sum()).reduce(|a, b| a + b).unwrap();
        let squares = self.one.val().powi_scalar(2).sum() + self.three.val().powi_scalar(2).sum();
        let squares = squares + self.four.val().powi_scalar(2).sum() + self.five.val().powi_scalar(2).mean();
        x + squares + self.maybe.as_ref().unwrap().val().powi_scalar(2).sum()
    }
}

#[test]
fn parameters_of_any_rank() {
    for gpu in [shared(), exclusive()] {
        let mut ours = Ranks::new(&gpu.device);
        let mut theirs = ours.clone();
        let (mut optim, mut burns) =
            (WgpuOptimizer::new(adamw()).with_setup(&gpu.setup).init(&ours).unwrap(), burns().init());
        for _ in 0..5 {
            let grads = GradientsParams::from_grads(ours.loss().backward(), &ours);
            ours = optim.step(3e-2, ours, grads).unwrap();
            let grads = GradientsParams::from_grads(theirs.loss().backward(), &theirs);
            theirs = burns.step(3e-2, theirs, grads);
        }
        let worst = difference(&ours, &theirs);
        assert!(worst < 2e-6, "{worst}");
    }
}

#[derive(Module, Debug)]
struct Tied {
    encoder: Param<Tensor<2>>,
    decoder: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

/// A weight that is used twice is one parameter: one gradient, one state, one value in both places, step after step.
#[test]
fn tied_parameters_stay_tied() {
    let gpu = shared();
    let shared_weight = Param::from_tensor(random([6, 4], &gpu.device));
    let mut model = Tied {
        encoder: shared_weight.clone(),
        decoder: shared_weight,
        bias: Param::from_tensor(random([6], &gpu.device)),
    };
    let x = random([5, 6], &gpu.device);
    let mut weight = model.encoder.to_data().try_into_vec::<f32>().unwrap();
    let rule = Sgd { lr: 0.1, momentum: 0.9, ..Sgd::default() };
    let mut optim = WgpuOptimizer::new(rule).with_setup(&gpu.setup).init(&model).unwrap();
    assert_eq!(optim.engine().tensors().count(), 2, "one of the tied, and the bias");
    let mut momentum = vec![0.0; weight.len()];
    for step in 0..4 {
        let loss = (x.clone().matmul(model.encoder.val()).matmul(model.decoder.val().transpose())
            + model.bias.val().unsqueeze())
        .powi_scalar(2)
        .mean();
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        let grad = grads.get::<2>(model.encoder.id).unwrap().into_data().try_into_vec::<f32>().unwrap();
        for ((w, m), g) in weight.iter_mut().zip(&mut momentum).zip(&grad) {
            *m = 0.9 * *m + g;
            *w -= 0.1 * *m;
        }
        model = optim.step(0.1, model, grads).unwrap();
        let [encoder, decoder] =
            [&model.encoder, &model.decoder].map(|param| param.to_data().try_into_vec::<f32>().unwrap());
        assert_eq!(encoder, decoder, "step {step}");
        let worst = encoder.iter().zip(&weight).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "step {step}: {worst}");
    }
}

#[test]
fn frozen_parameters_stay() {
    let gpu = shared();
    let freeze = |model: Mlp| model.freeze_group(ParamGroup::from_predicate("second"));
    let mut ours = freeze(Mlp::new(&gpu.device));
    let mut theirs = ours.clone();
    let before = values(&ours);
    let (mut optim, mut burns) =
        (WgpuOptimizer::new(adamw()).with_setup(&gpu.setup).init(&ours).unwrap(), burns().init());
    assert_eq!(optim.engine().tensors().count(), 4);
    for step in 0..5 {
        let (a, b) = (ours.grads(step), theirs.grads(step));
        ours = optim.step(1e-2, ours, a).unwrap();
        theirs = burns.step(1e-2, theirs, b);
    }
    let after = values(&ours);
    assert_eq!(before[2..4], after[2..4], "the second layer is frozen");
    assert!(difference(&ours, &theirs) < 2e-6);
    // Frozen later, another layer keeps its values, its states and its step counts, and stays frozen.
    let group = ParamGroup::from_predicate("third");
    let (mut paused, mut burns_paused) = (ours.clone().freeze_group(group.clone()), theirs.freeze_group(group.clone()));
    for step in 5..8 {
        let (a, b) = (paused.grads(step), burns_paused.grads(step));
        paused = optim.step(1e-2, paused, a).unwrap();
        burns_paused = burns.step(1e-2, burns_paused, b);
    }
    assert_eq!(values(&paused)[4..], after[4..]);
    assert!(!paused.third.weight.is_require_grad() && paused.first.weight.is_require_grad());
    let (mut ours, mut theirs) = (paused.unfreeze_group(group.clone()), burns_paused.unfreeze_group(group));
    for step in 8..11 {
        let (a, b) = (ours.grads(step), theirs.grads(step));
        ours = optim.step(1e-2, ours, a).unwrap();
        theirs = burns.step(1e-2, theirs, b);
    }
    assert!(difference(&ours, &theirs) < 2e-6);
    assert_ne!(values(&ours)[4..], after[4..]);
    // Thawed, it has gradients of which the optimizer knows nothing: it says what to do.
    let thawed = ours.clone().unfreeze();
    let grads = thawed.grads(5);
    let error = optim.step(1e-2, thawed.clone(), grads).unwrap_err().to_string();
    assert!(error.contains("second.weight") && error.contains("init_again"), "{error}");
    optim.init_again(&thawed).unwrap();
    let grads = thawed.grads(5);
    let thawed = optim.step(1e-2, thawed, grads).unwrap();
    assert_ne!(values(&thawed)[2..4], after[2..4]);
}

#[derive(Module, Debug)]
struct Grown {
    first: Linear,
    second: Linear,
    third: Linear,
    fourth: Option<Linear>,
}

#[test]
fn added_and_removed_parameters_are_named_and_states_follow_by_path() {
    let gpu = shared();
    let mut model = Mlp::new(&gpu.device);
    let mut optim = WgpuOptimizer::new(adamw()).with_setup(&gpu.setup).init(&model).unwrap();
    for step in 0..3 {
        let grads = model.grads(step);
        model = optim.step(1e-2, model, grads).unwrap();
    }
    let state = |optim: &WgpuOptimizer| {
        let engine = optim.engine();
        pollster::block_on(engine.read_state(engine.tensor("second.weight").unwrap(), "m")).unwrap()
    };
    let before = state(&optim);
    assert!(before.iter().any(|m| *m != 0.0));
    let Mlp { first, second, third } = model;
    let fourth = linear(3, 2, &gpu.device);
    let grown = Grown { first: first.clone(), second: second.clone(), third: third.clone(), fourth: Some(fourth) };
    let loss = |model: &Grown| {
        let x = model.second.forward(model.first.forward(random([4, 6], &gpu.device)));
        let x = model.third.forward(x);
        model.fourth.as_ref().map_or(x.clone(), |fourth| fourth.forward(x)).powi_scalar(2).mean()
    };
    let grads = GradientsParams::from_grads(loss(&grown).backward(), &grown);
    let error = optim.step(1e-2, grown.clone(), grads).unwrap_err().to_string();
    assert!(error.contains("fourth.weight") && error.contains("init_again"), "{error}");
    optim.init_again(&grown).unwrap();
    assert_eq!(state(&optim), before);
    assert_eq!(pollster::block_on(optim.engine().read_step_count()).unwrap(), 3);
    let grads = GradientsParams::from_grads(loss(&grown).backward(), &grown);
    let grown = optim.step(1e-2, grown, grads).unwrap();
    let shrunk = Grown { fourth: None, ..grown };
    let grads = GradientsParams::from_grads(loss(&shrunk).backward(), &shrunk);
    let error = optim.step(1e-2, shrunk, grads).unwrap_err().to_string();
    assert!(error.contains("fourth.weight") && error.contains("does not have it any more"), "{error}");
}

/// The same numbers in parameters with other ids.
fn with_new_ids(model: &Mlp, device: &Device) -> Mlp {
    let mut fresh = Mlp::new(device);
    for (to, from) in
        [(&mut fresh.first, &model.first), (&mut fresh.second, &model.second), (&mut fresh.third, &model.third)]
    {
        to.weight = Param::from_tensor(from.weight.val().inner().autodiff());
        let bias = from.bias.as_ref().unwrap().val().inner().autodiff();
        to.bias = Some(Param::from_tensor(bias));
    }
    fresh
}

/// A group by id keeps its parameter when that gets another id, and rates by the new id reach it.
#[test]
fn groups_and_rates_follow_a_new_id() {
    let gpu = shared();
    let mut ours = Mlp::new(&gpu.device);
    let mut theirs = ours.clone();
    let options = WgpuOptimizer::new(adamw()).with_group(ParamGroup::from_ids(vec![ours.first.weight.id]), adamw());
    let (mut optim, mut burns) = (options.with_setup(&gpu.setup).init(&ours).unwrap(), burns().init());
    for step in 0..6 {
        if step == 2 {
            ours = with_new_ids(&ours, &gpu.device);
        }
        let rates = |model: &Mlp| {
            let group = ParamGroup::from_ids(vec![model.first.weight.id]);
            ModuleLrScheduler::new(ConstantLr::new(1e-3)).with_group(group, ConstantLr::new(1e-2)).step()
        };
        let (a, b) = (ours.grads(step), theirs.grads(step));
        ours = optim.step(rates(&ours), ours, a).unwrap();
        theirs = burns.step(rates(&theirs), theirs, b);
    }
    let worst = difference(&ours, &theirs);
    assert!(worst < 2e-6, "{worst}");
}

/// A loaded record gives every parameter the id of the saved module.
#[test]
fn a_loaded_record_continues_by_path() {
    let gpu = shared();
    let mut ours = Mlp::new(&gpu.device);
    let mut theirs = ours.clone();
    let (mut optim, mut burns) =
        (WgpuOptimizer::new(adamw()).with_setup(&gpu.setup).init(&ours).unwrap(), burns().init());
    for step in 0..6 {
        let (a, b) = (ours.grads(step), theirs.grads(step));
        ours = optim.step(1e-2, ours, a).unwrap();
        theirs = burns.step(1e-2, theirs, b);
        if step == 2 {
            let old = ours.first.weight.id;
            ours = with_new_ids(&ours, &gpu.device);
            assert_ne!(ours.first.weight.id, old);
        }
    }
    let worst = difference(&ours, &theirs);
    assert!(worst < 2e-6, "{worst}");
}

#[test]
fn another_device_and_another_shape_are_named() {
    let (here, there) = (shared(), exclusive());
    let model = Mlp::new(&here.device);
    let mut optim = WgpuOptimizer::new(adamw()).with_setup(&here.setup).init(&model).unwrap();
    let forked = model.clone().fork(&there.device);
    let grads = forked.grads(0);
    let error = optim.step(1e-2, forked.clone(), grads).unwrap_err().to_string();
    assert!(
        error.contains("first.weight") && error.contains("make an optimizer for the module where it is now"),
        "{error}"
    );
    // A setup of another device.
    let error = WgpuOptimizer::new(adamw()).with_setup(&there.setup).init(&model).unwrap_err().to_string();
    assert!(error.contains("another device"), "{error}");
    let error = WgpuOptimizer::new(adamw()).init(&model).unwrap_err().to_string();
    assert!(error.contains("with_setup") && error.contains("init_with_setup"), "{error}");
    let error = WgpuOptimizer::new(adamw()).with_setup(&here.setup).init(&model.valid()).unwrap_err().to_string();
    assert!(error.contains("autodiff"), "{error}");
    let mut other = model.clone();
    other.third = linear(17, 4, &here.device);
    let error = optim.step(1e-2, other, GradientsParams::new()).unwrap_err().to_string();
    assert!(error.contains("third.weight") && error.contains("[17, 4]") && error.contains("[17, 3]"), "{error}");
    assert!(error.contains("init_again"), "{error}");
    // Gradients of another shape, and of another device.
    let with = |id, grad: Tensor<2>| {
        let mut grads = GradientsParams::new();
        grads.register(id, grad.inner());
        grads
    };
    let id = model.third.weight.id;
    let error = optim.step(1e-2, model.clone(), with(id, random([3, 17], &here.device))).unwrap_err().to_string();
    assert!(error.contains("gradient") && error.contains("[3, 17]") && error.contains("[17, 3]"), "{error}");
    let error = optim.step(1e-2, model.clone(), with(id, random([17, 3], &there.device))).unwrap_err().to_string();
    assert!(error.contains("third.weight") && error.contains("its gradient is on"), "{error}");
    // The optimizer goes on after errors.
    let grads = model.grads(0);
    optim.step(1e-2, model, grads).unwrap();
}

#[test]
fn groups_and_rates_are_burns() {
    let gpu = shared();
    let mut ours = Mlp::new(&gpu.device);
    let mut theirs = ours.clone();
    let biases = ParamGroup::from_predicate("bias");
    let last = ParamGroup::from_predicate("third");
    let mut optim = WgpuOptimizer::new(adamw())
        .with_group(last.clone(), AdamW { weight_decay: 0.5, ..adamw() })
        .with_group(biases.clone(), AdamW { weight_decay: 0.0, ..adamw() })
        .with_setup(&gpu.setup)
        .init(&ours)
        .unwrap();
    let mut burns = burns().init().with_group(last.clone(), burns().with_weight_decay(0.5).build(), None).with_group(
        biases.clone(),
        self::burns().with_weight_decay(0.0).build(),
        None,
    );
    let mut rates = ModuleLrScheduler::new(ConstantLr::new(1e-2)).with_group(biases, ConstantLr::new(1e-3));
    for step in 0..5 {
        let (a, b) = (ours.grads(step), theirs.grads(step));
        ours = optim.step(rates.step(), ours, a).unwrap();
        theirs = burns.step(rates.step(), theirs, b);
    }
    let worst = difference(&ours, &theirs);
    assert!(worst < 2e-6, "{worst}");
    let mut uneven = ModuleLrScheduler::new(ConstantLr::new(1e-2))
        .with_group(ParamGroup::from_path("first.weight"), ConstantLr::new(0.1));
    let grads = ours.grads(0);
    let error = optim.step(uneven.step(), ours, grads).unwrap_err().to_string();
    assert!(error.contains("with_group"), "{error}");
}

#[test]
fn a_group_has_another_rule() {
    let gpu = shared();
    let mut ours = Mlp::new(&gpu.device);
    let mut theirs = ours.clone();
    let biases = ParamGroup::from_predicate("bias");
    let mut optim = WgpuOptimizer::new(adamw())
        .with_group(biases.clone(), Sgd { lr: 0.1, ..Sgd::default() })
        .with_setup(&gpu.setup)
        .init(&ours)
        .unwrap();
    let mut burns = burns().init().with_group(biases.clone(), SgdConfig::new().build(), None);
    let mut rates = ModuleLrScheduler::new(ConstantLr::new(1e-2)).with_group(biases, ConstantLr::new(0.1));
    for step in 0..6 {
        let (a, b) = (ours.grads(step), theirs.grads(step));
        let kept = (step == 3).then(|| (ours.clone(), values(&ours)));
        ours = optim.step(rates.step(), ours, a).unwrap();
        theirs = burns.step(rates.step(), theirs, b);
        if let Some((kept, before)) = kept {
            assert_eq!(values(&kept), before);
        }
    }
    let worst = difference(&ours, &theirs);
    assert!(worst < 2e-6, "{worst}");
}

/// The clip is by the norm of all gradients, not of each tensor as Burn's.
#[test]
fn the_clip_is_by_the_norm_of_all_gradients() {
    let gpu = shared();
    let mut ours = Mlp::new(&gpu.device);
    let mut theirs = ours.clone();
    let rule = Sgd { lr: 1.0, ..Sgd::default() };
    let mut optim =
        WgpuOptimizer::new(rule).with_clip(Clip::GlobalNorm(0.05)).with_setup(&gpu.setup).init(&ours).unwrap();
    let mut burns = SgdConfig::new().init();
    for step in 0..3 {
        let grads = ours.grads(step);
        let mut clipped = theirs.grads(step);
        let mut square = 0.0_f64;
        let ids: Vec<_> = [&theirs.first, &theirs.second, &theirs.third]
            .into_iter()
            .flat_map(|linear| [linear.weight.id, linear.bias.as_ref().unwrap().id])
            .collect();
        for (i, id) in ids.iter().enumerate() {
            let data = if i % 2 == 0 {
                clipped.get::<2>(*id).unwrap().into_data()
            } else {
                clipped.get::<1>(*id).unwrap().into_data()
            };
            square += data.try_into_vec::<f32>().unwrap().iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
        }
        let factor = (0.05 / square.sqrt()).min(1.0);
        assert!(factor < 0.9, "the clip has work to do: {factor}");
        for (i, id) in ids.iter().enumerate() {
            if i % 2 == 0 {
                let grad = clipped.remove::<2>(*id).unwrap();
                clipped.register(*id, grad.mul_scalar(factor));
            } else {
                let grad = clipped.remove::<1>(*id).unwrap();
                clipped.register(*id, grad.mul_scalar(factor));
            }
        }
        ours = optim.step(1.0, ours, grads).unwrap();
        theirs = burns.step(1.0, theirs, clipped);
    }
    let worst = difference(&ours, &theirs);
    assert!(worst < 1e-6, "{worst}");
}

#[test]
fn a_step_without_gradients_is_not_a_step() {
    let gpu = shared();
    let model = Mlp::new(&gpu.device);
    let mut optim = WgpuOptimizer::new(adamw()).with_setup(&gpu.setup).init(&model).unwrap();
    let before = values(&model);
    let model = optim.step(1e-2, model, GradientsParams::new()).unwrap();
    assert_eq!(values(&model), before);
    assert_eq!(pollster::block_on(optim.engine().read_step_count()).unwrap(), 0);
}

/// Half precision: Burn's format is the engine's, an odd count of numbers included.
#[test]
fn parameters_in_half_precision() {
    #[derive(Module, Debug)]
    struct Half {
        w: Param<Tensor<1>>,
    }
    let gpu = shared();
    let plain = gpu.device.clone().without_autodiff();
    let half = |values: Vec<f32>| Tensor::<1>::from_data(TensorData::from(values.as_slice()), &plain).cast(DType::F16);
    let begin: Vec<f32> = (0..301).map(|i| i as f32 / 8.0).collect();
    let mut model = Half { w: Param::from_tensor(half(begin.clone()).autodiff()) };
    assert_eq!(model.w.dtype(), DType::F16);
    let options = || WgpuOptimizer::new(Sgd { lr: 1.0, ..Sgd::default() }).with_setup(&gpu.setup);
    let error = options().init(&model).unwrap_err().to_string();
    assert!(error.contains("F16") && error.contains("f16-master"), "{error}");
    let mut optim = options().with_storage("f16-master".parse().unwrap()).init(&model).unwrap();
    for _ in 0..3 {
        let mut grads = GradientsParams::new();
        grads.register(model.w.id, half((0..301).map(|i| if i % 2 == 0 { 0.25 } else { -0.5 }).collect()));
        model = optim.step(1.0, model, grads).unwrap();
    }
    assert_eq!(model.w.dtype(), DType::F16);
    let expected = begin.iter().enumerate().map(|(i, w)| if i % 2 == 0 { w - 0.75 } else { w + 1.5 });
    assert_eq!(values(&model)[0].1, expected.collect::<Vec<f32>>());
    let mut grads = GradientsParams::new();
    grads.register(model.w.id, half(vec![0.0; 301]).cast(DType::F32));
    let error = optim.step(1.0, model, grads).unwrap_err().to_string();
    assert!(error.contains("gradient") && error.contains("F32") && error.contains("F16"), "{error}");
}

/// Rows of a parameter move with their states.
#[test]
fn rows_move_with_their_states() {
    #[derive(Module, Debug)]
    struct Splats {
        centres: Param<Tensor<2>>,
        colours: Param<Tensor<3>>,
    }
    let gpu = shared();
    let numbers = |count: usize| -> Vec<f32> { (0..count).map(|i| i as f32).collect() };
    let tensor =
        |shape: [usize; 2]| Tensor::<2>::from_data(TensorData::new(numbers(shape[0] * shape[1]), shape), &gpu.device);
    let mut model = Splats {
        centres: Param::from_tensor(tensor([8, 3])),
        colours: Param::from_tensor(tensor([8, 6]).inner().reshape([8, 2, 3]).autodiff()),
    };
    let options = WgpuOptimizer::new(Sgd { lr: 1.0, momentum: 0.5, ..Sgd::default() }).with(|builder| {
        let tensors = [builder.find_tensor("centres")?, builder.find_tensor("colours")?];
        let set = builder.row_set("splats", &tensors);
        builder.row_capacity(set, 8).mask(set);
        Ok(())
    });
    let mut optim = options.with_setup(&gpu.setup).init(&model).unwrap();
    let set = optim.engine().row_set("splats").unwrap();
    optim.engine_mut().set_row_count(set, 6).unwrap();
    optim.engine().write_mask(set, &[1, 1, 0, 1, 1, 1]).unwrap();
    let loss = model.centres.val().sum() + model.colours.val().sum() * 2.0;
    let grads = GradientsParams::from_grads(loss.backward(), &model);
    model = optim.step((), model, grads).unwrap();
    let row = |values: &[f32], row: usize| values[row * 3..][..3].to_vec();
    let centres = values(&model)[0].1.clone();
    assert_eq!(row(&centres, 1), [2.0, 3.0, 4.0]);
    assert_eq!(row(&centres, 2), [6.0, 7.0, 8.0], "the mask leaves it out");
    assert_eq!(row(&centres, 7), [21.0, 22.0, 23.0], "it is not in use");
    let kept = model.clone();
    // Row 5 comes first, then row 2 twice, then a fresh row.
    let indices = Tensor::<1, Int>::from_data(TensorData::from([5, 2, 2, -1].as_slice()), &gpu.device);
    model = optim.remap(model, set, indices).unwrap();
    assert_eq!(optim.engine().row_count(set).unwrap(), 4);
    let moved = values(&model)[0].1.clone();
    assert_eq!(
        [row(&moved, 0), row(&moved, 1), row(&moved, 2), row(&moved, 3)],
        [row(&centres, 5), row(&centres, 2), row(&centres, 2), vec![0.0; 3]]
    );
    assert_eq!(values(&kept)[0].1, centres, "the kept clone");
    let momentum =
        pollster::block_on(optim.engine().read_state(optim.engine().tensor("centres").unwrap(), "b")).unwrap();
    assert_eq!(momentum[..12], [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

/// A module that was built on one thread trains on another, and reads of a third keep what they began with.
#[test]
fn threads_see_whole_steps() {
    let gpu = shared();
    let reference = (0..6).fold((burns().init(), Mlp::new(&gpu.device)), |(mut optim, model), step| {
        let grads = model.grads(step);
        let model = optim.step(1e-2, model, grads);
        (optim, model)
    });
    let model = Mlp::new(&gpu.device);
    let mut optim = WgpuOptimizer::new(adamw()).with_setup(&gpu.setup).init(&model).unwrap();
    let trainer = std::thread::spawn(move || {
        let mut model = model;
        let mut readers = Vec::new();
        for step in 0..6 {
            let clone = model.clone();
            let before = values(&clone);
            readers.push(std::thread::spawn(move || (0..3).all(|_| values(&clone) == before)));
            let grads = model.grads(step);
            model = optim.step(1e-2, model, grads).unwrap();
        }
        (model, readers.into_iter().all(|reader| reader.join().unwrap()))
    });
    let (model, same) = trainer.join().unwrap();
    assert!(same, "a reader saw a step");
    let worst = difference(&model, &reference.1);
    assert!(worst < 2e-6, "{worst}");
}

/// A parameter without a gradient keeps its values, its states and its count of steps, as in Burn.
#[test]
fn parameters_without_a_gradient_stay() {
    for gpu in [shared(), exclusive()] {
        let mut ours = Mlp::new(&gpu.device);
        let mut theirs = ours.clone();
        let options = WgpuOptimizer::new(adamw()).with_setup(&gpu.setup);
        let (mut optim, mut burns) = (options.init(&ours).unwrap(), burns().init());
        for step in 0..9 {
            let without = |model: &Mlp, mut grads: GradientsParams| {
                if step % 3 == 1 {
                    grads.remove::<2>(model.second.weight.id);
                }
                if step < 4 {
                    grads.remove::<1>(model.third.bias.as_ref().unwrap().id);
                }
                grads
            };
            let (a, b) = (without(&ours, ours.grads(step)), without(&theirs, theirs.grads(step)));
            let before = values(&ours);
            ours = optim.step(1e-2, ours, a).unwrap();
            theirs = burns.step(1e-2, theirs, b);
            let after = values(&ours);
            assert_eq!(before[2] == after[2], step % 3 == 1, "step {step}: second.weight");
            assert_eq!(before[5] == after[5], step < 4, "step {step}: third.bias");
        }
        let worst = difference(&ours, &theirs);
        assert!(worst < 2e-6, "{worst}");
        let count = |path: &str| {
            let engine = optim.engine();
            pollster::block_on(engine.read_tensor_step_count(engine.tensor(path).unwrap())).unwrap()
        };
        assert_eq!([count("first.weight"), count("second.weight"), count("third.bias")], [9, 6, 5]);
        // Burn counts each parameter's steps too.
        let options = WgpuOptimizer::new(adamw()).with_setup(&gpu.setup);
        let mut taken = options.init(&theirs).unwrap();
        taken.restore_record(burns.to_record()).unwrap();
        let mut ours = theirs.clone();
        for step in 9..12 {
            let (a, b) = (ours.grads(step), theirs.grads(step));
            ours = taken.step(1e-2, ours, a).unwrap();
            theirs = burns.step(1e-2, theirs, b);
        }
        let worst = difference(&ours, &theirs);
        assert!(worst < 2e-6, "{worst}");
    }
}

/// Probes need losses, and no gradient of every parameter.
#[test]
fn a_rule_that_probes_leaves_parameters_without_a_gradient() {
    let gpu = shared();
    let model = Mlp::new(&gpu.device);
    let rule = SAdam { lr: 0.01, ..SAdam::default() };
    let mut optim = WgpuOptimizer::new(rule).with_setup(&gpu.setup).init(&model).unwrap();
    let before = values(&model);
    let model = optim
        .step_with((), model, |model| {
            let mut grads = model.grads(0);
            grads.remove::<2>(model.second.weight.id);
            (model.loss(0), grads)
        })
        .unwrap();
    let after = values(&model);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before == after, before.0 == "second.weight", "{}", before.0);
    }
}

/// Micro-batches with a kept clone between them: their mean is the gradient of the step.
#[test]
fn micro_batches_add_up() {
    let gpu = shared();
    let mut ours = Mlp::new(&gpu.device);
    let mut theirs = ours.clone();
    let options = WgpuOptimizer::new(adamw()).with(|builder| {
        builder.accumulate(Accumulate::Mean(3));
        Ok(())
    });
    let (mut optim, mut burns) = (options.with_setup(&gpu.setup).init(&ours).unwrap(), burns().init());
    for window in 0..4 {
        let before = ours.clone();
        for batch in 0..2 {
            let grads = ours.grads(3 * window + batch);
            ours = optim.accumulate(ours, grads).unwrap();
        }
        assert_eq!(values(&ours), values(&before));
        let grads = ours.grads(3 * window + 2);
        ours = optim.step(1e-2, ours, grads).unwrap();
        let loss = theirs.loss(3 * window) + theirs.loss(3 * window + 1) + theirs.loss(3 * window + 2);
        let grads = GradientsParams::from_grads(loss.div_scalar(3.0).backward(), &theirs);
        theirs = burns.step(1e-2, theirs, grads);
    }
    let worst = difference(&ours, &theirs);
    assert!(worst < 2e-6, "{worst}");
    let mut plain = WgpuOptimizer::new(adamw()).with_setup(&gpu.setup).init(&ours).unwrap();
    let grads = ours.grads(0);
    let error = plain.accumulate(ours, grads).unwrap_err().to_string();
    assert!(error.contains("built without accumulate"), "{error}");
}
