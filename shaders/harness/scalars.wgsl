// Vec4 number `at` of the rings of scalars.
fn wo_scalar(at: u32) -> vec4<f32> {
#if SCALARS_IN_CONTROL
    return wo_control.decisions[at];
#else
    return wo_scalars[at];
#endif
}

// The clip factor follows the members of a tensor's decision.
fn wo_load_clip(tensor: u32) -> f32 {
    return wo_control.decisions[wo_GLOBAL_VEC4S + tensor * wo_DECISION_VEC4S + wo_CLIP / 4u][wo_CLIP % 4u];
}

fn wo_store_clip(tensor: u32, factor: f32) {
    wo_control.decisions[wo_GLOBAL_VEC4S + tensor * wo_DECISION_VEC4S + wo_CLIP / 4u][wo_CLIP % 4u] = factor;
}
