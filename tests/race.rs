//! Races: equal terms, tuning, followers, treatments, reports, and resuming after an interruption.
#![cfg(feature = "tools")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support {
    pub(crate) mod device;
    pub(crate) mod gpu;
}

use wgpu_optim::optim;
use wgpu_optim::optim::{Adam, AdamW, CustomRule, FlowAdam, Range, Rule, SAdam, VRAdam, Value};
use wgpu_optim::tools::backend::Backend;
use wgpu_optim::tools::race;
use wgpu_optim::tools::race::{
    Budget, Entrant, Event, Heat, Ledger, Length, Outcome, Plan, Race, Rate, Role, Size, Track, Treatment, report,
};
use wgpu_optim::tools::report::Run;

use support::gpu::GPU;

fn small() -> Track {
    let settings =
        [("rows", 20.0), ("columns", 24.0), ("rank", 2.0), ("extra_rank", 0.0), ("density", 0.7), ("init", 0.3)];
    Track::new("matrix", settings.map(|(name, value)| (name, Value::Number(value)))).unwrap()
}

fn adam(lr: f64) -> Adam {
    Adam { lr, ..Adam::default() }
}

fn rival(label: &str, rule: impl Into<Box<dyn Rule>>) -> Entrant {
    Entrant::new(label, Role::Rival, rule)
}

fn plan(steps: u64, entrants: Vec<Entrant>) -> Plan {
    let heat = Heat::new("small", "A test.", small(), steps, entrants);
    Plan { seeds: Some(3), ..Plan::new("test", vec![heat]) }
}

fn run(plan: &Plan) -> Race {
    race::run(plan, &Backend::Cpu, &mut Ledger::default(), |_| {}).unwrap()
}

fn errors(race: &Race, entrant: &str) -> Vec<f64> {
    race.of("small", entrant).map(Outcome::error).collect()
}

/// An outcome without its seconds.
fn numbers(race: &Race) -> Vec<Outcome> {
    let timeless = |outcome: &Outcome| {
        let mut outcome = outcome.clone();
        outcome.cost.seconds = 0.0;
        outcome
    };
    race.outcomes.iter().map(timeless).collect()
}

#[test]
fn a_race_gives_the_same_numbers_again() {
    let mut plan = plan(30, vec![rival("adam", adam(0.01)), rival("sadam", SAdam { lr: 0.01, ..SAdam::default() })]);
    plan.tune = true;
    let (first, second) = (run(&plan), run(&plan));
    assert_eq!(numbers(&first), numbers(&second));
    assert_eq!(first.tuned, second.tuned);
    assert!(errors(&first, "adam").iter().all(|error| error.is_finite() && *error > 0.0));
}

#[test]
fn a_seed_decides_data_and_start_for_all_entrants() {
    let race = run(&plan(20, vec![rival("one", adam(0.01)), rival("other", adam(0.01))]));
    assert_eq!(errors(&race, "one"), errors(&race, "other"));
    let [a, b, c] = errors(&race, "one")[..] else { panic!("three seeds") };
    assert!(a != b && b != c && a != c);
    let seeds: Vec<u64> = race.of("small", "one").map(|outcome| outcome.key.seed).collect();
    assert_eq!(seeds, [42, 123, 456]);
    let start = |entrant| race.of("small", entrant).map(|o| o.points[0].loss).collect::<Vec<_>>();
    assert_eq!(start("one"), start("other"));
}

#[test]
fn standings_are_paired_with_the_subject() {
    let subject = Entrant::new("slow", Role::Subject, adam(1e-4));
    let plan = plan(40, vec![subject, rival("fast", adam(0.03)).published(0.1, Some(0.01))]);
    let race = run(&plan);
    let standings = race::standings(&plan, &race);
    let [slow, fast] = &standings[..] else { panic!("two entrants") };
    assert_eq!((slow.role, slow.difference, slow.published), ("subject", None, None));
    assert_eq!((slow.wins, fast.wins, fast.beaten, fast.runs), (0, 3, 0, 3));
    let difference = fast.difference.unwrap();
    let pairs: Vec<f64> = errors(&race, "slow").iter().zip(errors(&race, "fast")).map(|(a, b)| a - b).collect();
    assert!((difference.mean - pairs.iter().sum::<f64>() / 3.0).abs() < 1e-12 && difference.pairs == 3);
    assert!(difference.excludes_zero() && difference.low > 0.0);
    let relative = fast.relative.unwrap();
    assert!((relative.mean - difference.mean / fast.error.unwrap().mean).abs() < 1e-12);
    assert_eq!(fast.published, Some((0.1, Some(0.01))));
}

