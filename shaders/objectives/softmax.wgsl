// Softmax cross-entropy: one sum per class.
fn row_outcome(row: u32) -> Outcome {
    let at = row * layer.outputs;
    let label = wanted[row];
    var best = 0u;
    for (var c = 1u; c < layer.outputs; c++) {
        best = select(best, c, logits[at + c] > logits[at + best]);
    }
    let top = logits[at + best]; // keeps exp in range
    var total = 0.0;
    for (var c = 0u; c < layer.outputs; c++) {
        total += exp(logits[at + c] - top);
    }
    for (var c = 0u; c < layer.outputs; c++) {
        let probability = exp(logits[at + c] - top) / total;
        delta[at + c] = (probability - select(0.0, 1.0, c == label)) / f32(batch.rows) * loss_scale[0];
    }
    return Outcome(log(total) - (logits[at + label] - top), select(0u, 1u, best == label));
}
