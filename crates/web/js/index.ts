/**
 * Optimizers for training on WebGPU, on the page's own device and buffers.
 *
 * ```ts
 * const optimizer = await Optimizer.create(device, { rule: "adamw", lr: 3e-4, tensors: [{ name: "w", shape: [128, 64], param, grad }] });
 * optimizer.step(encoder); // records only; the pass that writes the gradients comes before it
 * device.queue.submit([encoder.finish()]);
 * ```
 */

import type { Engine, Ranges, Recorded } from "./full/wgpu_optim_web.js";
import { type BufferRange, Device, type Range, range } from "./device.js";
import { type Module, load } from "./module.js";
import { type Options, type Settings, camel, checkRange, plan, settings } from "./options.js";

export type { BufferRange, Range } from "./device.js";
export { type Module, type Source, type Which, load } from "./module.js";
export type { CustomRule, GroupOptions, Options, RowSetOptions, Schedules, Settings, TensorOptions } from "./options.js";
export * from "./tools.js";

/** A setting of a rule: its default (undefined where it must be given) and the values that it accepts. */
export interface Setting {
    name: string;
    default: number | boolean | string | undefined;
    accepts: string;
}

/** The optimizers, with the settings of each. */
export async function rules(): Promise<{ name: string; settings: Setting[] }[]> {
    const all = (await load()).rules() as [string, [string, Setting["default"], string][]][];
    return all.map(([name, settings]) => ({
        name,
        settings: settings.map(([name, value, accepts]) => ({ name: camel(name), default: value, accepts })),
    }));
}

/** What a step that evaluates asks for. */
export type Request =
    /** The gradients at the parameters as they lie now. */
    | { kind: "gradient" }
    /** The loss at the parameters as they lie now, one f32, to `to`. */
    | { kind: "loss"; slot: number; to: Range };

/** Norms of one step, of a tensor or of all. */
export interface Norms {
    /** The gradient's norm before a clip by norm. */
    gradient: number;
    /** The count of the gradient's numbers that are not finite. */
    nonfinite: number;
    /** The parameters' norm before the step. */
    parameter: number;
    /** The norm of the change. */
    update: number;
    /** The factor of the clip by norm. */
    clip: number;
}

export interface Stats {
    stepCount: number;
    skipped: number;
    dropped: number;
    total: Norms;
    tensors: (Norms & { name: string })[];
}

/** The ranges of gradients by the tensors' names. */
export type Grads = Record<string, BufferRange>;

/**
 * One optimizer over any number of tensors.
 *
 * A method with an `encoder` records into it and submits nothing; without one it submits at once. Methods that begin with `read` are
 * promises, and steps may follow before they settle. An error is an `Error` with a `code`: `"usage"`, `"webgpu"`, `"device-lost"`,
 * `"out-of-memory"`, `"too-many-steps"`, `"checkpoint"` or `"shader"`.
 */
export class Optimizer {
    readonly #device: Device;
    readonly #engine: Engine;
    readonly #gradBytes: ReadonlyMap<string, number>;
    #destroyed = false;

    private constructor(device: Device, engine: Engine, gradBytes: ReadonlyMap<string, number>) {
        this.#device = device;
        this.#engine = engine;
        this.#gradBytes = gradBytes;
    }

    /**
     * Creates an optimizer, and resolves once the device has created everything.
     *
     * Rejects where an option is wrong, a buffer belongs to another device, memory is missing or the device was lost.
     */
    static async create(device: GPUDevice, options: Options): Promise<Optimizer> {
        const module: Module = await load(typeof options?.rule === "object" ? "full" : "core");
        const adopted = await Device.of(module, device);
        adopted.check();
        const { plan: planned, gradBytes } = plan(module, adopted, options);
        try {
            return new Optimizer(adopted, (await planned.build(adopted.engine)) as Engine, gradBytes);
        } finally {
            planned.free();
        }
    }

