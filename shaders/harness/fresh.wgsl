// Elements with step counts of their own. The scalars of a step belong to one count: where the four elements of a lane have different counts, the
// rule runs once for each of them.

#if ROW_STEPS
// The number of this step for each element.
fn wo_row_steps(l: wo_Lane) -> vec4<f32> {
    return wo_arena[wo_at(l, wo_ROW_STEPS)] + vec4(1.0);
}

fn wo_hyper_at(l: wo_Lane, c: wo_Common, n: f32) -> Hyper {
    return at_count(c.h, wo_own(l.chunk.group, c.step_count), n);
}

fn wo_is_one(n: vec4<f32>) -> bool {
    return all(n == vec4(n.x));
}

fn wo_update_at(
    l: wo_Lane, c: wo_Common, d: Decision, p: vec4<f32>, g: vec4<f32>, n: vec4<f32>, s: ptr<function, State>,
) -> vec4<f32> {
    if wo_is_one(n) {
        return update(wo_hyper_at(l, c, n.x), d, p, g, s);
    }
    let before = *s;
    var change = vec4(0.0);
    for (var k = 0u; k < 4u; k++) {
        let chosen = vec4(k) == vec4(0u, 1u, 2u, 3u);
        var one = before;
        change = select(change, update(wo_hyper_at(l, c, n[k]), d, p, g, &one), chosen);
        *s = wo_merged(*s, one, chosen);
    }
    return change;
}

#if CONTRIBUTES
fn wo_contribute_at(
    l: wo_Lane, c: wo_Common, p: vec4<f32>, g: vec4<f32>, n: vec4<f32>, s: State,
) -> array<vec4<f32>, SUMS> {
    var terms = contribute(wo_hyper_at(l, c, n.x), p, g, s);
    if wo_is_one(n) {
        return terms;
    }
    for (var k = 1u; k < 4u; k++) {
        let one = contribute(wo_hyper_at(l, c, n[k]), p, g, s);
        for (var i = 0u; i < SUMS; i++) {
            terms[i] = select(terms[i], one[i], vec4(k) == vec4(0u, 1u, 2u, 3u));
        }
    }
    return terms;
}
#endif
#endif
