//! Checks of every entry of the registry: its WGSL compiles, and the Rust side names the same members.

use std::collections::BTreeSet;

use naga::valid::{Capabilities, ValidationFlags, Validator};
use wgpu_optim::Error;
use wgpu_optim::optim::{ALL, Entry, Rule, Value};

/// The count of losses that a step of the rule asks for.
fn losses(rule: &dyn Rule) -> usize {
    rule.procedure().map_or(0, |procedure| procedure.losses())
}

/// The rule's text, with the text that the host adds.
fn complete(rule: &dyn Rule) -> String {
    let mut text = rule.text().to_owned();
    for (name, value) in rule.flags() {
        text += &format!("const {name}: bool = {value};\n");
    }
    if rule.decision().is_empty() && !rule.text().contains("struct Decision") {
        text += "struct Decision { none: f32 }\n";
    }
    if rule.shares_rows() {
        text += "fn wo_square(weight: f32, x: vec4<f32>) -> vec4<f32> { return weight * x * x; }\n";
    }
    if rule.text().contains("wo_agreeing") {
        text += include_str!("../shaders/harness/caution.wgsl");
    }
    let losses = losses(rule);
    if losses > 0 {
        text += &format!("const PROBES = {}u;\n", losses - 1);
    }
    text
}

fn module(rule: &dyn Rule) -> naga::Module {
    let text = complete(rule);
    let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
    Validator::new(ValidationFlags::all(), Capabilities::default())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{}: {}", rule.name(), e.emit_to_string(&text)));
    module
}

fn members(module: &naga::Module, name: &str) -> Vec<String> {
    let named = |(_, t): &(_, &naga::Type)| t.name.as_deref() == Some(name);
    match module.types.iter().find(named).map(|(_, t)| &t.inner) {
        Some(naga::TypeInner::Struct { members, .. }) => members.iter().filter_map(|m| m.name.clone()).collect(),
        other => panic!("no struct {name}: {other:?}"),
    }
}

fn functions(module: &naga::Module) -> BTreeSet<&str> {
    module.functions.iter().filter_map(|(_, f)| f.name.as_deref()).collect()
}

fn for_all(mut check: impl FnMut(&Entry, &str, &dyn Rule)) {
    for entry in ALL {
        for (variant, rule) in entry.variants() {
            rule.check().unwrap_or_else(|e| panic!("{} {variant}: {e}", entry.name));
            check(entry, &format!("{} {variant}", entry.name), rule.as_ref());
        }
    }
}

#[test]
fn wgsl_compiles_and_names_the_same_members() {
    for_all(|entry, what, rule| {
        let module = module(rule);
        assert_eq!(members(&module, "Hyper"), entry.hyper_names, "{what}");
        assert_eq!(members(&module, "State"), entry.state_names, "{what}");
        if !rule.decision().is_empty() {
            assert_eq!(members(&module, "Decision"), rule.decision(), "{what}");
        }
        if !rule.global_state().is_empty() {
            assert_eq!(members(&module, "GlobalState"), rule.global_state(), "{what}");
        }
    });
}

#[test]
fn wgsl_has_the_functions_that_the_sums_call_for() {
    for_all(|entry, what, rule| {
        let (module, of_rule) = (module(rule), rule.sums());
        // One text serves settings with and without sums.
        let variants = entry.variants().into_iter().map(|(_, rule)| rule.sums());
        let sums = variants.max_by_key(|sums| sums.sums).unwrap();
        assert!(of_rule.sums == 0 || (of_rule.sums, of_rule.totals) == (sums.sums, sums.totals), "{what}");
        let functions = functions(&module);
        assert!(functions.contains("update"), "{what}");
        for name in ["contribute", "total"] {
            assert_eq!(functions.contains(name), sums.sums > 0, "{what}: {name}");
        }
        let probes = losses(rule) > 0;
        assert_eq!(functions.contains("decide"), sums.sums > 0 || probes, "{what}");
        assert_eq!(functions.contains("hold"), sums.may_hold, "{what}");
        assert_eq!(functions.contains("refuse"), sums.may_refuse, "{what}");
        for (name, count) in [("SUMS", sums.sums), ("TOTALS", sums.totals)] {
            let line = format!("const {name} = {count}u;");
            assert_eq!(rule.text().contains(&line), sums.sums > 0, "{what}: {line}");
        }
    });
}

