//! Eight bits per number: a code of a map, times the largest magnitude of a block. `shaders/harness/blockwise.wgsl` does the same on the GPU.
//!
//! The maps are the dynamic ones of Dettmers et al. 2022 (8-bit Optimizers via Block-wise Quantization, §2.2) as bitsandbytes and torchao
//! build them: 0, the middles of cells, and 1. There are seven decades, from [1e-7, 1e-6] to [0.1, 1]. Each decade is cut into cells of one
//! size, twice as many as the decade below has. One numbering covers all cells: cell J of a decade with C cells, C ≤ J < 2C, has its middle at
//! 10^d · (0.1 + 0.9 ((J + ½)/C - 1)): C is the power of two of J + ½ as a float, and (J + ½)/C its significand.

use crate::optim::Kind;

/// The count of numbers that share their largest magnitude.
pub const BLOCK: usize = 256;

/// The numbers of [-1, 1] or [0, 1] that the codes stand for, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Map {
    /// 127 numbers below 0, then 0 (code 127), then 128 numbers above 0. The last number is 1.
    Signed,
    /// 0, 254 numbers, 1.
    Unsigned,
}

/// Decades of a map.
const DECADES: usize = 7;
/// The inverse of each decade's upper end.
const INVERSE: [f32; DECADES] = [1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1.0];

/// A line through a point.
struct Line {
    slope: f64,
    at: f64,
    value: f64,
}

impl Map {
    /// The map for a state with this kind of numbers.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Positive => Self::Unsigned,
            Kind::Signed | Kind::Exact => Self::Signed,
        }
    }

    /// `signed` or `unsigned`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Unsigned => "unsigned",
        }
    }

    /// The number of cells of the lowest decade; a map without a sign has room for twice as many.
    const fn first_cells(self) -> u32 {
        match self {
            Self::Signed => 1,
            Self::Unsigned => 2,
        }
    }

    /// The lower edge of each decade, halfway between two numbers of the map, and the lower edge of 1.
    pub(crate) const fn edges(self) -> [f32; DECADES + 1] {
        let mut edges = [0.0; DECADES + 1];
        let (mut below, mut decade, mut cells) = (0.0, 1e-6, self.first_cells() as f64);
        let mut d = 0;
        while d < DECADES {
            edges[d] = (0.5 * (below + decade * (0.1 + 0.45 / cells))) as f32;
            below = decade * (1.0 - 0.45 / cells);
            decade *= 10.0;
            cells *= 2.0;
            d += 1;
        }
        edges[DECADES] = (0.5 * (below + 1.0)) as f32;
        edges
    }

    /// The lines that give the middles of the cells, one per decade: slope, and value at code 0, or at the
    /// code of 0 where codes have signs. The middle of a cell is the largest of
    /// them, because from decade to decade the slope grows by five.
    pub(crate) fn middle_lines(self) -> [[f32; 2]; DECADES] {
        let first = f64::from(self.first_cells());
        self.lines(|decade, cells| Line {
            slope: 0.9 * decade / cells,
            at: cells + 1.0 - first,
            value: decade * (0.1 + 0.45 / cells),
        })
    }

    /// The lines that give the place of a magnitude among the cells, one per decade: slope, and value at 0. The place is the smallest of
    /// them.
    pub(crate) fn cell_lines(self) -> [[f32; 2]; DECADES] {
        let [edge, ..] = self.edges().map(f64::from);
        self.lines(|decade, cells| {
            if decade < 2e-6 {
                // The kernel takes places below 0.2 of the first cell for 0. Here the line has this value at the edge to 0.
                let (at, value) = if cells > 1.0 { (0.55 * decade, 1.0) } else { (decade, 1.0) };
                let slope = (value - 0.2) / (at - edge);
                return Line { slope, at: edge, value: cells + 0.2 };
            }
            Line { slope: cells / (0.9 * decade), at: 0.1 * decade, value: cells }
        })
    }

    /// Rounds the line of each decade, given by the decade's upper end and its count of cells.
    fn lines(self, of_decade: impl Fn(f64, f64) -> Line) -> [[f32; 2]; DECADES] {
        std::array::from_fn(|d| {
            let cells = f64::from(self.first_cells() << d);
            let Line { slope, at, value } = of_decade(10f64.powi(d as i32 - 6), cells);
            // The rounded slope passes through the same point.
            let slope = slope as f32;
            [slope, (value - f64::from(slope) * at) as f32]
        })
    }

    /// The number that a code stands for.
    #[must_use]
    pub fn value(self, code: u8) -> f32 {
        match self {
            Self::Unsigned => self.magnitude(u32::from(code) + 1),
            Self::Signed => {
                let number = i32::from(code) - 127;
                self.magnitude(number.unsigned_abs()).copysign(number as f32)
            }
        }
    }

    /// The middle of a cell; 0 below the first cell, 1 above the last cell.
    fn magnitude(self, cell: u32) -> f32 {
        let first = self.first_cells();
        if cell < first {
            return 0.0;
        }
        if cell >= first << DECADES {
            return 1.0;
        }
        let bits = (cell as f32 + 0.5).to_bits();
        let significand = f32::from_bits((bits & 0x7f_ffff) | 0x3f80_0000);
        // The number of decades below 1 is the number of powers of two below the highest decade's cells. Three factors give the power of ten,
        // because WGSL's exp2 may be wrong by dozens of units in the last place.
        let below = 126 + DECADES as u32 + first.trailing_zeros() - (bits >> 23);
        let factor = |bit: u32, factor: f32| if below & bit != 0 { factor } else { 1.0 };
        factor(1, 0.1) * factor(2, 0.01) * factor(4, 1e-4) * (0.1 + 0.9 * (significand - 1.0))
    }

    /// The code of the number nearest to `x`, which lies in [-1, 1].
    #[must_use]
    pub fn nearest(self, x: f32) -> u8 {
        let cell = self.cell(x.abs());
        match self {
            Self::Unsigned => (cell - 1) as u8,
            Self::Signed if x < 0.0 => 127 - cell.min(127) as u8,
            Self::Signed => 127 + cell as u8,
        }
    }

    /// The cell of a magnitude; an edge belongs to the upper cell.
    fn cell(self, y: f32) -> u32 {
        const EDGES: [[f32; DECADES + 1]; 2] = [Map::Signed.edges(), Map::Unsigned.edges()];
        let first = self.first_cells();
        let reached = EDGES[self as usize].iter().filter(|edge| y >= **edge).count() as u32;
        if reached == 0 {
            return first - 1;
        }
        if reached as usize > DECADES {
            return first << DECADES;
        }
        let cells = first << (reached - 1);
        let along = (y * INVERSE[reached as usize - 1] - 0.1) * (1.0 / 0.9);
        // The outermost cells of a decade reach to its edges.
        cells + (along * cells as f32).clamp(0.0, (cells - 1) as f32) as u32
    }
}

