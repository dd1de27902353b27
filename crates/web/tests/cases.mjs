// What the package must do, on any implementation of WebGPU: node.mjs runs these cases on Dawn, chromium.mjs in a page.
//
// A case gets `t`: the package (`t.wo`), devices (`t.device()`), files (`t.file(name)` resolves to bytes), and the checks below.

const STORAGE = 0x80;
const COPY_SRC = 0x4;
const COPY_DST = 0x8;
const OWN = STORAGE | COPY_SRC | COPY_DST;

/** Numbers that every run has: an xorshift that Rust's `parity` example repeats. */
export function numbers(seed, count, scale = 1) {
    let x = (seed * 2654435761 + 12345) >>> 0 || 1;
    return Float32Array.from({ length: count }, () => {
        x ^= x << 13;
        x >>>= 0;
        x ^= x >>> 17;
        x ^= x << 5;
        x >>>= 0;
        return Math.fround((x / 2 ** 31 - 1) * scale);
    });
}

export class Checks {
    ok(value, text) {
        if (!value) throw new Error(text ?? "is not true");
    }
    equal(a, b, text = "") {
        if (!Object.is(a, b)) throw new Error(`${text} ${a} is not ${b}`);
    }
    close(a, b, by, text = "") {
        if (!(Math.abs(a - b) <= by)) throw new Error(`${text} ${a} is not within ${by} of ${b}`);
    }
    bits(a, b, text = "") {
        this.equal(a.length, b.length, `${text}: the length`);
        const [x, y] = [a, b].map((array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
        const at = x.findIndex((byte, i) => byte !== y[i]);
        if (at >= 0) throw new Error(`${text}: element ${Math.floor(at / a.BYTES_PER_ELEMENT)} differs: ${a[at >> 2]} and ${b[at >> 2]}`);
    }
    async fails(run, ...words) {
        let error;
        try {
            await run();
        } catch (thrown) {
            error = thrown;
        }
        if (error === undefined) throw new Error(`nothing was thrown, expected: ${words.join(", ")}`);
        if (!(error instanceof Error)) throw new Error(`what was thrown is no Error: ${error}`);
        for (const word of words) {
            if (!`${error.code ?? ""} ${error.message}`.includes(word)) throw new Error(`\`${error.code}: ${error.message}\` has no \`${word}\``);
        }
    }
}

function buffer(device, values, extra = 0) {
    const size = values.byteLength + extra;
    const made = device.createBuffer({ size: Math.ceil(size / 16) * 16, usage: OWN });
    device.queue.writeBuffer(made, 0, values.buffer, values.byteOffset, values.byteLength);
    return made;
}

async function read(device, source, offset = 0, size = source.size - offset) {
    const staging = device.createBuffer({ size, usage: 0x1 | COPY_DST });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(source, offset, staging, 0, size);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(1);
    const bytes = staging.getMappedRange().slice(0);
    staging.destroy();
    return new Float32Array(bytes);
}

/** AdamW in double precision. */
function adamw(p, g, steps, { lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weightDecay = 1e-2 } = {}) {
    const [q, m, v] = [Float64Array.from(p), new Float64Array(p.length), new Float64Array(p.length)];
    for (let t = 1; t <= steps; t++) {
        for (let i = 0; i < q.length; i++) {
            m[i] = beta1 * m[i] + (1 - beta1) * g[i];
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2;
            const denominator = Math.sqrt(v[i] / (1 - beta2 ** t)) + eps;
            q[i] -= lr * weightDecay * q[i] + (lr * m[i]) / (1 - beta1 ** t) / denominator;
        }
    }
    return q;
}

/** A pass that writes `value` to every element of a buffer. */
function fill(device, target, value) {
    const code = `@group(0) @binding(0) var<storage, read_write> x: array<f32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < arrayLength(&x) { x[id.x] = ${value}; }
        }`;
    const pipeline = device.createComputePipeline({ layout: "auto", compute: { module: device.createShaderModule({ code }), entryPoint: "main" } });
    const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer: target } }] });
    return (encoder) => {
        const pass = encoder.beginComputePass();
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(Math.ceil(target.size / 256));
        pass.end();
    };
}

