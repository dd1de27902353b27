//! How a step follows from the shape of a matrix.

use crate::optim::rule::settings::choice;

choice! {
    /// How the step of Muon follows from the shape of a matrix.
    AdjustLr {
        /// k = √max(1, rows/columns), as in the authors' code.
        Original = "original",
        /// k = 0.2 √max(rows, columns), with which the step has about the size of a step of AdamW.
        MatchRmsAdamW = "match_rms_adamw",
    }
}

impl AdjustLr {
    /// k.
    #[must_use]
    pub fn factor(self, rows: usize, columns: usize) -> f64 {
        match self {
            Self::Original => (rows as f64 / columns.max(1) as f64).max(1.0).sqrt(),
            Self::MatchRmsAdamW => 0.2 * (rows.max(columns) as f64).sqrt(),
        }
    }
}
