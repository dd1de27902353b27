//! The seal on rules: code outside of the crate cannot name this trait.

/// Only this crate implements this trait, so that no other code can pass its own text as the crate's.
pub trait Sealed {}
