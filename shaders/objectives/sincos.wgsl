// Cosine and sine to the last bits of f32 for angles of some thousand turns: WGSL allows the builtins an absolute error of
// 2^-11. Multiples of a quarter turn, in three parts, bring the angle to within an eighth of a turn; Taylor polynomials
// then give both functions.
fn cos_sin(angle: f32) -> vec2<f32> {
    let quarters = round(angle * 0.63661975);
    let r = ((angle - quarters * 1.5703125) - quarters * 4.837513e-4) - quarters * 7.54979e-8;
    let z = r * r;
    let s = r + r * z * (-1.6666667e-1 + z * (8.333333e-3 + z * (-1.9841270e-4 + z * 2.7557319e-6)));
    let c = 1.0 - 0.5 * z + z * z * (4.1666668e-2 + z * (-1.3888889e-3 + z * (2.4801587e-5 - z * 2.7557319e-7)));
    let quadrant = i32(quarters) & 3;
    let turned = select(vec2(c, s), vec2(-s, c), (quadrant & 1) == 1);
    return select(turned, -turned, (quadrant & 2) == 2);
}
