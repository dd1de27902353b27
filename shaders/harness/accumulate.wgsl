// Adds the gradient of a micro-batch to the accumulator.
@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_accumulate(thread: wo_Thread) {
    let record = wo_record(thread);
    let l = wo_lane(wo_chunk(record), thread.lane, wo_stride());
    // The kernel cannot write wo_control: other workgroups still read it. A copy after the dispatch moves this word there.
    if record == 0u && thread.lane == 0u {
        wo_arena[0].z = bitcast<f32>(wo_control.accumulated + 1u);
    }
    if wo_is_past_end(l) {
        return;
    }
#if PARTIAL
    if !wo_is_named(l.chunk.tensor) {
        return;
    }
#endif
    wo_arena[wo_at(l, wo_ACCUMULATOR)] += wo_gradient(l);
#if ZERO_GRAD
    wo_zero_gradient(l);
#endif
}