/// The largest magnitude of a block. The function compares bits: the order does not matter, and a NaN is not lost.
#[must_use]
pub fn largest(block: &[f32]) -> f32 {
    f32::from_bits(block.iter().map(|x| x.to_bits() & 0x7fff_ffff).max().unwrap_or(0))
}

/// The codes of a block of at most [`BLOCK`] numbers, and the block's [`largest`] magnitude. In a map without a sign, only 0 gets the code
/// of 0. A number that is not finite makes its whole block not finite.
pub fn encode(map: Map, block: &[f32], codes: &mut [u8]) -> f32 {
    let largest = largest(block);
    encode_by(map, largest, block, codes);
    largest
}

/// The codes of a block with this largest magnitude.
fn encode_by(map: Map, largest: f32, block: &[f32], codes: &mut [u8]) {
    let (up, largest_up) = scaled(largest);
    for (code, x) in codes.iter_mut().zip(block) {
        let nearest = map.nearest(if largest == 0.0 { 0.0 } else { (x * up) / largest_up });
        *code = if map == Map::Unsigned && *x != 0.0 { nearest.max(1) } else { nearest };
    }
}

/// The codes of a decoded block, and the largest magnitude that gives the same numbers again from these codes. This magnitude is not
/// the largest of the decoded block where that one is of a number below 0: the signed map has no -1, and a new encoding would shrink the
/// numbers. Other numbers are [encoded](encode).
#[cfg(feature = "checkpoint")]
pub(crate) fn encode_again(map: Map, block: &[f32], codes: &mut [u8]) -> f32 {
    let seen = largest(block);
    let before = (seen / map.value(0).abs()).to_bits();
    let of_negative = (-2..=2).map(|places| f32::from_bits(before.wrapping_add_signed(places)));
    let mut again = vec![0.0; block.len()];
    for largest in std::iter::once(seen).chain(of_negative.filter(|_| map == Map::Signed)) {
        encode_by(map, largest, block, codes);
        decode(map, largest, codes, &mut again);
        if again.iter().zip(block).all(|(a, b)| a.to_bits() == b.to_bits()) {
            return largest;
        }
    }
    encode(map, block, codes)
}

/// Checks that [`encode`] can have written these codes and this largest magnitude.
#[cfg(feature = "checkpoint")]
pub(crate) fn check_encoded(map: Map, largest: f32, codes: &[u8]) -> Result<(), String> {
    let [zero, one, minus_one] = [0.0, 1.0, -1.0].map(|x| map.nearest(x));
    let has_one = || codes.iter().any(|code| *code == one || map == Map::Signed && *code == minus_one);
    if largest.is_sign_negative() {
        Err(format!("the largest magnitude is {largest}, needs a number without a sign"))
    } else if largest == 0.0 && codes.iter().any(|code| *code != zero) {
        Err(format!("the largest magnitude is 0, so that every code needs to be {zero}"))
    } else if largest.is_normal() && !has_one() {
        // A device may flush subnormal numbers, and a block that is not finite may have any codes.
        Err(format!("the largest magnitude is {largest}, and no code stands for it, as {one} does"))
    } else {
        Ok(())
    }
}

/// Scales the operands of a division to the range for which WGSL bounds the error of a division.
fn scaled(largest: f32) -> (f32, f32) {
    const MIDDLE: f32 = 1.152_921_5e18; // 2^60
    let up = if largest < 1.0 / MIDDLE {
        MIDDLE
    } else if largest > MIDDLE {
        1.0 / MIDDLE
    } else {
        1.0
    };
    (up, largest * up)
}

/// The numbers of a block. In a map without a sign only 0 becomes 0, down to the smallest f32: the number of a code is more than half of
/// the encoded number.
pub fn decode(map: Map, largest: f32, codes: &[u8], block: &mut [f32]) {
    for (x, code) in block.iter_mut().zip(codes) {
        *x = map.value(*code) * largest;
    }
}
