//! The options around the rule, on the host: as `shaders/harness/gradient.wgsl` and `finalize.wgsl` on the GPU.

use crate::cpu::extent::Extent;
use crate::cpu::number::Number;
use crate::cpu::rows::RowSets;
use crate::gpu::build::spec::GroupInfo;
#[cfg(feature = "checkpoint")]
use crate::gpu::layout::units::{ACCUMULATOR, AVERAGE};
use crate::options::around::{Accumulate, Around, Clip};
use crate::options::telemetry::Squares;

/// The numbers that the options around the rule keep from step to step.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings<F> {
    pub(crate) around: Around,
    /// The joined gradients of micro-batches, per tensor; empty without accumulation.
    pub(crate) accumulated: Vec<Vec<F>>,
    /// The count of these micro-batches.
    micro_batches: u32,
    /// The averages of the weights, per tensor; empty without an average.
    pub(crate) ema: Vec<Vec<F>>,
    pub(crate) scale: f32,
    streak: u32,
    pub(crate) skipped: u64,
    /// The measurements of the last step, per tensor.
    pub(crate) squares: Vec<Squares>,
    /// The gradients of this step as the rule sees them.
    pub(crate) prepared: Vec<Vec<F>>,
    /// The measures of all parts, where the parts share a norm or a test: then the gradients of this step are already gathered.
    pub(crate) joint: Option<Measures>,
}

/// What the test for finite numbers and the clip by global norm read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measures {
    /// The sum of the squared gradients.
    squares: f64,
    /// The count of gradients that are not finite.
    nonfinite: f64,
}

impl Measures {
    /// The measures of both.
    pub(crate) fn join(self, other: Self) -> Self {
        Self { squares: self.squares + other.squares, nonfinite: self.nonfinite + other.nonfinite }
    }

    fn are_finite(self) -> bool {
        self.nonfinite == 0.0 && in_f32(self.squares).is_finite()
    }
}

impl<F: Number> Surroundings<F> {
    pub(crate) fn new(around: Around, tensors: &[Extent]) -> Self {
        let zeros = |wanted: bool| -> Vec<Vec<F>> {
            let zero = |t: &Extent| vec![F::zero(); t.elements];
            if wanted { tensors.iter().map(zero).collect() } else { Vec::new() }
        };
        Self {
            around,
            accumulated: zeros(around.accumulate.is_some()),
            micro_batches: 0,
            ema: zeros(around.ema.is_some()),
            scale: around.loss_scale.map_or(1.0, |s| s.initial as f32),
            streak: 0,
            skipped: 0,
            squares: Vec::new(),
            prepared: Vec::new(),
            joint: None,
        }
    }

    /// Whether the rule sees gradients as the caller gives them.
    pub(crate) fn passes_gradients(&self) -> bool {
        let Around { ema, partial, own_counts, .. } = self.around;
        let bare = Around { ema, partial, own_counts, ..Around::default() };
        self.around == bare
    }

    pub(crate) fn accumulate(&mut self, grads: &[&[F]]) {
        self.micro_batches = self.micro_batches.saturating_add(1);
        for (sum, g) in self.accumulated.iter_mut().zip(grads) {
            for (sum, g) in sum.iter_mut().zip(*g) {
                *sum = *sum + *g;
            }
        }
    }

    /// Prepares the gradients of this step. Returns false where the step is skipped, because a gradient, or the sum of the squared gradients,
    /// is not finite.
    pub(crate) fn prepare(
        &mut self,
        groups: &[GroupInfo],
        group_of: &[usize],
        rows: &mut RowSets<F>,
        (takes, grads): (&[bool], &[&[F]]),
    ) -> bool {
        let joint = self.joint.take();
        if joint.is_none() {
            self.gather(groups, group_of, rows, (takes, grads));
        }
        self.micro_batches = 0;
        self.accumulated.iter_mut().for_each(|sum| sum.fill(F::zero()));
        let measures = joint.unwrap_or_else(|| self.own_measures());
        let skip = self.around.guards() && !measures.are_finite();
        self.adapt_scale(skip);
        if self.around.clips_norm() {
            self.clip(groups.len(), group_of, measures.squares);
        }
        !skip
    }

    /// Gathers the gradients of this step, and measures them. The accumulator stays as it is.
    pub(crate) fn gather(
        &mut self,
        groups: &[GroupInfo],
        group_of: &[usize],
        rows: &mut RowSets<F>,
        (takes, grads): (&[bool], &[&[F]]),
    ) {
        let micro_batches = f64::from(self.micro_batches) + 1.0;
        let share = if let Some(Accumulate::Mean(_)) = self.around.accumulate { 1.0 / micro_batches } else { 1.0 };
        self.prepared.resize(grads.len(), Vec::new());
        self.squares = vec![Squares { clip: 1.0, ..Squares::default() }; grads.len()];
        for (t, g) in grads.iter().enumerate() {
            let sign = if groups[group_of[t]].maximize { -share } else { share };
            let factor = F::from_f64(sign / f64::from(self.scale));
            let prepared = &mut self.prepared[t];
            prepared.clear();
            if !takes[t] {
                rows.stepped[t].clear();
                continue;
            }
            prepared.extend_from_slice(g);
            if let Some(sum) = self.accumulated.get(t) {
                prepared.iter_mut().zip(sum.iter()).for_each(|(g, sum)| *g = *g + *sum);
            }
            rows.select(t, prepared);
            prepared.iter_mut().for_each(|g| *g = *g * factor);
            self.squares[t].nonfinite = prepared.iter().filter(|g| !g.is_finite()).count() as f64;
        }
        self.measure_gradients();
    }

