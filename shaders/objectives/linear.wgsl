// Logits: the last layer's sums as they are.
fn activate(x: vec4<f32>) -> vec4<f32> {
    return x;
}
