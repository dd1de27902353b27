//! A second moment that a matrix keeps as two factors, a number per row and a number per column: Adafactor. Passes of their own sum the
//! squares of the gradient before the sums of the rule: `shaders/harness/tiles.wgsl`, `fold.wgsl` and `factors.wgsl`.

use super::Procedure;
use super::spec::{FactorSpec, Feature};

/// The second moment of a matrix, as the product of its rows' and its columns' means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factors;

impl Factors {
    /// The flag of a rule's text that holds for matrices.
    pub(crate) const FLAG: &str = "FACTORED";
}

impl Procedure for Factors {
    fn factors(&self) -> Option<FactorSpec> {
        Some(FactorSpec { state: "v", flag: Self::FLAG, rows: ROWS, columns: COLUMNS, share: "share", least: "least" })
    }

    fn refuses(&self, rule: &str, feature: Feature) -> Option<String> {
        match feature {
            Feature::Rows => Some(format!(
                "{rule} takes means over the rows and columns of whole matrices: row sets and column rates are for the other rules"
            )),
            Feature::Ranges => Some(format!("{rule} takes means over whole matrices inside a step")),
            Feature::HalfParams
            | Feature::Telemetry
            | Feature::ClipByNorm
            | Feature::LossScale
            | Feature::Accumulate
            | Feature::OwnCounts
            | Feature::Shards => None,
        }
    }
}

/// The name of the rows' means.
pub(crate) const ROWS: &str = "r";
/// The name of the columns' means.
pub(crate) const COLUMNS: &str = "c";

/// The matrices of a tensor of at least two dimensions: the last two are rows and columns, those before them a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matrices {
    pub(crate) count: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Matrices {
    /// `None`: the shape has fewer than two dimensions, or no elements.
    pub(crate) fn of(shape: &[usize]) -> Option<Self> {
        let [batch @ .., rows, columns] = shape else { return None };
        let matrices = Self { count: batch.iter().product(), rows: *rows, columns: *columns };
        (matrices.elements() > 0).then_some(matrices)
    }

    pub(crate) const fn elements(self) -> usize {
        self.count * self.rows * self.columns
    }

    /// The rows of all matrices.
    pub(crate) const fn all_rows(self) -> usize {
        self.count * self.rows
    }

    /// The columns of all matrices.
    pub(crate) const fn all_columns(self) -> usize {
        self.count * self.columns
    }
}

/// The shape of a factor of a tensor of this shape: without the columns, or without the rows. `None`: the name is not that of a factor, or the
/// tensor has no matrices.
#[cfg(feature = "checkpoint")]
pub(crate) fn shape_of(name: &str, shape: &[usize]) -> Option<Vec<usize>> {
    Matrices::of(shape)?;
    let left_out = [(ROWS, shape.len() - 1), (COLUMNS, shape.len() - 2)];
    let (_, left_out) = left_out.into_iter().find(|(factor, _)| *factor == name)?;
    Some([&shape[..left_out], &shape[left_out + 1..]].concat())
}
