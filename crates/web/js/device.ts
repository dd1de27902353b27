/**
 * The page's own objects for the engine. wgpu, on which the engine is built, takes no device, buffer or encoder from outside: it asks the
 * page's objects to create them. So for the length of one call, the page's object hands out the caller's.
 */

import type { Buffer as Handle, Device as EngineDevice, Ranges, Recorded } from "./full/wgpu_optim_web.js";
import { type Module } from "./module.js";

/** A whole buffer, or a range of it. Without a size, the range is as long as the tensor needs. */
export type BufferRange = GPUBuffer | { buffer: GPUBuffer; offset?: number; size?: number };

/** A range with its offset and size. */
export interface Range {
    buffer: GPUBuffer;
    offset: number;
    size: number;
}

/** Calls `run`, during which the next call of `owner[method]` returns `object`. */
function lend<T>(owner: object, method: string, object: unknown, run: () => T): T {
    const before = Object.getOwnPropertyDescriptor(owner, method);
    const restore = () => {
        Reflect.deleteProperty(owner, method);
        if (before) Object.defineProperty(owner, method, before);
    };
    const value = () => {
        restore();
        return object;
    };
    Object.defineProperty(owner, method, { value, configurable: true, writable: true });
    try {
        return run();
    } finally {
        restore();
    }
}

/** A property of `owner` for the length of one call. */
function shadow<T>(owner: object, property: string, value: unknown, run: () => T): T {
    const before = Object.getOwnPropertyDescriptor(owner, property);
    Object.defineProperty(owner, property, { value, configurable: true, writable: true });
    try {
        return run();
    } finally {
        Reflect.deleteProperty(owner, property);
        if (before) Object.defineProperty(owner, property, before);
    }
}

/** Calls `run` where `navigator.gpu` gives an adapter whose device is `device`. */
function withDevice<T>(device: GPUDevice, run: () => T): T {
    const info = device.adapterInfo;
    const adapter = {
        info,
        limits: device.limits,
        features: device.features,
        requestDevice: () => Promise.resolve(device),
    };
    const gpu = { requestAdapter: () => Promise.resolve(adapter), wgslLanguageFeatures: new Set<string>() };
    const scope = globalThis as Record<string, unknown>;
    // Node has neither a window nor a worker, and its older versions no navigator.
    const outside = scope["Window"] === undefined && scope["WorkerGlobalScope"] === undefined;
    const inside = () =>
        scope["navigator"] === undefined
            ? shadow(scope, "navigator", { gpu }, run)
            : shadow(scope["navigator"] as object, "gpu", gpu, run);
    return outside ? shadow(scope, "WorkerGlobalScope", class {}, inside) : inside();
}

/** What stands for commands that the caller finishes and submits. */
class Placeholder {}

/** What optimizers recorded into the encoders and command buffers that are not submitted yet. */
const recorded = new WeakMap<GPUCommandEncoder | GPUCommandBuffer, Recorded[]>();

const watched = new WeakSet<GPUQueue>();

/** Lets the engine know when the queue gets commands that an optimizer recorded. */
function watch(queue: GPUQueue): void {
    if (watched.has(queue)) return;
    watched.add(queue);
    const submit = queue.submit;
    Object.defineProperty(queue, "submit", {
        configurable: true,
        writable: true,
        value(this: GPUQueue, commands: Iterable<GPUCommandBuffer>) {
            const given = [...commands];
            const real = given.filter((one) => !(one instanceof Placeholder));
            if (real.length > 0 || given.length === 0) submit.call(queue, real);
            for (const one of real) {
                const steps = recorded.get(one) ?? [];
                recorded.delete(one);
                for (const step of steps) {
                    step.submitted();
                    step.free();
                }
            }
        },
    });
}

