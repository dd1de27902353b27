//! Tensors of Burn are values: who keeps one keeps its numbers, and no step writes memory that belongs to somebody else.

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::Tensor;
use wgpu_optim::{AdamW, wgpu};
use wgpu_optim_burn::{WgpuOptimizer, burn, wgpu_optim};

use crate::support::{Gpu, Mlp, difference, exclusive, random, shared, values};

fn optimizer(gpu: &Gpu, model: &Mlp) -> WgpuOptimizer {
    let rule = AdamW { weight_decay: 0.1, eps: 1e-8, ..AdamW::default() };
    WgpuOptimizer::new(rule).with_setup(&gpu.setup).init(model).unwrap()
}

/// The buffer in which the parameters lie.
fn buffer(optim: &WgpuOptimizer) -> wgpu::Buffer {
    let engine = optim.engine();
    engine.param(engine.tensor("first.weight").unwrap()).unwrap().buffer().clone()
}

fn train(optim: &mut WgpuOptimizer, model: Mlp, steps: std::ops::Range<u64>) -> Mlp {
    steps.fold(model, |model, step| {
        let grads = model.grads(step);
        optim.step(1e-2, model, grads).unwrap()
    })
}

/// The model after so many steps of Burn's own optimizer.
fn of_burn(gpu: &Gpu, steps: u64) -> Mlp {
    let mut optim = AdamWConfig::new().with_weight_decay(0.1).with_epsilon(1e-8).init();
    (0..steps).fold(Mlp::new(&gpu.device), |model, step| {
        let grads = model.grads(step);
        optim.step(1e-2, model, grads)
    })
}

/// What a user may keep of a model.
fn keep_and_step<K>(gpu: &Gpu, keep: impl Fn(&Mlp) -> K, read: impl Fn(&K) -> Vec<(String, Vec<f32>)>) {
    let model = Mlp::new(&gpu.device);
    let mut optim = optimizer(gpu, &model);
    let mut model = train(&mut optim, model, 0..2);
    let kept: Vec<(K, _)> = (2..5)
        .map(|step| {
            let kept = keep(&model);
            let before = read(&kept);
            let was = buffer(&optim);
            model = train(&mut optim, model.clone(), step..step + 1);
            assert_ne!(buffer(&optim), was, "the step left what is kept");
            (kept, before)
        })
        .collect();
    model = train(&mut optim, model, 5..8);
    for (kept, before) in &kept {
        assert_eq!(&read(kept), before, "the kept values changed");
    }
    let worst = difference(&model, &of_burn(gpu, 8));
    assert!(worst < 2e-6, "{worst}");
}

#[test]
fn a_kept_module_keeps_its_values() {
    for gpu in [shared(), exclusive()] {
        keep_and_step(gpu, Mlp::clone, values);
    }
}

#[test]
fn a_kept_module_without_autodiff_keeps_its_values() {
    keep_and_step(shared(), Mlp::valid, values);
}

fn read<const D: usize>(tensor: &Tensor<D>) -> Vec<(String, Vec<f32>)> {
    vec![(String::new(), tensor.to_data().try_into_vec::<f32>().unwrap())]
}

#[test]
fn one_kept_tensor_keeps_its_values() {
    keep_and_step(shared(), |model| model.second.weight.val(), read);
}

#[test]
fn a_view_of_a_parameter_keeps_its_values() {
    keep_and_step(shared(), |model| model.second.weight.val().inner().transpose(), read);
    keep_and_step(shared(), |model| model.second.weight.val().inner().reshape([33 * 17]), read);
}

#[test]
fn a_graph_that_waits_for_its_backward_pass_keeps_its_values() {
    let gpu = shared();
    let model = Mlp::new(&gpu.device);
    let mut optim = optimizer(gpu, &model);
    let model = train(&mut optim, model, 0..1);
    let reference = model.loss(9).backward();
    let reference = GradientsParams::from_grads(reference, &model).get::<2>(model.first.weight.id).unwrap();
    // The loss was computed before the step, and its gradients after it: they are those of the parameters before the step.
    let (loss, kept) = (model.loss(9), model.clone());
    let _stepped = train(&mut optim, model, 1..2);
    let grads = GradientsParams::from_grads(loss.backward(), &kept);
    let late = grads.get::<2>(kept.first.weight.id).unwrap();
    assert_eq!(read(&late), read(&reference));
}

