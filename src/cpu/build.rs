//! How an optimizer on the host is made: [`Optimizer::create`] makes it from one description, and every method of construction changes
//! that description and makes the optimizer anew.

use crate::cpu::around::Surroundings;
use crate::cpu::number::Number;
use crate::cpu::optimizer::Optimizer;
use crate::cpu::probe::Probes;
use crate::cpu::rows::RowSets;
use crate::cpu::spec::{RowSetSpec, Spec, TensorSpec};
use crate::cpu::stored::Draws;
use crate::cpu::tensor::TensorState;
use crate::gpu::build::spec::{GroupInfo, next_id};
use crate::optim::Rule;
use crate::optim::procedure::evaluation::Evaluations;
use crate::optim::rule::Real;
use crate::options::around::{Accumulate, Around, Clip, Ema, LossScale};
use crate::options::schedule::{Schedule, Scheduled};
use crate::{Error, NoDecay, Result, Storage};

/// Construction. Methods that return the optimizer make it anew: they belong before the first step, and before states and parameters are
/// written. Masks, column rates and directions that were given stay.
impl<F: Number> Optimizer<F> {
    /// An optimizer of these tensors, each with the settings of its group; all states are at their first values.
    ///
    /// # Errors
    /// No group; groups of different optimizers; a rule without a CPU form; a setting out of range; a name given twice; a tensor of a group that is not there.
    pub fn new(groups: Vec<(String, Box<dyn Rule>)>, tensors: Vec<TensorSpec>) -> Result<Self> {
        let groups = groups.into_iter().map(|(name, rule)| GroupInfo::new(name, rule, next_id())).collect();
        Self::create(Spec::new(groups, tensors))
    }

    /// Checks what an optimizer is to be made from, and makes it: every state is as before the first step.
    pub(crate) fn create(spec: Spec) -> Result<Self> {
        spec.check()?;
        let rule = spec.groups[0].rule.as_ref();
        let memory = vec![F::zero(); rule.global_state().len()];
        let probes = Probes::new(rule.procedure());
        let around = Surroundings::new(spec.around, &spec.tensors);
        let rows = RowSets::new(&spec);
        let mut tensors: Vec<_> = (0..spec.tensors.len()).map(|tensor| TensorState::new(&spec, tensor)).collect();
        tensors.iter_mut().for_each(TensorState::round_first_states);
        Ok(Self {
            groups: spec.groups,
            tensors,
            applied: 0,
            totals: Vec::new(),
            memory,
            around,
            rows,
            probes,
            evaluations: Evaluations::default(),
            seed: spec.seed,
            draws: Draws::new(spec.seed),
        })
    }

    /// What the optimizer was made from.
    fn into_spec(self) -> Spec {
        let columns = self.rows.columns.into_iter().enumerate().filter(|(_, rates)| !rates.is_empty());
        let columns = columns.map(|(tensor, rates)| (tensor, rates.into_iter().map(Real::to_f64).collect())).collect();
        let shared = self.tensors.iter().enumerate().filter_map(|(t, tensor)| Some((t, tensor.shared?))).collect();
        let (tensors, formats) = self.tensors.into_iter().map(|tensor| (tensor.spec, tensor.stored.formats)).unzip();
        Spec {
            groups: self.groups,
            tensors,
            formats,
            around: self.around.around,
            rows: self.rows.sets.into_iter().map(|set| set.spec).collect(),
            columns,
            shared,
            seed: self.seed,
        }
    }

    /// Makes the optimizer anew from what it was made from, with a change.
    fn remade(mut self, change: impl FnOnce(&mut Spec) -> Result<()>) -> Result<Self> {
        if self.applied > 0 {
            let problem = format!("{} steps were applied: an optimizer is described before the first", self.applied);
            return Err(Error::Usage(problem));
        }
        let given = self.probes.given.take();
        let mut spec = self.into_spec();
        change(&mut spec)?;
        let mut made = Self::create(spec)?;
        made.probes.given = given;
        Ok(made)
    }

    fn surrounded(self, change: impl FnOnce(&mut Around)) -> Result<Self> {
        self.remade(|spec| {
            change(&mut spec.around);
            Ok(())
        })
    }

