//! The checks that all objectives share.

use super::TensorSpec;
use crate::{Error, Result};

/// Checks that there is one slice per tensor, of the tensor's length.
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

/// Checks that a batch exists.
pub(super) fn batch(batch: usize, count: usize) -> Result<()> {
    if batch < count {
        Ok(())
    } else {
        Err(Error::Usage(format!("there is no batch {batch}, needs less than {count}")))
    }
}

/// The largest number of iterations in a kernel's thread: Mesa's software driver silently stops loops at 65,535.
pub(super) const LONGEST_LOOP: usize = 60_000;

/// Refuses a count that makes a kernel's thread loop too often.
pub(super) fn loops(what: &str, count: usize) -> Result<()> {
    if count > LONGEST_LOOP {
        return Err(Error::Usage(format!("{count} {what}, needs at most {LONGEST_LOOP} on a GPU")));
    }
    Ok(())
}
