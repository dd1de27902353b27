//! The measurements of a run.

use web_time::Instant;

use super::run::{Advance, Course, Run};
use crate::Result;
use crate::tools::objectives::{Measure, Problem, TensorSpec};
use crate::tools::race::outcome::{Cost, Key, LOSS, Outcome, Point, finite, or_infinite};
use crate::tools::race::rates::rate;

/// The number of measurements per run.
const POINTS: f64 = 64.0;

/// The number of measurements per patience.
const POINTS_PER_PATIENCE: u64 = 10;

pub(super) struct Meter<'a> {
    run: &'a Run<'a>,
    problem: &'a dyn Problem,
    cost: Cost,
    points: Vec<Point>,
    path: Vec<[f32; 2]>,
    /// Whether every step is measured: a problem of two parameters has a path to draw.
    traced: bool,
    /// The steps since the last point.
    since: Advance,
    /// The steps up to the last point.
    before: Advance,
    /// The mean loss of the last steps.
    last: f64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(run: &'a Run<'a>, problem: &'a dyn Problem) -> Self {
        let parameters: usize = problem.tensors().iter().map(TensorSpec::elements).sum();
        Self {
            run,
            problem,
            cost: Cost::default(),
            points: Vec::new(),
            path: Vec::new(),
            traced: parameters == 2,
            since: Advance::default(),
            before: Advance::default(),
            last: f64::INFINITY,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.run.budget.used(&self.cost) >= 1.0
            || self.run.heat.until.is_some_and(|least| self.last < least)
            || self.run.heat.patience.is_some_and(|steps| self.steps_since(self.best()) >= steps)
    }

    /// The point of the best validation error, the first of equal ones.
    fn best(&self) -> Option<&Point> {
        let held_out = self.points.iter().filter(|p| p.validation.is_some() && p.test.is_some());
        held_out.min_by(|a, b| or_infinite(a.validation).total_cmp(&or_infinite(b.validation)))
    }

    /// The steps since a point; 0 without a point.
    fn steps_since(&self, point: Option<&Point>) -> u64 {
        point.map_or(0, |point| self.cost.steps - point.step)
    }

    /// The most steps between two measurements, if the budget counts steps.
    fn interval(&self) -> u64 {
        let patience = self.run.heat.patience.map_or(u64::MAX, |steps| steps.div_ceil(POINTS_PER_PATIENCE));
        self.run.heat.steps.div_ceil(POINTS as u64).min(patience).max(1)
    }

    /// Lets the entrant take steps, and counts their cost. If the budget counts steps, the entrant may take several steps at once.
    pub(super) async fn time(&mut self, advance: impl AsyncFnOnce(u64) -> Result<Advance>) -> Result<Advance> {
        let left = self.run.budget.steps_left(&self.cost).filter(|_| !self.traced).unwrap_or(1);
        let most = left.min(self.interval()).max(1);
        let began = Instant::now();
        let advance = advance(most).await?;
        self.cost.seconds += began.elapsed().as_secs_f64();
        self.cost.steps += advance.steps;
        self.cost.gradients += advance.gradients;
        self.cost.losses += advance.losses;
        self.last = advance.loss / advance.steps.max(1) as f64;
        self.since.add(&advance);
        Ok(advance)
    }

    pub(super) fn wants_point(&self) -> bool {
        let impatient = self.run.heat.patience.is_some() && self.steps_since(self.points.last()) >= self.interval();
        self.traced || impatient || self.run.budget.used(&self.cost) * POINTS >= self.points.len() as f64
    }

    pub(super) async fn measure(&mut self, course: &mut impl Course) -> Result<&Point> {
        let params = course.params().await?;
        let slices: Vec<&[f32]> = params.iter().map(Vec::as_slice).collect();
        let measure = self.problem.measure();
        let since = std::mem::take(&mut self.since);
        let mean = |sum: f64| sum / since.steps.max(1) as f64;
        let loss = if since.steps == 0 { course.loss().await? } else { mean(since.loss) };
        self.points.push(Point {
            step: self.cost.steps,
            evaluations: self.cost.evaluations(),
            loss: finite(loss),
            validation: error(measure, self.problem.validation(&slices)).and_then(finite),
            test: error(measure, self.problem.test(&slices)).and_then(finite),
            triggered: since.triggers.map(|n| mean(n as f64)),
            damping: since.damping.map(mean).and_then(finite),
        });
        if self.traced {
            let mut values = slices.iter().flat_map(|tensor| tensor.iter().copied());
            let place = values.next().zip(values.next()).map(|(x, y)| [x, y]);
            // JSON holds only finite numbers, and a plot has no place for others.
            self.path.extend(place.filter(|place| place.iter().all(|x| x.is_finite())));
        }
        self.before.add(&since);
        let last = self.points.len() - 1;
        Ok(&self.points[last])
    }

    /// The outcome of a run that reached its end. For a problem without held-out data, the error is the loss.
    pub(super) async fn ended(self, course: &mut impl Course) -> Result<Outcome> {
        let loss = finite(course.loss().await?);
        let best = self.best().copied();
        let end = best.filter(|_| self.run.heat.patience.is_some()).or(self.points.last().copied()).unwrap_or_default();
        let mut outcome = self.diverged();
        if loss.is_none() {
            return Ok(outcome);
        }
        outcome.early = best.and_then(|p| p.test);
        outcome.diverged = false;
        outcome.loss = loss;
        outcome.validation = end.validation.or(loss);
        outcome.test = end.test.or(loss);
        Ok(outcome)
    }

    /// The outcome of a run that diverged here.
    pub(super) fn diverged(mut self) -> Outcome {
        self.before.add(&self.since);
        let all = self.before;
        Outcome {
            key: Key::default(),
            measure: measured(self.problem).to_owned(),
            lr: rate(self.run.rule.as_ref()),
            cost: self.cost,
            state_bytes: 0.0,
            diverged: true,
            loss: None,
            validation: None,
            test: None,
            early: None,
            triggers: all.triggers,
            damping: all.damping.map(|sum| sum / all.steps.max(1) as f64).and_then(finite),
            sharpness: None,
            points: self.points,
            path: self.path,
        }
    }
}

impl Advance {
    fn add(&mut self, other: &Self) {
        if other.steps == 0 {
            return;
        }
        let first = self.steps == 0;
        self.steps += other.steps;
        self.gradients += other.gradients;
        self.losses += other.losses;
        self.loss += other.loss;
        self.triggers = if first { other.triggers } else { self.triggers.zip(other.triggers).map(|(a, b)| a + b) };
        self.damping = if first { other.damping } else { self.damping.zip(other.damping).map(|(a, b)| a + b) };
    }
}

/// The measure as an error: a smaller error is better.
fn error(measure: Option<Measure>, value: Option<f64>) -> Option<f64> {
    let turn = |x| if measure.is_some_and(|m| m.more_is_better) { 1.0 - x } else { x };
    value.map(turn)
}

/// The name of the measure of a problem's errors.
fn measured(problem: &dyn Problem) -> &'static str {
    match problem.measure() {
        None => LOSS,
        Some(Measure::ACCURACY) => "error rate",
        Some(measure) => measure.name,
    }
}
