// Moves the parameters from their anchor along one direction, or back to the anchor.
@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_perturb(thread: wo_Thread) {
    let l = wo_lane(wo_chunk(wo_workgroup(thread)), thread.lane, wo_stride());
    if wo_is_past_end(l) {
        return;
    }
    let at = l.chunk.param + l.number;
    let anchor = wo_at(l, wo_ANCHOR);
    let p = wo_params[at];
    if (wo_pass.flags & wo_START) != 0u {
        wo_arena[anchor] = p;
    }
    var next = wo_arena[anchor];
    if (wo_pass.flags & wo_MOVE) != 0u {
        let h = wo_hyper(l.chunk.group, wo_control.step_count);
        let u = wo_direction(wo_pass.number, l);
#if DIRECTIONS_GLOBAL
        let record = 0u;
#else
        let record = l.chunk.tensor + 1u;
#endif
        let norm = sqrt(wo_totals[record * PROBES + wo_pass.number].x) + 1e-12;
        next += h.sigma * (u / norm);
    }
#if MASK
    wo_params[at] = select(p, next, wo_flagged(l, l.live));
#else
    wo_params[at] = select(p, next, l.live);
#endif
}
