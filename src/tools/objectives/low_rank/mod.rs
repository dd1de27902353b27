//! Low-rank models of entries: the one core of matrix and tensor completion, robust factorisation, ratings and sensing.
//!
//! Entry e of D factors (two for a matrix, three for a tensor) is modelled as Σ_k Π_d F_d[at[e][d], k].

mod completion;
mod entries;
mod gpu;
mod host;
mod observed;

pub(super) use completion::Completion;
pub(super) use entries::{Entries, HeldOut, MOST_ENTRIES};
pub(super) use gpu::{Model, shaders};
pub(super) use host::Factors;
pub(super) use observed::Observed;
