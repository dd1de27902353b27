//! The walk that puts tensors back into a module.

use std::collections::HashMap;

use burn::backend::DispatchTensor;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;

use crate::module::take::Visit;
use crate::tensor::primitive::Primitive;

/// Puts tensors into the places from which [`take`](crate::module::take::take) took them. `tensors` are in the order of the taken.
pub(crate) fn give<M: Module>(module: M, visits: Vec<Visit>, tensors: Vec<Primitive>) -> M {
    let tied = |visit: &Visit| match visit {
        Visit::Tied { number } => Some((*number, None)),
        Visit::Other | Visit::Taken { .. } => None,
    };
    let shared = visits.iter().filter_map(tied).collect();
    module.map(&mut Giver { visits: visits.into_iter(), tensors: tensors.into_iter(), shared })
}

struct Giver {
    visits: std::vec::IntoIter<Visit>,
    tensors: std::vec::IntoIter<Primitive>,
    /// The tensors that more than one parameter gets.
    shared: HashMap<usize, Option<DispatchTensor>>,
}

impl Giver {
    fn next<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Option<Tensor<D>> {
        match self.visits.next()? {
            Visit::Other => None,
            Visit::Taken { number, tracking } => {
                let tensor = tracking.restore(self.tensors.next()?, param.id);
                if let Some(shared) = self.shared.get_mut(&number) {
                    *shared = Some(Tensor::clone(&tensor).into_dispatch());
                }
                Some(tensor)
            }
            Visit::Tied { number } => self.shared.get(&number)?.clone().map(Tensor::from_dispatch),
        }
    }
}

impl ModuleMapper for Giver {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(tensor) = self.next(&param) else { return param };
        let (id, _, mapper) = param.consume();
        Param::from_mapped_value(id, tensor, mapper)
    }
}
