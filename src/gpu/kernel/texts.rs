//! Tests: every text of the registry validates, translates to every language that naga writes, and holds only code that a pipeline runs.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write as _;
use std::sync::Mutex;

use naga::{Block, Expression, Function, Handle, Statement};

use crate::gpu::Optimizer;
use crate::gpu::build::builder::Builder;
use crate::gpu::build::spec::Group;
use crate::gpu::kernel::matrices::Kernel;
use crate::gpu::kernel::text::Access;
use crate::gpu::layout::class::{Class, Round, RowText, Stage};
use crate::optim::procedure::refusal;
use crate::optim::procedure::spec::Feature;
use crate::optim::rule::need_element_counts;
use crate::optim::{ALL, Entry, Rule, Value};
use crate::options::around::{Accumulate, Around, Clip, Ema, LossScale};
use crate::tools::shader::{Checked, Target, Translation};

/// Each feature alone, and all at once with each clip.
fn arounds() -> Vec<Around> {
    let none = Around::default();
    let every = Around {
        loss_scale: Some(LossScale::default()),
        skip_nonfinite: true,
        accumulate: Some(Accumulate::Mean(3)),
        ema: Some(Ema::default()),
        zero_grad: true,
        signed: true,
        telemetry: true,
        ..none
    };
    let clips = [Clip::GlobalNorm(1.0), Clip::GroupNorm(1.0), Clip::TensorNorm(1.0), Clip::Value(1.0)].map(Some);
    let mut arounds = vec![
        Around { loss_scale: every.loss_scale, ..none },
        Around { skip_nonfinite: true, ..none },
        Around { accumulate: Some(Accumulate::Sum), ..none },
        Around { accumulate: every.accumulate, ..none },
        Around { ema: every.ema, ..none },
        Around { zero_grad: true, ..none },
        Around { signed: true, ..none },
        Around { telemetry: true, ..none },
        Around { own_counts: true, ..none },
        Around { partial: true, own_counts: true, ..none },
        Around { partial: true, own_counts: true, ..every },
    ];
    for clip in clips {
        arounds.extend([Around { clip, ..none }, Around { clip, ..every }]);
    }
    arounds
}

/// A text, with the entry points of its pipelines.
struct Text {
    what: String,
    wgsl: String,
    entries: Vec<&'static str>,
}

impl Text {
    fn of(what: String, class: &Class, stage: Stage) -> Self {
        Self { what, wgsl: class.text(stage), entries: class.entries(stage) }
    }
}

/// The classes of a rule, for every place that its tensors may have: of tensors and, if the rule keeps factors of them, of matrices.
fn classes(rule: &dyn Rule, around: Around, groups: usize) -> Vec<(Class, bool, bool)> {
    let mut classes = Vec::new();
    for (shared, dynamic_gradients) in [(false, false), (true, false), (false, true)] {
        let class = Class { shared, dynamic_gradients, ..Class::with(rule, around, groups) };
        let matrix = class.clone().of_matrices(rule);
        classes.push((class, shared, dynamic_gradients));
        if matrix.factored().is_some() {
            classes.push((matrix, shared, dynamic_gradients));
        }
    }
    classes
}

/// All texts of a rule's class, for every place that its tensors may have.
fn texts(rule: &dyn Rule, around: Around, groups: usize) -> Vec<Text> {
    let mut texts = Vec::new();
    for (class, shared, dynamic_gradients) in classes(rule, around, groups) {
        let mut add = |round: Round, stage: Stage| {
            let class = Class { round, ..class.clone() };
            let matrix = class.factored().is_some();
            let what = format!("{} {around:?} {shared} {dynamic_gradients} {matrix} {round:?} {stage:?}", rule.name());
            texts.push(Text::of(what, &class, stage));
        };
        add(Round::Only, Stage::Update);
        if let Some(stage) = class.procedure_stage() {
            add(Round::Only, stage);
        }
        if class.factored().is_some() {
            add(class.rule_round(), Stage::Tiles);
            add(Round::Only, Stage::Fold);
        }
        for round in class.rounds().into_iter().chain(class.later_rounds()) {
            if (Class { round, ..class.clone() }).sum_counts().0 > 0 {
                add(round, Stage::Stats);
            }
            add(round, Stage::Finalize);
        }
    }
    texts
}

