// Binary cross-entropy: the sigmoid of the one sum is the probability of the second class.
fn row_outcome(row: u32) -> Outcome {
    let z = logits[row];
    let label = wanted[row];
    let small = exp(-abs(z)); // at most 1
    let probability = select(1.0, small, z < 0.0) / (1.0 + small);
    delta[row] = (probability - f32(label)) / f32(batch.rows) * loss_scale[0];
    let wrong = select(z, -z, label == 1u); // how far the sum points to the other class
    return Outcome(select(0.0, wrong, wrong > 0.0) + log(1.0 + small), select(0u, 1u, (z > 0.0) == (label == 1u)));
}
