//! Tensors in f64.

/// The same numbers in f64.
pub(crate) fn wide(tensors: &[Vec<f32>]) -> Vec<Vec<f64>> {
    tensors.iter().map(|tensor| tensor.iter().copied().map(f64::from).collect()).collect()
}
