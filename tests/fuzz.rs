//! Every loader of files against seeded mutations of good files: no panic, only errors that name the file, at most ten times the file in
//! memory, and a bounded number of allocations, by which loops without an end would be found.
#![cfg(feature = "tools")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support {
    pub(crate) mod counting;
    pub(crate) mod device;
    pub(crate) mod gpu;
    pub(crate) mod mutations;
    pub(crate) mod trajectories;
}

use std::path::Path;

use serde_json::json;
use wgpu_optim::checkpoint::{Checkpoint, restore_torch};
use wgpu_optim::optim::{AdamW, NAdam, Sgd};
use wgpu_optim::tools::bench::read_baseline;
use wgpu_optim::tools::model::Shapes;
use wgpu_optim::tools::objectives::problems::{Layout, RatingTable};
use wgpu_optim::tools::race::{Key, Ledger, Outcome, Point};
use wgpu_optim::tools::replay::trajectory::Trajectory;
use wgpu_optim::tools::train::Journal;
use wgpu_optim::{CustomRule, Error, Group, Optimizer, Result, Rule};

use support::counting::counted;
use support::gpu::GPU;
use support::mutations::{self, Random};
use support::trajectories;

/// Mutations of each loader.
const CASES: usize = 400;
/// The most bytes in memory for each byte of a file.
const TIMES: usize = 10;
/// The most bytes in memory for a file of any length, such as the buffer of a reader and the text of an error.
const CONSTANT: usize = 64 * 1024;
/// What wgpu may take in addition for the writes to a device.
const WRITES: usize = 1 << 20;

/// A change of a file.
type Mutation = fn(&mut Random, &[u8]) -> Vec<u8>;

/// Loads a file, and checks its memory and the count of its allocations. Returns how many times the file it held, without the constant part.
#[track_caller]
fn bounded(constant: usize, bytes: &[u8], load: &mut impl FnMut(&[u8]) -> Result<()>) -> (Result<()>, f64) {
    let (loaded, used) = counted(|| load(bytes));
    let (most, calls) = (TIMES * bytes.len() + constant, 2 * bytes.len() + 2000);
    assert!(used.peak <= most, "{} bytes in memory for {}", used.peak, shown(bytes));
    assert!(used.calls <= calls, "{} allocations for {}", used.calls, shown(bytes));
    (loaded, (used.peak as f64 - constant as f64) / bytes.len().max(1) as f64)
}

fn shown(bytes: &[u8]) -> String {
    format!("a file of {} bytes: {}", bytes.len(), bytes[..bytes.len().min(300)].escape_ascii())
}

/// Loads good files and mutations of them. Every good file must load.
#[track_caller]
fn fuzz(good: &[Vec<u8>], mutate: Mutation, load: impl FnMut(&[u8]) -> Result<()>) {
    fuzz_with(CONSTANT, good, mutate, load);
}

/// As [`fuzz`], with another constant part of the memory.
#[track_caller]
fn fuzz_with(constant: usize, good: &[Vec<u8>], mutate: Mutation, mut load: impl FnMut(&[u8]) -> Result<()>) {
    let (mut taken, mut refused, mut worst) = (0, 0, 0.0_f64);
    for seed in 0..good.len() + CASES {
        let mut random = Random(seed as u64);
        let bytes = match good.get(seed) {
            Some(file) => file.clone(),
            None => {
                let file = &good[random.below(good.len())];
                if random.below(3) == 0 { mutations::bytes(&mut random, file, good) } else { mutate(&mut random, file) }
            }
        };
        let (loaded, times) = bounded(constant, &bytes, &mut load);
        worst = worst.max(times);
        match loaded {
            Ok(()) => taken += 1,
            Err(Error::File { problem, .. }) if seed >= good.len() => {
                assert!(!problem.is_empty());
                refused += 1;
            }
            Err(error) => panic!("case {seed}: {error} for {}", shown(&bytes)),
        }
    }
    // Mutations that all loaded, or none of which did, would prove little.
    assert!(taken > good.len() && refused > CASES / 10, "{taken} files were taken and {refused} refused");
    println!("{taken} taken, {refused} refused, at most {worst:.1} times the file in memory");
}

