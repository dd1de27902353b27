//! Checkpoints: resuming is bit-exact for every rule, files are checked before they are used, and a kill leaves a complete file.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod array;
    pub(crate) mod device;
    pub(crate) mod gpu;
    pub(crate) mod numbers;
    pub(crate) mod snapshot;
}

use std::path::Path;
use std::process::{Command, Stdio};

use wgpu_optim::checkpoint::{Checkpoint, Fit};
use wgpu_optim::optim::{ALL, Rule};
use wgpu_optim::{
    Accumulate, AdamW, Clip, Ema, Error, Group, LossScale, Optimizer, SAdam, Sgd, Tensor, WarpAdam, wgpu,
};

use support::array::of_file;
use support::gpu::GPU;
use support::numbers::numbers;
use support::snapshot::snapshot;

const SHAPES: [(&str, &[usize]); 4] = [("a", &[33, 47]), ("b", &[5]), ("empty", &[0]), ("layer/with slash", &[1024])];

fn build(rule: &dyn Rule) -> (Optimizer, Vec<Tensor>) {
    let mut builder = Optimizer::builder(rule.boxed());
    builder.undamped_steps(true);
    let mut other = rule.boxed();
    other.set("lr", &wgpu_optim::optim::Value::Number(3e-3)).unwrap();
    let second = builder.group("second", other);
    let groups = [Group::DEFAULT, second, second, Group::DEFAULT];
    let tensor = |((name, shape), group): (&(&str, &[usize]), Group)| {
        // Some rules step matrices only.
        let vector = || builder.sample_shape(group, elements(shape));
        let shape = if shape.len() > 1 { shape.to_vec() } else { vector() };
        builder.tensor(group, *name, &shape)
    };
    let tensors = SHAPES.iter().zip(groups).map(tensor).collect();
    builder.ema(Ema::default()).accumulate(Accumulate::Mean(2)).clip(Clip::GlobalNorm(1.0));
    builder.loss_scale(LossScale { initial: 1024.0, interval: 3, ..LossScale::default() });
    (builder.build(&GPU.device, &GPU.queue).unwrap(), tensors)
}

fn elements(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// One step with gradients that depend only on the step's number. The fourth step has a gradient that is not finite.
fn step(optimizer: &mut Optimizer, tensors: &[Tensor], number: u32) {
    for (k, (tensor, (_, shape))) in tensors.iter().zip(SHAPES).enumerate() {
        let mut gradient: Vec<f32> =
            numbers(number * 10 + k as u32, elements(shape)).iter().map(|g| g * 1024.0).collect();
        if number == 4 && k == 1 {
            gradient[2] = f32::INFINITY;
        }
        optimizer.write_grad(*tensor, &gradient).unwrap();
    }
    GPU.run(|encoder| {
        optimizer.accumulate(encoder)?;
        optimizer.step(encoder)
    })
    .unwrap();
}

fn start(rule: &dyn Rule) -> (Optimizer, Vec<Tensor>) {
    let (mut optimizer, tensors) = build(rule);
    for (k, (tensor, (_, shape))) in tensors.iter().zip(SHAPES).enumerate() {
        optimizer.write_param(*tensor, &numbers(k as u32 + 77, elements(shape))).unwrap();
    }
    if let Some(losses) = rule.procedure().map(|procedure| procedure.losses()).filter(|losses| *losses > 0) {
        optimizer.write_losses(&numbers(5, losses)).unwrap();
    }
    (optimizer, tensors)
}

/// Compares the contents of two checkpoints, array by array, and then their files, byte by byte.
fn same(name: &str, a: &Checkpoint, b: &Checkpoint) {
    let (a, b) = (a.to_bytes().unwrap(), b.to_bytes().unwrap());
    let (file_a, file_b) =
        (safetensors::SafeTensors::deserialize(&a).unwrap(), safetensors::SafeTensors::deserialize(&b).unwrap());
    for key in file_a.names() {
        let (x, y) = (of_file(&a, key), of_file(&b, key));
        let differing = x.iter().zip(&y).position(|(x, y)| x.to_bits() != y.to_bits());
        assert!(differing.is_none(), "{name}: {key} differs at {differing:?}");
    }
    assert_eq!(file_a.names().len(), file_b.names().len());
    let header = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..600]).into_owned();
    assert!(a == b, "{name}: counters or settings differ:\n{}\n{}", header(&a), header(&b));
}