/** The optimizer of the parity cases and of Rust's `parity` example. */
const PARITY = {
    adamw: { rule: "adamw", lr: 3e-3, weightDecay: 0.1, clip: { globalNorm: 1 }, ema: { decay: 0.9 } },
    vradam: { rule: "vradam", lr: 3e-3, weightDecay: 0.1 },
    "bf16-sr": { rule: "adamw", lr: 3e-3, weightDecay: 0.1, storage: "bf16-sr", seed: 7 },
    "8bit": { rule: "lion", lr: 3e-3, weightDecay: 0.1, storage: "bf16-split,8bit" },
};
const SHAPES = { w: [70, 30], b: [33] };
const STEPS = 5;

async function parity(t, device, name) {
    const tensors = Object.entries(SHAPES).map(([name, shape]) => ({ name, shape }));
    const optimizer = await t.wo.Optimizer.create(device, { ...PARITY[name], tensors });
    const count = (shape) => shape.reduce((a, b) => a * b, 1);
    Object.entries(SHAPES).forEach(([name, shape], i) => optimizer.writeParam(name, numbers(i + 1, count(shape))));
    const step = (at) => {
        Object.entries(SHAPES).forEach(([name, shape], i) => optimizer.writeGrad(name, numbers(100 * at + i, count(shape), 3)));
        optimizer.step();
    };
    return { optimizer, step };
}

