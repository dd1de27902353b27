//! The plots of a race.

use std::path::Path;

use super::chart::{Chart, Line};
use super::contours::{self, Trail};
use super::curve::Style;
use crate::Result;
use crate::tools::race::outcome::Point;
use crate::tools::race::{Heat, Outcome, Plan, Race};

/// A plot that was written: its heat, its title and its file.
pub(super) struct Plot {
    pub(super) heat: String,
    pub(super) title: &'static str,
    pub(super) file: String,
}

/// The quantity of a point that a plot draws.
struct Kind {
    name: &'static str,
    title: &'static str,
    y: &'static str,
    of: fn(&Point) -> Option<f64>,
}

const KINDS: [Kind; 4] = [
    Kind { name: "loss", title: "training loss", y: "training loss", of: |p| p.loss },
    Kind { name: "error", title: "held-out error", y: "held-out error", of: |p| p.test },
    Kind { name: "triggers", title: "share of steps that fire a trigger", y: "share of steps", of: |p| p.triggered },
    Kind { name: "damping", title: "mean damping: the factor on the learning rate", y: "factor", of: |p| p.damping },
];

/// Writes every plot that has data to show.
pub(super) fn write(directory: &Path, plan: &Plan, race: &Race) -> Result<Vec<Plot>> {
    let mut plots = Vec::new();
    for heat in &plan.heats {
        for kind in KINDS {
            let title = format!("{}: {}, mean and range of the seeds", heat.name, kind.title);
            let lines = curves(heat, race, kind.of);
            let chart = Chart { title: &title, x: "evaluations, counted in gradients", y: kind.y, log_x: false, lines };
            put(&mut plots, directory, heat, kind.name, kind.title, |path| chart.write(path))?;
        }
        let title = format!("{}: validation error by learning rate", heat.name);
        let chart =
            Chart { title: &title, x: "learning rate", y: "validation error", log_x: true, lines: rates(heat, race) };
        put(&mut plots, directory, heat, "rates", "validation error by learning rate", |path| chart.write(path))?;
        put(&mut plots, directory, heat, "paths", "paths of the first seed", |path| paths(path, heat, race))?;
    }
    Ok(plots)
}

fn put(
    plots: &mut Vec<Plot>,
    directory: &Path,
    heat: &Heat,
    name: &str,
    title: &'static str,
    write: impl FnOnce(&Path) -> Result<bool>,
) -> Result<()> {
    let file = file_name(heat, name);
    if write(&directory.join(&file))? {
        plots.push(Plot { heat: heat.name.clone(), title, file });
    }
    Ok(())
}

/// The name of each plot's file.
pub(super) fn names(plan: &Plan) -> impl Iterator<Item = String> {
    let kinds = || KINDS.iter().map(|kind| kind.name).chain(["rates", "paths"]);
    plan.heats.iter().flat_map(move |heat| kinds().map(|kind| file_name(heat, kind)))
}

fn file_name(heat: &Heat, name: &str) -> String {
    format!("{}-{name}.svg", stem(&heat.name))
}

/// A heat's name as the stem of a file name.
fn stem(name: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(kept).collect()
}

/// The curve of each entrant over the evaluations: its k-th point is the mean of the k-th points of the entrant's runs.
fn curves(heat: &Heat, race: &Race, of: fn(&Point) -> Option<f64>) -> Vec<Line> {
    let entrants = heat.entrants.iter().enumerate();
    let line = |(at, entrant): (usize, &crate::tools::race::Entrant)| {
        let runs: Vec<&Outcome> = race.of(&heat.name, &entrant.label).collect();
        let longest = runs.iter().map(|run| run.points.len()).max().unwrap_or(0);
        let points =
            (0..longest).filter_map(|at| joined(runs.iter().filter_map(|run| run.points.get(at)), of)).collect();
        Line { label: entrant.label.clone(), style: Style::new(at, heat.entrants.len()), points }
    };
    entrants.map(line).collect()
}

fn joined<'a>(points: impl Iterator<Item = &'a Point>, of: fn(&Point) -> Option<f64>) -> Option<[f64; 4]> {
    let values: Vec<(f64, f64)> = points.filter_map(|p| Some((p.evaluations, of(p)?))).collect();
    let count = values.len() as f64;
    let (low, high) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
    let mean = |of: fn(&(f64, f64)) -> f64| values.iter().map(of).sum::<f64>() / count;
    (!values.is_empty()).then(|| [mean(|v| v.0), mean(|v| v.1), low, high])
}

/// The scores of each search.
fn rates(heat: &Heat, race: &Race) -> Vec<Line> {
    let line = |(at, entrant): (usize, &crate::tools::race::Entrant)| {
        let search = race.search(&heat.name, &entrant.label)?;
        let scores = search.scores().filter(|(_, score)| score.is_finite());
        let points = scores.map(|(point, score)| [point.rate(), score, score, score]).collect();
        Some(Line { label: entrant.label.clone(), style: Style::new(at, heat.entrants.len()), points })
    };
    heat.entrants.iter().enumerate().filter_map(line).collect()
}

/// The paths of the first seed, for problems of two parameters.
fn paths(path: &Path, heat: &Heat, race: &Race) -> Result<bool> {
    let trail = |(at, entrant): (usize, &crate::tools::race::Entrant)| {
        let run = race.of(&heat.name, &entrant.label).next()?;
        let style = Style::new(at, heat.entrants.len());
        (run.path.len() > 1)
            .then(|| (run.key.seed, Trail { label: entrant.label.clone(), style, points: run.path.clone() }))
    };
    let trails: Vec<(u64, Trail)> = heat.entrants.iter().enumerate().filter_map(trail).collect();
    let Some(seed) = trails.first().map(|(seed, _)| *seed) else { return Ok(false) };
    let problem = heat.track.open(seed, &[])?;
    let mut objective = problem.cpu_f64()?;
    let split = problem.tensors().len() == 2;
    let loss = |[x, y]: [f32; 2]| {
        let at = [f64::from(x), f64::from(y)];
        let tensors: &[&[f64]] = if split { &[&at[..1], &at[1..]] } else { &[&at] };
        objective.loss(tensors, 0).map(|outcome| outcome.loss)
    };
    let trails: Vec<Trail> = trails.into_iter().map(|(_, trail)| trail).collect();
    contours::write(path, &format!("{}: paths of seed {seed}", heat.name), &trails, loss).map(|()| true)
}
