// The weighted sum of the derivatives that an integrator keeps.
fn wo_derivative(l: wo_Lane, unit: f32) -> vec4<f32> {
    var sum = vec4(0.0);
    for (var j = 0u; j < wo_STAGES; j++) {
        let weight = wo_pass.weights[j / 4u][j % 4u];
        if weight != 0.0 {
            sum += unit * weight * wo_arena[wo_at(l, wo_DERIVATIVES + j)];
        }
    }
    return sum;
}
