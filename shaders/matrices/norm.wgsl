// The squared norm of every matrix Y: the sum of the diagonal of A = YᵀY.

var<workgroup> wo_shares: array<f32, 256>;

@compute @workgroup_size(256)
fn wo_norm(thread: wo_Thread) {
    let number = wo_workgroup(thread);
    if number >= wo_work.count {
        return;
    }
    let m = wo_matrices[wo_work.matrices + number];
    var sum = 0.0;
    for (var i = wo_work.begin + thread.lane; i < min(m.columns, wo_work.end); i += 256u) {
        sum += wo_left[m.gram + (i - wo_work.begin) * m.columns + i];
    }
    wo_shares[thread.lane] = sum;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread.lane < half {
            wo_shares[thread.lane] += wo_shares[thread.lane + half];
        }
    }
    if thread.lane == 0u {
        wo_norms[number] = wo_shares[0] + select(0.0, wo_norms[number], wo_has(wo_ADDS));
    }
}
