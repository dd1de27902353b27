//! What a rule is, from the bottom up: numbers, structs of named numbers, settings, what a rule says of itself, its mathematics for one
//! element, its loops over slices, and the trait object that the engine holds.
//!
//! No rule's mathematics lives here: that is one file per optimizer in [`optim`](super). What a step does beside sums and update is
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
pub(crate) use checks::{check_common, goes_on, need_cpu, need_one_rate, need_rows, need_shared, same_rule};
pub use elementwise::ElementwiseRule;
pub(crate) use fields::fields;
pub use fields::{Fields, Nothing};
pub(crate) use formulas::{bias_correction, own_square};
pub use number::Real;
pub use object::Rule;
pub use spec::{Depends, Kind, MAX_SUMS, Origin, Scalar, StateSpec, Sums};
