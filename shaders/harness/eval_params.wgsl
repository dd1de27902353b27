// Moves the parameters along a state to the point at which the model is evaluated, and back.

fn wo_move(thread: wo_Thread, way: f32) {
    let l = wo_lane(wo_chunk(wo_workgroup(thread)), thread.lane, wo_stride());
    if wo_is_past_end(l) {
        return;
    }
    let factor = way * wo_extra(l.chunk.group, wo_control.step_count).evaluation;
    let p = wo_load_param(l);
    wo_store_param(l, p, p + factor * wo_arena[wo_at(l, wo_EVALUATED)], l.live);
}

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_to_evaluation(thread: wo_Thread) {
    wo_move(thread, 1.0);
}

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_to_training(thread: wo_Thread) {
    wo_move(thread, -1.0);
}
