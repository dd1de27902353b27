// The sums, second half, and what is decided from them, in one workgroup: segments of spans, a thread a tensor, then all tensors.
//
// wo_totals is the seam between the halves: record 0 holds the totals over everything, each as a polynomial 1, c, c² in the clip
// factor c; these may be added to those of another optimizer or another machine. The tensors' own follow.

var<workgroup> wo_lanes: array<array<vec3<f32>, wo_FINAL_LANES>, TOTALS>;

fn wo_add_rows(first: u32, count: u32) -> array<f32, SUMS> {
    var sums = array<f32, SUMS>();
    for (var row = first; row < first + count; row++) {
        for (var k = 0u; k < SUMS; k++) {
            sums[k] += wo_partials[row * SUMS + k];
        }
    }
    return sums;
}

fn wo_add_segments(lane: u32) {
    for (var i = lane; i < arrayLength(&wo_segments); i += wo_FINAL_LANES) {
        let segment = wo_segments[i];
        let sums = wo_add_rows(segment.first, segment.count);
        for (var k = 0u; k < SUMS; k++) {
            wo_partials[segment.row * SUMS + k] = sums[k];
        }
    }
}

fn wo_add_tensors(lane: u32) {
    var all = array<vec3<f32>, TOTALS>();
    for (var t = lane; t < arrayLength(&wo_tensors); t += wo_FINAL_LANES) {
        let tensor = wo_tensors[t];
        let h = wo_hyper(tensor.group, wo_control.applied);
        let own = total(h, wo_add_rows(tensor.first, tensor.count), tensor.elements);
        for (var k = 0u; k < TOTALS; k++) {
            wo_totals[(t + 1u) * TOTALS + k] = vec4(own[k], 0.0);
            all[k] += own[k];
        }
    }
    for (var k = 0u; k < TOTALS; k++) {
        wo_lanes[k][lane] = all[k];
    }
    workgroupBarrier();
    for (var half = wo_FINAL_LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            for (var k = 0u; k < TOTALS; k++) {
                wo_lanes[k][lane] += wo_lanes[k][lane + half];
            }
        }
        workgroupBarrier();
    }
    if lane == 0u {
        for (var k = 0u; k < TOTALS; k++) {
            wo_totals[k] = vec4(wo_lanes[k][0], 0.0);
        }
    }
}

fn wo_total_of(record: u32) -> array<f32, TOTALS> {
    var totals = array<f32, TOTALS>();
    for (var k = 0u; k < TOTALS; k++) {
        let polynomial = wo_totals[record * TOTALS + k];
        totals[k] = polynomial.x + polynomial.y + polynomial.z;
    }
    return totals;
}

fn wo_decide_tensors(lane: u32) {
    let totals = wo_total_of(0u);
    if lane == 0u && wo_CAN_SKIP {
        wo_control.skip = select(0u, 1u, wo_refuse(totals));
    }
    for (var t = lane; t < arrayLength(&wo_tensors); t += wo_FINAL_LANES) {
        let h = wo_hyper(wo_tensors[t].group, wo_control.applied);
        wo_store_decision(t, decide(h, totals, wo_total_of(t + 1u)));
    }
}

@compute @workgroup_size(wo_FINAL_LANES)
fn wo_reduce(@builtin(local_invocation_index) lane: u32) {
    wo_add_segments(lane);
    storageBarrier();
    wo_add_tensors(lane);
}

@compute @workgroup_size(wo_FINAL_LANES)
fn wo_decide(@builtin(local_invocation_index) lane: u32) {
    wo_decide_tensors(lane);
}

@compute @workgroup_size(wo_FINAL_LANES)
fn wo_finalize(@builtin(local_invocation_index) lane: u32) {
    wo_add_segments(lane);
    storageBarrier();
    wo_add_tensors(lane);
    storageBarrier();
    wo_decide_tensors(lane);
}
