//! The parts of a rule, from the bottom up: number types, structs of named numbers, settings, the description of a rule, its mathematics for
//! one element, its loops over slices, and the trait object that the engine holds.
//!
//! The mathematics of the optimizers is in [`optim`](super), one file per family. The parts of a step beside sums and update are in
//! [`procedure`](super::procedure).

#[cfg(feature = "tools")]
mod altered;
mod checks;
mod elementwise;
mod fields;
mod formulas;
pub mod host;
mod number;
mod object;
pub(crate) mod sealed;
pub(crate) mod settings;
mod spec;

#[cfg(feature = "tools")]
pub use altered::Altered;
#[cfg(feature = "tools")]
pub(crate) use checks::matrix_shape;
pub(crate) use checks::{
    check_common, goes_on, need, need_cpu, need_element_counts, need_one_rate, need_own_counts, need_rows, need_shared,
    same_rule, sample_shape,
};
pub use elementwise::ElementwiseRule;
pub(crate) use fields::fields;
pub use fields::{Fields, Nothing};
pub(crate) use formulas::{LEAST_LN, agreeing, bias_correction, caution, ln_beta, own_square};
pub use number::Real;
pub use object::Rule;
pub use spec::{Depends, Kind, MAX_SUMS, Origin, Scalar, StateSpec, Sums};
