fn term_of(r: f32) -> f32 {
    return r * r;
}

fn slope_of(r: f32) -> f32 {
    return r + r;
}
