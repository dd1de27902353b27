// The sums, second half, and what is decided from them, in one workgroup: segments of spans, a thread a tensor, then all tensors.
//
// wo_totals is the seam between the halves: record 0 holds the totals over everything, each as a polynomial 1, c, c² in the clip
// factor c; these may be added to those of another optimizer or another machine. The tensors' own follow.

// As many totals at a time as fit the workgroup memory that every device has.
var<workgroup> wo_lanes: array<array<vec3<f32>, wo_FINAL_LANES>, wo_BATCH>;

fn wo_add_rows(first: u32, count: u32) -> array<f32, wo_SUMS> {
    var sums = array<f32, wo_SUMS>();
    for (var row = first; row < first + count; row++) {
        for (var k = 0u; k < wo_SUMS; k++) {
            sums[k] += wo_partials[row * wo_SUMS + k];
        }
    }
    return sums;
}

fn wo_add_segments(lane: u32) {
    for (var i = lane; i < arrayLength(&wo_segments); i += wo_FINAL_LANES) {
        let segment = wo_segments[i];
        let sums = wo_add_rows(segment.first, segment.count);
        for (var k = 0u; k < wo_SUMS; k++) {
            wo_partials[segment.row * wo_SUMS + k] = sums[k];
        }
    }
}

// Adds the lanes' rows of wo_lanes into lane 0's, in the same order always.
fn wo_add_lanes(lane: u32) {
    workgroupBarrier();
    for (var half = wo_FINAL_LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            for (var k = 0u; k < wo_BATCH; k++) {
                wo_lanes[k][lane] += wo_lanes[k][lane + half];
            }
        }
        workgroupBarrier();
    }
}

// torch's clip_grad_norm_.
fn wo_clip_factor(squared: f32, most: f32) -> f32 {
    return min(1.0, most / (sqrt(squared) + 1e-6));
}

// A tensor's totals; a lane takes the same tensors in every pass below.
fn wo_add_tensors(lane: u32) {
    for (var t = lane; t < arrayLength(&wo_tensors); t += wo_FINAL_LANES) {
        let tensor = wo_tensors[t];
        let h = wo_hyper(tensor.group, wo_control.applied);
        let own = wo_total(h, wo_add_rows(tensor.first, tensor.count), tensor.elements);
        for (var k = 0u; k < wo_TOTALS; k++) {
            wo_totals[(t + 1u) * wo_TOTALS + k] = vec4(own[k], 0.0);
        }
        if wo_CLIP_TENSOR {
            wo_store_clip(t, wo_clip_factor(own[wo_NORM].z, wo_extra(tensor.group, wo_control.applied).clip));
        }
    }
}

// Each group's norm, and with it the clip factor of its tensors.
fn wo_clip_groups(lane: u32) {
    for (var group = 0u; group < wo_call.groups; group++) {
        var squared = 0.0;
        for (var t = lane; t < arrayLength(&wo_tensors); t += wo_FINAL_LANES) {
            if wo_tensors[t].group == group {
                squared += wo_totals[(t + 1u) * wo_TOTALS + wo_NORM].z;
            }
        }
        for (var k = 0u; k < wo_BATCH; k++) {
            wo_lanes[k][lane] = vec3(squared, 0.0, 0.0);
        }
        wo_add_lanes(lane);
        let factor = wo_clip_factor(wo_lanes[0][0].x, wo_extra(group, wo_control.applied).clip);
        for (var t = lane; t < arrayLength(&wo_tensors); t += wo_FINAL_LANES) {
            if wo_tensors[t].group == group {
                wo_store_clip(t, factor);
            }
        }
        workgroupBarrier();
    }
}

// The totals over everything. Where each tensor has a clip factor of its own, the polynomials collapse to their values.
fn wo_add_all(lane: u32) {
    var all = array<vec3<f32>, wo_TOTALS>();
    for (var t = lane; t < arrayLength(&wo_tensors); t += wo_FINAL_LANES) {
        for (var k = 0u; k < wo_TOTALS; k++) {
            let own = wo_totals[(t + 1u) * wo_TOTALS + k].xyz;
            if wo_CLIP_TENSOR || wo_CLIP_GROUP {
                all[k] += vec3(wo_at(own, wo_load_clip(t)), 0.0, 0.0);
            } else {
                all[k] += own;
            }
        }
    }
    for (var first = 0u; first < wo_TOTALS; first += wo_BATCH) {
        for (var k = 0u; k < wo_BATCH; k++) {
            wo_lanes[k][lane] = all[min(first + k, wo_TOTALS - 1u)];
        }
        wo_add_lanes(lane);
        if lane == 0u {
            for (var k = 0u; k < min(wo_BATCH, wo_TOTALS - first); k++) {
                wo_totals[first + k] = vec4(wo_lanes[k][0], 0.0);
            }
        }
        workgroupBarrier();
    }
}

