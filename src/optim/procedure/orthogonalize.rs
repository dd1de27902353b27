//! Matrices made orthogonal: Muon. A pass writes the direction u of every element; then an iteration over the matrices brings the singular
//! values near 1; the update reads the result. The WGSL is `shaders/procedures/direction.wgsl`, and `shaders/matrices/` holds the products.

use super::Procedure;
use super::adjust::AdjustLr;
use super::spec::{Feature, IterationSpec, PassSpec};

/// The state of the rule that holds the matrices.
const MATRICES: &str = "o";

const FILES: &[&str] = &[include_str!("../../../shaders/procedures/direction.wgsl")];

/// An iteration that makes every matrix orthogonal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Orthogonalize {
    /// The number of iterations.
    pub steps: u32,
    /// a, b and c of `X ← aX + (bA + cA²)X`, `A = XXᵀ`.
    pub coefficients: [f64; 3],
    /// The least norm by which a matrix is divided.
    pub eps: f64,
    /// The factor that follows from the shape.
    pub adjust: AdjustLr,
}

impl Procedure for Orthogonalize {
    fn constants(&self, place: &dyn Fn(&str) -> u64) -> Vec<(&'static str, u64)> {
        vec![("MATRICES", place(MATRICES))]
    }

    fn pass(&self) -> Option<PassSpec> {
        Some(PassSpec {
            name: "direction",
            files: FILES,
            entry: "wo_direct",
            setup: None,
            reads_gradient: true,
            clips_by_norm: true,
            reads_record: false,
            reads_totals: false,
            skips: true,
            before_update: true,
        })
    }

    fn iteration(&self) -> Option<IterationSpec> {
        let Self { steps, coefficients, eps, adjust } = *self;
        Some(IterationSpec { array: MATRICES, steps, coefficients, eps, adjust })
    }

    fn refuses(&self, rule: &str, feature: Feature) -> Option<String> {
        match feature {
            Feature::Rows => Some(super::whole_tensors(rule)),
            Feature::Ranges => Some(format!("{rule} makes whole matrices orthogonal inside its step")),
            _ => None,
        }
    }

    fn refuses_shape(&self, rule: &str, shape: &[usize]) -> Option<String> {
        let problem = "steps matrices, so its tensors need two dimensions or more: put the tensor into a group with another rule, such as adamw";
        (shape.len() < 2).then(|| format!("its shape is {shape:?}, but {rule} {problem}"))
    }

    /// The gradient, the momentum and the direction. The products move more, and are bound by their arithmetic.
    fn traffic(&self) -> usize {
        2
    }
}
