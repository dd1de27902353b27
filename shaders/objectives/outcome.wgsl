// The mean loss, the count of correct rows, and the slope of the mean loss along each of the last layer's sums, times the loss
// scale. The text of the loss defines the contribution of a row. One workgroup walks the batch and adds in a fixed tree.

struct Outcome {
    loss: f32,
    correct: u32,
}

const LANES = 256u;

@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> wanted: array<u32>;
@group(0) @binding(4) var<storage, read_write> delta: array<f32>;
@group(0) @binding(5) var<storage, read_write> outcomes: array<Outcome>;
@group(0) @binding(6) var<storage, read> loss_scale: array<f32>;

var<workgroup> tree: array<Outcome, LANES>;

fn add(a: Outcome, b: Outcome) -> Outcome {
    return Outcome(a.loss + b.loss, a.correct + b.correct);
}

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
    var own = Outcome(0.0, 0u);
    for (var row = lane; row < batch.rows; row += LANES) {
        own = add(own, row_outcome(row));
    }
    tree[lane] = own;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if (lane < half) {
            tree[lane] = add(tree[lane], tree[lane + half]);
        }
        workgroupBarrier();
    }
    if (lane == 0u) {
        outcomes[batch.outcome] = Outcome(tree[0].loss / f32(batch.rows), tree[0].correct);
    }
}
