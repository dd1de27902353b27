// Eight bits per number: the middle of a cell of a map, times the largest magnitude of a block. src/options/storage/blockwise.rs describes
// the maps and does the same on the host.
//
// From decade to decade the middles grow five times as fast with the number of the cell. So the middle of a cell is the largest of seven
// lines, one per decade, and the place of a magnitude among the cells is the smallest of seven lines. A table in workgroup memory would need
// one more barrier, and a software GPU reads it slower than it computes the lines.

fn wo_codes(word: u32) -> vec4<u32> {
    return (vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(0xffu);
}

// The word of four whole numbers, each from -`zero` to 255 - `zero`. The sum with 2^23 is exact, and its low bits are the code.
fn wo_word(numbers: vec4<f32>, zero: f32) -> u32 {
    let bits = bitcast<vec4<u32>>(numbers + (8388608.0 + zero));
    return bits.x + (bits.y << 8u) + (bits.z << 16u) + (bits.w << 24u) - 0x4b000000u;
}

fn wo_line(x: f32, line: vec2<f32>) -> f32 {
    return x * line.x + line.y;
}

// The middle of a cell; 0 below the first cell, 1 above the last cell.
fn wo_middle(x: f32, lines: array<vec2<f32>, 7>) -> f32 {
    let low = max(max(wo_line(x, lines[0]), wo_line(x, lines[1])), wo_line(x, lines[2]));
    let middle = max(max(low, wo_line(x, lines[3])), wo_line(x, lines[4]));
    return saturate(max(max(middle, wo_line(x, lines[5])), wo_line(x, lines[6])));
}

// One number after the other: fewer registers than four at once.
fn wo_middles(x: vec4<f32>, lines: array<vec2<f32>, 7>) -> vec4<f32> {
    return vec4(wo_middle(x.x, lines), wo_middle(x.y, lines), wo_middle(x.z, lines), wo_middle(x.w, lines));
}

fn wo_positive(word: u32, largest: f32) -> vec4<f32> {
    return wo_middles(vec4<f32>(wo_codes(word)), wo_POSITIVE_MIDDLES) * largest;
}

fn wo_signed(word: u32, largest: f32) -> vec4<f32> {
    let number = vec4<f32>(wo_codes(word)) - 127.0;
    return wo_with_sign(wo_middles(abs(number), wo_SIGNED_MIDDLES) * largest, number);
}

fn wo_with_sign(magnitude: vec4<f32>, sign: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(magnitude) & vec4(0x7fffffffu);
    return bitcast<vec4<f32>>(bits | (bitcast<vec4<u32>>(sign) & vec4(0x80000000u)));
}

// The cell of a magnitude up to 1. The last cell of a decade reaches past the power of ten, up to 0.2 of the first cell of the next decade.
// That first cell has a power of two as its number, so that the largest float below a power of two bounds the place.
fn wo_cell(y: f32, lines: array<vec2<f32>, 7>, one: f32, edge_of_one: f32) -> f32 {
    let low = min(min(wo_line(y, lines[0]), wo_line(y, lines[1])), wo_line(y, lines[2]));
    let middle = min(min(low, wo_line(y, lines[3])), wo_line(y, lines[4]));
    let place = min(min(middle, wo_line(y, lines[5])), wo_line(y, lines[6]));
    let last = bitcast<f32>(bitcast<u32>(place - 0.2) | 0x7fffffu);
    return select(floor(min(place, last)), one, y >= edge_of_one);
}

fn wo_cells(y: vec4<f32>, lines: array<vec2<f32>, 7>, one: f32, edge_of_one: f32) -> vec4<f32> {
    return vec4(
        wo_cell(y.x, lines, one, edge_of_one),
        wo_cell(y.y, lines, one, edge_of_one),
        wo_cell(y.z, lines, one, edge_of_one),
        wo_cell(y.w, lines, one, edge_of_one),
    );
}

// One division serves four numbers. WGSL's division is accurate only if the divisor is neither huge nor tiny, so the divisor is scaled, by
// 2^40 or 2^-40. A block of zeros has the divisor 2^-120.
fn wo_share_of(x: vec4<f32>, largest: f32) -> vec4<f32> {
    let scale = select(1.0995116e12, 9.094947e-13, largest > 1.0);
    return abs(x) * scale * (1.0 / max(largest * scale, 7.5231638e-37));
}

// Only 0 gets the code of 0. The test reads bits, because a comparison of floats may take a denormal for 0.
fn wo_positive_word(x: vec4<f32>, largest: f32) -> u32 {
    let cells = wo_cells(wo_share_of(x, largest), wo_POSITIVE_CELLS, 256.0, wo_POSITIVE_EDGE_OF_ONE);
    let some = (bitcast<vec4<u32>>(x) & vec4(0x7fffffffu)) != vec4(0u);
    return wo_word(max(cells, select(vec4(1.0), vec4(2.0), some)), -1.0);
}

fn wo_signed_word(x: vec4<f32>, largest: f32) -> u32 {
    let cells = wo_cells(wo_share_of(x, largest), wo_SIGNED_CELLS, 128.0, wo_SIGNED_EDGE_OF_ONE);
    return wo_word(max(wo_with_sign(cells, x), vec4(-127.0)), 127.0);
}
