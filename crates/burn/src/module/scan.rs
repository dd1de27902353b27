//! The walk that finds the parameters of a module.

use std::collections::HashSet;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Device, Shape, Tensor};

use crate::module::path::Path;

/// A float parameter that takes part in training.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) path: String,
    pub(crate) id: ParamId,
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
    pub(crate) device: Device,
}

/// The parameters that require a gradient, each id once, in the module's order. The second number counts the float parameters that do not.
pub(crate) fn scan<M: Module>(module: &M) -> (Vec<Found>, usize) {
    let mut scanner = Scanner::default();
    module.visit(&mut scanner);
    (scanner.found, scanner.frozen)
}

#[derive(Default)]
struct Scanner {
    path: Path,
    seen: HashSet<ParamId>,
    found: Vec<Found>,
    frozen: usize,
}

impl ModuleVisitor for Scanner {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            self.frozen += 1;
            return;
        }
        if self.seen.insert(param.id) {
            self.found.push(Found {
                path: self.path.as_str().to_owned(),
                id: param.id,
                shape: param.shape(),
                dtype: param.dtype(),
                device: param.device(),
            });
        }
    }
}
