// Cautious steps (arXiv 2411.16085), for the rules that have them: an element whose step and gradient disagree in sign does not move.

// Whether both numbers have the same sign and neither is 0 or NaN. By bits: a comparison may take a denormal for 0, and a product may
// underflow.
fn wo_agrees(a: vec4<f32>, b: vec4<f32>) -> vec4<bool> {
    let first = bitcast<vec4<u32>>(a);
    let second = bitcast<vec4<u32>>(b);
    let same = ((first ^ second) & vec4(0x80000000u)) == vec4(0u);
    return same & wo_is_signed(first) & wo_is_signed(second);
}

fn wo_is_signed(bits: vec4<u32>) -> vec4<bool> {
    let magnitude = bits & vec4(0x7fffffffu);
    return (magnitude != vec4(0u)) & (magnitude <= vec4(0x7f800000u));
}

// The terms of the sum that counts the elements which agree.
fn wo_agreeing(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return select(vec4(0.0), vec4(1.0), wo_agrees(a, b));
}

// The factor of the elements that agree, from their count and that of all elements of the tensor.
fn wo_caution(agreeing: f32, elements: f32) -> f32 {
    return 1.0 / max(agreeing / max(elements, 1.0), 1e-3);
}
