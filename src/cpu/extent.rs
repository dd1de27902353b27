//! The extent of a tensor and of a row set, which the files of the host share.

use crate::gpu::build::spec::{Mask, RowSetInfo, Spec, TensorInfo};
use crate::{Error, Result};

/// The name and the group of a tensor, and the count of its numbers that a step sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) name: String,
    /// The index of the group.
    pub(crate) group: usize,
    /// 0 for a frozen tensor, which takes no part in steps.
    pub(crate) elements: usize,
    /// Whether steps can see numbers of the tensor, now or after its row set grows.
    pub(crate) steps: bool,
}

impl Extent {
    pub(crate) fn new(info: &TensorInfo) -> Self {
        let elements = if info.frozen { 0 } else { info.used() as usize };
        Self { name: info.name.clone(), group: info.group, elements, steps: !info.frozen && info.elements > 0 }
    }
}

/// Tensors that share rows.
#[derive(Clone, Debug)]
pub(crate) struct RowSetState {
    pub(crate) name: String,
    pub(crate) tensors: Vec<usize>,
    /// The elements of a row of each tensor.
    pub(crate) widths: Vec<usize>,
    pub(crate) rows: usize,
    /// The row capacity. `None`: rows cannot be remapped.
    pub(crate) capacity: Option<usize>,
    /// Whether the set has a mask.
    pub(crate) masked: bool,
    /// Whether a step leaves out elements with a gradient of exactly zero.
    pub(crate) nonzero: bool,
    /// One word per row, 0 where a step leaves the row as it is. Empty: a step takes every row.
    pub(crate) flags: Vec<u32>,
}

impl RowSetState {
    pub(crate) fn new(spec: &Spec, set: &RowSetInfo) -> Self {
        Self {
            name: set.name.clone(),
            tensors: set.tensors.clone(),
            widths: set.tensors.iter().map(|&tensor| spec.tensors[tensor].width()).collect(),
            rows: spec.tensors[set.tensors[0]].shape[0],
            capacity: set.reserved,
            masked: !matches!(set.mask, Mask::None),
            nonzero: set.nonzero,
            flags: Vec::new(),
        }
    }

    pub(crate) fn error(&self, problem: &str) -> Error {
        Error::Usage(format!("row set `{}`: {problem}", self.name))
    }

    pub(crate) fn check_count(&self, what: &str, given: usize, needs: usize) -> Result<()> {
        if given == needs {
            return Ok(());
        }
        Err(self.error(&format!("{given} {what} were given, needs {needs}")))
    }
}
