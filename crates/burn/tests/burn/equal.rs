//! Burn's own optimizers, this crate's and the reference in f64 take the same 20 steps of a real model. All get the gradients of Burn's run.
//! Parameters and states are within the errors of the reference that each of the two may have, so they differ by the sum at the most.

use burn::module::ParamGroup;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    AdaGradConfig, AdamConfig, AdamWConfig, AdanConfig, AdjustLrFn, GradientsParams, LambConfig, LionConfig,
    ModuleOptimizer, MuonConfig, RmsPropConfig, SgdConfig,
};
use burn::tensor::TensorData;
use burn_pack::Reader;
use wgpu_optim::optim::AdjustLr;
use wgpu_optim::{Adagrad, Adam, AdamW, Adan, Group, Lamb, Lion, Muon, Optimizer, RmsProp, Rule, Sgd};
use wgpu_optim_burn::{WgpuOptimizer, burn, wgpu_optim};

use crate::support::{Gpu, Mlp, exclusive, shared, values};

const STEPS: u64 = 20;
const LR: f64 = 1e-2;
/// Half the distance from 1 to the next f32, as [`Rule::tolerance`] counts.
const UNIT: f64 = 1.0 / 16_777_216.0;
/// The error of an element of a matrix that Muon made orthogonal, in units of the largest element.
const MATRIX: f64 = 100.0;

/// Burn's optimizer with the settings of a rule.
struct Theirs {
    optim: ModuleOptimizer,
    /// Names of a state: the engine's, and Burn's; and the factor from Burn's numbers to the engine's.
    states: &'static [(&'static str, &'static str, f64)],
    /// The relative error of a step, in units; those of all steps add up. Burn computes 1-β in f32. With β = 0.999 the second moment is off by
    /// 220 units, however many steps were taken.
    units: f64,
}

/// The parameters of a model by path: the reference's numbers, and what they went through.
struct Reference {
    host: wgpu_optim::cpu::Optimizer<f64>,
    paths: Vec<String>,
    params: Vec<Vec<f64>>,
    /// The sum of the changes of each number.
    ways: Vec<Vec<f64>>,
    /// The largest size that each number of a state had, by state.
    sizes: Vec<Vec<(&'static str, Vec<f64>)>>,
}

impl Reference {
    /// `biases` steps the biases, where the rule steps matrices only.
    fn new(rule: Box<dyn Rule>, biases: Option<Adam>, model: &Mlp) -> Self {
        let mut builder = Optimizer::builder(rule);
        let group = biases.map_or(Group::DEFAULT, |adam| builder.group("biases", adam));
        let found = values(model);
        for ((path, values), width) in found.iter().zip([33, 33, 17, 17, 3, 3]) {
            if path.contains("bias") {
                builder.tensor(group, path, &[width]);
            } else {
                builder.tensor(Group::DEFAULT, path, &[values.len() / width, width]);
            }
        }
        let (paths, params): (Vec<_>, Vec<Vec<f64>>) = found.into_iter().map(|(path, x)| (path, wide(&x))).unzip();
        let ways = params.iter().map(|x| vec![0.0; x.len()]).collect();
        let host = builder.build_cpu::<f64>().unwrap();
        let sizes = paths.iter().map(|path| {
            let tensor = host.tensor(path).unwrap();
            let states = host.state_names(tensor).unwrap();
            states.into_iter().map(|name| (name, vec![0.0; host.state(tensor, name).unwrap().len()])).collect()
        });
        let sizes = sizes.collect();
        Self { host, paths, params, ways, sizes }
    }