/** The arrays of a checkpoint, as bytes by name. */
export function arrays(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const length = Number(view.getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
    const { __metadata__: metadata, ...tensors } = header;
    const slice = ({ data_offsets: [start, end] }) => bytes.slice(8 + length + start, 8 + length + end);
    return { metadata, arrays: Object.fromEntries(Object.entries(tensors).map(([name, about]) => [name, slice(about)])) };
}

export const cases = {
    async "a page's own buffers are stepped, and the bytes around them stay"(t) {
        const device = await t.device();
        const [p, g] = [numbers(1, 64 + 40), numbers(2, 64 + 40)];
        const [param, grad] = [buffer(device, p), buffer(device, g)];
        // 20 elements from byte 64 on, and 7 elements from byte 256 on: whole vec4s belong to a tensor.
        const range = (buffer, offset, size) => ({ buffer, offset, size });
        const optimizer = await t.wo.Optimizer.create(device, {
            rule: "adamw",
            lr: 0.01,
            tensors: [
                { name: "a", shape: [4, 5], param: range(param, 64, 80), grad: range(grad, 64, 80) },
                { name: "b", shape: [7], param: { buffer: param, offset: 256 }, grad: { buffer: grad, offset: 256 } },
            ],
        });
        for (let i = 0; i < 3; i++) {
            const encoder = device.createCommandEncoder();
            optimizer.step(encoder);
            device.queue.submit([encoder.finish()]);
        }
        const now = await read(device, param);
        const expected = adamw(p, g, 3, { lr: 0.01 });
        for (let i = 0; i < p.length; i++) {
            const inside = (i >= 16 && i < 36) || (i >= 64 && i < 71);
            if (inside) t.close(now[i], expected[i], 1e-6, `element ${i}`);
            else if (i !== 71) t.equal(now[i], p[i], `element ${i} is outside`);
        }
        t.bits(await optimizer.readParam("b"), now.slice(64, 71), "the optimizer reads what lies there");
        t.equal(optimizer.param("a").offset, 64);
        t.ok(optimizer.param("a").buffer === param, "the range names the page's own buffer");
        t.equal(await optimizer.readStepCount(), 3);
        optimizer.destroy();
        t.bits(await read(device, grad), g, "the gradients stay, and the page's buffers outlive the optimizer");
    },

    async "a step is recorded behind the page's own pass, and two steps in one encoder are two"(t) {
        const device = await t.device();
        const [param, grad] = [buffer(device, new Float32Array(1000).fill(0.5)), buffer(device, new Float32Array(1000))];
        const optimizer = await t.wo.Optimizer.create(device, { rule: "sgd", lr: 0.5, tensors: [{ name: "w", shape: [1000], param, grad }] });
        const encoder = device.createCommandEncoder();
        fill(device, grad, 0.25)(encoder);
        optimizer.step(encoder);
        fill(device, grad, -1)(encoder);
        optimizer.step(encoder);
        t.equal((await read(device, param))[0], 0.5, "nothing happens before the caller submits");
        device.queue.submit([encoder.finish()]);
        const now = await read(device, param);
        t.ok(now.slice(0, 1000).every((x) => x === 0.875), `0.875 everywhere, ${now[0]}`);
        t.equal(await optimizer.readStepCount(), 2);
    },

    async "the engine knows which recorded steps were submitted"(t) {
        const device = await t.device();
        // A step that names its gradients takes one of about a thousand slots, until it is finished.
        const grad = buffer(device, new Float32Array(4));
        const create = () => t.wo.Optimizer.create(device, { rule: "adamw", dynamicGradients: true, tensors: [{ name: "w", shape: [4], param: buffer(device, new Float32Array(4)) }] });
        const optimizer = await create();
        const submit = device.queue.submit;
        for (let turn = 0; turn < 4; turn++) {
            for (let i = 0; i < 5; i++) {
                const encoder = device.createCommandEncoder();
                for (let k = 0; k < 100; k++) optimizer.step(encoder, { w: grad });
                device.queue.submit([encoder.finish()]);
            }
            await device.queue.onSubmittedWorkDone();
            await new Promise((resolve) => setTimeout(resolve, 0));
        }
        t.ok(submit === device.queue.submit, "the queue is watched once");
        t.equal(await optimizer.readStepCount(), 2000, "more steps than may be unfinished");
        await optimizer.writeStepCount(5);
        t.equal(await optimizer.readStepCount(), 5);
        await t.fails(() => {
            for (let i = 0; i < 2000; i++) optimizer.step(undefined, { w: grad });
        }, "too-many-steps", "recorded steps are unfinished");
        const dropped = await create();
        dropped.step(device.createCommandEncoder(), { w: grad });
        await t.fails(() => dropped.writeStepCount(1), "usage", "finished");
    },

    async "gradients are named at a step"(t) {
        const device = await t.device();
        const [param, first, second] = [0.5, 1, -2].map((x) => buffer(device, new Float32Array(12).fill(x)));
        const tensors = [{ name: "w", shape: [12], param }];
        const optimizer = await t.wo.Optimizer.create(device, { rule: "sgd", lr: 0.25, tensors, dynamicGradients: true });
        optimizer.step(undefined, { w: first });
        const encoder = device.createCommandEncoder();
        optimizer.step(encoder, { w: second });
        device.queue.submit([encoder.finish()]);
        t.equal((await read(device, param))[0], 0.75);
        await t.fails(() => optimizer.step(undefined, { v: first }), "usage", "unknown tensor `v`");
        await t.fails(() => optimizer.step(undefined, { w: { buffer: first, offset: 16, size: 48 } }), "16 to 64");
    },

    async "the JavaScript API gives the bits of the Rust library"(t) {
        const device = await t.device();
        for (const name of Object.keys(PARITY)) {
            const native = arrays(await t.file(`${name}-${STEPS}.safetensors`));
            const { optimizer, step } = await parity(t, device, name);
            for (let at = 1; at <= STEPS; at++) step(at);
            const here = arrays(await optimizer.save());
            t.equal(Object.keys(here.arrays).sort().join(), Object.keys(native.arrays).sort().join(), name);
            for (const [array, bytes] of Object.entries(native.arrays)) t.bits(here.arrays[array], bytes, `${name}: ${array}`);
            optimizer.destroy();
        }
    },

    async "checkpoints go from the page to the Rust library and back"(t) {
        const device = await t.device();
        for (const name of Object.keys(PARITY)) {
            const { optimizer, step } = await parity(t, device, name);
            await optimizer.load(await t.file(`${name}-${STEPS}.safetensors`));
            for (let at = STEPS + 1; at <= 2 * STEPS; at++) step(at);
            const resumed = arrays(await optimizer.save());
            const native = arrays(await t.file(`${name}-${2 * STEPS}.safetensors`));
            for (const [array, bytes] of Object.entries(native.arrays)) t.bits(resumed.arrays[array], bytes, `${name}: ${array}`);
            await t.put?.(`${name}-page.safetensors`, await optimizer.save());
            optimizer.destroy();
        }
        const { optimizer } = await parity(t, device, "adamw");
        await t.fails(() => optimizer.load(new Uint8Array(20)), "checkpoint");
        await t.fails(async () => optimizer.load(await t.file(`vradam-${STEPS}.safetensors`)), "checkpoint", "vradam");
    },

    async "a buffer of another device is named"(t) {
        const [device, other] = [await t.device(), await t.device()];
        const [param, grad] = [buffer(device, numbers(1, 8)), buffer(other, numbers(2, 8))];
        const tensors = [{ name: "layer.weight", shape: [8], param, grad }];
        await t.fails(() => t.wo.Optimizer.create(device, { rule: "adamw", tensors }), "layer.weight", "gradients", "another device");
        const fine = [{ name: "w", shape: [8], param, grad: buffer(device, numbers(2, 8)) }];
        (await t.wo.Optimizer.create(device, { rule: "adamw", tensors: fine })).step();
    },

    async "tables that a page cannot address are an error, and no trap"(t) {
        const device = await t.device();
        const tensors = Array.from({ length: 400 }, (_, i) => ({ name: `w${i}`, shape: [2 ** 28] }));
        await t.fails(() => t.wo.Optimizer.create(device, { rule: "adamw", tensors }), "usage", "107374182400 elements", "several optimizers");
    },

    async "a lost device is an error of every call"(t) {
        const device = await t.device();
        const tensors = [{ name: "w", shape: [8] }];
        const optimizer = await t.wo.Optimizer.create(device, { rule: "adamw", tensors });
        const reading = optimizer.readParam("w").then(() => "read", (error) => error.code);
        device.destroy();
        await device.lost;
        t.ok(["read", "device-lost"].includes(await reading), "a read that was under way settles");
        await t.fails(() => optimizer.step(), "device-lost");
        await t.fails(() => optimizer.readParam("w"), "device-lost");
        await t.fails(() => optimizer.save(), "device-lost");
        await t.fails(() => t.wo.Optimizer.create(device, { rule: "adamw", tensors }), "device-lost");
        optimizer.destroy();
        const dead = await t.device();
        dead.destroy();
        await t.fails(() => t.wo.Optimizer.create(dead, { rule: "adamw", tensors }), "device-lost");
    },

    async "mistakes have our texts"(t) {
        const device = await t.device();
        const tensors = [{ name: "w", shape: [8] }];
        const create = (options) => () => t.wo.Optimizer.create(device, { rule: "adamw", tensors, ...options });
        await t.fails(create({ rule: "adamww" }), "usage", "unknown optimizer `adamww`, did you mean `adamw`?");
        await t.fails(create({ lr: -1 }), "adamw: lr is -1");
        await t.fails(create({ weigthDecay: 1 }), "weigth_decay", "did you mean `weight_decay`?");
        await t.fails(create({ lr: {} }), "setting `lr`");
        await t.fails(create({ tensors: [] }), "the builder has no tensor");
        await t.fails(create({ tensors: undefined }), "tensors");
        await t.fails(create({ tensors: [...tensors, ...tensors] }), "named twice");
        await t.fails(create({ tensors: [{ name: "w", shape: [1.5] }] }), "tensor `w`", "shape");
        await t.fails(create({ tensors: [{ name: "w", shape: [2], graad: 1 }] }), "graad");
        await t.fails(create({ clip: { norm: 1 } }), "unknown clip `norm`");
        await t.fails(create({ storage: "bf17" }), "bf17");
        await t.fails(create({ schedule: "cosin:steps=10" }), "did you mean `cosine`?");
        await t.fails(create({ groups: [{ name: "g", rule: "sgdd" }] }), "did you mean `sgd`?");
        await t.fails(create({ noDecay: "*.bais" }), "*.bais");
        await t.fails(() => t.wo.Optimizer.create({}, { rule: "adamw", tensors }), "GPUDevice");
        const small = buffer(device, numbers(1, 8));
        await t.fails(create({ tensors: [{ name: "w", shape: [9], param: small, grad: small }] }), "tensor `w`", "longer");
        const readOnly = device.createBuffer({ size: 32, usage: COPY_DST });
        await t.fails(create({ tensors: [{ name: "w", shape: [8], param: readOnly, grad: small }] }), "STORAGE");
        const optimizer = await create({})();
        await t.fails(() => optimizer.set({ lr: NaN }), "lr is NaN");
        await t.fails(() => optimizer.setClip(1), "without a clip");
        await t.fails(() => optimizer.readParam("v"), "unknown tensor `v`");
        await t.fails(() => optimizer.accumulate(), "without accumulate");
        await t.fails(() => optimizer.writeParam("w", new Float32Array(7)), "7 values were given");
        await t.fails(() => optimizer.step({}), "GPUCommandEncoder");
        optimizer.destroy();
        await t.fails(() => optimizer.step(), "destroyed");
        optimizer.destroy();
    },

    async "one buffer holds parameters and gradients of one width: other formats are served, other widths refused"(t) {
        const device = await t.device();
        const create = (storage, param, grad) => t.wo.Optimizer.create(device, { rule: "adamw", lr: 0.1, storage, tensors: [{ name: "w", shape: [40], param, grad }] });
        const made = () => device.createBuffer({ size: 512, usage: OWN });
        for (const storage of ["params=bf16-split,grads=f32", "params=f32,grads=bf16"]) {
            const shared = made();
            await t.fails(() => create(storage, shared, { buffer: shared, offset: 256 }), "tensor `w`", "two buffers");
        }
        for (const storage of ["params=bf16-split,grads=f16", "params=f16-master,grads=bf16", "params=bf16-sr,grads=bf16"]) {
            const shared = made();
            const states = [];
            for (const [param, grad] of [[shared, { buffer: shared, offset: 256 }], [made(), made()]]) {
                const optimizer = await create(storage, param, grad);
                optimizer.writeParam("w", numbers(3, 40));
                for (let at = 0; at < 3; at++) {
                    optimizer.writeGrad("w", numbers(4 + at, 40));
                    optimizer.step();
                }
                states.push(arrays(await optimizer.save()).arrays);
            }
            for (const [name, bytes] of Object.entries(states[0])) t.bits(bytes, states[1][name], `${storage}: ${name}`);
        }
    },

    async "groups, schedules and settings"(t) {
        const device = await t.device();
        const tensors = [{ name: "a", shape: [4] }, { name: "b", shape: [4], group: "slow" }, { name: "c.bias", shape: [4] }];
        const optimizer = await t.wo.Optimizer.create(device, {
            rule: "sgd",
            lr: 0.5,
            weightDecay: 0.1,
            noDecay: "*.bias",
            tensors,
            groups: [{ name: "slow", lr: 0.25 }],
        });
        t.equal(optimizer.lr("slow"), 0.25);
        t.equal(optimizer.settings("slow").weightDecay, 0.1);
        t.equal(optimizer.groups.length, 3);
        t.equal(optimizer.tensors[1].name, "b");
        for (const name of ["a", "b", "c.bias"]) {
            optimizer.writeParam(name, new Float32Array(4).fill(1));
            optimizer.writeGrad(name, new Float32Array(4).fill(1));
        }
        optimizer.step();
        const now = async (name) => (await optimizer.readParam(name))[0];
        t.close(await now("a"), 1 - 0.5 * 1.1, 1e-6);
        t.close(await now("b"), 1 - 0.25 * 1.1, 1e-6);
        t.close(await now("c.bias"), 1 - 0.5, 1e-6);
        optimizer.setLr(0);
        optimizer.step();
        t.close(await now("a"), 1 - 0.5 * 1.1, 1e-6);
        const scheduled = await t.wo.Optimizer.create(device, { rule: "sgd", lr: 1, schedule: "linear:start=1,end=0,steps=4", tensors: [{ name: "w", shape: [4] }], maximize: true });
        scheduled.writeGrad("w", new Float32Array(4).fill(1));
        for (let i = 0; i < 3; i++) scheduled.step();
        t.close((await scheduled.readParam("w"))[0], 1 + 0.75 + 0.5, 1e-6, "up the gradient at the scheduled rates");
    },

    async "groups have rules of their own"(t) {
        const device = await t.device();
        const tensors = [{ name: "a", shape: [4] }, { name: "b", shape: [4], group: "plain" }];
        const optimizer = await t.wo.Optimizer.create(device, {
            rule: "lion",
            lr: 0.25,
            weightDecay: 0,
            tensors,
            groups: [{ name: "plain", rule: "sgd", lr: 0.5 }],
            clip: { globalNorm: 2 },
        });
        t.equal(optimizer.settings("plain").lr, 0.5);
        for (const name of ["a", "b"]) optimizer.writeGrad(name, new Float32Array(4).fill(Math.SQRT2));
        optimizer.step();
        t.equal((await optimizer.readParam("a"))[0], -0.25);
        // The norm over both groups is 4, which the clip halves.
        t.close((await optimizer.readParam("b"))[0], -0.25 * Math.SQRT2, 1e-6);
        t.equal(await optimizer.readStepCount(), 1);
    },

    async "options around the rule"(t) {
        const device = await t.device();
        const tensors = [{ name: "w", shape: [4] }];
        const optimizer = await t.wo.Optimizer.create(device, {
            rule: "sgd",
            lr: 1,
            tensors,
            clip: { globalNorm: 1 },
            lossScale: { initial: 1024 },
            accumulate: { mean: 2 },
            ema: true,
            telemetry: true,
        });
        t.equal(optimizer.lossScale.size, 4);
        t.equal(await optimizer.readLossScale(), 1024);
        const grad = (x) => optimizer.writeGrad("w", new Float32Array(4).fill(1024 * x));
        grad(3);
        optimizer.accumulate();
        grad(1);
        optimizer.step();
        // The mean is 2 in four elements, a norm of 4, which the clip makes 1.
        t.close((await optimizer.readParam("w"))[0], -0.5, 1e-5);
        grad(Infinity);
        optimizer.step();
        t.equal(await optimizer.readSkipped(), 1);
        t.equal(await optimizer.readLossScale(), 512);
        t.equal(await optimizer.readStepCount(), 1);
        await device.queue.onSubmittedWorkDone();
        await new Promise((resolve) => setTimeout(resolve, 20));
        const stats = optimizer.stats();
        t.equal(stats.skipped, 1);
        t.equal(stats.tensors[0].name, "w");
        optimizer.setClip(2);
        optimizer.swapEma();
        await t.fails(() => optimizer.step(), "average");
        optimizer.swapEma();
        t.ok(optimizer.stateNames("w").includes("ema"));
        t.ok(optimizer.memory.some(({ role, owner, bytes }) => owner === "optimizer" && bytes > 0 && role.length > 0));
        t.ok(optimizer.dispatches >= 2);
    },

    async "reads and steps go on side by side"(t) {
        const device = await t.device();
        const optimizer = await t.wo.Optimizer.create(device, { rule: "sgd", lr: 1, tensors: [{ name: "w", shape: [4] }] });
        optimizer.writeGrad("w", new Float32Array(4).fill(1));
        const reads = [];
        for (let i = 0; i < 4; i++) {
            optimizer.step();
            reads.push(optimizer.readParam("w"), optimizer.save());
        }
        const values = (await Promise.all(reads)).filter((one) => one instanceof Float32Array).map((one) => one[0]);
        t.equal(values.join(), "-1,-2,-3,-4");
    },

    async "a rule of one's own"(t) {
        const device = await t.device();
        const wgsl = `//! setting lr = 0.1 (0..)
            struct Hyper { lr: f32 }
            fn update(h: Hyper, d: Decision, p: vec4<f32>, g: vec4<f32>, s: ptr<function, State>) -> vec4<f32> {
                return -h.lr * sign(g);
            }`;
        const create = (wgsl, more = {}) => t.wo.Optimizer.create(device, { rule: { name: "sign", wgsl }, tensors: [{ name: "w", shape: [5] }], ...more });
        await t.fails(() => create("fn update() -> f32 { return 1; "), "shader", "sign:1");
        await t.fails(() => create(wgsl, { rate: 1 }), "unknown setting of sign `rate`", "lr");
        const optimizer = await create(wgsl, { lr: 0.5 });
        optimizer.writeGrad("w", Float32Array.of(2, -3, 0, 1, -1));
        optimizer.step();
        t.equal([...(await optimizer.readParam("w"))].join(), "-0.5,0.5,0,-0.5,0.5");
        const bytes = await optimizer.save();
        await (await create(wgsl, { lr: 0.5 })).load(bytes);
    },

    async "rules that evaluate inside a step"(t) {
        const device = await t.device();
        const grad = new Float32Array(8).fill(0.5);
        const sadam = await t.wo.Optimizer.create(device, { rule: "sadam", tensors: [{ name: "w", shape: [8] }] });
        sadam.writeGrad("w", grad);
        await t.fails(() => sadam.step(), "usage");
        const asked = [];
        const losses = buffer(device, Float32Array.of(1, 1.01, 1.02));
        const encoder = device.createCommandEncoder();
        sadam.stepWith(encoder, (request) => {
            asked.push(request.kind);
            if (request.kind === "loss") encoder.copyBufferToBuffer(losses, 4 * request.slot, request.to.buffer, request.to.offset, 4);
        });
        device.queue.submit([encoder.finish()]);
        t.equal(asked.join(), "gradient,loss,loss,loss");
        t.ok((await sadam.readParam("w"))[0] < 0);
        await t.fails(
            () => sadam.stepWith(device.createCommandEncoder(), () => {
                throw new Error("mine");
            }),
            "mine",
        );
        await t.fails(() => sadam.stepWith(device.createCommandEncoder(), () => sadam.lr()), "usage");
        const flow = await t.wo.Optimizer.create(device, { rule: "flowadam", integrator: "dopri5", warmup: 1, tensors: [{ name: "w", shape: [8] }] });
        flow.writeGrad("w", grad);
        let evaluations = 0;
        for (let i = 0; i < 3; i++) {
            const step = flow.stepWithSubmits(async () => {
                evaluations++;
                await Promise.resolve();
            });
            await t.fails(() => flow.step(), "usage", "await");
            await step;
        }
        t.ok(evaluations >= 3 && (await flow.readStepCount()) === 3);
    },

    async "row sets: masks, fresh rows, moves"(t) {
        const device = await t.device();
        const optimizer = await t.wo.Optimizer.create(device, {
            rule: "adamw",
            lr: 0.1,
            weightDecay: 0,
            tensors: [{ name: "centres", shape: [4, 2] }, { name: "colours", shape: [4, 3] }],
            rowSets: [{ name: "splats", tensors: ["centres", "colours"], capacity: 8, mask: true }],
        });
        optimizer.writeMask("splats", Uint32Array.of(1, 0, 0, 1));
        optimizer.writeGrad("colours", new Float32Array(12).fill(1));
        optimizer.step();
        let colours = await optimizer.readParam("colours");
        t.ok(colours[0] < 0 && colours[3] === 0 && colours[11] < 0);
        const indices = buffer(device, new Float32Array(Uint32Array.of(3, 3, 0, 1, 0xffffffff).buffer));
        optimizer.remap("splats", indices, 5);
        t.equal(optimizer.rowCount("splats"), 5);
        colours = await optimizer.readParam("colours");
        t.equal(colours.length, 15);
        t.ok(colours[0] < 0 && colours[3] < 0 && colours[9] === 0 && colours[12] === 0);
        optimizer.resetStates(["colours"]);
        t.equal((await optimizer.readState("colours", "m"))[0], 0);
        t.ok(optimizer.mask("splats").size > 0);
    },

    async "the example learns two spirals"(t) {
        const { train } = await import("../dist/examples/perceptron.js");
        const [first, last] = await train(await t.device(), 400);
        t.ok(first > 0.5 && last < 0.3, `the loss went from ${first} to ${last}`);
    },

    async "the types list the settings of every rule"(t) {
        const types = new TextDecoder().decode(await t.file("options.d.ts"));
        const listed = types.slice(types.indexOf("interface Settings"), types.indexOf("interface CustomRule"));
        const all = new Set((await t.wo.rules()).flatMap((rule) => rule.settings.map((setting) => setting.name)));
        for (const name of all) t.ok(new RegExp(`\\b${name}\\?:`).test(listed), `Settings lacks ${name}`);
        for (const [, name] of listed.matchAll(/^\s+(\w+)\?:/gm)) t.ok(all.has(name), `no rule has ${name}`);
        for (const { name, settings } of await t.wo.rules()) {
            const device = await t.device();
            const required = Object.fromEntries(settings.filter((s) => s.default === undefined).map((s) => [s.name, 0.5]));
            const optimizer = await t.wo.Optimizer.create(device, { rule: name, ...required, tensors: [{ name: "w", shape: [5] }] });
            const now = optimizer.settings();
            for (const setting of settings) t.ok(setting.name in now, `${name}: ${setting.name}`);
            device.destroy();
        }
    },
};
