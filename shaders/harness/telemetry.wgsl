// Telemetry: Σθ² and ΣΔθ² of each chunk, stored after the records of the chunks. The host adds them in f64. The update has θ and Δθ in
// registers, so telemetry reads nothing more from memory and writes 16 bytes per chunk.

// Sixteen lanes add the squares of all lanes, then one lane adds the sixteen sums.
const wo_LANES_PER_ROW = 16u;
var<workgroup> wo_squares: array<vec2<f32>, wo_CHUNK_LANES>;
var<workgroup> wo_row_squares: array<vec2<f32>, wo_LANES_PER_ROW>;
var<private> wo_squares_of_lane: vec2<f32>;

fn wo_square_up(l: wo_Lane, p: vec4<f32>, change: vec4<f32>) {
#if ROWS
    let used = wo_used(l);
#else
    let used = l.live;
#endif
    let a = select(vec4(0.0), p, used);
    let b = select(vec4(0.0), change, used);
    wo_squares_of_lane = vec2(dot(a, a), dot(b, b));
}

// Every lane of the chunk must call this function, because it has barriers. The squares of a lane past the tensor's end are 0.
fn wo_measure(index: u32, lane: u32) {
    wo_squares[lane] = wo_squares_of_lane;
    workgroupBarrier();
    if lane < wo_LANES_PER_ROW {
        var sum = vec2(0.0);
        for (var k = 0u; k < wo_CHUNK_LANES / wo_LANES_PER_ROW; k++) {
            sum += wo_squares[k * wo_LANES_PER_ROW + lane];
        }
        wo_row_squares[lane] = sum;
    }
    workgroupBarrier();
    if lane == 0u {
        var sum = vec2(0.0);
        for (var k = 0u; k < wo_LANES_PER_ROW; k++) {
            sum += wo_row_squares[k];
        }
        wo_chunks[arrayLength(&wo_chunks) / 3u * 2u + index] = bitcast<vec4<u32>>(vec4(sum, 0.0, 0.0));
    }
}
