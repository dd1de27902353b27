// Computes from the totals: the clip factors, the decision for each tensor, whether the step is skipped, and the loss scale.

// The rule's totals. The harness's totals follow them.
fn wo_of_rule(totals: array<f32, wo_TOTALS>) -> array<f32, TOTALS> {
    var of_rule = array<f32, TOTALS>();
    for (var k = 0u; k < TOTALS; k++) {
        of_rule[k] = totals[k];
    }
    return of_rule;
}

fn wo_conclude_all(lane: u32) {
#if CLIP_GLOBAL
    let c = wo_clip_factor(wo_totals[wo_NORM].z, 0u);
#else
    let c = 1.0;
#endif
#if READS_TOTALS
    let totals = wo_totals_at(0u, c);
#endif
#if REMEMBERS
    // Every decision starts from the same global state and computes the same new one. The one of the first tensor is stored.
    let before = wo_load_global_state();
    var first = before;
#endif
#if CONCLUDES_TENSORS
    for (var t = lane; t < arrayLength(&wo_tensors); t += wo_FINAL_LANES) {
#if CLIP_GLOBAL
        wo_store_clip(t, c);
#endif
#if DECIDES
#if AT_COUNT
        let h = wo_hyper_of(wo_tensors[t].group, t, wo_control.step_count);
#else
        let h = wo_hyper(wo_tensors[t].group, wo_control.step_count);
#endif
#if DECIDES_FROM_SLOPES
        wo_store_decision(t, decide(h, wo_slopes(h)));
#else
#if CLIP_PARTS
        let own = wo_of_rule(wo_totals_at(t + 1u, wo_load_clip(t)));
#else
        let own = wo_of_rule(wo_totals_at(t + 1u, c));
#endif
#if SETTLES
        wo_store_decision(t, settle(h, wo_of_rule(totals), own, wo_load_decision(t)));
#elif REMEMBERS
        var after = before;
        wo_store_decision(t, decide(h, wo_of_rule(totals), own, &after));
        if t == 0u {
            first = after;
        }
#else
        wo_store_decision(t, decide(h, wo_of_rule(totals), own));
#endif
#endif
#endif
    }
#endif
#if CONCLUDES_STEP
    storageBarrier();
    if lane == 0u {
#if CONCLUDES_SKIP
        wo_conclude_step(totals);
#endif
#if REMEMBERS
        if wo_control.skip == 0u {
            wo_store_global_state(first);
        }
#endif
    }
#endif
#if PROCEEDS
    storageBarrier();
    for (var t = lane; t < arrayLength(&wo_tensors); t += wo_FINAL_LANES) {
#if PARTIAL
        let takes = wo_takes(t);
        wo_put_number(t, wo_TAKES, select(0.0, 1.0, takes));
        wo_put_number(t, wo_WAITING, 0.0);
        if takes && wo_control.skip == 0u {
            wo_proceed(t);
        }
#else
        if wo_control.skip == 0u {
            wo_proceed(t);
        }
#endif
    }
#endif
}

#if PROCEEDS
// Counts the step in the numbers that a tensor keeps, and decides from the rule's.
fn wo_proceed(t: u32) {
#if PROGRESS
    var progress = wo_load_progress(t);
#if AT_COUNT
    let h = wo_hyper_of(wo_tensors[t].group, t, wo_control.step_count);
#else
    let h = wo_hyper(wo_tensors[t].group, wo_control.step_count);
#endif
    wo_store_decision(t, proceed(h, &progress));
    wo_store_progress(t, progress);
#endif
#if PARTIAL
#if HOLDS
    if hold(wo_load_decision(t)) {
        return;
    }
#endif
    wo_put_number(t, wo_STEPS, wo_number(t, wo_STEPS) + 1.0);
#endif
}
#endif

// Decides whether the step is skipped, and computes the next loss scale as torch's GradScaler does.
fn wo_conclude_step(totals: array<f32, wo_TOTALS>) {
    var skip = false;
#if GUARD
    // If the square of a gradient overflows, states become infinite. The sum of squares is then infinite too, so the test costs nothing.
    let bad = wo_bad(0u) != 0.0 || !wo_is_finite(wo_totals[wo_NORM].z);
    wo_control.skipped += select(0u, 1u, bad);
    skip = bad;
#endif
#if DECIDES_FROM_SLOPES
    skip = skip || wo_losses_lost();
#elif REFUSES
    skip = skip || refuse(wo_of_rule(totals));
#endif
#if LATER_ROUND
    if skip {
        wo_control.skip = 1u;
    }
#else
    wo_control.skip = select(0u, 1u, skip);
#endif
#if LOSS_SCALE
    let scale = wo_control.scale;
    wo_control.unscale = 1.0 / scale;
    if bad {
        wo_control.scale = max(scale * wo_BACKOFF, wo_LEAST_SCALE);
        wo_control.streak = 0u;
    } else if wo_control.streak + 1u >= wo_INTERVAL {
        wo_control.scale = select(scale, scale * wo_GROWTH, scale <= wo_LAST_SCALE);
        wo_control.streak = 0u;
    } else {
        wo_control.streak += 1u;
    }
#endif
}