/// A line with a member twice is refused by the member's name, even with equal values.
#[track_caller]
fn twice(line: &str, member: &str, mut load: impl FnMut(&[u8]) -> Result<()>) {
    assert!(line.contains(member), "{member} is not in {line}");
    let error = load((line.replace(member, &format!("{member},{member}")) + "\n").as_bytes()).unwrap_err().to_string();
    let name = member.split('"').nth(1).unwrap();
    assert!(error.contains("line 1") && error.contains(&format!("duplicate field `{name}`")), "{error}");
}

/// Changes a line of JSON.
fn text(random: &mut Random, file: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(file);
    let lines: Vec<&str> = text.lines().collect();
    let at = random.below(lines.len());
    let changed = lines
        .iter()
        .enumerate()
        .map(|(i, line)| if i == at { mutations::json(random, line) } else { (*line).to_owned() });
    (changed.collect::<Vec<_>>().join("\n") + "\n").into_bytes()
}

/// Writes each file to one path, which `load` reads.
fn through(name: &str, mut load: impl FnMut(&Path) -> Result<()>) -> impl FnMut(&[u8]) -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    move |bytes| {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        load(&path)
    }
}

fn checkpoint(rule: impl Into<Box<dyn Rule>>, storage: &str, tensors: usize) -> Vec<u8> {
    let rule: Box<dyn Rule> = rule.into();
    let mut builder = Optimizer::builder(rule.boxed());
    builder.storage(storage.parse().unwrap());
    let other = builder.group("other", rule);
    let shapes: Vec<Vec<usize>> = (0..tensors).map(|t| if t % 3 == 0 { vec![300] } else { vec![2, t % 4] }).collect();
    let groups = [Group::DEFAULT, other];
    for (t, shape) in shapes.iter().enumerate() {
        builder.tensor(groups[t % 2], format!("layer {t}/w"), shape);
    }
    let mut optimizer = builder.build_cpu::<f32>().unwrap();
    let numbers = |shape: &Vec<usize>| (0..shape.iter().product()).map(|i| (i as f32).sin()).collect::<Vec<f32>>();
    let (mut params, grads): (Vec<_>, Vec<_>) = shapes.iter().map(|shape| (numbers(shape), numbers(shape))).unzip();
    let mut views: Vec<&mut [f32]> = params.iter_mut().map(Vec::as_mut_slice).collect();
    optimizer.store_params(&mut views).unwrap();
    optimizer.step(&mut views, &grads.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    let both: Vec<(&[usize], &[f32])> =
        shapes.iter().zip(&params).map(|(shape, param)| (shape.as_slice(), param.as_slice())).collect();
    let mut checkpoint = Checkpoint::of_host(&optimizer, &both).unwrap();
    checkpoint.notes_mut().extend([("epoch".to_owned(), "3".to_owned()), ("data".to_owned(), "\"x\"\n".to_owned())]);
    checkpoint.to_bytes().unwrap()
}

fn checkpoints() -> Vec<Vec<u8>> {
    vec![
        checkpoint(AdamW::default(), "f32", 6),
        checkpoint(AdamW::default(), "8bit,min=0", 7),
        checkpoint(Sgd::default(), "bf16-split", 3),
        checkpoint(AdamW::default(), "f16-master", 400),
    ]
}

#[test]
fn checkpoints_from_bytes() {
    fuzz(&checkpoints(), mutations::tensor_file, |bytes| {
        let loaded = Checkpoint::from_bytes("file", bytes)?;
        assert!(!loaded.optimizer().is_empty() || loaded.step_count() < u64::MAX);
        Ok(())
    });
}

#[test]
fn checkpoints_from_files() {
    fuzz(&checkpoints(), mutations::tensor_file, through("some.file", |path| Checkpoint::load(path).map(drop)));
}

#[test]
fn trajectories_from_bytes() {
    let good: Vec<Vec<u8>> = trajectories::files().iter().map(|path| std::fs::read(path).unwrap()).collect();
    let small: Vec<Vec<u8>> = good.into_iter().filter(|bytes| bytes.len() < 60_000).collect();
    fuzz(&small, mutations::tensor_file, |bytes| Trajectory::from_bytes("file", bytes).map(drop));
}

#[test]
fn states_of_torch() {
    let files = ["torch_adamw_amsgrad", "torch_nadam"].map(|stem| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(stem).with_extension("safetensors");
        std::fs::read(path).unwrap()
    });
    let rules: [Box<dyn Rule>; 2] = [AdamW { amsgrad: true, ..AdamW::default() }.into(), NAdam::default().into()];
    for (file, rule) in files.into_iter().zip(rules) {
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        let mut builder = Optimizer::builder(rule);
        for (key, view) in tensors.tensors().into_iter().filter(|(key, _)| key.starts_with("param/")) {
            builder.tensor(Group::DEFAULT, &key["param/".len()..], view.shape());
        }
        let mut optimizer = builder.build(&GPU.device, &GPU.queue).unwrap();
        fuzz_with(CONSTANT + WRITES, &[file], mutations::tensor_file, |bytes| {
            restore_torch("file", bytes, &mut optimizer)
        });
    }
}

