// Copies a tensor's parameters into one array for all tensors: the kernels of an objective read that array, and never a buffer to which
// they may also write gradients.

struct Place {
    first: u32, // the tensor's first element among all elements
    count: u32,
}

@group(0) @binding(0) var<uniform> place: Place;
@group(0) @binding(1) var<storage, read> param: array<f32>;
@group(0) @binding(2) var<storage, read_write> point: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread_number(group, groups, lane);
    if (i < place.count) {
        point[place.first + i] = param[i];
    }
}
