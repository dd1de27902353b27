// Probes: the parameters moved along a direction and, once the loss was taken there, put back by copy.

// The j-th direction, not yet of length one: a vec4 of it.
fn wo_direction(j: u32, tensor: u32, index: u32, at: u32, stride: u32) -> vec4<f32> {
    if wo_GIVEN {
        return wo_arena[at + (wo_DIRECTIONS + j) * stride];
    }
    let key = wo_draw(wo_draw(wo_pass.seed, wo_control.applied), j);
    return wo_normals(wo_draw(key, tensor), index);
}