#[test]
fn resuming_gives_the_same_bits_for_every_rule() {
    let learned = WarpAdam { warp_block: 4, warp_lr: 0.1, warp_decay: 0.1, ..WarpAdam::default() };
    let learned: Box<dyn Rule> = Box::new(learned);
    for entry in ALL {
        let learned = (entry.name == "warpadam").then(|| ("learned", learned.clone()));
        for (variant, rule) in entry.variants().into_iter().chain(learned) {
            let (mut whole, tensors) = start(rule.as_ref());
            (1..=7).for_each(|number| step(&mut whole, &tensors, number));

            let (mut first, tensors) = start(rule.as_ref());
            (1..=5).for_each(|number| step(&mut first, &tensors, number));
            let bytes = snapshot(&first).to_bytes().unwrap();
            drop(first);
            let (mut second, tensors) = build(rule.as_ref());
            Checkpoint::from_bytes("memory", bytes).unwrap().restore(&mut second).unwrap();
            (6..=7).for_each(|number| step(&mut second, &tensors, number));

            let name = format!("{}/{variant}", entry.name);
            let (whole, second) = (snapshot(&whole), snapshot(&second));
            same(&name, &whole, &second);
            let flows = rule.sums().may_hold && whole.step_count() < 6;
            assert!(whole.step_count() == 6 || flows, "{name}: the step that was not finite is not counted");
            let moved = whole.array("a", "param").unwrap();
            assert_ne!(moved, numbers(77, moved.len()), "{name}: training moved the parameters");
        }
    }
}

#[test]
fn a_snapshot_holds_the_state_at_its_place_in_the_encoder() {
    let (mut optimizer, tensors) = start(&AdamW::default());
    step(&mut optimizer, &tensors, 1);
    let before = snapshot(&optimizer).to_bytes().unwrap();
    let mut encoder = GPU.device.create_command_encoder(&Default::default());
    let taken = optimizer.snapshot(&mut encoder).unwrap();
    optimizer.step(&mut encoder).unwrap();
    GPU.queue.submit([encoder.finish()]);
    assert_eq!(pollster::block_on(taken.checkpoint()).unwrap().to_bytes().unwrap(), before);
    assert_ne!(snapshot(&optimizer).to_bytes().unwrap(), before);
}

#[test]
fn a_mismatch_is_refused_with_every_difference() {
    let (optimizer, _) = start(&AdamW::default());
    let saved = snapshot(&optimizer);
    let mut builder = Optimizer::builder(AdamW { amsgrad: true, ..AdamW::default() });
    let tensor = builder.tensor(Group::DEFAULT, "a", &[7, 3]);
    builder.tensor(Group::DEFAULT, "new", &[2]);
    let mut other = builder.build(&GPU.device, &GPU.queue).unwrap();
    other.write_param(tensor, &[5.0; 21]).unwrap();
    let Err(Error::Mismatch { differences, .. }) = saved.restore(&mut other) else { panic!("it was taken") };
    let all = differences.join("\n");
    for part in ["[33, 47]", "[7, 3]", "lacks tensor `new`", "`b` is not here", "which states are kept"] {
        assert!(all.contains(part), "{part} is not in\n{all}");
    }
    assert_eq!(pollster::block_on(other.read_param(tensor)).unwrap(), [5.0; 21]);

    // A terminal obeys no text of a file.
    let name = |name: &str| format!("\\\"optimizer\\\":\\\"{name}\\\"");
    let hostile = edited(&saved.to_bytes().unwrap(), &name("adamw"), &name("ada\\\\u001bw"));
    let differences = Checkpoint::from_bytes("hostile", hostile).unwrap().differences(&other).join("\n");
    assert!(differences.contains(r"it belongs to ada\u{1b}w, the optimizer is adamw"), "{differences}");
    assert!(!differences.contains('\u{1b}'));

    let mut builder = Optimizer::builder(Sgd::default());
    let tensor = builder.tensor(Group::DEFAULT, "b", &[5]);
    let mut sgd = builder.build(&GPU.device, &GPU.queue).unwrap();
    assert!(saved.restore(&mut sgd).unwrap_err().to_string().contains("it belongs to adamw, the optimizer is sgd"));
    saved.restore_fitting(&mut sgd, Fit::Partial).unwrap();
    assert_eq!(pollster::block_on(sgd.read_param(tensor)).unwrap(), saved.array("b", "param").unwrap());
}

