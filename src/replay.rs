//! Replay: a trajectory's inputs through a backend, compared with what the trajectory expects. The f64 oracle runs beside it and
//! tells how far each element travelled, which is what the tolerances are shares of; a rule without a CPU form tells it itself.

use std::borrow::Cow;

use crate::backend::Backend;
use crate::cpu::{self, Number, TensorSpec};
use crate::gpu::Gpu;
use crate::optim::{self, Rule, Value};
use crate::trajectory::{Comparison, Element, Trajectory, Writer, add_travel, raise_peak};
use crate::{Error, Group, Optimizer, Result, Tensor};

/// The rule that a trajectory names, with its settings.
///
/// # Errors
/// [`Error::File`] for an optimizer or setting that is not known (with the nearest name) or a value out of range.
pub fn rule(trajectory: &Trajectory) -> Result<Box<dyn Rule>> {
    let configured = optim::find(trajectory.optimizer()).and_then(|entry| entry.configure(settings(trajectory)));
    configured.map_err(|e| file_error(trajectory, e.to_string()))
}

/// The settings that stand in a trajectory.
pub fn settings(trajectory: &Trajectory) -> impl Iterator<Item = (&str, Value)> {
    trajectory.hyper().iter().map(|(name, value)| (name.as_str(), setting(value)))
}

fn setting(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Bool(x) => Value::Flag(*x),
        serde_json::Value::String(x) => Value::Word(x.clone()),
        number => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
    }
}

fn file_error(trajectory: &Trajectory, problem: String) -> Error {
    Error::File { file: trajectory.name().to_owned(), problem }
}

/// Replays a trajectory with `rule`, mostly the one that [`rule`] finds, and compares parameters and states wherever the file says
/// what to expect. `output` gets every parameter and state after every step, in the backend's own precision.
///
/// Blocks until the device is done.
///
/// # Errors
/// A rule that evaluates something else than the file holds, or keeps no state that the file expects; what the backend or the writer
/// reports.
pub fn run(
    trajectory: &Trajectory,
    rule: &dyn Rule,
    backend: &Backend,
    output: Option<&mut Writer>,
) -> Result<Comparison> {
    check_states(trajectory, rule)?;
    let oracle = rule.has_cpu().then(|| Host::new(trajectory, rule)).transpose()?;
    let comparison = trajectory.comparison(backend.kind().precision());
    let replay = Replay { trajectory, states: kept(rule), oracle, comparison, output };
    match backend {
        Backend::Gpu(gpu) => replay.follow(Device::new(trajectory, rule, gpu)?),
        Backend::Cpu => replay.follow(Host::<f32>::new(trajectory, rule)?),
        Backend::Reference => replay.follow(Host::<f64>::new(trajectory, rule)?),
    }
}

fn kept(rule: &dyn Rule) -> Vec<&'static str> {
    rule.states().iter().filter(|s| s.used).map(|s| s.name).collect()
}

fn check_states(trajectory: &Trajectory, rule: &dyn Rule) -> Result<()> {
    let kept = kept(rule);
    match trajectory.states().iter().find(|s| !kept.contains(&s.as_str())) {
        None => Ok(()),
        Some(lost) => {
            let kind = format!("state of {} with these settings", rule.name());
            Err(file_error(trajectory, Error::unknown(kind, lost, kept).to_string()))
        }
    }
}

/// An optimizer under replay with its parameters.
trait Runner {
    type Number: Number + Element;
    /// One step with these gradients.
    fn step(&mut self, grads: &[Vec<Self::Number>]) -> Result<()>;
    fn param(&self, tensor: usize) -> Result<Cow<'_, [Self::Number]>>;
    fn state(&self, tensor: usize, name: &str) -> Result<Cow<'_, [Self::Number]>>;

