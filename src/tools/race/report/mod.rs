//! The files that a race writes to a directory: `report.md`, `runs.csv` and the plots as SVG. This module computes no number; all
//! numbers come from the standings.

mod axis;
mod chart;
mod contours;
mod csv;
mod curve;
mod markdown;
mod plots;

use std::path::Path;

use super::{Heat, Plan, Race, Standing, ledger};
use crate::Result;
use crate::tools::files;
use markdown::Markup;
pub use markdown::{About, caution};

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

/// The names of the files that a race writes to its directory, including all plots that it may draw.
pub fn names(plan: &Plan) -> impl Iterator<Item = String> {
    [ledger::NAME, "report.md", "runs.csv"].map(str::to_owned).into_iter().chain(plots::names(plan))
}

fn put(path: &Path, text: &str) -> Result<()> {
    files::write(path, text.as_bytes())
}