    /// The measures of the gathered gradients.
    pub(crate) fn own_measures(&self) -> Measures {
        Measures {
            squares: self.squares.iter().map(|tensor| tensor.gradient).sum(),
            nonfinite: self.squares.iter().map(|tensor| tensor.nonfinite).sum(),
        }
    }

    /// Adapts the loss scale as torch's `GradScaler`.
    fn adapt_scale(&mut self, skip: bool) {
        self.skipped += u64::from(skip);
        let Some(scale) = self.around.loss_scale else { return };
        (self.scale, self.streak) = scale.next(self.scale, self.streak, skip);
    }

    /// Clips by value, and computes the norms that a clip by norm, the test for finite numbers and telemetry need.
    fn measure_gradients(&mut self) {
        if let Some(Clip::Value(most)) = self.around.clip {
            let most = F::from_f64(most);
            // `clamp` leaves a NaN as it is: the sum below must show it.
            self.prepared.iter_mut().flatten().for_each(|g| *g = g.clamp(-most, most));
        }
        if self.around.sums() {
            for (squares, prepared) in self.squares.iter_mut().zip(&self.prepared) {
                squares.gradient = in_f32(square(prepared));
            }
        }
    }

    /// `all`: the squared norm over all tensors.
    fn clip(&mut self, groups: usize, group_of: &[usize], all: f64) {
        let Some(clip) = self.around.clip else { return };
        let squares: Vec<f64> = self.squares.iter().map(|tensor| tensor.gradient).collect();
        let mut of_group = vec![0.0; groups];
        squares.iter().zip(group_of).for_each(|(square, &group)| of_group[group] += square);
        for (t, prepared) in self.prepared.iter_mut().enumerate() {
            let square = match clip {
                Clip::GlobalNorm(_) | Clip::Value(_) => all,
                Clip::GroupNorm(_) => of_group[group_of[t]],
                Clip::TensorNorm(_) => squares[t],
            };
            let factor = F::from_f64(clip_factor(clip.most(), in_f32(square)));
            self.squares[t].clip = factor.to_f64();
            prepared.iter_mut().for_each(|g| *g = *g * factor);
        }
    }

    /// Averages the weights after the `t`-th step.
    pub(crate) fn average(&mut self, t: u64, params: &[&mut [F]]) {
        let Some(ema) = self.around.ema else { return };
        let rate = F::from_f64(ema.rate(t));
        for (average, p) in self.ema.iter_mut().zip(params) {
            for (average, p) in average.iter_mut().zip(p.iter()) {
                *average = *average + rate * (*p - *average);
            }
        }
    }

    /// Sets the averages to the weights, before the first step.
    pub(crate) fn start_average(&mut self, params: &[&mut [F]]) {
        for (average, p) in self.ema.iter_mut().zip(params) {
            average.copy_from_slice(p);
        }
    }
}

/// torch's `clip_grad_norm_`: a norm that is NaN makes every gradient NaN, and an infinite one makes the factor 0.
fn clip_factor(most: f64, squared: f64) -> f64 {
    let factor = most / (squared.sqrt() + 1e-6);
    if factor > 1.0 { 1.0 } else { factor }
}

/// A sum as the GPU computes it. The GPU adds in f32, so a sum past the range of f32 is infinite.
const fn in_f32(sum: f64) -> f64 {
    if sum > f32::MAX as f64 { f64::INFINITY } else { sum }
}

/// Σx².
pub(crate) fn square<F: Number>(values: &[F]) -> f64 {
    values.iter().map(|x| x.to_f64() * x.to_f64()).sum()
}

#[cfg(feature = "checkpoint")]
/// The counters that steps keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Counters {
    pub(crate) step_count: u64,
    pub(crate) skipped: u64,
    pub(crate) streak: u32,
    pub(crate) scale: f32,
    pub(crate) accumulated: u32,
}

#[cfg(feature = "checkpoint")]
impl<F: Number> Surroundings<F> {
    /// The arrays of a tensor, under the names that the GPU uses.
    pub(crate) fn arrays(&self, tensor: usize) -> impl Iterator<Item = (&'static str, &[F])> {
        let sums = self.accumulated.get(tensor).map(|values| (ACCUMULATOR, values.as_slice()));
        let averages = self.ema.get(tensor).map(|values| (AVERAGE, values.as_slice()));
        [sums, averages].into_iter().flatten()
    }

    /// As [`arrays`](Self::arrays), for writing.
    pub(crate) fn arrays_mut(&mut self, tensor: usize) -> impl Iterator<Item = (&'static str, &mut [F])> {
        let sums = self.accumulated.get_mut(tensor).map(|values| (ACCUMULATOR, values.as_mut_slice()));
        let averages = self.ema.get_mut(tensor).map(|values| (AVERAGE, values.as_mut_slice()));
        [sums, averages].into_iter().flatten()
    }

    /// The counters without the step count, which the optimizer itself keeps.
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            step_count: 0,
            skipped: self.skipped,
            streak: self.streak,
            scale: self.scale,
            accumulated: self.micro_batches,
        }
    }

    pub(crate) fn set_counters(&mut self, counters: Counters) {
        let Counters { step_count: _, skipped, streak, scale, accumulated } = counters;
        (self.skipped, self.streak, self.scale, self.micro_batches) = (skipped, streak, scale, accumulated);
    }
}
