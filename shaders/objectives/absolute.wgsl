// The L1 term and its slope, added to the data's term and slope; one parameter per thread.

struct Shape {
    first: u32, // the first of these terms among all terms
    count: u32,
    l1: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> point: array<f32>;
@group(0) @binding(2) var<storage, read_write> slope: array<f32>;
@group(0) @binding(3) var<storage, read_write> terms: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread_number(group, groups, lane);
    if (i < shape.count) {
        let w = point[i];
        slope[i] += shape.l1 * sign(w);
        terms[shape.first + i] = shape.l1 * abs(w);
    }
}
