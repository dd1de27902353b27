//! The record of one pass of a procedure: the work of the pass, and its weights.

use super::integrator::Weights;

/// Keeps a copy of the parameters.
pub(crate) const START: u32 = 1;
/// Stores the derivative at the parameters.
pub(crate) const STORE: u32 = 2;
/// Moves the parameters.
pub(crate) const MOVE: u32 = 4;
/// Adds to the displacement of the whole step.
pub(crate) const ADVANCE: u32 = 8;
/// Makes the last derivative the next step's first.
pub(crate) const SHIFT: u32 = 16;
/// Puts the parameters back.
pub(crate) const RESTORE: u32 = 32;
/// The weights are fractions of each tensor's horizon.
pub(crate) const HORIZONS: u32 = 64;

/// The flags' names in WGSL.
pub(crate) const FLAGS: [(&str, u32); 7] = [
    ("START", START),
    ("STORE", STORE),
    ("MOVE", MOVE),
    ("ADVANCE", ADVANCE),
    ("SHIFT", SHIFT),
    ("RESTORE", RESTORE),
    ("HORIZONS", HORIZONS),
];

/// `wo_Pass` of `shaders/harness/tables.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PassRecord {
    pub(crate) flags: u32,
    pub(crate) number: u32,
    pub(crate) next: f32,
    pub(crate) tolerance: f32,
    pub(crate) poison: f32,
    pub(crate) seed: u32,
    pub(crate) pad: [u32; 2],
    pub(crate) weights: [f32; 8],
}

impl PassRecord {
    pub(crate) fn new(flags: u32, number: usize) -> Self {
        Self { flags, number: number as u32, ..Self::default() }
    }

    pub(crate) fn weighing(self, weights: Weights) -> Self {
        let mut row = [0.0; 8];
        row.iter_mut().zip(weights).for_each(|(to, w)| *to = w as f32);
        Self { weights: row, ..self }
    }
}
