// States with fewer bits than f32. `halves` and `bytes` count the arrays of 16-bit and of 8-bit numbers that precede a state.

fn wo_load_half(l: wo_Lane, halves: u32, bytes: u32) -> vec4<f32> {
    return wo_widen_bf16(wo_unpack(wo_load_pair(wo_pair_at(l, halves, bytes))));
}

fn wo_store_half(l: wo_Lane, halves: u32, bytes: u32, rounded: vec4<u32>) {
    wo_store_pair(wo_pair_at(l, halves, bytes), wo_pack(rounded));
}

// `array` is the number of the state, from 1 on; 0 stands for the parameters.
fn wo_rounded_half(l: wo_Lane, array: u32, x: vec4<f32>, stochastic: bool) -> vec4<u32> {
    if stochastic {
        return wo_stochastic_bf16(x, wo_random_bits(l.chunk.tensor, array, wo_vec4_of_tensor(l)));
    }
    return wo_nearest_bf16(x);
}

// A positive number does not become 0. The test reads bits, because a comparison may take a denormal for 0.
fn wo_positive_half(rounded: vec4<u32>, x: vec4<f32>) -> vec4<u32> {
    return max(rounded, select(vec4(0u), vec4(1u), bitcast<vec4<u32>>(x) != vec4(0u)));
}

fn wo_load_signed(l: wo_Lane, halves: u32, bytes: u32) -> vec4<f32> {
    return wo_signed(wo_packed[wo_word_at(l, halves, bytes)], bitcast<f32>(wo_packed[wo_largest_at(l, halves, bytes)]));
}

fn wo_load_positive(l: wo_Lane, halves: u32, bytes: u32) -> vec4<f32> {
    return wo_positive(wo_packed[wo_word_at(l, halves, bytes)], bitcast<f32>(wo_packed[wo_largest_at(l, halves, bytes)]));
}

fn wo_store_word(l: wo_Lane, halves: u32, bytes: u32, word: u32, largest: f32) {
    wo_packed[wo_word_at(l, halves, bytes)] = word;
    if l.number % wo_BLOCK_LANES == 0u {
        wo_packed[wo_largest_at(l, halves, bytes)] = bitcast<u32>(largest);
    }
}
