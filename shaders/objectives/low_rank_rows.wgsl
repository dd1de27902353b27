// The second half of the factors' gradients: a thread adds one column of one row's segments.

struct Shape {
    rows: u32, // the count of rows of all factors
    rank: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> starts: array<u32>; // each row's first segment, then the end of the last row's segments
@group(0) @binding(2) var<storage, read> partial: array<f32>;
@group(0) @binding(3) var<storage, read_write> slope: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = thread_number(group, groups, lane);
    if (i >= shape.rows * shape.rank) {
        return;
    }
    let row = i / shape.rank;
    let k = i % shape.rank;
    var sum = 0.0;
    for (var segment = starts[row]; segment < starts[row + 1u]; segment++) {
        sum += partial[segment * shape.rank + k];
    }
    slope[i] = sum;
}
