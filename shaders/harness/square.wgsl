// The square of the gradient for the rule's second moment. With one second moment per row, the rule gets the mean of the row's squares. A
// first call of `update` finds the square of each element, decay included; its other results are dropped. A chunk holds whole rows.

#if SHARED_SQUARES
var<workgroup> wo_shared_squares: array<f32, 4u * wo_CHUNK_LANES>;
var<private> wo_square_found: vec4<f32>;
var<private> wo_square_shared: vec4<f32>;
var<private> wo_shares: bool;

fn wo_square(weight: f32, x: vec4<f32>) -> vec4<f32> {
    wo_square_found = x * x;
    return weight * select(wo_square_found, wo_square_shared, vec4(wo_shares));
}

// The mean of the squares of the row to which the chunk's element number `element` belongs.
fn wo_row_mean(element: u32, width: u32) -> f32 {
    let first = element / width * width;
    var sum = 0.0;
    for (var i = 0u; i < width; i++) {
        sum += wo_shared_squares[min(first + i, 4u * wo_CHUNK_LANES - 1u)];
    }
    return sum / f32(width);
}

// Every thread of the workgroup must call this function before any thread returns, because it has a barrier.
fn wo_share(l: wo_Lane, c: wo_Common, d: Decision) {
    let raw = wo_raw_gradient(l);
    var g = raw;
#if PREPARES
    g = wo_prepare(raw, c);
#endif
    var s = wo_load_state(l);
    _ = update(c.h, d, wo_load_param(l), g, &s);
    for (var k = 0u; k < 4u; k++) {
        wo_shared_squares[4u * l.number + k] = wo_square_found[k];
    }
    workgroupBarrier();
    let width = wo_member(l.chunk.tensor).width;
    for (var k = 0u; k < 4u; k++) {
        wo_square_shared[k] = wo_row_mean(4u * l.number + k, width);
    }
    wo_shares = true;
}
#else
fn wo_square(weight: f32, x: vec4<f32>) -> vec4<f32> {
    return weight * x * x;
}
#endif
