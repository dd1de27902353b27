// Converts a model's f32 gradients to half precision, rounded to nearest, two per word.

@group(0) @binding(0) var<storage, read> floats: array<f32>;
@group(0) @binding(1) var<storage, read_write> halves: array<u32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread_number(group, groups, lane);
    if (i < arrayLength(&halves)) {
        halves[i] = wo_pack(nearest(vec4(floats[2u * i], floats[2u * i + 1u], 0.0, 0.0))).x;
    }
}
