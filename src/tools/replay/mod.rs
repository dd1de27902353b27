//! Replay: a backend takes the steps of a trajectory, and the results are compared with those that the trajectory expects. The f64 oracle
//! takes the same steps and gives the distance that each element travels; tolerances are shares of this distance. For a rule without a
//! CPU form, the backend's own numbers give the distance.

pub mod trajectory;

use std::borrow::Cow;

use crate::cpu::Number;
use crate::gpu::build::builder::Builder;
use crate::optim::rule::Real;
use crate::optim::{Rule, Value};
use crate::options::storage::Storage;
use crate::tools::adapter::Gpu;
use crate::tools::backend::Backend;
use crate::tools::replay::trajectory::{Comparison, Element, Trajectory, Writer, add_travel, raise_peak};
use crate::{Error, EvalRequest, Group, Optimizer, Result, Tensor, cpu, optim};

/// The rule that a trajectory names, with its settings.
///
/// # Errors
/// [`Error::File`] if an optimizer or a setting is unknown (with the nearest name) or a value is out of range.
pub fn rule(trajectory: &Trajectory) -> Result<Box<dyn Rule>> {
    let configured = optim::find(trajectory.optimizer()).and_then(|entry| entry.configure(settings(trajectory)));
    configured.map_err(|e| file_error(trajectory, e.to_string()))
}

/// The settings that a trajectory holds.
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

/// Replays a trajectory with `rule`, usually the one that [`rule`] returns, and compares parameters and states wherever the file has
/// expected values. `output` receives every parameter and state after every step, in the backend's own precision.
///
/// Blocks until the device is done; a page calls [`run_stored_async`].
///
/// # Errors
/// The rule needs evaluations that the file does not hold, or does not keep a state that the file expects; the backend or the writer
/// reports an error.
#[cfg(not(target_arch = "wasm32"))]
pub fn run(
    trajectory: &Trajectory,
    rule: &dyn Rule,
    backend: &Backend,
    output: Option<&mut Writer>,
) -> Result<Comparison> {
    run_stored(trajectory, rule, &Storage::default(), backend, output)
}

/// As [`run`], with tensors in this storage. The distance that an element travels is still that of exact numbers, and the reference rounds
/// nothing.
///
/// # Errors
/// As [`run`]; the rule refuses the storage.
#[cfg(not(target_arch = "wasm32"))]
pub fn run_stored(
    trajectory: &Trajectory,
    rule: &dyn Rule,
    storage: &Storage,
    backend: &Backend,
    output: Option<&mut Writer>,
) -> Result<Comparison> {
    pollster::block_on(run_stored_async(trajectory, rule, storage, backend, output))
}

/// As `run_stored`, but in a page the future yields to the event loop while it waits for the GPU.
///
/// # Errors
/// As `run_stored`.
pub async fn run_stored_async(
    trajectory: &Trajectory,
    rule: &dyn Rule,
    storage: &Storage,
    backend: &Backend,
    output: Option<&mut Writer>,
) -> Result<Comparison> {
    check_states(trajectory, rule)?;
    let exact = Storage::default();
    let oracle = rule.has_cpu().then(|| Host::new(trajectory, rule, &exact)).transpose()?;
    let comparison = trajectory.comparison(backend.kind().precision());
    let replay = Replay { trajectory, states: kept(rule), oracle, comparison, output };
    match backend {
        Backend::Gpu(gpu) => replay.follow(Device::new(trajectory, rule, storage, gpu).await?).await,
        Backend::Cpu => replay.follow(Host::<f32>::new(trajectory, rule, storage)?).await,
        Backend::Reference => replay.follow(Host::<f64>::new(trajectory, rule, &exact)?).await,
    }
}

fn kept(rule: &dyn Rule) -> Vec<&'static str> {
    rule.states().iter().filter(|s| s.used).map(|s| s.name).collect()
}

fn check_states(trajectory: &Trajectory, rule: &dyn Rule) -> Result<()> {
    let kept = kept(rule);
    match trajectory.states().iter().find(|s| !kept.contains(&s.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let kind = format!("state of {} with these settings", rule.name());
            Err(file_error(trajectory, Error::unknown(kind, unknown, kept).to_string()))
        }
    }
}

