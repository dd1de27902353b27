// Writes the first values of the states. Runs once, when the optimizer is built, for rules with a state that does not start at 0.
@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_fill(thread: wo_Thread) {
    let index = wo_workgroup(thread);
    let l = wo_lane(wo_chunk(index), thread.lane, wo_stride());
    if !wo_is_past_end(l) {
#if STOCHASTIC_STATES
        wo_store_state(l, wo_first_state(), false);
#else
        wo_store_state(l, wo_first_state());
#endif
    }
#if BLOCKS
    wo_store_blocks(l);
#endif
}