/// Configurations with texts of their own.
fn evaluating(entry: &Entry) -> Vec<Box<dyn Rule>> {
    let choices = [("integrator", "rk4"), ("integrator", "dopri5"), ("warp", "raw"), ("warp", "normalised")];
    let known = choices.into_iter().filter(|(setting, _)| entry.settings.contains(setting));
    known.map(|(setting, word)| entry.configure([(setting, Value::Word(word.to_owned()))]).expect("valid")).collect()
}

/// The texts of a class with rows, each feature alone and all at once.
fn row_texts(rule: &dyn Rule, around: Around) -> Vec<Text> {
    let rows = |mask, nonzero, columns| RowText {
        mask,
        nonzero,
        columns,
        shared: rule.shares_rows() && !nonzero,
        fresh: around.own_counts,
    };
    let all =
        [rows(None, false, false), rows(Some(0), false, false), rows(None, true, false), rows(Some(1), true, true)];
    let mut texts = Vec::new();
    for (rows, dynamic_gradients) in all.into_iter().map(|rows| (rows, rows.columns)) {
        let plain = Class { dynamic_gradients, rows: Some(rows), ..Class::with(rule, around, 2) };
        let scalars_in_control = (rows.mask.is_some() && !plain.rounds().is_empty()).then_some(5);
        let class = Class { counted: rule.sums().sums > 0, scalars_in_control, ..plain };
        let mut add = |stage: Stage, class: &Class| {
            let storage = class.bindings(stage).iter().filter(|b| b.access != Access::Uniform).count();
            assert!(storage <= 7, "{} {rows:?} {stage:?} has {storage} storage bindings", rule.name());
            texts.push(Text::of(format!("{} {around:?} {rows:?} {stage:?}", rule.name()), class, stage));
        };
        add(Stage::Rows, &class);
        add(Stage::Update, &class);
        if let Some(stage) = class.procedure_stage() {
            add(stage, &class);
        }
        for round in class.rounds().into_iter().chain(class.later_rounds()) {
            let class = Class { round, ..class.clone() };
            if class.sum_counts().0 > 0 {
                add(Stage::Stats, &class);
            }
            add(Stage::Finalize, &class);
        }
    }
    texts
}

#[test]
fn every_text_with_rows_validates_and_binds_no_more_than_every_device_does() {
    let [alone, .., every] = &arounds()[..] else { panic!("there are several") };
    let mut seen = HashSet::new();
    for entry in ALL.iter().filter(|entry| refusal(&entry.sample().procedure(), entry.name, Feature::Rows).is_none()) {
        let fresh = Around { own_counts: true, ..*every };
        let partial = Around { partial: true, ..fresh };
        let element = need_element_counts(entry.sample().as_ref(), "").is_ok();
        let own = [fresh, partial, Around { own_counts: true, ..Around::default() }];
        let own = own.into_iter().filter(|_| element);
        for around in [Around::default(), *alone, *every].into_iter().chain(own) {
            for text in row_texts(entry.sample().as_ref(), around) {
                if seen.insert(text.wgsl.clone()) {
                    check(&text);
                }
            }
        }
    }
    assert!(seen.len() > 300, "{} texts", seen.len());
}

/// Storages that together reach every load and store.
const STORAGES: [&str; 10] = [
    "bf16-sr",
    "bf16-split",
    "bf16-master",
    "f16-nearest",
    "f16-sr,grads=f32",
    "f16-master,states=bf16",
    "grads=bf16,states=bf16-sr",
    "8bit,min=0",
    "bf16-sr,8bit,min=0",
    "bf16-split,8bit,v=bf16-sr,min=0",
];

