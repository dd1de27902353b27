// Bias corrections at a step count that only the GPU knows.

// 1 - e^x for x up to 0, to about one unit in the last place. A driver's own exp may be off by 3 + 2|x| units, and 1 - e^x would lose more.
fn wo_one_minus_exp(x: f32) -> f32 {
    let bounded = max(x, -80.0);
    let k = round(bounded * 1.442695);
    // ln 2 in two parts: the first has few bits, so that its product is exact.
    let r = (bounded - k * 0.693145751953125) - k * 1.4286068e-6;
    let series = r * (1.0 + r * (0.5 + r * (0.16666667 + r * (0.041666668
        + r * (0.0083333338 + r * (0.0013888889 + r * (0.00019841270 + r * 0.000024801588)))))));
    let scale = bitcast<f32>(u32(i32(k) + 127) << 23u);
    return (1.0 - scale) - scale * series;
}

// 1 - β^n from ln β.
fn wo_bias_correction(ln_beta: f32, n: f32) -> f32 {
    return wo_one_minus_exp(n * ln_beta);
}
