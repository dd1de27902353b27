//! Tests of the adapter on a device of Burn. A missing adapter is a failure.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test stops at the first surprise, and has no users")]

mod equal;
mod modules;
mod resume;
mod rules;
mod support;
mod values;
