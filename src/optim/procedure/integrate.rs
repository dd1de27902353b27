//! Integrators that evaluate the gradient between their stages: FlowAdam. Where the decision says so, the parameters follow the flow of the
//! clipped gradient, and the update receives the displacement. The WGSL is `shaders/procedures/flow.wgsl`, `derivatives.wgsl` and
//! `error.wgsl`; the methods are in [`integrator`](super::integrator).

use super::Procedure;
use super::evaluation::EvalRequest;
use super::integrator::{Control, RK4, Verdict, Weights, first_step, second_step};
use super::record::{ADVANCE, HORIZONS, MOVE, PassRecord, RESTORE, SHIFT, START, STORE};
use super::script::{Fixed, Move, Reading, Script};
use super::spec::{ArraySpec, Feature, PassSpec, RoundSpec};

/// The parameters at the start of an integrator.
const BASE: &[&str] = &["flow_base"];

/// An integrator's derivatives.
const DERIVATIVES: &[&str] = &["flow_k1", "flow_k2", "flow_k3", "flow_k4", "flow_k5", "flow_k6", "flow_k7"];

/// The names of all arrays.
#[cfg(feature = "custom")]
pub(super) const NAMES: &[&[&str]] = &[BASE, DERIVATIVES];

const FILES: &[&str] = &[
    include_str!("../../../shaders/procedures/derivatives.wgsl"),
    include_str!("../../../shaders/procedures/error.wgsl"),
    include_str!("../../../shaders/procedures/flow.wgsl"),
];

/// The round that completes the decision, among the rounds of the procedure.
const SETTLE: usize = 0;
/// The round of the error, among the rounds of the procedure.
const ERROR: usize = 1;

/// A method that integrates the flow, with evaluations of the gradient between its stages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scheme {
    /// The classical fourth-order method in one step.
    Rk4,
    /// Dormand–Prince 5(4) with step control.
    Dopri5 {
        /// The relative and the absolute tolerance.
        tolerance: f64,
    },
}

impl Scheme {
    /// The number of derivatives that the scheme keeps.
    #[must_use]
    pub const fn stages(self) -> usize {
        match self {
            Self::Rk4 => 4,
            Self::Dopri5 { .. } => 7,
        }
    }
}

impl Procedure for Scheme {
    fn arrays(&self, _: bool) -> Vec<ArraySpec> {
        BASE.iter().chain(&DERIVATIVES[..self.stages()]).map(|name| ArraySpec::scratch(name)).collect()
    }

    fn constants(&self, place: &dyn Fn(&str) -> u64) -> Vec<(&'static str, u64)> {
        vec![
            ("STAGES", self.stages() as u64),
            ("GRADIENT", place("g_prev")),
            ("DISPLACEMENT", place("displacement")),
            ("BASE", place(BASE[0])),
            ("DERIVATIVES", place(DERIVATIVES[0])),
        ]
    }

    fn pass(&self) -> Option<PassSpec> {
        Some(PassSpec {
            name: "flow",
            files: FILES,
            entry: "wo_flow",
            setup: None,
            reads_gradient: true,
            clips_by_norm: false,
            reads_record: true,
            reads_totals: false,
            skips: true,
            before_update: false,
        })
    }

    fn rounds(&self) -> Vec<RoundSpec> {
        match self {
            Self::Rk4 => vec![RoundSpec::Rule],
            Self::Dopri5 { .. } => vec![RoundSpec::Rule, RoundSpec::Own(2)],
        }
    }

    fn records(&self, _: u32) -> Vec<PassRecord> {
        match self {
            Self::Rk4 => {
                let flags = [START | MOVE, MOVE, MOVE, ADVANCE | RESTORE].map(|flags| flags | STORE | HORIZONS);
                let stage = |(i, weights): (usize, Weights)| PassRecord::new(flags[i], i).weighing(weights);
                RK4.into_iter().enumerate().map(stage).collect()
            }
            // The script writes the one record before each pass, because the pass depends on numbers that were read back.
            Self::Dopri5 { .. } => vec![PassRecord::default()],
        }
    }