    /** Records one step over every tensor. `grads` rebinds gradients for this step (`dynamicGradients`). */
    step(encoder?: GPUCommandEncoder, grads?: Grads): void {
        if (grads === undefined) this.#record(encoder, () => this.#engine.step());
        else this.#withGrads(encoder, grads, (ranges) => this.#engine.stepWithGrads(ranges));
    }

    /** Records the addition of a micro-batch's gradients; the step adds the last one itself. */
    accumulate(encoder?: GPUCommandEncoder, grads?: Grads): void {
        if (grads === undefined) this.#record(encoder, () => this.#engine.accumulate());
        else this.#withGrads(encoder, grads, (ranges) => this.#engine.accumulateWithGrads(ranges));
    }

    /** Records a step of a rule that evaluates inside the step: `evaluate` records each request into the same encoder. */
    stepWith(encoder: GPUCommandEncoder, evaluate: (request: Request) => void): void {
        this.#record(encoder, () => this.#engine.stepWith(evaluate));
    }

    /** Records the probes of a rule that probes, without a step. */
    probe(encoder: GPUCommandEncoder, evaluate: (request: Request) => void): void {
        this.#record(encoder, () => this.#engine.probe(evaluate));
    }

    /** Takes a step of any rule that submits its own passes: `evaluate` submits each request. Await it before the next call. */
    async stepWithSubmits(evaluate: (request: Request) => void | Promise<void>): Promise<void> {
        this.#check();
        await this.#engine.stepWithSubmits(evaluate);
    }

    /** Records the sums of a step, up to `totals`, to which other machines may add theirs. */
    recordSums(encoder?: GPUCommandEncoder): void {
        this.#record(encoder, () => this.#engine.recordSums());
    }

    /** Records the rest of the step that `recordSums` began. */
    recordUpdate(encoder?: GPUCommandEncoder): void {
        this.#record(encoder, () => this.#engine.recordUpdate());
    }

    /** Records the exchange of the weights and their average: before an evaluation, and again after it. */
    swapEma(encoder?: GPUCommandEncoder): void {
        this.#record(encoder, () => this.#engine.swapEma());
    }

    /** Records the move to the parameters at which a schedule-free rule is evaluated. */
    toEvalParams(encoder?: GPUCommandEncoder): void {
        this.#record(encoder, () => this.#engine.toEvalParams());
    }

    /** Records the move back to the parameters that steps change. */
    toTrainParams(encoder?: GPUCommandEncoder): void {
        this.#record(encoder, () => this.#engine.toTrainParams());
    }

