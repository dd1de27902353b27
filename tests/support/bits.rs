//! Numbers as their bits.

/// The bits of each number, so that a comparison tells apart both zeros and finds a NaN equal to itself.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}
