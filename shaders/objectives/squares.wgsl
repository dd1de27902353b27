// The L2 term, one parameter per thread.

struct Squares {
    first: u32, // the first of these terms among all terms
    count: u32,
    l2: f32,
}

@group(0) @binding(0) var<uniform> squares: Squares;
@group(0) @binding(1) var<storage, read> point: array<f32>;
@group(0) @binding(2) var<storage, read_write> terms: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread_number(group, groups, lane);
    if (i < squares.count) {
        terms[squares.first + i] = squares.l2 * point[i] * point[i];
    }
}
