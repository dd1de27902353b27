fn pair(x: f32, y: f32) -> Pair {
    let left = 1.0 - x;
    let up = y - x * x;
    let steep = 200.0 * up;
    return Pair(left * left + 100.0 * up * up, -2.0 * left - steep * 2.0 * x, steep);
}
