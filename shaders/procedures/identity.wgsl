// Sets P to the identity. Runs once, when the optimizer is built.
@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_identity(thread: wo_Thread) {
    let l = wo_lane(wo_chunk(wo_workgroup(thread)), thread.lane, wo_stride());
    if wo_is_past_end(l) {
        return;
    }
    let rows = wo_four(4u * l.number) % wo_BLOCK;
    for (var j = 0u; j < wo_BLOCK; j++) {
        wo_arena[wo_at(l, wo_MATRIX + j)] = select(vec4(0.0), vec4(1.0), rows == vec4(j));
    }
}
