// The record of a workgroup's chunk or span, in two loads of four: eight single ones cost a software GPU half as much again.
fn wo_chunk(index: u32) -> wo_Chunk {
    let place = wo_chunks[2u * index];
    let owner = wo_chunks[2u * index + 1u];
    return wo_Chunk(place.x, place.y, place.z, place.w, owner.x, owner.y, owner.z, owner.w);
}
