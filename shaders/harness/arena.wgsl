// The place of a number in the arena. All arrays have the same length, counted in vec4s of numbers.

fn wo_stride() -> u32 {
#if STRIDE_OF_F32
    return (arrayLength(&wo_arena) - wo_ARENA_HEADER) / wo_F32_ARRAYS;
#elif STRIDE_OF_PAIRS
    return arrayLength(&wo_packed) / wo_PACKED_WORDS;
#else
    return arrayLength(&wo_packed) / wo_PACKED_WORDS * wo_BLOCK_LANES;
#endif
}

// The place of a lane's vec4 in the f32 array number `array`.
fn wo_at(l: wo_Lane, array: u32) -> u32 {
    return l.state + array * l.stride;
}

// The first word of the packed array that follows `halves` arrays of 16-bit numbers and `bytes` arrays of 8-bit numbers.
fn wo_first_word(l: wo_Lane, halves: u32, bytes: u32) -> u32 {
    return (2u * halves + bytes) * l.stride + bytes * (l.stride / wo_BLOCK_LANES);
}

// The place of a lane's two words in an array of 16-bit numbers.
fn wo_pair_at(l: wo_Lane, halves: u32, bytes: u32) -> u32 {
    let number = l.state - wo_ARENA_HEADER;
#if BLOCKS
    return wo_first_word(l, halves, bytes) + 2u * number;
#else
    return halves * l.stride + number;
#endif
}

fn wo_load_pair(at: u32) -> vec2<u32> {
#if BLOCKS
    return vec2(wo_packed[at], wo_packed[at + 1u]);
#else
    return wo_packed[at];
#endif
}

fn wo_store_pair(at: u32, words: vec2<u32>) {
#if BLOCKS
    wo_packed[at] = words.x;
    wo_packed[at + 1u] = words.y;
#else
    wo_packed[at] = words;
#endif
}

// The place of a lane's word in an array of 8-bit numbers.
fn wo_word_at(l: wo_Lane, halves: u32, bytes: u32) -> u32 {
    return wo_first_word(l, halves, bytes) + l.state - wo_ARENA_HEADER;
}

// The place of the largest magnitude of the block with the lane's word. The magnitudes follow all words of the array.
fn wo_largest_at(l: wo_Lane, halves: u32, bytes: u32) -> u32 {
    return wo_first_word(l, halves, bytes) + l.stride + (l.state - wo_ARENA_HEADER) / wo_BLOCK_LANES;
}
