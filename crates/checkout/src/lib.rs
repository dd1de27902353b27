//! An empty package. Cargo unites the features that the default members of a workspace ask for: because this package asks for `cli`,
//! `cargo run`, `cargo test` and `cargo doc` in a checkout have the command line and every tool, while `cargo add wgpu-optim` brings the
//! library alone.
