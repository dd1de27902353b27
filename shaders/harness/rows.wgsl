// Tensors whose first dimension is rows: which of their elements a step takes, and the rate of each column.

struct wo_Member {
    width: u32,     // elements in a row
    live: u32,      // elements in the rows that are in use
    source: u32,    // rows that were in use before the call
    task: u32,      // what a call beside the step does with the tensor: 0 nothing, 1 as wo_indices says, 2 every row
    mask: u32,      // the set's first word in wo_mask
    columns: u32,   // the first column's rate, in words of the call's table
}

fn wo_member(tensor: u32) -> wo_Member {
    let a = wo_words(wo_call.rows + 2u * tensor);
    let b = wo_words(wo_call.rows + 2u * tensor + 1u);
    return wo_Member(a.x, a.y, a.z, a.w, b.x, b.y);
}

// Where the lanes lie in their tensor.
fn wo_elements(chunk: wo_Chunk, lane: u32) -> vec4<u32> {
    let first = chunk.position + lane * 4u;
    return vec4(first, first + 1u, first + 2u, first + 3u);
}

// The lanes whose rows are in use.
fn wo_used(chunk: wo_Chunk, lane: u32, live: vec4<bool>) -> vec4<bool> {
    return live & (wo_elements(chunk, lane) < vec4(wo_member(chunk.tensor).live));
}

// Of these lanes those whose rows are flagged.
fn wo_flagged(chunk: wo_Chunk, lane: u32, used: vec4<bool>) -> vec4<bool> {
    if !wo_MASK || !any(used) {
        return used;
    }
    let member = wo_member(chunk.tensor);
    let word = min(wo_elements(chunk, lane), vec4(member.live - 1u)) / member.width + member.mask;
    return used & (vec4(wo_flag(word.x), wo_flag(word.y), wo_flag(word.z), wo_flag(word.w)) != vec4(0u));
}

// Of these lanes those that the gradient moves. By bits: a comparison may take a denormal for zero.
fn wo_moved(raw: vec4<f32>, flagged: vec4<bool>) -> vec4<bool> {
    if !wo_NONZERO {
        return flagged;
    }
    return flagged & ((bitcast<vec4<u32>>(raw) & vec4(0x7fffffffu)) != vec4(0u));
}

fn wo_rate(word: u32) -> f32 {
    return bitcast<f32>(wo_words(wo_call.rows + word / 4u)[word % 4u]);
}

// The change times its columns' rates.
fn wo_rated(chunk: wo_Chunk, lane: u32, change: vec4<f32>) -> vec4<f32> {
    if !wo_COLUMNS {
        return change;
    }
    let member = wo_member(chunk.tensor);
    let word = wo_elements(chunk, lane) % member.width + member.columns;
    return change * vec4(wo_rate(word.x), wo_rate(word.y), wo_rate(word.z), wo_rate(word.w));
}