#[test]
fn every_storage_has_texts_that_validate_and_bind_no_more_than_every_device_does() {
    let [alone, .., every] = &arounds()[..] else { panic!("there are several") };
    let mut seen = HashSet::new();
    for entry in ALL {
        let rule = entry.sample();
        let no_v = |text: &str| {
            if entry.sample().states().iter().any(|s| s.name == "v") {
                text.to_owned()
            } else {
                text.replace("v=bf16-sr,", "")
            }
        };
        for storage in STORAGES.map(|text| no_v(text).parse().expect("a storage")) {
            for around in [Around::default(), *alone, *every] {
                let Ok(class) = Class::with(rule.as_ref(), around, 2).stored(rule.as_ref(), &storage, 5000) else {
                    continue;
                };
                let matrix = Some(class.clone().of_matrices(rule.as_ref())).filter(|class| class.factored().is_some());
                for text in [Some(class), matrix].iter().flatten().flat_map(storage_texts) {
                    if seen.insert(text.wgsl.clone()) {
                        check(&Text { what: format!("{} {storage} {around:?} {}", entry.name, text.what), ..text });
                    }
                }
            }
        }
    }
    assert!(seen.len() > 800, "{} texts", seen.len());
}

fn storage_texts(class: &Class) -> Vec<Text> {
    let rounds = class.rounds().into_iter().chain(class.later_rounds());
    let of_round = |round: Round| {
        let class = Class { round, ..class.clone() };
        let stats = (class.sum_counts().0 > 0).then_some((class.clone(), Stage::Stats));
        stats.into_iter().chain([(class, Stage::Finalize)])
    };
    let update = [Some(Stage::Update), class.procedure_stage()].into_iter().flatten();
    let of_rule = Class { round: class.rule_round(), ..class.clone() };
    let factors = [(of_rule, Stage::Tiles), (class.clone(), Stage::Fold)];
    let factors = factors.into_iter().filter(|_| class.factored().is_some());
    let stages = rounds.flat_map(of_round).chain(update.map(|stage| (class.clone(), stage))).chain(factors);
    let text = |(class, stage): (Class, Stage)| {
        let storage = class.bindings(stage).iter().filter(|b| b.access != Access::Uniform).count();
        assert!(storage <= 7, "{} {:?} {stage:?} has {storage} storage bindings", class.name, class.formats);
        Text::of(format!("{:?} {stage:?}", class.round), &class, stage)
    };
    stages.map(text).collect()
}

/// Writes a text to the file that `WGPU_OPTIM_TEXTS` names, one JSON object per line: `crates/web/tests` give the texts to a browser's
/// compiler.
fn export(what: &str, wgsl: &str) {
    static FILE: Mutex<()> = Mutex::new(());
    let Some(path) = std::env::var_os("WGPU_OPTIM_TEXTS") else { return };
    let line = serde_json::json!({ "name": what, "wgsl": wgsl });
    let _one = FILE.lock().expect("no writer panics");
    let mut file = File::options().create(true).append(true).open(path).expect("it opens");
    writeln!(file, "{line}").expect("it is written");
}

fn check(text: &Text) {
    let Text { what, wgsl, .. } = text;
    export(what, wgsl);
    let checked = Checked::new(wgsl).unwrap_or_else(|e| panic!("{what}: {e}"));
    for target in Target::ALL {
        let written = match checked.translate(target) {
            Ok(Translation::Texts(texts)) => texts.iter().map(|(_, text)| text.len()).sum(),
            Ok(Translation::Words(words)) => words.len(),
            Err(error) => panic!("{what}: {target:?}: {error}"),
        };
        assert!(written > 300, "{what}: {target:?}: {written} characters or words only");
    }
    let unused = unused(text);
    assert!(unused.is_empty(), "{what}: {unused:?}\n{wgsl}");
}