#[test]
fn files_are_checked_before_they_are_used() {
    let (optimizer, _) = start(&AdamW::default());
    let bytes = snapshot(&optimizer).to_bytes().unwrap();
    for length in [0, 7, 8, 100, bytes.len() - 1] {
        assert!(matches!(Checkpoint::from_bytes("cut", &bytes[..length]), Err(Error::File { .. })), "cut at {length}");
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let doctored = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        let mut bytes = bytes.clone();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        Checkpoint::from_bytes("doctored", bytes).unwrap_err().to_string()
    };
    assert!(doctored("\\\"version\\\":1", "\\\"version\\\":9").contains("version 9"));
    assert!(doctored("\\\"version\\\":1", "\\\"version\\\":0").contains("version 0"));
    assert!(doctored("wgpu-optim checkpoint", "wgpu-optim something!").contains("no checkpoint"));
    assert!(doctored("\\\"applied\\\":0", "\\\"applied\\\":x").contains("checkpoint"));
    assert!(doctored("param/a\"", "param/z\"").contains('z'));
    // No value of any byte of the header may cause a panic.
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for at in 0..header {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 7);
        match Checkpoint::from_bytes("flipped", bytes) {
            Ok(_) | Err(Error::File { .. }) => {}
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
}

#[test]
fn files_that_contradict_themselves_or_the_optimizer_are_refused() {
    let mut builder = Optimizer::builder(AdamW::default());
    let [x, y] = ["x", "y"].map(|name| builder.group(name, AdamW { lr: 0.1, ..AdamW::default() }));
    builder.tensor(x, "a", &[3]);
    builder.tensor(y, "b", &[3]);
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    let bytes = snapshot(&optimizer).to_bytes().unwrap();
    let name = |group: &str| format!("\\\"name\\\":\\\"{group}\\\"");
    let twice = Checkpoint::from_bytes("twice", edited(&bytes, &name("y"), &name("x"))).unwrap_err().to_string();
    assert!(twice.contains("has group `x` twice"), "{twice}");

    let mut host = builder.build_cpu::<f32>().unwrap();
    let mut refused = |bytes: Vec<u8>, parts: &[&str]| {
        let checkpoint = Checkpoint::from_bytes("edited", bytes).unwrap();
        let (mut a, mut b) = ([0.0; 3], [0.0; 3]);
        let on_host = checkpoint.restore_host(&mut host, &mut [&mut a, &mut b]).unwrap_err().to_string();
        for error in [checkpoint.restore(&mut optimizer).unwrap_err().to_string(), on_host] {
            assert!(parts.iter().all(|part| error.contains(part)), "{parts:?} are not in {error}");
        }
    };
    refused(edited(&bytes, &name("y"), &name("z")), &["it has no group `y`", "its group `z` is not here"]);
    refused(edited(&bytes, "\\\"beta2\\\"", "\\\"beta3\\\""), &["lacks the setting `beta2`"]);
    let group = |group: &str| format!("\\\"group\\\":\\\"{group}\\\"");
    let moved = edited(&bytes, &group("y"), &group("x"));
    refused(moved, &["tensor `b` is in group `x` there, `y` here"]);
}

#[test]
fn members_of_the_metadata_that_appear_twice_are_refused() {
    let (optimizer, _) = start(&AdamW::default());
    let mut snapshot = snapshot(&optimizer);
    snapshot.notes_mut().insert("epoch".to_owned(), "3".to_owned());
    let bytes = snapshot.to_bytes().unwrap();
    let refused = |from: &str, to: &str, parts: &[&str]| {
        let quoted = |text: &str| text.replace('"', "\\\"");
        let error = Checkpoint::from_bytes("edited", edited(&bytes, &quoted(from), &quoted(to))).unwrap_err();
        let Error::File { problem, .. } = &error else { panic!("{error}") };
        assert!(parts.iter().all(|part| problem.contains(part)), "{parts:?} are not in {problem}");
    };
    let twice = |member: &str, of: &str, parts: &[&str]| refused(member, &format!("{member},{of}"), parts);
    twice("\"applied\":0", "\"applied\":7", &["`applied` appears twice"]);
    twice("\"epoch\":\"3\"", "\"epoch\":\"4\"", &["`notes`: ", "`epoch` appears twice"]);
    twice("\"beta1\":0.9", "\"beta1\":0.5", &["`groups`: ", "`settings`: ", "`beta1` appears twice"]);
    twice("\"name\":\"b\"", "\"name\":\"a\"", &["`tensors`: ", "`name` appears twice"]);
    twice("\"optimizer\":\"adamw\"", "\"optimizer\":\"sgd\"", &["`optimizer` appears twice"]);
    refused("\"name\":\"b\"", "\"name\":\"a\"", &["its metadata name tensor `a` twice"]);
    refused("\"skipped\":0,", "", &["lacks `skipped`"]);
    let most = "`accumulated` is 16777217, needs at most 16777216";
    refused("\"applied\":0", "\"applied\":0,\"accumulated\":16777217", &[most]);
    refused("\"applied\":0", "\"applied\":-1", &["`applied`: ", "`-1`, expected u32"]);
    refused("\"notes\":{", "\"notes\":{\"a\":1,", &["`notes`: `a`: ", "integer `1`"]);
}

/// After many skipped steps, a checkpoint can hold the loss scale, and steps continue with this scale.
#[test]
fn a_checkpoint_after_two_hundred_skipped_steps_loads_and_goes_on() {
    let mut builder = Optimizer::builder(Sgd { lr: 0.5, ..Sgd::default() });
    let tensor = builder.tensor(Group::DEFAULT, "w", &[2]);
    builder.loss_scale(LossScale::default());
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    optimizer.write_param(tensor, &[1.0, 2.0]).unwrap();
    optimizer.write_grad(tensor, &[f32::NAN, 0.0]).unwrap();
    GPU.run(|encoder| (0..200).try_for_each(|_| optimizer.step(encoder))).unwrap();
    let bytes = snapshot(&optimizer).to_bytes().unwrap();
    let checkpoint = Checkpoint::from_bytes("memory", bytes.clone()).unwrap();

    let mut resumed = builder.build(&GPU.device, &GPU.queue).unwrap();
    checkpoint.restore(&mut resumed).unwrap();
    let scale = pollster::block_on(resumed.read_loss_scale()).unwrap();
    resumed.write_grad(tensor, &[scale, -scale]).unwrap();
    GPU.run(|encoder| resumed.step(encoder)).unwrap();
    assert_eq!(pollster::block_on(resumed.read_param(tensor)).unwrap(), [0.5, 2.5]);

    let mut host = builder.build_cpu::<f32>().unwrap();
    let mut params = [0.0; 2];
    checkpoint.restore_host(&mut host, &mut [&mut params]).unwrap();
    assert_eq!(host.loss_scale(), f64::from(scale));
    host.step(&mut [&mut params], &[&[scale, -scale]]).unwrap();
    assert_eq!(params, [0.5, 2.5]);

    // The floor's bits have nine digits.
    let bits = |scale: f32| format!("loss_scale_bits\\\":{:<9}", scale.to_bits());
    let at = bytes.windows(bits(scale).len()).position(|w| w == bits(scale).as_bytes()).unwrap();
    for bad in [0.0, 1e-40, 1e-30] {
        let mut bytes = bytes.clone();
        let bad = bits(bad);
        bytes[at..at + bad.len()].copy_from_slice(bad.as_bytes());
        let error = Checkpoint::from_bytes("doctored", bytes).unwrap_err().to_string();
        assert!(error.contains("loss scale is"), "{error}");
    }
}

/// A checkpoint holds the count of micro-batches beside their gradients, between the GPU and the host too.
#[test]
fn a_checkpoint_in_the_middle_of_a_window_goes_on_with_its_count() {
    let mut builder = Optimizer::builder(Sgd { lr: 1.0, ..Sgd::default() });
    let tensor = builder.tensor(Group::DEFAULT, "w", &[2]);
    builder.accumulate(Accumulate::Mean(4));
    let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
    optimizer.write_grad(tensor, &[2.0, 4.0]).unwrap();
    GPU.run(|encoder| (0..2).try_for_each(|_| optimizer.accumulate(encoder))).unwrap();
    let bytes = snapshot(&optimizer).to_bytes().unwrap();
    let checkpoint = Checkpoint::from_bytes("memory", bytes).unwrap();

    let mut host = builder.build_cpu::<f32>().unwrap();
    let mut params = [0.0; 2];
    checkpoint.restore_host(&mut host, &mut [&mut params]).unwrap();
    let of_host = Checkpoint::of_host(&host, &[(&[2], &params)]).unwrap();
    for checkpoint in [&checkpoint, &of_host] {
        let mut resumed = builder.build(&GPU.device, &GPU.queue).unwrap();
        checkpoint.restore(&mut resumed).unwrap();
        resumed.write_grad(tensor, &[2.0, 1.0]).unwrap();
        GPU.run(|encoder| resumed.step(encoder)).unwrap();
        assert_eq!(pollster::block_on(resumed.read_param(tensor)).unwrap(), [-2.0, -3.0]);
        GPU.run(|encoder| resumed.step(encoder)).unwrap();
        assert_eq!(pollster::block_on(resumed.read_param(tensor)).unwrap(), [-4.0, -4.0]);
    }
    host.step(&mut [&mut params], &[&[2.0, 1.0]]).unwrap();
    assert_eq!(params, [-2.0, -3.0]);
}

const CHILD: &str = "WGPU_OPTIM_TEST_SAVE_TO";

/// This program again, running one test that is ignored otherwise.
fn child(test: &str, variable: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env(variable, path);
    command
}

#[test]
#[ignore = "a_kill_leaves_a_complete_file starts and kills it"]
fn child_that_saves_until_it_is_killed() {
    let path = std::env::var(CHILD).expect("started by a_kill_leaves_a_complete_file");
    let (mut optimizer, tensors) = start(&AdamW::default());
    for number in 1.. {
        step(&mut optimizer, &tensors, number);
        snapshot(&optimizer).save(&path).unwrap();
    }
}

#[test]
fn a_kill_leaves_a_complete_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut applied = 0;
    for round in 0..8_u64 {
        let mut child = child("child_that_saves_until_it_is_killed", CHILD, &path);
        let mut child = child.stdout(Stdio::null()).spawn().unwrap();
        // The first file must exist, so that every kill can interrupt its replacement.
        while !path.exists() {
            assert!(child.try_wait().unwrap().is_none(), "the child ended before it saved");
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(40 + 13 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let checkpoint = Checkpoint::load(&path).unwrap();
        applied = checkpoint.step_count().max(applied);
        let (mut optimizer, _) = build(&AdamW::default());
        checkpoint.restore(&mut optimizer).unwrap();
    }
    assert!(applied > 0, "some checkpoint was of a run that had stepped");
    // The next save removes the files that the kills left, and no other file.
    let (stale, foreign) = (folder.path().join(".wgpu-optim-00ff.tmp"), folder.path().join("notes.tmp"));
    std::fs::write(&stale, "a part").unwrap();
    std::fs::write(&foreign, "a note").unwrap();
    let held = folder.path().join(".wgpu-optim-11ff.tmp");
    let lock = std::fs::File::create(&held).unwrap();
    lock.lock().unwrap();
    snapshot(&start(&AdamW::default()).0).save(&path).unwrap();
    let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    left.sort();
    assert_eq!(left, [held, path, foreign]);
}

const RUN: &str = "WGPU_OPTIM_TEST_RUN_TO";
const RUN_STEPS: u32 = 1000;
const SAVE_EVERY: u32 = 7;

/// Resumes from its own checkpoint, and prints each step that it takes.
#[test]
#[ignore = "a_run_killed_at_random_points_has_the_bits_of_an_uninterrupted_run starts it, kills it and starts it again"]
fn child_that_trains_until_it_is_killed() {
    let path =
        std::env::var(RUN).expect("started by a_run_killed_at_random_points_has_the_bits_of_an_uninterrupted_run");
    let (mut optimizer, tensors) = start(&AdamW::default());
    let mut done = 0;
    if Path::new(&path).exists() {
        let checkpoint = Checkpoint::load(&path).unwrap();
        checkpoint.restore(&mut optimizer).unwrap();
        done = checkpoint.notes()["done"].parse().unwrap();
    }
    for number in done + 1..=RUN_STEPS {
        step(&mut optimizer, &tensors, number);
        if number % SAVE_EVERY == 0 || number == RUN_STEPS {
            let mut checkpoint = snapshot(&optimizer);
            checkpoint.notes_mut().insert("done".to_owned(), number.to_string());
            checkpoint.save(&path).unwrap();
        }
        println!("step {number}");
    }
}

#[test]
fn a_run_killed_at_random_points_has_the_bits_of_an_uninterrupted_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos() % 10_000;
    let mut kills = Vec::new();
    loop {
        let mut child = child("child_that_trains_until_it_is_killed", RUN, &path);
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        // Most children live for some hundred steps; a few are killed before they save anything.
        let life = numbers(seed.wrapping_add(kills.len() as u32), 1)[0].abs() * 350.0;
        let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        // The pipe is read until the child is gone: a child with a closed pipe would end by itself.
        let mut steps = lines.map_while(Result::ok).filter(|line| line.starts_with("step "));
        let last = steps.by_ref().take(life as usize + 1).last();
        // SIGKILL. A child that has ended already is not affected.
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        if ended.success() {
            break;
        }
        kills.push(last.unwrap_or_else(|| panic!("seed {seed}: no step after {kills:?}: {ended}")));
        assert!(kills.len() < 200, "seed {seed}: no progress: {kills:?}");
    }
    println!("seed {seed}, killed after {kills:?}");
    assert!(kills.len() >= 2, "seed {seed}: {kills:?}");

    let (mut whole, tensors) = start(&AdamW::default());
    (1..=RUN_STEPS).for_each(|number| step(&mut whole, &tensors, number));
    let mut whole = snapshot(&whole);
    whole.notes_mut().insert("done".to_owned(), RUN_STEPS.to_string());
    same(&format!("seed {seed}, {kills:?}"), &whole, &Checkpoint::load(&path).unwrap());
}

fn probing(sigma: f64) -> wgpu_optim::Builder {
    let rule = SAdam { sigma, ..SAdam::default() };
    let mut builder = Optimizer::builder(rule);
    let second = builder.group("second", rule);
    builder.tensor(Group::DEFAULT, "a", &[6]);
    builder.tensor(second, "b", &[6]);
    builder
}

/// The step count in a file's bytes, and the sigmas of both groups.
fn sigmas(bytes: &[u8]) -> (usize, String) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let sigmas: Vec<&str> = text.split("\\\"sigma\\\":").skip(1).map(|rest| &rest[..4]).collect();
    let count = text.split("\\\"applied\\\":").nth(1).unwrap().split(',').next().unwrap();
    (count.parse().unwrap(), sigmas.join(" "))
}

