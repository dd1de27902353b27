//! The storage of numbers: parameters and gradients in half precision, states in half precision or in eight bits.
//!
//! A [`Storage`] describes the storage of one tensor; [`Builder::storage`](crate::Builder::storage) sets it for all tensors,
//! [`Builder::tensor_storage`](crate::Builder::tensor_storage) for one. Kernels load and store in these formats and compute in f32. They
//! use plain u32 arithmetic and need no shader extension, in browsers too.
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

/// The format of numbers in the caller's buffers: the model's parameters, and gradients. In half precision two numbers share a u32, the
/// first in the low bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// IEEE single precision.
    #[default]
    F32,
    /// IEEE half precision: 11 bits of significand, up to 65504. Gradients in f16 usually need a [`LossScale`](crate::LossScale).
    F16,
    /// The upper half of an f32: 8 bits of significand, f32's range.
    Bf16,
}

impl Format {
    /// Bytes per number.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// How a parameter in half precision keeps the precision that rounding loses: most updates are smaller than half of its last place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoundingMode {
    /// No extra precision: round to nearest, ties to even. Small updates are lost.
    Nearest,
    /// Stochastic rounding: the mean is exact. It needs no memory. The random bits are a function of the optimizer's
    /// [`seed`](crate::Builder::seed), the count of steps, the tensor and the element: they are the same for any shape of a dispatch, and
    /// again after a resume from a checkpoint.
    Stochastic,
    /// An f32 copy beside the parameter. The steps change the copy, and the parameter is the copy, rounded to nearest. Where the caller
    /// wrote another parameter, the copy starts anew from that parameter. 4 more bytes per parameter.
    Master,
    /// bf16 only: the low 16 bits of an f32 lie beside the parameter. Both together are this f32, bit for bit, and the parameter is the
    /// nearest bf16 of that f32, ties away from zero. 2 more bytes per parameter.
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
    /// The format of the model's parameters.
    #[must_use]
    pub const fn format(self) -> Format {
        match self {
            Self::F32 => Format::F32,
            Self::Bf16(_) => Format::Bf16,
            Self::F16(_) => Format::F16,
        }
    }

    /// How the parameters keep the precision that rounding loses; `None` for f32.
    #[must_use]
    pub const fn keep(self) -> Option<RoundingMode> {
        match self {
            Self::F32 => None,
            Self::Bf16(keep) | Self::F16(keep) => Some(keep),
        }
    }

    /// Whether an array keeps the parameters' full precision.
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
    /// bf16, round to nearest. An average that changes by less than 1 part in 512 per step stands still, such as one with β2 = 0.999.
    Bf16,
    /// bf16, stochastic rounding, as [`RoundingMode::Stochastic`].
    Bf16Stochastic,
    /// One byte: a code of the [dynamic map](blockwise::Map), times the largest magnitude of the number's block of
    /// [256](blockwise::BLOCK): 1.016 bytes per number. Tensors with fewer elements than [`Storage::min_blockwise`] keep f32.
    Blockwise8,
}

/// The storage of a tensor. The text form, read and written, is a comma-separated list of
///
/// - `f32`, `bf16-nearest`, `bf16-sr`, `bf16-master`, `bf16-split`, `f16-nearest`, `f16-sr`, `f16-master`: parameters, and gradients in
///   the same format;
/// - `8bit`: all states in eight bits;
/// - `params=…`, `grads=f32|f16|bf16`, `states=f32|bf16|bf16-sr|8bit`, or a state's name, `v=bf16-sr`; the later part wins;
/// - `min=4096`: see [`min_blockwise`](Self::min_blockwise).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Parameters.
    pub params: Params,
    /// Gradients.
    pub grads: Format,
    /// The format of the states that `named` does not list. A state that must be exact stays f32: see [`Kind`](crate::optim::Kind).
    pub states: StateFormat,
    /// The formats of single states, by name.
    pub named: Vec<(String, StateFormat)>,
    /// With [`StateFormat::Blockwise8`], tensors with fewer elements keep f32: their states are small, and their blocks would be mostly
    /// empty. Default 4096, as in bitsandbytes and torchao.
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