fn wo_at(polynomial: vec3<f32>, c: f32) -> f32 {
    return polynomial.x + c * (polynomial.y + c * polynomial.z);
}

fn wo_totals_at(record: u32, c: f32) -> array<f32, wo_TOTALS> {
    var totals = array<f32, wo_TOTALS>();
    for (var k = 0u; k < wo_TOTALS; k++) {
        totals[k] = wo_at(wo_totals[record * wo_TOTALS + k].xyz, c);
    }
    return totals;
}

fn wo_decide_tensors(lane: u32) {
    var c = 1.0;
    if wo_CLIP_GLOBAL {
        c = wo_clip_factor(wo_totals[wo_NORM].z, wo_extra(0u, wo_control.applied).clip);
    }
    let totals = wo_totals_at(0u, c);
    // Every tensor starts from the same global state and leaves the same behind; the first tensor's is kept.
    let before = wo_load_global_state();
    var after = before;
    var first = before;
    for (var t = lane; t < arrayLength(&wo_tensors); t += wo_FINAL_LANES) {
        if wo_CLIP_GLOBAL {
            wo_store_clip(t, c);
        } else if wo_CLIP_TENSOR || wo_CLIP_GROUP {
            c = wo_load_clip(t);
        }
        after = before;
        wo_decide(t, wo_hyper(wo_tensors[t].group, wo_control.applied), totals, wo_totals_at(t + 1u, c), &after);
        if t == 0u {
            first = after;
        }
    }
    storageBarrier();
    if lane == 0u {
        wo_decide_step(totals);
        if wo_REMEMBERS && wo_control.skip == 0u {
            wo_store_global_state(first);
        }
    }
}

// Whether the step is left out, and what becomes of the loss scale: torch's GradScaler.
fn wo_decide_step(totals: array<f32, wo_TOTALS>) {
    let bad = wo_GUARD && totals[wo_BAD] != 0.0;
    if wo_GUARD {
        wo_control.skipped += select(0u, 1u, bad);
    }
    if wo_CAN_SKIP && !wo_SECOND_ROUND {
        wo_control.skip = select(0u, 1u, bad || wo_refuse(totals));
    } else if wo_CAN_SKIP && wo_refuse(totals) {
        wo_control.skip = 1u;
    }
    if wo_SCALE && !wo_SECOND_ROUND {
        let scale = wo_control.scale;
        wo_control.unscale = 1.0 / scale;
        if bad {
            wo_control.scale = scale * wo_BACKOFF;
            wo_control.streak = 0u;
        } else if wo_control.streak + 1u == wo_INTERVAL {
            // A scale past f32's range would never come back.
            wo_control.scale = select(scale, scale * wo_GROWTH, scale < 3e38 / wo_GROWTH);
            wo_control.streak = 0u;
        } else {
            wo_control.streak += 1u;
        }
    }
}

fn wo_reduce_all(lane: u32) {
    wo_add_segments(lane);
    storageBarrier();
    wo_add_tensors(lane);
    if wo_CLIP_GROUP {
        wo_clip_groups(lane);
    }
    wo_add_all(lane);
}

@compute @workgroup_size(wo_FINAL_LANES)
fn wo_reduce(@builtin(local_invocation_index) lane: u32) {
    wo_reduce_all(lane);
}

@compute @workgroup_size(wo_FINAL_LANES)
fn wo_conclude(@builtin(local_invocation_index) lane: u32) {
    wo_decide_tensors(lane);
}

@compute @workgroup_size(wo_FINAL_LANES)
fn wo_finalize(@builtin(local_invocation_index) lane: u32) {
    wo_reduce_all(lane);
    storageBarrier();
    wo_decide_tensors(lane);
}
