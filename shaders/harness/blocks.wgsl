// Stores 8-bit states. A state can be stored only when the largest magnitude of its block is known.

// The largest magnitude of four numbers. The bits are compared as integers, so that the order does not matter and a NaN is not lost.
fn wo_largest(x: vec4<f32>) -> u32 {
    let bits = bitcast<vec4<u32>>(x) & vec4(0x7fffffffu);
    return max(max(bits.x, bits.y), max(bits.z, bits.w));
}

// One lane compares the magnitudes of eight lanes, which leaves eight results for the 64 lanes of a block.
const wo_EIGHT_LANES = 8u;

var<workgroup> wo_largest_of_lane: array<u32, wo_BYTE_ARRAYS * wo_CHUNK_LANES>;
var<workgroup> wo_largest_of_eight: array<u32, wo_BYTE_ARRAYS * wo_CHUNK_LANES / wo_EIGHT_LANES>;

// The lane's new states, until they are stored, and whether the lane has any.
var<private> wo_waiting: State;
var<private> wo_waits: bool;

// The largest magnitude of the k-th 8-bit state in the lane's block.
fn wo_largest_of_block(k: u32, lane: u32) -> f32 {
    let first = (k * wo_CHUNK_LANES + lane / wo_BLOCK_LANES * wo_BLOCK_LANES) / wo_EIGHT_LANES;
    var largest = 0u;
    for (var i = 0u; i < wo_BLOCK_LANES / wo_EIGHT_LANES; i++) {
        largest = max(largest, wo_largest_of_eight[first + i]);
    }
    return bitcast<f32>(largest);
}

// Every lane of the workgroup must call this function, because it has barriers.
fn wo_store_blocks(l: wo_Lane) {
    wo_leave_largest(l.number);
    workgroupBarrier();
    if l.number < wo_BYTE_ARRAYS * wo_CHUNK_LANES / wo_EIGHT_LANES {
        var largest = 0u;
        for (var i = 0u; i < wo_EIGHT_LANES; i++) {
            largest = max(largest, wo_largest_of_lane[l.number * wo_EIGHT_LANES + i]);
        }
        wo_largest_of_eight[l.number] = largest;
    }
    workgroupBarrier();
    if wo_waits {
        wo_store_words(l);
    }
}
