// The records that the host writes and the kernels read.

// A run of one tensor's elements. For the update it is a chunk of at most 1024 elements, for the sums a span of whole chunks.
struct wo_Chunk {
    param: u32,     // first vec4 in the bound window of the parameters
    grad: u32,      // first vec4 in the bound window of the gradients; where gradients are rebound, first vec4 in the tensor
    state: u32,     // first vec4 in the arena's first array
    length: u32,    // elements
    tensor: u32,
    group: u32,
    position: u32,  // elements of the tensor before the run
    row: u32,       // a span's row of partial sums
}

// The scalars of one call of `step`. A dynamic offset picks the record, so each step of an encoder reads its own record. The record is a
// uniform, because on a software GPU a number that every thread reads from a storage buffer costs as much as an element.
struct wo_Call {
    count_mask: u32,   // one less than the count of rows in the ring of step counts; the count is a power of two
    groups: u32,
    moved: u32,        // first vec4 of the call's gradient positions, where gradients are rebound
    rows: u32,         // first vec4 of the call's table of rows, if there are row sets
    settings: array<vec4<f32>, wo_SETTINGS>,   // the call's rows, one per group
}

// One pass of a probe or an integrator; a dynamic offset picks the record.
struct wo_Pass {
    flags: u32,        // what the pass does: wo_START and the flags after it
    number: u32,       // the probe, or the place of the derivative
    next: f32,         // 1: the tolerance also grows with the position after the step; 0: it does not
    tolerance: f32,
    poison: f32,       // 0; NaN if the flow diverged
    seed: u32,         // the key of the probes' directions
    pad0: u32,
    pad1: u32,
    weights: array<vec4<f32>, 2>,   // the weights of the derivatives
}

struct wo_Control {
    step_count: u32,   // steps so far, without skipped ones
    skip: u32,         // 1: this step changes nothing
    skipped: u32,      // steps that were skipped because a gradient was not finite
    streak: u32,       // finite steps since the loss scale last changed
    scale: f32,        // the loss scale, by which the caller multiplies the loss
    unscale: f32,      // 1 over the scale of this step's gradients
    rounding: u32,     // the key of stochastic rounding
    rounded: u32,      // steps so far that rounded stochastically
    accumulated: u32,  // micro-batches in the accumulator
    ran: u32,          // steps so far, with skipped ones; where steps may be skipped
    decisions: array<vec4<f32>>,   // the rule's global state; then, for each tensor, the rule's decision and the clip factor
}

// The scalars of one group that belong to the harness; 1 if a feature is off.
struct wo_Extra {
    clip: f32,         // the largest norm or value
    factor: f32,       // the sign (-1 to maximize); for a mean of micro-batches, divided by their count in a whole window
    ema: f32,          // 1 - the decay of the weights' average at this step count
    evaluation: f32,   // how far the parameters move along a state for an evaluation
}

// Rows of partial sums: a segment adds the rows of a few spans into its own row; a tensor adds the rows of its segments.
struct wo_Segment {
    first: u32,
    count: u32,
    row: u32,
    pad: u32,
}

struct wo_Tensor {
    first: u32,
    count: u32,
    group: u32,
    elements: f32,
}
