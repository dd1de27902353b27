//! The factors of matrices, read and written outside of steps.

use crate::Result;
use crate::gpu::Part;
use crate::gpu::layout::factors::FactorPlace;

impl Part {
    /// The factors of a tensor with their names: the bytes of the control buffer at which they lie, and their counts.
    pub(crate) fn factors(&self, tensor: usize) -> Vec<(&'static str, (u64, usize))> {
        let Some(plan) = &self.placement.factors else { return Vec::new() };
        let of_place =
            |place: &FactorPlace| vec![(plan.spec.rows, place.of_rows()), (plan.spec.columns, place.of_columns())];
        plan.place(tensor).map_or_else(Vec::new, of_place)
    }

    /// The place of a factor. `None`: the tensor keeps no factor of this name.
    pub(crate) fn factor(&self, tensor: usize, name: &str) -> Option<(u64, usize)> {
        self.factors(tensor).into_iter().find(|(factor, _)| *factor == name).map(|(_, place)| place)
    }

    pub(crate) fn read_factor(&self, (at, count): (u64, usize)) -> impl Future<Output = Result<Vec<f32>>> + use<> {
        self.read_floats(at, count)
    }

    pub(crate) fn write_factor(&self, tensor: usize, name: &str, values: &[f32]) -> Result<()> {
        let Some((at, count)) = self.factor(tensor, name) else { return Ok(()) };
        if values.len() != count {
            let given = values.len();
            return Err(
                self.spec.tensors[tensor].error(format!("{given} values were given, its state {name} has {count}"))
            );
        }
        self.context.write(&self.kernels.control, at, bytemuck::cast_slice(values))
    }
}
