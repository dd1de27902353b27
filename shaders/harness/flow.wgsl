// An integrator's passes between evaluations: each takes the derivative where the parameters are, and moves them on.

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_flow(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunk = wo_chunk(workgroup.y * grid.x + workgroup.x);
    let first = lane * 4u;
    if first >= chunk.length || (wo_CAN_SKIP && wo_control.skip != 0u) {
        return;
    }
    let live = vec4(first, first + 1u, first + 2u, first + 3u) < vec4(chunk.length);
    let h = wo_hyper(chunk.group, wo_control.applied);
    let e = wo_extra(chunk.group, wo_control.applied);
    let stride = wo_stride();
    let state = chunk.state + lane;
    let at = chunk.param + lane;
    let g = wo_prepare(wo_raw_gradient(chunk, lane, state, stride), e, wo_control.unscale);
    if (wo_pass.flags & wo_START) != 0u {
        wo_arena[state + wo_GRADIENT * stride] = g;
    }
    if !wo_hold(wo_load_decision(chunk.tensor)) {
        return;
    }
    let base = state + wo_BASE * stride;
    let displacement = state + wo_DISPLACEMENT * stride;
    if (wo_pass.flags & wo_START) != 0u {
        wo_arena[base] = wo_params[at];
        wo_arena[displacement] = vec4(0.0);
    }
    if (wo_pass.flags & wo_STORE) != 0u {
        wo_arena[state + (wo_DERIVATIVES + wo_pass.number) * stride] = -clamped(h, g);
    }
    let way = wo_way(state, stride, select(1.0, h.horizon, (wo_pass.flags & wo_HORIZONS) != 0u));
    if (wo_pass.flags & wo_ADVANCE) != 0u {
        wo_arena[displacement] += way + wo_pass.poison;
    }
    if (wo_pass.flags & wo_SHIFT) != 0u {
        wo_arena[state + wo_DERIVATIVES * stride] = wo_arena[state + (wo_DERIVATIVES + wo_STAGES - 1u) * stride];
    }
    if (wo_pass.flags & wo_MOVE) != 0u {
        wo_params[at] = select(wo_params[at], wo_arena[base] + (wo_arena[displacement] + way), live);
    }
    if (wo_pass.flags & wo_RESTORE) != 0u {
        wo_params[at] = select(wo_params[at], wo_arena[base], live);
    }
}
