//! The optimizer on the host that the caller holds. It has one part for each rule, keeps the specification of the whole, and hands each call
//! to its parts. The files have the names of the files in `gpu/optimizer`.

mod decisions;
mod evaluate;
mod numbers;
mod partial;
mod rows;
mod settings;
mod step;
mod telemetry;

use crate::cpu::number::Number;
use crate::cpu::part::Part;
use crate::gpu::build::division::{Directory, InPart};
use crate::gpu::build::spec::{Group, Spec, Tensor};
use crate::optim::Rule;
use crate::options::schedule::Schedule;
use crate::{Error, Result};

/// An optimizer on the host, from [`Builder::build_cpu`](crate::Builder::build_cpu): `Optimizer<f64>` is the oracle, `Optimizer<f32>` the
/// fast path. Its results are the same bits on every run, with any count of threads.
#[derive(Debug)]
pub struct Optimizer<F> {
    /// The specification of the whole. Each part has its share of it.
    pub(crate) spec: Spec,
    /// One for each rule, in the order of the groups.
    pub(crate) parts: Vec<Part<F>>,
    pub(crate) directory: Directory,
}

impl<F: Number> Optimizer<F> {
    /// The groups with their names, in order.
    pub fn groups(&self) -> impl Iterator<Item = (Group, &str)> {
        self.spec.group_handles().map(|(group, info)| (group, info.name.as_str()))
    }

    /// The tensors with their names and shapes, in order.
    pub fn tensors(&self) -> impl Iterator<Item = (Tensor, &str, &[usize])> {
        self.spec.tensor_handles().map(|(tensor, info)| (tensor, info.name.as_str(), info.shape.as_slice()))
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// The optimizer has no tensor of this name; the error suggests the nearest name.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        self.spec.tensor_named(name)
    }

    /// A tensor's group.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn group_of(&self, tensor: Tensor) -> Result<Group> {
        Ok(self.spec.group_handle(self.spec.tensor_info(tensor)?.group))
    }

    /// The current settings of a group. A setting with a schedule has the value from the builder.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn rule(&self, group: Group) -> Result<&dyn Rule> {
        Ok(self.spec.group_info(group)?.rule.as_ref())
    }

    /// The schedule of a group's setting ("lr" …), if the setting has one.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub fn schedule(&self, group: Group, setting: &str) -> Result<Option<&Schedule>> {
        let scheduled = &self.spec.group_info(group)?.scheduled;
        Ok(scheduled.iter().find(|s| s.setting == setting).map(|s| &s.schedule))
    }

    /// The part of a tensor, with the handle of the tensor in it.
    ///
    /// # Errors
    /// The handle belongs to another optimizer.
    pub(crate) fn of_tensor(&self, tensor: Tensor) -> Result<(&Part<F>, Tensor)> {
        let InPart { part, index } = self.directory.tensor(&self.spec, tensor)?;
        let part = &self.parts[part];
        Ok((part, part.spec.tensor_handle(index)))
    }

    /// As [`of_tensor`](Self::of_tensor), for writing.
    pub(crate) fn of_tensor_mut(&mut self, tensor: Tensor) -> Result<(&mut Part<F>, Tensor)> {
        let InPart { part, index } = self.directory.tensor(&self.spec, tensor)?;
        let part = &mut self.parts[part];
        let tensor = part.spec.tensor_handle(index);
        Ok((part, tensor))
    }

    /// The share of each part, from one item for each tensor.
    pub(crate) fn shares<T>(&self, of_tensors: impl IntoIterator<Item = T>) -> Vec<Vec<T>> {
        self.directory.shares(self.parts.len(), of_tensors)
    }

    /// Checks that there is one item for each tensor.
    pub(crate) fn check_count(&self, what: &str, given: usize) -> Result<()> {
        let tensors = self.spec.tensors.len();
        if given == tensors {
            return Ok(());
        }
        Err(Error::Usage(format!("{given} {what} were given, the optimizer has {tensors} tensors")))
    }
}
