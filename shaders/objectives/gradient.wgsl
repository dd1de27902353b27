// The gradient of one layer's weights and biases: a thread sums one input's weights to four units over the batch.

@group(0) @binding(2) var<storage, read> input: array<f32>;
@group(0) @binding(3) var<storage, read> delta: array<f32>;
@group(0) @binding(4) var<storage, read_write> weight_gradient: array<f32>;
@group(0) @binding(5) var<storage, read_write> bias_gradient: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let k = group.x * 64u + lane;
    if (k >= layer.inputs) {
        return;
    }
    let units = min(group.y * 4u + vec4(0u, 1u, 2u, 3u), vec4(layer.outputs - 1u));
    var weights = vec4(0.0);
    var biases = vec4(0.0);
    for (var row = 0u; row < batch.rows; row++) {
        let at = row * layer.outputs + units;
        let d = vec4(delta[at.x], delta[at.y], delta[at.z], delta[at.w]);
        weights += input[row * layer.inputs + k] * d;
        biases += d;
    }
    let to = units * layer.inputs + k;
    weight_gradient[to.x] = weights.x;
    weight_gradient[to.y] = weights.y;
    weight_gradient[to.z] = weights.z;
    weight_gradient[to.w] = weights.w;
    if (k == 0u) {
        bias_gradient[units.x] = biases.x;
        bias_gradient[units.y] = biases.y;
        bias_gradient[units.z] = biases.z;
        bias_gradient[units.w] = biases.w;
    }
}
