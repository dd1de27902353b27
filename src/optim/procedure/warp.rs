//! A matrix that multiplies the gradient: WarpAdam. The update sees P g. The WGSL is `shaders/procedures/warp.wgsl` and `identity.wgsl`.

use super::Procedure;
use super::spec::{ArraySpec, Feature, PassSpec};
use crate::optim::rule::Real;
use crate::{Error, Result};

/// P g.
const WARPED: &[&str] = &["warped"];

/// The gradient of the step before.
pub(crate) const BEFORE: &str = "warp_gradient";

/// The columns of P: element i of a column lies in row i of P.
#[rustfmt::skip]
pub(crate) const COLUMNS: [&str; 64] = [
    "warp_00", "warp_01", "warp_02", "warp_03", "warp_04", "warp_05", "warp_06", "warp_07",
    "warp_08", "warp_09", "warp_10", "warp_11", "warp_12", "warp_13", "warp_14", "warp_15",
    "warp_16", "warp_17", "warp_18", "warp_19", "warp_20", "warp_21", "warp_22", "warp_23",
    "warp_24", "warp_25", "warp_26", "warp_27", "warp_28", "warp_29", "warp_30", "warp_31",
    "warp_32", "warp_33", "warp_34", "warp_35", "warp_36", "warp_37", "warp_38", "warp_39",
    "warp_40", "warp_41", "warp_42", "warp_43", "warp_44", "warp_45", "warp_46", "warp_47",
    "warp_48", "warp_49", "warp_50", "warp_51", "warp_52", "warp_53", "warp_54", "warp_55",
    "warp_56", "warp_57", "warp_58", "warp_59", "warp_60", "warp_61", "warp_62", "warp_63",
];

/// The names of all arrays.
#[cfg(feature = "custom")]
pub(super) const NAMES: &[&[&str]] = &[WARPED, &[BEFORE], &COLUMNS];

const FILES: &[&str] =
    &[include_str!("../../../shaders/procedures/warp.wgsl"), include_str!("../../../shaders/procedures/identity.wgsl")];

/// One matrix per tensor, block-diagonal over the elements of the tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warp {
    /// Rows and columns of a block, a power of two; the last block of a tensor may be smaller.
    pub block: usize,
    /// Whether the matrices change.
    pub learned: bool,
}

impl Procedure for Warp {
    fn arrays(&self, _: bool) -> Vec<ArraySpec> {
        let warped = WARPED.iter().map(|name| ArraySpec::scratch(name));
        let before = self.learned.then(|| ArraySpec::kept(BEFORE));
        let column = |name: &&'static str| ArraySpec { role: "warp matrix", ..ArraySpec::kept(name) };
        warped.chain(before).chain(COLUMNS[..self.block].iter().map(column)).collect()
    }

    fn conditions(&self, _: bool) -> Vec<(&'static str, bool)> {
        vec![("LEARNED", self.learned)]
    }

    fn constants(&self, place: &dyn Fn(&str) -> u64) -> Vec<(&'static str, u64)> {
        vec![
            ("BLOCK", self.block as u64),
            ("WARPED", place(WARPED[0])),
            ("BEFORE", place(BEFORE)),
            ("MATRIX", place(COLUMNS[0])),
        ]
    }

    fn pass(&self) -> Option<PassSpec> {
        Some(PassSpec {
            name: "warp",
            files: FILES,
            entry: "wo_warp",
            setup: Some("wo_identity"),
            reads_gradient: true,
            clips_by_norm: true,
            reads_record: false,
            reads_totals: false,
            skips: true,
            before_update: true,
        })
    }

    fn gradient(&self) -> Option<&'static str> {
        Some(WARPED[0])
    }

    fn refuses(&self, rule: &str, feature: Feature) -> Option<String> {
        (feature == Feature::Rows).then(|| super::whole_tensors(rule))
    }

    fn traffic(&self) -> usize {
        if self.learned { 5 + 2 * self.block } else { 2 + self.block }
    }
}

/// Checks a tensor's matrix: a row of `block` numbers for each element, zeros past the end of a smaller last block.
pub(crate) fn check_matrix<F: Real>(tensor: &str, warp: Warp, elements: usize, rows: &[F]) -> Result<()> {
    let bad = |problem| Error::Tensor { tensor: tensor.to_owned(), problem };
    let b = warp.block;
    if rows.len() != elements * b {
        return Err(bad(format!("its matrix has {} numbers, needs {elements} rows of {b}", rows.len())));
    }
    let tail = elements % b;
    let past = rows.chunks_exact(b).skip(elements - tail).any(|row| row[tail..].iter().any(|x| *x != F::zero()));
    if past {
        return Err(bad(format!("its matrix has a number past the end of its last block, which has {tail} columns")));
    }
    Ok(())
}