#[test]
fn shapes_of_models() {
    fuzz(
        &checkpoints(),
        mutations::tensor_file,
        through("model.safetensors", |path| match Shapes::read(path) {
            // A good file can describe too large a model.
            Err(Error::Usage(problem)) if problem.starts_with("model: it has more than") => Ok(()),
            other => other.map(drop),
        }),
    );
}

#[test]
fn baselines_of_bench() {
    let line = |elements: usize| {
        json!({
            "optimizer": "adamw", "backend": "gpu", "adapter": "llvmpipe", "storage": "f32", "tensors": 1, "elements": elements,
            "samples": 5, "median_s": 1e-3, "min_s": 1e-3, "bytes_per_element": 28.0, "gb_per_s": 8.0, "copy_gb_per_s": 10.0,
            "stream_gb_per_s": 9.5, "dispatches": 1, "record_s": null,
        })
    };
    let lines = |count| (1..=count).map(|i| line(i).to_string() + "\n").collect::<String>();
    let begun = |count| format!("{}\n{}", json!({ "schema": 1, "cpu": "x" }), lines(count)).into_bytes();
    let mut load = through("baseline.jsonl", |path| read_baseline(path).map(drop));
    twice(&line(1).to_string(), "\"elements\":1", &mut load);
    twice(&json!({ "schema": 1 }).to_string(), "\"schema\":1", &mut load);
    fuzz(&[begun(1), begun(4), begun(40)], text, load);
}

#[test]
fn tables_of_ratings() {
    let triples = |count: usize| {
        let line = |i: usize| format!("{}\t{}\t{}\t88125\n", i % 7, i / 7, i % 5);
        (0..count).map(line).collect::<String>().into_bytes()
    };
    let dense = |users: usize| {
        let line = |u: usize| format!("3,{},99,8.79,0\n", u as f32 * 0.5 - 7.0);
        (0..users).map(line).collect::<String>().into_bytes()
    };
    let named = |count: usize| (0..count).map(|i| format!("u{i},i{i},{}\n", i % 5)).collect::<String>().into_bytes();
    let swell: Mutation = |random, file| {
        let more: Vec<u8> = match random.below(3) {
            0 => "1,".repeat(20_000).into_bytes(),
            1 => (0..9000).map(|i| format!("{i:x},{i:x}0,1\n")).collect::<String>().into_bytes(),
            _ => "9\n".repeat(10_000).into_bytes(),
        };
        let at = random.below(file.len());
        [&file[..at], &more, &file[at..]].concat()
    };
    // Two bytes a rating, at any length: growth may hold the old and the new ratings at once.
    for users in (400..900).step_by(29) {
        let mut read = |bytes: &[u8]| RatingTable::read(bytes, "file", Layout::Auto, false).map(drop);
        let file = format!("80{}\n", ",1".repeat(80)).repeat(users);
        bounded(CONSTANT, file.as_bytes(), &mut read).0.unwrap();
    }
    for skip_bad in [false, true] {
        fuzz(&[triples(50), dense(30), named(2000), triples(1)], swell, |bytes| {
            RatingTable::read(bytes, "file", Layout::Auto, skip_bad).map(drop)
        });
    }
}

