// Weighted squares of linear residuals: a workgroup computes one row's residual in a fixed tree, its term of the loss and
// the slope of the loss along the residual.

const LANES = 64u;

struct Shape {
    rows: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> matrix: array<f32>;
@group(0) @binding(3) var<storage, read> targets: array<f32>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> slopes: array<f32>;
@group(0) @binding(6) var<storage, read_write> terms: array<f32>;

var<workgroup> tree: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if (row >= shape.rows) {
        return;
    }
    var own = 0.0;
    for (var column = lane; column < shape.columns; column += LANES) {
        own += matrix[row * shape.columns + column] * x[column];
    }
    tree[lane] = own;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if (lane < half) {
            tree[lane] += tree[lane + half];
        }
        workgroupBarrier();
    }
    if (lane == 0u) {
        let r = tree[0] - targets[row];
        slopes[row] = weights[row] * (r + r);
        terms[row] = weights[row] * r * r;
    }
}
