//! The states of torch's optimizers, both ways, and nadam's product of momenta, which torch keeps as one number per tensor.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod array;
    pub(crate) mod device;
    pub(crate) mod gpu;
    pub(crate) mod snapshot;
}

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use wgpu_optim::checkpoint::{Checkpoint, restore_torch};
use wgpu_optim::optim::Rule;
use wgpu_optim::{Adadelta, Adafactor, AdamW, Adamax, Error, Group, Muon, NAdam, Optimizer, RAdam, Rprop, Sgd, Tensor};

use support::array::of_file;
use support::gpu::GPU;
use support::snapshot::snapshot;

fn torch_file() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/torch_adamw_amsgrad.safetensors")).unwrap()
}

fn torch_nadam_file() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/torch_nadam.safetensors")).unwrap()
}

fn torch_optimizer() -> (Optimizer, [(Tensor, &'static str); 2]) {
    torch_sized(AdamW { lr: 0.01, weight_decay: 0.1, amsgrad: true, ..AdamW::default() }.into())
}

fn torch_nadam(momentum_decay: f64) -> (Optimizer, [(Tensor, &'static str); 2]) {
    torch_sized(NAdam { lr: 0.01, weight_decay: 0.1, momentum_decay, ..NAdam::default() }.into())
}

fn torch_sized(rule: Box<dyn Rule>) -> (Optimizer, [(Tensor, &'static str); 2]) {
    let mut builder = Optimizer::builder(rule);
    let tensors =
        [(builder.tensor(Group::DEFAULT, "w", &[7, 5]), "w"), (builder.tensor(Group::DEFAULT, "b", &[5]), "b")];
    (builder.build(&GPU.device, &GPU.queue).unwrap(), tensors)
}

#[test]
fn torch_states_resume_here_as_in_torch() {
    goes_on(&torch_file(), torch_optimizer());
    goes_on(&torch_nadam_file(), torch_nadam(0.02));
}

fn goes_on(bytes: &[u8], (mut optimizer, tensors): (Optimizer, [(Tensor, &'static str); 2])) {
    restore_torch("torch", bytes, &mut optimizer).unwrap();
    assert_eq!(pollster::block_on(optimizer.read_step_count()).unwrap(), 3);
    for (tensor, name) in tensors {
        optimizer.write_grad(tensor, &of_file(bytes, &format!("next_grad/{name}"))).unwrap();
    }
    GPU.run(|encoder| optimizer.step(encoder)).unwrap();
    for (tensor, name) in tensors {
        let before = of_file(bytes, &format!("param/{name}"));
        let want = of_file(bytes, &format!("next_param/{name}"));
        let got = pollster::block_on(optimizer.read_param(tensor)).unwrap();
        for ((before, want), got) in before.iter().zip(&want).zip(&got) {
            // Two f32 implementations differ by a few ulp of the weight and a share of the step.
            let limit = 2.0 * f32::EPSILON * want.abs() + 1e-5 * (want - before).abs();
            assert!((got - want).abs() <= limit, "{name}: {got} is not {want}");
        }
        let moment = pollster::block_on(optimizer.read_state(tensor, "m")).unwrap();
        for (got, want) in moment.iter().zip(of_file(bytes, &format!("next_exp_avg/{name}"))) {
            assert!((got - want).abs() <= 4.0 * f32::EPSILON * want.abs().max(0.1), "{name}: m {got} is not {want}");
        }
    }
}

#[test]
fn states_return_to_torch_unchanged() {
    let bytes = torch_file();
    let (mut optimizer, _) = torch_optimizer();
    restore_torch("torch", bytes.clone(), &mut optimizer).unwrap();
    let exported = snapshot(&optimizer).to_torch().unwrap();
    let file = safetensors::SafeTensors::deserialize(&exported).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    let mut expected: Vec<String> = ["param", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step"]
        .iter()
        .flat_map(|array| ["w", "b"].map(|tensor| format!("{array}/{tensor}")))
        .collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    for key in &expected {
        assert_eq!(of_file(&exported, key), of_file(&bytes, key), "{key}");
    }
}

/// torch keeps the product of momenta in its states; here it is 1 less the state `q`.
#[test]
fn nadams_product_converts_both_ways() {
    let bytes = torch_nadam_file();
    let (mut optimizer, _) = torch_nadam(0.02);
    restore_torch("torch", bytes.clone(), &mut optimizer).unwrap();
    let exported = snapshot(&optimizer).to_torch().unwrap();
    for name in ["w", "b"] {
        let key = format!("mu_product/{name}");
        let (ours, theirs) = (of_file(&exported, &key)[0], of_file(&bytes, &key)[0]);
        assert!((ours - theirs).abs() <= 3.0 * f32::EPSILON * theirs, "{ours} is not {theirs}");
        let key = format!("exp_avg/{name}");
        assert_eq!(of_file(&exported, &key), of_file(&bytes, &key));
    }
    // The file's product differs from the product that the current settings give.
    let (mut other, [(w, _), _]) = torch_nadam(0.2);
    restore_torch("torch", bytes.clone(), &mut other).unwrap();
    let left = pollster::block_on(other.read_state(w, "q")).unwrap();
    assert!(left.iter().all(|q| *q == 1.0 - of_file(&bytes, "mu_product/w")[0]), "{left:?}");
    // A product lies in [0, 1].
    let mut impossible = bytes;
    let file = safetensors::SafeTensors::deserialize(&impossible).unwrap();
    let at = file.tensor("mu_product/w").unwrap().data().as_ptr() as usize - impossible.as_ptr() as usize;
    impossible[at..at + 4].copy_from_slice(&1.5_f32.to_le_bytes());
    let error = restore_torch("torch", impossible, &mut other).unwrap_err().to_string();
    assert!(error.contains("mu_product/w` is 1.5, needs a number in [0, 1]"), "{error}");
}

/// A file that was written before the product was a state has the settings' own product.
#[test]
fn a_file_without_nadams_product_resumes() {
    let (mut optimizer, tensors) = torch_nadam(4e-3);
    for number in 0..3 {
        for (tensor, name) in tensors {
            let ones = vec![0.5 + number as f32; if name == "w" { 35 } else { 5 }];
            optimizer.write_grad(tensor, &ones).unwrap();
        }
        GPU.run(|encoder| optimizer.step(encoder)).unwrap();
    }
    let bytes = snapshot(&optimizer).to_bytes().unwrap();
    let old = without_products(&bytes);
    assert!(old.len() < bytes.len());
    let (mut resumed, _) = torch_nadam(4e-3);
    Checkpoint::from_bytes("old", old).unwrap().restore(&mut resumed).unwrap();
    for (_, name) in tensors {
        let read = |from: &Optimizer| pollster::block_on(from.read_state(from.tensor(name).unwrap(), "q")).unwrap();
        let pairs = read(&resumed).into_iter().zip(read(&optimizer));
        assert!(pairs.clone().all(|(a, b)| (a - b).abs() <= 2.0 * f32::EPSILON && a > 0.5), "{name}");
    }
}

/// The file without every array `q`.
fn without_products(bytes: &[u8]) -> Vec<u8> {
    let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
    let (_, about) = safetensors::SafeTensors::read_metadata(bytes).unwrap();
    let kept: Vec<_> = file.iter().filter(|(key, _)| !key.starts_with("q/")).collect();
    safetensors::serialize(kept, about.metadata().clone()).unwrap()
}

#[test]
fn torch_files_that_do_not_fit_are_refused() {
    let (mut optimizer, tensors) = torch_optimizer();
    let bytes = torch_file();
    let at = bytes.windows(12).position(|w| w == b"exp_avg_sq/w").unwrap();
    let mut lacking = bytes.clone();
    lacking[at + 11] = b'z';
    let error = restore_torch("lacking", lacking, &mut optimizer).unwrap_err().to_string();
    assert!(error.contains("exp_avg_sq/w"), "{error}");
    assert!(pollster::block_on(optimizer.read_param(tensors[0].0)).unwrap().iter().all(|x| *x == 0.0));
    let mut builder = Optimizer::builder(wgpu_optim::Lion::default());
    builder.tensor(Group::DEFAULT, "w", &[7, 5]);
    let mut lion = builder.build(&GPU.device, &GPU.queue).unwrap();
    assert!(restore_torch("torch", bytes, &mut lion).unwrap_err().to_string().contains("lion"));
}

/// A file with these arrays: key, type, shape, bytes.
fn file_of(arrays: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
    let views =
        arrays.iter().map(|(key, dtype, shape, bytes)| (*key, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn singles(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn of_rule(rule: impl Into<Box<dyn Rule>>) -> (Optimizer, Tensor) {
    let mut builder = Optimizer::builder(rule);
    let w = builder.tensor(Group::DEFAULT, "w", &[1]);
    (builder.build(&GPU.device, &GPU.queue).unwrap(), w)
}

/// torch's SGD counts no steps: a momentum is from its first step or a later one, so that dampening applies.
#[test]
fn the_momentum_of_torchs_sgd_goes_on_after_its_first_step() {
    let damped = || Sgd { lr: 0.1, momentum: 0.9, dampening: 0.5, ..Sgd::default() };
    let bytes = file_of(&[
        ("param/w", Dtype::F32, &[1], singles(&[1.0])),
        ("momentum_buffer/w", Dtype::F32, &[1], singles(&[2.0])),
    ]);
    let (mut optimizer, w) = of_rule(damped());
    restore_torch("torch", bytes, &mut optimizer).unwrap();
    optimizer.write_grad(w, &[1.0]).unwrap();
    GPU.run(|encoder| optimizer.step(encoder)).unwrap();
    let moved = pollster::block_on(optimizer.read_param(w)).unwrap()[0];
    assert!((moved - 0.77).abs() < 1e-7, "{moved}");

    // Before its first step torch has no momentum, and begins with the gradient.
    let (fresh, _) = of_rule(damped());
    let exported = snapshot(&fresh).to_torch().unwrap();
    assert!(!safetensors::SafeTensors::deserialize(&exported).unwrap().names().contains(&"momentum_buffer/w"));
    let (mut again, _) = of_rule(damped());
    restore_torch("fresh", exported, &mut again).unwrap();
    assert_eq!(pollster::block_on(again.read_step_count()).unwrap(), 0);
}

#[test]
fn torch_has_every_state_that_it_needs_to_step() {
    let rules: [(Box<dyn Rule>, &[&str]); 4] = [
        (AdamW { beta1: 0.0, ..AdamW::default() }.into(), &["exp_avg/w", "exp_avg_sq/w", "step/w"]),
        (NAdam { beta1: 0.0, ..NAdam::default() }.into(), &["exp_avg/w", "exp_avg_sq/w", "mu_product/w", "step/w"]),
        (RAdam { beta1: 0.0, ..RAdam::default() }.into(), &["exp_avg/w", "exp_avg_sq/w", "step/w"]),
        (Sgd { momentum: 0.9, ..Sgd::default() }.into(), &["momentum_buffer/w", "step/w"]),
    ];
    for (rule, expected) in rules {
        let (mut optimizer, w) = of_rule(rule.boxed());
        optimizer.write_grad(w, &[1.0]).unwrap();
        GPU.run(|encoder| optimizer.step(encoder)).unwrap();
        let exported = snapshot(&optimizer).to_torch().unwrap();
        let file = safetensors::SafeTensors::deserialize(&exported).unwrap();
        let mut names = file.names();
        names.retain(|name| *name != "param/w");
        names.sort_unstable();
        assert_eq!(names, expected, "{}", rule.name());
        let (mut resumed, _) = of_rule(rule.boxed());
        restore_torch("exported", exported.clone(), &mut resumed).unwrap();
        assert_eq!(snapshot(&resumed).to_bytes().unwrap(), snapshot(&optimizer).to_bytes().unwrap(), "{}", rule.name());
    }
}

#[test]
fn torch_files_may_have_other_types() {
    let adam = |step: (Dtype, &'static [usize], Vec<u8>), moment: (Dtype, Vec<u8>)| {
        let (mut optimizer, w) = of_rule(AdamW::default());
        let bytes = file_of(&[
            ("exp_avg/w", moment.0, &[1], moment.1),
            ("exp_avg_sq/w", Dtype::F64, &[1], 0.25_f64.to_le_bytes().to_vec()),
            ("step/w", step.0, step.1, step.2),
        ]);
        restore_torch("torch", bytes, &mut optimizer)?;
        let read = |state| pollster::block_on(optimizer.read_state(w, state)).unwrap()[0];
        Ok::<_, Error>((pollster::block_on(optimizer.read_step_count())?, read("m"), read("v")))
    };
    let half = || (Dtype::F16, 0x3800_u16.to_le_bytes().to_vec());
    let brain = || (Dtype::BF16, 0x3f00_u16.to_le_bytes().to_vec());
    let steps = [
        (Dtype::I64, &[][..], 7_i64.to_le_bytes().to_vec()),
        (Dtype::I32, &[1][..], 7_i32.to_le_bytes().to_vec()),
        (Dtype::F32, &[1][..], singles(&[7.0])),
        (Dtype::F64, &[][..], 7_f64.to_le_bytes().to_vec()),
    ];
    for step in steps {
        for moment in [half(), brain()] {
            assert_eq!(adam(step.clone(), moment).unwrap(), (7, 0.5, 0.25), "{step:?}");
        }
    }
    for (step, problem) in [
        ((Dtype::F32, &[2][..], singles(&[7.0, 7.0])), "needs one number"),
        ((Dtype::F32, &[1, 1][..], singles(&[7.0])), "`step/w` is F32 [1, 1], needs one number"),
        ((Dtype::BOOL, &[][..], vec![1]), "needs one number"),
        ((Dtype::F32, &[][..], singles(&[16_777_216.0])), "is 16777216, needs a whole number below 2^24"),
        ((Dtype::F32, &[][..], singles(&[0.5])), "`step/w` is 0.5, needs a whole number below 2^24"),
        ((Dtype::I64, &[][..], (-1_i64).to_le_bytes().to_vec()), "`step/w` is -1, needs a whole number"),
    ] {
        let error = adam(step, half()).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    assert_eq!(adam((Dtype::F32, &[], singles(&[16_777_215.0])), half()).unwrap().0, 16_777_215);
    let error = adam((Dtype::F32, &[], singles(&[7.0])), (Dtype::I32, vec![0; 4])).unwrap_err().to_string();
    assert!(error.contains("exp_avg/w` is I32 [1], needs F16, BF16, F32 or F64 [1]"), "{error}");
}

#[test]
fn torch_files_from_which_torch_could_not_go_on_are_refused() {
    let (mut optimizer, _) = of_rule(AdamW::default());
    let moments =
        || [("exp_avg/w", Dtype::F32, &[1][..], singles(&[0.5])), ("exp_avg_sq/w", Dtype::F32, &[1], singles(&[0.5]))];
    let error = restore_torch("torch", file_of(&moments()), &mut optimizer).unwrap_err().to_string();
    assert!(error.contains("`step/w` is missing"), "{error}");
    let (mut without, _) = of_rule(AdamW { beta1: 0.0, ..AdamW::default() });
    let [_, second] = moments();
    let lacking = file_of(&[second, ("step/w", Dtype::F32, &[], singles(&[1.0]))]);
    let error = restore_torch("torch", lacking, &mut without).unwrap_err().to_string();
    assert!(error.contains("`exp_avg/w` is missing"), "{error}");

    let [first, mut second] = moments();
    second.2 = &[1, 1];
    let shaped = file_of(&[first, second, ("step/w", Dtype::F32, &[], singles(&[1.0]))]);
    let error = restore_torch("torch", shaped, &mut optimizer).unwrap_err().to_string();
    assert!(error.contains("`exp_avg_sq/w` is F32 [1, 1], needs F16, BF16, F32 or F64 [1]"), "{error}");

    let mut builder = Optimizer::builder(AdamW::default());
    builder.tensor(Group::DEFAULT, "w", &[1]);
    builder.tensor(Group::DEFAULT, "b", &[1]);
    let mut two = builder.build(&GPU.device, &GPU.queue).unwrap();
    let [first, second] = moments();
    let bytes = file_of(&[
        first,
        second,
        ("step/w", Dtype::F32, &[], singles(&[3.0])),
        ("exp_avg/b", Dtype::F32, &[1], singles(&[0.5])),
        ("exp_avg_sq/b", Dtype::F32, &[1], singles(&[0.5])),
        ("step/b", Dtype::F32, &[], singles(&[4.0])),
    ]);
    let error = restore_torch("torch", bytes, &mut two).unwrap_err().to_string();
    assert!(error.contains("`step/b` is 4, `step/w` is 3"), "{error}");
}

/// The numbers of an array in f64.
fn doubles(bytes: &[u8], key: &str) -> Vec<f64> {
    let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
    let array = file.tensor(key).unwrap();
    match array.dtype() {
        Dtype::F64 => array.data().chunks_exact(8).map(bytemuck::pod_read_unaligned).collect(),
        _ => of_file(bytes, key).into_iter().map(f64::from).collect(),
    }
}

/// The states of a torch optimizer of one tensor, by torch's names, after the gradients of two steps. `p` are the parameters before each.
type TorchStates = Vec<(&'static str, Vec<usize>, Vec<f64>)>;

fn each(n: usize, f: impl Fn(usize) -> f64) -> Vec<f64> {
    (0..n).map(f).collect()
}

/// torch's definition of Adamax, with lr 0.01 and weight decay 0.05.
fn adamax_states(shape: &[usize], g: &[Vec<f64>; 2], p: &[Vec<f64>; 2]) -> TorchStates {
    let at = |t: usize, i: usize| g[t][i] + 0.05 * p[t][i];
    let n = g[0].len();
    let mean = each(n, |i| 0.1 * 0.9 * at(0, i) + 0.1 * at(1, i));
    let most = each(n, |i| (0.999 * (at(0, i).abs() + 1e-8)).max(at(1, i).abs() + 1e-8));
    vec![("exp_avg", shape.to_vec(), mean), ("exp_inf", shape.to_vec(), most)]
}

/// torch's definition of Adadelta, with weight decay 0.01.
fn adadelta_states(shape: &[usize], g: &[Vec<f64>; 2], p: &[Vec<f64>; 2]) -> TorchStates {
    let n = g[0].len();
    let (mut squares, mut moves) = (vec![0.0; n], vec![0.0; n]);
    for t in 0..2 {
        for i in 0..n {
            let g: f64 = g[t][i] + 0.01 * p[t][i];
            squares[i] = 0.9 * squares[i] + 0.1 * g * g;
            let delta: f64 = ((moves[i] + 1e-6) / (squares[i] + 1e-6)).sqrt() * g;
            moves[i] = 0.9 * moves[i] + 0.1 * delta * delta;
        }
    }
    vec![("square_avg", shape.to_vec(), squares), ("acc_delta", shape.to_vec(), moves)]
}

/// torch's definition of Rprop, with lr 0.01.
fn rprop_states(shape: &[usize], g: &[Vec<f64>; 2], _: &[Vec<f64>; 2]) -> TorchStates {
    let agrees = |i: usize| g[0][i] * g[1][i];
    let n = g[0].len();
    let sizes = each(n, |i| {
        0.01 * if agrees(i) > 0.0 {
            1.2
        } else if agrees(i) < 0.0 {
            0.5
        } else {
            1.0
        }
    });
    let previous = each(n, |i| if agrees(i) < 0.0 { 0.0 } else { g[1][i] });
    vec![("prev", shape.to_vec(), previous), ("step_size", shape.to_vec(), sizes)]
}

/// torch's definition of Muon.
fn muon_states(shape: &[usize], g: &[Vec<f64>; 2], _: &[Vec<f64>; 2]) -> TorchStates {
    let momentum = each(g[0].len(), |i| 0.05 * 0.95 * g[0][i] + 0.05 * g[1][i]);
    vec![("momentum_buffer", shape.to_vec(), momentum)]
}

/// torch's definition of Adafactor: the first step's weight is 1, the second's 2^-0.8.
fn adafactor_states(shape: &[usize], g: &[Vec<f64>; 2], _: &[Vec<f64>; 2]) -> TorchStates {
    let weight = 2.0_f64.powf(-0.8);
    let blend = |mean: &dyn Fn(&[f64]) -> f64| mean(&g[0]) + weight * (mean(&g[1]) - mean(&g[0]));
    let [rows, columns] = *shape else {
        let squares = each(g[0].len(), |i| blend(&|g: &[f64]| g[i] * g[i]));
        return vec![("variance", shape.to_vec(), squares)];
    };
    let row =
        |r: usize| blend(&|g: &[f64]| (0..columns).map(|c| g[r * columns + c].powi(2)).sum::<f64>() / columns as f64);
    let column =
        |c: usize| blend(&|g: &[f64]| (0..rows).map(|r| g[r * columns + c].powi(2)).sum::<f64>() / rows as f64);
    vec![("row_var", vec![rows, 1], each(rows, row)), ("col_var", vec![1, columns], each(columns, column))]
}

/// Two steps in torch, the third here: the file has the states that torch's definition gives after the recorded run's first two gradients.
#[test]
fn torchs_other_optimizers_go_on_here() {
    type States = fn(&[usize], &[Vec<f64>; 2], &[Vec<f64>; 2]) -> TorchStates;
    let table: [(&str, Box<dyn Rule>, States); 5] = [
        ("adamax", Adamax { lr: 0.01, weight_decay: 0.05, ..Adamax::default() }.into(), adamax_states),
        ("adadelta", Adadelta { lr: 1.0, weight_decay: 0.01, ..Adadelta::default() }.into(), adadelta_states),
        ("rprop", Rprop { lr: 0.01, ..Rprop::default() }.into(), rprop_states),
        ("muon", Muon { lr: 0.02, weight_decay: 0.1, ..Muon::default() }.into(), muon_states),
        ("adafactor", Adafactor { lr: 0.02, weight_decay: 0.01, ..Adafactor::default() }.into(), adafactor_states),
    ];
    for (name, rule, states) in table {
        let path = format!("{}/tests/golden/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let golden = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&golden).unwrap();
        let tensors: Vec<(String, Vec<usize>)> = file
            .iter()
            .filter_map(|(key, array)| Some((key.strip_prefix("param/")?.to_owned(), array.shape().to_vec())))
            .collect();
        assert!(tensors.len() >= 4, "{name}");
        let mut arrays: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
        let mut builder = Optimizer::builder(rule);
        for (tensor, shape) in &tensors {
            builder.tensor(Group::DEFAULT, tensor, shape);
            let numbers = |key: &str| doubles(&golden, &format!("{key}/{tensor}"));
            let grads = [numbers("grad/1"), numbers("grad/2")];
            let mut of_torch = states(shape, &grads, &[numbers("param"), numbers("expect/1/param")]);
            of_torch.push(("param", shape.clone(), numbers("expect/2/param")));
            if name != "muon" {
                of_torch.push(("step", Vec::new(), vec![2.0]));
            }
            let narrow = |values: Vec<f64>| singles(&values.into_iter().map(|x| x as f32).collect::<Vec<_>>());
            arrays.extend(of_torch.into_iter().map(|(key, shape, x)| (format!("{key}/{tensor}"), shape, narrow(x))));
        }
        let listed: Vec<(&str, Dtype, &[usize], Vec<u8>)> =
            arrays.iter().map(|(key, shape, bytes)| (key.as_str(), Dtype::F32, &shape[..], bytes.clone())).collect();
        let bytes = file_of(&listed);
        let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
        restore_torch("torch", bytes.clone(), &mut optimizer).unwrap();

        let exported = snapshot(&optimizer).to_torch().unwrap();
        let exported = safetensors::SafeTensors::deserialize(&exported).unwrap();
        for (key, shape, numbers) in &arrays {
            let array = exported.tensor(key).unwrap();
            assert_eq!((array.shape(), array.data()), (&shape[..], &numbers[..]), "{name} {key}");
        }

        for (tensor, _) in &tensors {
            let grad = of_file(&golden, &format!("grad/3/{tensor}"));
            optimizer.write_grad(optimizer.tensor(tensor).unwrap(), &grad).unwrap();
        }
        GPU.run(|encoder| optimizer.step(encoder)).unwrap();
        // The golden file's own tolerance, of the step and not of the weight.
        let share = if name == "muon" { 1e-3 } else { 5e-5 };
        for (tensor, _) in &tensors {
            let [before, want] = [2, 3].map(|t| doubles(&golden, &format!("expect/{t}/param/{tensor}")));
            let got = pollster::block_on(optimizer.read_param(optimizer.tensor(tensor).unwrap())).unwrap();
            let largest = before.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            for ((want, got), i) in want.iter().zip(got).zip(0..) {
                let off = (f64::from(got) - want).abs();
                let limit = 3.0 * f64::from(f32::EPSILON) * want.abs() + share * largest;
                assert!(off <= limit, "{name} {tensor} {i}: {got} is not {want}, the largest step is {largest}");
            }
        }
    }
}