    /** The settings of a group. */
    settings(group = "default"): Settings {
        this.#check();
        const entries = Object.entries(this.#engine.settings(group) as Record<string, number | boolean | string>);
        return Object.fromEntries(entries.map(([name, value]) => [camel(name), value]));
    }

    /** Changes settings of a group for the next recorded steps; compiles nothing. */
    set(changed: Settings, group = "default"): void {
        this.#check();
        this.#engine.set(group, settings(changed));
    }

    /** The learning rate for the next recorded step. */
    lr(group = "default"): number {
        this.#check();
        return this.#engine.lr(group);
    }

    setLr(lr: number, group = "default"): void {
        this.set({ lr }, group);
    }

    /** Sets the largest norm or value of the clip. */
    setClip(most: number): void {
        this.#check();
        this.#engine.setClip(most);
    }

    get groups(): string[] {
        this.#check();
        return this.#engine.groups();
    }

    get tensors(): { name: string; shape: number[] }[] {
        this.#check();
        return (this.#engine.tensors() as [string, number[]][]).map(([name, shape]) => ({ name, shape }));
    }

    /** Where the parameters of a tensor lie. */
    param(name: string): Range {
        this.#check();
        return this.#engine.param(name) as Range;
    }

    /** Where a step reads the gradients of a tensor. */
    grad(name: string): Range {
        this.#check();
        return this.#engine.grad(name) as Range;
    }

    /** Where the loss scale lies, one f32, for the kernel of the loss; undefined without one. */
    get lossScale(): Range | undefined {
        this.#check();
        return this.#engine.lossScale() as Range | undefined;
    }

    /** Where the totals of the last step's sums lie; undefined where the step has no sums. */
    get totals(): Range | undefined {
        this.#check();
        return this.#engine.totals() as Range | undefined;
    }

    /** Where the loss of an evaluation goes. */
    lossSlot(slot: number): Range {
        this.#check();
        return this.#engine.lossSlot(slot) as Range;
    }

    writeLosses(losses: Float32Array): void {
        this.#check();
        this.#engine.writeLosses(losses);
    }

    /** Reads parameters in full precision, also those that are stored in half precision. */
    async readParam(name: string): Promise<Float32Array> {
        this.#check();
        return this.#engine.readParam(name) as Promise<Float32Array>;
    }

    async readGrad(name: string): Promise<Float32Array> {
        this.#check();
        return this.#engine.readGrad(name) as Promise<Float32Array>;
    }

    async readState(name: string, state: string): Promise<Float32Array> {
        this.#check();
        return this.#engine.readState(name, state) as Promise<Float32Array>;
    }

    /** The names of a tensor's states. */
    stateNames(name: string): string[] {
        this.#check();
        return this.#engine.stateNames(name);
    }

    writeParam(name: string, values: Float32Array): void {
        this.#check();
        this.#engine.writeParam(name, values);
    }

    writeGrad(name: string, values: Float32Array): void {
        this.#check();
        this.#engine.writeGrad(name, values);
    }

    writeState(name: string, state: string, values: Float32Array): void {
        this.#check();
        this.#engine.writeState(name, state, values);
    }

    async readStepCount(): Promise<number> {
        this.#check();
        return this.#engine.readStepCount() as Promise<number>;
    }

    /** The count of steps that were skipped because a gradient was not finite. */
    async readSkipped(): Promise<number> {
        this.#check();
        return this.#engine.readSkipped() as Promise<number>;
    }

    async readLossScale(): Promise<number> {
        this.#check();
        return this.#engine.readLossScale() as Promise<number>;
    }

    /** The last step's decision for a tensor, in the rule's order. */
    async readDecision(name: string): Promise<Float32Array> {
        this.#check();
        return this.#engine.readDecision(name) as Promise<Float32Array>;
    }

    async readGlobalState(): Promise<Float32Array> {
        this.#check();
        return this.#engine.readGlobalState() as Promise<Float32Array>;
    }

    /** Sets the step count, once every recorded step is finished. */
    async writeStepCount(count: number): Promise<void> {
        await this.#finished();
        this.#engine.writeStepCount(count);
    }

    /** The measurements of the newest finished step, once for each step (`telemetry`). Never waits. */
    stats(): Stats | undefined {
        this.#check();
        return this.#engine.stats() as Stats | undefined;
    }

    /** The count of rows in use of a row set. */
    rowCount(set: string): number {
        this.#check();
        return this.#engine.rowCount(set);
    }

    setRowCount(set: string, count: number): void {
        this.#check();
        this.#engine.setRowCount(set, count);
    }

    /** Where the mask of a row set lies; undefined for a set without a mask. */
    mask(set: string): Range | undefined {
        this.#check();
        return this.#engine.mask(set) as Range | undefined;
    }

    writeMask(set: string, flags: Uint32Array): void {
        this.#check();
        this.#engine.writeMask(set, flags);
    }

    setColumnRates(name: string, rates: readonly number[]): void {
        this.#check();
        this.#engine.setColumnRates(name, Float64Array.from(rates));
    }

    /** Records that new row `i` is old row `indices[i]`, for `rows` rows, with all states. */
    remap(set: string, indices: BufferRange, rows: number, encoder?: GPUCommandEncoder): void {
        const { buffer, offset, size } = this.#words(`row set \`${set}\`: its indices`, indices, rows);
        this.#record(encoder, () => this.#engine.remap(set, this.#device.handle(buffer), offset, size, rows));
    }

    /** Records a reset of the states of some tensors. */
    resetStates(names: readonly string[], encoder?: GPUCommandEncoder): void {
        this.#record(encoder, () => this.#engine.resetStates([...names]));
    }

    /** Records a reset of the states of flagged rows. */
    resetRows(set: string, flags: BufferRange, encoder?: GPUCommandEncoder): void {
        const { buffer, offset, size } = this.#words(`row set \`${set}\`: its flags`, flags, this.rowCount(set));
        this.#record(encoder, () => this.#engine.resetRows(set, this.#device.handle(buffer), offset, size));
    }

    /** The count of dispatches of a step. */
    get dispatches(): number {
        this.#check();
        return this.#engine.dispatches();
    }

    /** The GPU memory by role. */
    get memory(): { role: string; owner: "optimizer" | "caller"; bytes: number }[] {
        this.#check();
        const shares = this.#engine.memory() as [string, "optimizer" | "caller", number][];
        return shares.map(([role, owner, bytes]) => ({ role, owner, bytes }));
    }

    /** Copies everything that resuming needs, and resolves to the bytes of a checkpoint (safetensors). Steps may follow at once. */
    async save(): Promise<Uint8Array<ArrayBuffer>> {
        this.#check();
        return this.#engine.save() as Promise<Uint8Array<ArrayBuffer>>;
    }

    /** Restores a checkpoint, also one of the Rust crate. `convert` takes one of another storage. */
    async load(bytes: Uint8Array | ArrayBuffer, options: { convert?: boolean } = {}): Promise<void> {
        await this.#finished();
        this.#engine.load(new Uint8Array(bytes as ArrayBuffer), options.convert ?? false);
    }

    /** Restores the states of one of torch's optimizers, from safetensors. */
    async loadTorch(bytes: Uint8Array | ArrayBuffer): Promise<void> {
        await this.#finished();
        this.#engine.loadTorch(new Uint8Array(bytes as ArrayBuffer));
    }

    /** Gives the memory of the optimizer's own buffers back. Your buffers stay. */
    destroy(): void {
        if (this.#destroyed) return;
        this.#destroyed = true;
        this.#engine.destroy();
        this.#engine.free();
    }

    #check(): void {
        if (this.#destroyed) throw Object.assign(new Error("the optimizer was destroyed"), { code: "usage" });
        this.#device.check();
    }

    #record(encoder: GPUCommandEncoder | undefined, record: () => Recorded): void {
        this.#check();
        this.#device.record(encoder, record);
    }

    #withGrads(
        encoder: GPUCommandEncoder | undefined,
        grads: Grads,
        record: (ranges: Ranges) => Recorded,
    ): void {
        this.#check();
        const ranges = this.#device.ranges();
        try {
            for (const [name, given] of Object.entries(grads)) {
                // A tensor's gradient is as long as the range that it was built with.
                const { buffer, offset, size } = range(given, this.#gradBytes.get(name) ?? 0);
                checkRange(`tensor \`${name}\`: its gradients`, { buffer, offset, size });
                ranges.add(name, this.#device.handle(buffer), offset, size);
            }
            this.#record(encoder, () => record(ranges));
        } finally {
            ranges.free();
        }
    }

    /** A range of u32. */
    #words(what: string, given: BufferRange, count: number): Range {
        const words = range(given, 4 * count);
        checkRange(what, words);
        return words;
    }

    /** Waits until every submitted step is finished. */
    async #finished(): Promise<void> {
        this.#check();
        await this.#device.gpu.queue.onSubmittedWorkDone();
        // The engine counts finished steps in tasks that follow.
        await new Promise((resolve) => setTimeout(resolve, 0));
        this.#check();
    }
}
