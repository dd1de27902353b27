// A NaN fails this comparison and stays a NaN; max() would hide it.
fn activate(x: vec4<f32>) -> vec4<f32> {
    return select(x, vec4(0.0), x < vec4(0.0));
}

// The slope, computed from the unit's output.
fn slope(y: vec4<f32>) -> vec4<f32> {
    return select(vec4(0.0), vec4(1.0), y > vec4(0.0));
}
