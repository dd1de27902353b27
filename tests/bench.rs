//! The bench: the bytes that it counts, its measurements, and its comparison, which must not pass silently.
#![cfg(feature = "tools")]

mod support {
    pub(crate) mod device;
    pub(crate) mod gpu;
}

use wgpu_optim::Storage;
use wgpu_optim::optim::{
    ALL, AdaBelief, Adagrad, Adai, AdaiW, Adam, AdamW, Lamb, Lion, NAdam, NormOf, ProxSgd, RAdam, RmsProp, Rule, Sgd,
    VRAdam,
};
use wgpu_optim::tools::bench::{
    BackendKind, Feature, Measurement, Plan, Size, With, bytes_per_element, bytes_per_element_stored, compare,
    read_baseline, recording, run,
};

use support::gpu::GPU;

#[test]
fn bytes_are_those_that_must_move() {
    let rules: [(f64, Box<dyn Rule>); 26] = [
        (12.0, Sgd::default().into()),
        (20.0, Sgd { momentum: 0.9, ..Sgd::default() }.into()),
        (20.0, Sgd { momentum: 0.9, nesterov: true, ..Sgd::default() }.into()),
        (20.0, ProxSgd::default().into()),
        (12.0, ProxSgd { momentum: 0.0, ..ProxSgd::default() }.into()),
        (28.0, Adam::default().into()),
        (28.0, AdamW::default().into()),
        (36.0, AdamW { amsgrad: true, ..AdamW::default() }.into()),
        (20.0, AdamW { beta1: 0.0, ..AdamW::default() }.into()),
        (36.0, NAdam::default().into()),
        (28.0, RAdam::default().into()),
        (20.0, RmsProp::default().into()),
        (28.0, RmsProp { momentum: 0.9, ..RmsProp::default() }.into()),
        (36.0, RmsProp { momentum: 0.9, centered: true, ..RmsProp::default() }.into()),
        (20.0, Adagrad::default().into()),
        (28.0, AdaBelief::default().into()),
        (20.0, Lion::default().into()),
        (44.0, Lamb::default().into()),
        (32.0, Lamb { beta1: 0.0, ..Lamb::default() }.into()),
        (36.0, VRAdam::default().into()),
        (32.0, VRAdam { norm_of: NormOf::Gradient, ..VRAdam::default() }.into()),
        (24.0, VRAdam { beta1: 0.0, ..VRAdam::default() }.into()),
        (44.0, Adai::new(0.1).into()),
        (48.0, Adai { weight_decay: 0.1, ..Adai::new(0.1) }.into()),
        (44.0, AdaiW::new(0.1).into()),
        (44.0, AdaiW { weight_decay: 0.1, ..AdaiW::new(0.1) }.into()),
    ];
    for (bytes, rule) in rules {
        assert_eq!(bytes_per_element(rule.as_ref()), bytes, "{rule:?}");
    }
}

/// The bytes of stored rules: the documented table, and the other forms.
#[test]
fn bytes_of_stored_rules() {
    let (adamw, vradam) = (AdamW::default(), VRAdam::default());
    let table: [(&dyn Rule, &str, usize, f64); 11] = [
        (&adamw, "8bit", 1 << 24, 16.0625),
        (&adamw, "bf16-sr,8bit", 1 << 24, 10.0625),
        (&adamw, "bf16-sr", 1 << 24, 22.0),
        (&adamw, "bf16-split", 1 << 24, 26.0),
        (&adamw, "bf16-master", 1 << 24, 30.0),
        (&adamw, "bf16-sr,states=bf16", 1 << 24, 14.0),
        (&adamw, "f16-master,grads=f32,v=bf16-sr", 1, 28.0),
        (&adamw, "8bit", 4095, 28.0),
        (&vradam, "f32", 1, 36.0),
        (&vradam, "bf16-sr", 1, 28.0),
        (&vradam, "bf16-split,8bit", 4096, 17.078125),
    ];
    for (rule, storage, elements, bytes) in table {
        let storage: Storage = storage.parse().expect("a storage");
        let found = bytes_per_element_stored(rule, &storage, elements).expect("it can be");
        assert_eq!(found, bytes, "{} {storage} {elements}", rule.name());
    }
}

