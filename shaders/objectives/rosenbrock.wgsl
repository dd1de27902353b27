// Rosenbrock's valley: a thread writes the term that begins with its coordinate, and the slope along its coordinate, to which
// the previous term contributes too.

struct Pair {
    term: f32,
    by_x: f32,
    by_y: f32,
}

@group(0) @binding(0) var<uniform> size: u32;
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
    if (i >= size) {
        return;
    }
    var own = Pair(0.0, 0.0, 0.0);
    var before = Pair(0.0, 0.0, 0.0);
    if (i + 1u < size) {
        own = pair(point[i], point[i + 1u]);
    }
    if (i > 0u) {
        before = pair(point[i - 1u], point[i]);
    }
    terms[i] = own.term;
    slope[i] = before.by_y + own.by_x;
}
