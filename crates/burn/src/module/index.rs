//! The parameters that an optimizer holds, by id and by path.

use std::collections::HashMap;

use burn::module::ParamId;
use burn::tensor::Shape;

/// A parameter that an optimizer holds.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) path: String,
    pub(crate) id: ParamId,
    pub(crate) shape: Shape,
}

/// The parameters by id and by path.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) params: Vec<Known>,
    by_id: HashMap<ParamId, usize>,
    by_path: HashMap<String, usize>,
}

impl Index {
    pub(crate) fn new(params: Vec<Known>) -> Self {
        let by_id = params.iter().enumerate().map(|(number, known)| (known.id, number)).collect();
        let by_path = params.iter().enumerate().map(|(number, known)| (known.path.clone(), number)).collect();
        Self { params, by_id, by_path }
    }

    /// The number of a parameter. A loaded record gives a module the ids of the module that was saved: where the id is unknown, the path decides.
    pub(crate) fn number(&self, id: ParamId, path: &str) -> Option<usize> {
        self.by_id.get(&id).or_else(|| self.by_path.get(path)).copied()
    }

    /// Gives a parameter the id that it has in the module now.
    pub(crate) fn put_id(&mut self, number: usize, id: ParamId) {
        let known = &mut self.params[number].id;
        if *known != id {
            self.by_id.remove(known);
            self.by_id.insert(id, number);
            *known = id;
        }
    }
}
