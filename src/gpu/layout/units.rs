//! Sizes, names and small types that many files of the optimizer use.

use crate::optim::procedure::LOSS_STRIDE;
use crate::options::storage::blockwise::BLOCK;
use crate::options::storage::{Form, Format};

/// Elements of a chunk, which one workgroup updates.
pub(crate) const CHUNK: u64 = 1024;

/// Threads of a workgroup of the update: one vec4 per thread.
pub(crate) const CHUNK_LANES: u32 = (CHUNK / 4) as u32;

/// Threads of a workgroup of the sums' first half: few, because all threads wait at its one barrier and only a few add. A multiple of 8.
pub(crate) const SUM_LANES: u32 = 64;

/// Threads of the one workgroup of the sums' second half.
pub(crate) const FINAL_LANES: u32 = 256;

/// Totals that this workgroup adds at a time: each vec3 takes 16 bytes per thread, and every device has 16 KiB.
pub(crate) const FINAL_BATCH: usize = 4;

/// Vec4s before the first array of an arena. The first of them carries the step count to the control buffer. There are 16, so that the
/// first array begins at a cache line.
pub(crate) const ARENA_HEADER: u64 = 16;

/// Bytes of a vec4 of f32.
pub(crate) const VEC4: u64 = 16;

/// The f32 copy of parameters in half precision.
pub(crate) const MASTER: &str = "master";

/// The low 16 bits of f32 parameters that are stored in bf16.
pub(crate) const REMAINDER: &str = "remainder";

/// Whether an array of this name keeps the precision of parameters.
pub(crate) fn keeps_precision(name: &str) -> bool {
    [MASTER, REMAINDER].contains(&name)
}

/// Vec4s of numbers in a block. In arrays with blocks, tensors begin at multiples of this, so that no block holds numbers of two tensors.
pub(crate) const BLOCK_VEC4S: u64 = BLOCK as u64 / 4;

/// The count of arrays of each width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) whole: u64,
    pub(crate) halves: u64,
    pub(crate) bytes: u64,
}

impl Counts {
    pub(crate) const fn with(self, form: Form) -> Self {
        match form {
            Form::Whole => Self { whole: self.whole + 1, ..self },
            Form::Half { .. } | Form::Remainder => Self { halves: self.halves + 1, ..self },
            Form::Blocks(_) => Self { bytes: self.bytes + 1, ..self },
        }
    }

    /// Whether any array is packed.
    pub(crate) const fn packs(self) -> bool {
        self.halves + self.bytes > 0
    }

    /// Words of the packed arrays, for this stride.
    pub(crate) const fn words(self, stride: u64) -> u64 {
        stride * (2 * self.halves + self.bytes) + stride / BLOCK_VEC4S * self.bytes
    }

    /// Tensors begin at multiples of this many vec4s.
    pub(crate) const fn alignment(self) -> u64 {
        if self.bytes > 0 { BLOCK_VEC4S } else { 1 }
    }
}

/// The gradients of micro-batches, joined.
pub(crate) const ACCUMULATOR: &str = "gradient_accumulator";

/// The average of the weights.
pub(crate) const AVERAGE: &str = "ema";

/// Bytes of `wo_Control` before the decisions.
pub(crate) const CONTROL_HEAD: u64 = 48;

/// Words of `wo_Control` before the decisions.
pub(crate) const CONTROL_WORDS: usize = (CONTROL_HEAD / 4) as usize;

/// The byte of `wo_Control` at which the key of stochastic rounding lies.
#[cfg(feature = "checkpoint")]
pub(crate) const ROUNDING: u64 = 24;

/// The byte of `wo_Control` at which the count of steps that rounded lies.
pub(crate) const ROUNDED: u64 = 28;

/// The byte of `wo_Control` at which the count of accumulated micro-batches lies.
pub(crate) const ACCUMULATED: u64 = 32;

/// The byte of `wo_Control` at which the count of steps that ran lies, skipped steps included.
pub(crate) const RAN: u64 = 36;

/// Bytes from one loss slot to the next.
pub(crate) const LOSS_BYTES: u64 = LOSS_STRIDE as u64 * 4;

/// Bytes of this many numbers, in whole words.
pub(crate) const fn bytes_of(elements: u64, format: Format) -> u64 {
    (elements * format.bytes()).next_multiple_of(4)
}
