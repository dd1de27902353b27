// The first half of the factors' gradients: a factor row's entries are cut into segments, so that every thread's loop is short. A
// thread sums one column of one segment.

struct Shape {
    segments: u32,
    rank: u32,
    factors: u32,
}

struct Segment {
    first: u32, // first place in `lists`
    end: u32,
    factor: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> point: array<f32>;
@group(0) @binding(2) var<storage, read> places: array<u32>;
@group(0) @binding(3) var<storage, read> segments: array<Segment>;
@group(0) @binding(4) var<storage, read> lists: array<u32>; // the entries of each factor row, sorted by factor and row
@group(0) @binding(5) var<storage, read> slopes: array<f32>;
@group(0) @binding(6) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread_number(group, groups, lane);
    if (i >= shape.segments * shape.rank) {
        return;
    }
    let segment = segments[i / shape.rank];
    let k = i % shape.rank;
    var sum = 0.0;
    for (var at = segment.first; at < segment.end; at++) {
        let entry = lists[at];
        var product = slopes[entry];
        for (var d = 0u; d < shape.factors; d++) {
            if (d != segment.factor) {
                product *= point[places[entry * shape.factors + d] + k];
            }
        }
        sum += product;
    }
    partial[i] = sum;
}
