//! The text of the report, and the columns that it shares with the terminal.

use std::fmt::{Arguments, Write as _};

use super::super::{Difference, Heat, Plan, Role, Spread, Standing};
use super::plots::Plot;
use crate::tools::race::outcome::LOSS;
use crate::tools::report::Run;

/// The origin of a report.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// The machine and the time.
    pub run: &'a Run,
    /// The command that repeats the race.
    pub command: &'a str,
    /// The backend that ran the race.
    pub backend: &'a str,
}

/// With fewer seeds than this, a bootstrap interval says little.
const ENOUGH_SEEDS: usize = 5;

pub(super) fn text(plan: &Plan, standings: &[Standing], plots: &[Plot], about: &About<'_>) -> String {
    let mut text = String::new();
    head(&mut text, plan, about);
    for heat in &plan.heats {
        let standings: Vec<&Standing> = standings.iter().filter(|s| s.heat == heat.name).collect();
        section(&mut text, plan, heat, &standings);
        for plot in plots.iter().filter(|plot| plot.heat == heat.name) {
            put(&mut text, format_args!("![{}]({})\n", plot.title, plot.file));
        }
    }
    text
}

fn put(text: &mut String, line: Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

fn head(text: &mut String, plan: &Plan, about: &About<'_>) {
    let tuned = if plan.tune {
        "Learning rates are the best of the grid 1e-4, 3e-4, … 1e-1 by the mean validation error of three seeds; the grid is widened where \
         the best rate lies on its edge."
    } else {
        "Learning rates are the papers' or the defaults."
    };
    put(text, format_args!("# {}\n", plan.suite));
    put(text, format_args!("`{}`, {}, on {}; {}.\n", about.command, about.run.time, about.backend, about.run.cpu));
    put(
        text,
        format_args!(
            "{tuned} Errors are means ± population standard deviations over the seeds. A difference is the subject's error minus the \
             other's, paired by seed, as a share of the other's mean error, with its 95 % bootstrap interval: below 0 the subject is \
             better. State bytes include the arrays with which a rule probes, integrates or multiplies. A loss without its gradient \
             counts as a third of an evaluation. The file `runs.csv` has every run.\n"
        ),
    );
}

fn section(text: &mut String, plan: &Plan, heat: &Heat, standings: &[&Standing]) {
    put(text, format_args!("## {}\n", heat.name));
    put(text, format_args!("{} Problem: `{}`, {} steps.\n", heat.about, heat.track.describe(&[]), heat.steps));
    for note in notes(plan, heat) {
        put(text, format_args!("{note}\n"));
    }
    if let Some(caution) = caution(standings) {
        put(text, format_args!("{caution}\n"));
    }
    let columns = columns(standings, Markup::Markdown);
    for (row, cells) in rows(&columns).enumerate() {
        put(text, format_args!("| {} |", cells.join(" | ")));
        if row == 0 {
            put(text, format_args!("|{}", "---|".repeat(columns.len())));
        }
    }
    put(text, format_args!(""));
}

/// What a reader must know of a heat's runs beside the table.
fn notes(plan: &Plan, heat: &Heat) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(steps) = heat.patience {
        notes.push(format!(
            "A run ends {steps} steps after its best validation error, and its errors are those at that point."
        ));
    }
    if plan.tune {
        let seeds: Vec<String> = heat.tuning_seeds(plan.seeds).iter().map(u64::to_string).collect();
        notes.push(format!("Rates were judged by the seeds {}.", seeds.join(", ")));
        let finders = heat.entrants.iter().filter(|entrant| entrant.rule.finds_rate());
        let finders: Vec<String> = finders.map(|entrant| format!("`{}`", entrant.label)).collect();
        if !finders.is_empty() {
            notes.push(format!(
                "No rate was searched for {}: the rule finds its rate, and lr is a factor.",
                finders.join(", ")
            ));
        }
    }
    notes
}

/// A warning where a heat has too few seeds for its intervals to mean much.
#[must_use]
pub fn caution(standings: &[&Standing]) -> Option<String> {
    let seeds = standings.iter().map(|standing| standing.runs).max()?;
    let plural = if seeds == 1 { "" } else { "s" };
    let text = format!(
        "A smoke run: with {seeds} seed{plural}, means, spreads and 95 % intervals say little. Use at least {ENOUGH_SEEDS} seeds."
    );
    (seeds < ENOUGH_SEEDS).then_some(text)
}

/// A column: its head, then a cell for each entrant.
pub(super) struct Column(Vec<String>);

/// The markup of a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Markup {
    Plain,
    Markdown,
}

