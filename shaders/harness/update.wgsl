// The update: one workgroup a chunk, one vec4 a thread, no loop; all loads before the mathematics, all stores after it.

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_update(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup.y * grid.x + workgroup.x + wo_first_record();
    let chunk = wo_chunks[index];
    let skip = wo_CAN_SKIP && wo_control.skip != 0u;
    if index == 0u && lane == 0u {
        // The recorded step copies this word to wo_control.applied once every workgroup has read it there.
        wo_arena[0] = vec4<f32>(bitcast<f32>(wo_control.applied + select(1u, 0u, skip)), 0.0, 0.0, 0.0);
    }
    let first = lane * 4u;
    if first >= chunk.length || skip {
        return;
    }
    let h = wo_hyper(chunk.group, wo_control.applied);
    let d = wo_load_decision(chunk.tensor);
    let at = chunk.param + lane;
    let p = wo_params[at];
    let g = wo_gradient(chunk, lane);
    let stride = min((chunk.length + 3u) / 4u, wo_CHUNK_LANES);
    var s = wo_load_state(chunk.state + lane, stride);
    let next = p + update(h, d, p, g, &s);
    // Lanes past the tensor's end belong to the caller and keep their bits.
    let live = vec4(first, first + 1u, first + 2u, first + 3u) < vec4(chunk.length);
    wo_params[at] = select(p, next, live);
    wo_store_state(chunk.state + lane, stride, s);
}

// Once, at construction, for rules with a state whose first value is not zero.
@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_fill(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunk = wo_chunks[workgroup.y * grid.x + workgroup.x];
    if lane * 4u < chunk.length {
        wo_store_state(chunk.state + lane, min((chunk.length + 3u) / 4u, wo_CHUNK_LANES), wo_first_state());
    }
}
