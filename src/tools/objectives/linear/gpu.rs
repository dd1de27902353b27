//! The linear core on the GPU: one dispatch over the rows, one over the columns.

use super::rows::Rows;
use crate::Result;
use crate::tools::objectives::staged::{Frame, Use, When, join};

const ROWS: &str = include_str!("../../../../shaders/objectives/linear_rows.wgsl");
const COLUMNS: &str = include_str!("../../../../shaders/objectives/linear_columns.wgsl");

pub(in crate::tools::objectives) fn shaders() -> Vec<(&'static str, String)> {
    vec![("linear-rows", ROWS.to_owned()), ("linear-columns", join(&[COLUMNS]))]
}

/// Writes the terms, and the gradient of `x` into `gradient`.
pub(in crate::tools::objectives) fn record(
    frame: &mut Frame<'_>,
    rows: &Rows,
    x: &wgpu::Buffer,
    gradient: &wgpu::Buffer,
) -> Result<()> {
    rows.check_loops()?;
    let words = [rows.count() as u32, rows.columns() as u32];
    let matrix = frame.data("matrix", &rows.matrix)?;
    let [targets, weights] = [frame.data("targets", &rows.targets)?, frame.data("weights", &rows.weights)?];
    let (slopes, terms) = (frame.make.words("rows' slopes", rows.count())?, frame.terms.clone());
    let reads = [x, &matrix, &targets, &weights].map(Use::Read);
    let uses: Vec<_> = reads.into_iter().chain([&slopes, &terms].map(Use::Write)).collect();
    frame.groups(When::Always, ("linear rows", ROWS), &words, &uses, rows.count())?;
    let uses = [Use::Read(&matrix), Use::Read(&slopes), Use::Write(gradient)];
    frame.stage(When::Gradient, ("linear columns", &join(&[COLUMNS])), &words, &uses, rows.columns())
}
