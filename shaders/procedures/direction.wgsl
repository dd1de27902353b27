// Writes the direction of every element, from the gradient and the states before the step, as the matrices of the iteration that follows.
// The update changes the states.

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_direct(thread: wo_Thread) {
    let chunk = wo_chunk(wo_record(thread));
    let c = wo_common(chunk);
    let l = wo_lane(chunk, thread.lane, wo_stride());
    if wo_is_past_end(l) {
        return;
    }
#if SKIPS
    if c.skip {
        return;
    }
#endif
#if PARTIAL
    if !wo_takes(chunk.tensor) {
        return;
    }
#endif
    var g = wo_raw_gradient(l);
#if PREPARES
    g = wo_prepare(g, c);
#endif
    wo_arena[wo_at(l, wo_MATRICES)] = direction(c.h, g, wo_load_state(l));
}