    fn script(&self, submits: bool) -> Option<Box<dyn Script>> {
        let begin = [Move::Ask(EvalRequest::Gradient), Move::Decide];
        Some(match self {
            Self::Rk4 if submits => Box::new(Thrifty { moves: Fixed::new(begin), state: ThriftyState::Deciding }),
            Self::Rk4 => Box::new(Fixed::new(begin.into_iter().chain(rk4()))),
            Self::Dopri5 { tolerance } => {
                Box::new(Adaptive { moves: Fixed::new(begin), state: State::Deciding, tolerance: *tolerance })
            }
        })
    }

    fn needs_call(&self) -> Option<&'static str> {
        Some(match self {
            Self::Rk4 => "begin_step or step_with",
            Self::Dopri5 { .. } => "step_with_submits",
        })
    }

    fn reads_back(&self) -> bool {
        matches!(self, Self::Dopri5 { .. })
    }

    fn refuses(&self, rule: &str, feature: Feature) -> Option<String> {
        let inside =
            |what| Some(format!("an integrator that evaluates gradients inside the step does not work with {what}"));
        match feature {
            Feature::Rows => Some(super::whole_tensors(rule)),
            Feature::HalfParams => {
                Some(format!("{rule} moves parameters inside the step by less than half precision resolves: use f32"))
            }
            // The update makes the whole displacement from the parameters at the start, so that it measures the step.
            Feature::Telemetry | Feature::Ranges => None,
            Feature::ClipByNorm => {
                inside("a clip by norm: the norm of each stage's gradient would be another one, use gradient_clip")
            }
            Feature::LossScale => inside("a loss scale, which may change between the stages"),
            Feature::Accumulate => inside("accumulation: the gradient of a stage belongs to one batch"),
            Feature::OwnCounts => inside("step counts of single tensors or rows: an evaluation needs all of them"),
            Feature::Shards => Some(super::evaluates_whole(rule)),
        }
    }
}

/// The moves of the classical method after the decision.
fn rk4() -> impl Iterator<Item = Move> {
    let stage = |i| [Move::Pass(i), Move::Ask(EvalRequest::Gradient)];
    (0..3).flat_map(stage).chain([Move::Pass(3), Move::Complete(SETTLE), Move::Update])
}

/// The classical method that asks for no gradient where the step does not follow the flow.
#[derive(Debug)]
struct Thrifty {
    moves: Fixed,
    state: ThriftyState,
}

#[derive(Clone, Copy, Debug)]
enum ThriftyState {
    Deciding,
    Reading,
    Done,
}

impl Script for Thrifty {
    fn next(&mut self, read: &[f64]) -> Option<Move> {
        if let Some(next) = self.moves.next(read) {
            return Some(next);
        }
        match self.state {
            ThriftyState::Deciding => {
                self.state = ThriftyState::Reading;
                Some(Move::Read(Reading::Decision("flow")))
            }
            ThriftyState::Reading => {
                self.state = ThriftyState::Done;
                // Without the flow, the first pass keeps the gradient for the update and moves nothing.
                let still = [Move::Pass(0), Move::Complete(SETTLE), Move::Update];
                self.moves = if follows(read) { Fixed::new(rk4()) } else { Fixed::new(still) };
                self.moves.next(read)
            }
            ThriftyState::Done => None,
        }
    }
}

/// Whether the decision that was read is to follow the flow.
fn follows(read: &[f64]) -> bool {
    read.first().is_some_and(|flow| *flow != 0.0)
}

/// Dormand and Prince's method: the host decides between evaluations, from numbers that it reads.
#[derive(Debug)]
struct Adaptive {
    /// The moves before the next decision of the host.
    moves: Fixed,
    state: State,
    tolerance: f64,
}

/// What the host decides next.
#[derive(Clone, Copy, Debug)]
enum State {
    Deciding,
    /// The decision was read.
    Decided,
    /// The norms of the position and of the first derivative were read.
    Begun,
    /// The change of the derivative at the first guess of a step was read.
    Guessed {
        guess: f64,
        derivative: f64,
    },
    /// The horizon was read.
    Ready {
        step: f64,
    },
    /// The derivatives of an attempt up to this stage are evaluated.
    Attempted {
        control: Control,
        stage: usize,
    },
    /// The error of an attempt was read.
    Judged {
        control: Control,
    },
    Done,
}

impl Script for Adaptive {
    fn next(&mut self, read: &[f64]) -> Option<Move> {
        loop {
            if let Some(next) = self.moves.next(read) {
                return Some(next);
            }
            let (moves, state) = self.advance(read)?;
            (self.moves, self.state) = (Fixed::new(moves), state);
        }
    }
}

