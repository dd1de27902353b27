// Logits: the sums of the last layer, unchanged.
fn activate(x: vec4<f32>) -> vec4<f32> {
    return x;
}
