// The update: one workgroup a chunk, one vec4 a thread, no loop; all loads before the mathematics, all stores after it.

// Whether a step leaves these lanes as they are. The first one begins every average at the weights.
fn wo_idle(stepped: vec4<bool>, applied: u32) -> bool {
    return wo_ROWS && !any(stepped) && !(wo_EMA && applied == 0u);
}

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_update(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = workgroup.y * grid.x + workgroup.x + wo_first_record();
    wo_measure(index, lane, wo_update_lane(index, lane));
    wo_store_blocks(index, lane);
}

// One lane's share: returns its squares of the parameters and of their change, where these are measured.
fn wo_update_lane(index: u32, lane: u32) -> vec2<f32> {
    let chunk = wo_chunk(index);
    // What is the same for the whole chunk is loaded before any thread leaves: a software GPU reads it cheaper while all are there.
    let applied = wo_control.applied;
    let skip = wo_CAN_SKIP && wo_control.skip != 0u;
    let h = wo_hyper(chunk.group, applied);
    let e = wo_extra(chunk.group, applied);
    let d = wo_load_decision(chunk.tensor);
    let clip = wo_load_clip(chunk.tensor);
    let unscale = wo_control.unscale;
    if index == 0u && lane == 0u {
        // The recorded step copies these words to wo_control once every workgroup has read them there.
        wo_arena[0].x = bitcast<f32>(applied + select(1u, 0u, skip || wo_hold(d)));
        if wo_CHANCES {
            wo_arena[0].y = bitcast<f32>(wo_control.rounded + select(1u, 0u, skip));
        }
    }
    wo_share(chunk, lane, h, d, e, clip);
    let first = lane * 4u;
    if first >= chunk.length {
        return vec2(0.0);
    }
    // Lanes past the tensor's end belong to the caller and keep their bits.
    let live = vec4(first, first + 1u, first + 2u, first + 3u) < vec4(chunk.length);
    let stride = wo_stride();
    let state = chunk.state + lane;
    let used = wo_used(chunk, lane, live);
    let flagged = wo_flagged(chunk, lane, used);
    if skip || wo_idle(flagged, applied) {
        wo_clear_gradient(chunk, lane, state, stride, live);
        return wo_squares_of(wo_load_param(chunk, lane, state, stride), vec4(0.0), used);
    }
    let raw = wo_raw_gradient(chunk, lane, state, stride);
    let stepped = wo_moved(raw, flagged);
    if wo_idle(stepped, applied) {
        wo_clear_gradient(chunk, lane, state, stride, live);
        return wo_squares_of(wo_load_param(chunk, lane, state, stride), vec4(0.0), used);
    }
    let p = wo_load_param(chunk, lane, state, stride);
    var g = vec4(0.0);
    if wo_WARP {
        g = wo_arena[state + wo_WARPED * stride];
    } else {
        g = wo_prepare(raw, e, unscale);
        if wo_CLIP_NORM {
            g *= clip;
        }
    }
    let kept = wo_load_state(state, stride);
    var s = kept;
    let change = wo_rated(chunk, lane, update(h, d, p, g, &s));
    let next = p + change;
    wo_store_param(chunk, lane, state, stride, p, next, stepped);
    wo_store_state(chunk, lane, state, stride, wo_merged(kept, s, stepped), live, wo_CHANCES);
    if wo_EMA {
        let before = select(wo_arena[state + wo_AVERAGE * stride], p, applied == 0u);
        wo_arena[state + wo_AVERAGE * stride] = select(before, before + e.ema * (next - before), stepped);
    }
    wo_clear_gradient(chunk, lane, state, stride, live);
    return wo_squares_of(p, select(vec4(0.0), change, stepped), used);
}
