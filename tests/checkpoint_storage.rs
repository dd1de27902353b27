//! Checkpoints of optimizers that store half precision and eight bits: resuming is bit-exact, files hold the packed forms and are
//! checked before use, and other forms are converted on request.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod device;
    pub(crate) mod gpu;
    pub(crate) mod numbers;
}

use std::collections::HashMap;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use wgpu_optim::checkpoint::{Checkpoint, Fit, restore_torch};
use wgpu_optim::cpu;
use wgpu_optim::optim::Rule;
use wgpu_optim::storage::blockwise::{self, BLOCK, Map};
use wgpu_optim::storage::half::{join, split};
use wgpu_optim::{Adai, AdamW, Builder, Error, Group, LossScale, Optimizer, Result, Tensor, VRAdam};

use support::gpu::GPU;
use support::numbers::numbers;

const STORAGES: [&str; 9] = [
    "bf16-sr",
    "bf16-split",
    "bf16-master",
    "f16-sr",
    "states=bf16-sr",
    "8bit",
    "8bit,min=0",
    "bf16-sr,8bit,min=0",
    "bf16-split,m=8bit,v=bf16-sr,min=0",
];
/// Odd counts: halves and bytes that end within a word, a block and a chunk.
const LENGTHS: [(&str, usize); 4] = [("w", 7), ("empty", 0), ("layer/v", 257), ("x", 4097)];
const ALL_EIGHT: &str = "8bit,min=0";

fn adamw() -> AdamW {
    AdamW { lr: 1e-2, weight_decay: 0.1, ..AdamW::default() }
}

fn rules() -> [Box<dyn Rule>; 3] {
    let vradam = VRAdam { weight_decay: 0.1, ..VRAdam::default() };
    let adai = Adai { weight_decay: 0.1, ..Adai::new(1e-2) };
    [adamw().into(), vradam.into(), adai.into()]
}

/// One description of the model on the GPU and on the host.
fn described(rule: &dyn Rule, storage: &str, seed: u64) -> (Builder, Vec<Tensor>) {
    let mut builder = Optimizer::builder(rule.boxed());
    builder.undamped_steps(true);
    builder.storage(storage.parse().unwrap()).seed(seed);
    builder.loss_scale(LossScale { initial: 64.0, ..LossScale::default() });
    let tensors = LENGTHS
        .map(|(name, length)| builder.tensor(Group::DEFAULT, name, &builder.sample_shape(Group::DEFAULT, length)))
        .to_vec();
    (builder, tensors)
}

struct Model {
    optimizer: Optimizer,
    tensors: Vec<Tensor>,
}

impl Model {
    fn new(rule: &dyn Rule, storage: &str, seed: u64) -> Self {
        let (builder, tensors) = described(rule, storage, seed);
        Self { optimizer: builder.build(&GPU.device, &GPU.queue).unwrap(), tensors }
    }

    fn started(rule: &dyn Rule, storage: &str, seed: u64) -> Self {
        let model = Self::new(rule, storage, seed);
        for (k, (tensor, (_, length))) in model.each().enumerate() {
            model.optimizer.write_param(tensor, &numbers(k as u32 + 77, length)).unwrap();
        }
        model
    }

