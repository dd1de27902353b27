//! What an optimizer on the host is made from.

use std::collections::BTreeMap;

use crate::gpu::build::spec::GroupInfo;
use crate::options::around::Around;
use crate::options::storage::Formats;
use crate::{Error, Result};

/// A tensor to be optimized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name, unlike any other tensor's.
    pub name: String,
    /// The index of its group.
    pub group: usize,
    /// How many numbers it holds; 0 is valid.
    pub elements: usize,
}

impl TensorSpec {
    pub(crate) fn error(&self, problem: String) -> Error {
        Error::Tensor { tensor: self.name.clone(), problem }
    }

    pub(crate) fn check_length(&self, what: &str, given: usize) -> Result<()> {
        if given == self.elements {
            return Ok(());
        }
        Err(self.error(format!("its {what} has {given} elements, needs {}", self.elements)))
    }
}

/// Tensors that share rows.
#[derive(Clone, Debug)]
pub(crate) struct RowSetSpec {
    pub(crate) name: String,
    pub(crate) tensors: Vec<usize>,
    pub(crate) rows: usize,
    /// Whether elements stay as they are where the gradient is exactly zero.
    pub(crate) nonzero: bool,
    /// A word per row, 0 where it stays as it is; none: every row is stepped.
    pub(crate) flags: Vec<u32>,
}

impl RowSetSpec {
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

/// Everything that an optimizer is made from. Two optimizers of the same description do the same.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) groups: Vec<GroupInfo>,
    pub(crate) tensors: Vec<TensorSpec>,
    /// How each tensor is stored.
    pub(crate) formats: Vec<Formats>,
    pub(crate) around: Around,
    pub(crate) rows: Vec<RowSetSpec>,
    /// The rates of a tensor's columns; where there are none: 1.
    pub(crate) columns: BTreeMap<usize, Vec<f64>>,
    /// The elements of a tensor's rows, where they share one second moment.
    pub(crate) shared: BTreeMap<usize, usize>,
    pub(crate) seed: u64,
}

impl Spec {
    /// The groups and tensors, and the default of everything else.
    pub(crate) fn new(groups: Vec<GroupInfo>, tensors: Vec<TensorSpec>) -> Self {
        Self {
            groups,
            formats: vec![Formats::default(); tensors.len()],
            tensors,
            around: Around::default(),
            rows: Vec::new(),
            columns: BTreeMap::new(),
            shared: BTreeMap::new(),
            seed: 0,
        }
    }

    pub(crate) fn group_mut(&mut self, group: usize) -> Result<&mut GroupInfo> {
        let count = self.groups.len();
        let missing = || Error::Usage(format!("group {group} does not exist, there are {count}"));
        self.groups.get_mut(group).ok_or_else(missing)
    }

    pub(crate) fn tensor(&self, tensor: usize) -> Result<&TensorSpec> {
        let missing = || Error::Usage(format!("tensor {tensor} does not exist, there are {}", self.tensors.len()));
        self.tensors.get(tensor).ok_or_else(missing)
    }

    /// The row set that a tensor is in.
    pub(crate) fn set_of(&self, tensor: usize) -> Option<&RowSetSpec> {
        self.rows.iter().find(|set| set.tensors.contains(&tensor))
    }
}
