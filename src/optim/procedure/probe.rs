//! Probes of the loss around the parameters: S-Adam. The decision comes from the slopes of the losses. The WGSL is
//! `shaders/procedures/probe.wgsl` and `perturb.wgsl`.

use super::Procedure;
use super::evaluation::EvalRequest;
use super::record::{MOVE, PassRecord, RESTORE, START};
use super::script::{Fixed, Move, Script};
use super::spec::{ArraySpec, Feature, PassSpec, RoundSpec};
use crate::optim::rule::settings::choice;

/// The parameters while a probe moves them.
const ANCHOR: &[&str] = &["probe_anchor"];

/// The directions of probes, where the caller gives them.
const DIRECTIONS: &[&str] = &[
    "direction_1",
    "direction_2",
    "direction_3",
    "direction_4",
    "direction_5",
    "direction_6",
    "direction_7",
    "direction_8",
];

/// The names of all arrays.
#[cfg(feature = "custom")]
pub(super) const NAMES: &[&[&str]] = &[ANCHOR, DIRECTIONS];

const FILES: &[&str] =
    &[include_str!("../../../shaders/procedures/probe.wgsl"), include_str!("../../../shaders/procedures/perturb.wgsl")];

/// Words from one loss to the next: every device can bind a buffer at the start of a loss.
pub(crate) const LOSS_STRIDE: usize = 64;

/// Probes of the loss around the parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// The number of directions.
    pub count: usize,
    /// The part of a direction that has length one.
    pub directions: Directions,
}

choice! {
    /// The part of a probe's direction that has length one.
    Directions {
        /// The part in each tensor, as in the authors' code.
        Tensor = "tensor",
        /// The whole direction, as in the paper.
        Global = "global",
    }
}

impl Procedure for Probe {
    fn arrays(&self, given: bool) -> Vec<ArraySpec> {
        let directions = if given { &DIRECTIONS[..self.count] } else { &[] };
        ANCHOR.iter().chain(directions).map(|name| ArraySpec::scratch(name)).collect()
    }

    fn conditions(&self, given: bool) -> Vec<(&'static str, bool)> {
        vec![("DIRECTIONS_GIVEN", given), ("DIRECTIONS_GLOBAL", self.directions == Directions::Global)]
    }

    fn constants(&self, place: &dyn Fn(&str) -> u64) -> Vec<(&'static str, u64)> {
        vec![("LOSS_STRIDE", LOSS_STRIDE as u64), ("ANCHOR", place(ANCHOR[0])), ("DIRECTIONS", place(DIRECTIONS[0]))]
    }

    fn pass(&self) -> Option<PassSpec> {
        Some(PassSpec {
            name: "probe",
            files: FILES,
            entry: "wo_perturb",
            setup: None,
            reads_gradient: false,
            clips_by_norm: false,
            reads_record: true,
            reads_totals: true,
            skips: false,
            before_update: false,
        })
    }

    fn rounds(&self) -> Vec<RoundSpec> {
        vec![RoundSpec::Own(self.count)]
    }

    fn records(&self, seed: u32) -> Vec<PassRecord> {
        let flags = |j| if j == 0 { START | MOVE } else { MOVE };
        let probes = (0..self.count).map(|j| PassRecord { seed, ..PassRecord::new(flags(j), j) });
        probes.chain([PassRecord::new(RESTORE, 0)]).collect()
    }

    fn losses(&self) -> usize {
        self.count + 1
    }

    fn script(&self, _: bool) -> Option<Box<dyn Script>> {
        let probe = |j| [Move::Pass(j), Move::Ask(EvalRequest::Loss(j + 1))];
        let begin = [Move::Ask(EvalRequest::Gradient), Move::Ask(EvalRequest::Loss(0)), Move::Sum(0)];
        let end = [Move::Pass(self.count), Move::Decide, Move::Update];
        Some(Box::new(Fixed::new(begin.into_iter().chain((0..self.count).flat_map(probe)).chain(end))))
    }

    fn refuses(&self, rule: &str, feature: Feature) -> Option<String> {
        let half = || format!("{rule} probes the loss at distances that half precision does not resolve: use f32");
        match feature {
            Feature::HalfParams => Some(half()),
            Feature::Shards => Some(super::evaluates_whole(rule)),
            _ => None,
        }
    }
}