    fn each(&self) -> impl Iterator<Item = (Tensor, (&'static str, usize))> + '_ {
        self.tensors.iter().copied().zip(LENGTHS)
    }

    /// Takes steps with gradients that depend only on the step's number. The third step has a gradient that is not finite, and is skipped.
    fn steps(&mut self, numbers_of: std::ops::RangeInclusive<u32>) {
        for number in numbers_of {
            for (k, (tensor, (_, length))) in self.each().enumerate() {
                let mut gradient = numbers(number * 10 + k as u32, length);
                gradient.iter_mut().for_each(|g| *g *= 64.0);
                if number == 3 && k == 2 {
                    gradient[200] = f32::NAN;
                }
                self.optimizer.write_grad(tensor, &gradient).unwrap();
            }
            GPU.run(|encoder| self.optimizer.step(encoder)).unwrap();
        }
    }

    fn snapshot(&self) -> Checkpoint {
        let mut encoder = GPU.device.create_command_encoder(&Default::default());
        let snapshot = self.optimizer.snapshot(&mut encoder).unwrap();
        GPU.queue.submit([encoder.finish()]);
        pollster::block_on(snapshot.checkpoint()).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        self.snapshot().to_bytes().unwrap()
    }

    fn params(&self, at: usize) -> Vec<f32> {
        pollster::block_on(self.optimizer.read_param(self.tensors[at])).unwrap()
    }

    fn state(&self, at: usize, state: &str) -> Vec<f32> {
        pollster::block_on(self.optimizer.read_state(self.tensors[at], state)).unwrap()
    }
}

fn same_bits(name: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{name}");
    let differs = a.iter().zip(b).position(|(x, y)| x.to_bits() != y.to_bits());
    assert!(differs.is_none(), "{name}: element {differs:?} differs");
}

/// A checkpoint's file, taken to pieces.
#[derive(Clone)]
struct File {
    about: String,
    entries: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
}

const ABOUT: &str = "wgpu-optim checkpoint";

impl File {
    fn of(bytes: &[u8]) -> Self {
        let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
        let about = metadata.metadata().clone().unwrap()[ABOUT].clone();
        let entry =
            |(key, view): (String, TensorView<'_>)| (key, view.dtype(), view.shape().to_vec(), view.data().to_vec());
        let mut entries: Vec<_> = SafeTensors::deserialize(bytes).unwrap().tensors().into_iter().map(entry).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Self { about, entries }
    }

    fn bytes(&self) -> Vec<u8> {
        let views = self.entries.iter().map(|(key, dtype, shape, bytes)| {
            (key, TensorView::new(*dtype, shape.clone(), bytes).unwrap_or_else(|e| panic!("{key}: {e}")))
        });
        let metadata = HashMap::from([(ABOUT.to_owned(), self.about.clone())]);
        safetensors::serialize(views, Some(metadata)).unwrap()
    }

    fn at(&self, key: &str) -> usize {
        self.entries.iter().position(|(k, ..)| k == key).unwrap_or_else(|| panic!("no {key}"))
    }

    fn data(&self, key: &str) -> &[u8] {
        &self.entries[self.at(key)].3
    }

    fn halves(&self, key: &str) -> Vec<u16> {
        self.data(key).chunks_exact(2).map(|b| u16::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn floats(&self, key: &str) -> Vec<f32> {
        self.data(key).chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn put(&mut self, key: &str, dtype: Dtype, shape: &[usize]) {
        let bytes = vec![0; shape.iter().product::<usize>() * dtype.bitsize() / 8];
        self.entries.retain(|(k, ..)| k != key);
        self.entries.push((key.to_owned(), dtype, shape.to_vec(), bytes));
    }

    fn layout(&self) -> Vec<String> {
        self.entries.iter().map(|(key, dtype, shape, _)| format!("{key} {dtype:?} {shape:?}")).collect()
    }
}

fn load(file: &File) -> Result<Checkpoint> {
    Checkpoint::from_bytes("file", file.bytes())
}

#[test]
fn resuming_gives_the_same_bits_however_numbers_are_stored() {
    for storage in STORAGES {
        for rule in rules() {
            let name = format!("{}, {storage}", rule.name());
            let mut whole = Model::started(rule.as_ref(), storage, 7);
            whole.steps(1..=4);
            let bytes = whole.bytes();
            // Another seed: the resumed run must draw with the file's key.
            let mut resumed = Model::new(rule.as_ref(), storage, 8);
            let checkpoint = Checkpoint::from_bytes("memory", bytes.clone()).unwrap();
            assert_eq!(checkpoint.to_bytes().unwrap(), bytes, "{name}: a file is written as it was read");
            checkpoint.restore(&mut resumed.optimizer).unwrap();
            assert_eq!(resumed.bytes(), bytes, "{name}: everything is back");
            whole.steps(5..=6);
            resumed.steps(5..=6);
            assert_eq!(whole.snapshot().step_count(), 5, "{name}: the step that was not finite is not counted");
            assert_ne!(whole.bytes(), bytes, "{name}: training went on");
            assert_eq!(resumed.bytes(), whole.bytes(), "{name}");
        }
    }
}

#[test]
fn draws_follow_from_the_count_of_roundings_and_not_from_the_step_count() {
    let start = || {
        let mut model = Model::started(&adamw(), "bf16-sr", 7);
        model.steps(1..=2);
        model.optimizer.write_step_count(40).unwrap();
        model
    };
    let mut whole = start();
    let bytes = whole.bytes();
    assert!(File::of(&bytes).about.contains("\"steps\":2"), "a new step count leaves the count of roundings");
    let mut resumed = Model::new(&adamw(), "bf16-sr", 7);
    Checkpoint::from_bytes("memory", bytes).unwrap().restore(&mut resumed.optimizer).unwrap();
    whole.steps(4..=5);
    resumed.steps(4..=5);
    assert_eq!(resumed.bytes(), whole.bytes());

    // A file without a key and a count of roundings leaves the optimizer's own.
    let plain = Model::started(&adamw(), "f32", 1);
    let plain = Checkpoint::from_bytes("memory", plain.bytes()).unwrap();
    let go_on = |seed| {
        let mut model = Model::started(&adamw(), "bf16-sr", seed);
        model.steps(1..=2);
        plain.restore_fitting(&mut model.optimizer, Fit::Converted).unwrap();
        model.steps(4..=5);
        model
    };
    let seven = go_on(7);
    assert!(File::of(&seven.bytes()).about.contains("\"steps\":4"));
    assert_eq!(seven.bytes(), go_on(7).bytes());
    assert_ne!(seven.params(3), go_on(8).params(3));
}

#[test]
fn files_hold_the_packed_forms() {
    let mut model = Model::started(&adamw(), "bf16-split,m=8bit,v=bf16-sr,min=256", 7);
    model.steps(1..=2);
    let file = File::of(&model.bytes());
    let mut expected = Vec::new();
    for (name, n) in LENGTHS {
        expected.extend([format!("param/{name} BF16 [{n}]"), format!("remainder/{name} U16 [{n}]")]);
        expected.push(format!("v/{name} BF16 [{n}]"));
        if n < 256 {
            expected.push(format!("m/{name} F32 [{n}]"));
        } else {
            expected.push(format!("m/{name} U8 [{n}]"));
            expected.push(format!("m.largest/{name} F32 [{}]", n.div_ceil(BLOCK)));
        }
    }
    expected.sort();
    let mut found = file.layout();
    found.sort();
    assert_eq!(found, expected);

    for (at, (name, n)) in LENGTHS.into_iter().enumerate() {
        let halves = file.halves(&format!("param/{name}")).into_iter().zip(file.halves(&format!("remainder/{name}")));
        same_bits(name, &halves.map(|(high, low)| join(high, low)).collect::<Vec<_>>(), &model.params(at));
        let v: Vec<f32> = file.halves(&format!("v/{name}")).into_iter().map(|b| bf16::from_bits(b).to_f32()).collect();
        same_bits(name, &v, &model.state(at, "v"));
        if n >= 256 {
            let (codes, largest) = (file.data(&format!("m/{name}")), file.floats(&format!("m.largest/{name}")));
            let mut m = vec![0.0; n];
            for ((m, codes), largest) in m.chunks_mut(BLOCK).zip(codes.chunks(BLOCK)).zip(largest) {
                blockwise::decode(Map::Signed, largest, codes, m);
            }
            assert!(m.iter().any(|x| *x < 0.0));
            same_bits(name, &m, &model.state(at, "m"));
            same_bits(name, &m, &model.snapshot().array(name, "m").unwrap());
        }
    }
    let halves = Model::started(&adamw(), "f16-nearest", 0);
    let stored = File::of(&halves.bytes()).halves("param/layer/v");
    assert_eq!(stored, numbers(79, 257).into_iter().map(|x| f16::from_f32(x).to_bits()).collect::<Vec<_>>());
}

/// Every code of a file comes back unchanged: no code is decoded on the way.
#[test]
fn codes_and_copies_are_put_back_as_they_are() {
    let mut model = Model::started(&adamw(), ALL_EIGHT, 0);
    model.steps(1..=2);
    let mut file = File::of(&model.bytes());
    for (key, _, _, bytes) in &mut file.entries {
        if key.starts_with("m/") || key.starts_with("v/") {
            bytes.iter_mut().enumerate().for_each(|(i, code)| *code = 20 + (i % 200) as u8);
        }
        // A new encoding would shrink a block whose largest number is below 0, and a block that is not finite would have one code.
        if key.starts_with("m/") {
            bytes.iter_mut().step_by(256).for_each(|code| *code = 0);
        }
        if key.starts_with("v.largest/") {
            bytes.chunks_mut(4).for_each(|largest| largest.copy_from_slice(&f32::NAN.to_le_bytes()));
        }
    }
    let mut other = Model::new(&adamw(), ALL_EIGHT, 0);
    load(&file).unwrap().restore(&mut other.optimizer).unwrap();
    assert_eq!(other.bytes(), file.bytes());
    load(&file).unwrap().restore_fitting(&mut model.optimizer, Fit::Converted).unwrap();
    assert_eq!(model.bytes(), file.bytes(), "nothing is converted where the forms are the same");

    // A parameter that the caller wrote differs from its rounded copy.
    let model = Model::started(&adamw(), "bf16-master", 0);
    let slice = model.optimizer.param(model.tensors[2]).unwrap();
    GPU.queue.write_buffer(slice.buffer(), slice.offset(), &[0x80, 0x3f, 0x80, 0x3f]);
    let mut other = Model::new(&adamw(), "bf16-master", 0);
    model.snapshot().restore(&mut other.optimizer).unwrap();
    assert_eq!(other.bytes(), model.bytes());
    assert_eq!(model.snapshot().params("layer/v").unwrap()[..2], [1.0, 1.0]);
}

fn refusal(checkpoint: &Checkpoint, model: &mut Model) -> String {
    let before = model.bytes();
    let Err(Error::Mismatch { differences, .. }) = checkpoint.restore(&mut model.optimizer) else {
        panic!("it was taken")
    };
    assert_eq!(model.bytes(), before, "nothing was changed");
    assert_eq!(checkpoint.differences(&model.optimizer), differences);
    differences.join("\n")
}

#[test]
fn another_form_is_refused_by_name_and_converted_on_request() {
    let mut plain = Model::started(&adamw(), "f32", 0);
    plain.steps(1..=2);
    let original = plain.bytes();
    let original_file = Checkpoint::from_bytes("f32", original.clone()).unwrap();
    for storage in ["bf16-split", "bf16-master", "f16-master"] {
        let mut kept = Model::new(&adamw(), storage, 0);
        let (format, keep) = storage.split_once('-').unwrap();
        let keep = if keep == "split" { "remainder" } else { keep };
        let problem = refusal(&original_file, &mut kept);
        let named = format!("the parameters of tensor `layer/v` are stored as f32 there, {format} + {keep} here");
        assert!(problem.contains(&named), "{problem}");
        assert_eq!(problem.lines().count(), LENGTHS.len(), "{problem}");
        original_file.restore_fitting(&mut kept.optimizer, Fit::Converted).unwrap();
        for at in 0..LENGTHS.len() {
            same_bits(storage, &kept.params(at), &plain.params(at));
            same_bits(storage, &kept.state(at, "v"), &plain.state(at, "v"));
        }
        // And back, through a file.
        let kept = Checkpoint::from_bytes(storage, kept.bytes()).unwrap();
        let mut back = Model::new(&adamw(), "f32", 0);
        let problem = refusal(&kept, &mut back);
        let named = format!("the parameters of tensor `w` are stored as {format} + {keep} there, f32 here");
        assert!(problem.contains(&named), "{problem}");
        kept.restore_fitting(&mut back.optimizer, Fit::Converted).unwrap();
        assert_eq!(back.bytes(), original, "{storage}: there and back is without loss");
    }
}

#[test]
fn eight_bits_go_into_f32_and_back_to_the_nearest() {
    let mut plain = Model::started(&adamw(), "f32", 0);
    plain.steps(1..=2);
    let mut eight = Model::new(&adamw(), ALL_EIGHT, 0);
    let problem = refusal(&plain.snapshot(), &mut eight);
    for named in [
        "state `m` of tensor `w` is stored as f32 there, signed 8bit here",
        "state `v` of tensor `x` is stored as f32 there, unsigned 8bit here",
    ] {
        assert!(problem.contains(named), "{problem}");
    }
    plain.snapshot().restore_fitting(&mut eight.optimizer, Fit::Converted).unwrap();
    let file = File::of(&eight.bytes());
    for (state, map) in [("m", Map::Signed), ("v", Map::Unsigned)] {
        let values = plain.state(3, state);
        let mut codes = vec![0; values.len()];
        let blocks = values.chunks(BLOCK).zip(codes.chunks_mut(BLOCK));
        let largest: Vec<f32> = blocks.map(|(values, codes)| blockwise::encode(map, values, codes)).collect();
        assert_eq!(file.data(&format!("{state}/x")), codes);
        same_bits(state, &file.floats(&format!("{state}.largest/x")), &largest);
    }

    let mut back = Model::new(&adamw(), "f32", 0);
    let problem = refusal(&eight.snapshot(), &mut back);
    assert!(problem.contains("state `m` of tensor `w` is stored as signed 8bit there, f32 here"), "{problem}");
    load(&file).unwrap().restore_fitting(&mut back.optimizer, Fit::Converted).unwrap();
    for at in 0..LENGTHS.len() {
        same_bits("param", &back.params(at), &plain.params(at));
        same_bits("m", &back.state(at, "m"), &eight.state(at, "m"));
        same_bits("v", &back.state(at, "v"), &eight.state(at, "v"));
    }
    assert_eq!(back.snapshot().step_count(), 2);

    // Differences other than the form are still refused.
    let mut amsgrad = Model::new(&AdamW { amsgrad: true, ..adamw() }, "f32", 0);
    let error = load(&file).unwrap().restore_fitting(&mut amsgrad.optimizer, Fit::Converted).unwrap_err().to_string();
    assert!(error.contains("lacks state `v_max`") && !error.contains("stored as"), "{error}");
    load(&file).unwrap().restore_fitting(&mut amsgrad.optimizer, Fit::Partial).unwrap();
    same_bits("m", &amsgrad.state(3, "m"), &eight.state(3, "m"));
}

#[test]
fn a_map_that_the_optimizer_does_not_have_is_a_difference() {
    let mut model = Model::started(&adamw(), ALL_EIGHT, 0);
    model.steps(1..=1);
    let mut file = File::of(&model.bytes());
    file.about = file.about.replace("\"m\":\"signed\"", "\"m\":\"unsigned\"");
    // A block that is not finite may have the codes of either map.
    for (_, _, _, bytes) in file.entries.iter_mut().filter(|(key, ..)| key.starts_with("m.largest/")) {
        bytes.chunks_mut(4).for_each(|largest| largest.copy_from_slice(&f32::NAN.to_le_bytes()));
    }
    let problem = refusal(&load(&file).unwrap(), &mut model);
    let named = "state `m` of tensor `x` is stored as unsigned 8bit there, signed 8bit here";
    assert!(problem.contains(named), "{problem}");
}

/// A file as releases before half precision wrote it.
fn version_1() -> File {
    let float = |key: &str, values: &[f32]| {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        (key.to_owned(), Dtype::F32, vec![values.len()], bytes)
    };
    let mut entries = Vec::new();
    for (k, (name, n)) in LENGTHS.into_iter().enumerate() {
        entries.push(float(&format!("param/{name}"), &numbers(k as u32, n)));
        entries.push(float(&format!("m/{name}"), &numbers(k as u32 + 9, n)));
        let squares: Vec<f32> = numbers(k as u32 + 20, n).into_iter().map(|x| x * x).collect();
        entries.push(float(&format!("v/{name}"), &squares));
    }
    let tensors = LENGTHS.map(|(name, _)| format!(r#"{{"group":"default","name":"{name}"}}"#)).join(",");
    let about = format!(
        r#"{{"version":1,"optimizer":"adamw","groups":[{{"name":"default","settings":{{"lr":0.01,"beta1":0.9,"beta2":0.999,
            "eps":1e-8,"weight_decay":0.1,"amsgrad":false}}}}],"tensors":[{tensors}],"applied":5,"skipped":1,"streak":2,
            "loss_scale_bits":{},"memory_bits":[],"probe_loss_bits":[],"notes":{{"epoch":"3"}}}}"#,
        64.0_f32.to_bits()
    );
    File { about, entries }
}

#[test]
fn files_of_version_1_still_load() {
    let checkpoint = load(&version_1()).unwrap();
    assert_eq!((checkpoint.step_count(), checkpoint.notes()["epoch"].as_str()), (5, "3"));
    let mut plain = Model::new(&adamw(), "f32", 0);
    checkpoint.restore(&mut plain.optimizer).unwrap();
    same_bits("param", &plain.params(3), &numbers(3, 4097));
    same_bits("m", &plain.state(2, "m"), &numbers(11, 257));
    let written = File::of(&plain.bytes()).about;
    assert!(written.contains("\"version\":1"), "a file that older readers can read has their version: {written}");
    let mut packed = Model::new(&adamw(), "bf16-split,m=8bit,v=bf16,min=0", 0);
    checkpoint.restore_fitting(&mut packed.optimizer, Fit::Converted).unwrap();
    same_bits("param", &packed.params(3), &numbers(3, 4097));
    let file = File::of(&packed.bytes());
    assert!(file.about.contains("\"version\":2"), "{}", file.about);
    assert_eq!(file.halves("param/w"), numbers(0, 7).into_iter().map(|x| split(x).0).collect::<Vec<_>>());
}

fn refused(name: &str, file: &File, parts: &[&str]) {
    match load(file) {
        Err(Error::File { problem, .. }) => {
            assert!(parts.iter().all(|part| problem.contains(part)), "{name}: {problem}");
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn packed_arrays_are_checked_before_use() {
    let mut model = Model::started(&adamw(), "bf16-split,m=8bit,v=bf16-sr,min=0", 0);
    model.steps(1..=1);
    let good = File::of(&model.bytes());
    load(&good).unwrap();
    let with = |key: &str, dtype, shape: &[usize]| {
        let mut file = good.clone();
        file.put(key, dtype, shape);
        file
    };
    refused("a state in f16", &with("m/x", Dtype::F16, &[4097]), &["`m/x` is F16", "F32 or BF16 or U8"]);
    refused("a state of signed bytes", &with("m/x", Dtype::I8, &[4097]), &["`m/x` is I8"]);
    refused("a state of u16", &with("v/w", Dtype::U16, &[7]), &["`v/w` is U16"]);
    refused("parameters in u8", &with("param/w", Dtype::U8, &[7]), &["`param/w` is U8", "F32 or F16 or BF16"]);
    refused("parameters in f64", &with("param/w", Dtype::F64, &[7]), &["`param/w` is F64"]);
    refused("a remainder in f32", &with("remainder/w", Dtype::F32, &[7]), &["`remainder/w` is F32, needs U16"]);
    refused("a master in bf16", &with("master/w", Dtype::BF16, &[7]), &["`master/w` is BF16, needs F32"]);
    refused("two of them", &with("master/w", Dtype::F32, &[7]), &["`master/w` and `remainder/w`"]);
    for dtype in [Dtype::F32, Dtype::F16] {
        let form = format!("{dtype:?}").to_lowercase();
        let file = with("param/layer/v", dtype, &[257]);
        refused("a remainder of nothing", &file, &["`remainder/layer/v` stands beside parameters in", &form]);
    }
    refused("too few blocks", &with("m.largest/x", Dtype::F32, &[16]), &["`m.largest/x` is F32 [16]", "F32 [17]"]);
    refused("too many blocks", &with("m.largest/empty", Dtype::F32, &[1]), &["`m.largest/empty`", "F32 [0]"]);
    refused("blocks in rows", &with("m.largest/x", Dtype::F32, &[17, 1]), &["[17, 1]", "F32 [17]"]);
    refused(
        "blocks in bf16",
        &with("m.largest/x", Dtype::BF16, &[17]),
        &["is BF16 [17]", "one number per block of 256"],
    );
    refused("codes in f32", &with("m/x", Dtype::F32, &[4097]), &["`m.largest/x` belongs to codes", "`m/x`", "U8"]);
    refused("blocks of nothing", &with("v.largest/w", Dtype::F32, &[1]), &["`v.largest/w` belongs to codes"]);
    refused("another shape", &with("m/x", Dtype::U8, &[1, 4097]), &["`m/x` has shape [1, 4097]", "[4097]"]);
    for key in ["m.largest/x", "param/x"] {
        let mut file = good.clone();
        file.entries.remove(file.at(key));
        refused("lacking", &file, &[&format!("lacks `{key}`")]);
    }
    let told = |from: &str, to: &str| {
        let about = good.about.replace(from, to);
        assert_ne!(about, good.about, "{from}");
        File { about, ..good.clone() }
    };
    refused("an unknown map", &told("\"signed\"", "\"slanted\""), &["map of `m/", "have `slanted`", "`unsigned`"]);
    refused("a map that is no text", &told("\"signed\"", "7"), &["`maps`: `m`: ", "integer `7`"]);
    refused("no maps", &told("\"maps\":", "\"mops\":"), &["map of `m/", "have none"]);
    refused("no key", &told("\"key\":", "\"kay\":"), &["`rounding`: lacks `key`"]);
    refused(
        "too many steps",
        &told("\"steps\":1", "\"steps\":4294967296"),
        &["`rounding`: `steps`: ", "`4294967296`, expected u32"],
    );
    let maps = |from: &str, to: &str| told(&format!("\"maps\":{{\"m\":\"{from}\""), &format!("\"maps\":{{{to}"));
    let more = maps("signed", "\"m\":\"signed\",\"v\":\"unsigned\"");
    refused("a map of an array in f32", &more, &["a map of `v/", "which is not there in U8"]);
    let more = maps("signed", "\"m\":\"signed\",\"n\":\"signed\"");
    refused("a map of nothing", &more, &["a map of `n/", "which is not there in U8"]);
    let more = maps("signed", "\"m\":\"unsigned\",\"m\":\"signed\"");
    refused("a map twice", &more, &["`tensors`: `maps`: ", "`m` appears twice"]);
    refused("a newer version", &told("\"version\":2", "\"version\":4"), &["version 4", "up to 3"]);
}

/// What the encoder of blocks cannot have written, and what it can.
#[test]
fn blocks_that_no_encoder_writes_are_refused() {
    let mut model = Model::started(&adamw(), "m=8bit,v=8bit,min=0", 0);
    model.steps(1..=1);
    let good = File::of(&model.bytes());
    let with = |key: &str, at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        let place = file.at(key);
        file.entries[place].3[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let largest = |number: f32| with("m.largest/x", 3 * 4, &number.to_le_bytes());
    for (number, shown) in [(-0.5_f32, "-0.5"), (-0.0, "-0"), (f32::NEG_INFINITY, "-inf"), (-f32::NAN, "NaN")] {
        let parts = ["block 3 of `m.largest/x`: ", &format!("magnitude is {shown}, needs a number without a sign")];
        refused("a sign", &largest(number.copysign(-1.0)), &parts);
    }
    refused("a block of 0", &largest(0.0), &["block 3 of `m.largest/x`", "is 0, so that every code needs to be 127"]);
    let zero = with("v.largest/x", 3 * 4, &[0; 4]);
    refused("a block of 0 without a sign", &zero, &["block 3 of `v.largest/x`", "every code needs to be 0"]);
    for (key, codes) in [("v/x", [254; 256]), ("m/x", [254; 256]), ("m/x", [1; 256]), ("v/x", [0; 256])] {
        refused("no largest", &with(key, 256, &codes), &["block 1 of `", "no code stands for it, as 255 does"]);
    }
    // Blocks that are not finite come from states that are not finite; the last block is short, and -1 is as large as 1.
    load(&largest(f32::MAX)).unwrap();
    // A device may flush subnormal numbers to 0.
    for number in [f32::NAN, f32::INFINITY, f32::from_bits(1)] {
        let mut file = with("m/x", 256, &[200; 256]);
        let place = file.at("m.largest/x");
        file.entries[place].3[4..8].copy_from_slice(&number.to_le_bytes());
        load(&file).unwrap();
    }
    load(&with("m/x", 256, &[0; 256])).unwrap();
    load(&with("m/x", 4096, &[255])).unwrap();
    load(&with("v/x", 4096, &[255])).unwrap();
    refused("the short block", &with("v/x", 4096, &[254]), &["block 16 of `v.largest/x`"]);
}

#[test]
fn packed_files_that_are_cut_or_flipped_are_refused_or_read() {
    let mut model = Model::started(&adamw(), "bf16-split,m=8bit,v=bf16-sr,min=0", 0);
    model.steps(1..=1);
    let bytes = model.bytes();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for length in (0..bytes.len()).step_by(97).chain([header, bytes.len() - 1]) {
        assert!(matches!(Checkpoint::from_bytes("cut", &bytes[..length]), Err(Error::File { .. })), "cut at {length}");
    }
    for at in 0..header {
        for bit in [at % 7, 4] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            match Checkpoint::from_bytes("flipped", bytes) {
                // A file that was read fits, or the error names the differences.
                Ok(checkpoint) if at % 16 == 0 => {
                    match checkpoint.restore_fitting(&mut model.optimizer, Fit::Converted) {
                        Ok(()) | Err(Error::Mismatch { .. }) => {}
                        Err(other) => panic!("byte {at}: {other}"),
                    }
                }
                Ok(_) | Err(Error::File { .. }) => {}
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
    }
}

#[test]
fn torch_files_hold_f32_and_restore_into_the_storage() {
    let storage = "bf16-split,m=8bit,v=bf16-sr,min=0";
    let mut model = Model::started(&adamw(), storage, 0);
    model.steps(1..=2);
    let torch = model.snapshot().to_torch().unwrap();
    let file = SafeTensors::deserialize(&torch).unwrap();
    let floats = |key: &str| -> Vec<f32> {
        let view = file.tensor(key).unwrap();
        assert_eq!(view.dtype(), Dtype::F32, "{key}");
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    assert_eq!(file.names().len(), 4 * LENGTHS.len(), "param, exp_avg, exp_avg_sq, step: {:?}", file.names());
    for (at, (name, _)) in LENGTHS.into_iter().enumerate() {
        same_bits("param", &floats(&format!("param/{name}")), &model.params(at));
        same_bits("m", &floats(&format!("exp_avg/{name}")), &model.state(at, "m"));
        same_bits("v", &floats(&format!("exp_avg_sq/{name}")), &model.state(at, "v"));
    }
    let mut back = Model::new(&adamw(), storage, 0);
    restore_torch("torch", torch.clone(), &mut back.optimizer).unwrap();
    for at in 0..LENGTHS.len() {
        same_bits("param", &back.params(at), &model.params(at));
        // Encoded anew: the signed map has no -1.
        let mut m = model.state(at, "m");
        for block in m.chunks_mut(BLOCK) {
            let mut codes = [0; BLOCK];
            let largest = blockwise::encode(Map::Signed, block, &mut codes);
            blockwise::decode(Map::Signed, largest, &codes, block);
        }
        same_bits("m", &back.state(at, "m"), &m);
        same_bits("v", &back.state(at, "v"), &model.state(at, "v"));
    }
    assert_eq!(back.snapshot().step_count(), 2);
    let mut master = Model::new(&adamw(), "f16-master", 0);
    restore_torch("torch", torch, &mut master.optimizer).unwrap();
    same_bits("param", &master.params(3), &model.params(3));
    same_bits("v", &master.state(3, "v"), &model.state(3, "v"));
    let exported = master.snapshot().to_torch().unwrap();
    assert!(SafeTensors::deserialize(&exported).unwrap().names().iter().all(|name| !name.starts_with("master")));
}

/// The same model on the host.
struct Host {
    optimizer: cpu::Optimizer<f32>,
    params: Vec<Vec<f32>>,
}

impl Host {
    fn new(rule: &dyn Rule, storage: &str, seed: u64) -> Self {
        let optimizer = described(rule, storage, seed).0.build_cpu().unwrap();
        Self { optimizer, params: LENGTHS.map(|(_, n)| vec![0.0; n]).to_vec() }
    }

    fn started(rule: &dyn Rule, storage: &str, seed: u64) -> Self {
        let mut host = Self::new(rule, storage, seed);
        host.params = (0..).zip(LENGTHS).map(|(k, (_, n))| numbers(k + 77, n)).collect();
        let mut params: Vec<_> = host.params.iter_mut().map(Vec::as_mut_slice).collect();
        host.optimizer.store_params(&mut params).unwrap();
        host
    }

    /// The same steps as [`Model::steps`].
    fn steps(&mut self, numbers_of: std::ops::RangeInclusive<u32>) {
        for number in numbers_of {
            let gradient = |(k, (_, n))| numbers(number * 10 + k, n).into_iter().map(|g| g * 64.0).collect();
            let mut grads: Vec<Vec<f32>> = (0..).zip(LENGTHS).map(gradient).collect();
            if number == 3 {
                grads[2][200] = f32::NAN;
            }
            let mut params: Vec<_> = self.params.iter_mut().map(Vec::as_mut_slice).collect();
            self.optimizer.step(&mut params, &grads.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        }
    }

    fn checkpoint(&self) -> Checkpoint {
        let shapes = LENGTHS.map(|(_, n)| [n]);
        let params: Vec<_> = shapes.iter().zip(&self.params).map(|(s, p)| (s.as_slice(), p.as_slice())).collect();
        Checkpoint::of_host(&self.optimizer, &params).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        self.checkpoint().to_bytes().unwrap()
    }

    fn restore(&mut self, checkpoint: &Checkpoint, fit: Fit) -> Result<()> {
        let mut params: Vec<_> = self.params.iter_mut().map(Vec::as_mut_slice).collect();
        checkpoint.restore_host_fitting(&mut self.optimizer, &mut params, fit)
    }
}

#[test]
fn on_the_host_resuming_gives_the_same_bits() {
    for storage in STORAGES {
        for rule in rules() {
            let name = format!("{}, {storage}", rule.name());
            let mut whole = Host::started(rule.as_ref(), storage, 7);
            whole.steps(1..=4);
            let bytes = whole.bytes();
            let mut resumed = Host::new(rule.as_ref(), storage, 8);
            resumed.restore(&Checkpoint::from_bytes("memory", bytes.clone()).unwrap(), Fit::Whole).unwrap();
            assert_eq!(resumed.bytes(), bytes, "{name}: everything is back");
            whole.steps(5..=6);
            resumed.steps(5..=6);
            assert_ne!(whole.bytes(), bytes, "{name}: training went on");
            assert_eq!(resumed.bytes(), whole.bytes(), "{name}");
        }
    }
}

#[test]
fn files_go_from_the_gpu_to_the_host_and_back() {
    for storage in STORAGES {
        let mut model = Model::started(&adamw(), storage, 7);
        model.steps(1..=4);
        let bytes = model.bytes();
        let checkpoint = Checkpoint::from_bytes("gpu", bytes.clone()).unwrap();
        let mut host = Host::new(&adamw(), storage, 0);
        host.restore(&checkpoint, Fit::Whole).unwrap();
        let (ours, theirs) = (File::of(&host.bytes()), File::of(&bytes));
        assert_eq!(ours.layout(), theirs.layout(), "{storage}");
        let back = host.checkpoint();
        for (name, _) in LENGTHS {
            same_bits(storage, &back.params(name).unwrap(), &checkpoint.params(name).unwrap());
            for array in ["param", "m", "v"] {
                same_bits(storage, &back.array(name, array).unwrap(), &checkpoint.array(name, array).unwrap());
            }
        }
        let mut other = Model::new(&adamw(), storage, 0);
        back.restore(&mut other.optimizer).unwrap();
        other.steps(5..=5);
        model.steps(5..=5);
        for at in 0..LENGTHS.len() {
            same_bits(storage, &other.params(at), &model.params(at));
            same_bits(storage, &other.state(at, "v"), &model.state(at, "v"));
        }
    }
}

#[test]
fn on_the_host_other_forms_are_refused_by_name_and_converted_on_request() {
    let mut plain = Host::started(&adamw(), "f32", 0);
    plain.steps(1..=2);
    let saved = plain.checkpoint();
    let mut packed = Host::new(&adamw(), "bf16-split,m=8bit,min=0", 0);
    let before = packed.bytes();
    let Err(Error::Mismatch { differences, .. }) = packed.restore(&saved, Fit::Whole) else { panic!("it was taken") };
    assert_eq!(packed.bytes(), before, "nothing was changed");
    let differences = differences.join("\n");
    for named in [
        "the parameters of tensor `w` are stored as f32 there, bf16 + remainder here",
        "state `m` of tensor `x` is stored as f32 there, signed 8bit here",
    ] {
        assert!(differences.contains(named), "{differences}");
    }
    packed.restore(&saved, Fit::Converted).unwrap();
    let file = packed.checkpoint();
    let mut m = plain.optimizer.state(plain.optimizer.tensor("x").unwrap(), "m").unwrap().to_vec();
    for block in m.chunks_mut(BLOCK) {
        let mut codes = [0; BLOCK];
        let largest = blockwise::encode(Map::Signed, block, &mut codes);
        blockwise::decode(Map::Signed, largest, &codes, block);
    }
    same_bits("m", &file.array("x", "m").unwrap(), &m);
    same_bits("param", &file.params("x").unwrap(), &plain.params[3]);
    let mut back = Host::new(&adamw(), "f32", 0);
    back.restore(&file, Fit::Converted).unwrap();
    assert_eq!(back.params, plain.params, "there and back is without loss");

    // The storage cannot hold parameters that were not rounded.
    let mut unrounded = Host::new(&adamw(), "bf16-sr", 0);
    unrounded.params[0][3] = 0.1;
    let shapes = LENGTHS.map(|(_, n)| [n]);
    let params: Vec<_> = shapes.iter().zip(&unrounded.params).map(|(s, p)| (s.as_slice(), p.as_slice())).collect();
    let error = Checkpoint::of_host(&unrounded.optimizer, &params).unwrap_err().to_string();
    assert!(error.contains("`w`") && error.contains("bf16") && error.contains("store_params"), "{error}");
}
