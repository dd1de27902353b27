//! Pseudo-random numbers.

/// A word for each seed and index.
pub(crate) fn hash(seed: u32, i: u32) -> u32 {
    let x = (i ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
    let x = (x ^ (x >> 15)).wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 13)
}

/// `n` numbers in [-1, 1), the same for the same seed.
pub(crate) fn numbers(seed: u32, n: usize) -> Vec<f32> {
    (0..n as u32).map(|i| (hash(seed, i) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}