    /// The file's gradients of a step, or those of its curvatures at the parameters as they are.
    fn gradients(&self, trajectory: &Trajectory, t: usize) -> Result<Vec<Vec<Self::Number>>> {
        let missing = || file_error(trajectory, format!("has no gradient of step {t}"));
        let gradient = |i| match (trajectory.gradient(t, i), trajectory.curvature(i)) {
            (Some(gradient), _) => Ok(exact(&gradient)),
            (None, Some(c)) => {
                Ok(exact(&c).into_iter().zip(&*self.param(i)?).map(|(c, p): (Self::Number, _)| c * *p).collect())
            }
            (None, None) => Err(missing()),
        };
        (0..trajectory.tensors().len()).map(gradient).collect()
    }
}

fn exact<F: Number>(numbers: &[f32]) -> Vec<F> {
    numbers.iter().map(|x| F::of(f64::from(*x))).collect()
}

fn wide<F: Number>(numbers: &[F]) -> Vec<f64> {
    numbers.iter().map(|x| x.wide()).collect()
}

/// What a replay needs beside the runner.
struct Replay<'a> {
    trajectory: &'a Trajectory,
    states: Vec<&'static str>,
    /// What exact numbers come from, where the rule has a form for it.
    oracle: Option<Host<f64>>,
    comparison: Comparison,
    output: Option<&'a mut Writer>,
}

impl Replay<'_> {
    fn follow<R: Runner>(mut self, mut runner: R) -> Result<Comparison> {
        let trajectory = self.trajectory;
        let zeros = || trajectory.tensors().iter().map(|t| vec![0.0; t.elements()]).collect::<Vec<_>>();
        let mut paths = zeros();
        let mut peaks: Vec<Vec<Vec<f64>>> = trajectory.states().iter().map(|_| zeros()).collect();
        let mut before = self.exact_params(&runner)?;
        for t in 1..=trajectory.steps() {
            if let Some(oracle) = &mut self.oracle {
                oracle.step(&oracle.gradients(trajectory, t)?)?;
            }
            runner.step(&runner.gradients(trajectory, t)?)?;
            let now = self.exact_params(&runner)?;
            for i in 0..trajectory.tensors().len() {
                add_travel(&mut paths[i], &before[i], &now[i]);
                self.compare_param(t, i, &runner, &paths[i])?;
                for (state, peaks) in trajectory.states().iter().zip(&mut peaks) {
                    raise_peak(&mut peaks[i], &self.exact_state(i, state, &runner)?);
                    self.compare_state(t, state, i, &runner, &peaks[i])?;
                }
            }
            self.write(t, &runner)?;
            before = now;
        }
        Ok(self.comparison)
    }

    fn exact_params<R: Runner>(&self, runner: &R) -> Result<Vec<Vec<f64>>> {
        match &self.oracle {
            Some(oracle) => Ok(oracle.params.clone()),
            None => (0..self.trajectory.tensors().len()).map(|i| Ok(wide(&runner.param(i)?))).collect(),
        }
    }

    fn exact_state<R: Runner>(&self, i: usize, state: &str, runner: &R) -> Result<Vec<f64>> {
        match &self.oracle {
            Some(oracle) => Ok(oracle.state(i, state)?.into_owned()),
            None => Ok(wide(&runner.state(i, state)?)),
        }
    }

    fn compare_param<R: Runner>(&mut self, t: usize, i: usize, runner: &R, path: &[f64]) -> Result<()> {
        let Some(want) = self.trajectory.expected_param(t, i) else { return Ok(()) };
        self.comparison.param(t, self.trajectory.tensors()[i].name(), &runner.param(i)?, &want, path)
    }

    fn compare_state<R: Runner>(&mut self, t: usize, state: &str, i: usize, runner: &R, peak: &[f64]) -> Result<()> {
        let Some(want) = self.trajectory.expected_state(t, state, i) else { return Ok(()) };
        self.comparison.state(t, state, self.trajectory.tensors()[i].name(), &runner.state(i, state)?, &want, peak)
    }

    fn write<R: Runner>(&mut self, t: usize, runner: &R) -> Result<()> {
        let Some(writer) = self.output.as_mut() else { return Ok(()) };
        for (i, tensor) in self.trajectory.tensors().iter().enumerate() {
            writer.add("param", t, tensor.name(), tensor.shape(), &runner.param(i)?)?;
            for state in &self.states {
                writer.add(state, t, tensor.name(), tensor.shape(), &runner.state(i, state)?)?;
            }
        }
        Ok(())
    }
}

