//! The comparison with an earlier run.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use super::Measurement;
use crate::io::lines;
use crate::tools::report;
use crate::{Error, Result};

/// The longest line in bytes, and the most lines: the reader compares each line with all lines before it.
const MAX_LINE: usize = 1 << 14;
const MAX_LINES: u64 = 10_000;

/// A measurement that is slower than its baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Regression {
    /// The new measurement.
    pub now: Measurement,
    /// [`Measurement::share_of_stream`] in the baseline.
    pub baseline_share: f64,
    /// How much longer the step takes relative to the stream kernel: 0.1 is a tenth longer.
    pub slowdown: f64,
}

impl std::fmt::Display for Regression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: {:.1} % slower against the stream kernel than the baseline ({:.3} of its rate, was {:.3})",
            name(&self.now),
            self.slowdown * 100.0,
            self.now.share_of_stream(),
            self.baseline_share
        )
    }
}

fn name(m: &Measurement) -> String {
    let with = if m.with == super::With::default() { String::new() } else { format!(" with {}", m.with) };
    let Measurement { optimizer, adapter, backend, storage, .. } = m;
    format!("{optimizer}{with} {} on {adapter} ({backend}, {storage})", m.size())
}

/// The fields that identify a measurement: two lines with equal keys measure the same.
fn key(m: &Measurement) -> (&str, &super::With, super::BackendKind, &str, &str, usize, usize, Option<usize>) {
    (&m.optimizer, &m.with, m.backend, &m.adapter, &m.storage, m.tensors, m.elements, m.columns)
}

/// Reads the lines that `bench --json` wrote.
///
/// # Errors
/// The file cannot be read or holds no measurement; a line is neither a run of this schema nor a measurement, or repeats another line.
/// The error names the line's number.
pub fn read_baseline(path: &Path) -> Result<Vec<Measurement>> {
    let file = path.display().to_string();
    let text = File::open(path).map_err(|source| Error::Io { path: file.clone(), source })?;
    parse(BufReader::new(text), &file)
}

fn parse(mut text: impl BufRead, file: &str) -> Result<Vec<Measurement>> {
    let mut measurements: Vec<Measurement> = Vec::new();
    let (mut numbers, mut line) = (Vec::new(), Vec::new());
    let refuse = |problem: String| Error::File { file: file.to_owned(), problem };
    for number in 1.. {
        if !lines::next(&mut text, MAX_LINE, &mut line, number, file)? {
            break;
        }
        if number > MAX_LINES {
            return Err(refuse(format!("it has more than {MAX_LINES} lines")));
        }
        let found = str::from_utf8(&line).map_err(|e| format!("not UTF-8: {e}")).and_then(parse_line);
        let Some(found) = found.map_err(|problem| refuse(format!("line {number}: {problem}")))? else { continue };
        if let Some(i) = measurements.iter().position(|m| key(m) == key(&found)) {
            let first: u64 = numbers[i];
            return Err(refuse(format!("line {number}: {} appears twice, first in line {first}", name(&found))));
        }
        measurements.push(found);
        numbers.push(number);
    }
    if measurements.is_empty() {
        return Err(refuse("it holds no measurement, needs the lines that `bench --json` writes".to_owned()));
    }
    Ok(measurements)
}

/// The member that only the line at the beginning of a run has.
#[derive(Deserialize)]
struct Begin {
    schema: Option<serde_json::Value>,
}

/// Parses a line: a measurement, or `None` for the line that begins a run and for an empty line.
fn parse_line(line: &str) -> Result<Option<Measurement>, String> {
    if line.trim().is_empty() {
        return Ok(None);
    }
    let refuse = |e: serde_json::Error| {
        if e.is_data() { format!("not a measurement: {e}") } else { format!("not JSON: {e}") }
    };
    // Not into a tree of values, which keeps the last of two equal names.
    if let Some(schema) = serde_json::from_str::<Begin>(line).map_err(refuse)?.schema {
        return if schema == report::SCHEMA {
            Ok(None)
        } else {
            Err(format!("schema is {schema}, needs {}", report::SCHEMA))
        };
    }
    let found: Measurement = serde_json::from_str(line).map_err(refuse)?;
    for (field, value) in [("gb_per_s", found.gb_per_s), ("stream_gb_per_s", found.stream_gb_per_s)] {
        if !(value.is_finite() && value > 0.0) {
            return Err(format!("{field} is {value}, needs a finite number above 0"));
        }
    }
    Ok(Some(found))
}

/// The results that are slower than their baseline by more than `max_regression`: 0.05 allows a step to take 5 % longer.
///
/// The function compares the ratio of the median step to the median stream kernel, which are measured in turn. It does not compare times,
/// because a slower machine slows both. Two lines belong together if optimizer, features, backend, adapter, storage, tensors and elements
/// agree.
///
/// # Errors
/// The baseline lacks a result, or has it with settings that move another number of bytes; the limit is negative or not finite.
pub fn compare(baseline: &[Measurement], results: &[Measurement], max_regression: f64) -> Result<Vec<Regression>> {
    if !(max_regression.is_finite() && max_regression >= 0.0) {
        return Err(Error::Usage(format!(
            "the regression allowed is {max_regression}, needs a finite number of at least 0"
        )));
    }
    let mut slower = Vec::new();
    for now in results {
        let before = baseline.iter().find(|m| key(m) == key(now));
        let before = before.ok_or_else(|| Error::Usage(format!("the baseline has no line for {}", name(now))))?;
        if before.bytes_per_element != now.bytes_per_element {
            return Err(Error::Usage(format!(
                "{} moves {} bytes per element, {} in the baseline: the settings differ",
                name(now),
                now.bytes_per_element,
                before.bytes_per_element
            )));
        }
        let slowdown = before.share_of_stream() / now.share_of_stream() - 1.0;
        // NaN must not pass.
        if slowdown.is_nan() || slowdown > max_regression {
            slower.push(Regression { now: now.clone(), baseline_share: before.share_of_stream(), slowdown });
        }
    }
    Ok(slower)
}