#[test]
fn stored_rules_are_measured_on_the_gpu() {
    let storages = ["f32", "bf16-sr,8bit,min=0"].map(|text| text.parse().expect("a storage"));
    let plan = Plan {
        rules: vec![AdamW::default().into()],
        storages: storages.to_vec(),
        sizes: vec![Size::new(3, 1030)],
        backends: vec![BackendKind::Gpu, BackendKind::Cpu],
        seconds: 0.0,
        samples: 1,
        ..Plan::default()
    };
    let results = run(&plan, Some(&GPU), |_| ()).expect("measuring works");
    let found: Vec<_> = results.iter().map(|m| (m.backend, m.storage.as_str(), m.bytes_per_element)).collect();
    let stored = (BackendKind::Gpu, "bf16-sr,8bit,min=0", 10.0625);
    assert_eq!(found, [(BackendKind::Gpu, "f32", 28.0), stored, (BackendKind::Cpu, "f32", 28.0)]);
    assert_eq!(plan.count(), 3);
}

/// A rule's sums depend only on the arrays that the rule names: a change of any other number does not change the totals.
#[test]
fn sums_depend_on_the_named_arrays_only() {
    let rules = ALL.iter().flat_map(wgpu_optim::optim::Entry::variants).map(|(_, rule)| rule);
    for rule in rules.chain([Box::new(Adai::new(0.1)) as Box<dyn Rule>]).filter(|rule| rule.sums().sums > 0) {
        let kept: Vec<_> = rule.states().into_iter().filter(|s| s.used).map(|s| s.name).collect();
        let base = totals(rule.as_ref(), None);
        for input in ["p", "g"].into_iter().chain(kept) {
            let read = rule.sums_read().contains(&input);
            // A count of signs changes only where a sign does.
            let changes = [0.75, -1.0, -30.0].iter().any(|x| totals(rule.as_ref(), Some((input, *x))) != base);
            assert_eq!(changes, read, "{rule:?}: {input}");
        }
    }
}

fn totals(rule: &dyn Rule, changed: Option<(&str, f64)>) -> Vec<[f64; 3]> {
    let value = |name: &str| [changed.filter(|(changed, _)| *changed == name).map_or(0.5, |(_, x)| x)];
    let hyper: Vec<f64> = rule.scalars(3).iter().map(wgpu_optim::optim::Scalar::value).collect();
    let states: Vec<_> = rule.states().iter().map(|s| s.used.then(|| value(s.name))).collect();
    let states: Vec<Option<&[f64]>> = states.iter().map(|s| s.as_ref().map(<[f64; 1]>::as_slice)).collect();
    let cpu = rule.cpu_f64();
    let sums = cpu.contribute(&hyper, &value("p"), &value("g"), &states);
    cpu.total(&hyper, &sums, 1.0)[..rule.sums().totals].to_vec()
}

#[test]
fn both_backends_are_measured() {
    let gpu = GPU.clone();
    let size = Size::new(3, 5000);
    let plan = Plan {
        rules: vec![AdamW::default().into(), VRAdam::default().into()],
        sizes: vec![size],
        backends: vec![BackendKind::Gpu, BackendKind::Cpu],
        seconds: 0.0,
        samples: 5,
        ..Plan::default()
    };
    let mut seen = Vec::new();
    let results = run(&plan, Some(&gpu), |m| seen.push(m.clone())).expect("measuring works");
    assert_eq!(seen, results);
    assert_eq!(results.iter().map(|m| m.dispatches).collect::<Vec<_>>(), [Some(1), Some(3), None, None]);
    assert_eq!(results.iter().map(|m| m.bytes_per_element).collect::<Vec<_>>(), [28.0, 36.0, 28.0, 36.0]);
    for m in &results {
        assert!(m.samples >= 5 && m.min_s > 0.0 && m.min_s <= m.median_s, "{m:?}");
        assert!(m.copy_gb_per_s > 0.0 && m.stream_gb_per_s > 0.0 && m.share_of_stream().is_finite(), "{m:?}");
        assert!(m.spread.is_some_and(|spread| spread >= 0.0), "{m:?}");
        let has_clock =
            m.backend == BackendKind::Gpu && gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        assert_eq!(m.gpu.is_some(), has_clock, "{m:?}");
        if let Some(gpu) = &m.gpu {
            let stages: Vec<_> = gpu.gpu_stages.iter().map(|stage| stage.stage.as_str()).collect();
            let expected = if m.optimizer == "adamw" { &["update"][..] } else { &["statistics", "finalize", "update"] };
            assert_eq!(stages, expected);
            assert!(gpu.gpu_min_s > 0.0 && gpu.gpu_min_s <= gpu.gpu_median_s && gpu.gpu_spread >= 0.0, "{gpu:?}");
            assert!(gpu.gpu_stages.iter().all(|stage| stage.median_s > 0.0 && stage.median_s.is_finite()), "{gpu:?}");
        }
        let bytes = m.bytes_per_element * 15_000.0;
        assert!((m.gb_per_s - bytes / m.median_s / 1e9).abs() < 1e-9 * m.gb_per_s, "{m:?}");
    }
    let fields = "optimizer backend adapter storage tensors elements samples median_s min_s bytes_per_element gb_per_s \
                  copy_gb_per_s stream_gb_per_s dispatches record_s with spread";
    let json = serde_json::to_value(&results[3]).expect("plain data");
    let names: Vec<_> = json.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(names, fields.split_whitespace().collect::<Vec<_>>());
    assert_eq!((&json["backend"], &json["dispatches"]), (&"cpu".into(), &serde_json::Value::Null));
}

