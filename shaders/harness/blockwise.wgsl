// Eight bits per number: the middle of a cell of a map, times the largest magnitude of a block. src/options/storage/blockwise.rs describes
// the maps and does the same on the host.

fn wo_codes(word: u32) -> vec4<u32> {
    return (vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(0xffu);
}

fn wo_word(codes: vec4<u32>) -> u32 {
    return codes.x | (codes.y << 8u) | (codes.z << 16u) | (codes.w << 24u);
}

// The middle of a cell; 0 below the first cell, 1 above the last cell.
fn wo_middle(cell: vec4<u32>, first: u32) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(vec4<f32>(cell) + 0.5);
    let significand = bitcast<vec4<f32>>((bits & vec4(0x7fffffu)) | vec4(0x3f800000u));
    let below = vec4(133u + firstTrailingBit(first)) - (bits >> vec4(23u));
    let tenth = select(vec4(1.0), vec4(0.1), (below & vec4(1u)) != vec4(0u));
    let hundredth = select(vec4(1.0), vec4(0.01), (below & vec4(2u)) != vec4(0u));
    let fourth = select(vec4(1.0), vec4(1e-4), (below & vec4(4u)) != vec4(0u));
    let middle = tenth * hundredth * fourth * (0.1 + 0.9 * (significand - 1.0));
    return select(select(middle, vec4(1.0), cell >= vec4(first << 7u)), vec4(0.0), cell < vec4(first));
}

fn wo_positive(word: u32, largest: f32) -> vec4<f32> {
    return wo_middle(wo_codes(word) + vec4(1u), 2u) * largest;
}

fn wo_signed(word: u32, largest: f32) -> vec4<f32> {
    let number = vec4<i32>(wo_codes(word)) - vec4(127);
    let magnitude = wo_middle(vec4<u32>(abs(number)), 1u) * largest;
    return select(magnitude, -magnitude, number < vec4(0));
}

// The cell of a magnitude up to 1.
fn wo_cell(y: vec4<f32>, first: u32, edges: array<f32, 8>) -> vec4<u32> {
    var cells = vec4(first);
    var inverse = vec4(1e6);
    cells = select(cells, vec4(first << 1u), y >= vec4(edges[1]));
    inverse = select(inverse, vec4(1e5), y >= vec4(edges[1]));
    cells = select(cells, vec4(first << 2u), y >= vec4(edges[2]));
    inverse = select(inverse, vec4(1e4), y >= vec4(edges[2]));
    cells = select(cells, vec4(first << 3u), y >= vec4(edges[3]));
    inverse = select(inverse, vec4(1e3), y >= vec4(edges[3]));
    cells = select(cells, vec4(first << 4u), y >= vec4(edges[4]));
    inverse = select(inverse, vec4(1e2), y >= vec4(edges[4]));
    cells = select(cells, vec4(first << 5u), y >= vec4(edges[5]));
    inverse = select(inverse, vec4(1e1), y >= vec4(edges[5]));
    cells = select(cells, vec4(first << 6u), y >= vec4(edges[6]));
    inverse = select(inverse, vec4(1.0), y >= vec4(edges[6]));
    let along = (y * inverse - 0.1) * (1.0 / 0.9) * vec4<f32>(cells);
    // The outermost cells of a decade reach to the edges of the decade.
    let cell = cells + vec4<u32>(clamp(along, vec4(0.0), vec4<f32>(cells - vec4(1u))));
    return select(select(cell, vec4(first << 7u), y >= vec4(edges[7])), vec4(first - 1u), y < vec4(edges[0]));
}

// One division serves four numbers. WGSL's division is accurate only if the divisor is neither huge nor tiny, so the divisor is scaled.
fn wo_share_of(x: vec4<f32>, largest: f32) -> vec4<f32> {
    if largest == 0.0 {
        return vec4(0.0);
    }
    let tiny = select(1.0, 1.1529215e18, largest < 8.6736174e-19);
    let scale = select(tiny, 8.6736174e-19, largest > 1.1529215e18);
    return abs(x) * scale * (1.0 / (largest * scale));
}

// Only 0 gets the code of 0. The test reads bits, because a comparison of floats may take a denormal for 0.
fn wo_positive_word(x: vec4<f32>, largest: f32) -> u32 {
    let cell = wo_cell(wo_share_of(x, largest), 2u, wo_POSITIVE_EDGES);
    let some = (bitcast<vec4<u32>>(x) & vec4(0x7fffffffu)) != vec4(0u);
    return wo_word(max(cell, select(vec4(1u), vec4(2u), some)) - vec4(1u));
}

fn wo_signed_word(x: vec4<f32>, largest: f32) -> u32 {
    let cell = wo_cell(wo_share_of(x, largest), 1u, wo_SIGNED_EDGES);
    return wo_word(select(vec4(127u) + cell, vec4(127u) - min(cell, vec4(127u)), x < vec4(0.0)));
}
