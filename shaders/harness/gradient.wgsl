// Makes the rule's gradient from the caller's: accumulated micro-batches, the loss scale, the sign, the clip.

fn wo_gradient_at(l: wo_Lane) -> u32 {
#if DYNAMIC_GRADIENTS
    let positions = bitcast<vec4<u32>>(wo_scalar(wo_call.moved + l.chunk.tensor / 4u));
    return positions[l.chunk.tensor % 4u] + l.chunk.grad + l.number;
#else
    return l.chunk.grad + l.number;
#endif
}

fn wo_gradient(l: wo_Lane) -> vec4<f32> {
#if PARTIAL
    if !wo_is_named(l.chunk.tensor) {
        return vec4(0.0);
    }
#endif
#if GRADS_IN_PARAMS
    let numbers = wo_params[wo_gradient_at(l)];
#else
    let numbers = wo_grads[wo_gradient_at(l)];
#endif
#if GRADS_F32
    return numbers;
#elif GRADS_F16
    return wo_widen_f16(wo_unpack(numbers));
#else
    return wo_widen_bf16(wo_unpack(numbers));
#endif
}

#if GRADS_F32
fn wo_zeroed(numbers: vec4<f32>, live: vec4<bool>) -> vec4<f32> {
    return select(numbers, vec4(0.0), live);
}
#else
fn wo_zeroed(numbers: vec2<u32>, live: vec4<bool>) -> vec2<u32> {
    return wo_mixed(numbers, vec2(0u), live);
}
#endif

fn wo_zero_gradient(l: wo_Lane) {
    let at = wo_gradient_at(l);
#if GRADS_IN_PARAMS
    wo_params[at] = wo_zeroed(wo_params[at], l.live);
#else
    wo_grads[at] = wo_zeroed(wo_grads[at], l.live);
#endif
}

// Runs after the update, so that the next step accumulates from zero.
fn wo_clear_gradient(l: wo_Lane) {
#if ZERO_GRAD
#if PARTIAL
    if wo_is_named(l.chunk.tensor) {
        wo_zero_gradient(l);
    }
#else
    wo_zero_gradient(l);
#endif
#endif
#if ACCUMULATE
    wo_arena[wo_at(l, wo_ACCUMULATOR)] = vec4(0.0);
#endif
}

fn wo_raw_gradient(l: wo_Lane) -> vec4<f32> {
#if ACCUMULATE
    return wo_gradient(l) + wo_arena[wo_at(l, wo_ACCUMULATOR)];
#else
    return wo_gradient(l);
#endif
}

#if WEIGHS
// The gradient without the loss scale, averaged and with its sign. The factors are multiplied first: the product with one factor alone
// may overflow although the whole product does not.
fn wo_weighed(raw: vec4<f32>, c: wo_Common) -> vec4<f32> {
#if FACTOR
    var weight = c.e.factor;
#if MEAN
    weight *= c.window;
#endif
#if UNSCALES
    weight *= c.unscale;
#endif
    return raw * weight;
#else
    return raw * c.unscale;
#endif
}
#endif

#if MEAN
// e.factor assumes wo_MICRO_BATCHES micro-batches; this factor corrects a longer or shorter window. The step adds the last micro-batch.
fn wo_window() -> f32 {
    let count = wo_control.accumulated + 1u;
    return select(f32(wo_MICRO_BATCHES) / f32(count), 1.0, count == wo_MICRO_BATCHES);
}
#endif

// The first round of sums and an integrator read the gradient before the clip by norm.
fn wo_prepare(raw: vec4<f32>, c: wo_Common) -> vec4<f32> {
    var g = raw;
#if WEIGHS
    g = wo_weighed(raw, c);
#endif
#if CLIP_VALUE
    // A NaN stays a NaN. On some drivers clamp turns it into the limit.
    let is_nan = (bitcast<vec4<u32>>(g) & vec4(0x7fffffffu)) > vec4(0x7f800000u);
    g = select(clamp(g, vec4(-c.e.clip), vec4(c.e.clip)), g, is_nan);
#endif
#if CLIPS_BY_NORM
    g *= c.clip;
#endif
    return g;
}

// 1 in each element that is not finite. Reads bits, because comparisons, min, max and clamp ignore a NaN on some drivers.
fn wo_nonfinite(x: vec4<f32>) -> vec4<f32> {
    let exponent = vec4(0x7f800000u);
    return select(vec4(0.0), vec4(1.0), (bitcast<vec4<u32>>(x) & exponent) == exponent);
}
