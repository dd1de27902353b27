//! Classes of tensors: everything that changes the text of a pipeline, and the stages and rounds of a step.

use std::sync::Arc;

use crate::Result;
use crate::gpu::layout::units::{STEPS, SUM_LANES, WAITING};
use crate::optim::procedure::spec::{FactorSpec, PassSpec, RoundSpec};
use crate::optim::procedure::{Shared, factors, probes};
use crate::optim::rule::Origin;
use crate::optim::{Depends, Rule, StateSpec, Sums};
use crate::options::around::{Around, evaluation_scalar};
use crate::options::storage::{Formats, Storage};

/// The work of a pipeline in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Each workgroup sums the squares of one tile of a matrix, where a state is kept as factors.
    Tiles,
    /// Moves the factors to the step's squares.
    Fold,
    /// Each workgroup sums one span; writes no tensor.
    Stats,
    /// Adds the sums and decides, in one workgroup.
    Finalize,
    /// The pass of the rule's procedure: it moves parameters along a probe's direction, moves parameters between evaluations, or
    /// multiplies gradients by a matrix.
    Procedure,
    /// Changes parameters and states.
    Update,
    /// Remaps and resets rows. No step runs this stage, and only optimizers with row sets have it.
    Rows,
}

impl Stage {
    /// The stages of a step, in order.
    pub const ALL: [Self; 6] = [Self::Tiles, Self::Fold, Self::Stats, Self::Finalize, Self::Procedure, Self::Update];
}

/// The sums of one pair of stats and finalize. Usually one round makes all sums. A rule that sums the clipped gradient has a second
/// round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// The sums of the rule and of the harness.
    Only,
    /// The sums of the harness.
    First,
    /// The sums of the rule, computed from the clipped gradient.
    Second,
    /// The procedure's round of this number.
    Procedure(usize),
}

impl Round {
    /// Whether the round follows the round that tested and clipped the gradient.
    pub(crate) const fn is_later(self) -> bool {
        !matches!(self, Self::Only | Self::First)
    }
}

/// A state that matrices of the part keep as factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FactorText {
    pub(crate) spec: FactorSpec,
    /// The first vec4 of the table of factors, behind the head of the control buffer.
    pub(crate) table: usize,
    /// Whether the class is that of matrices. The other tensors keep the state itself.
    pub(crate) matrix: bool,
}

/// A class of tensors: everything that changes the text of a pipeline.
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
    /// The numbers that the rule keeps once per tensor.
    pub(crate) progress: Vec<&'static str>,
    /// The scalars from which the rule computes those of another step count. Empty: none has another.
    pub(crate) own: Vec<&'static str>,
    pub(crate) procedure: Shared,
    pub(crate) sums: Sums,
    pub(crate) around: Around,
    /// The state along which the parameters move to the point at which the model is evaluated.
    pub(crate) evaluated: Option<&'static str>,
    pub(crate) round: Round,
    /// Groups of the part.
    pub(crate) groups: usize,
    /// The decisions wait for the norms and tests of other parts.
    pub(crate) exchanges: bool,
    /// Threads of a workgroup of [`Stage::Stats`].
    pub(crate) sum_lanes: u32,
    /// The formats of parameters, gradients and states.
    pub(crate) formats: Formats,
    /// Some class rounds stochastically, so that the kernels count the steps that round.
    pub(crate) stochastic: bool,
    /// Gradients lie in the parameters' buffer, which is bound once.
    pub(crate) shared: bool,
    /// Each step names its gradients.
    pub(crate) dynamic_gradients: bool,
    /// The directions of probes lie in the arena.
    pub(crate) given: bool,
    /// The rule squares with `wo_square`, so that rows may share a second moment.
    pub(crate) shares_rows: bool,
    /// The needs of rows. `None`: the class has no rows.
    pub(crate) rows: Option<RowText>,
    /// `None`: no tensor of the part keeps factors.
    pub(crate) factors: Option<FactorText>,
    /// The sums count the stepped elements, because a step may leave out elements and the rule has sums.
    pub(crate) counted: bool,
    /// The scalars lie in the control buffer, this many vec4s after its head. With a mask or packed arrays the sums have no binding left
    /// for the scalars.
    pub(crate) scalars_in_control: Option<usize>,
}

