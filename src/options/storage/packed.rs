//! Arrays of numbers in their stored form, on the host.

#[cfg(feature = "checkpoint")]
use std::fmt;

use super::blockwise::{self, BLOCK, Map};
use super::{Format, Params, RoundingMode, StateFormat, half};
use crate::optim::Kind;

/// The numbers of an array in their stored form.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Packed {
    F32(Vec<f32>),
    /// In one of the formats in half precision.
    Half(Format, Vec<u16>),
    /// The 16 bits that bf16 parameters lack of f32 parameters; as numbers they are whole.
    Remainder(Vec<u16>),
    Blocks {
        map: Map,
        codes: Vec<u8>,
        /// The largest magnitude of each block.
        largest: Vec<f32>,
    },
}

impl Packed {
    /// Numbers, rounded to nearest in a format.
    pub(crate) fn nearest(format: Format, values: &[f32]) -> Self {
        match format {
            Format::F32 => Self::F32(values.to_vec()),
            Format::F16 | Format::Bf16 => {
                Self::Half(format, values.iter().map(|x| half::nearest(format, *x)).collect())
            }
        }
    }

    /// A state in bf16; a number that the rule divides by does not become 0.
    pub(crate) fn half_state(kind: Kind, values: &[f32]) -> Self {
        let least = |x: f32| u16::from(kind == Kind::Positive && x.to_bits() != 0);
        let bits = values.iter().map(|x| half::nearest(Format::Bf16, *x).max(least(*x)));
        Self::Half(Format::Bf16, bits.collect())
    }

    /// The parameters for the model, and the array that keeps their precision.
    pub(crate) fn params(params: Params, values: &[f32]) -> (Self, Option<Self>) {
        match params.keep() {
            Some(RoundingMode::Split) => {
                let (high, low) = values.iter().map(|x| half::split(*x)).unzip();
                (Self::Half(Format::Bf16, high), Some(Self::Remainder(low)))
            }
            Some(RoundingMode::Master) => (Self::nearest(params.format(), values), Some(Self::F32(values.to_vec()))),
            None | Some(RoundingMode::Nearest | RoundingMode::Stochastic) => {
                (Self::nearest(params.format(), values), None)
            }
        }
    }

    /// The parameters for the steps, from the model's parameters and the array that keeps their precision.
    pub(crate) fn precise(&self, rest: &Self) -> Vec<f32> {
        match (self, rest) {
            (Self::Half(_, high), Self::Remainder(low)) => {
                high.iter().zip(low).map(|(high, low)| half::join(*high, *low)).collect()
            }
            // Where a parameter differs from the rounded copy, the caller wrote the parameter.
            (Self::Half(format, seen), Self::F32(master)) => {
                let precise = |(seen, master): (&u16, &f32)| {
                    if half::nearest(*format, *master) == *seen { *master } else { half::widen(*format, *seen) }
                };
                seen.iter().zip(master).map(precise).collect()
            }
            _ => self.values(),
        }
    }

    pub(crate) fn blocks(map: Map, values: &[f32]) -> Self {
        Self::blocks_by(blockwise::encode, map, values)
    }

    fn blocks_by(encode: fn(Map, &[f32], &mut [u8]) -> f32, map: Map, values: &[f32]) -> Self {
        let mut codes = vec![0; values.len()];
        let blocks = values.chunks(BLOCK).zip(codes.chunks_mut(BLOCK));
        let largest = blocks.map(|(values, codes)| encode(map, values, codes)).collect();
        Self::Blocks { map, codes, largest }
    }

    /// The numbers.
    pub(crate) fn values(&self) -> Vec<f32> {
        match self {
            Self::F32(values) => values.clone(),
            Self::Half(format, bits) => bits.iter().map(|bits| half::widen(*format, *bits)).collect(),
            Self::Remainder(bits) => bits.iter().copied().map(f32::from).collect(),
            Self::Blocks { map, codes, largest } => {
                let mut values = vec![0.0; codes.len()];
                for ((values, codes), largest) in values.chunks_mut(BLOCK).zip(codes.chunks(BLOCK)).zip(largest) {
                    blockwise::decode(*map, *largest, codes, values);
                }
                values
            }
        }
    }

    /// The kind of the numbers.
    #[cfg(feature = "checkpoint")]
    pub(crate) const fn layout(&self) -> Layout {
        match self {
            Self::F32(_) => Layout::F32,
            Self::Half(format, _) => Layout::Half(*format),
            Self::Remainder(_) => Layout::Remainder,
            Self::Blocks { map, .. } => Layout::Blocks(*map),
        }
    }

