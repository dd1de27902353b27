//! What a race leaves in a directory: `report.md`, `runs.csv` and the plots as SVG. Nothing is computed here: the numbers come from the
//! standings.

mod chart;
mod contours;
mod csv;
mod markdown;
mod plots;

use std::path::Path;

use super::{Heat, Plan, Race, Standing};
use crate::tools::report::Run;
use crate::{Error, Result};

/// What a report says of how it came about.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// The machine and the time.
    pub run: &'a Run,
    /// The command that repeats it.
    pub command: &'a str,
    /// What it ran on.
    pub backend: &'a str,
}

/// A plot's file and what it shows.
struct Plot {
    heat: String,
    title: &'static str,
    file: String,
}

/// Writes the report into a directory that is there.
///
/// # Errors
/// A file cannot be written.
pub fn write(directory: &Path, plan: &Plan, race: &Race, standings: &[Standing], about: &About<'_>) -> Result<()> {
    put(&directory.join("runs.csv"), &csv::text(&plan.suite, race))?;
    let plots = plots::write(directory, plan, race)?;
    put(&directory.join("report.md"), &markdown::text(plan, standings, &plots, about))
}

/// A heat's name and what it is to show.
#[must_use]
pub fn heading(heat: &Heat) -> String {
    format!("{} ({}, {} steps)\n{}", heat.name, heat.track.describe(&[]), heat.steps, heat.about)
}

/// A heat's standings as lines of columns, for a terminal.
#[must_use]
pub fn lines(standings: &[&Standing]) -> Vec<String> {
    let columns = markdown::columns(standings);
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
