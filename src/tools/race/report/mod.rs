//! What a race writes to a directory: `report.md`, `runs.csv` and the plots as SVG. Nothing is computed here: the numbers come from the
//! standings.

mod axis;
mod chart;
mod contours;
mod csv;
mod curve;
mod markdown;
mod plots;

use std::path::Path;

use super::{Heat, Plan, Race, Standing};
use crate::tools::report::Run;
use crate::{Error, Result};
use markdown::Markup;

/// Where a report comes from.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// The machine and the time.
    pub run: &'a Run,
    /// The command that repeats it.
    pub command: &'a str,
    /// The backend that ran it.
    pub backend: &'a str,
}

/// A plot's file and what it shows.
struct Plot {
    heat: String,
    title: &'static str,
    file: String,
}

/// Writes the report into an existing directory.
///
/// # Errors
/// A file cannot be written.
pub fn write(directory: &Path, plan: &Plan, race: &Race, standings: &[Standing], about: &About<'_>) -> Result<()> {
    put(&directory.join("runs.csv"), &csv::text(&plan.suite, race))?;
    let plots = plots::write(directory, plan, race)?;
    put(&directory.join("report.md"), &markdown::text(plan, standings, &plots, about))
}

/// A heat's name, problem, length and question.
#[must_use]
pub fn heading(heat: &Heat) -> String {
    format!("{} ({}, {} steps)\n{}", heat.name, heat.track.describe(&[]), heat.steps, heat.about)
}

/// With fewer seeds than this, a bootstrap interval says little.
const ENOUGH_SEEDS: usize = 5;

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

/// A heat's standings as lines of columns, in plain text for a terminal.
#[must_use]
pub fn lines(standings: &[&Standing]) -> Vec<String> {
    let columns = markdown::columns(standings, Markup::Plain);
    let rows: Vec<Vec<&str>> = markdown::rows(&columns).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let cell = |(text, width): (&&str, &usize)| format!("{text:<width$}");
    let line = |row: &Vec<&str>| row.iter().zip(&widths).map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned();
    rows.iter().map(line).collect()
}

fn put(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|source| Error::Io { path: path.display().to_string(), source })
}