#[test]
fn tuning_chooses_by_validation_and_widens() {
    // Plain descent on a mean over some hundred entries needs rates far above the last of the grid.
    let mut plan = plan(60, vec![rival("sgd", wgpu_optim::Sgd::default()), rival("adam", adam(1.0))]);
    plan.tune = true;
    let race = run(&plan);
    let search = race.search("small", "sgd").unwrap();
    let best = search.best().unwrap().rate();
    assert!(best > 0.1 && !search.at_limit(), "{best}");
    assert!(search.scores().count() > 7);
    let best_score = search.scores().map(|(_, score)| score).fold(f64::INFINITY, f64::min);
    let validation: f64 = race.of("small", "sgd").map(|o| o.validation.unwrap()).sum::<f64>() / 3.0;
    assert!((validation - best_score).abs() < 1e-12);
    assert!(race.of("small", "adam").all(|outcome| outcome.lr.unwrap() < 1.0));
}

#[test]
fn a_fixed_rate_is_not_tuned() {
    let mut plan = plan(20, vec![rival("adam", adam(0.5)).rate(Rate::Fixed)]);
    plan.tune = true;
    let race = run(&plan);
    assert!(race.tuned.is_empty() && race.of("small", "adam").all(|o| o.lr == Some(0.5)));
}

#[test]
fn a_rule_that_finds_its_rate_is_not_tuned() {
    let mut plan = plan(20, vec![rival("prodigy", wgpu_optim::Prodigy::default()), rival("adam", adam(0.5))]);
    plan.tune = true;
    let race = run(&plan);
    assert!(race.search("small", "prodigy").is_none() && race.search("small", "adam").is_some());
    assert!(race.of("small", "prodigy").all(|o| o.lr == Some(1.0)));
}

#[test]
fn rates_are_judged_by_the_seeds_of_the_heat() {
    let mut plan = plan(5, vec![rival("adam", adam(0.5))]);
    plan.tune = true;
    let seeds = |plan: &Plan| {
        let mut seeds = std::collections::BTreeMap::<bool, Vec<u64>>::new();
        race::run(plan, &Backend::Cpu, &mut Ledger::default(), |event| {
            if let Event::Ended(outcome) = event {
                seeds.entry(plan.heats[0].tuning.contains(&outcome.key.seed)).or_default().push(outcome.key.seed);
            }
        })
        .unwrap();
        seeds.values_mut().for_each(|seeds| seeds.sort_unstable()); // two threads end in any order
        seeds
    };
    plan.heats[0].tuning = vec![1, 2, 1001, 1002];
    let seen = seeds(&plan);
    assert!(seen[&true].iter().all(|seed| [1, 2, 1001].contains(seed)) && seen[&true].len() >= 3 * 7);
    assert_eq!(seen[&false], [42, 123, 456]);
    plan.seeds = Some(1);
    assert!(seeds(&plan)[&true].iter().all(|seed| *seed == 1), "no more than the race has");
    assert_eq!(plan.heats[0].seeds(Some(7)), [42, 123, 456, 789, 999, 3, 4], "further seeds judged no rate");
}

#[test]
fn a_run_with_patience_ends_after_its_best_point() {
    let mut plan = plan(2000, vec![rival("adam", adam(0.1))]);
    plan.heats[0].patience = Some(30);
    for outcome in &run(&plan).outcomes {
        let error = |of: &race::Point| of.validation.unwrap();
        let best = outcome.points.iter().min_by(|a, b| error(a).total_cmp(&error(b))).unwrap();
        assert_eq!((outcome.validation, outcome.test, outcome.early), (best.validation, best.test, best.test));
        let last = outcome.points.last().unwrap();
        assert!(last.test != best.test && (30..=33).contains(&(last.step - best.step)), "{} {}", last.step, best.step);
        assert_eq!((outcome.cost.steps, outcome.key.budget.as_str()), (last.step, "steps:2000, patience 30"));
        let gaps = outcome.points.windows(2).map(|pair| pair[1].step - pair[0].step);
        assert!(gaps.clone().all(|gap| gap <= 3), "{:?}", gaps.collect::<Vec<_>>());
    }
    plan.heats[0].patience = Some(2000);
    assert!(run(&plan).outcomes.iter().all(|outcome| outcome.cost.steps == 2000));
}