/// An optimizer under replay with its parameters.
trait Runner {
    type Number: Number + Element;
    /// One step with these gradients.
    async fn step(&mut self, grads: &[Vec<Self::Number>]) -> Result<()>;
    /// One step of a rule that evaluates the file's objective, along the file's directions if the file has directions.
    async fn step_on(
        &mut self,
        objective: &Quadratic<Self::Number>,
        directions: Vec<Vec<Vec<Self::Number>>>,
    ) -> Result<()>;
    async fn param(&self, tensor: usize) -> Result<Cow<'_, [Self::Number]>>;
    async fn state(&self, tensor: usize, name: &str) -> Result<Cow<'_, [Self::Number]>>;
    /// A decision of the last step for the first tensor; NaN if the rule has no decision of this name.
    async fn decision(&self, name: &str) -> Result<f64>;

    /// Takes one step of the file.
    async fn take(&mut self, trajectory: &Trajectory, t: usize) -> Result<()> {
        let tensors = 0..trajectory.tensors().len();
        if let Some(objective) = Quadratic::of(trajectory) {
            let direction = |j| tensors.clone().map(|i| Some(exact(&trajectory.direction(t, j, i)?))).collect();
            return self.step_on(&objective, (1..).map_while(direction).collect()).await;
        }
        let missing = || file_error(trajectory, format!("has no gradient of step {t}"));
        let grads = tensors.map(|i| trajectory.gradient(t, i).map(|g| exact(&g)).ok_or_else(missing));
        self.step(&grads.collect::<Result<Vec<_>>>()?).await
    }
}

/// The objective of files with curvatures: f(θ) = ½ Σ c θ².
struct Quadratic<F> {
    curvature: Vec<Vec<F>>,
}

impl<F: Number> Quadratic<F> {
    fn of(trajectory: &Trajectory) -> Option<Self> {
        let curvature = |i| trajectory.curvature(i).map(|c| exact(&c));
        let curvature = (0..trajectory.tensors().len()).map(curvature).collect::<Option<Vec<_>>>()?;
        (!curvature.is_empty()).then_some(Self { curvature })
    }

    fn gradient(&self, i: usize, p: &[F]) -> Vec<F> {
        self.curvature[i].iter().zip(p).map(|(c, p)| *c * *p).collect()
    }

    /// A tensor's part of the loss.
    fn loss(&self, i: usize, p: &[F]) -> f64 {
        self.curvature[i].iter().zip(p).map(|(c, p)| 0.5 * c.to_f64() * p.to_f64() * p.to_f64()).sum()
    }
}

fn exact<F: Number>(numbers: &[f32]) -> Vec<F> {
    numbers.iter().map(|x| F::from_f64(f64::from(*x))).collect()
}

fn wide<F: Number>(numbers: &[F]) -> Vec<f64> {
    numbers.iter().map(|x| x.to_f64()).collect()
}

/// A replay: everything except the runner.
struct Replay<'a> {
    trajectory: &'a Trajectory,
    states: Vec<&'static str>,
    /// The source of exact numbers, if the rule has a CPU form.
    oracle: Option<Host<f64>>,
    comparison: Comparison,
    output: Option<&'a mut Writer>,
}

