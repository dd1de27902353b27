// The squares of the position and of the error of an integrator's step, each divided by the tolerance.
fn wo_procedure_terms(l: wo_Lane) -> array<vec4<f32>, 2> {
    let y = wo_arena[wo_at(l, wo_BASE)] + wo_arena[wo_at(l, wo_DISPLACEMENT)];
    let scale = wo_pass.tolerance * (1.0 + max(abs(y), wo_pass.next * abs(wo_load_param(l))));
    let position = y / scale;
    let error = wo_derivative(l, 1.0) / scale;
    return array<vec4<f32>, 2>(position * position, error * error);
}