/// The bytes and dispatches that a combination of features adds to those of the rule.
#[test]
fn features_are_measured_with_the_bytes_that_they_move() {
    let gpu = GPU.clone();
    let rules: [Box<dyn Rule>; 3] = [AdamW::default().into(), VRAdam::default().into(), Lamb::default().into()];
    // The bytes with AdamW, with VRAdam whose sums read g anyway, and with LAMB whose sums come after the clip's; then their dispatches.
    let table: [(&str, [f64; 3], [usize; 3]); 8] = [
        ("none", [28.0, 36.0, 44.0], [1, 3, 3]),
        ("clip", [32.0, 36.0, 48.0], [3, 3, 5]),
        ("scale", [32.0, 36.0, 44.0], [3, 3, 3]),
        ("clip,scale", [32.0, 36.0, 48.0], [3, 3, 5]),
        ("ema", [36.0, 44.0, 52.0], [1, 3, 3]),
        ("accumulate", [48.0, 60.0, 68.0], [2, 4, 4]),
        ("accumulate,clip", [56.0, 60.0, 76.0], [4, 4, 6]),
        ("clip,scale,ema,accumulate", [64.0, 68.0, 84.0], [4, 4, 6]),
    ];
    for (with, bytes, dispatches) in table {
        let plan = Plan {
            rules: rules.to_vec(),
            with: vec![with.parse().expect("it is known")],
            sizes: vec![Size::new(7, 1030)],
            backends: vec![BackendKind::Gpu, BackendKind::Cpu],
            seconds: 0.0,
            samples: 1,
            ..Plan::default()
        };
        let results = run(&plan, Some(&gpu), |_| ()).expect("measuring works");
        for (i, m) in results.iter().enumerate() {
            assert_eq!(m.with.to_string().parse::<With>().ok(), with.parse().ok(), "{m:?}");
            assert_eq!(m.bytes_per_element, bytes[i % 3], "{m:?}");
            let on_gpu = (m.backend == BackendKind::Gpu).then_some(dispatches[i % 3]);
            assert_eq!(m.dispatches, on_gpu, "{m:?}");
        }
    }
    assert_eq!([Feature::Ema, Feature::Clip].into_iter().collect::<With>().to_string(), "clip,ema");
    let error = "clip,emma".parse::<With>().expect_err("it is not known").to_string();
    assert!(error.contains("did you mean `ema`"), "{error}");
}

#[test]
fn recording_is_measured() {
    let gpu = GPU.clone();
    for (tensors, moved) in [(1, false), (10, false), (10, true)] {
        let r = recording(&gpu, &AdamW::default(), tensors, moved).expect("measuring works");
        assert!(r.tensors == tensors && r.moved == moved && r.record_s > 0.0 && r.finish_s > 0.0, "{r:?}");
    }
}

#[test]
fn plans_that_cannot_be_measured_are_refused_before_any_allocation() {
    let plan = Plan { rules: vec![AdamW::default().into()], ..Plan::default() };
    let error = |plan: &Plan| run(plan, None, |_| ()).expect_err("it must be refused").to_string();
    assert!(error(&plan).contains("no GPU adapter"), "{}", error(&plan));
    let cpu = Plan { backends: vec![BackendKind::Cpu], ..plan };
    let with = |size| Plan { sizes: vec![size], ..cpu.clone() };
    // Only if the system tells how much memory is free; otherwise the run would begin.
    if wgpu_optim::tools::report::free_memory().is_some() {
        let huge = error(&with(Size::new(1, 1 << 44)));
        assert!(huge.contains("need 562949953421312 bytes"), "{huge}");
    }
    assert!(error(&with(Size::new(0, 5))).contains("0 tensors"));
    assert!(error(&with(Size::new(usize::MAX, 2))).contains("cannot be measured"));
    assert!(error(&Plan { seconds: f64::NAN, ..cpu.clone() }).contains("seconds is NaN"));
    assert!(error(&Plan { rules: vec![Adai::new(f64::NAN).into()], ..cpu }).contains("lr"));
}

