// A micro-batch's gradient joins the accumulator.
@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_accumulate(thread: wo_Thread) {
    let l = wo_lane(wo_chunk(wo_record(thread)), thread.lane, wo_stride());
    if wo_is_past_end(l) {
        return;
    }
    wo_arena[wo_at(l, wo_ACCUMULATOR)] += wo_gradient(l);
#if ZERO_GRAD
    wo_zero_gradient(l);
#endif
}