/// On the CPU.
struct Host<F> {
    optimizer: cpu::Optimizer<F>,
    params: Vec<Vec<F>>,
}

impl<F: Number + Element> Host<F> {
    fn new(trajectory: &Trajectory, rule: &dyn Rule) -> Result<Self> {
        let spec =
            |t: &crate::trajectory::Tensor| TensorSpec { name: t.name().to_owned(), group: 0, elements: t.elements() };
        let tensors = trajectory.tensors().iter().map(spec).collect();
        let optimizer = cpu::Optimizer::new(vec![("default".to_owned(), rule.boxed())], tensors)?;
        let params = (0..trajectory.tensors().len()).map(|i| exact(&trajectory.initial(i))).collect();
        Ok(Self { optimizer, params })
    }
}

impl<F: Number + Element> Runner for Host<F> {
    type Number = F;

    fn step(&mut self, grads: &[Vec<F>]) -> Result<()> {
        let mut params: Vec<&mut [F]> = self.params.iter_mut().map(Vec::as_mut_slice).collect();
        let grads: Vec<&[F]> = grads.iter().map(Vec::as_slice).collect();
        self.optimizer.step(&mut params, &grads)
    }

    fn param(&self, tensor: usize) -> Result<Cow<'_, [F]>> {
        Ok(Cow::Borrowed(&self.params[tensor]))
    }

    fn state(&self, tensor: usize, name: &str) -> Result<Cow<'_, [F]>> {
        let missing = || Error::Usage(format!("tensor {tensor} keeps no state `{name}`"));
        self.optimizer.state(tensor, name).map(Cow::Borrowed).ok_or_else(missing)
    }
}

/// On the GPU.
struct Device<'a> {
    gpu: &'a Gpu,
    optimizer: Optimizer,
    tensors: Vec<Tensor>,
}

impl<'a> Device<'a> {
    fn new(trajectory: &Trajectory, rule: &dyn Rule, gpu: &'a Gpu) -> Result<Self> {
        let mut builder = Optimizer::builder(rule.boxed());
        let specs = trajectory.tensors().iter();
        let tensors: Vec<_> = specs.map(|t| builder.tensor(Group::DEFAULT, t.name(), t.shape())).collect();
        let optimizer = builder.build(&gpu.device, &gpu.queue)?;
        for (i, tensor) in tensors.iter().enumerate() {
            optimizer.write_param(*tensor, &trajectory.initial(i))?;
        }
        Ok(Self { gpu, optimizer, tensors })
    }
}

impl Runner for Device<'_> {
    type Number = f32;

    /// Waits for each step: the next one's gradients are written over this one's.
    fn step(&mut self, grads: &[Vec<f32>]) -> Result<()> {
        for (tensor, grad) in self.tensors.iter().zip(grads) {
            self.optimizer.write_grad(*tensor, grad)?;
        }
        self.gpu.run(|encoder| self.optimizer.step(encoder))
    }

    fn param(&self, tensor: usize) -> Result<Cow<'_, [f32]>> {
        pollster::block_on(self.optimizer.read_param(self.tensors[tensor])).map(Cow::Owned)
    }

    fn state(&self, tensor: usize, name: &str) -> Result<Cow<'_, [f32]>> {
        pollster::block_on(self.optimizer.read_state(self.tensors[tensor], name)).map(Cow::Owned)
    }
}
