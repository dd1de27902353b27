// Exchanges the weights and their average.
@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_swap(thread: wo_Thread) {
    let l = wo_lane(wo_chunk(wo_workgroup(thread)), thread.lane, wo_stride());
    // Before the first step there is no average yet.
    if wo_is_past_end(l) || wo_control.step_count == 0u {
        return;
    }
    let at = wo_at(l, wo_AVERAGE);
    let p = wo_load_param(l);
    wo_store_param(l, p, wo_arena[at], l.live);
    wo_arena[at] = p;
}
