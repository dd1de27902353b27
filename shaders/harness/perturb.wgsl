@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_perturb(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunk = wo_chunk(workgroup.y * grid.x + workgroup.x);
    let first = lane * 4u;
    if first >= chunk.length {
        return;
    }
    let inside = vec4(first, first + 1u, first + 2u, first + 3u) < vec4(chunk.length);
    let live = wo_flagged(chunk, lane, inside);
    let stride = wo_stride();
    let state = chunk.state + lane;
    let at = chunk.param + lane;
    let anchor = state + wo_ANCHOR * stride;
    let p = wo_params[at];
    if (wo_pass.flags & wo_START) != 0u {
        wo_arena[anchor] = p;
    }
    var next = wo_arena[anchor];
    if (wo_pass.flags & wo_MOVE) != 0u {
        let h = wo_hyper(chunk.group, wo_control.applied);
        let u = wo_direction(wo_pass.number, chunk.tensor, chunk.position / 4u + lane, state, stride);
        let record = select(chunk.tensor + 1u, 0u, wo_GLOBAL);
        let norm = sqrt(wo_totals[record * PROBES + wo_pass.number].x) + 1e-12;
        next += h.sigma * (u / norm);
    }
    wo_params[at] = select(p, next, live);
}