#[test]
fn followers_take_rates_damping_and_evaluations_from_their_leaders() {
    let sadam = SAdam { lr: 0.02, k: 4, weight_decay: 0.1, ..SAdam::default() };
    let adamw = AdamW { weight_decay: 0.1, ..AdamW::default() };
    let of = || "sadam".to_owned();
    let plan = plan(
        25,
        vec![
            rival("damped", adamw).rate(Rate::MeanDamping { of: of() }),
            rival("share", adamw).rate(Rate::Share { of: of(), factor: 0.3 }),
            rival("as long", adamw).length(Length::EvaluationsOf(of())),
            Entrant::new("sadam", Role::Subject, sadam),
        ],
    );
    let race = run(&plan);
    for (at, leader) in race.of("small", "sadam").enumerate() {
        let follower = |label| race.of("small", label).nth(at).unwrap();
        assert_eq!((leader.cost.steps, leader.cost.gradients, leader.cost.losses), (25, 25, 100));
        let damping = leader.damping.unwrap();
        assert!(damping > 0.02 && damping < 1.0, "{damping}");
        let damped = follower("damped");
        assert!((damped.lr.unwrap() - 0.02 * damping).abs() < 1e-12);
        assert!(damped.key.settings.contains(&format!("weight_decay={}", 0.1 / damping)), "{}", damped.key.settings);
        assert_eq!(follower("share").lr, Some(0.006));
        // 25 gradients and 100 losses count as 58.3 gradients.
        assert_eq!(follower("as long").cost.gradients, 58);
    }
}

#[test]
fn storage_belongs_to_an_entrant() {
    let stored = |label: &str, storage: &str| rival(label, adam(0.01)).stored(storage.parse().unwrap());
    let subject = Entrant::new("f32", Role::Subject, adam(0.01));
    let plan = plan(
        60,
        vec![
            subject,
            stored("same", "f32"),
            stored("stochastic", "bf16-sr"),
            stored("nearest", "bf16-nearest,8bit,min=0"),
        ],
    );
    let race = run(&plan);
    assert_eq!(errors(&race, "f32"), errors(&race, "same"));
    assert!(race.of("small", "stochastic").all(|outcome| outcome.key.storage == "bf16-sr"));
    let standings = race::standings(&plan, &race);
    let deviations: Vec<Option<f64>> = standings.iter().map(|s| s.deviations).collect();
    assert_eq!(deviations[..2], [None, None], "f32 is not compared with itself");
    for (standing, deviations) in standings.iter().zip(deviations).skip(2) {
        let (own, f32s) = (standing.error.unwrap(), standings[0].error.unwrap());
        assert_eq!(deviations, Some((own.mean - f32s.mean) / f32s.std), "{}", standing.entrant);
        assert!(own.mean != f32s.mean, "{} is not f32", standing.entrant);
        let (own, f32s) = (standing.loss.unwrap(), standings[0].loss.unwrap());
        assert_eq!(standing.loss_deviations, Some((own.mean - f32s.mean) / f32s.std), "{}", standing.entrant);
    }
    // The problem is evaluated with the stored parameters, so that the first loss is that of rounded parameters.
    let start = |entrant| race.of("small", entrant).map(|o| o.points[0].loss).collect::<Vec<_>>();
    assert!(start("f32") != start("stochastic") && start("stochastic") == start("nearest"));
}

#[test]
fn entrants_of_the_storage_suite_differ_in_storage_only() {
    let plan = race::suite("storage").unwrap().plan(Size::Full, None).unwrap();
    for heat in &plan.heats {
        assert_eq!(heat.seeds(plan.seeds).len(), 10);
        let subject = heat.subject().unwrap();
        assert_eq!(subject.storage, wgpu_optim::Storage::default());
        for entrant in &heat.entrants {
            assert_eq!(entrant.rule.settings(), subject.rule.settings());
            assert!(
                entrant.role == Role::Subject || entrant.storage.to_string() == format!("{},min=256", entrant.label)
            );
        }
    }
}

#[test]
fn a_treatment_changes_only_what_it_names() {
    let flow = FlowAdam { lr: 0.01, ..FlowAdam::default() };
    let adamw = AdamW { lr: 0.01, ..AdamW::default() };
    let damped = |lambda| Treatment::RandomDamping { probes: 8, lambda };
    let plan = plan(
        60,
        vec![
            rival("flow", flow),
            rival("stays", flow).treatment(Treatment::Stay),
            rival("adamw", adamw),
            rival("undamped", adamw).treatment(damped(0.0)),
            rival("damped", adamw).treatment(damped(2.0)),
        ],
    );
    let race = run(&plan);
    let triggers = |label| race.of("small", label).map(|o| o.triggers.unwrap()).collect::<Vec<_>>();
    assert!(triggers("flow").iter().all(|n| (15..=45).contains(n)), "{:?}", triggers("flow"));
    assert_ne!(errors(&race, "flow"), errors(&race, "stays"));
    assert_eq!(errors(&race, "adamw"), errors(&race, "undamped"));
    // With a seventh of the rate, parameters get less far from a start near 0.
    for (slow, fast) in errors(&race, "damped").iter().zip(errors(&race, "adamw")) {
        assert!(*slow > fast, "{slow} {fast}");
    }
    assert!(race.of("small", "adamw").all(|o| o.triggers.is_none() && o.damping.is_none()));
}