    fn step(&mut self, grads: &[Vec<f64>]) {
        let before = self.params.clone();
        let mut slices: Vec<&mut [f64]> = self.params.iter_mut().map(Vec::as_mut_slice).collect();
        self.host.step(&mut slices, &grads.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        for ((ways, before), after) in self.ways.iter_mut().zip(&before).zip(&self.params) {
            ways.iter_mut().zip(before).zip(after).for_each(|((way, a), b)| *way += (a - b).abs());
        }
        for (path, sizes) in self.paths.iter().zip(&mut self.sizes) {
            let tensor = self.host.tensor(path).unwrap();
            for (name, sizes) in sizes {
                let state = self.host.state(tensor, name).unwrap();
                sizes.iter_mut().zip(state).for_each(|(size, x)| *size = size.max(x.abs()));
            }
        }
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// The gradients of a step: for Burn, for this crate, and as numbers in the order of the parameters.
fn grads(model: &Mlp, step: u64) -> (GradientsParams, GradientsParams, Vec<Vec<f64>>) {
    let theirs = model.grads(step);
    let mut ours = GradientsParams::new();
    let mut numbers = Vec::new();
    for layer in [&model.first, &model.second, &model.third] {
        let (weight, bias) = (layer.weight.id, layer.bias.as_ref().unwrap().id);
        let (of_weight, of_bias) = (theirs.get::<2>(weight).unwrap(), theirs.get::<1>(bias).unwrap());
        for data in [of_weight.to_data(), of_bias.to_data()] {
            numbers.push(wide(&data.try_into_vec::<f32>().unwrap()));
        }
        ours.register(weight, of_weight);
        ours.register(bias, of_bias);
    }
    (theirs, ours, numbers)
}

/// The errors of this crate's numbers and of Burn's as shares of what they may be.
#[derive(Default)]
struct Errors([f64; 2]);

impl Errors {
    /// `limits` are the errors that each may have.
    fn compare(&mut self, what: &str, numbers: [&[f64]; 3], limits: impl Fn(usize) -> [f64; 2]) {
        let [ours, theirs, reference] = numbers;
        assert!(ours.len() == reference.len() && theirs.len() == reference.len(), "{what}");
        for (i, expected) in reference.iter().enumerate() {
            for (worst, (got, limit)) in self.0.iter_mut().zip([ours[i], theirs[i]].into_iter().zip(limits(i))) {
                let share = (got - expected).abs() / limit;
                assert!(share <= 1.0, "{what}[{i}]: {got:e} for {expected:e}, {share} of the limit");
                *worst = worst.max(share);
            }
        }
    }
}

fn equals_burn(gpu: &Gpu, rule: impl Rule + Clone + 'static, theirs: Theirs) {
    let name = rule.name();
    let mut model = Mlp::new(&gpu.device);
    let mut ours = model.clone();
    let is_matrices = name == "muon";
    let biases = is_matrices.then(|| Adam { lr: LR, eps: 1e-5, ..Adam::default() });
    let units = [rule.tolerance(), theirs.units].map(|units| units + if is_matrices { MATRIX } else { 0.0 });
    let mut reference = Reference::new(Box::new(rule.clone()), biases, &model);
    let mut options = WgpuOptimizer::new(rule);
    let mut burns = theirs.optim;
    if let Some(adam) = biases {
        options = options.with_group(ParamGroup::from_predicate("bias"), adam);
        burns = burns.with_group(ParamGroup::from_predicate("bias"), AdamConfig::new().build(), None);
    }
    let mut optim = options.with_setup(&gpu.setup).init(&ours).unwrap();
    for step in 0..STEPS {
        let (of_burn, of_ours, numbers) = grads(&model, step);
        model = burns.step(LR, model, of_burn);
        ours = optim.step((), ours, of_ours).unwrap();
        reference.step(&numbers);
    }
    let mut errors = Errors::default();
    let (engine, record) = (optim.engine(), states_of(burns));
    let ids = [&model.first, &model.second, &model.third].map(|l| [l.weight.id, l.bias.as_ref().unwrap().id]);
    let mut compared = 0;
    for (i, (path, id)) in reference.paths.iter().zip(ids.as_flattened()).enumerate() {
        let (params, ways) = (&reference.params[i], &reference.ways[i]);
        let widest = ways.iter().copied().fold(0.0, f64::max);
        assert!(widest > LR, "{name}: {path} trained");
        // Each step rounds the number, and its change to so many units.
        let limits = |i: usize| {
            let way = if is_matrices { widest } else { ways[i] };
            units.map(|units| STEPS as f64 * UNIT * (units * way + params[i].abs()))
        };
        let [got, theirs_got] = [&ours, &model].map(|model| wide(&values(model)[i].1));
        errors.compare(&format!("{name} {path}"), [&got, &theirs_got, params], limits);
        let tensor = engine.tensor(path).unwrap();
        for (state, burns_name, factor) in theirs.states {
            let Some(burns) = record.get(&format!("{}.{burns_name}", id.val())) else { continue };
            let got = wide(&pollster::block_on(engine.read_state(tensor, state)).unwrap());
            let burns: Vec<f64> = burns.iter().map(|x| factor * x).collect();
            let expected = reference.host.state(reference.host.tensor(path).unwrap(), state).unwrap();
            let sizes = &reference.sizes[i].iter().find(|(name, _)| name == state).unwrap().1;
            let limits = |i: usize| units.map(|units| STEPS as f64 * UNIT * units * sizes[i]);
            errors.compare(&format!("{name} {path}.{state}"), [&got, &burns, expected], limits);
            compared += 1;
        }
    }
    assert_eq!(compared, theirs.states.len() * if is_matrices { 3 } else { 6 }, "{name}: states compared");
    println!("{name}: {:.3} and {:.3} of the limits", errors.0[0], errors.0[1]);
}

/// The states in a record of Burn, by its names.
fn states_of(optim: ModuleOptimizer) -> std::collections::BTreeMap<String, Vec<f64>> {
    let reader = Reader::from_bytes(optim.to_record().into_bytes().unwrap()).unwrap();
    let tensors = reader.into_tensors().unwrap().into_iter().map(|tensor| {
        let (name, dtype, shape, _, bytes) = tensor.into_parts().unwrap();
        (name, wide(&TensorData::from_bytes(bytes, shape, dtype).try_into_vec::<f32>().unwrap()))
    });
    tensors.collect()
}

fn decay(penalty: f32) -> Option<WeightDecayConfig> {
    Some(WeightDecayConfig::new(penalty))
}

fn adamw(gpu: &Gpu) {
    let rule = AdamW { lr: LR, weight_decay: 0.1, eps: 1e-8, ..AdamW::default() };
    let optim = AdamWConfig::new().with_weight_decay(0.1).with_epsilon(1e-8).init();
    let states = &[("m", "momentum.moment_1", 1.0), ("v", "momentum.moment_2", 1.0)];
    equals_burn(gpu, rule, Theirs { optim, states, units: 15.0 });
}

#[test]
fn adamw_in_shared_pages() {
    adamw(shared());
}

#[test]
fn adamw_in_buffers_of_their_own() {
    adamw(exclusive());
}

#[test]
fn adan() {
    let rule = Adan { lr: LR, weight_decay: 0.02, ..Adan::default() };
    let optim = AdanConfig::new().with_weight_decay(0.02).init();
    let states =
        &[("m", "momentum.exp_avg", 1.0), ("v", "momentum.exp_avg_diff", 1.0), ("n", "momentum.exp_avg_sq", 1.0)];
    equals_burn(shared(), rule, Theirs { optim, states, units: 10.0 });
}

#[test]
fn sgd() {
    let rule = Sgd { lr: LR, momentum: 0.9, nesterov: true, weight_decay: 0.01, ..Sgd::default() };
    let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0).with_nesterov(true);
    let optim = SgdConfig::new().with_weight_decay(decay(0.01)).with_momentum(Some(momentum)).init();
    equals_burn(shared(), rule, Theirs { optim, states: &[("b", "momentum.velocity", 1.0)], units: 4.0 });
}

#[test]
fn adam() {
    let rule = Adam { lr: LR, weight_decay: 0.01, eps: 1e-5, amsgrad: true, ..Adam::default() };
    let optim = AdamConfig::new().with_weight_decay(decay(0.01)).with_amsgrad(true).init();
    let states =
        &[("m", "momentum.moment_1", 1.0), ("v", "momentum.moment_2", 1.0), ("v_max", "momentum.max_moment_2", 1.0)];
    equals_burn(shared(), rule, Theirs { optim, states, units: 15.0 });
}

#[test]
fn rmsprop() {
    let rule = RmsProp { lr: LR, alpha: 0.9, eps: 1e-5, momentum: 0.8, weight_decay: 0.01, ..RmsProp::default() };
    let optim = RmsPropConfig::new().with_alpha(0.9).with_momentum(0.8).with_weight_decay(decay(0.01)).init();
    let states = &[("v", "square_avg.square_avg", 1.0), ("b", "momentum.buf", 1.0)];
    equals_burn(shared(), rule, Theirs { optim, states, units: 7.5 });
}

#[test]
fn adagrad() {
    let rule = Adagrad { lr: LR, lr_decay: 0.1, eps: 1e-5, weight_decay: 0.01, ..Adagrad::default() };
    let optim = AdaGradConfig::new().with_lr_decay(0.1).with_epsilon(1e-5).with_weight_decay(decay(0.01)).init();
    equals_burn(shared(), rule, Theirs { optim, states: &[("sum", "lr_decay.sum", 1.0)], units: 4.0 });
}

#[test]
fn lion() {
    let rule = Lion { lr: LR, weight_decay: 0.1, beta1: 0.9, beta2: 0.99, ..Lion::default() };
    let optim = LionConfig::new().with_beta_1(0.9).with_beta_2(0.99).with_weight_decay(0.1).init();
    equals_burn(shared(), rule, Theirs { optim, states: &[("m", "momentum", 1.0)], units: 4.0 });
}

#[test]
fn lamb() {
    let rule = Lamb { lr: LR, weight_decay: 0.01, eps: 1e-6, ..Lamb::default() };
    let optim = LambConfig::new().with_weight_decay(0.01).with_epsilon(1e-6).init();
    let states = &[("m", "moment_1", 1.0), ("v", "moment_2", 1.0)];
    equals_burn(shared(), rule, Theirs { optim, states, units: 15.0 });
}

/// Burn's momentum has no factor 1-μ. It changes nothing but the size of the state, because the matrices are scaled to norm 1.
fn muon(adjust_lr: AdjustLr, theirs: AdjustLrFn) {
    let rule = Muon { lr: LR, momentum: 0.95, weight_decay: 0.1, adjust_lr, ..Muon::default() };
    let optim = MuonConfig::new().with_weight_decay(decay(0.1)).with_adjust_lr_fn(theirs).init();
    equals_burn(shared(), rule, Theirs { optim, states: &[("m", "momentum.velocity", 0.05)], units: 15.0 });
}

#[test]
fn muon_as_the_original() {
    muon(AdjustLr::Original, AdjustLrFn::Original);
}

#[test]
fn muon_with_the_size_of_adamws_steps() {
    muon(AdjustLr::MatchRmsAdamW, AdjustLrFn::MatchRmsAdamW);
}