/// The declarations of a text that no pipeline runs: entry points without a pipeline, functions that no entry point calls or that do nothing,
/// constants, structs and variables that no other line reads.
fn unused(text: &Text) -> Vec<String> {
    let module = naga::front::wgsl::parse_str(&text.wgsl).expect("it was checked");
    let entries: Vec<&str> = module.entry_points.iter().map(|point| point.name.as_str()).collect();
    let entry =
        entries.iter().filter(|entry| !text.entries.contains(*entry)).map(|entry| format!("entry point {entry}"));
    let missing = text.entries.iter().filter(|entry| !entries.contains(*entry)).map(|entry| format!("no {entry}"));
    let mut called = HashSet::new();
    let mut open: Vec<&Block> = module.entry_points.iter().map(|point| &point.function.body).collect();
    while let Some(block) = open.pop() {
        for statement in block {
            match statement {
                Statement::Call { function, .. } if called.insert(*function) => {
                    open.push(&module.functions[*function].body);
                }
                Statement::Block(block) => open.push(block),
                Statement::If { accept, reject, .. } => open.extend([accept, reject]),
                Statement::Switch { cases, .. } => open.extend(cases.iter().map(|case| &case.body)),
                Statement::Loop { body, continuing, .. } => open.extend([body, continuing]),
                _ => {}
            }
        }
    }
    let idle = |function: &Function| {
        let constant = |value: Handle<Expression>| matches!(function.expressions[value], Expression::Literal(_));
        function.body.iter().all(|statement| match statement {
            Statement::Return { value } => value.is_none_or(constant),
            _ => false,
        })
    };
    let functions = module.functions.iter().filter(|(function, body)| !called.contains(function) || idle(body));
    let functions = functions.map(|(_, function)| format!("function {:?}", function.name));
    let code: String =
        text.wgsl.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let words: Vec<&str> =
        code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
    let declared = words.windows(2).filter(|pair| ["const", "struct", "alias"].contains(&pair[0])).map(|pair| pair[1]);
    let unread = declared.filter(|name| words.iter().filter(|word| *word == name).count() < 2);
    let bound = module.global_variables.iter().filter(|(_, variable)| variable.binding.is_none());
    let variables = bound.filter_map(|(_, variable)| variable.name.as_deref());
    let unread = unread.chain(variables.filter(|name| words.iter().filter(|word| *word == name).count() < 2));
    entry.chain(missing).chain(functions).chain(unread.map(|name| format!("{name}, which nothing reads"))).collect()
}

#[test]
fn what_no_pipeline_runs_is_seen() {
    let class = Class::of(ALL[0].sample().as_ref(), false, false);
    let text = Text::of(String::new(), &class, Stage::Update);
    assert_eq!(unused(&text), [""; 0]);
    for more in [
        "const more = 3u;",
        "struct More { more: f32 }",
        "fn more() -> f32 { return wo_control.scale; }",
        "var<private> more: f32;",
        "@compute @workgroup_size(1) fn more() { wo_arena[0].x = 1.0; }",
    ] {
        let wgsl = format!("{}{more}\n", text.wgsl);
        assert_eq!(unused(&Text { wgsl, ..Text::of(String::new(), &class, Stage::Update) }).len(), 1, "{more}");
    }
    let wgsl = text.wgsl.replace("    let next = p + change;", "    let next = p + change + wo_nothing();");
    let wgsl = wgsl + "fn wo_nothing() -> f32 { return 0.0; }\n";
    assert_eq!(unused(&Text { wgsl, ..text }).len(), 1, "a function that does nothing");
}

#[test]
fn every_text_validates_and_is_written_in_every_language() {
    let mut seen = HashSet::new();
    for entry in ALL {
        let mut rules: Vec<Box<dyn Rule>> = entry.variants().into_iter().map(|(_, rule)| rule).collect();
        rules.extend(evaluating(entry));
        let alone = rules.into_iter().map(|rule| (rule, Around::default()));
        let with_features = arounds().into_iter().map(|around| (entry.sample(), around));
        for (rule, around) in alone.chain(with_features) {
            for text in texts(rule.as_ref(), around, 2) {
                if seen.insert(text.wgsl.clone()) {
                    check(&text);
                }
            }
        }
    }
    assert!(seen.len() > 600, "{} texts", seen.len());
}

#[test]
fn every_text_over_matrices_validates() {
    for kernel in Kernel::ALL {
        let storage = kernel.bindings().iter().filter(|b| b.access != Access::Uniform).count();
        assert!(storage <= 7, "{kernel:?} has {storage} storage bindings");
        check(&Text { what: format!("{kernel:?}"), wgsl: kernel.text(), entries: vec![kernel.entry()] });
    }
}

#[test]
fn what_is_public_is_among_them() {
    for entry in ALL {
        let rule = entry.sample();
        for (shared, dynamic_gradients) in [(false, false), (true, false), (false, true)] {
            for stage in Class::of(rule.as_ref(), shared, dynamic_gradients).stages() {
                let class = Class::of(rule.as_ref(), shared, dynamic_gradients);
                let text = Text::of(entry.name.to_owned(), &class, stage);
                assert!(texts(rule.as_ref(), Around::default(), 1).iter().any(|t| t.wgsl == text.wgsl));
                check(&text);
            }
        }
    }
}

