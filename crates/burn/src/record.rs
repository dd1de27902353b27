//! Burn's own records of an optimizer.

use std::collections::BTreeMap;

use burn::optim::OptimizerRecord;
use burn::tensor::TensorData;
use burn_pack::{Reader, Scalar};

use crate::error::{Error, Result};
use crate::optimizer::WgpuOptimizer;

/// Burn's names of the states of Adam and AdamW, and the engine's.
const STATES: [(&str, &str); 3] =
    [("momentum.moment_1", "m"), ("momentum.moment_2", "v"), ("momentum.max_moment_2", "v_max")];

/// Burn's name of the count of steps.
const TIME: &str = "momentum.time";

impl WgpuOptimizer {
    /// Takes over the states of Burn's Adam or AdamW, from `ModuleOptimizer::to_record` or `OptimizerRecord::load`. Parameters are found by their
    /// paths, and by their ids where the record has no path.
    ///
    /// # Errors
    /// The optimizer is not Adam or AdamW, or has `amsgrad` where the record has not; a parameter has some states in the record and not all, or states
    /// of another shape. Nothing is changed then. A parameter without any states in the record is one that Burn has not stepped: it begins anew.
    pub fn restore_record(&mut self, record: OptimizerRecord) -> Result<()> {
        let name = self.options.rule().name();
        if !["adam", "adamw"].contains(&name) {
            return Err(Error::Usage(format!(
                "a record of Burn's Adam or AdamW does not fit {name}: use the rule Adam or AdamW"
            )));
        }
        let record = Record::read(record)?;
        let (mut writes, mut counts) = (Vec::new(), Vec::new());
        for (known, tensor) in self.params.index.params.iter().zip(&self.params.tensors) {
            let prefix = record.prefix(&known.path, known.id.val());
            let stepped = record.has(&prefix);
            for state in self.engine.state_names(*tensor)? {
                let Some((theirs, _)) = STATES.iter().find(|(_, ours)| *ours == state) else { continue };
                let needs = known.shape.num_elements();
                let values = if stepped { record.values(&prefix, theirs) } else { Ok(vec![0.0; needs]) };
                let values = values.map_err(|problem| Error::param(&known.path, problem))?;
                if values.len() != needs {
                    let problem = format!("the record's {theirs} has {} numbers, needs {needs}", values.len());
                    return Err(Error::param(&known.path, problem));
                }
                writes.push((*tensor, state, values));
            }
            let count = if stepped { record.count(&prefix) } else { Ok(0) };
            counts.push((*tensor, count.map_err(|problem| Error::param(&known.path, problem))?));
        }
        self.finish_steps()?;
        self.engine.write_step_count(counts.iter().map(|(_, count)| *count).max().unwrap_or(0))?;
        for (tensor, count) in counts {
            self.engine.write_tensor_step_count(tensor, count)?;
        }
        for (tensor, state, values) in writes {
            self.engine.write_state(tensor, state, &values)?;
        }
        Ok(())
    }
}

/// The content of a record.
struct Record {
    tensors: BTreeMap<String, TensorData>,
    scalars: BTreeMap<String, Scalar>,
    /// The ids of parameters by path.
    ids: BTreeMap<String, String>,
}

impl Record {
    /// Burn shows what a record holds in its file format alone.
    fn read(record: OptimizerRecord) -> Result<Self> {
        let broken = |error: &dyn std::fmt::Display| Error::Burn(format!("the record cannot be read: {error}"));
        let bytes = record.into_bytes().map_err(|error| broken(&error))?;
        let reader = Reader::from_bytes(bytes).map_err(|error| broken(&error))?;
        let scalars = reader.scalars().clone();
        let ids = reader.metadata().iter().map(|(id, path)| (path.clone(), id.clone())).collect();
        let mut tensors = BTreeMap::new();
        for tensor in reader.into_tensors().map_err(|error| broken(&error))? {
            let (name, dtype, shape, _, bytes) = tensor.into_parts().map_err(|error| broken(&error))?;
            tensors.insert(name, TensorData::from_bytes(bytes, shape, dtype));
        }
        Ok(Self { tensors, scalars, ids })
    }

    /// What the names of a parameter's states begin with.
    fn prefix(&self, path: &str, id: u64) -> String {
        self.ids.get(path).cloned().unwrap_or_else(|| id.to_string())
    }

    /// Whether Burn has stepped a parameter.
    fn has(&self, prefix: &str) -> bool {
        self.scalars.contains_key(&format!("{prefix}.{TIME}"))
    }

    fn values(&self, prefix: &str, state: &str) -> Result<Vec<f32>, String> {
        let missing = || format!("the record has no {state} of it");
        let data = self.tensors.get(&format!("{prefix}.{state}")).ok_or_else(missing)?;
        data.clone().convert::<f32>().try_into_vec::<f32>().map_err(|error| format!("its {state}: {error:?}"))
    }

    fn count(&self, prefix: &str) -> Result<u32, String> {
        let scalar =
            self.scalars.get(&format!("{prefix}.{TIME}")).ok_or_else(|| format!("the record has no {TIME} of it"))?;
        u32::try_from(*scalar).map_err(|_| format!("the record's {TIME} of it is {scalar:?}, needs a count of steps"))
    }
}
