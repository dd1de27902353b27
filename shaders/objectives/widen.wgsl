// Converts parameters in half precision, two per word, to the f32 in which a model's kernels compute.

@group(0) @binding(0) var<storage, read> halves: array<u32>;
@group(0) @binding(1) var<storage, read_write> floats: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread_number(group, groups, lane);
    if (i < arrayLength(&halves)) {
        let pair = widened(wo_unpack(vec2(halves[i], 0u)));
        floats[2u * i] = pair.x;
        floats[2u * i + 1u] = pair.y;
    }
}
