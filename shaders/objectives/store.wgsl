// A tensor's gradient, with the slope of the L2 term.

struct Place {
    first: u32, // the tensor's first element among all elements
    count: u32,
    twice_l2: f32,
}

@group(0) @binding(0) var<uniform> place: Place;
@group(0) @binding(1) var<storage, read> point: array<f32>;
@group(0) @binding(2) var<storage, read> slope: array<f32>;
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread_number(group, groups, lane);
    if (i < place.count) {
        gradient[i] = slope[place.first + i] + place.twice_l2 * point[place.first + i];
    }
}
