// Sums of blocks of 4096 numbers in a fixed tree. The host dispatches the kernel again over its own sums until one sum is left.

const LANES = 256u;
const BLOCK = 4096u;

@group(0) @binding(0) var<uniform> count: u32;
@group(0) @binding(1) var<storage, read> terms: array<f32>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

var<workgroup> tree: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let end = min(count, (group.x + 1u) * BLOCK);
    var own = 0.0;
    for (var i = group.x * BLOCK + lane; i < end; i += LANES) {
        own += terms[i];
    }
    tree[lane] = own;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if (lane < half) {
            tree[lane] += tree[lane + half];
        }
        workgroupBarrier();
    }
    if (lane == 0u) {
        sums[group.x] = tree[0];
    }
}
