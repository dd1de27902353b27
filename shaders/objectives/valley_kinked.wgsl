fn pair(x: f32, y: f32) -> Pair {
    let left = 1.0 - x;
    let up = y - x * x;
    let steep = 10.0 * sign(up);
    return Pair(abs(left) + 10.0 * abs(up), -sign(left) - steep * 2.0 * x, steep);
}
