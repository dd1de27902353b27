// A combination of the derivatives that an integrator kept: a way.
fn wo_way(at: u32, stride: u32, unit: f32) -> vec4<f32> {
    var sum = vec4(0.0);
    for (var j = 0u; j < wo_STAGES; j++) {
        let weight = wo_pass.weights[j / 4u][j % 4u];
        if weight != 0.0 {
            sum += unit * weight * wo_arena[at + (wo_DERIVATIVES + j) * stride];
        }
    }
    return sum;
}
