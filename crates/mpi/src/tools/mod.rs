//! The tools behind the command `wgpu-optim-mpi`: the proof that ranks agree with one process, the measurement of a step, and the bytes and times
//! of large models.

pub mod bench;
pub mod scale;
pub mod verify;

/// A number between -1 and 1, from a seed and a place.
#[must_use]
pub fn noise(seed: u32, at: u32) -> f32 {
    let x = at.wrapping_mul(0x9e37_79b9) ^ seed.wrapping_mul(0x85eb_ca6b);
    let x = (x ^ (x >> 15)).wrapping_mul(0x2c1b_3c6d);
    (x ^ (x >> 12)) as f32 / u32::MAX as f32 * 2.0 - 1.0
}
