// The records that the host writes and every pass reads.

// A run of one tensor's elements: at most 1024 for the update (a chunk), whole chunks for the sums (a span).
struct wo_Chunk {
    param: u32,     // first vec4 in the bound window of the parameters
    grad: u32,      // first vec4 in the bound window of the gradients; in the tensor where gradients move
    state: u32,     // first vec4 in the arena, of its first array
    length: u32,    // elements
    tensor: u32,
    group: u32,
    position: u32,  // how many elements of the tensor lie before it
    row: u32,       // a span's row of partial sums
}

// The scalars of one call of `step`. A dynamic offset picks the record, so it travels in encoder order. It is a uniform because what every
// thread reads costs a software GPU as much as an element where it comes from a storage buffer.
struct wo_Call {
    count_mask: u32,   // the ring of rows a count of applied steps has a power of two of them
    groups: u32,
    moved: u32,        // first vec4 of the call's gradient positions, where gradients move
    rows: u32,         // first vec4 of the call's table of rows, where there are row sets
    settings: array<vec4<f32>, wo_SETTINGS>,   // the call's rows, one a group
}

// One pass of a probe or an integrator; a dynamic offset picks the record.
struct wo_Pass {
    flags: u32,        // what it does, of wo_START and the others that the host writes
    number: u32,       // the probe, or where the derivative goes
    next: f32,         // 1: an error is measured against the position after the step too
    tolerance: f32,
    poison: f32,       // 0; NaN where the flow led nowhere
    seed: u32,         // the key of probes' directions
    pad0: u32,
    pad1: u32,
    weights: array<vec4<f32>, 2>,   // on the derivatives
}

struct wo_Control {
    applied: u32,      // steps applied so far
    skip: u32,         // 1: this step leaves everything as it was
    skipped: u32,      // steps left out so far because of a gradient that was not finite
    streak: u32,       // finite steps since the loss scale last changed
    scale: f32,        // what the caller multiplies the loss with
    unscale: f32,      // 1 over the scale of the gradients of this step
    rounding: u32,     // the key of the chances by which numbers are rounded
    rounded: u32,      // steps so far that rounded anything
    decisions: array<vec4<f32>>,   // what decisions remember; then for each tensor the rule's decision and the clip factor
}

// One group's numbers that belong to the harness and not to the rule; 1 where a feature is off.
struct wo_Extra {
    clip: f32,         // the largest norm or value
    factor: f32,       // -1 to maximize, over the count of micro-batches for their mean
    ema: f32,          // 1 - the decay of the weights' average at this count
    evaluation: f32,   // how much of a state leads to where the rule is evaluated
}

// Rows of partial sums: a segment adds those of a few spans into its own row, a tensor adds its segments' rows.
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