fn measurement() -> Measurement {
    Measurement {
        optimizer: "adamw".to_owned(),
        with: With::default(),
        backend: BackendKind::Gpu,
        adapter: "llvmpipe".to_owned(),
        storage: "f32".to_owned(),
        tensors: 1,
        elements: 1000,
        columns: None,
        samples: 9,
        median_s: 0.2,
        min_s: 0.1,
        bytes_per_element: 28.0,
        gb_per_s: 8.0,
        copy_gb_per_s: 12.0,
        stream_gb_per_s: 10.0,
        dispatches: Some(1),
        record_s: Some(1e-6),
        spread: None,
        gpu: None,
    }
}

#[test]
fn regressions_are_relative_to_the_stream_kernel() {
    let baseline = [measurement()];
    let twice_as_slow_as_its_stream = Measurement { gb_per_s: 4.0, ..measurement() };
    let on_a_slow_day = Measurement { gb_per_s: 4.0, stream_gb_per_s: 5.0, ..measurement() };
    let slower = |now: &Measurement, limit| compare(&baseline, std::slice::from_ref(now), limit).expect("it is there");
    assert_eq!(slower(&on_a_slow_day, 0.0), []);
    assert_eq!(slower(&twice_as_slow_as_its_stream, 1.0), []);
    let found = slower(&twice_as_slow_as_its_stream, 0.99);
    assert!((found[0].slowdown - 1.0).abs() < 1e-12 && found[0].baseline_share == 0.8);
    assert!(found[0].to_string().contains("adamw 1 × 1000 on llvmpipe (gpu, f32): 100.0 % slower"), "{}", found[0]);
    let with_ema = Measurement { with: "ema".parse().expect("it is known"), ..measurement() };
    let other = compare(&baseline, &[with_ema], 1.0).expect_err("it is not in the baseline").to_string();
    assert!(other.contains("adamw with ema 1 × 1000"), "{other}");
    let unknown = Measurement { gb_per_s: f64::NAN, ..measurement() };
    assert_eq!(slower(&unknown, 1.0).len(), 1);
}

#[test]
fn a_comparison_never_passes_silently() {
    let error = |now: Measurement, limit| compare(&[measurement()], &[now], limit).expect_err("no pass").to_string();
    let missing = error(Measurement { elements: 1001, ..measurement() }, 0.1);
    assert!(missing.contains("no line for adamw 1 × 1001 on llvmpipe (gpu, f32)"), "{missing}");
    let other = error(Measurement { bytes_per_element: 36.0, ..measurement() }, 0.1);
    assert!(other.contains("the settings differ"), "{other}");
    assert!(error(measurement(), -0.1).contains("-0.1"));
    assert!(error(measurement(), f64::NAN).contains("NaN"));
}

#[test]
fn baselines_are_read_or_refused_with_their_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("baseline.jsonl");
    let line = serde_json::to_string(&measurement()).expect("plain data");
    let read = |text: &str| {
        std::fs::write(&path, text).expect("it can be written");
        read_baseline(&path)
    };
    assert_eq!(read(&format!("{{\"schema\":1,\"cpu\":\"x\"}}\n{line}\n")).expect("it is good"), [measurement()]);
    for (text, problem) in [
        (String::new(), "it holds no measurement"),
        ("{\"schema\":1}".to_owned(), "it holds no measurement"),
        (format!("{line}\n{{\"schema\":99}}"), "line 2: schema is 99, needs 1"),
        (format!("{line}\n\n{}", &line[..20]), "line 3: not JSON"),
        (format!("{line}\n{line}"), "line 2: adamw 1 × 1000 on llvmpipe (gpu, f32) appears twice, first in line 1"),
        (line.replace("\"gb_per_s\":8.0", "\"gb_per_s\":0.0"), "line 1: gb_per_s is 0"),
        (line.replace("\"gpu\"", "\"tpu\""), "line 1: not a measurement"),
        (line.replace("stream_gb_per_s", "streams"), "line 1: not a measurement"),
    ] {
        let error = read(&text).expect_err(problem).to_string();
        assert!(error.contains(problem) && error.contains("baseline.jsonl"), "{error}");
    }
    let missing = read_baseline(&folder.path().join("nothing.jsonl")).expect_err("it is not there");
    assert!(missing.to_string().contains("nothing.jsonl"));
}