#[test]
fn scalars_and_states_come_in_the_order_of_their_structs() {
    for_all(|entry, what, rule| {
        let first: Vec<_> = rule.scalars(1).iter().map(|s| (s.name, s.depends)).collect();
        let names: Vec<_> = first.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, entry.hyper_names, "{what}");
        let states: Vec<_> = rule.states().iter().map(|s| s.name).collect();
        assert_eq!(states, entry.state_names, "{what}");
        for t in [2, 5, 6, 1000, 1_000_000, u64::from(u32::MAX)] {
            let scalars = rule.scalars(t);
            assert!(scalars.iter().all(|s| s.value().is_finite()), "{what}, t = {t}: {scalars:?}");
            assert_eq!(scalars.iter().map(|s| (s.name, s.depends)).collect::<Vec<_>>(), first, "{what}, t = {t}");
        }
    });
}

#[test]
fn a_scalar_depends_on_the_same_for_all_settings() {
    for entry in ALL {
        let of = |rule: &dyn Rule| rule.scalars(3).iter().map(|s| (s.name, s.depends)).collect::<Vec<_>>();
        let sample = of(entry.sample().as_ref());
        for (variant, rule) in entry.variants() {
            assert_eq!(of(rule.as_ref()), sample, "{} {variant}", entry.name);
        }
    }
}

#[test]
fn variants_use_every_state_and_never_leave_decay_at_zero() {
    for entry in ALL {
        let mut variants = entry.variants();
        if entry.settings.contains(&"integrator") {
            let staged = entry.configure([("integrator", Value::Word("rk4".to_owned()))]).expect("valid");
            variants.push(("rk4", staged));
        }
        for (at, name) in entry.state_names.iter().enumerate() {
            assert!(variants.iter().any(|(_, rule)| rule.states()[at].used), "{}: {name} is never used", entry.name);
        }
        for (variant, rule) in &variants {
            for (setting, value) in rule.settings() {
                let zero = matches!(value, Value::Number(x) if x == 0.0);
                assert!(!(setting == "weight_decay" && zero), "{} {variant}", entry.name);
            }
        }
    }
}

#[test]
fn every_rule_file_has_its_entry_and_every_entry_its_files() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let files: BTreeSet<String> = std::fs::read_dir(root.join("shaders/rules"))
        .expect("shaders/rules is there")
        .filter_map(|file| file.ok()?.file_name().into_string().ok()?.strip_suffix(".wgsl").map(str::to_owned))
        .collect();
    let stems: BTreeSet<String> = ALL.iter().map(|e| e.stem.to_owned()).collect();
    assert_eq!(files, stems);
    for stem in stems {
        assert!(root.join(format!("src/optim/{stem}.rs")).is_file(), "{stem}");
    }
}

#[test]
fn names_are_unique() {
    let names: BTreeSet<_> = ALL.iter().map(|e| e.name).collect();
    assert_eq!(names.len(), ALL.len());
}

/// A setting accepts exactly the values that the registry documents.
#[test]
fn settings_accept_the_documented_values() {
    for entry in ALL {
        let specs = entry.setting_specs();
        assert_eq!(specs.iter().map(|spec| spec.name).collect::<Vec<_>>(), entry.settings, "{}", entry.name);
        let required: Vec<_> = entry.required.iter().map(|name| (*name, Value::Number(0.5))).collect();
        for spec in specs {
            let with = |value: Value| entry.configure(required.iter().cloned().chain([(spec.name, value)])).map(drop);
            match &spec.default {
                Some(value) => assert!(with(value.clone()).is_ok(), "{}: {spec:?}", entry.name),
                None => assert!(entry.required.contains(&spec.name), "{}: {spec:?}", entry.name),
            }
            let needs = |value: Value| match with(value.clone()) {
                Err(Error::Setting { needs, .. }) => needs.into_owned(),
                other => panic!("{}: {} = {value}: {other:?}", entry.name, spec.name),
            };
            // Words and flags have no range, and accept no number. The error of a number out of range names the range.
            let words = spec.accepts.starts_with("one of ") || spec.accepts == "true or false";
            let refused = needs(Value::Number(if words { 1.0 } else { 1e300 }));
            // Beyond f32 the error adds f32's limit.
            let refused = refused.split(" that f32 holds: ").next().unwrap().to_owned();
            let whole = refused == "a whole number of at least 0";
            assert!(
                spec.accepts.starts_with(&refused) || (whole && spec.accepts.contains("whole")),
                "{spec:?}: {refused}"
            );
        }
    }
}

/// The GPU relies on this: a rate of a rule of this crate never alters the rows that are written ahead.
#[test]
fn no_rule_computes_its_rate_ahead() {
    for entry in ALL {
        for (variant, rule) in entry.variants() {
            let mut other = rule.boxed();
            other.set("lr", &Value::Number(0.037)).unwrap();
            for t in 1..=600 {
                let counts = |rule: &dyn Rule| rule.scalars(t).iter().map(|s| s.count).collect::<Vec<_>>();
                assert_eq!(counts(rule.as_ref()), counts(other.as_ref()), "{} {variant} t {t}", entry.name);
            }
        }
    }
}
