//! Standard output: text for people, or one JSON object per line.

use std::io::Write as _;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use wgpu_optim::tools::report::Run;
use wgpu_optim::wgpu::AdapterInfo;

use super::failure::{self, Failure};

/// Prints either text or JSON, never both.
#[derive(Debug)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints the first line of JSON: the place and time of this run.
    pub(super) fn header(&self, adapter: Option<&AdapterInfo>) -> Result<(), Failure> {
        self.json(&Run::now(adapter))
    }

    /// Prints a line for people; nothing with --json.
    pub(super) fn text(&self, text: impl std::fmt::Display) -> Result<(), Failure> {
        if self.json { Ok(()) } else { write(format_args!("{}\n", failure::printable(&text.to_string()))) }
    }

    /// Prints an object for programs; nothing without --json.
    pub(super) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let value = serde_json::to_string(value).map_err(|e| Failure::Output(e.into()))?;
        write(format_args!("{value}\n"))
    }

    /// Prints a note on standard error.
    pub(super) fn note(text: impl std::fmt::Display) {
        failure::line(format_args!("note: {text}"));
    }
}

fn write(text: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    std::io::stdout().write_fmt(text).map_err(Failure::Output)
}

/// Writes bytes unchanged.
pub(super) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// A progress bar on standard error, if standard error is a terminal.
pub(super) fn bar(length: u64, label: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg}");
    let bar = ProgressBar::new(length).with_prefix(label.to_owned());
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}
