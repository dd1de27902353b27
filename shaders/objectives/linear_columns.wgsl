// The gradient of weighted squares of linear residuals: a thread sums one column over the rows, in blocks, so that a long
// sum loses no more digits than a short one.

const BLOCK = 256u;

struct Shape {
    rows: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> matrix: array<f32>;
@group(0) @binding(2) var<storage, read> slopes: array<f32>;
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let column = thread_number(group, groups, lane);
    if (column >= shape.columns) {
        return;
    }
    var sum = 0.0;
    for (var first = 0u; first < shape.rows; first += BLOCK) {
        var part = 0.0;
        for (var row = first; row < min(first + BLOCK, shape.rows); row++) {
            part += slopes[row] * matrix[row * shape.columns + column];
        }
        sum += part;
    }
    gradient[column] = sum;
}
