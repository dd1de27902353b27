// A planar arm that follows targets: a thread computes one waypoint's distance, its smoothness to the next waypoint, and the slopes along
// its angles.

struct Arm {
    joints: u32,
    waypoints: u32,
    smoothness: f32,
}

@group(0) @binding(0) var<uniform> arm: Arm;
@group(0) @binding(1) var<storage, read> point: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> slope: array<f32>;
@group(0) @binding(4) var<storage, read_write> terms: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let k = thread_number(group, groups, lane);
    if (k >= arm.waypoints) {
        return;
    }
    let first = k * arm.joints;
    var turned = 0.0;
    var tip = vec2(0.0);
    for (var j = 0u; j < arm.joints; j++) {
        turned += point[first + j];
        tip += cos_sin(turned);
    }
    let off = tip - targets[k];
    let has_next = k + 1u < arm.waypoints;
    let has_last = k > 0u;
    var smooth_sum = 0.0;
    var links = vec2(0.0); // from the joint to the tip: each joint moves the links that follow it
    for (var back = 0u; back < arm.joints; back++) {
        let i = first + arm.joints - 1u - back;
        let angle = point[i];
        links += cos_sin(turned);
        turned -= angle;
        var turn = 0.0;
        if (has_next) {
            let ahead = point[i + arm.joints] - angle;
            smooth_sum += ahead * ahead;
            turn -= ahead;
        }
        if (has_last) {
            turn += angle - point[i - arm.joints];
        }
        slope[i] = 2.0 * (off.y * links.x - off.x * links.y) + 2.0 * arm.smoothness * turn;
    }
    terms[k] = dot(off, off) + arm.smoothness * smooth_sum;
}