    /// The count of the numbers.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Half(_, bits) | Self::Remainder(bits) => bits.len(),
            Self::Blocks { codes, .. } => codes.len(),
        }
    }

    /// The numbers of a range, which must begin at the start of a block.
    pub(crate) fn part(&self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::F32(values) => Self::F32(values[range].to_vec()),
            Self::Half(format, bits) => Self::Half(*format, bits[range].to_vec()),
            Self::Remainder(bits) => Self::Remainder(bits[range].to_vec()),
            Self::Blocks { map, codes, largest } => Self::Blocks {
                map: *map,
                largest: largest[range.start / BLOCK..range.end.div_ceil(BLOCK)].to_vec(),
                codes: codes[range].to_vec(),
            },
        }
    }

    /// Appends numbers of the same kind.
    pub(crate) fn append(&mut self, more: Self) {
        match (self, more) {
            (Self::F32(values), Self::F32(more)) => values.extend(more),
            (Self::Half(_, bits), Self::Half(_, more)) | (Self::Remainder(bits), Self::Remainder(more)) => {
                bits.extend(more);
            }
            (Self::Blocks { codes, largest, .. }, Self::Blocks { codes: c, largest: l, .. }) => {
                codes.extend(c);
                largest.extend(l);
            }
            (this, more) => debug_assert!(false, "{this:?} and {more:?}"),
        }
    }

    /// The bytes, in whole words, and the bytes of the blocks' largest magnitudes.
    pub(crate) fn bytes(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut bytes, largest) = match self {
            Self::F32(values) => (bytemuck::cast_slice(values).to_vec(), Vec::new()),
            Self::Half(_, bits) | Self::Remainder(bits) => (bytemuck::cast_slice(bits).to_vec(), Vec::new()),
            Self::Blocks { codes, largest, .. } => (codes.clone(), bytemuck::cast_slice(largest).to_vec()),
        };
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        (bytes, largest)
    }

    /// Reads `elements` numbers of a format. The bytes may be padded to a whole word.
    pub(crate) fn from_bytes(format: Format, elements: usize, bytes: &[u8]) -> Self {
        let bytes = &bytes[..elements * format.bytes() as usize];
        match format {
            Format::F32 => Self::F32(bytemuck::pod_collect_to_vec(bytes)),
            Format::F16 | Format::Bf16 => Self::Half(format, bytemuck::pod_collect_to_vec(bytes)),
        }
    }
}

/// The layout of an array: the kinds of [`Packed`], with their rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// f32.
    Whole,
    /// bf16, with stochastic rounding or round to nearest.
    Half { stochastic: bool },
    /// The 16 bits that a split separates.
    Remainder,
    /// One byte per number, in blocks.
    Blocks(Map),
}

impl Form {
    /// The layout of a state.
    pub(crate) const fn of(kind: Kind, format: StateFormat) -> Self {
        match format {
            StateFormat::F32 => Self::Whole,
            StateFormat::Bf16 => Self::Half { stochastic: false },
            StateFormat::Bf16Stochastic => Self::Half { stochastic: true },
            StateFormat::Blockwise8 => Self::Blocks(Map::of(kind)),
        }
    }

    /// The nearest numbers that the layout can store.
    pub(crate) fn pack(self, kind: Kind, values: &[f32]) -> Packed {
        match self {
            Self::Whole => Packed::F32(values.to_vec()),
            Self::Half { .. } => Packed::half_state(kind, values),
            Self::Remainder => Packed::Remainder(values.iter().map(|x| *x as u16).collect()),
            Self::Blocks(map) => Packed::blocks(map, values),
        }
    }

    /// Stores, without loss, numbers that this layout stored before.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn pack_again(self, kind: Kind, values: &[f32]) -> Packed {
        match self {
            Self::Blocks(map) => Packed::blocks_by(blockwise::encode_again, map, values),
            Self::Whole | Self::Half { .. } | Self::Remainder => self.pack(kind, values),
        }
    }

    /// Reads `elements` numbers. The bytes may be padded to a whole word.
    pub(crate) fn unpack(self, elements: usize, bytes: &[u8], largest: &[u8]) -> Packed {
        match self {
            Self::Whole => Packed::from_bytes(Format::F32, elements, bytes),
            Self::Half { .. } => Packed::from_bytes(Format::Bf16, elements, bytes),
            Self::Remainder => Packed::Remainder(bytemuck::pod_collect_to_vec(&bytes[..2 * elements])),
            Self::Blocks(map) => Packed::Blocks {
                map,
                codes: bytes[..elements].to_vec(),
                largest: bytemuck::pod_collect_to_vec(largest),
            },
        }
    }
}

/// The kinds of [`Packed`].
#[cfg(feature = "checkpoint")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    F32,
    Half(Format),
    Remainder,
    Blocks(Map),
}

#[cfg(feature = "checkpoint")]
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => Format::F32.fmt(f),
            Self::Half(format) => format.fmt(f),
            Self::Remainder => f.write_str("16-bit remainder"),
            Self::Blocks(map) => write!(f, "{} 8bit", map.name()),
        }
    }
}

#[cfg(feature = "checkpoint")]
impl From<Format> for Layout {
    fn from(format: Format) -> Self {
        match format {
            Format::F32 => Self::F32,
            Format::F16 | Format::Bf16 => Self::Half(format),
        }
    }
}

#[cfg(feature = "checkpoint")]
impl From<Form> for Layout {
    fn from(form: Form) -> Self {
        match form {
            Form::Whole => Self::F32,
            Form::Half { .. } => Self::Half(Format::Bf16),
            Form::Remainder => Self::Remainder,
            Form::Blocks(map) => Self::Blocks(map),
        }
    }
}
