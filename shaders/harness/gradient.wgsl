// What stands between the caller's gradient and the rule's: accumulated micro-batches, the loss scale, the sign, the clip by value.
// Clips by norm come after the sums.

fn wo_raw_gradient(chunk: wo_Chunk, lane: u32, state: u32, stride: u32) -> vec4<f32> {
    let g = wo_gradient(chunk, lane);
    if wo_ACCUMULATE {
        return g + wo_arena[state + wo_ACCUMULATOR * stride];
    }
    return g;
}

fn wo_prepare(raw: vec4<f32>, e: wo_Extra, unscale: f32) -> vec4<f32> {
    var g = raw;
    if wo_SCALE {
        g *= unscale;
    }
    if wo_FACTOR {
        g *= e.factor;
    }
    if wo_CLIP_VALUE {
        g = clamp(g, vec4(-e.clip), vec4(e.clip));
    }
    return g;
}

// By bits: comparisons, min, max and clamp do not see a NaN on every driver. 1 for each lane that is not finite.
fn wo_nonfinite(x: vec4<f32>) -> vec4<f32> {
    let exponent = vec4(0x7f800000u);
    return select(vec4(0.0), vec4(1.0), (bitcast<vec4<u32>>(x) & exponent) == exponent);
}