#[test]
fn a_learned_matrix_helps_on_unseen_tasks_of_its_family() {
    let mut plan = race::suite("paper-warpadam").unwrap().plan(Size::Quick, None).unwrap();
    plan.heats[0].steps = 60;
    plan.seeds = Some(2);
    let race = run(&plan);
    let heat = plan.heats[0].name.as_str();
    let errors = |label| race.of(heat, label).map(Outcome::error).collect::<Vec<_>>();
    let (adam, identity) = (errors("adam"), errors("warpadam, P = I"));
    for (a, b) in adam.iter().zip(&identity) {
        assert!((a - b).abs() < 1e-4 * a, "{a} {b}");
    }
    assert_ne!(errors("warpadam, learned and frozen"), identity);
}

#[test]
fn a_custom_rule_enters_on_equal_terms() {
    let own = CustomRule::from_wgsl(
        "own",
        "struct Hyper { lr: f32 }
         fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
             return -h.lr * g;
         }",
    );
    let own = own.unwrap().setting("lr", 1.0, Range::NOT_NEGATIVE).cpu(|h, _p, g, _s| -h[0] * g);
    let sgd = wgpu_optim::Sgd { lr: 1.0, ..wgpu_optim::Sgd::default() };
    let mut plan = plan(30, vec![rival("own", own), rival("sgd", sgd)]);
    // The closure and the crate's rule may round differently.
    let alike = |race: &Race| {
        for (own, sgd) in errors(race, "own").iter().zip(errors(race, "sgd")) {
            assert!((own - sgd).abs() < 1e-4 * sgd, "{own} {sgd}");
        }
    };
    alike(&run(&plan));
    plan.tune = true;
    let race = run(&plan);
    let best = |label| race.search("small", label).unwrap().best();
    assert_eq!(best("own"), best("sgd"));
    alike(&race);
}

#[test]
fn diverged_runs_are_counted_and_lose() {
    let sgd = |lr| wgpu_optim::Sgd { lr, ..wgpu_optim::Sgd::default() };
    let plan = plan(50, vec![Entrant::new("astray", Role::Subject, sgd(1e6)), rival("adam", adam(0.01))]);
    let standings = race::standings(&plan, &run(&plan));
    assert_eq!((standings[0].diverged, standings[0].error, standings[0].wins), (3, None, 0));
    assert_eq!((standings[1].diverged, standings[1].difference, standings[1].wins), (0, None, 3));
}

/// Runs that diverge are read back, and their reports are drawn: numbers that are not finite are in neither.
#[test]
fn a_race_that_diverges_resumes_and_has_a_report() {
    let directory = tempfile::tempdir().unwrap();
    let valley = Track::new("rosenbrock", [("spread", Value::Number(0.1))]).unwrap();
    let astray = [
        rival("sgd", wgpu_optim::Sgd { lr: 1e30, ..wgpu_optim::Sgd::default() }),
        rival("sadam", SAdam { lr: 1e30, ..SAdam::default() }),
        rival("adam", adam(1e30)),
    ];
    // The rate that VRAdam decides on is 0/0 of this rate.
    let still = rival("still", VRAdam { lr: 0.0, ..VRAdam::default() });
    let mut plan = plan(30, [&astray[..], &[still]].concat());
    // The first step leaves f32.
    let far = rival("far", wgpu_optim::Sgd { lr: 3e38, ..wgpu_optim::Sgd::default() });
    plan.heats.push(Heat::new("valley", "Another.", valley, 30, [&astray[..], &[far]].concat()));
    let race = || {
        let mut ledger = Ledger::open(directory.path()).unwrap();
        let mut made = 0;
        let race = race::run(&plan, &Backend::Cpu, &mut ledger, |event| {
            made += usize::from(matches!(event, Event::Ended(_)));
        });
        (race.unwrap(), made)
    };
    let (first, made) = race();
    assert_eq!(made, 24);
    assert!(first.outcomes.iter().any(|outcome| outcome.diverged));
    let places = || first.outcomes.iter().flat_map(|outcome| outcome.path.iter().flatten());
    assert!(places().count() > 0 && places().all(|x| x.is_finite()));
    for outcome in &first.outcomes {
        let dampings = outcome.points.iter().map(|point| point.damping).chain([outcome.damping]);
        assert!(dampings.flatten().all(f64::is_finite), "{:?}", outcome.key);
    }
    let (second, made) = race();
    assert_eq!((made, numbers(&second)), (0, numbers(&first)));
    let about = report::About { run: &Run::now(None), command: "wgpu-optim race test", backend: "the CPU" };
    report::write(directory.path(), &plan, &first, &race::standings(&plan, &first), &about).unwrap();
}

