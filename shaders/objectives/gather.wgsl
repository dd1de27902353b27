// Copies a batch's rows from the data, all of which lie on the GPU, in the epoch's order.

struct Plan {
    train: u32, // the count of rows that are shuffled
    key: u32,
    epoch_low: u32, // the low twelve bits of the epoch
    epoch_high: u32,
}

@group(0) @binding(2) var<uniform> plan: Plan;
@group(0) @binding(3) var<storage, read> inputs: array<f32>;
@group(0) @binding(4) var<storage, read> labels: array<u32>;
@group(0) @binding(5) var<storage, read_write> gathered: array<f32>;
@group(0) @binding(6) var<storage, read_write> wanted: array<u32>;

fn source_row(row: u32) -> u32 {
    let position = batch.first + row;
    if (batch.shuffled == 0u) {
        return position;
    }
    let epoch = plan.epoch_low | (plan.epoch_high << 12u);
    return wo_place(position, plan.train, wo_draw(plan.key, epoch));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y;
    let feature = group.x * 64u + lane;
    if (feature >= layer.inputs) {
        return;
    }
    let from_row = source_row(row);
    gathered[row * layer.inputs + feature] = inputs[from_row * layer.inputs + feature];
    if (feature == 0u) {
        wanted[row] = labels[from_row];
    }
}
