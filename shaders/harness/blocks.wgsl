// States in blocks are stored once all lanes know the largest magnitudes of theirs.

// Of four numbers' magnitudes the largest, as a whole number: the same in any order, and a NaN is not lost.
fn wo_largest(x: vec4<f32>) -> u32 {
    let bits = bitcast<vec4<u32>>(x) & vec4(0x7fffffffu);
    return max(max(bits.x, bits.y), max(bits.z, bits.w));
}

// How many lanes' largest one lane looks through: of the 64 of a block as many are left.
const wo_GLANCE = 8u;

var<workgroup> wo_largest_of_lane: array<u32, wo_BLOCKWISE * wo_CHUNK_LANES>;
var<workgroup> wo_largest_of_eight: array<u32, wo_BLOCKWISE * wo_CHUNK_LANES / wo_GLANCE>;

// The states that wait for their blocks' largest magnitudes, where the lane stores any.
var<private> wo_waiting: State;
var<private> wo_waits: bool;

// The largest magnitude of the lane's block, of the k-th state that is stored so.
fn wo_largest_of_block(k: u32, lane: u32) -> f32 {
    let first = (k * wo_CHUNK_LANES + lane / wo_BLOCK_LANES * wo_BLOCK_LANES) / wo_GLANCE;
    var largest = 0u;
    for (var i = 0u; i < wo_BLOCK_LANES / wo_GLANCE; i++) {
        largest = max(largest, wo_largest_of_eight[first + i]);
    }
    return bitcast<f32>(largest);
}

// Every lane of the workgroup comes by. Each stores a whole word, and the first of a block its largest magnitude, which all have read.
fn wo_store_blocks(index: u32, lane: u32) {
    wo_leave_largest(lane);
    workgroupBarrier();
    if lane < wo_BLOCKWISE * wo_CHUNK_LANES / wo_GLANCE {
        var largest = 0u;
        for (var i = 0u; i < wo_GLANCE; i++) {
            largest = max(largest, wo_largest_of_lane[lane * wo_GLANCE + i]);
        }
        wo_largest_of_eight[lane] = largest;
    }
    workgroupBarrier();
    if wo_waits {
        wo_store_words(wo_chunk(index).state + lane, wo_stride(), lane);
    }
}
