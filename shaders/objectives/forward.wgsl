// One layer: a thread computes one unit for four rows of the batch.

@group(0) @binding(2) var<storage, read> input: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = group.x * 64u + lane;
    if (unit >= layer.outputs) {
        return;
    }
    let rows = block_rows(group.y);
    let from_at = rows * layer.inputs;
    let weights_at = unit * layer.inputs;
    var sum = vec4(bias[unit]);
    for (var k = 0u; k < layer.inputs; k++) {
        let x = vec4(input[from_at.x + k], input[from_at.y + k], input[from_at.z + k], input[from_at.w + k]);
        sum += weight[weights_at + k] * x;
    }
    let y = activate(sum);
    let to = rows * layer.outputs + unit;
    output[to.x] = y.x;
    output[to.y] = y.y;
    output[to.z] = y.z;
    output[to.w] = y.w;
}
