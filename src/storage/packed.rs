//! Numbers as they are stored, on the host.

#[cfg(feature = "checkpoint")]
use std::fmt;

use super::blockwise::{self, BLOCK, Map};
use super::{Format, Keep, Params, half};
use crate::optim::Kind;

/// An array's numbers as they are stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Packed {
    F32(Vec<f32>),
    /// In one of the formats of half precision.
    Half(Format, Vec<u16>),
    /// The 16 bits that bf16 parameters lack of f32 ones; as numbers they are whole.
    Remainder(Vec<u16>),
    Blocks {
        map: Map,
        codes: Vec<u8>,
        /// The largest magnitude of each block.
        largest: Vec<f32>,
    },
}

impl Packed {
    /// Numbers to the nearest of a format.
    pub(crate) fn nearest(format: Format, values: &[f32]) -> Self {
        match format {
            Format::F32 => Self::F32(values.to_vec()),
            Format::F16 | Format::Bf16 => {
                Self::Half(format, values.iter().map(|x| half::nearest(format, *x)).collect())
            }
        }
    }

    /// A state in bf16; one that is divided by is not rounded to 0.
    pub(crate) fn half_state(kind: Kind, values: &[f32]) -> Self {
        let least = |x: f32| u16::from(kind == Kind::Positive && x.to_bits() != 0);
        let bits = values.iter().map(|x| half::nearest(Format::Bf16, *x).max(least(*x)));
        Self::Half(Format::Bf16, bits.collect())
    }

    /// Parameters as the model sees them, and what keeps their precision.
    pub(crate) fn params(params: Params, values: &[f32]) -> (Self, Option<Self>) {
        match params.keep() {
            Some(Keep::Split) => {
                let (high, low) = values.iter().map(|x| half::split(*x)).unzip();
                (Self::Half(Format::Bf16, high), Some(Self::Remainder(low)))
            }
            Some(Keep::Master) => (Self::nearest(params.format(), values), Some(Self::F32(values.to_vec()))),
            None | Some(Keep::Nearest | Keep::Stochastic) => (Self::nearest(params.format(), values), None),
        }
    }

    /// Parameters as the steps change them, from what the model sees and what keeps their precision.
    pub(crate) fn precise(&self, rest: &Self) -> Vec<f32> {
        match (self, rest) {
            (Self::Half(_, high), Self::Remainder(low)) => {
                high.iter().zip(low).map(|(high, low)| half::join(*high, *low)).collect()
            }
            // What is not its copy's nearest was written by somebody else.
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
        let mut codes = vec![0; values.len()];
        let blocks = values.chunks(BLOCK).zip(codes.chunks_mut(BLOCK));
        let largest = blocks.map(|(values, codes)| blockwise::encode(map, values, codes)).collect();
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

    /// Of which kind they are.
    #[cfg(feature = "checkpoint")]
    pub(crate) const fn layout(&self) -> Layout {
        match self {
            Self::F32(_) => Layout::F32,
            Self::Half(format, _) => Layout::Half(*format),
            Self::Remainder(_) => Layout::Remainder,
            Self::Blocks { map, .. } => Layout::Blocks(*map),
        }
    }

    /// How many numbers.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Half(_, bits) | Self::Remainder(bits) => bits.len(),
            Self::Blocks { codes, .. } => codes.len(),
        }
    }

    /// Those of this range, which begins with a block.
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

    /// Puts more of the same kind behind them.
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

    /// The bytes, in whole words; and those of the blocks' largest magnitudes.
    pub(crate) fn bytes(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut bytes, largest) = match self {
            Self::F32(values) => (bytemuck::cast_slice(values).to_vec(), Vec::new()),
            Self::Half(_, bits) | Self::Remainder(bits) => (bytemuck::cast_slice(bits).to_vec(), Vec::new()),
            Self::Blocks { codes, largest, .. } => (codes.clone(), bytemuck::cast_slice(largest).to_vec()),
        };
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        (bytes, largest)
    }

    /// As many numbers as `like` has kinds for, from bytes that may be longer by less than a word.
    pub(crate) fn from_bytes(like: Layout, elements: usize, bytes: &[u8], largest: &[u8]) -> Self {
        let halves = || bytemuck::pod_collect_to_vec(&bytes[..2 * elements]);
        match like {
            Layout::F32 => Self::F32(bytemuck::pod_collect_to_vec(&bytes[..4 * elements])),
            Layout::Half(format) => Self::Half(format, halves()),
            Layout::Remainder => Self::Remainder(halves()),
            Layout::Blocks(map) => {
                Self::Blocks { map, codes: bytes[..elements].to_vec(), largest: bytemuck::pod_collect_to_vec(largest) }
            }
        }
    }
}

/// The kinds of [`Packed`].
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

impl From<Format> for Layout {
    fn from(format: Format) -> Self {
        match format {
            Format::F32 => Self::F32,
            Format::F16 | Format::Bf16 => Self::Half(format),
        }
    }
}
