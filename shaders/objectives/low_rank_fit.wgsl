// Each entry's term of the loss, and the slope of the loss along the entry's model value.

@group(0) @binding(3) var<storage, read> values: array<f32>;
@group(0) @binding(4) var<storage, read_write> slopes: array<f32>;
@group(0) @binding(5) var<storage, read_write> terms: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let entry = thread_number(group, groups, lane);
    if (entry < shape.entries) {
        let r = model(entry) - values[entry];
        slopes[entry] = slope_of(r) * shape.scale;
        terms[entry] = term_of(r) * shape.scale;
    }
}