#[test]
fn ledgers_of_races() {
    let outcome = |seed: u64, points: usize| Outcome {
        key: Key { heat: "small".to_owned(), entrant: "adam".to_owned(), seed, ..Key::default() },
        measure: "loss".to_owned(),
        lr: Some(0.1),
        cost: Default::default(),
        diverged: false,
        loss: None,
        validation: Some(0.5),
        test: None,
        early: None,
        triggers: Some(3),
        damping: None,
        sharpness: None,
        state_bytes: 8.0,
        points: vec![Point::default(); points],
        path: vec![[1.0, 2.0]; points],
    };
    let lines = |count: u64, points| {
        let line = |seed| serde_json::to_string(&outcome(seed, points)).unwrap() + "\n";
        (0..count).map(line).collect::<String>().into_bytes()
    };
    let mut load = through("runs.jsonl", |path| Ledger::open(path.parent().unwrap()).map(drop));
    twice(&serde_json::to_string(&outcome(3, 0)).unwrap(), "\"seed\":3", &mut load);
    fuzz(&[lines(1, 1), lines(5, 0), lines(3, 40)], text, load);
}

#[test]
fn journals_of_trainings() {
    let line = |epoch: u32| json!({ "epoch": epoch, "loss": 0.5, "seconds": 1.5, "lr": null }).to_string() + "\n";
    let lines = |count| (1..=count).map(line).collect::<String>().into_bytes();
    let mut load = through("log.jsonl", |path| Journal::resume(path).map(drop));
    twice(line(1).trim(), "\"epoch\":1", &mut load);
    fuzz(&[lines(1), lines(30), lines(300)], text, load);
}

/// A rule's text has a bound of its own: what naga makes of it depends on the words of the text with all copies.
#[test]
fn texts_of_rules() {
    const MOST: usize = 96 << 20;
    let rule = "struct Hyper { lr: f32 }\nstruct State { m: vec4<f32> }\n\
                fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {\n\
                (*s).m = mix(g, (*s).m, 0.9);\nreturn -h.lr * (*s).m;\n}\n";
    let levels = |first: &str, next: fn(usize) -> String| {
        (1..9).fold(format!("{rule}{first}\n"), |text, level| text + &next(level) + "\n").into_bytes()
    };
    let good = [
        levels("fn q0() {}", |i| format!("fn q{i}() {{ q{}(); q{}(); }}", i - 1, i - 1)),
        levels("const c0 = array(1, 2);", |i| format!("const c{i} = array(c{}, c{});", i - 1, i - 1)),
        levels("struct S0 { a: array<f32, 60> }", |i| format!("struct S{i} {{ a: S{}, b: S{} }}", i - 1, i - 1)),
        levels("const t = array(1, 2, 3);", |i| {
            format!("fn t{i}(i: u32) -> i32 {{ var b = t; return b[i] + t[{i}]; }}")
        }),
    ];
    let mut refused = 0;
    for seed in 0..CASES {
        let mut random = Random(seed as u64);
        let file = &good[random.below(good.len())];
        let bytes = mutations::bytes(&mut random, file, &good);
        let text = String::from_utf8_lossy(&bytes);
        let (checked, used) = counted(|| CustomRule::from_wgsl("mine", &text));
        assert!(used.peak <= MOST, "case {seed}: {} bytes for {text}", used.peak);
        refused += usize::from(checked.is_err());
    }
    assert!((CASES / 4..CASES).contains(&refused), "{refused} texts were refused");
}
