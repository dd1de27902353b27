//! torch's optimizer states, both ways, through safetensors.
//!
//! The keys are `<torch's name>/<tensor>`: `exp_avg`, `exp_avg_sq`, `max_exp_avg_sq`, `momentum_buffer`, `square_avg`, `grad_avg`,
//! `sum` with the tensor's shape, and `step`, a single number a tensor; `param/<tensor>` may be there too. A few lines of Python
//! write and read them (README, "Checkpoints").

use crate::tensor_file::{TensorFile, quote};
use crate::{Error, Group, Optimizer, Result};

use super::{Checkpoint, serialize};

/// torch's name of one of our states, by optimizer.
fn torch_name(optimizer: &str, state: &str) -> Option<&'static str> {
    Some(match (optimizer, state) {
        ("rmsprop", "v") => "square_avg",
        ("rmsprop", "g_mean") => "grad_avg",
        ("sgd" | "rmsprop", "b") => "momentum_buffer",
        ("adagrad", "sum") => "sum",
        ("adam" | "adamw" | "radam", "m") => "exp_avg",
        ("adam" | "adamw" | "radam", "v") => "exp_avg_sq",
        ("adam" | "adamw", "v_max") => "max_exp_avg_sq",
        _ => return None,
    })
}

impl Checkpoint {
    /// The states under torch's names, with the parameters, as a safetensors file.
    ///
    /// # Errors
    /// torch has no optimizer of this name.
    pub fn to_torch(&self) -> Result<Vec<u8>> {
        let step = [self.applied() as f32];
        let mut arrays: Vec<(String, Vec<usize>, &[f32])> = Vec::new();
        for tensor in &self.contents.tensors {
            for (state, values) in &tensor.arrays {
                let name = match state.as_str() {
                    "param" => "param",
                    "gradient_accumulator" | "ema" => continue,
                    state => torch_name(&self.optimizer, state).ok_or_else(|| self.unknown_to_torch())?,
                };
                arrays.push((format!("{name}/{}", tensor.name), tensor.shape.clone(), values));
            }
            arrays.push((format!("step/{}", tensor.name), Vec::new(), &step));
        }
        serialize(&self.name, arrays, ("optimizer", self.optimizer.clone()))
    }

    fn unknown_to_torch(&self) -> Error {
        Error::Usage(format!("torch has no optimizer `{}` with these states", self.optimizer))
    }
}

/// Puts torch's states, and parameters where they are there, into an optimizer. Every tensor must have the same count of steps.
///
/// # Errors
/// A tensor or state that is missing, of another shape or not f32; counts that differ; an optimizer that torch does not have. Nothing
/// was changed then.
pub fn restore_torch(name: &str, bytes: impl Into<Vec<u8>>, optimizer: &mut Optimizer) -> Result<()> {
    let file = TensorFile::parse(name, bytes.into())?;
    let rule = optimizer.rule(Group::DEFAULT).name();
    let mut writes = Vec::new();
    let mut steps: Option<f32> = None;
    for (tensor, tensor_name, shape) in optimizer.tensors() {
        let read = |key: &str, shape: &[usize]| -> Result<Option<Vec<f32>>> {
            let key = format!("{key}/{tensor_name}");
            let Some(entry) = file.entry(&key) else { return Ok(None) };
            if entry.dtype != safetensors::Dtype::F32 || entry.shape != shape {
                return Err(file.error(format!(
                    "{} is {:?} {:?}, needs F32 {shape:?}",
                    quote(&key),
                    entry.dtype,
                    entry.shape
                )));
            }
            Ok(Some(file.at::<f32>(&entry.data).into_owned()))
        };
        if let Some(values) = read("param", shape)? {
            writes.push((tensor, "param", values));
        }
        for state in optimizer.state_names(tensor) {
            let theirs = torch_name(rule, state)
                .ok_or_else(|| Error::Usage(format!("torch has no state for `{state}` of `{rule}`")))?;
            let values = read(theirs, shape)?
                .ok_or_else(|| file.error(format!("lacks {}", quote(&format!("{theirs}/{tensor_name}")))))?;
            writes.push((tensor, state, values));
        }
        if let Some([step]) = read("step", &[])?.as_deref()
            && *steps.get_or_insert(*step) != *step
        {
            return Err(
                file.error(format!("step/{tensor_name} is {step}, other tensors have {steps:?}: one count serves all"))
            );
        }
    }
    let steps = steps.unwrap_or(0.0);
    if !(steps >= 0.0 && steps.fract() == 0.0 && steps < 16_777_216.0) {
        return Err(file.error(format!("a step count is {steps}, needs a whole number below 2^24")));
    }
    optimizer.write_applied(steps as u32)?;
    writes.into_iter().try_for_each(|(tensor, array, values)| optimizer.write_array(tensor, array, &values))
}
