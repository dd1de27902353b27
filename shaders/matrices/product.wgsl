// The products of an iteration over matrices with at least as many rows as columns.
//
//   A = YᵀY with GRAM       B = aI + bA + cA² with BLEND       Y ← YB, with neither
//
// The first iteration multiplies Y by s = 1/max(‖Y‖, ε) as it reads: A is that of the Y before. A and A² have s² and s⁴.
// A workgroup computes a tile of 64 rows and 64 columns, a thread 4 rows and 4 columns of it. Tiles of both factors go through workgroup
// memory, 16 terms of the sums at a time.

const wo_DEPTH = 16u;

// Element [k * 16 + i / 4][i % 4] is term k of row i of the left tile, or of column i of the right tile.
var<workgroup> wo_left_tile: array<vec4<f32>, 256>;
var<workgroup> wo_right_tile: array<vec4<f32>, 256>;

#if NORMED
// s, for the first iteration; 1 for the others.
fn wo_scale(matrix: u32) -> f32 {
    if !wo_has(wo_SCALES) {
        return 1.0;
    }
    return 1.0 / max(sqrt(wo_norms[matrix]), wo_work.numbers.w);
}
#endif

// Four numbers of a row of a factor, with zeros past its end.
fn wo_left_row(at: u32, column: u32, end: u32) -> vec4<f32> {
    var four = vec4(0.0);
    for (var i = 0u; i < 4u; i++) {
        if column + i < end {
            four[i] = wo_left[at + column + i];
        }
    }
    return four;
}

#if PRODUCT
fn wo_right_row(at: u32, column: u32, end: u32) -> vec4<f32> {
    var four = vec4(0.0);
    for (var i = 0u; i < 4u; i++) {
        if column + i < end {
            four[i] = wo_right[at + column + i];
        }
    }
    return four;
}

// A number of each of four rows, with zeros past the last row.
fn wo_left_column(at: u32, row: u32, rows: u32, stride: u32) -> vec4<f32> {
    var four = vec4(0.0);
    for (var i = 0u; i < 4u; i++) {
        if row + i < rows {
            four[i] = wo_left[at + (row + i) * stride];
        }
    }
    return four;
}
#endif

@compute @workgroup_size(256)
fn wo_multiply(thread: wo_Thread) {
    let number = wo_workgroup(thread);
    if number >= wo_work.count {
        return;
    }
    // The matrix, the first row, the first column, and whether the tile is written below the diagonal too.
    let tile = wo_tiles[wo_work.first + number];
    let m = wo_matrices[wo_work.matrices + tile.x];
    let width = m.columns;
#if GRAM
    let depth = m.rows;
    let base = m.first;
    let rows = min(width, wo_work.end);
#elif BLEND
    let depth = min(width, wo_work.depth_end) - wo_work.depth_begin;
    let base = m.gram;
    let rows = min(width, wo_work.end);
#else
    let depth = min(width, wo_work.depth_end) - wo_work.depth_begin;
    let rows = m.rows;
#endif
#if NORMED
    let s = wo_scale(tile.x);
#endif
    // The thread loads term `term` of four rows, or columns, from `four` on.
    let term = thread.lane % wo_DEPTH;
    let four = 4u * (thread.lane / wo_DEPTH);
    let place = term * 16u + thread.lane / wo_DEPTH;
    // Its 4 rows and 4 columns of the output.
    let ours = vec2(thread.lane / 16u, thread.lane % 16u);
    var sums = array<vec4<f32>, 4>(vec4(0.0), vec4(0.0), vec4(0.0), vec4(0.0));
    for (var start = 0u; start < depth; start += wo_DEPTH) {
        let k = start + term;
        var left = vec4(0.0);
        var right = vec4(0.0);
        if k < depth {
#if PRODUCT
            left = wo_left_column(m.first + wo_work.depth_begin + k, tile.y + four, rows, width);
            right = wo_right_row(m.gram + k * width, tile.z + four, width);
#else
            left = wo_left_row(base + k * width, tile.y + four, rows);
            right = wo_left_row(base + k * width, tile.z + four, width);
#endif
#if BLEND
            left *= s * s;
            right *= s * s;
#endif
        }
        workgroupBarrier();
        wo_left_tile[place] = left;
        wo_right_tile[place] = right;
        workgroupBarrier();
        for (var t = 0u; t < wo_DEPTH; t++) {
            let l = wo_left_tile[t * 16u + ours.x];
            let r = wo_right_tile[t * 16u + ours.y];
            sums[0] += l.x * r;
            sums[1] += l.y * r;
            sums[2] += l.z * r;
            sums[3] += l.w * r;
        }
    }
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            let row = tile.y + 4u * ours.x + i;
            let column = tile.z + 4u * ours.y + j;
            if row >= rows || column >= width {
                continue;
            }
#if PRODUCT
            let at = m.first + row * width + column;
            var x = s * select(1.0, m.factor, wo_has(wo_ADJUSTS)) * sums[i][j];
#else
            let at = m.gram + (row - wo_work.begin) * width + column;
            var x = sums[i][j];
#endif
#if BLEND
            x *= wo_work.numbers.z;
            if wo_has(wo_ENDS) {
                x += wo_work.numbers.y * s * s * wo_gram[at] + select(0.0, wo_work.numbers.x, row == column);
            }
#endif
            if wo_has(wo_ADDS) {
                x += wo_out[at];
            }
            wo_out[at] = x;
#if MIRRORS
            if tile.w != 0u {
                wo_out[m.gram + column * width + row] = x;
            }
#endif
        }
    }
}
