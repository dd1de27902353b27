//! The parts that the problems with a perceptron share.

use crate::Result;
use crate::tools::objectives::mlp;
use crate::tools::objectives::mlp::{CpuMlp, GpuMlp, Mlp};
use crate::tools::objectives::problem::Problem;
use crate::tools::objectives::{CpuObjective, GpuObjective, Measure, Part, Samples, Split, TensorSpec};

/// A perceptron with its data.
pub(super) struct Classification {
    name: &'static str,
    spec: Mlp,
    tensors: Vec<TensorSpec>,
    /// The training data, and the validation data.
    split: Split,
    test: Samples,
    batch: usize,
    /// The seed of the order of the rows.
    seed: u64,
}

impl Classification {
    /// Checks that the perceptron fits the data.
    pub(super) fn boxed(
        name: &'static str,
        spec: Mlp,
        split: Split,
        test: Samples,
        (batch, seed): (usize, u64),
    ) -> Result<Box<dyn Problem>> {
        let problem = Self { name, tensors: spec.tensors(), spec, split, test, batch, seed };
        problem.cpu_f32()?;
        Ok(Box::new(problem))
    }
}

impl Problem for Classification {
    fn name(&self) -> &'static str {
        self.name
    }

    fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    fn initial(&self, seed: u64) -> Vec<Vec<f32>> {
        self.spec.initial(seed)
    }

    fn cpu_f32(&self) -> Result<Box<dyn CpuObjective<f32> + Send>> {
        Ok(Box::new(CpuMlp::<f32>::new(&self.spec, &self.split, self.batch, self.seed)?))
    }

    fn cpu_f64(&self) -> Result<Box<dyn CpuObjective<f64> + Send>> {
        Ok(Box::new(CpuMlp::<f64>::new(&self.spec, &self.split, self.batch, self.seed)?))
    }

    fn gpu(&self, device: &wgpu::Device) -> Result<Box<dyn GpuObjective>> {
        Ok(Box::new(GpuMlp::new(device, &self.spec, &self.split, self.batch, self.seed)?))
    }

    fn measure(&self) -> Option<Measure> {
        Some(Measure::ACCURACY)
    }

    fn validation(&self, params: &[&[f32]]) -> Option<f64> {
        Some(mlp::measure(&self.spec, params, self.split.part(Part::HeldOut)).accuracy())
    }

    fn test(&self, params: &[&[f32]]) -> Option<f64> {
        Some(mlp::measure(&self.spec, params, &self.test).accuracy())
    }
}