/// What another thread computes from a parameter may wait in that thread's stream, and holds the memory but no tensor.
#[test]
fn a_kernel_of_another_thread_that_waits_reads_what_it_began_with() {
    for gpu in [shared(), exclusive()] {
        let model = Mlp::new(&gpu.device);
        let mut optim = optimizer(gpu, &model);
        let mut model = train(&mut optim, model, 0..1);
        for step in 1..4 {
            let weight = model.second.weight.val().inner();
            let sums = read(&weight.clone().sum_dim(0));
            let waiting = std::thread::spawn(move || weight.sum_dim(0)).join().unwrap();
            model = train(&mut optim, model, step..step + 1);
            let late = read(&waiting);
            let worst = late[0].1.iter().zip(&sums[0].1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "step {step}: {worst}");
        }
    }
}

#[test]
fn without_a_clone_every_step_stays_in_one_buffer() {
    for gpu in [shared(), exclusive()] {
        let model = Mlp::new(&gpu.device);
        let mut optim = optimizer(gpu, &model);
        let mut model = train(&mut optim, model, 0..1);
        let first = buffer(&optim);
        for step in 1..6 {
            // An evaluation between two steps holds nothing afterwards.
            let _ = model.valid().loss(3).into_data();
            model = train(&mut optim, model, step..step + 1);
            assert_eq!(buffer(&optim), first, "step {step}");
        }
    }
}

/// Burn hands out memory again as soon as nobody holds it. Steps of which the gradients are gone, and models that are gone, must write none of it.
#[test]
fn memory_that_burn_hands_out_again_is_never_written() {
    for gpu in [shared(), exclusive()] {
        let model = Mlp::new(&gpu.device);
        let mut optim = optimizer(gpu, &model);
        let mut model = model;
        let mut strangers: Vec<(Tensor<2>, f32)> = Vec::new();
        for step in 0..24 {
            model = train(&mut optim, model, step..step + 1);
            // Of the sizes of the gradients, of the parameters and of the whole arena, at once after the step was submitted.
            for (i, shape) in [[6, 33], [33, 17], [17, 3], [1, 33], [1, 17], [1, 3]].into_iter().enumerate() {
                let value = 1000.0 + step as f32 * 10.0 + i as f32;
                strangers.push((Tensor::full(shape, value, &gpu.device), value));
            }
            let whole = usize::try_from(optim.param_bytes() / 4).unwrap();
            strangers.push((Tensor::full([1, whole], -7.0, &gpu.device), -7.0));
            if step % 5 == 4 {
                // The model lets go of its memory, and another one comes.
                let record: Vec<_> = values(&model);
                model = Moved(false).move_all(model);
                assert_eq!(values(&model), record);
            }
            if step % 3 == 2 {
                strangers.drain(..5);
            }
        }
        for (tensor, value) in &strangers {
            assert!(read(tensor)[0].1.iter().all(|x| x == value), "a step wrote into memory of a stranger");
        }
        let worst = difference(&model, &of_burn(gpu, 24));
        assert!(worst < 5e-6, "{worst}");
    }
}

/// Puts every parameter into a new tensor with the same numbers: contiguous, or strided.
struct Moved(bool);

impl Moved {
    fn move_all<M: Module>(mut self, module: M) -> M {
        module.map(&mut self)
    }
}

impl ModuleMapper for Moved {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let plain = tensor.inner();
        let moved = if self.0 && D == 2 { strided(plain) } else { plain.mul_scalar(1.0) };
        Param::from_mapped_value(id, Tensor::from_inner(moved).require_grad(), mapper)
    }
}

/// The same numbers, column by column in memory.
fn strided<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let device = tensor.device();
    Tensor::from_data(tensor.swap_dims(0, 1).into_data(), &device).swap_dims(0, 1)
}

