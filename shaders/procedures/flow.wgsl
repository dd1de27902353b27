// The passes of an integrator between evaluations. Each pass stores the derivative at the parameters and moves the parameters to the next
// position.

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_flow(thread: wo_Thread) {
    let chunk = wo_chunk(wo_record(thread));
    let c = wo_common(chunk);
    let l = wo_lane(chunk, thread.lane, wo_stride());
    if wo_is_past_end(l) {
        return;
    }
#if SKIPS
    if c.skip {
        return;
    }
#endif
    let at = chunk.param + l.number;
    let raw = wo_raw_gradient(l);
    var g = raw;
#if PREPARES
    g = wo_prepare(raw, c);
#endif
    if (wo_pass.flags & wo_START) != 0u {
        wo_arena[wo_at(l, wo_GRADIENT)] = g;
    }
    if !hold(wo_load_decision(chunk.tensor)) {
        return;
    }
    let base = wo_at(l, wo_BASE);
    let displacement = wo_at(l, wo_DISPLACEMENT);
    if (wo_pass.flags & wo_START) != 0u {
        wo_arena[base] = wo_params[at];
        wo_arena[displacement] = vec4(0.0);
    }
    if (wo_pass.flags & wo_STORE) != 0u {
        wo_arena[wo_at(l, wo_DERIVATIVES + wo_pass.number)] = -clamped(c.h, g);
    }
    let derivative = wo_derivative(l, select(1.0, c.h.horizon, (wo_pass.flags & wo_HORIZONS) != 0u));
    if (wo_pass.flags & wo_ADVANCE) != 0u {
        wo_arena[displacement] += derivative + wo_pass.poison;
    }
    if (wo_pass.flags & wo_SHIFT) != 0u {
        wo_arena[wo_at(l, wo_DERIVATIVES)] = wo_arena[wo_at(l, wo_DERIVATIVES + wo_STAGES - 1u)];
    }
    if (wo_pass.flags & wo_MOVE) != 0u {
        wo_params[at] = select(wo_params[at], wo_arena[base] + (wo_arena[displacement] + derivative), l.live);
    }
    if (wo_pass.flags & wo_RESTORE) != 0u {
        wo_params[at] = select(wo_params[at], wo_arena[base], l.live);
    }
}