    /// Decides the directions of the rule's probes, and which way numbers are rounded that are rounded by chance. Default 0.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self.draws = Draws::new(seed);
        self
    }

    /// Clips gradients inside the step.
    ///
    /// # Errors
    /// The largest norm or value is not a finite number above 0.
    pub fn with_clip(self, clip: Clip) -> Result<Self> {
        self.surrounded(|around| around.clip = Some(clip))
    }

    /// Divides gradients by a loss scale and leaves a step out where a gradient is not finite.
    ///
    /// # Errors
    /// A number of the scale makes no sense.
    pub fn with_loss_scale(self, scale: LossScale) -> Result<Self> {
        self.surrounded(|around| around.loss_scale = Some(scale))
    }

    /// Leaves a step out where a gradient is not finite.
    ///
    /// # Errors
    /// None at present.
    pub fn skipping_nonfinite(self) -> Result<Self> {
        self.surrounded(|around| around.skip_nonfinite = true)
    }

    /// Joins the gradients of micro-batches, given with [`accumulate`](Self::accumulate).
    ///
    /// # Errors
    /// A mean over none.
    pub fn with_accumulation(self, how: Accumulate) -> Result<Self> {
        self.surrounded(|around| around.accumulate = Some(how))
    }

    /// Keeps an average of the weights: [`ema`](Self::ema).
    ///
    /// # Errors
    /// The decay is not in [0, 1).
    pub fn with_ema(self, ema: Ema) -> Result<Self> {
        self.surrounded(|around| around.ema = Some(ema))
    }

    /// Measures every step, for [`stats`](Self::stats); keeps a copy of the parameters while a step is under way.
    ///
    /// # Errors
    /// The rule integrates between evaluations.
    pub fn with_telemetry(self) -> Result<Self> {
        self.surrounded(|around| around.telemetry = true)
    }

    /// Climbs instead of descending, for a group.
    ///
    /// # Errors
    /// There is no such group.
    pub fn maximizing(self, group: usize) -> Result<Self> {
        self.remade(|spec| {
            spec.group_mut(group)?.maximize = true;
            spec.around.signed = true;
            Ok(())
        })
    }

    /// Gives a group's learning rate to a schedule: the step before which t steps were applied uses `schedule.rate(t)`. The
    /// group's own rate is the base of a schedule that has none, and cannot be set any more.
    ///
    /// # Errors
    /// An unknown group; a number of the schedule that makes no sense; a first rate out of range.
    pub fn schedule(&mut self, group: usize, schedule: impl Into<Schedule>) -> Result<()> {
        self.schedule_setting(group, "lr", schedule)
    }

    /// As [`schedule`](Self::schedule), for any numeric setting. A later schedule of the same setting takes the place of an earlier.
    ///
    /// # Errors
    /// As [`schedule`](Self::schedule); an unknown setting; a first value that asks for other states.
    pub fn schedule_setting(&mut self, group: usize, setting: &str, schedule: impl Into<Schedule>) -> Result<()> {
        let group = self.group_mut(group)?;
        let scheduled = Scheduled::new(group.rule.as_ref(), setting, schedule.into());
        scheduled.check(group.rule.as_ref(), &group.name)?;
        group.scheduled.retain(|s| s.setting != setting);
        group.scheduled.push(scheduled);
        Ok(())
    }

    /// Moves those tensors of a group that `which` picks into a new group like it, schedules included, but without weight decay: the
    /// last one. `shapes` are those of all tensors, in order; a rank is not known otherwise. States are at their first values after it.
    ///
    /// # Errors
    /// The rule has no `weight_decay`; there is no such group; a count of shapes, or a shape, that does not fit; steps were applied.
    pub fn without_decay(self, group: usize, which: &NoDecay, shapes: &[&[usize]]) -> Result<Self> {
        self.check_count("shapes", shapes.len())?;
        self.remade(|spec| {
            for (tensor, shape) in spec.tensors.iter().zip(shapes) {
                tensor.check_length("shape", shape.iter().product())?;
            }
            let info = spec.group_mut(group)?;
            let mut twin =
                GroupInfo::new(NoDecay::twin_name(&info.name), NoDecay::twin_rule(info.rule.as_ref())?, next_id());
            twin.maximize = info.maximize;
            twin.scheduled = info.scheduled.iter().filter(|s| !NoDecay::is_decay(&s.setting)).cloned().collect();
            let count = spec.groups.len();
            spec.groups.push(twin);
            for (tensor, shape) in spec.tensors.iter_mut().zip(shapes) {
                if tensor.group == group && which.picks(&tensor.name, shape) {
                    tensor.group = count;
                }
            }
            Ok(())
        })
    }

    /// Stores every tensor so: [`with_tensor_storage`](Self::with_tensor_storage).
    ///
    /// # Errors
    /// As there.
    pub fn with_storage(self, storage: &Storage) -> Result<Self> {
        self.remade(|spec| (0..spec.tensors.len()).try_for_each(|tensor| store(spec, tensor, storage)))
    }

    /// Stores a tensor so: after every step its parameters, as the caller holds them, and its states are numbers that the storage can
    /// hold, rounded as on the GPU; gradients are rounded to the nearest before they are used. Initial parameters are the caller's to
    /// round, with [`store_params`](Self::store_params). What is kept beside parameters in half precision is kept in here.
    ///
    /// ```
    /// use wgpu_optim::cpu::{Optimizer, TensorSpec};
    /// use wgpu_optim::AdamW;
    ///
    /// # fn main() -> wgpu_optim::Result<()> {
    /// let tensors = vec![TensorSpec { name: "w".to_owned(), group: 0, elements: 2 }];
    /// let mut optimizer = Optimizer::<f32>::new(vec![("all".to_owned(), AdamW::default().into())], tensors)?
    ///     .with_tensor_storage(0, &"bf16-split,states=bf16-sr".parse()?)?;
    /// let mut w = [1.0, 2.0];
    /// optimizer.step(&mut [&mut w], &[&[0.1, 0.1]])?;
    /// assert_eq!(w, [1.0, 2.0], "0.999 and 1.999 are kept, their nearest bf16 are these");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// There is no such tensor; steps were applied; a storage that the rule does not allow, or row sets; nothing was changed then.
    pub fn with_tensor_storage(self, tensor: usize, storage: &Storage) -> Result<Self> {
        self.remade(|spec| store(spec, tensor, storage))
    }

    /// Names tensors that share so many rows; the sets are counted from 0 in the order in which they are named. What a step leaves out
    /// is as on the GPU: see [`Builder::row_set`](crate::Builder::row_set).
    ///
    /// # Errors
    /// A rule that mixes or moves whole tensors inside its step; a tensor that is not there, is in a set already, does not fall into
    /// so many rows, or whose states are not stored in f32; a name given twice; no tensor or row.
    pub fn with_rows(self, name: &str, tensors: &[usize], rows: usize) -> Result<Self> {
        let set =
            RowSetSpec { name: name.to_owned(), tensors: tensors.to_vec(), rows, nonzero: false, flags: Vec::new() };
        self.remade(|spec| {
            spec.rows.push(set);
            Ok(())
        })
    }

    /// Steps only those elements of a set whose gradient is not exactly zero.
    ///
    /// # Errors
    /// There is no such set; its rows share a second moment.
    pub fn skipping_zero_gradients(self, set: usize) -> Result<Self> {
        self.rows.set(set)?;
        self.remade(|spec| {
            spec.rows[set].nonzero = true;
            Ok(())
        })
    }

    /// Keeps one second moment for each run of `width` elements of a tensor: see
    /// [`Builder::share_second_moment`](crate::Builder::share_second_moment).
    ///
    /// # Errors
    /// A rule that cannot; there is no such tensor; a width that its rows do not have; a set that skips zero gradients.
    pub fn sharing_second_moment(self, tensor: usize, width: usize) -> Result<Self> {
        self.remade(|spec| {
            spec.shared.insert(tensor, width);
            Ok(())
        })
    }
}

fn store(spec: &mut Spec, tensor: usize, storage: &Storage) -> Result<()> {
    let known = spec.tensor(tensor)?;
    let rule = spec.groups[known.group].rule.as_ref();
    spec.formats[tensor] = storage.formats(rule, known.elements as u64)?;
    Ok(())
}
