// Steps that leave out tensors, and the step count of each tensor. The numbers lie behind the decision of the tensor.

fn wo_number(tensor: u32, word: u32) -> f32 {
    return wo_control.decisions[wo_GLOBAL_VEC4S + tensor * wo_DECISION_VEC4S + word / 4u][word % 4u];
}

fn wo_put_number(tensor: u32, word: u32, x: f32) {
    wo_control.decisions[wo_GLOBAL_VEC4S + tensor * wo_DECISION_VEC4S + word / 4u][word % 4u] = x;
}

// Whether the call names the tensor.
fn wo_is_named(tensor: u32) -> bool {
    let words = bitcast<vec4<u32>>(wo_scalar(wo_call.moved + tensor / 4u));
    return words[tensor % 4u] != wo_ABSENT;
}

// Whether the step takes the tensor: the call names it, or its accumulator holds gradients. The conclusion of the sums keeps the answer.
fn wo_takes(tensor: u32) -> bool {
#if TAKEN
    return wo_number(tensor, wo_TAKES) != 0.0;
#elif ACCUMULATE
    return wo_is_named(tensor) || wo_number(tensor, wo_WAITING) != 0.0;
#else
    return wo_is_named(tensor);
#endif
}

#if AT_COUNT
// The scalars at the tensor's own step count. The conclusion of the sums counts the step.
fn wo_hyper_of(group: u32, tensor: u32, step_count: u32) -> Hyper {
#if TAKEN
    let n = max(wo_number(tensor, wo_STEPS), 1.0);
#else
    let n = wo_number(tensor, wo_STEPS) + 1.0;
#endif
    return at_count(wo_hyper(group, step_count), wo_own(group, step_count), n);
}
#endif