#[test]
fn budgets_end_runs() {
    let sadam = SAdam { lr: 0.01, ..SAdam::default() };
    let mut plan = plan(40, vec![rival("adam", adam(0.01)), rival("sadam", sadam)]);
    plan.budget = Some(Budget::Evaluations(None));
    let race = run(&plan);
    assert!(race.of("small", "adam").all(|o| o.cost.gradients == 40));
    // A step with two probes costs one gradient and two thirds.
    assert!(race.of("small", "sadam").all(|o| o.cost.gradients == 24 && o.cost.losses == 48));
    plan.budget = Some(Budget::Seconds(0.05));
    assert!(run(&plan).outcomes.iter().all(|o| o.cost.seconds >= 0.05 && o.cost.steps > 0));
    plan.budget = None;
    plan.heats[0].until = Some(f64::MAX);
    assert!(run(&plan).outcomes.iter().all(|o| o.cost.steps == 1));
}

#[test]
fn an_interrupted_race_resumes() {
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(10, vec![rival("adam", adam(0.01)), rival("adamw", AdamW::default())]);
    let race = |directory: &std::path::Path| {
        let mut made = 0;
        let mut ledger = Ledger::open(directory)?;
        let race = race::run(&plan, &Backend::Cpu, &mut ledger, |event| {
            made += usize::from(matches!(event, Event::Ended(_)));
        });
        race.map(|race| (race, made))
    };
    let (whole, made) = race(directory.path()).unwrap();
    assert_eq!(made, 6);
    // The file loses its end, from the middle of a line.
    let file = directory.path().join("runs.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let fourth = text.match_indices('\n').nth(3).unwrap().0;
    std::fs::write(&file, &text[..fourth + 100]).unwrap();
    let (resumed, made) = race(directory.path()).unwrap();
    assert_eq!((made, numbers(&resumed)), (2, numbers(&whole)));
    assert_eq!(race(directory.path()).unwrap().1, 0);
    std::fs::write(&file, "{}\n").unwrap();
    let error = race(directory.path()).unwrap_err().to_string();
    assert!(error.contains("runs.jsonl: line 1 is not a run of this version"), "{error}");
}

#[test]
fn reports_hold_tables_runs_and_plots() {
    let directory = tempfile::tempdir().unwrap();
    let mut plan =
        plan(60, vec![Entrant::new("flowadam", Role::Subject, FlowAdam { lr: 0.01, ..FlowAdam::default() })]);
    plan.heats[0].entrants.push(Entrant::new("sadam, \"k 2\"", Role::Control, SAdam { lr: 0.01, ..SAdam::default() }));
    let valley = Track::new("rosenbrock", [("spread", Value::Number(0.1))]).unwrap();
    plan.heats.push(Heat::new("valley", "Another.", valley, 30, vec![rival("adam", adam(0.01))]));
    plan.tune = true;
    let race = run(&plan);
    let about = report::About { run: &Run::now(None), command: "wgpu-optim race test", backend: "the CPU" };
    report::write(directory.path(), &plan, &race, &race::standings(&plan, &race), &about).unwrap();
    let read =
        |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (markdown, csv) = (read("report.md"), read("runs.csv"));
    assert!(markdown.contains("`wgpu-optim race test`") && markdown.contains("| **flowadam** |"), "{markdown}");
    assert!(markdown.contains("A smoke run: with 3 seeds, "), "{markdown}");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + race.outcomes.len());
    assert!(lines[0].starts_with("suite,heat,problem,entrant,") && csv.contains("\"sadam, \"\"k 2\"\"\""), "{csv}");
    let kinds =
        ["small-loss", "small-error", "small-triggers", "small-damping", "small-rates", "valley-loss", "valley-paths"];
    for kind in kinds {
        let file = format!("{kind}.svg");
        let svg = read(&file);
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{file}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{file}");
        assert!(markdown.contains(&format!("]({file})")), "{file} is not in {markdown}");
    }
    assert!(!directory.path().join("valley-triggers.svg").exists());
}

/// The texts of an SVG, with their places.
fn texts(svg: &str) -> Vec<(f64, String)> {
    let texts = svg.split("<text ").skip(1).map(|rest| {
        let x = rest.split_once("x=\"").unwrap().1.split_once('"').unwrap().0.parse().unwrap();
        (x, rest.split_once('>').unwrap().1.split_once('<').unwrap().0.trim().to_owned())
    });
    texts.collect()
}

