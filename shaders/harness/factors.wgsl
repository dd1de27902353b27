// A state that matrices keep as factors: the means of their rows and of their columns lie in the control buffer, behind the decisions.

struct wo_Factors {
    rows: u32,         // of a matrix
    columns: u32,
    first: u32,        // first vec4 of the rows' means; the columns' follow
    lines: u32,        // vec4s of both; the means of the step under way follow, then a divisor for each matrix
    of_columns: u32,   // vec4s from the rows' means to the columns'
    matrices: u32,
    parts: u32,        // the tensor's first run among the records of runs
    part_count: u32,
}

fn wo_factors(tensor: u32) -> wo_Factors {
    let shape = bitcast<vec4<u32>>(wo_control.decisions[wo_FACTORS + 2u * tensor]);
    let more = bitcast<vec4<u32>>(wo_control.decisions[wo_FACTORS + 2u * tensor + 1u]);
    return wo_Factors(shape.x, shape.y, shape.z, shape.w, more.x, more.y, more.z, more.w);
}

// Number `i` of those from a vec4 on.
fn wo_mean(first: u32, i: u32) -> f32 {
    return wo_control.decisions[first + i / 4u][i % 4u];
}

// The state of a lane after the step's squares. Its elements may lie in several rows.
fn wo_factored(l: wo_Lane) -> vec4<f32> {
    let f = wo_factors(l.chunk.tensor);
    let rows = f.first + f.lines;
    let columns = rows + f.of_columns;
    let divisors = rows + f.lines;
    let first = 4u * wo_vec4_of_tensor(l);
    var row = first / f.columns;
    var column = first - row * f.columns;
    var matrix = row / f.rows;
    var state = vec4(0.0);
    for (var k = 0u; k < 4u; k++) {
        state[k] = wo_mean(rows, row) / wo_mean(divisors, matrix) * wo_mean(columns, matrix * f.columns + column);
        column += 1u;
        if column == f.columns {
            column = 0u;
            row += 1u;
            if row == (matrix + 1u) * f.rows {
                matrix += 1u;
            }
        }
    }
    return state;
}
