// The model's value for each entry.

@group(0) @binding(3) var<storage, read_write> models: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let entry = thread_number(group, groups, lane);
    if (entry < shape.entries) {
        models[entry] = model(entry);
    }
}