/// A pass with this record.
fn pass(record: PassRecord) -> [Move; 2] {
    [Move::Write(record), Move::Pass(0)]
}

/// The moves after the integration.
fn end() -> Vec<Move> {
    vec![Move::Complete(SETTLE), Move::Update]
}

/// A weight on one derivative.
fn only(number: usize, weight: f64) -> Weights {
    std::array::from_fn(|j| if j == number { weight } else { 0.0 })
}

impl Adaptive {
    /// The moves up to the host's next decision.
    fn advance(&self, read: &[f64]) -> Option<(Vec<Move>, State)> {
        let ask = Move::Ask(EvalRequest::Gradient);
        let root = |at: usize| read.get(at).copied().unwrap_or(f64::NAN).sqrt();
        Some(match self.state {
            State::Deciding => (vec![Move::Read(Reading::Decision("flow"))], State::Decided),
            State::Decided => {
                let start = pass(PassRecord::new(START | STORE, 0)).to_vec();
                if follows(read) {
                    ([start, self.norms(0.0, only(0, 1.0)).to_vec()].concat(), State::Begun)
                } else {
                    ([start, end()].concat(), State::Done)
                }
            }
            State::Begun => {
                let (position, derivative) = (root(0), root(1));
                let guess = first_step(position, derivative);
                let to_guess = pass(PassRecord::new(MOVE, 0).weighing(only(0, guess)));
                let change = self.norms(0.0, [-1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
                let store = pass(PassRecord::new(STORE, 1));
                let moves = [to_guess.as_slice(), &[ask], &store, &change].concat();
                (moves, State::Guessed { guess, derivative })
            }
            State::Guessed { guess, derivative } => {
                let step = second_step(guess, derivative, root(1));
                (vec![Move::Read(Reading::Scalar("horizon"))], State::Ready { step })
            }
            State::Ready { step } => {
                let horizon = read.first().copied().unwrap_or(0.0);
                Self::attempt(Control::new(horizon, step))
            }
            State::Attempted { control, stage } if stage < 6 => {
                let record = PassRecord::new(STORE | MOVE, stage).weighing(control.position(stage));
                ([pass(record).as_slice(), &[ask]].concat(), State::Attempted { control, stage: stage + 1 })
            }
            State::Attempted { control, stage } => {
                let error = self.norms(1.0, control.error());
                ([pass(PassRecord::new(STORE, stage)).as_slice(), &error].concat(), State::Judged { control })
            }
            State::Judged { mut control } => match control.judge(root(1)) {
                Verdict::Again => Self::attempt(control),
                Verdict::Onward(weights) => {
                    let advance = pass(PassRecord::new(ADVANCE | SHIFT, 0).weighing(weights));
                    let (moves, state) = Self::attempt(control);
                    ([advance.as_slice(), &moves].concat(), state)
                }
                Verdict::Arrived(weights) => {
                    let arrive = pass(PassRecord::new(ADVANCE | RESTORE, 0).weighing(weights));
                    ([arrive.to_vec(), end()].concat(), State::Done)
                }
                Verdict::Failed => {
                    let poison = PassRecord { poison: f32::NAN, ..PassRecord::new(ADVANCE | RESTORE, 0) };
                    ([vec![Move::Abandon], pass(poison).to_vec(), end()].concat(), State::Done)
                }
            },
            State::Done => return None,
        })
    }

    /// Moves the parameters to the first position of an attempt.
    fn attempt(control: Control) -> (Vec<Move>, State) {
        let to_first = pass(PassRecord::new(MOVE, 0).weighing(control.position(0)));
        let ask = Move::Ask(EvalRequest::Gradient);
        ([to_first.as_slice(), &[ask]].concat(), State::Attempted { control, stage: 1 })
    }

    /// Sums and reads the squares of the position and of a combination of derivatives, in units of the tolerance.
    fn norms(&self, next: f32, weights: Weights) -> [Move; 3] {
        let record = PassRecord { tolerance: self.tolerance as f32, next, ..PassRecord::default() };
        [Move::Write(record.weighing(weights)), Move::Sum(ERROR), Move::Read(Reading::Means(ERROR))]
    }
}