/// The columns in which at least one entrant has a value.
pub(super) fn columns(standings: &[&Standing], markup: Markup) -> Vec<Column> {
    let column = |head: &str, cell: &dyn Fn(&Standing) -> Option<String>| {
        let cells = standings.iter().map(|s| cell(s).unwrap_or_default());
        Column(std::iter::once(head.to_owned()).chain(cells).collect())
    };
    let measure = standings.first().map_or("error", |s| &s.measure);
    let probed = standings.iter().any(|s| s.losses > 0.0);
    let all = [
        column("entrant", &|s| Some(name(s, markup))),
        column("lr", &|s| s.lr.map(|lr| rate(lr) + if s.lr_at_limit { " (at the limit)" } else { "" })),
        column(measure, &|s| Some(error(s))),
        column("published", &|s| s.published.map(|(mean, std)| published(mean, std))),
        column("within the subject's spread", &|s| s.deviations.map(within)),
        column("wins", &|s| Some(format!("{}/{}", s.wins, s.runs))),
        column("subject's difference", &|s| s.relative.map(difference)),
        column("subject better", &|s| s.difference.map(|_| format!("{}/{}", s.beaten, s.runs))),
        column("stopped early", &|s| s.early.map(spread)),
        column("training loss", &|s| s.loss.filter(|_| s.measure != LOSS).map(spread)),
        column("loss within the subject's spread", &|s| s.loss_deviations.filter(|_| s.measure != LOSS).map(within)),
        column("state bytes per parameter", &|s| s.state_bytes.map(bytes)),
        column("evaluations", &|s| probed.then(|| format!("{:.0}", s.evaluations))),
        column("gradients", &|s| Some(format!("{:.0}", s.gradients))),
        column("losses", &|s| (s.losses > 0.0).then(|| format!("{:.0}", s.losses))),
        column("seconds", &|s| Some(format!("{:.2}", s.seconds))),
        column("triggers", &|s| s.triggers.map(|n| format!("{n:.0}"))),
        column("mean damping", &|s| s.damping.map(|d| format!("{d:.3}"))),
        column("sharpness", &|s| s.sharpness.map(spread)),
    ];
    all.into_iter().filter(|Column(cells)| cells[1..].iter().any(|cell| !cell.is_empty())).collect()
}

/// The heads of the columns, then the cells of each entrant.
pub(super) fn rows(columns: &[Column]) -> impl Iterator<Item = Vec<&str>> {
    let count = columns.first().map_or(0, |Column(cells)| cells.len());
    (0..count).map(|row| columns.iter().map(|Column(cells)| cells[row].as_str()).collect())
}

fn name(s: &Standing, markup: Markup) -> String {
    match s.role {
        role if role == Role::Subject.name() && markup == Markup::Markdown => format!("**{}**", s.entrant),
        role if role == Role::Subject.name() => format!("{} (subject)", s.entrant),
        role if role == Role::Control.name() => format!("{} (control)", s.entrant),
        _ => s.entrant.clone(),
    }
}

fn error(s: &Standing) -> String {
    let diverged = if s.diverged > 0 { format!(" ({} of {} diverged)", s.diverged, s.runs) } else { String::new() };
    s.error.map_or_else(|| "–".to_owned(), spread) + &diverged
}

fn difference(shares: Difference) -> String {
    let percent = |x: f64| if x.abs() < 10.0 { format!("{:+.1}", 100.0 * x) } else { format!("{:+.0e}", 100.0 * x) };
    format!("{} % [{}, {}]", percent(shares.mean), percent(shares.low), percent(shares.high))
}

/// Whether a mean error lies within one standard deviation of the subject's, with the number of standard deviations.
fn within(deviations: f64) -> String {
    let word = match deviations {
        d if d.abs() <= 1.0 => "yes",
        d if d < 0.0 => "better",
        _ => "no",
    };
    format!("{word} ({deviations:+.2} σ)")
}

/// A rate, with at most three digits.
fn rate(lr: f64) -> String {
    let text = format!("{lr:.2e}");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'))
}

fn spread(s: Spread) -> String {
    format!("{} ± {}", number(s.mean), number(s.std))
}

fn published(mean: f64, std: Option<f64>) -> String {
    std.map_or_else(|| number(mean), |std| format!("{} ± {}", number(mean), number(std)))
}

/// Bytes per parameter, with at most two decimals.
fn bytes(x: f64) -> String {
    format!("{x:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number, with three significant digits.
fn number(x: f64) -> String {
    let size = x.abs();
    if size == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e5).contains(&size) {
        format!("{x:.2e}")
    } else {
        let digits = (2 - size.log10().floor() as i32).clamp(0, 6) as usize;
        format!("{x:.digits$}")
    }
}