/** Keeps what was recorded into an encoder until the encoder is finished, then until the commands are submitted. */
function keep(encoder: GPUCommandEncoder, step: Recorded): void {
    const steps = recorded.get(encoder);
    if (steps) {
        steps.push(step);
        return;
    }
    recorded.set(encoder, [step]);
    const finish = encoder.finish;
    Object.defineProperty(encoder, "finish", {
        configurable: true,
        writable: true,
        value(this: GPUCommandEncoder, descriptor?: GPUCommandBufferDescriptor) {
            const commands = finish.call(encoder, descriptor);
            recorded.set(commands, recorded.get(encoder) ?? []);
            recorded.delete(encoder);
            return commands;
        },
    });
}

const opened = new WeakMap<Module, WeakMap<GPUDevice, Promise<Device>>>();

/** A device of the page, with the engine's view of it. */
export class Device {
    /** Why the device was lost; undefined while it works. */
    lost: string | undefined;
    readonly #handles = new WeakMap<GPUBuffer, Handle>();

    private constructor(
        readonly module: Module,
        readonly gpu: GPUDevice,
        readonly engine: EngineDevice,
    ) {
        watch(gpu.queue);
        void gpu.lost.then((info) => {
            this.lost = info.message || info.reason || "unknown";
        });
    }

    /** The device in a module's view. */
    static of(module: Module, gpu: GPUDevice): Promise<Device> {
        if (typeof gpu?.createBuffer !== "function") {
            return Promise.reject(
                new TypeError("the first argument is no GPUDevice: pass what adapter.requestDevice() resolved to"),
            );
        }
        const devices = opened.get(module) ?? new WeakMap<GPUDevice, Promise<Device>>();
        opened.set(module, devices);
        const device = devices.get(gpu) ?? Device.#open(module, gpu);
        devices.set(gpu, device);
        return device;
    }

    static async #open(module: Module, gpu: GPUDevice): Promise<Device> {
        if (gpu.adapterInfo === undefined) {
            const value = { vendor: "", architecture: "", device: "", description: "", isFallbackAdapter: false, subgroupMinSize: 4, subgroupMaxSize: 128 };
            Object.defineProperty(gpu, "adapterInfo", { value, configurable: true });
        }
        return new Device(module, gpu, await withDevice(gpu, () => module.Device.open()));
    }

    /** The engine's handle of a buffer. One buffer has one handle: the engine tells buffers apart by it. */
    handle(buffer: GPUBuffer): Handle {
        const known = this.#handles.get(buffer);
        if (known) return known;
        if (typeof buffer?.mapAsync !== "function") {
            throw new TypeError("a range needs a GPUBuffer: give the buffer, or { buffer, offset, size }");
        }
        const handle = lend(this.gpu, "createBuffer", buffer, () => this.engine.buffer(buffer.size, buffer.usage));
        this.#handles.set(buffer, handle);
        return handle;
    }

    /** An empty list of ranges. */
    ranges(): Ranges {
        return new this.module.Ranges();
    }

    /** Records with `record` into the caller's encoder, or into one of its own that is submitted at once. */
    record(encoder: GPUCommandEncoder | undefined, record: () => Recorded): void {
        if (encoder === undefined) {
            const step = record();
            step.submitted();
            step.free();
            return;
        }
        if (typeof encoder.beginComputePass !== "function") {
            throw new TypeError("the encoder is no GPUCommandEncoder: pass what device.createCommandEncoder() returned, or nothing");
        }
        // The engine finishes what it believes is its own encoder.
        const finished = () => lend(encoder, "finish", new Placeholder(), record);
        keep(encoder, lend(this.gpu, "createCommandEncoder", encoder, finished));
    }

    /** Checks that the device works. */
    check(): void {
        if (this.lost !== undefined) {
            throw Object.assign(new Error(`the device was lost: ${this.lost}`), { code: "device-lost" });
        }
    }
}

/** A range with its numbers; `size` is the length where the range names none. */
export function range(given: BufferRange, size: number): Range {
    if ("buffer" in given) return { buffer: given.buffer, offset: given.offset ?? 0, size: given.size ?? size };
    return { buffer: given, offset: 0, size };
}