/// Replaces a text in the header of a file with another text.
fn edited(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap_or_else(|| panic!("{from}"));
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) + to.len() as u64 - from.len() as u64;
    [&header.to_le_bytes(), &bytes[8..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
}

#[test]
fn a_setting_that_all_groups_share_is_restored_in_all_of_them_or_in_none() {
    let mut saved = probing(0.01).build(&GPU.device, &GPU.queue).unwrap();
    saved.write_step_count(7).unwrap();
    let saved = snapshot(&saved).to_bytes().unwrap();
    assert_eq!(sigmas(&saved), (7, "0.01 0.01".to_owned()));
    let whole = Checkpoint::from_bytes("whole", saved.clone()).unwrap();
    let torn = Checkpoint::from_bytes("torn", edited(&saved, "\\\"sigma\\\":0.01", "\\\"sigma\\\":0.03")).unwrap();
    let refused = "sigma is 0.03 in group `default` and 0.01 in group `second`";

    let mut gpu = probing(0.02).build(&GPU.device, &GPU.queue).unwrap();
    let before = snapshot(&gpu).to_bytes().unwrap();
    let error = torn.restore(&mut gpu).unwrap_err().to_string();
    assert!(error.contains(refused), "{error}");
    assert_eq!(torn.differences(&gpu).len(), 1);
    assert!(snapshot(&gpu).to_bytes().unwrap() == before);
    assert_eq!(whole.differences(&gpu), [""; 0]);
    whole.restore(&mut gpu).unwrap();
    assert!(snapshot(&gpu).to_bytes().unwrap() == saved);

    let mut host = probing(0.02).build_cpu::<f32>().unwrap();
    let mut params = [vec![1.0; 6], vec![2.0; 6]];
    let taken = |host: &wgpu_optim::cpu::Optimizer<f32>, params: &[Vec<f32>; 2]| {
        let params = params.each_ref().map(|p| (&[6][..], p.as_slice()));
        Checkpoint::of_host(host, &params).unwrap().to_bytes().unwrap()
    };
    let before = taken(&host, &params);
    let [a, b] = &mut params;
    let error = torn.restore_host(&mut host, &mut [&mut a[..], &mut b[..]]).unwrap_err().to_string();
    assert!(error.contains(refused), "{error}");
    assert!(taken(&host, &params) == before);
    let [a, b] = &mut params;
    whole.restore_host(&mut host, &mut [&mut a[..], &mut b[..]]).unwrap();
    assert!(taken(&host, &params) == saved);
}

#[test]
fn a_restore_that_cannot_write_a_buffer_writes_nothing() {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let buffer = |usage| {
        GPU.device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 64, usage, mapped_at_creation: false })
    };
    let (writable, bare) = (buffer(usage | wgpu::BufferUsages::COPY_DST), buffer(usage));
    let built = |last: &wgpu::Buffer| {
        let mut builder = Optimizer::builder(AdamW::default());
        builder.tensor(Group::DEFAULT, "a", &[4]);
        builder.bind(Group::DEFAULT, "b", &[4], last.slice(0..16), last.slice(16..32));
        builder.build(&GPU.device, &GPU.queue).unwrap()
    };
    let mut other = built(&writable);
    let a = other.tensor("a").unwrap();
    other.write_param(a, &[3.0; 4]).unwrap();
    other.write_step_count(9).unwrap();
    let saved = snapshot(&other);
    let mut optimizer = built(&bare);
    let before = snapshot(&optimizer).to_bytes().unwrap();
    for fit in [Fit::Whole, Fit::Converted, Fit::Partial] {
        let error = saved.restore_fitting(&mut optimizer, fit).unwrap_err().to_string();
        assert!(error.contains("tensor `b`") && error.contains("needs COPY_DST"), "{error}");
        assert!(snapshot(&optimizer).to_bytes().unwrap() == before, "{fit:?}");
    }
}
