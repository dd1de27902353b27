// The inputs of the kernels of a low-rank model: the places in the point at which each entry's factor rows begin, and the model's value.

struct Shape {
    entries: u32,
    rank: u32,
    factors: u32, // the count of factors: two for a matrix, three for a tensor
    scale: f32,   // multiplies an entry's term and slope
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> point: array<f32>;
@group(0) @binding(2) var<storage, read> places: array<u32>;

fn model(entry: u32) -> f32 {
    let at = entry * shape.factors;
    var sum = 0.0;
    for (var k = 0u; k < shape.rank; k++) {
        var product = point[places[at] + k];
        for (var d = 1u; d < shape.factors; d++) {
            product *= point[places[at + d] + k];
        }
        sum += product;
    }
    return sum;
}
