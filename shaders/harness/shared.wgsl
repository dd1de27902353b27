// One second moment a row: where the rule squares the gradient for it, it gets the mean of the row's squares. An update ahead of the real
// one finds each element's own square, decay and all; nothing of it is kept. A chunk holds whole rows.

var<workgroup> wo_shared_squares: array<f32, 4u * wo_CHUNK_LANES>;
var<private> wo_square_found: vec4<f32>;
var<private> wo_square_shared: vec4<f32>;
var<private> wo_shares: bool;

fn wo_square(weight: f32, x: vec4<f32>) -> vec4<f32> {
    wo_square_found = x * x;
    return weight * select(wo_square_found, wo_square_shared, vec4(wo_shares));
}

// The mean over the row of the chunk's element number `element`.
fn wo_row_mean(element: u32, width: u32) -> f32 {
    let first = element / width * width;
    var sum = 0.0;
    for (var i = 0u; i < width; i++) {
        sum += wo_shared_squares[min(first + i, 4u * wo_CHUNK_LANES - 1u)];
    }
    return sum / f32(width);
}

// Every thread of the workgroup comes by before any leaves.
fn wo_share(chunk: wo_Chunk, lane: u32, h: Hyper, d: Decision, e: wo_Extra, clip: f32) {
    let stride = wo_stride();
    let state = chunk.state + lane;
    var g = wo_prepare(wo_raw_gradient(chunk, lane, state, stride), e, wo_control.unscale);
    if wo_CLIP_NORM {
        g *= clip;
    }
    var s = wo_load_state(state, stride);
    _ = update(h, d, wo_load_param(chunk, lane, state, stride), g, &s);
    for (var k = 0u; k < 4u; k++) {
        wo_shared_squares[4u * lane + k] = wo_square_found[k];
    }
    workgroupBarrier();
    let width = wo_member(chunk.tensor).width;
    for (var k = 0u; k < 4u; k++) {
        wo_square_shared[k] = wo_row_mean(4u * lane + k, width);
    }
    wo_shares = true;
}
