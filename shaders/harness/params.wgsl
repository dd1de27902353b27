// Parameters in their format, with the array (master or remainder) that keeps their full precision.

// The parameters as the model sees them.
fn wo_param(at: u32) -> vec4<f32> {
#if PARAMS_F32
    return wo_params[at];
#elif PARAMS_F16
    return wo_widen_f16(wo_unpack(wo_params[at]));
#else
    return wo_widen_bf16(wo_unpack(wo_params[at]));
#endif
}

// Round to nearest in the parameters' format.
fn wo_nearest_param(x: vec4<f32>) -> vec4<u32> {
#if PARAMS_F16
    return wo_nearest_f16(x);
#else
    return wo_nearest_bf16(x);
#endif
}

fn wo_rounded_param(l: wo_Lane, x: vec4<f32>) -> vec4<u32> {
#if PARAMS_SPLIT
    return wo_high(x);
#elif PARAMS_STOCHASTIC_F16
    return wo_stochastic_f16(x, wo_random_bits(l.chunk.tensor, 0u, wo_vec4_of_tensor(l)));
#elif PARAMS_STOCHASTIC_BF16
    return wo_stochastic_bf16(x, wo_random_bits(l.chunk.tensor, 0u, wo_vec4_of_tensor(l)));
#else
    return wo_nearest_param(x);
#endif
}

fn wo_load_param(l: wo_Lane) -> vec4<f32> {
    let at = l.chunk.param + l.number;
#if PARAMS_SPLIT
    let rest = wo_load_pair(wo_pair_at(l, wo_REMAINDER_HALVES, wo_REMAINDER_BYTES));
    return wo_join(wo_unpack(wo_params[at]), wo_unpack(rest));
#elif PARAMS_MASTER
    // If the parameter is not the master rounded to nearest, the caller wrote the parameter: the master starts again from it.
    let master = wo_arena[wo_at(l, wo_MASTER)];
    let is_nearest = wo_nearest_param(master) == wo_unpack(wo_params[at]);
    return select(wo_param(at), master, is_nearest);
#else
    return wo_param(at);
#endif
}

// Stores `next` in the chosen elements; the others keep their bits.
fn wo_store_param(l: wo_Lane, before: vec4<f32>, next: vec4<f32>, chosen: vec4<bool>) {
    let at = l.chunk.param + l.number;
#if PARAMS_F32
    wo_params[at] = select(before, next, chosen);
#else
#if PARAMS_MASTER
    wo_arena[wo_at(l, wo_MASTER)] = select(before, next, chosen);
#elif PARAMS_SPLIT
    let rest = wo_remainder(select(before, next, chosen));
    wo_store_pair(wo_pair_at(l, wo_REMAINDER_HALVES, wo_REMAINDER_BYTES), wo_pack(rest));
#endif
    var words = wo_pack(wo_rounded_param(l, next));
    if !all(chosen) {
        words = wo_mixed(wo_params[at], words, chosen);
    }
    wo_params[at] = words;
#endif
}

fn wo_put_param(at: u32, x: vec4<f32>) {
#if PARAMS_F32
    wo_params[at] = x;
#else
    wo_params[at] = wo_pack(wo_nearest_param(x));
#endif
}
