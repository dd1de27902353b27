// Passes beside the step, over the same chunks.

// Once, at construction, for rules with a state whose first value is not zero.
@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_fill(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup.y * grid.x + workgroup.x;
    let chunk = wo_chunk(index);
    if lane * 4u < chunk.length {
        wo_store_state(chunk, lane, chunk.state + lane, wo_stride(), wo_first_state(), vec4(true), false);
    }
    wo_store_blocks(index, lane);
}

// A micro-batch's gradient joins the accumulator.
@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_accumulate(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunk = wo_chunk(workgroup.y * grid.x + workgroup.x + wo_first_record());
    let first = lane * 4u;
    if first >= chunk.length {
        return;
    }
    let live = vec4(first, first + 1u, first + 2u, first + 3u) < vec4(chunk.length);
    let at = chunk.state + lane + wo_ACCUMULATOR * wo_stride();
    wo_arena[at] += wo_gradient(chunk, lane);
    wo_zero_gradient(chunk, lane, live);
}

// The weights and their average change places.
@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_swap(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunk = wo_chunk(workgroup.y * grid.x + workgroup.x);
    let first = lane * 4u;
    // Before the first step there is no average yet.
    if first >= chunk.length || wo_control.applied == 0u {
        return;
    }
    let live = vec4(first, first + 1u, first + 2u, first + 3u) < vec4(chunk.length);
    let state = chunk.state + lane;
    let at = state + wo_AVERAGE * wo_stride();
    let p = wo_load_param(chunk, lane, state, wo_stride());
    wo_store_param(chunk, lane, state, wo_stride(), p, wo_arena[at], live);
    wo_arena[at] = p;
}

// The parameters move along a state to where the rule is evaluated, and back.
fn wo_move(index: u32, lane: u32, way: f32) {
    let chunk = wo_chunk(index);
    let first = lane * 4u;
    if first >= chunk.length {
        return;
    }
    let live = vec4(first, first + 1u, first + 2u, first + 3u) < vec4(chunk.length);
    let factor = way * wo_extra(chunk.group, wo_control.applied).evaluation;
    let state = chunk.state + lane;
    let p = wo_load_param(chunk, lane, state, wo_stride());
    let moved = p + factor * wo_arena[state + wo_EVALUATED * wo_stride()];
    wo_store_param(chunk, lane, state, wo_stride(), p, moved, live);
}

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_to_evaluation(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    wo_move(workgroup.y * grid.x + workgroup.x, lane, 1.0);
}

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_to_training(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    wo_move(workgroup.y * grid.x + workgroup.x, lane, -1.0);
}
