//! What changes a pipeline's text: a class of tensors, and what its steps are made of.

use std::sync::Arc;

use crate::Result;
use crate::gpu::layout::units::SUM_LANES;
use crate::optim::procedure::Scheme;
use crate::optim::rule::Origin;
use crate::optim::{Depends, Procedure, Rule, StateSpec, Sums};
use crate::options::around::{Around, evaluation_scalar};
use crate::options::storage::{Formats, Storage};

/// What a pipeline does in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Sums a span a workgroup, read-only.
    Stats,
    /// Adds the sums and decides, in one workgroup.
    Finalize,
    /// Moves parameters along a probe's direction and back: rules that probe.
    Probe,
    /// Moves parameters between evaluations: rules that integrate.
    Flow,
    /// Multiplies gradients by a matrix: WarpAdam.
    Warp,
    /// Changes parameters and states.
    Update,
    /// Lets rows change places and begin anew; in no step, and only where there are row sets.
    Rows,
}

impl Stage {
    /// The stages of a step, in order.
    pub const ALL: [Self; 6] = [Self::Stats, Self::Finalize, Self::Probe, Self::Flow, Self::Warp, Self::Update];
}

/// Which sums a pair of stats and finalize makes. Mostly one round makes all; a rule whose sums need the clipped gradient has a
/// second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// The rule's sums and the harness's.
    Only,
    /// The harness's.
    First,
    /// The rule's, of the clipped gradient.
    Second,
    /// The squares of probes' directions.
    Directions,
    /// The rule's once more, after an integrator has been along.
    Settle,
    /// The error of an integrator's step.
    Error,
}

impl Round {
    /// Whether it comes after the round that tested the gradient and clipped it.
    pub(crate) const fn is_later(self) -> bool {
        !matches!(self, Self::Only | Self::First)
    }
}

