//! What every objective refuses in the same words.

use super::TensorSpec;
use crate::{Error, Result};

/// One slice a tensor, each of the tensor's length.
pub(super) fn lengths(tensors: &[TensorSpec], lengths: impl ExactSizeIterator<Item = usize>, role: &str) -> Result<()> {
    if lengths.len() != tensors.len() {
        return Err(Error::Usage(format!("{} slices of {role}, needs {}", lengths.len(), tensors.len())));
    }
    for (tensor, length) in tensors.iter().zip(lengths) {
        if length != tensor.elements() {
            let problem = format!("{role} have {length} elements, needs {}", tensor.elements());
            return Err(Error::Tensor { tensor: tensor.name.clone(), problem });
        }
    }
    Ok(())
}

/// A batch of so many.
pub(super) fn batch(batch: usize, count: usize) -> Result<()> {
    if batch < count { Ok(()) } else { Err(Error::Usage(format!("batch {batch} of {count}"))) }
}
