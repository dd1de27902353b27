// Rounds a layer's weights or outputs to a few numbers: one workgroup finds the largest magnitude, which sets the scale, and
// writes the rounded numbers. A number that is not finite passes unchanged, so that the loss shows it.

struct Grid {
    top: f32, // the largest magnitude after scaling
    least: f32,
    most: f32,
    of_weights: u32, // 1: a layer's weights; 0: its outputs for the batch's rows
}

const LANES = 256u;
const FLOOR = 1e-5; // keeps the scale finite if all values are 0

@group(0) @binding(2) var<uniform> grid: Grid;
@group(0) @binding(3) var<storage, read> values: array<f32>;
@group(0) @binding(4) var<storage, read_write> rounded: array<f32>;

var<workgroup> tree: array<f32, LANES>;

fn finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
    let count = select(batch.rows, layer.inputs, grid.of_weights == 1u) * layer.outputs;
    var own = 0.0;
    for (var i = lane; i < count; i += LANES) {
        let magnitude = abs(values[i]);
        own = select(own, magnitude, magnitude > own);
    }
    tree[lane] = own;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if (lane < half) {
            tree[lane] = max(tree[lane], tree[lane + half]);
        }
        workgroupBarrier();
    }
    let scale = grid.top / (tree[0] + FLOOR);
    for (var i = lane; i < count; i += LANES) {
        let x = values[i];
        rounded[i] = select(x, clamp(round(x * scale), grid.least, grid.most) / scale, finite(x));
    }
}