/// The least and the greatest x of all shapes in a colour left of `end`, and the number of shapes of each kind.
fn drawn(svg: &str, color: &str, end: f64) -> (usize, usize, f64) {
    let points = |line: &str| -> Vec<f64> {
        let list = line.split_once("points=\"").map_or("", |(_, rest)| rest.split_once('"').unwrap().0);
        list.split_whitespace().map(|point| point.split_once(',').unwrap().0.parse().unwrap()).collect()
    };
    let of = |kind: &str, paint: &str| -> Vec<f64> {
        let lines = svg.lines().filter(|line| line.starts_with(kind) && line.contains(&format!("{paint}=\"{color}\"")));
        let ends = lines.filter(|line| line.contains("opacity=\"1\"")).map(points);
        ends.filter_map(|xs| xs.into_iter().reduce(f64::max)).filter(|x| *x < end).collect()
    };
    let circles = |line: &&str| line.starts_with("<circle") && line.contains(color);
    let center = |line: &str| line.split_once("cx=\"").unwrap().1.split_once('"').unwrap().0.parse::<f64>().unwrap();
    let circles = svg.lines().filter(circles).filter(|line| center(line) < end).count();
    let lines = of("<polyline", "stroke");
    (lines.len(), circles + of("<polygon", "fill").len(), lines.into_iter().fold(0.0, f64::max))
}

#[test]
fn plots_show_equal_curves_round_ticks_and_a_legend_beside_them() {
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(120, vec![rival("one", adam(0.01)), rival("same", adam(0.01)), rival("other", adam(0.03))]);
    let race = run(&plan);
    assert_eq!(errors(&race, "one"), errors(&race, "same"));
    let about = report::About { run: &Run::now(None), command: "", backend: "the CPU" };
    report::write(directory.path(), &plan, &race, &race::standings(&plan, &race), &about).unwrap();
    let svg = std::fs::read_to_string(directory.path().join("small-loss.svg")).unwrap();
    let texts = texts(&svg);
    let legend = |label: &str| texts.iter().find(|(_, text)| text == label).unwrap_or_else(|| panic!("{label}")).0;
    let end = legend("one") - 50.0;
    let ticks: Vec<&str> = texts.iter().map(|(_, text)| text.as_str()).filter(|t| t.parse::<f64>().is_ok()).collect();
    for tick in ["0", "20", "40", "60", "80", "100", "120"] {
        assert!(ticks.contains(&tick), "{tick} is not in {ticks:?}");
    }
    assert!(ticks.iter().all(|tick| !tick.contains('.') || !tick.ends_with('0')), "{ticks:?}");
    for (label, color) in [("one", "#0072B2"), ("same", "#D55E00"), ("other", "#009E73")] {
        let (lines, marks, last) = drawn(&svg, color, end);
        assert_eq!((marks, legend(label)), (5, legend("one")), "{label}");
        assert!(
            lines > 0 && last > 800.0 && last < end,
            "{label}: the curves end at {last}, before the legend at {end}"
        );
    }
    let dashes = drawn(&svg, "#D55E00", end).0;
    assert!(drawn(&svg, "#0072B2", end).0 == 1 && dashes > 10, "the dashes of the second show the first: {dashes}");
}

#[test]
fn a_race_with_few_seeds_is_labelled_a_smoke_run() {
    let mut plan = plan(5, vec![rival("adam", adam(0.01))]);
    let caution = |plan: &Plan| {
        let standings = race::standings(plan, &run(plan));
        report::caution(&standings.iter().collect::<Vec<_>>())
    };
    assert!(caution(&plan).is_some_and(|text| text.contains("smoke run: with 3 seeds")));
    plan.seeds = Some(1);
    assert!(caution(&plan).is_some_and(|text| text.contains("smoke run: with 1 seed,")));
    plan.seeds = Some(5);
    assert_eq!(caution(&plan), None);
}

