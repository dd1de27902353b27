//! The objectives and the problems: gradients against finite differences, the GPU and the fast CPU form against f64,
//! determinism, the data, the random numbers and the shaders.
#![cfg(feature = "tools")]

mod mlp;
mod problems;
mod ratings;
mod readme;
mod rig;
mod shaders;

#[path = "../support"]
mod support {
    pub(crate) mod device;
    pub(crate) mod wide;
}
