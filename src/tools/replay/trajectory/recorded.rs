//! A recorded run: the input of each step, and the expected values after it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use serde_json::{Map, Value};

use super::compare::{Comparison, Precision};
use super::key::{self, PARAM};
use crate::io::tensor_file::TensorFile;

/// A run to replay. It holds the file's bytes once. Numbers are read on demand, and borrowed if they lie aligned.
#[derive(Debug)]
pub struct Trajectory {
    pub(super) file: TensorFile,
    pub(super) optimizer: String,
    pub(super) hyper: Map<String, Value>,
    pub(super) steps: usize,
    pub(super) source: String,
    pub(super) tolerance_f32: f64,
    pub(super) tolerance_f64: f64,
    pub(super) tensors: Vec<Tensor>,
    pub(super) directions: usize,
    /// The expected steps of each quantity, `param` included.
    pub(super) expected: BTreeMap<String, BTreeSet<usize>>,
    pub(super) states: Vec<String>,
}

/// One parameter tensor of a [`Trajectory`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) data: Range<usize>,
}

impl Tensor {
    /// The tensor's name, which may hold slashes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tensor's shape; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements; 0 is valid.
    pub fn elements(&self) -> usize {
        self.data.len() / size_of::<f32>()
    }
}

impl Trajectory {
    /// The file's name.
    pub fn name(&self) -> &str {
        self.file.name()
    }

    /// The rule's name.
    pub fn optimizer(&self) -> &str {
        &self.optimizer
    }

    /// The settings that differ from the defaults: numbers, booleans and texts.
    pub fn hyper(&self) -> &Map<String, Value> {
        &self.hyper
    }

    /// The number of steps, at least 1.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The implementation that made the run, and its version.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The largest error of an f32 backend, as a share of the distance travelled.
    pub fn tolerance_f32(&self) -> f64 {
        self.tolerance_f32
    }

    /// The largest error of the f64 reference, as a share of the distance travelled.
    pub fn tolerance_f64(&self) -> f64 {
        self.tolerance_f64
    }

    /// A comparison with the tolerance that the file gives for `precision`.
    pub fn comparison(&self, precision: Precision) -> Comparison {
        let tolerance = match precision {
            Precision::F32 => self.tolerance_f32,
            Precision::F64 => self.tolerance_f64,
        };
        Comparison::new(precision, tolerance)
    }

    /// The parameter tensors, sorted by the bytes of their names. The methods below take an index into this list.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The parameters of tensor `i` before the first step.
    ///
    /// # Panics
    /// `i` is not an index of [`Trajectory::tensors`].
    pub fn initial(&self, i: usize) -> Cow<'_, [f32]> {
        self.file.at(&self.tensors[i].data)
    }

    /// The gradient of tensor `i` in step `t`, counted from 1; `None` in a file of curvatures.
    pub fn gradient(&self, t: usize, i: usize) -> Option<Cow<'_, [f32]>> {
        self.file.numbers(&key::gradient(t, self.tensors.get(i)?.name()))
    }

    /// The curvature c of tensor `i`, which has the gradient c·θ; `None` in a file of gradients.
    pub fn curvature(&self, i: usize) -> Option<Cow<'_, [f32]>> {
        self.file.numbers(&key::curvature(self.tensors.get(i)?.name()))
    }

    /// The number of probe directions per step.
    pub fn directions(&self) -> usize {
        self.directions
    }

    /// The `j`-th probe direction of step `t` in tensor `i`; `t` and `j` are counted from 1.
    pub fn direction(&self, t: usize, j: usize, i: usize) -> Option<Cow<'_, [f32]>> {
        self.file.numbers(&key::direction(t, j, self.tensors.get(i)?.name()))
    }

    /// The steps after which the file has expected values, ascending.
    pub fn expected_steps(&self) -> Vec<usize> {
        self.expected.values().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The names of the states that have expected values, ascending.
    pub fn states(&self) -> &[String] {
        &self.states
    }

    /// The parameters of tensor `i` after step `t`, if the file has them.
    pub fn expected_param(&self, t: usize, i: usize) -> Option<Cow<'_, [f64]>> {
        self.expected_state(t, PARAM, i)
    }

    /// A state of tensor `i` after step `t`, if the file has it.
    pub fn expected_state(&self, t: usize, state: &str, i: usize) -> Option<Cow<'_, [f64]>> {
        self.file.numbers(&key::expect(t, state, self.tensors.get(i)?.name()))
    }

    /// The LGI of each step, if the file has it.
    pub fn lgi(&self) -> Option<Cow<'_, [f64]>> {
        self.file.numbers(key::LGI)
    }

    /// The steps that took the ODE branch, counted from 1 and ascending, if the file has them.
    pub fn triggers(&self) -> Option<Cow<'_, [i64]>> {
        self.file.numbers(key::TRIGGERS)
    }
}
