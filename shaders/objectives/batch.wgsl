// The inputs of every kernel of a mini-batch: the batch (selected by a dynamic offset), and the widths of the kernel's layer.

struct Batch {
    first: u32,    // the batch's first position in the epoch's order, or its first row of the data
    rows: u32,
    shuffled: u32, // 1: `first` is a position in the epoch's order; 0: a row of the data
    outcome: u32,  // the number of the outcome that the batch writes
}

struct Layer {
    inputs: u32,
    outputs: u32,
}

@group(0) @binding(0) var<uniform> batch: Batch;
@group(0) @binding(1) var<uniform> layer: Layer;

// The four rows of a block. Past the end of the batch the last row is repeated, and the same values are written again.
fn block_rows(block: u32) -> vec4<u32> {
    return min(block * 4u + vec4(0u, 1u, 2u, 3u), vec4(batch.rows - 1u));
}
