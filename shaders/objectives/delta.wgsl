// The slope of the loss along a layer's inputs, from the slope along the layer's outputs: a thread computes one input for four rows.

@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> behind: array<f32>;
@group(0) @binding(4) var<storage, read> activation: array<f32>;
@group(0) @binding(5) var<storage, read_write> before: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = group.x * 64u + lane;
    if (unit >= layer.inputs) {
        return;
    }
    let rows = block_rows(group.y);
    let from_at = rows * layer.outputs;
    var sum = vec4(0.0);
    for (var o = 0u; o < layer.outputs; o++) {
        let d = vec4(behind[from_at.x + o], behind[from_at.y + o], behind[from_at.z + o], behind[from_at.w + o]);
        sum += weight[o * layer.inputs + unit] * d;
    }
    let to = rows * layer.inputs + unit;
    let y = vec4(activation[to.x], activation[to.y], activation[to.z], activation[to.w]);
    let result = sum * slope(y);
    before[to.x] = result.x;
    before[to.y] = result.y;
    before[to.z] = result.z;
    before[to.w] = result.w;
}