/// Everything that changes a pipeline's text: a class of tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    pub(crate) name: &'static str,
    pub(crate) rule: Arc<str>,
    pub(crate) origin: Origin,
    pub(crate) flags: Vec<(&'static str, bool)>,
    pub(crate) states: Vec<StateSpec>,
    pub(crate) scalars: Vec<(&'static str, Depends)>,
    pub(crate) decision: Vec<&'static str>,
    pub(crate) global_state: Vec<&'static str>,
    pub(crate) procedure: Procedure,
    pub(crate) sums: Sums,
    pub(crate) around: Around,
    /// The state along which the parameters move to where the rule is evaluated.
    pub(crate) evaluated: Option<&'static str>,
    pub(crate) round: Round,
    /// Groups of the optimizer.
    pub(crate) groups: usize,
    /// Threads of a workgroup of [`Stage::Stats`].
    pub(crate) sum_lanes: u32,
    /// How parameters, gradients and states are stored.
    pub(crate) formats: Formats,
    /// Some class rounds by chance, so that steps are counted for it.
    pub(crate) stochastic: bool,
    /// Gradients lie in the parameters' buffer, which is bound once.
    pub(crate) shared: bool,
    /// Gradients move from step to step.
    pub(crate) moving: bool,
    /// Probes' directions lie in the arena.
    pub(crate) given: bool,
    /// The rule squares with `wo_square`, so that rows may share a second moment.
    pub(crate) shares_rows: bool,
    /// What rows ask for; `None` where the class has none.
    pub(crate) rows: Option<RowText>,
    /// The elements that are stepped are counted, because some are not and the rule has sums.
    pub(crate) counted: bool,
    /// The scalars lie in the control buffer, this many vec4s behind its head: with a mask or packed arrays the sums have no binding left
    /// for them.
    pub(crate) scalars_in_control: Option<usize>,
}

impl Class {
    /// The class of a rule with these settings and nothing around it.
    #[must_use]
    pub fn of(rule: &dyn Rule, shared: bool, moving: bool) -> Self {
        Self { shared, moving, ..Self::with(rule, Around::default(), 1) }
    }

    /// The class for a tensor of so many elements that is stored so.
    ///
    /// # Errors
    /// The rule cannot be stored so.
    pub fn stored(self, rule: &dyn Rule, storage: &Storage, elements: u64) -> Result<Self> {
        let stored = Self { formats: storage.formats(rule, elements)?, ..self };
        let packs = stored.array_counts().packs() && !stored.rounds().is_empty();
        Ok(Self {
            stochastic: stored.rounds_stochastically(),
            scalars_in_control: packs.then(|| stored.all_decisions(1)),
            ..stored
        })
    }

    pub(crate) fn with(rule: &dyn Rule, around: Around, groups: usize) -> Self {
        let scalars = around.scalars(rule.scalars(1), false, 1).into_iter();
        Self {
            name: rule.name(),
            rule: rule.text().into(),
            origin: rule.origin(),
            flags: rule.flags(),
            states: rule.states(),
            scalars: scalars.chain(evaluation_scalar(rule)).map(|s| (s.name, s.depends)).collect(),
            evaluated: rule.evaluation().map(|(state, _)| state),
            decision: rule.decision().to_vec(),
            global_state: rule.global_state().to_vec(),
            procedure: rule.procedure(),
            sums: rule.sums(),
            around,
            round: Round::Only,
            groups,
            sum_lanes: SUM_LANES,
            formats: Formats::default(),
            stochastic: false,
            shared: false,
            moving: false,
            given: false,
            shares_rows: rule.shares_rows(),
            rows: None,
            counted: false,
            scalars_in_control: None,
        }
    }

    /// The stages that a step of the rule has.
    pub fn stages(&self) -> impl Iterator<Item = Stage> + '_ {
        let rounds = !self.rounds().is_empty();
        Stage::ALL.into_iter().filter(move |stage| match stage {
            Stage::Stats => rounds && self.sum_counts().0 > 0,
            Stage::Finalize => rounds,
            Stage::Update => true,
            own => self.procedure_stage() == Some(*own),
        })
    }

    /// The stage that the rule's procedure adds.
    pub(crate) const fn procedure_stage(&self) -> Option<Stage> {
        match self.procedure {
            Procedure::Plain => None,
            Procedure::Probe(_) => Some(Stage::Probe),
            Procedure::Integrate(_) => Some(Stage::Flow),
            Procedure::Warp(_) => Some(Stage::Warp),
        }
    }

    /// The rounds of sums that a step makes.
    pub(crate) fn rounds(&self) -> Vec<Round> {
        match (self.sums.sums > 0, self.around.sums()) {
            (false, false) if self.probes() > 0 => vec![Round::Only],
            (false, false) => Vec::new(),
            (true, _) if self.sums.after_clip && self.around.clips_norm() => vec![Round::First, Round::Second],
            _ => vec![Round::Only],
        }
    }

    /// The rule's sums and the harness's in this round.
    pub(crate) fn counts(&self) -> (Sums, bool) {
        let none = Sums::default();
        match self.round {
            Round::Only => (self.sums, self.around.sums()),
            Round::First => (none, true),
            Round::Second | Round::Settle => (self.sums, false),
            Round::Directions => (Sums { sums: self.probes(), totals: self.probes(), ..none }, false),
            Round::Error => (Sums { sums: 2, totals: 2, ..none }, false),
        }
    }

    /// How many directions the rule probes.
    pub(crate) const fn probes(&self) -> usize {
        if let Procedure::Probe(probe) = self.procedure { probe.count } else { 0 }
    }

    /// The rounds of sums that a step makes beside [`rounds`](Self::rounds), where its procedure asks for them.
    pub(crate) fn later_rounds(&self) -> Vec<Round> {
        match self.procedure {
            Procedure::Plain | Procedure::Warp(_) => Vec::new(),
            Procedure::Probe(_) => vec![Round::Directions],
            Procedure::Integrate(Scheme::Rk4) => vec![Round::Settle],
            Procedure::Integrate(Scheme::Dopri5 { .. }) => vec![Round::Settle, Round::Error],
        }
    }

    /// All of both.
    pub(crate) fn all_rounds(&self) -> impl Iterator<Item = Round> {
        self.rounds().into_iter().chain(self.later_rounds())
    }

    /// How many sums and totals the round makes.
    pub(crate) fn sum_counts(&self) -> (usize, usize) {
        let (rule, harness) = self.counts();
        let own = if harness { 2 } else { 0 };
        (rule.sums + own + usize::from(self.counts_elements()), rule.totals + own)
    }

    /// Whether the round's last sum is the count of elements that are stepped.
    pub(crate) fn counts_elements(&self) -> bool {
        self.counted && self.counts().0.sums > 0
    }

    /// The states that are kept, with their numbers among the rule's.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (usize, &StateSpec)> {
        self.states.iter().enumerate().filter(|(_, s)| s.used)
    }

    /// Vec4s of what decisions remember, which lie before the first tensor's.
    pub(crate) fn global_state_vec4s(&self) -> usize {
        self.global_state.len().div_ceil(4)
    }

    /// Vec4s of a tensor's decision: the rule's members, then the clip factor.
    pub(crate) fn decision_vec4s(&self) -> usize {
        (self.decision.len() + usize::from(self.around.clips_norm())).div_ceil(4)
    }

    /// Vec4s of the memory and the decisions of so many tensors, at least one.
    pub(crate) fn all_decisions(&self, tensors: usize) -> usize {
        self.global_state_vec4s() + tensors.max(1) * self.decision_vec4s().max(1)
    }
}

/// What a class of tensors with rows asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowText {
    /// The number of the buffer of masks, where only flagged rows are stepped.
    pub(crate) mask: Option<usize>,
    /// Only elements whose gradient is not exactly zero are stepped.
    pub(crate) nonzero: bool,
    /// Columns have rates of their own.
    pub(crate) columns: bool,
    /// The rows of the tensor have one second moment each.
    pub(crate) shared: bool,
}
