// What every kernel of a mini-batch knows: which batch (by dynamic offset), and the widths of its layer.

struct Batch {
    first: u32,    // its first position in the epoch's order, or its first row of the data
    rows: u32,
    shuffled: u32, // 1: positions of the epoch's order
    outcome: u32,  // which of the outcomes it writes
}

struct Layer {
    inputs: u32,
    outputs: u32,
}

@group(0) @binding(0) var<uniform> batch: Batch;
@group(0) @binding(1) var<uniform> layer: Layer;

// The four rows of a block. Past the end the last row is repeated, whose values are then merely written again.
fn block_rows(block: u32) -> vec4<u32> {
    return min(block * 4u + vec4(0u, 1u, 2u, 3u), vec4(batch.rows - 1u));
}