#[test]
fn a_race_on_the_gpu_ends_where_the_hosts_does() {
    let damped = Treatment::RandomDamping { probes: 8, lambda: 2.0 };
    let flow = FlowAdam { lr: 0.01, ..FlowAdam::default() };
    let mut plan = plan(
        20,
        vec![
            rival("adam", adam(0.01)),
            rival("damped", AdamW { lr: 0.01, ..AdamW::default() }).treatment(damped),
            rival("flow", flow),
            rival("flow, dopri5", FlowAdam { integrator: wgpu_optim::optim::Integrator::Dopri5, ..flow }),
            rival("sadam", SAdam { lr: 0.01, ..SAdam::default() }),
            rival("warpadam", wgpu_optim::optim::WarpAdam { lr: 0.01, ..wgpu_optim::optim::WarpAdam::default() }),
        ],
    );
    plan.seeds = Some(1);
    let backend = Backend::Gpu(Box::new(GPU.clone()));
    let theirs = race::run(&plan, &backend, &mut Ledger::default(), |_| {}).unwrap();
    let ours = run(&plan);
    for (theirs, ours) in theirs.outcomes.iter().zip(&ours.outcomes) {
        assert_eq!((&theirs.key.entrant, theirs.triggers), (&ours.key.entrant, ours.triggers));
        // On the GPU a gradient gives no loss, so that S-Adam also requests the loss at the parameters.
        let evaluations = |o: &Outcome, more: u64| (o.cost.steps, o.cost.gradients, o.cost.losses + more);
        let more = if ours.cost.losses > 0 { 20 } else { 0 };
        assert_eq!(evaluations(theirs, 0), evaluations(ours, more), "{}", ours.key.entrant);
        // S-Adam divides differences of f32 losses, which the two backends sum in different orders.
        let tolerance = if ours.cost.losses > 0 { 0.05 } else { 1e-3 };
        let (a, b) = (theirs.error(), ours.error());
        assert!((a - b).abs() < tolerance * b, "{}: {a} {b}", ours.key.entrant);
    }
    plan.heats[0].entrants[2].treatment = Treatment::Stay;
    let error = race::run(&plan, &backend, &mut Ledger::default(), |_| {}).unwrap_err().to_string();
    assert!(error.contains("needs --backend cpu or reference"), "{error}");
}

/// The daily race with the steps and the problem of a test.
fn daily() -> Plan {
    let mut plan = race::suite("daily").unwrap().plan(Size::Full, None).unwrap();
    for heat in &mut plan.heats {
        assert_eq!(heat.seeds(plan.seeds).len(), 10);
        assert!(plan.tune && heat.tuning_seeds(plan.seeds).len() == 3);
        assert!(heat.tuning.iter().all(|seed| !heat.seeds.contains(seed)), "rates are judged by other seeds");
        (heat.track, heat.steps) = (small(), 4);
    }
    plan.seeds = Some(2);
    plan
}

#[test]
fn every_rule_enters_the_daily_race() {
    let mut plan = daily();
    assert_eq!(plan.heats.iter().map(|heat| heat.name.as_str()).collect::<Vec<_>>(), ["digits", "matrix"]);
    for heat in &plan.heats {
        let labels = heat.entrants.iter().map(|entrant| entrant.label.as_str());
        let rules = optim::ALL.iter().map(|entry| entry.name).chain(["sgd, momentum"]);
        assert_eq!(labels.collect::<Vec<_>>(), rules.collect::<Vec<_>>());
        assert_eq!(heat.subject().unwrap().label, "adamw");
    }
    plan.keep(&["matrix".to_owned()]).unwrap();
    let race = run(&plan);
    let standings = race::standings(&plan, &race);
    let of = |label: &str| standings.iter().find(|standing| standing.entrant == label).unwrap();
    for standing in &standings {
        let search = race.search("matrix", &standing.entrant);
        assert_eq!(search.is_none(), standing.entrant == "prodigy", "{}", standing.entrant);
        assert_eq!(standing.lr, search.map_or(Some(1.0), |search| search.best().map(race::GridPoint::rate)));
        assert_eq!((standing.runs, standing.error.is_some()), (2, true), "{}", standing.entrant);
        assert_eq!(standing.difference.is_none(), standing.entrant == "adamw");
    }
    let bytes = ["sgd", "sgd, momentum", "adamw", "prodigy", "warpadam"].map(|label| of(label).state_bytes.unwrap());
    assert_eq!(bytes[..4], [0.0, 4.0, 8.0, 16.0]);
    assert!(bytes[4] > 8.0 + 4.0, "the matrices count: {}", bytes[4]);
    // The gradients of four steps, and S-Adam's two losses beside each.
    assert_eq!((of("adamw").evaluations, of("sadam").evaluations), (4.0, 4.0 + 8.0 / 3.0));
}

