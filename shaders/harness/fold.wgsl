// The factors of matrices from the sums of their tiles. wo_factor_table holds the counts of the records of wo_fold and wo_divide and the place of
// those of runs; then the records of wo_fold (tensor, first vec4 of its means, vec4s, group), of wo_divide (tensor, first matrix, group) and of runs
// (first word of the tiles' sums, first and last block of rows).

var<workgroup> wo_lane_sums: array<f32, wo_DIVIDE_LANES>;

fn wo_words_of_tile(f: wo_Factors) -> u32 {
    return min(f.rows, wo_TILE) + min(f.columns, wo_TILE);
}

// The sum of a row, counted over all matrices.
fn wo_row_sum(f: wo_Factors, row: u32) -> f32 {
    let matrix = row / f.rows;
    let in_matrix = row - matrix * f.rows;
    let block = matrix * ((f.rows + wo_TILE - 1u) / wo_TILE) + in_matrix / wo_TILE;
    let tiles = (f.columns + wo_TILE - 1u) / wo_TILE;
    let words = wo_words_of_tile(f);
    let parts = wo_factor_table[0].z + f.parts;
    var sum = 0.0;
    for (var p = 0u; p < f.part_count; p++) {
        let part = wo_factor_table[parts + p];
        if part.y <= block && block <= part.z {
            let slot = part.x + (block - part.y) * tiles * words + in_matrix % wo_TILE;
            for (var tile = 0u; tile < tiles; tile++) {
                sum += wo_tile_sums[slot + tile * words];
            }
        }
    }
    return sum;
}

// The sum of a column, counted over all matrices.
fn wo_column_sum(f: wo_Factors, column: u32) -> f32 {
    let matrix = column / f.columns;
    let in_matrix = column - matrix * f.columns;
    let blocks = (f.rows + wo_TILE - 1u) / wo_TILE;
    let tiles = (f.columns + wo_TILE - 1u) / wo_TILE;
    let words = wo_words_of_tile(f);
    let parts = wo_factor_table[0].z + f.parts;
    let offset = in_matrix / wo_TILE * words + min(f.rows, wo_TILE) + in_matrix % wo_TILE;
    var sum = 0.0;
    for (var p = 0u; p < f.part_count; p++) {
        let part = wo_factor_table[parts + p];
        let end = min(part.z + 1u, (matrix + 1u) * blocks);
        for (var block = max(part.y, matrix * blocks); block < end; block++) {
            sum += wo_tile_sums[part.x + (block - part.y) * tiles * words + offset];
        }
    }
    return sum;
}

fn wo_hyper_of_tensor(group: u32, tensor: u32) -> Hyper {
#if AT_COUNT
    return wo_hyper_of(group, tensor, wo_control.step_count);
#else
    return wo_hyper(group, wo_control.step_count);
#endif
}

// Moves the means of rows and columns towards those of the step's squares: four of them in a thread.
@compute @workgroup_size(wo_FOLD_LANES)
fn wo_fold(thread: wo_Thread) {
    let number = wo_workgroup(thread);
    if number >= wo_factor_table[0].x {
        return;
    }
    let record = wo_factor_table[1u + number];
    if thread.lane >= record.z {
        return;
    }
    let f = wo_factors(record.x);
    let at = record.y + thread.lane;
    var means = vec4(0.0);
    for (var k = 0u; k < 4u; k++) {
        let row = 4u * at + k;
        if at >= f.of_columns {
            let column = row - 4u * f.of_columns;
            if column < f.matrices * f.columns {
                means[k] = wo_column_sum(f, column) / f32(f.rows);
            }
        } else if row < f.matrices * f.rows {
            means[k] = wo_row_sum(f, row) / f32(f.columns);
        }
    }
    let before = wo_control.decisions[f.first + at];
    let share = wo_factor_share(wo_hyper_of_tensor(record.w, record.x));
    wo_control.decisions[f.first + f.lines + at] = before + share * (means - before);
}

// The mean of the rows' means of each matrix. A thread adds the few rows of a matrix, or wo_ROW_LANES threads share it.
@compute @workgroup_size(wo_DIVIDE_LANES)
fn wo_divide(thread: wo_Thread) {
    let head = wo_factor_table[0];
    let number = wo_workgroup(thread);
    let record = wo_factor_table[1u + head.x + min(number, head.y - 1u)];
    let f = wo_factors(record.x);
    let first = f.first + f.lines;
    let width = select(wo_ROW_LANES, 1u, f.rows <= wo_FEW_ROWS);
    let matrix = record.y + thread.lane / width;
    var sum = 0.0;
    if matrix < f.matrices {
        for (var row = thread.lane % width; row < f.rows; row += width) {
            sum += wo_mean(first, matrix * f.rows + row);
        }
    }
    wo_lane_sums[thread.lane] = sum;
    workgroupBarrier();
    // One thread writes a whole vec4.
    let matrices = min(wo_DIVIDE_LANES / width, f.matrices - record.y);
    if number >= head.y || 4u * thread.lane >= matrices {
        return;
    }
    let least = wo_factor_least(wo_hyper_of_tensor(record.z, record.x));
    var divisors = vec4(1.0);
    for (var k = 0u; k < min(4u, matrices - 4u * thread.lane); k++) {
        var whole = 0.0;
        for (var i = 0u; i < width; i++) {
            whole += wo_lane_sums[(4u * thread.lane + k) * width + i];
        }
        divisors[k] = max(whole / f32(f.rows), least);
    }
    wo_control.decisions[first + f.lines + record.y / 4u + thread.lane] = divisors;
}

// Ends the step: its means are those of the tensor, unless the step is skipped or leaves out the tensor.
@compute @workgroup_size(wo_FOLD_LANES)
fn wo_keep(thread: wo_Thread) {
    let number = wo_workgroup(thread);
    if number >= wo_factor_table[0].x {
        return;
    }
    let record = wo_factor_table[1u + number];
    if thread.lane >= record.z {
        return;
    }
#if CAN_SKIP
    if wo_control.skip != 0u {
        return;
    }
#endif
#if PARTIAL
    if wo_number(record.x, wo_TAKES) == 0.0 {
        return;
    }
#endif
    let f = wo_factors(record.x);
    let at = f.first + record.y + thread.lane;
    wo_control.decisions[at] = wo_control.decisions[at + f.lines];
}
