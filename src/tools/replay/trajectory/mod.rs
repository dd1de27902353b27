//! Trajectories: files that hold a run of somebody else's optimizer, what a replay writes, and how the two are compared.
//!
//! A trajectory is a safetensors file. Its tensors:
//!
//! | key | meaning |
//! |---|---|
//! | `param/<tensor>` | f32, the parameters before the first step |
//! | `grad/<t>/<tensor>` | f32, the gradient of step t, t = 1..steps |
//! | `curvature/<tensor>` | f32, in place of gradients: f(θ) = ½ Σ c θ², so ∇f = c·θ |
//! | `direction/<t>/<j>/<tensor>` | f32, the j-th probe direction of step t, j = 1..k |
//! | `expect/<t>/param/<tensor>` | f64, the parameters after step t |
//! | `expect/<t>/<state>/<tensor>` | f64, a state after step t |
//! | `expect/lgi` | f64, S-Adam's LGI of each step |
//! | `expect/triggers` | i64, FlowAdam's steps that took the ODE branch, counted from 1 |
//!
//! Its metadata, all of it required: `optimizer`, `hyper` (a JSON object of numbers, truth values and texts), `steps`, `source`,
//! `tolerance_f32` and `tolerance_f64` (both from 0 up to 1, 1 excluded). Other metadata is ignored; another tensor is an error,
//! so that a misspelt key cannot pass as a thing not expected.
//!
//! A file is complete or refused: every tensor has its gradient in every step or its curvature, every direction that another
//! tensor or step has, and every expectation that another tensor has of that step; all of a tensor's shapes agree; and no key
//! names a step past `steps`. With curvature and no directions nothing in the file bounds `steps`, so a million does.
//! The data may be any bits: a NaN in a gradient is a test of the optimizer. [`Comparison`] fails wherever a NaN is got or
//! expected.

mod check;
mod compare;
mod key;
mod writer;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
};

use serde_json::{Map, Value};

pub use self::compare::{Comparison, Deviation, Precision, add_travel, raise_peak};
use self::key::PARAM;
pub use self::writer::{Element, Writer};
use crate::io::tensor_file::TensorFile;
use crate::{Error, Result};

/// A run to replay. Holds the file's bytes once; numbers are handed out on demand, borrowed where they lie aligned.
#[derive(Debug)]
pub struct Trajectory {
    file: TensorFile,
    optimizer: String,
    hyper: Map<String, Value>,
    steps: usize,
    source: String,
    tolerance_f32: f64,
    tolerance_f64: f64,
    tensors: Vec<Tensor>,
    directions: usize,
    /// The expected steps of each quantity, `param` included.
    expected: BTreeMap<String, BTreeSet<usize>>,
    states: Vec<String>,
}

/// One parameter tensor of a [`Trajectory`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    name: String,
    shape: Vec<usize>,
    data: Range<usize>,
}

impl Tensor {
    /// Its name, which may hold slashes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its shape; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of its elements; 0 is valid.
    pub fn elements(&self) -> usize {
        self.data.len() / size_of::<f32>()
    }
}

impl Trajectory {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::File`] where it is not a complete trajectory.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        match std::fs::read(path) {
            Ok(bytes) => Self::from_bytes(&name, bytes),
            Err(source) => Err(Error::Io { path: name, source }),
        }
    }

    /// Takes a file's bytes; `name` stands in the errors.
    ///
    /// # Errors
    /// [`Error::File`] where they are not a complete trajectory.
    pub fn from_bytes(name: &str, bytes: impl Into<Vec<u8>>) -> Result<Self> {
        check::build(TensorFile::parse(name, bytes.into())?)
    }

    /// The name that the file was given.
    pub fn name(&self) -> &str {
        self.file.name()
    }

    /// The rule's name.
    pub fn optimizer(&self) -> &str {
        &self.optimizer
    }

    /// The settings that differ from the defaults: numbers, truth values and texts.
    pub fn hyper(&self) -> &Map<String, Value> {
        &self.hyper
    }

    /// The number of steps, at least 1.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Whose code made it, and which version.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The share of the distance travelled that an f32 backend may be off.
    pub fn tolerance_f32(&self) -> f64 {
        self.tolerance_f32
    }

    /// The share of the distance travelled that the f64 reference may be off.
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

    /// The parameter tensors, by name in the order of its bytes; the methods below take an index into this list.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The parameters of tensor `i` before the first step.
    ///
    /// # Panics
    /// Where `i` is no index of [`Trajectory::tensors`].
    pub fn initial(&self, i: usize) -> Cow<'_, [f32]> {
        self.file.at(&self.tensors[i].data)
    }

    /// The gradient of tensor `i` in step `t`, counted from 1; none in a file of curvatures.
    pub fn gradient(&self, t: usize, i: usize) -> Option<Cow<'_, [f32]>> {
        self.file.numbers(&key::gradient(t, self.tensors.get(i)?.name()))
    }

    /// The curvature c of tensor `i`, whose gradient is c·θ; none in a file of gradients.
    pub fn curvature(&self, i: usize) -> Option<Cow<'_, [f32]>> {
        self.file.numbers(&key::curvature(self.tensors.get(i)?.name()))
    }

    /// How many probe directions each step has.
    pub fn directions(&self) -> usize {
        self.directions
    }

    /// The `j`-th probe direction of step `t` in tensor `i`; `t` and `j` are counted from 1.
    pub fn direction(&self, t: usize, j: usize, i: usize) -> Option<Cow<'_, [f32]>> {
        self.file.numbers(&key::direction(t, j, self.tensors.get(i)?.name()))
    }

    /// The steps after which the file says what to expect, ascending.
    pub fn expected_steps(&self) -> Vec<usize> {
        self.expected.values().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The names of the states that are expected after some step, ascending.
    pub fn states(&self) -> &[String] {
        &self.states
    }

    /// The parameters of tensor `i` after step `t`, where the file has them.
    pub fn expected_param(&self, t: usize, i: usize) -> Option<Cow<'_, [f64]>> {
        self.expected_state(t, PARAM, i)
    }

    /// A state of tensor `i` after step `t`, where the file has it.
    pub fn expected_state(&self, t: usize, state: &str, i: usize) -> Option<Cow<'_, [f64]>> {
        self.file.numbers(&key::expect(t, state, self.tensors.get(i)?.name()))
    }

    /// The LGI of each step, where the file has it.
    pub fn lgi(&self) -> Option<Cow<'_, [f64]>> {
        self.file.numbers(key::LGI)
    }

    /// The steps that took the ODE branch, counted from 1 and ascending, where the file has them.
    pub fn triggers(&self) -> Option<Cow<'_, [i64]>> {
        self.file.numbers(key::TRIGGERS)
    }
}
