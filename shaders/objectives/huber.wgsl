// Huber's loss with δ = 1. A NaN fails the comparison and stays a NaN.
fn term_of(r: f32) -> f32 {
    return select(0.5 * r * r, abs(r) - 0.5, abs(r) > 1.0);
}

fn slope_of(r: f32) -> f32 {
    return select(r, sign(r), abs(r) > 1.0);
}