#[test]
fn the_report_of_the_daily_race_says_what_each_rule_costs() {
    let directory = tempfile::tempdir().unwrap();
    let mut plan = daily();
    plan.keep(&["matrix".to_owned()]).unwrap();
    plan.heats[0].entrants.retain(|entrant| ["sgd", "adamw", "prodigy", "sadam"].contains(&entrant.label.as_str()));
    let race = run(&plan);
    let about = report::About { run: &Run::now(None), command: "wgpu-optim race daily", backend: "the CPU" };
    report::write(directory.path(), &plan, &race, &race::standings(&plan, &race), &about).unwrap();
    let markdown = std::fs::read_to_string(directory.path().join("report.md")).unwrap();
    for part in [
        "Rates were judged by the seeds 1001, 1002.",
        "No rate was searched for `prodigy`",
        "| state bytes per parameter | evaluations |",
        "| 0 | 4 |",
        "| 8 | 4 |",
        "| 16 | 4 |",
        // Two states, and a place for the probed parameters.
        "| 12 | 7 |",
        "](matrix-rates.svg)",
    ] {
        assert!(markdown.contains(part), "{part} is not in {markdown}");
    }
    let csv = std::fs::read_to_string(directory.path().join("runs.csv")).unwrap();
    let column = csv.lines().next().unwrap().split(',').position(|head| head == "state_bytes_per_parameter").unwrap();
    assert!(column > 0 && csv.contains(",16,false,"), "{csv}");
    plan.tune = false;
    report::write(directory.path(), &plan, &race, &race::standings(&plan, &race), &about).unwrap();
    let markdown = std::fs::read_to_string(directory.path().join("report.md")).unwrap();
    assert!(!markdown.contains("Rates were judged") && !markdown.contains("No rate was searched"), "{markdown}");
}

#[test]
fn ratings_race_by_the_papers_protocol_with_and_without_biases() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/ratings.tsv");
    let mut plan = race::suite("paper-flowadam").unwrap().plan(Size::Full, Some(file.as_ref())).unwrap();
    plan.keep(&["ratings".to_owned()]).unwrap();
    plan.seeds = Some(1);
    assert_eq!(plan.heats.len(), 2);
    for heat in &mut plan.heats {
        assert_eq!((heat.steps, heat.patience, heat.seeds.len()), (2000, Some(100), 5));
        heat.patience = Some(10);
    }
    let race = run(&plan);
    let error = |heat: &str, entrant| race.of(heat, entrant).next().unwrap().error();
    let [with, without] = [&plan.heats[0], &plan.heats[1]];
    for entrant in &with.entrants {
        assert!(error(&with.name, &entrant.label).is_finite());
        assert!(error(&with.name, &entrant.label) != error(&without.name, &entrant.label), "{}", entrant.label);
    }
}

#[test]
fn every_suite_is_valid() {
    for suite in race::suites() {
        let ratings = suite.name == "ratings";
        for size in [Size::Full, Size::Quick] {
            match suite.plan(size, None) {
                Ok(plan) => plan.check().unwrap_or_else(|e| panic!("{}: {e}", suite.name)),
                Err(error) => assert!(ratings, "{}: {error}", suite.name),
            }
        }
    }
    for paper in ["flowadam", "vradam", "sadam", "warpadam", "adai"] {
        let plan = race::suite(&format!("paper-{paper}")).unwrap().plan(Size::Full, None).unwrap();
        assert!(plan.heats.iter().all(|heat| heat.subject().is_some()), "{paper}");
        assert!(plan.heats.iter().all(|heat| heat.entrants.iter().any(|e| e.role == Role::Control)), "{paper}");
    }
}

#[test]
fn mistakes_are_named() {
    let error = |entrants: Vec<Entrant>| {
        let error = race::run(&plan(5, entrants), &Backend::Cpu, &mut Ledger::default(), |_| {}).unwrap_err();
        error.to_string()
    };
    let follows = |of: &str| Rate::Share { of: of.to_owned(), factor: 1.0 };
    let twice = error(vec![rival("a", adam(0.1)), rival("a", adam(0.2))]);
    assert!(twice.contains("entrant `a` is named twice"), "{twice}");
    let missing = error(vec![rival("a", adam(0.1)).rate(follows("b"))]);
    assert!(missing.contains("`a` follows `b`, which does not exist"), "{missing}");
    let itself = error(vec![rival("a", adam(0.1)).rate(follows("a"))]);
    assert!(itself.contains("which follows another"), "{itself}");
    let undamped =
        error(vec![rival("a", adam(0.1)).rate(Rate::MeanDamping { of: "b".to_owned() }), rival("b", adam(0.1))]);
    assert!(undamped.contains("`b` damps no learning rate"), "{undamped}");
    let range = error(vec![rival("a", adam(-1.0))]);
    assert!(range.contains("adam: lr is -1"), "{range}");
    assert!(error(Vec::new()).contains("0 entrants"));
    let unknown = race::suite("paper-flowadm").map(|s| s.name).unwrap_err().to_string();
    assert!(unknown.contains("did you mean `paper-flowadam`?"), "{unknown}");
    assert!(race::suite("matrix").unwrap().plan(Size::Full, Some("x.csv".as_ref())).is_err());
}
