//! The seal on rules: what is public here cannot be named outside of the crate.

/// What this crate alone implements, so that no other code can pass its own text for a trusted one.
pub trait Sealed {}
