//! The arena's arrays that a rule's procedure needs beside its states.

#[cfg(feature = "custom")]
use crate::gpu::layout::arena::keeps_precision;
#[cfg(feature = "custom")]
use crate::gpu::layout::class::{ACCUMULATOR, AVERAGE};
use crate::gpu::layout::memory::Role;
use crate::optim::Procedure;

/// The name of the parameters beside the arrays'.
#[cfg(any(feature = "checkpoint", feature = "custom"))]
pub(crate) const PARAM: &str = "param";
/// The parameters while a probe moves them.
pub(crate) const ANCHOR: &str = "probe_anchor";
/// Probes' directions, where they are given.
pub(crate) const DIRECTIONS: [&str; 8] = [
    "direction_1",
    "direction_2",
    "direction_3",
    "direction_4",
    "direction_5",
    "direction_6",
    "direction_7",
    "direction_8",
];
/// The parameters where an integrator began.
pub(crate) const BASE: &str = "flow_base";
/// An integrator's derivatives.
pub(crate) const DERIVATIVES: [&str; 7] = ["flow_k1", "flow_k2", "flow_k3", "flow_k4", "flow_k5", "flow_k6", "flow_k7"];
/// P g.
pub(crate) const WARPED: &str = "warped";
/// The gradient of the step before.
pub(crate) const BEFORE: &str = "warp_gradient";

/// The columns of P: element i of a column is i's row of it.
#[rustfmt::skip]
pub(crate) const COLUMNS: [&str; 64] = [
    "warp_00", "warp_01", "warp_02", "warp_03", "warp_04", "warp_05", "warp_06", "warp_07",
    "warp_08", "warp_09", "warp_10", "warp_11", "warp_12", "warp_13", "warp_14", "warp_15",
    "warp_16", "warp_17", "warp_18", "warp_19", "warp_20", "warp_21", "warp_22", "warp_23",
    "warp_24", "warp_25", "warp_26", "warp_27", "warp_28", "warp_29", "warp_30", "warp_31",
    "warp_32", "warp_33", "warp_34", "warp_35", "warp_36", "warp_37", "warp_38", "warp_39",
    "warp_40", "warp_41", "warp_42", "warp_43", "warp_44", "warp_45", "warp_46", "warp_47",
    "warp_48", "warp_49", "warp_50", "warp_51", "warp_52", "warp_53", "warp_54", "warp_55",
    "warp_56", "warp_57", "warp_58", "warp_59", "warp_60", "warp_61", "warp_62", "warp_63",
];

/// The arrays of a procedure, in order; `given` says whether probes' directions lie there.
pub(crate) fn of(procedure: Procedure, given: bool) -> Vec<&'static str> {
    match procedure {
        Procedure::Plain => Vec::new(),
        Procedure::Probe(probe) => {
            let directions = if given { probe.count } else { 0 };
            [&[ANCHOR], &DIRECTIONS[..directions]].concat()
        }
        Procedure::Integrate(scheme) => [&[BASE], &DERIVATIVES[..scheme.stages()]].concat(),
        Procedure::Warp(warp) => {
            let before = if warp.learned { &[BEFORE][..] } else { &[] };
            [&[WARPED], before, &COLUMNS[..warp.block]].concat()
        }
    }
}

/// What an array of a procedure is to users who count its bytes.
pub(crate) fn role(name: &'static str) -> Role {
    if COLUMNS.contains(&name) { Role::WarpMatrix } else { Role::Procedure(name) }
}

/// Whether an array means nothing between steps.
pub(crate) fn is_scratch(name: &str) -> bool {
    [ANCHOR, BASE, WARPED].contains(&name) || DERIVATIVES.contains(&name) || DIRECTIONS.contains(&name)
}

/// Whether an array beside a rule's states is called so, or the parameters.
#[cfg(feature = "custom")]
pub(crate) fn is_taken(name: &str) -> bool {
    let own = [PARAM, ACCUMULATOR, AVERAGE, BEFORE].contains(&name) || COLUMNS.contains(&name);
    own || keeps_precision(name) || is_scratch(name)
}