#[test]
fn parameters_that_moved_are_stepped_where_they_are() {
    for (gpu, strided) in [(shared(), false), (shared(), true), (exclusive(), false), (exclusive(), true)] {
        let model = Mlp::new(&gpu.device);
        let mut optim = optimizer(gpu, &model);
        let mut model = model;
        for step in 0..6 {
            model = Moved(strided).move_all(model);
            model = train(&mut optim, model, step..step + 1);
        }
        let worst = difference(&model, &of_burn(gpu, 6));
        assert!(worst < 2e-6, "{worst}");
    }
}

#[test]
fn parameters_that_change_places_follow() {
    let gpu = shared();
    #[derive(Module, Debug)]
    struct Two {
        a: Param<Tensor<1>>,
        b: Param<Tensor<1>>,
    }
    let param = |value: f32| Param::from_tensor(Tensor::<1>::full([300], value, &gpu.device).require_grad());
    let mut model = Two { a: param(1.0), b: param(2.0) };
    let rule = wgpu_optim::Sgd { lr: 1.0, ..Default::default() };
    let mut optim = WgpuOptimizer::new(rule).with_setup(&gpu.setup).init(&model).unwrap();
    let step = |optim: &mut WgpuOptimizer, model: Two| {
        let loss = model.a.val().sum() + model.b.val().sum() * 2.0;
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        optim.step(0.25, model, grads).unwrap()
    };
    model = step(&mut optim, model);
    // Each gets the tensor of the other, which lies in the optimizer's memory, at the other's place.
    let (a, b) = (model.a.val(), model.b.val());
    model = Two {
        a: model.a.map(|_| Tensor::from_inner(b.inner()).require_grad()),
        b: model.b.map(|_| Tensor::from_inner(a.inner()).require_grad()),
    };
    model = step(&mut optim, model);
    let all = |values: &[f32], value: f32| assert!(values.iter().all(|x| *x == value), "{} for {value}", values[0]);
    let values = values(&model);
    all(&values[0].1, 2.0 - 0.5 - 0.25);
    all(&values[1].1, 1.0 - 0.25 - 0.5);
}

#[test]
fn a_parameter_that_was_transposed_where_it_lies_is_copied() {
    let gpu = shared();
    #[derive(Module, Debug)]
    struct Square {
        w: Param<Tensor<2>>,
    }
    let rule = wgpu_optim::Sgd { lr: 0.5, ..Default::default() };
    let mut model = Square { w: Param::from_tensor(random([40, 40], &gpu.device).require_grad()) };
    let mut optim = WgpuOptimizer::new(rule).with_setup(&gpu.setup).init(&model).unwrap();
    let mut expected = model.w.val().inner();
    for step in 0..4 {
        let mut grads = GradientsParams::new();
        let grad = random([40, 40], &gpu.device).inner().mul_scalar(step as f32);
        grads.register(model.w.id, grad.clone());
        model = optim.step(0.5, model, grads).unwrap();
        expected = (expected - grad.mul_scalar(0.5)).transpose();
        model = Square { w: model.w.map(|w| Tensor::from_inner(w.inner().transpose()).require_grad()) };
    }
    assert_eq!(read(&model.w.val()), read(&expected));
}

#[test]
fn strided_gradients_and_gradients_within_a_tensor_are_read_right() {
    for gpu in [shared(), exclusive()] {
        let model = Mlp::new(&gpu.device);
        let mut optim = optimizer(gpu, &model);
        let mut model = model;
        for step in 0..4 {
            let mut grads = model.grads(step);
            let (weight, bias) = (model.second.weight.id, model.second.bias.as_ref().unwrap().id);
            let grad = grads.remove::<2>(weight).unwrap();
            grads.register(weight, strided(grad));
            // A range of another tensor.
            let grad = grads.remove::<1>(bias).unwrap();
            let ahead = random([64], &gpu.device).inner();
            grads.register(bias, Tensor::cat(vec![ahead, grad], 0).narrow(0, 64, 17));
            model = optim.step(1e-2, model, grads).unwrap();
        }
        let worst = difference(&model, &of_burn(gpu, 4));
        assert!(worst < 2e-6, "{worst}");
    }
}
