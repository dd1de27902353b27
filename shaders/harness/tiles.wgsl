// The squares of the gradient, summed over the rows and over the columns of tiles: a workgroup takes one tile of one matrix, as far as it lies in
// a run of the tensor's elements. The order of additions is fixed.

struct wo_Tile {
    run: wo_Chunk,
    rows: u32,      // the block of rows, counted over all matrices
    columns: u32,   // the block of columns
    slot: u32,      // the first word of the tile's sums: those of its rows, then those of its columns
}

// One column more than threads, so that the threads that add rows read different banks.
var<workgroup> wo_row_sums: array<array<f32, wo_TILE_LANES + 1u>, wo_TILE_ROWS>;

fn wo_tile(record: u32) -> wo_Tile {
    let place = wo_chunks[3u * record];
    let owner = wo_chunks[3u * record + 1u];
    let tile = wo_chunks[3u * record + 2u];
    let run = wo_Chunk(place.x, place.y, place.z, place.w, owner.x, owner.y, owner.z, owner.w);
    return wo_Tile(run, tile.x, tile.y, tile.z);
}

// The squares of a vec4 of the tensor, as the rule sees the gradient; 0 for elements that the run does not hold.
fn wo_squares_of(run: wo_Chunk, c: wo_Common, stride: u32, vec4_of_tensor: u32) -> vec4<f32> {
    let before = run.position / 4u;
    if vec4_of_tensor < before || vec4_of_tensor - before >= (run.length + 3u) / 4u {
        return vec4(0.0);
    }
    let l = wo_lane(run, vec4_of_tensor - before, stride);
    var g = wo_raw_gradient(l);
#if PREPARES
    g = wo_prepare(g, c);
#endif
    return select(vec4(0.0), g * g, l.live);
}

// The squares of four elements from number `first` of the tensor on, which may straddle two of its vec4s.
fn wo_squares(run: wo_Chunk, c: wo_Common, stride: u32, first: u32) -> vec4<f32> {
    let a = wo_squares_of(run, c, stride, first / 4u);
    if first % 4u == 0u {
        return a;
    }
    let b = wo_squares_of(run, c, stride, first / 4u + 1u);
    switch first % 4u {
        case 1u: { return vec4(a.yzw, b.x); }
        case 2u: { return vec4(a.zw, b.xy); }
        default: { return vec4(a.w, b.xyz); }
    }
}

@compute @workgroup_size(wo_TILE_LANES)
fn wo_sum_tile(thread: wo_Thread) {
    let lane = thread.lane;
    let tile = wo_tile(wo_record(thread));
    let c = wo_common(tile.run);
    let f = wo_factors(tile.run.tensor);
    let stride = wo_stride();
    let blocks = (f.rows + wo_TILE - 1u) / wo_TILE;
    let top = tile.rows % blocks * wo_TILE;
    let first_row = tile.rows / blocks * f.rows + top;
    // A record that only fills the grid has no elements.
    let height = select(0u, min(f.rows - top, wo_TILE), tile.run.length > 0u);
    let column = tile.columns * wo_TILE + 4u * lane;
    let left = select(0u, f.columns - column, column < f.columns);
    let chosen = wo_four(0u) < vec4(left);
    var columns = vec4(0.0);
    for (var begin = 0u; begin < wo_TILE; begin += wo_TILE_ROWS) {
        var part = vec4(0.0);
        let rows = min(max(height, begin) - begin, wo_TILE_ROWS);
        for (var k = 0u; k < rows; k++) {
            var squares = vec4(0.0);
            if left > 0u {
                let element = (first_row + begin + k) * f.columns + column;
                squares = select(vec4(0.0), wo_squares(tile.run, c, stride, element), chosen);
            }
            part += squares;
            wo_row_sums[k][lane] = (squares.x + squares.y) + (squares.z + squares.w);
        }
        columns += part;
        workgroupBarrier();
        if lane < rows {
            var sum = 0.0;
            for (var k = 0u; k < wo_TILE_LANES; k++) {
                sum += wo_row_sums[lane][k];
            }
            wo_tile_sums[tile.slot + begin + lane] = sum;
        }
        workgroupBarrier();
    }
    if height > 0u {
        let slot = tile.slot + min(f.rows, wo_TILE) + 4u * lane;
        for (var k = 0u; k < min(left, 4u); k++) {
            wo_tile_sums[slot + k] = columns[k];
        }
    }
}
