// What the update measures on its way, where telemetry is on: each chunk's Σθ² and ΣΔθ², left behind the chunks' records for the host,
// which adds them in f64. The registers hold both numbers anyway: nothing more is read, and 16 bytes a chunk are written.

// Sixteen lanes at a time, then the sixteen sums of these.
const wo_LANES_A_ROW = 16u;
var<workgroup> wo_squares: array<vec2<f32>, wo_CHUNK_LANES>;
var<workgroup> wo_row_squares: array<vec2<f32>, wo_LANES_A_ROW>;

fn wo_squares_of(p: vec4<f32>, change: vec4<f32>, live: vec4<bool>) -> vec2<f32> {
    let a = select(vec4(0.0), p, live);
    let b = select(vec4(0.0), change, live);
    return vec2(dot(a, a), dot(b, b));
}

// Every lane of the chunk comes here, those past its end with zeros.
fn wo_measure(index: u32, lane: u32, squares: vec2<f32>) {
    wo_squares[lane] = squares;
    workgroupBarrier();
    if lane < wo_LANES_A_ROW {
        var sum = vec2(0.0);
        for (var k = 0u; k < wo_CHUNK_LANES / wo_LANES_A_ROW; k++) {
            sum += wo_squares[k * wo_LANES_A_ROW + lane];
        }
        wo_row_squares[lane] = sum;
    }
    workgroupBarrier();
    if lane == 0u {
        var sum = vec2(0.0);
        for (var k = 0u; k < wo_LANES_A_ROW; k++) {
            sum += wo_row_squares[k];
        }
        wo_chunks[arrayLength(&wo_chunks) / 3u * 2u + index] = bitcast<vec4<u32>>(vec4(sum, 0.0, 0.0));
    }
}
