//! Construction of an optimizer on the host.

use crate::cpu::around::Surroundings;
use crate::cpu::extent::Extent;
use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::cpu::part::Part;
use crate::cpu::probe::Probes;
use crate::cpu::procedure;
use crate::cpu::rows::RowSets;
use crate::cpu::stored::Draws;
use crate::cpu::tensor::TensorState;
use crate::gpu::Builder;
use crate::gpu::build::spec::Spec;
use crate::optim::procedure::evaluation::Evaluations;
use crate::optim::rule::need_cpu;
use crate::options::around::Mode;
use crate::{Error, Result};

impl Builder {
    /// Creates an optimizer on the host with the same groups, tensors and options: in f64 the oracle, in f32 the fast path. The builder
    /// stays as it is, and its handles belong to this optimizer too. The caller keeps parameters and gradients and gives them to each
    /// step, in the order of the tensors. The optimizer ignores bound buffers.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Group, Optimizer};
    ///
    /// let mut builder = Optimizer::builder(AdamW { lr: 0.1, ..AdamW::default() });
    /// let w = builder.tensor(Group::DEFAULT, "w", &[3]);
    /// let mut optimizer = builder.build_cpu::<f32>()?;
    /// let mut values = [1.0, 2.0, 3.0];
    /// optimizer.step(&mut [&mut values], &[&[0.1, 0.0, -0.1]])?;
    /// assert!(values[0] < 1.0 && values[2] > 2.999);
    /// assert!(optimizer.state(w, "m")?[0] > 0.0);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`build`](Self::build), as far as no device is needed; a rule without a CPU form; an [own range](Self::own_range).
    pub fn build_cpu<F: Number>(&self) -> Result<Optimizer<F>> {
        let spec = self.settled()?;
        if spec.has_ranges() {
            let problem = "tensors have ranges (Builder::own_range), and an optimizer on the host steps whole tensors";
            return Err(Error::Usage(problem.to_owned()));
        }
        spec.groups.iter().try_for_each(|group| need_cpu(group.rule.as_ref()))?;
        let (parts, directory) = spec.divide();
        Ok(Optimizer { parts: parts.into_iter().map(Part::create).collect(), spec, directory })
    }
}

impl<F: Number> Part<F> {
    /// Creates the part from its share of a checked specification.
    fn create(spec: Spec) -> Self {
        let extents: Vec<Extent> = spec.tensors.iter().map(Extent::new).collect();
        let tensor = |(tensor, extent): (usize, &Extent)| {
            let procedure = spec.groups[extent.group].rule.procedure();
            let info = &spec.tensors[tensor];
            let pass = (!info.frozen).then(|| procedure::of(&procedure).tensor_pass(&info.shape)).flatten();
            TensorState::new(&spec, tensor, pass)
        };
        let mut tensors: Vec<_> = extents.iter().enumerate().map(tensor).collect();
        tensors.iter_mut().for_each(TensorState::round_first_states);
        Self {
            tensors,
            step_count: 0,
            totals: Vec::new(),
            global_state: vec![F::zero(); spec.rule().global_state().len()],
            around: Surroundings::new(spec.around, &extents),
            rows: RowSets::new(&spec),
            probes: Probes::new(&spec.rule().procedure()),
            evaluations: Evaluations::default(),
            mode: Mode::Training,
            draws: Draws::new(spec.seed),
            spec,
        }
    }
}
