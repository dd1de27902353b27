//! States that are saved, loaded, and taken over.

use burn::optim::{AdamConfig, AdamWConfig};
use wgpu_optim::checkpoint::{Checkpoint, Fit};
use wgpu_optim::{Adam, AdamW, Ema, Lion, Sgd};
use wgpu_optim_burn::{WgpuOptimizer, burn, wgpu_optim};

use crate::support::{Mlp, difference, shared, values};

fn adamw() -> AdamW {
    AdamW { weight_decay: 0.1, eps: 1e-8, amsgrad: true, ..AdamW::default() }
}

fn train(optim: &mut WgpuOptimizer, model: Mlp, steps: std::ops::Range<u64>) -> Mlp {
    steps.fold(model, |model, step| {
        let grads = model.grads(step);
        optim.step(1e-2, model, grads).unwrap()
    })
}

#[test]
fn a_checkpoint_resumes_with_the_same_bits() {
    let gpu = shared();
    for storage in ["f32", "f32,8bit,min=64"] {
        let begin = || {
            let model = Mlp::new(&gpu.device);
            let options = WgpuOptimizer::new(adamw()).with_storage(storage.parse().unwrap());
            (options.with_setup(&gpu.setup).init(&model).unwrap(), model)
        };
        let (mut optim, model) = begin();
        let model = train(&mut optim, model, 0..5);
        let kept = model.clone();
        let (model, checkpoint) = optim.checkpoint(model).unwrap();
        assert_eq!(values(&model), values(&kept));
        let bytes = checkpoint.to_bytes().unwrap();
        let straight = train(&mut optim, model, 5..9);
        let (mut resumed, fresh) = begin();
        let checkpoint = Checkpoint::from_bytes("memory", bytes).unwrap();
        assert_eq!(checkpoint.params("second.weight").unwrap().len(), 33 * 17);
        let model = resumed.restore(fresh, &checkpoint, Fit::Whole).unwrap();
        assert_eq!(values(&model), values(&kept));
        let model = train(&mut resumed, model, 5..9);
        assert_eq!(values(&model), values(&straight), "{storage}");
    }
}

#[test]
fn states_have_torchs_names() {
    let gpu = shared();
    let begin = || {
        let model = Mlp::new(&gpu.device);
        (WgpuOptimizer::new(adamw()).with_setup(&gpu.setup).init(&model).unwrap(), model)
    };
    let (mut optim, model) = begin();
    let model = train(&mut optim, model, 0..4);
    let (model, checkpoint) = optim.checkpoint(model).unwrap();
    let bytes = checkpoint.to_torch().unwrap();
    let text = String::from_utf8_lossy(&bytes);
    for name in ["exp_avg/second.weight", "exp_avg_sq/third.bias", "max_exp_avg_sq/first.weight", "step/first.bias"] {
        assert!(text.contains(name), "{name}");
    }
    let straight = train(&mut optim, model, 4..7);
    let (mut resumed, fresh) = begin();
    let model = resumed.restore_torch(fresh, "memory", bytes).unwrap();
    let model = train(&mut resumed, model, 4..7);
    assert_eq!(values(&model), values(&straight));
}

#[test]
fn a_record_of_burns_optimizer_is_taken_over() {
    let gpu = shared();
    let theirs = AdamWConfig::new().with_weight_decay(0.1).with_epsilon(1e-8).with_amsgrad(true);
    let (mut burns, mut model) = (theirs.init(), Mlp::new(&gpu.device));
    for step in 0..5 {
        let grads = model.grads(step);
        model = burns.step(1e-2, model, grads);
    }
    let mut ours = model.clone();
    let mut optim = WgpuOptimizer::new(adamw()).with_setup(&gpu.setup).init(&ours).unwrap();
    optim.restore_record(burns.to_record()).unwrap();
    assert_eq!(pollster::block_on(optim.engine().read_step_count()).unwrap(), 5);
    for step in 5..12 {
        let grads = model.grads(step);
        model = burns.step(1e-2, model, grads);
    }
    ours = train(&mut optim, ours, 5..12);
    let worst = difference(&ours, &model);
    assert!(worst < 2e-6, "{worst}");

    // Adam, from a file.
    let path = std::env::temp_dir().join(format!("wgpu-optim-burn-{}.bpk", std::process::id()));
    let (mut burns, mut model) = (AdamConfig::new().init(), Mlp::new(&gpu.device));
    for step in 0..3 {
        let grads = model.grads(step);
        model = burns.step(1e-2, model, grads);
    }
    burns.save(&path).unwrap();
    // Burn reads the numbers of a record from the file once they are needed.
    let record = burn::optim::OptimizerRecord::load(&path).unwrap();
    let rule = Adam { eps: 1e-5, ..Adam::default() };
    let mut optim = WgpuOptimizer::new(rule).with_setup(&gpu.setup).init(&model).unwrap();
    optim.restore_record(record).unwrap();
    let ours = train(&mut optim, model.clone(), 3..8);
    for step in 3..8 {
        let grads = model.grads(step);
        model = burns.step(1e-2, model, grads);
    }
    let worst = difference(&ours, &model);
    assert!(worst < 2e-6, "{worst}");

    std::fs::remove_file(&path).unwrap();

    // What does not fit changes nothing.
    let mut lion = WgpuOptimizer::new(Lion::default()).with_setup(&gpu.setup).init(&model).unwrap();
    let error = lion.restore_record(burns.to_record()).unwrap_err().to_string();
    assert!(error.contains("lion"), "{error}");
    let mut optim = WgpuOptimizer::new(adamw()).with_setup(&gpu.setup).init(&model).unwrap();
    let error = optim.restore_record(burns.to_record()).unwrap_err().to_string();
    assert!(error.contains("first.weight") && error.contains("max_moment_2"), "{error}");
    assert_eq!(pollster::block_on(optim.engine().read_step_count()).unwrap(), 0);
}

#[test]
fn averages_change_places_with_the_weights() {
    let gpu = shared();
    let model = Mlp::new(&gpu.device);
    let rule = Sgd { lr: 0.1, ..Sgd::default() };
    let options = WgpuOptimizer::new(rule).with(|builder| {
        builder.ema(Ema { decay: 0.5, warmup: false });
        Ok(())
    });
    let mut optim = options.with_gathered_gradients().with_setup(&gpu.setup).init(&model).unwrap();
    let model = train(&mut optim, model, 0..4);
    let weights = values(&model);
    let kept = model.clone();
    let (model, ()) = optim.with_engine(model, |engine, encoder| engine.swap_ema(encoder)).unwrap();
    let average = values(&model);
    assert_ne!(average, weights);
    let (model, ()) = optim.with_engine(model, |engine, encoder| engine.swap_ema(encoder)).unwrap();
    assert_eq!(values(&model), weights);
    assert_eq!(values(&kept), weights, "the kept clone of before the swap");
}