impl Class {
    /// The class of a rule with these settings and no options around it.
    #[must_use]
    pub fn of(rule: &dyn Rule, shared: bool, dynamic_gradients: bool) -> Self {
        Self { shared, dynamic_gradients, ..Self::with(rule, Around::default(), 1) }.of_matrices(rule)
    }

    /// The class for matrices, if the rule keeps factors of them.
    pub(crate) fn of_matrices(self, rule: &dyn Rule) -> Self {
        let Some(spec) = factors(&rule.procedure()) else { return self };
        let table = self.factors.map_or_else(|| self.all_decisions(1), |factors| factors.table);
        let of_factors = |state: &StateSpec| StateSpec { used: state.used && state.name != spec.state, ..*state };
        let states = self.states.iter().map(of_factors).collect();
        let flags = self.flags.iter().map(|&(name, on)| (name, on || name == spec.flag)).collect();
        Self { factors: Some(FactorText { spec, table, matrix: true }), states, flags, ..self }
    }

    /// The state that the tensors of the class keep as factors.
    pub(crate) fn factored(&self) -> Option<FactorSpec> {
        self.factors.filter(|factors| factors.matrix).map(|factors| factors.spec)
    }

    /// The class for a tensor of this many elements with this storage.
    ///
    /// # Errors
    /// The rule does not allow this storage.
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
        let scalars = around.scalars(around.rule_scalars(rule, 1), false, 1).into_iter();
        let own = if around.own_counts { rule.own_count() } else { None };
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
            progress: rule.progress().to_vec(),
            own: own.into_iter().flatten().map(|scalar| scalar.name).collect(),
            procedure: rule.procedure(),
            sums: rule.sums(),
            around,
            round: Round::Only,
            groups,
            exchanges: false,
            sum_lanes: SUM_LANES,
            formats: Formats::default(),
            stochastic: false,
            shared: false,
            dynamic_gradients: false,
            given: false,
            shares_rows: rule.shares_rows(),
            rows: None,
            factors: None,
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
            Stage::Procedure => self.procedure_stage().is_some(),
            Stage::Tiles | Stage::Fold => self.factored().is_some(),
            Stage::Rows => false,
        })
    }

    /// The stage that the rule's procedure adds.
    pub(crate) fn procedure_stage(&self) -> Option<Stage> {
        self.pass().map(|_| Stage::Procedure)
    }

    /// The pass of the rule's procedure.
    pub(crate) fn pass(&self) -> Option<PassSpec> {
        self.procedure.as_ref().and_then(|procedure| procedure.pass())
    }

    /// The procedure's round that this class describes.
    pub(crate) fn procedure_round(&self) -> Option<RoundSpec> {
        let Round::Procedure(number) = self.round else { return None };
        self.procedure.as_ref().and_then(|procedure| procedure.rounds().get(number).copied())
    }

    /// Whether the round has sums of the procedure's own terms, which come from a record of the pass and not from the gradient.
    pub(crate) fn sums_own_terms(&self) -> bool {
        matches!(self.procedure_round(), Some(RoundSpec::Own(_)))
    }

    /// The rounds of sums that a step makes.
    pub(crate) fn rounds(&self) -> Vec<Round> {
        match (self.sums.sums > 0, self.around.sums()) {
            (false, false) if self.probes() > 0 || self.proceeds() => vec![Round::Only],
            (false, false) => Vec::new(),
            (true, _) if self.sums.after_clip && self.around.clips_norm() => vec![Round::First, Round::Second],
            _ => vec![Round::Only],
        }
    }

    /// The round in which a step makes the sums of the rule.
    pub(crate) fn rule_round(&self) -> Round {
        self.rounds().last().copied().unwrap_or(Round::Only)
    }

    /// The sums of the rule in this round, and whether the harness has sums in it.
    pub(crate) fn counts(&self) -> (Sums, bool) {
        let none = Sums::default();
        match self.round {
            Round::Only => (self.sums, self.around.sums()),
            Round::First => (none, true),
            Round::Second => (self.sums, false),
            Round::Procedure(_) => match self.procedure_round() {
                Some(RoundSpec::Own(count)) => (Sums { sums: count, totals: count, ..none }, false),
                Some(RoundSpec::Rule) | None => (self.sums, false),
            },
        }
    }

    /// The count of directions that the rule probes.
    pub(crate) fn probes(&self) -> usize {
        probes(&self.procedure)
    }

    /// The rounds of sums that the procedure adds to [`rounds`](Self::rounds).
    pub(crate) fn later_rounds(&self) -> Vec<Round> {
        let rounds = self.procedure.as_ref().map_or(0, |procedure| procedure.rounds().len());
        (0..rounds).map(Round::Procedure).collect()
    }

    /// The rounds of the step, then those of the procedure.
    pub(crate) fn all_rounds(&self) -> impl Iterator<Item = Round> {
        self.rounds().into_iter().chain(self.later_rounds())
    }

    /// The counts of sums and of totals of the round.
    pub(crate) fn sum_counts(&self) -> (usize, usize) {
        let (rule, harness) = self.counts();
        let own = if harness { 2 } else { 0 };
        (rule.sums + own + usize::from(self.counts_elements()), rule.totals + own)
    }

    /// Whether the last sum of the round is the count of stepped elements.
    pub(crate) fn counts_elements(&self) -> bool {
        self.counted && self.counts().0.sums > 0
    }

    /// The kept states, with their numbers among the states of the rule.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (usize, &StateSpec)> {
        self.states.iter().enumerate().filter(|(_, s)| s.used)
    }

    /// Vec4s of the global state, which lies before the decision of the first tensor.
    pub(crate) fn global_state_vec4s(&self) -> usize {
        self.global_state.len().div_ceil(4)
    }

    /// Vec4s of the decision for a tensor: the members of the rule, then the clip factor, then the numbers that are kept, then whether the
    /// step takes the tensor.
    pub(crate) fn decision_vec4s(&self) -> usize {
        (self.first_of_progress() + self.kept_numbers().len() + usize::from(self.around.partial)).div_ceil(4)
    }

    /// The names of the numbers that are kept once per tensor.
    pub(crate) fn kept_numbers(&self) -> Vec<&'static str> {
        let partial: &[&str] = if self.around.partial { &[STEPS, WAITING] } else { &[] };
        [&self.progress, partial].concat()
    }

    /// The numbers before the progress in the decision for a tensor.
    pub(crate) fn first_of_progress(&self) -> usize {
        self.decision.len() + usize::from(self.around.clips_norm())
    }

    /// Whether the arena holds a step count per element: the scalars of the rule depend on it.
    pub(crate) fn has_row_steps(&self) -> bool {
        self.rows.is_some_and(|rows| rows.fresh) && !self.own.is_empty()
    }

    /// Whether a micro-batch may leave out tensors.
    pub(crate) const fn waits(&self) -> bool {
        self.around.partial && self.around.accumulate.is_some()
    }

    /// Whether steps change numbers that are kept once per tensor.
    pub(crate) fn proceeds(&self) -> bool {
        !self.progress.is_empty() || self.around.partial
    }

    /// Vec4s of the global state and of the decisions for this many tensors, at least one.
    pub(crate) fn all_decisions(&self, tensors: usize) -> usize {
        self.global_state_vec4s() + tensors.max(1) * self.decision_vec4s().max(1)
    }
}

/// The needs of a class of tensors with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowText {
    /// The number of the buffer of masks, if a step takes only flagged rows.
    pub(crate) mask: Option<usize>,
    /// A step takes only elements with a gradient that is not exactly zero.
    pub(crate) nonzero: bool,
    /// Columns have rates of their own.
    pub(crate) columns: bool,
    /// The rows of the tensor have one second moment each.
    pub(crate) shared: bool,
    /// Elements have step counts of their own.
    pub(crate) fresh: bool,
}
