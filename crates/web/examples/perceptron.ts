// A perceptron (2 → 32 → 1, two spirals) in plain WebGPU. The page's kernels write the gradients; optimizer.step records into the same encoder.
import { Optimizer } from "wgpu-optim-web";
const [POINTS, HIDDEN] = [512, 32];
const COUNT = 4 * HIDDEN + 4; // w1 (2 × HIDDEN), b1, w2, b2 and padding to whole vec4s

/** One thread a point: forward, then its part of every gradient into its own row. A second kernel adds the rows. */
const WGSL = `
const H = ${HIDDEN}u; const N = ${POINTS}u; const C = ${COUNT}u;
@group(0) @binding(0) var<storage, read> points: array<vec4<f32>>;    // x, y, label
@group(0) @binding(1) var<storage, read> p: array<f32>;
@group(0) @binding(2) var<storage, read_write> rows: array<f32>;      // N rows of C
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(4) var<storage, read_write> losses: array<f32>;

@compute @workgroup_size(64) fn backward(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = id.x; let x = points[n];
    var hidden: array<f32, H>; var logit = p[4u * H];
    for (var i = 0u; i < H; i++) {
        hidden[i] = tanh(p[2u * i] * x.x + p[2u * i + 1u] * x.y + p[2u * H + i]);
        logit += p[3u * H + i] * hidden[i];
    }
    let chance = 1.0 / (1.0 + exp(-logit));
    let delta = (chance - x.z) / f32(N);
    losses[n] = -log(max(select(1.0 - chance, chance, x.z > 0.5), 1e-7)) / f32(N);
    for (var i = 0u; i < H; i++) {
        let back = delta * p[3u * H + i] * (1.0 - hidden[i] * hidden[i]);
        rows[n * C + 2u * i] = back * x.x;
        rows[n * C + 2u * i + 1u] = back * x.y;
        rows[n * C + 2u * H + i] = back;
        rows[n * C + 3u * H + i] = delta * hidden[i];
    }
    rows[n * C + 4u * H] = delta;
}

@compute @workgroup_size(64) fn add(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x > 4u * H { return; } var sum = 0.0;
    for (var n = 0u; n < N; n++) { sum += rows[n * C + id.x]; }
    gradient[id.x] = sum;
}`;

/** Trains for some steps, and returns the mean losses before and after. */
export async function train(device: GPUDevice, steps = 600): Promise<[number, number]> {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
    const buffer = (values: Float32Array<ArrayBuffer>) => {
        const made = device.createBuffer({ size: values.byteLength, usage });
        device.queue.writeBuffer(made, 0, values);
        return made;
    };
    const spirals = Array.from({ length: POINTS }, (_, i) => {
        const [arm, turn] = [i % 2, 3 * Math.sqrt(i / POINTS)];
        return [(turn / 3) * Math.cos(2 * turn + arm * Math.PI), (turn / 3) * Math.sin(2 * turn + arm * Math.PI), arm, 0];
    });
    const start = Float32Array.from({ length: COUNT }, (_, i) => Math.sin(12.9898 * (i + 1)) * (i < 2 * HIDDEN ? 2 : 0.3));
    const points = buffer(Float32Array.from(spirals.flat()));
    const [params, rows, gradient, losses] = [buffer(start), ...[POINTS * COUNT, COUNT, POINTS].map((n) => buffer(new Float32Array(n)))];

    // The tensors share two buffers.
    const range = (buffer: GPUBuffer, at: number) => ({ buffer, offset: 4 * HIDDEN * at });
    const tensor = (name: string, shape: number[], at: number) => ({ name, shape, param: range(params!, at), grad: range(gradient!, at) });
    const optimizer = await Optimizer.create(device, {
        rule: "adamw",
        lr: 0.02,
        schedule: `cosine:total=${steps},warmup=20`,
        clip: { globalNorm: 1 },
        tensors: [tensor("w1", [HIDDEN, 2], 0), tensor("b1", [HIDDEN], 2), tensor("w2", [HIDDEN], 3), tensor("b2", [1], 4)],
    });
    const module = device.createShaderModule({ code: WGSL });
    const entries = [points, params, rows, gradient, losses].map((buffer, binding) => ({ binding, resource: { buffer: buffer! } }));
    const visit = (i: number) => ({ binding: i, visibility: GPUShaderStage.COMPUTE, buffer: { type: i < 2 ? "read-only-storage" : "storage" } as const });
    const bindings = device.createBindGroupLayout({ entries: [0, 1, 2, 3, 4].map(visit) });
    const layout = device.createPipelineLayout({ bindGroupLayouts: [bindings] });
    const pipeline = (entryPoint: string) => device.createComputePipeline({ layout, compute: { module, entryPoint } });
    const [backward, add, group] = [pipeline("backward"), pipeline("add"), device.createBindGroup({ layout: bindings, entries })];
    const staging = device.createBuffer({ size: 4 * POINTS, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const loss = async () => {
        const encoder = device.createCommandEncoder();
        encoder.copyBufferToBuffer(losses!, 0, staging, 0, 4 * POINTS);
        device.queue.submit([encoder.finish()]);
        await staging.mapAsync(GPUMapMode.READ);
        const sum = new Float32Array(staging.getMappedRange()).reduce((sum, one) => sum + one, 0);
        staging.unmap();
        return sum;
    };
    let first = 0;
    for (let at = 0; at < steps; at++) {
        const encoder = device.createCommandEncoder();
        const pass = encoder.beginComputePass();
        pass.setBindGroup(0, group);
        pass.setPipeline(backward);
        pass.dispatchWorkgroups(POINTS / 64);
        pass.setPipeline(add);
        pass.dispatchWorkgroups(Math.ceil(COUNT / 64));
        pass.end();
        optimizer.step(encoder); // records only
        device.queue.submit([encoder.finish()]);
        if (at === 0) first = await loss();
    }
    const last = await loss();
    optimizer.destroy();
    return [first, last];
}
