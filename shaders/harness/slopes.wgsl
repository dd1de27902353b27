// Computes the slopes of the probes from the losses in their slots.

fn wo_slopes(h: Hyper) -> array<f32, PROBES> {
    var slopes = array<f32, PROBES>();
    for (var j = 0u; j < PROBES; j++) {
        slopes[j] = (wo_losses[(j + 1u) * wo_LOSS_STRIDE] - wo_losses[0]) / h.sigma;
    }
    return slopes;
}

// Whether a loss is not finite. If so, the step is skipped.
fn wo_losses_lost() -> bool {
    var lost = false;
    for (var j = 0u; j <= PROBES; j++) {
        lost = lost || (bitcast<u32>(wo_losses[j * wo_LOSS_STRIDE]) & 0x7f800000u) == 0x7f800000u;
    }
    return lost;
}