impl Replay<'_> {
    async fn follow<R: Runner>(mut self, mut runner: R) -> Result<Comparison> {
        let trajectory = self.trajectory;
        let zeros = || trajectory.tensors().iter().map(|t| vec![0.0; t.elements()]).collect::<Vec<_>>();
        let mut paths = zeros();
        let mut peaks: Vec<Vec<Vec<f64>>> = trajectory.states().iter().map(|_| zeros()).collect();
        let mut before = self.exact_params(&runner).await?;
        for t in 1..=trajectory.steps() {
            if let Some(oracle) = &mut self.oracle {
                oracle.take(trajectory, t).await?;
            }
            runner.take(trajectory, t).await?;
            let now = self.exact_params(&runner).await?;
            for i in 0..trajectory.tensors().len() {
                add_travel(&mut paths[i], &before[i], &now[i]);
                self.compare_param(t, i, &runner, &paths[i]).await?;
                for (state, peaks) in trajectory.states().iter().zip(&mut peaks) {
                    raise_peak(&mut peaks[i], &self.exact_state(i, state, &runner).await?);
                    self.compare_state(t, state, i, &runner, &peaks[i]).await?;
                }
            }
            self.compare_decisions(t, &runner).await?;
            self.write(t, &runner).await?;
            before = now;
        }
        Ok(self.comparison)
    }

    async fn exact_params<R: Runner>(&self, runner: &R) -> Result<Vec<Vec<f64>>> {
        match &self.oracle {
            Some(oracle) => Ok(oracle.params.clone()),
            None => {
                let mut params = Vec::new();
                for i in 0..self.trajectory.tensors().len() {
                    params.push(wide(&runner.param(i).await?));
                }
                Ok(params)
            }
        }
    }

    async fn exact_state<R: Runner>(&self, i: usize, state: &str, runner: &R) -> Result<Vec<f64>> {
        match &self.oracle {
            Some(oracle) => Ok(oracle.state(i, state).await?.into_owned()),
            None => Ok(wide(&runner.state(i, state).await?)),
        }
    }

    async fn compare_param<R: Runner>(&mut self, t: usize, i: usize, runner: &R, path: &[f64]) -> Result<()> {
        let Some(want) = self.trajectory.expected_param(t, i) else { return Ok(()) };
        self.comparison.param(t, self.trajectory.tensors()[i].name(), &runner.param(i).await?, &want, path)
    }

    async fn compare_state<R: Runner>(
        &mut self,
        t: usize,
        state: &str,
        i: usize,
        runner: &R,
        peak: &[f64],
    ) -> Result<()> {
        let Some(want) = self.trajectory.expected_state(t, state, i) else { return Ok(()) };
        self.comparison.state(
            t,
            state,
            self.trajectory.tensors()[i].name(),
            &runner.state(i, state).await?,
            &want,
            peak,
        )
    }

    async fn compare_decisions<R: Runner>(&mut self, t: usize, runner: &R) -> Result<()> {
        if let Some(lgi) = self.trajectory.lgi().and_then(|lgi| lgi.get(t - 1).copied()) {
            self.comparison.lgi(t, runner.decision("lgi").await?, lgi)?;
        }
        let Some(triggers) = self.trajectory.triggers() else { return Ok(()) };
        let flows = triggers.contains(&(t as i64));
        self.comparison.flow(t, runner.decision("flow").await?, f64::from(u8::from(flows)))
    }

    async fn write<R: Runner>(&mut self, t: usize, runner: &R) -> Result<()> {
        let Some(writer) = self.output.as_mut() else { return Ok(()) };
        for (i, tensor) in self.trajectory.tensors().iter().enumerate() {
            writer.add("param", t, tensor.name(), tensor.shape(), &runner.param(i).await?)?;
            for state in &self.states {
                writer.add(state, t, tensor.name(), tensor.shape(), &runner.state(i, state).await?)?;
            }
        }
        Ok(())
    }
}

/// A builder of the trajectory's optimizer.
fn builder(trajectory: &Trajectory, rule: &dyn Rule, storage: &Storage) -> Builder {
    let mut builder = Optimizer::builder(rule.boxed());
    builder.undamped_steps(true);
    builder.storage(storage.clone()).given_directions(trajectory.direction(1, 1, 0).is_some());
    builder.tensors(Group::DEFAULT, trajectory.tensors().iter().map(|t| (t.name(), t.shape())));
    builder
}

/// A runner on the CPU.
struct Host<F> {
    optimizer: cpu::Optimizer<F>,
    params: Vec<Vec<F>>,
}

impl<F: Number + Element> Host<F> {
    fn new(trajectory: &Trajectory, rule: &dyn Rule, storage: &Storage) -> Result<Self> {
        let optimizer = builder(trajectory, rule, storage).build_cpu()?;
        let params = (0..trajectory.tensors().len()).map(|i| exact(&trajectory.initial(i))).collect();
        Ok(Self { optimizer, params })
    }
}

impl<F: Number + Element> Runner for Host<F> {
    type Number = F;

    async fn step(&mut self, grads: &[Vec<F>]) -> Result<()> {
        let mut params: Vec<&mut [F]> = self.params.iter_mut().map(Vec::as_mut_slice).collect();
        let grads: Vec<&[F]> = grads.iter().map(Vec::as_slice).collect();
        self.optimizer.step(&mut params, &grads)
    }

