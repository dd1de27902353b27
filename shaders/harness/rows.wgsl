// Tensors with rows as their first dimension: the elements that a step changes, and the rate of each column.

struct wo_Member {
    width: u32,     // elements per row
    live: u32,      // elements of the rows in use
    source: u32,    // rows in use before the call
    task: u32,      // what a remap or a reset changes: 0 nothing, 1 the rows in wo_indices, 2 every row
    mask: u32,      // the row set's first word in wo_mask
    columns: u32,   // the word of the call's table with the first column's rate
}

fn wo_words(at: u32) -> vec4<u32> {
    return bitcast<vec4<u32>>(wo_scalar(wo_call.rows + at));
}

fn wo_member(tensor: u32) -> wo_Member {
    let a = wo_words(2u * tensor);
    let b = wo_words(2u * tensor + 1u);
    return wo_Member(a.x, a.y, a.z, a.w, b.x, b.y);
}

// The numbers of the lane's elements in their tensor.
fn wo_elements(l: wo_Lane) -> vec4<u32> {
    return wo_four(l.chunk.position + 4u * l.number);
}

// The elements of the rows in use.
fn wo_used(l: wo_Lane) -> vec4<bool> {
    return l.live & (wo_elements(l) < vec4(wo_member(l.chunk.tensor).live));
}

// Selects the elements of flagged rows from `used`.
fn wo_flagged(l: wo_Lane, used: vec4<bool>) -> vec4<bool> {
    if !any(used) {
        return used;
    }
    let member = wo_member(l.chunk.tensor);
    let word = min(wo_elements(l), vec4(member.live - 1u)) / member.width + member.mask;
    return used & (vec4(wo_mask[word.x], wo_mask[word.y], wo_mask[word.z], wo_mask[word.w]) != vec4(0u));
}

// Selects the elements with a gradient other than 0 from `flagged`. Reads bits, because a comparison may take a denormal for 0.
fn wo_moved(raw: vec4<f32>, flagged: vec4<bool>) -> vec4<bool> {
    return flagged & ((bitcast<vec4<u32>>(raw) & vec4(0x7fffffffu)) != vec4(0u));
}

fn wo_rate(word: u32) -> f32 {
    return bitcast<f32>(wo_words(word / 4u)[word % 4u]);
}

// The rates of the elements' columns.
fn wo_rates(l: wo_Lane) -> vec4<f32> {
    let member = wo_member(l.chunk.tensor);
    let word = wo_elements(l) % member.width + member.columns;
    return vec4(wo_rate(word.x), wo_rate(word.y), wo_rate(word.z), wo_rate(word.w));
}
