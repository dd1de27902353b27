// Probes: the parameters move along a direction, the caller evaluates the loss there, and a copy puts the parameters back.

// The j-th direction, before it is scaled to length 1.
fn wo_direction(j: u32, l: wo_Lane) -> vec4<f32> {
#if DIRECTIONS_GIVEN
    return wo_arena[wo_at(l, wo_DIRECTIONS + j)];
#else
    let key = wo_draw(wo_draw(wo_pass.seed, wo_control.step_count), j);
    return wo_normals(wo_draw(key, l.chunk.tensor), wo_vec4_of_tensor(l));
#endif
}

fn wo_procedure_terms(l: wo_Lane) -> array<vec4<f32>, PROBES> {
    var squares = array<vec4<f32>, PROBES>();
    for (var j = 0u; j < PROBES; j++) {
        let u = wo_direction(j, l);
        squares[j] = u * u;
    }
    return squares;
}
