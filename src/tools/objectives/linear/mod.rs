//! Weighted squares of linear residuals, Σ_i w_i (A_i·x - y_i)²: the one core of the rotated quadratic, of regression and
//! of sensing. These problems define A, y and w.

mod gpu;
mod host;
mod rows;

pub(super) use gpu::{record, shaders};
pub(super) use host::Host;
pub(super) use rows::Rows;
