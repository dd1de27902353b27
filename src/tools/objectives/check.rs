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

/// The iterations a kernel's thread may make: Mesa's software driver silently stops loops at 65,535.
pub(super) const LONGEST_LOOP: usize = 60_000;

/// Refuses what would make a kernel's thread walk too far.
pub(super) fn loops(what: &str, count: usize) -> Result<()> {
    if count > LONGEST_LOOP {
        return Err(Error::Usage(format!("{count} {what}, needs at most {LONGEST_LOOP} on a GPU")));
    }
    Ok(())
}
