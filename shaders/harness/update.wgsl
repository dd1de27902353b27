// The update: one workgroup per chunk, one vec4 per thread, no loop. All loads come before the mathematics, all stores after it.

@compute @workgroup_size(wo_CHUNK_LANES)
fn wo_update(thread: wo_Thread) {
    let record = wo_record(thread);
    let chunk = wo_chunk(record);
    let c = wo_common(chunk);
#if HAS_DECISION
    let d = wo_load_decision(chunk.tensor);
#else
    let d = Decision();
#endif
    let l = wo_lane(chunk, thread.lane, wo_stride());
    if record == 0u && thread.lane == 0u {
        wo_count_step(c, d);
    }
#if SHARED_SQUARES
    wo_share(l, c, d);
#endif
    if !wo_is_past_end(l) {
        wo_update_lane(l, c, d);
#if CLEARS_GRADIENT
        wo_clear_gradient(l);
#endif
    }
#if TELEMETRY
    wo_measure(record, thread.lane);
#endif
#if BLOCKS
    wo_store_blocks(l);
#endif
}

// The kernel cannot write wo_control: other workgroups still read it. A copy after the dispatch moves these words there.
fn wo_count_step(c: wo_Common, d: Decision) {
    var steps = 1u;
#if SKIPS
    steps = select(1u, 0u, c.skip);
#endif
#if STOCHASTIC
    wo_arena[0].y = bitcast<f32>(wo_control.rounded + steps);
#endif
#if HOLDS
    steps = select(steps, 0u, hold(d));
#endif
#if MAY_SKIP
    wo_arena[0].w = bitcast<f32>(wo_control.ran + 1u);
#endif
#if ACCUMULATE
    wo_arena[0].z = 0.0;
#endif
    wo_arena[0].x = bitcast<f32>(c.step_count + steps);
}

#if IDLES
// Whether a step changes none of these elements. The first step changes all, because it sets every average to the weights.
fn wo_idle(stepped: vec4<bool>, c: wo_Common) -> bool {
    var idle = false;
#if ROWS
    idle = !any(stepped);
#endif
#if EMA
    idle = idle && c.step_count != 0u;
#endif
#if SKIPS
    idle = idle || c.skip;
#endif
    return idle;
}
#endif

fn wo_update_lane(l: wo_Lane, c: wo_Common, d: Decision) {
    var stepped = l.live;
#if ROWS
    stepped = wo_used(l);
#endif
#if MASK
    stepped = wo_flagged(l, stepped);
#endif
#if IDLES
    if wo_idle(stepped, c) {
#if TELEMETRY
        wo_square_up(l, wo_load_param(l), vec4(0.0));
#endif
        return;
    }
#endif
#if GRADIENT_OF_PASS
    let g = wo_arena[wo_at(l, wo_GRADIENT_OF_PASS)];
#else
    let raw = wo_raw_gradient(l);
    var g = raw;
#if PREPARES
    g = wo_prepare(raw, c);
#endif
#endif
#if NONZERO
    stepped = wo_moved(raw, stepped);
    if wo_idle(stepped, c) {
#if TELEMETRY
        wo_square_up(l, wo_load_param(l), vec4(0.0));
#endif
        return;
    }
#endif
    let p = wo_load_param(l);
#if EMA
    let average = select(wo_arena[wo_at(l, wo_AVERAGE)], p, c.step_count == 0u);
#endif
    var s = wo_load_state(l);
#if MERGES
    let kept = s;
#endif
    var change = update(c.h, d, p, g, &s);
#if COLUMNS
    change *= wo_rates(l);
#endif
    let next = p + change;
    wo_store_param(l, p, next, stepped);
#if MERGES
    s = wo_merged(kept, s, stepped);
#endif
#if STOCHASTIC_STATES
    wo_store_state(l, s, true);
#elif STATES
    wo_store_state(l, s);
#endif
#if EMA
    wo_arena[wo_at(l, wo_AVERAGE)] = select(average, average + c.e.ema * (next - average), stepped);
#endif
#if TELEMETRY
    wo_square_up(l, p, select(vec4(0.0), change, stepped));
#endif
}