/// Words that only the code of an option contains.
const TRACES: [&str; 12] = [
    "wo_ACCUMULATOR",
    "wo_AVERAGE",
    "wo_CLIP",
    "wo_clip_factor",
    "wo_zero_gradient",
    "wo_measure",
    "wo_BAD",
    "wo_GROWTH",
    "wo_control.scale",
    "wo_control.unscale",
    "wo_control.skipped",
    ".e.factor",
];

#[test]
fn what_is_on_leaves_its_traces() {
    let [.., every] = &arounds()[..] else { panic!("there are several") };
    let clipped = Around { clip: Some(Clip::GlobalNorm(1.0)), ..*every };
    let class = Class::with(ALL[0].sample().as_ref(), clipped, 2);
    let texts = [Stage::Stats, Stage::Finalize, Stage::Update].map(|stage| class.text(stage));
    for trace in TRACES {
        assert!(texts.iter().any(|text| text.contains(trace)), "{trace}");
    }
}

#[test]
fn what_is_off_leaves_no_trace() {
    let gpu = pollster::block_on(crate::tools::adapter::Selector::default().open()).expect("an adapter");
    for entry in ALL {
        let rule = entry.sample();
        if rule.procedure().is_some() {
            continue;
        }
        let bare = Class::of(rule.as_ref(), false, false);
        let build = |change: fn(&mut Builder)| {
            let mut builder = Optimizer::builder(rule.boxed());
            builder.tensor(Group::DEFAULT, "w", &[5]);
            change(&mut builder);
            builder.build(&gpu.device, &gpu.queue).expect("it builds")
        };
        let off = build(|b| {
            b.skip_nonfinite(true).zero_grad(true).skip_nonfinite(false).zero_grad(false);
            b.telemetry(true).telemetry(false).dynamic_gradients(true).dynamic_gradients(false);
        });
        assert_eq!(off.dispatches(), build(|_| ()).dispatches(), "{}", entry.name);
        let class = &off.parts[0].placement.classes[0];
        assert_eq!(class.arrays(), bare.arrays());
        assert_eq!(class.scalars, bare.scalars);
        let sums = rule.sums().sums > 0;
        for stage in [Stage::Stats, Stage::Finalize, Stage::Update].into_iter().filter(|s| sums || *s == Stage::Update)
        {
            // The device decides how many threads add sums.
            let bare = Class { sum_lanes: class.sum_lanes, ..bare.clone() };
            let text = class.text(stage);
            assert_eq!(text, bare.text(stage), "{} {stage:?}", entry.name);
            for trace in TRACES {
                assert!(!text.contains(trace), "{} {stage:?} {trace}", entry.name);
            }
            assert!(stage != Stage::Update || !text.contains("Barrier"), "{}: the update waits", entry.name);
        }
    }
}

#[test]
fn a_number_is_in_no_text() {
    let text = |around: Around, stage| Class::with(ALL[0].sample().as_ref(), around, 2).text(stage);
    let with = |clip: Clip, decay, initial| Around {
        clip: Some(clip),
        ema: Some(Ema { decay, ..Ema::default() }),
        loss_scale: Some(LossScale { initial, ..LossScale::default() }),
        ..Around::default()
    };
    for stage in [Stage::Stats, Stage::Finalize, Stage::Update] {
        let (some, other) = (with(Clip::GlobalNorm(1.0), 0.9, 8.0), with(Clip::GlobalNorm(2.0), 0.5, 16.0));
        assert_eq!(text(some, stage), text(other, stage));
        assert_ne!(text(some, stage), text(with(Clip::GroupNorm(1.0), 0.9, 8.0), Stage::Finalize));
    }
}

#[test]
fn a_wrong_text_is_seen() {
    let class = Class::of(ALL[0].sample().as_ref(), false, false);
    let text = class.text(Stage::Update).replace("wo_record(thread)", "wo_record(thread, 1u)");
    assert!(Checked::new(&text).is_err());
}