    async fn step_on(&mut self, objective: &Quadratic<F>, directions: Vec<Vec<Vec<F>>>) -> Result<()> {
        if !directions.is_empty() {
            self.optimizer.set_directions(Some(directions))?;
        }
        let mut grads = self.params.clone();
        let mut params: Vec<&mut [F]> = self.params.iter_mut().map(Vec::as_mut_slice).collect();
        let mut grads: Vec<&mut [F]> = grads.iter_mut().map(Vec::as_mut_slice).collect();
        self.optimizer.step_with(&mut params, &mut grads, |evaluation, params, grads| {
            if evaluation == EvalRequest::Gradient {
                let each = grads.iter_mut().zip(params).enumerate();
                each.for_each(|(i, (g, p))| g.copy_from_slice(&objective.gradient(i, p)));
            }
            Ok(params.iter().enumerate().map(|(i, p)| objective.loss(i, p)).sum())
        })
    }

    async fn param(&self, tensor: usize) -> Result<Cow<'_, [F]>> {
        Ok(Cow::Borrowed(&self.params[tensor]))
    }

    async fn state(&self, tensor: usize, name: &str) -> Result<Cow<'_, [F]>> {
        self.optimizer.state(self.optimizer.spec.tensor_handle(tensor), name).map(Cow::Borrowed)
    }

    async fn decision(&self, name: &str) -> Result<f64> {
        Ok(self.optimizer.decision(self.optimizer.spec.tensor_handle(0), name)?.map_or(f64::NAN, Real::to_f64))
    }
}

/// A runner on the GPU.
struct Device<'a> {
    gpu: &'a Gpu,
    optimizer: Optimizer,
    tensors: Vec<Tensor>,
}

impl<'a> Device<'a> {
    async fn new(trajectory: &Trajectory, rule: &dyn Rule, storage: &Storage, gpu: &'a Gpu) -> Result<Self> {
        let optimizer = builder(trajectory, rule, storage).build_async(&gpu.device, &gpu.queue).await?;
        let tensors: Vec<Tensor> = optimizer.tensors().map(|(tensor, ..)| tensor).collect();
        for (i, tensor) in tensors.iter().enumerate() {
            optimizer.write_param(*tensor, &trajectory.initial(i))?;
        }
        Ok(Self { gpu, optimizer, tensors })
    }
}

impl Runner for Device<'_> {
    type Number = f32;

    /// Waits for each step, because the next step's gradients overwrite this step's.
    async fn step(&mut self, grads: &[Vec<f32>]) -> Result<()> {
        for (tensor, grad) in self.tensors.iter().zip(grads) {
            self.optimizer.write_grad(*tensor, grad)?;
        }
        self.gpu.run_async(|encoder| self.optimizer.step(encoder)).await
    }

    /// Evaluates the objective on the host, with the parameters that the GPU holds at that point.
    async fn step_on(&mut self, objective: &Quadratic<f32>, directions: Vec<Vec<Vec<f32>>>) -> Result<()> {
        for (j, direction) in directions.iter().enumerate() {
            for (tensor, part) in self.tensors.iter().zip(direction) {
                self.optimizer.write_state(*tensor, &format!("direction_{}", j + 1), part)?;
            }
        }
        let (gpu, tensors) = (self.gpu, &self.tensors);
        let mut step = self.optimizer.begin_step()?;
        while let Some(request) = step.next_submitted().await? {
            let mut loss = 0.0;
            for (i, tensor) in tensors.iter().enumerate() {
                let p = step.optimizer().read_param(*tensor).await?;
                loss += objective.loss(i, &p);
                if request == EvalRequest::Gradient {
                    step.optimizer().write_grad(*tensor, &objective.gradient(i, &p))?;
                }
            }
            if let EvalRequest::Loss(slot) = request {
                let slot = step.loss_slot(slot)?;
                gpu.queue.write_buffer(slot.buffer(), slot.offset(), bytemuck::bytes_of(&(loss as f32)));
            }
        }
        Ok(())
    }

    async fn param(&self, tensor: usize) -> Result<Cow<'_, [f32]>> {
        self.optimizer.read_param(self.tensors[tensor]).await.map(Cow::Owned)
    }

    async fn state(&self, tensor: usize, name: &str) -> Result<Cow<'_, [f32]>> {
        self.optimizer.read_state(self.tensors[tensor], name).await.map(Cow::Owned)
    }

    async fn decision(&self, name: &str) -> Result<f64> {
        let at = self.optimizer.rule(Group::DEFAULT)?.decision().iter().position(|n| *n == name);
        let (Some(at), Some(tensor)) = (at, self.tensors.first()) else { return Ok(f64::NAN) };
        Ok(f64::from(self.optimizer.read_decision(*tensor).await?[at]))
    }
}
