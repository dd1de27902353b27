// The second half of the sums, and the decisions, in one workgroup: adds the spans of each segment, the segments of each tensor (one thread
// per tensor), then all tensors.
//
// wo_totals lies between the two halves of a step. Record 0 holds the totals over all tensors, each as the coefficients of 1, c and c² in
// the clip factor c. The caller may add record 0 of another optimizer or another machine to it. The totals of each tensor follow.

// wo_BATCH totals fit into the workgroup memory that every device has.
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

// Adds the rows of all lanes to the row of lane 0, always in the same order, so that the bits are the same on every run.
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

// The clip factor of torch's clip_grad_norm_. A norm that is NaN makes every gradient NaN, and a norm beyond f32's range makes the factor 0,
// so that every step is clipped. The test reads bits, because min ignores a NaN on some drivers.
fn wo_clip_factor(squared: f32, group: u32) -> f32 {
    if wo_is_finite(squared) {
        return min(1.0, wo_extra(group, wo_control.step_count).clip / (sqrt(squared) + 1e-6));
    }
    return select(squared, 0.0, bitcast<u32>(squared) == 0x7f800000u);
}

fn wo_is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

#if AT_COUNT
fn wo_total(t: u32, tensor: wo_Tensor, sums: array<f32, wo_SUMS>) -> array<vec3<f32>, wo_TOTALS> {
#else
fn wo_total(tensor: wo_Tensor, sums: array<f32, wo_SUMS>) -> array<vec3<f32>, wo_TOTALS> {
#endif
    var totals = array<vec3<f32>, wo_TOTALS>();
#if CONTRIBUTES
    var of_rule = array<f32, SUMS>();
    for (var k = 0u; k < SUMS; k++) {
        of_rule[k] = sums[k];
    }
#if COUNTS_ELEMENTS
    let elements = sums[wo_ELEMENTS];
#else
    let elements = tensor.elements;
#endif
#if AT_COUNT
    let own = total(wo_hyper_of(tensor.group, t, wo_control.step_count), of_rule, elements);
#else
    let own = total(wo_hyper(tensor.group, wo_control.step_count), of_rule, elements);
#endif
    for (var k = 0u; k < TOTALS; k++) {
        totals[k] = own[k];
    }
#elif OWN_TERMS
    for (var k = 0u; k < wo_TOTALS; k++) {
        totals[k].x = sums[k];
    }
#endif
#if HARNESS_SUMS
    totals[wo_NORM].z = sums[wo_SQUARES];
    totals[wo_BAD].x = sums[wo_SQUARES + 1u];
#endif
    return totals;
}

// Computes the totals of each tensor. A lane takes the same tensors in every loop below, so it reads only totals that it wrote.
fn wo_add_tensors(lane: u32) {
    for (var t = lane; t < arrayLength(&wo_tensors); t += wo_FINAL_LANES) {
        let tensor = wo_tensors[t];
#if AT_COUNT
        let own = wo_total(t, tensor, wo_add_rows(tensor.first, tensor.count));
#else
        let own = wo_total(tensor, wo_add_rows(tensor.first, tensor.count));
#endif
        for (var k = 0u; k < wo_TOTALS; k++) {
            wo_totals[(t + 1u) * wo_TOTALS + k] = vec4(own[k], 0.0);
        }
#if CLIP_TENSOR
        wo_store_clip(t, wo_clip_factor(own[wo_NORM].z, tensor.group));
#endif
    }
}

// Computes the norm of each group, and from the norm the clip factor of the group's tensors.
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
        let factor = wo_clip_factor(wo_lanes[0][0].x, group);
        for (var t = lane; t < arrayLength(&wo_tensors); t += wo_FINAL_LANES) {
            if wo_tensors[t].group == group {
                wo_store_clip(t, factor);
            }
        }
        workgroupBarrier();
    }
}

// Computes the totals over all tensors. Where tensors have clip factors of their own, the values of the rule's polynomials are added. The
// norm stays the one before the clip, because it decides whether the step is skipped.
fn wo_add_all(lane: u32) {
    var all = array<vec3<f32>, wo_TOTALS>();
    for (var t = lane; t < arrayLength(&wo_tensors); t += wo_FINAL_LANES) {
        for (var k = 0u; k < wo_TOTALS; k++) {
            let own = wo_totals[(t + 1u) * wo_TOTALS + k].xyz;
#if CLIP_PARTS
            let value = wo_value_at(t + 1u, own, wo_load_clip(t));
            all[k] += select(vec3(value, 0.0, 0.0), own, k == wo_NORM);
#else
            all[k] += own;
#endif
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

fn wo_reduce_all(lane: u32) {
    wo_add_segments(lane);
    storageBarrier();
    wo_add_tensors(lane);
#if CLIP_GROUP
    wo_clip_groups(lane);
#endif
    wo_add_all(lane);
}

// The count of gradients that are not finite.
fn wo_bad(record: u32) -> f32 {
    return wo_totals[record * wo_TOTALS + wo_BAD].x;
}

// The value of a total of this record. If c is 0 and all gradients are finite, the clipped gradients are 0, and so are their terms, even
// where the sums of the unclipped terms overflowed.
fn wo_value_at(record: u32, polynomial: vec3<f32>, c: f32) -> f32 {
    let of_gradients = c * (polynomial.y + c * polynomial.z);
#if CLIP_NORM
    return polynomial.x + select(of_gradients, 0.0, c == 0.0 && wo_bad(record) == 0.0);
#else
    return polynomial.x + of_gradients;
#endif
}

fn wo_totals_at(record: u32, c: f32) -> array<f32, wo_TOTALS> {
    var totals = array<f32, wo_TOTALS>();
    for (var k = 0u; k < wo_TOTALS; k++) {
        totals[k] = wo_value_at(record, wo_totals[record * wo_TOTALS + k].xyz, c);
    }
    return totals;
}

@compute @workgroup_size(wo_FINAL_LANES)
fn wo_finalize(@builtin(local_invocation_index) lane: u32) {
    wo_reduce_all(lane);
#if CONCLUDES
    storageBarrier();
    wo_conclude_all(lane);
#endif
}

// The totals without the decisions: the first half of a step that the caller records in two halves.
@compute @workgroup_size(wo_FINAL_LANES)
fn wo_reduce(@builtin(local_invocation_index) lane: u32) {
    wo_reduce_all(lane);
}

#if PARTIAL
// After a micro-batch: the accumulators of the named tensors hold gradients.
@compute @workgroup_size(wo_FINAL_LANES)
fn wo_wait(@builtin(local_invocation_index) lane: u32) {
    for (var t = lane; t < arrayLength(&wo_tensors); t += wo_FINAL_LANES) {
        if wo_is_named(t) {
            wo_put_number(t, wo_WAITING, 1.0);
        }
    }
}
#endif

// The decisions without the totals: the second half of such a step.
@compute @workgroup_size(wo_FINAL_LANES)
fn wo_conclude(@builtin(local_invocation_index) lane: u32) {
#if CONCLUDES
    wo_conclude_all(lane);
#endif
}
