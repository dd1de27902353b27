//! How numbers are stored: parameters and gradients in half precision, states in half precision or in eight bits.
//!
//! A [`Storage`] says it for a tensor; [`Builder::storage`](crate::Builder::storage) for all of them,
//! [`Builder::tensor_storage`](crate::Builder::tensor_storage) for one. Kernels load and store through it and compute in f32 as ever, with plain u32
//! arithmetic: no shader extension is needed, in the browser neither.
//!
//! ```
//! use wgpu_optim::storage::{RoundingMode, Params, StateFormat, Storage};
//! let storage: Storage = "bf16-split,8bit".parse()?;
//! assert_eq!(storage.params, Params::Bf16(RoundingMode::Split));
//! assert_eq!(storage.states, StateFormat::Blockwise8);
//! assert_eq!(storage.to_string(), "bf16-split,8bit");
//! # Ok::<(), wgpu_optim::Error>(())
//! ```

pub mod blockwise;
mod formats;
pub mod half;
mod packed;
mod text;

pub(crate) use formats::Formats;
#[cfg(feature = "checkpoint")]
pub(crate) use packed::Layout;
pub(crate) use packed::{Form, Packed};
pub use text::HELP;

/// The format of numbers in the caller's buffers: parameters as the model sees them, gradients. Half precision lies two to a u32, the
/// first in the low bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// IEEE single precision.
    #[default]
    F32,
    /// IEEE half precision: 11 bits of significand, up to 65504. Gradients in it want a [`LossScale`](crate::LossScale).
    F16,
    /// The upper half of an f32: 8 bits of significand, f32's range.
    Bf16,
}

impl Format {
    /// Bytes of a number.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// How a parameter in half precision keeps what rounding takes away: updates are mostly smaller than half of its last place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoundingMode {
    /// It does not: rounded to the nearest, ties to even. Small updates are lost.
    Nearest,
    /// Rounded up or down by chance, so that the mean is right. Costs no memory. Every draw is a function of the optimizer's
    /// [`seed`](crate::Builder::seed), the count of steps, the tensor and the element: the same for any launch shape, and again after
    /// resuming from a checkpoint.
    Stochastic,
    /// An f32 copy beside it, which the steps change, and of which the parameter is the nearest. Where the parameter is not, because
    /// somebody wrote it, the copy begins anew from it. 4 bytes a parameter more.
    Master,
    /// bf16 only: the 16 bits that it lacks of an f32 beside it. Together they are that f32, bit for bit, and the parameter is the
    /// nearest to it, ties away from zero. 2 bytes a parameter more.
    Split,
}

/// The format of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Params {
    /// f32. Default.
    #[default]
    F32,
    /// bf16.
    Bf16(RoundingMode),
    /// f16; [`RoundingMode::Split`] is refused.
    F16(RoundingMode),
}

impl Params {
    /// The format of the parameters as the model sees them.
    #[must_use]
    pub const fn format(self) -> Format {
        match self {
            Self::F32 => Format::F32,
            Self::Bf16(_) => Format::Bf16,
            Self::F16(_) => Format::F16,
        }
    }

    /// How they keep what rounding takes away; `None` for f32.
    #[must_use]
    pub const fn keep(self) -> Option<RoundingMode> {
        match self {
            Self::F32 => None,
            Self::Bf16(keep) | Self::F16(keep) => Some(keep),
        }
    }

    /// Whether their full precision is kept somewhere.
    #[must_use]
    pub const fn is_exact(self) -> bool {
        matches!(self.keep(), None | Some(RoundingMode::Master | RoundingMode::Split))
    }
}

/// The format of a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StateFormat {
    /// f32. Default.
    #[default]
    F32,
    /// bf16, rounded to the nearest. An average that changes by less than 1 part in 512 a step stands still: β2 = 0.999 does.
    Bf16,
    /// bf16, rounded by chance as [`RoundingMode::Stochastic`].
    Bf16Stochastic,
    /// One byte, as a place in the [dynamic map](blockwise::Map) times the largest magnitude of its block of
    /// [256](blockwise::BLOCK): 1.016 bytes a number. Tensors of fewer elements than [`Storage::min_blockwise`] keep f32.
    Blockwise8,
}

/// How a tensor is stored. The text form, read and written, is a comma-separated list of
///
/// - `f32`, `bf16-nearest`, `bf16-sr`, `bf16-master`, `bf16-split`, `f16-nearest`, `f16-sr`, `f16-master`: parameters, and gradients in
///   the same format;
/// - `8bit`: all states in eight bits;
/// - `params=…`, `grads=f32|f16|bf16`, `states=f32|bf16|bf16-sr|8bit`, or a state's name, `v=bf16-sr`; the later wins;
/// - `min=4096`: see [`min_blockwise`](Self::min_blockwise).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Parameters.
    pub params: Params,
    /// Gradients.
    pub grads: Format,
    /// States, where `named` says nothing else. A state that must be exact stays f32: see [`Kind`](crate::optim::Kind).
    pub states: StateFormat,
    /// States by name.
    pub named: Vec<(String, StateFormat)>,
    /// Tensors of fewer elements keep f32 where [`StateFormat::Blockwise8`] is asked for: their states are small, and their blocks would
    /// be mostly room. Default 4096, that of bitsandbytes and torchao.
    pub min_blockwise: u64,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            params: Params::F32,
            grads: Format::F32,
            states: StateFormat::F32,
            named: Vec::new(),
            min_blockwise: 4096,
        }
    }
}
