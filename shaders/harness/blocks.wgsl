// Stores 8-bit states. A state can be stored only when the largest magnitude of its block is known.

// The largest magnitude of four numbers. The bits are compared as integers, so that the order does not matter and a NaN is not lost.
fn wo_largest(x: vec4<f32>) -> u32 {
    let bits = bitcast<vec4<u32>>(x) & vec4(0x7fffffffu);
    return max(max(bits.x, bits.y), max(bits.z, bits.w));
}

// The 64 lanes of a block are eight parts of eight lanes. One lane compares the magnitudes of a part, then each lane those of its block's
// parts. A wo_Largest holds one magnitude per state.
const wo_PART_LANES = 8u;
const wo_BLOCK_PARTS = wo_BLOCK_LANES / wo_PART_LANES;
const wo_CHUNK_PARTS = wo_CHUNK_LANES / wo_PART_LANES;

// Constants index the innermost arrays, so that the check of an index against the bounds costs nothing there.
var<workgroup> wo_largest_of_lane: array<array<array<wo_Largest, wo_PART_LANES>, wo_CHUNK_PARTS>, wo_LARGEST_VECTORS>;
var<workgroup> wo_largest_of_part: array<array<array<wo_Largest, wo_BLOCK_PARTS>, wo_CHUNK_PARTS / wo_BLOCK_PARTS>, wo_LARGEST_VECTORS>;

// The lane's new states, until they are stored, and whether the lane has any.
var<private> wo_waiting: State;
var<private> wo_waits: bool;

// The largest magnitudes of the lane's block, for the states of one vector.
fn wo_largest_of_block(vector: u32, lane: u32) -> wo_Largest {
    var largest = wo_Largest();
    for (var i = 0u; i < wo_BLOCK_PARTS; i++) {
        largest = max(largest, wo_largest_of_part[vector][lane / wo_BLOCK_LANES][i]);
    }
    return largest;
}

// Every lane of the workgroup must call this function, because it has barriers.
fn wo_store_blocks(l: wo_Lane) {
    wo_leave_largest(l.number / wo_PART_LANES, l.number % wo_PART_LANES);
    workgroupBarrier();
    let part = l.number;
    if part < wo_CHUNK_PARTS {
        for (var vector = 0u; vector < wo_LARGEST_VECTORS; vector++) {
            var largest = wo_Largest();
            for (var i = 0u; i < wo_PART_LANES; i++) {
                largest = max(largest, wo_largest_of_lane[vector][part][i]);
            }
            wo_largest_of_part[vector][part / wo_BLOCK_PARTS][part % wo_BLOCK_PARTS] = largest;
        }
    }
    workgroupBarrier();
    if wo_waits {
        wo_store_words(l);
    }
}
