/** What `Optimizer.create` takes, and how the engine is told. */

import type { Plan } from "./full/wgpu_optim_web.js";
import { type BufferRange, type Device, range } from "./device.js";
import { type Module } from "./module.js";

/** The settings of the rules, each of its own rules' only; the table of rules lists their defaults and ranges. */
export interface Settings {
    lr?: number;
    beta0?: number;
    beta1?: number;
    beta2?: number;
    beta3?: number;
    eps?: number;
    epsRoot?: number;
    weightDecay?: number;
    amsgrad?: boolean;
    momentum?: number;
    momentumDecay?: number;
    dampening?: number;
    nesterov?: boolean;
    l1?: number;
    alpha?: number;
    centered?: boolean;
    lrDecay?: number;
    initialAccumulatorValue?: number;
    lrCutoff?: number;
    normOf?: "velocity" | "gradient";
    warmupSteps?: number;
    r?: number;
    weightLrPower?: number;
    mode?: string;
    switchSensitivity?: number | "mode";
    curvatureSensitivity?: number | "mode";
    odeTScale?: number | "mode";
    momentumBlendGamma?: number;
    integrator?: string;
    odeTol?: number;
    injection?: string;
    injectionCap?: number;
    gradientClip?: number;
    statisticsBeta?: number;
    warmup?: number;
    k?: number;
    sigma?: number;
    lgiLambda?: number;
    stabilizeEps?: number;
    lgiCap?: number;
    directions?: string;
    warp?: string;
    warpLr?: number;
    warpDecay?: number;
    warpBlock?: number;
    cautious?: boolean;
    biasCorrection?: boolean;
    etaMinus?: number;
    etaPlus?: number;
    stepMin?: number;
    stepMax?: number;
    lambd?: number;
    t0?: number;
    rho?: number;
    d0?: number;
    dCoef?: number;
    growthRate?: number;
    safeguardWarmup?: boolean;
}

/** A rule of your own: its name, and its text in WGSL. Settings that the text declares go beside it, under their own names. */
export interface CustomRule {
    name: string;
    wgsl: string;
    settings?: Record<string, number>;
}

/** A schedule by its text, such as `"cosine:total=1000,warmup=50"`, for `lr` or for other settings by name. */
export type Schedules = string | Record<string, string>;

export interface GroupOptions extends Settings {
    name: string;
    /** The rule; without it, the first group's. */
    rule?: string;
    schedule?: Schedules;
    maximize?: boolean;
    /** The tensors without weight decay: `"rank:1"`, or a pattern of names such as `"*.bias"`. */
    noDecay?: string | string[];
}

export interface TensorOptions {
    name: string;
    shape: readonly number[];
    /** Where the parameters lie; without it, in a buffer of the optimizer. */
    param?: BufferRange;
    /** Where a step reads the gradients. A tensor with `param` and without `grad` gets them at each step. */
    grad?: BufferRange;
    group?: string;
    frozen?: boolean;
    /** As `storage` of the optimizer, for this tensor. */
    storage?: string;
    /** A factor of the learning rate for each column. */
    columnRates?: readonly number[];
    /** One second moment for each row. */
    shareSecondMoment?: boolean;
}

export interface RowSetOptions {
    name: string;
    tensors: readonly string[];
    /** The most rows that the set can have. */
    capacity?: number;
    /** Whether a mask tells which rows step: the optimizer's own, or one of yours. */
    mask?: boolean | BufferRange;
    skipZeroGradients?: boolean;
}

export interface Options extends Settings {
    rule: string | CustomRule;
    tensors: readonly TensorOptions[];
    groups?: readonly GroupOptions[];
    schedule?: Schedules;
    maximize?: boolean;
    noDecay?: string | string[];
    clip?: { globalNorm: number } | { groupNorm: number } | { tensorNorm: number } | { value: number };
    lossScale?: boolean | { initial?: number; growth?: number; backoff?: number; interval?: number };
    skipNonfinite?: boolean;
    accumulate?: { mean: number } | "sum";
    ema?: boolean | { decay?: number; warmup?: boolean };
    /** How tensors are stored, such as `"bf16-sr,8bit"`. Default `"f32"`. */
    storage?: string;
    rowSets?: readonly RowSetOptions[];
    telemetry?: boolean;
    zeroGrad?: boolean;
    dynamicGradients?: boolean;
    undampedSteps?: boolean;
    givenDirections?: boolean;
    seed?: number;
    label?: string;
    /** Usages of the optimizer's own buffers beside `STORAGE | COPY_SRC | COPY_DST`. */
    extraUsages?: { params?: GPUBufferUsageFlags; grads?: GPUBufferUsageFlags };
}

const GROUP = new Set(["name", "rule", "schedule", "maximize", "noDecay"]);
const OPTIMIZER = new Set([
    ...["rule", "tensors", "groups", "schedule", "maximize", "noDecay", "clip", "lossScale", "skipNonfinite", "accumulate", "ema"],
    ...["storage", "rowSets", "telemetry", "zeroGrad", "dynamicGradients", "undampedSteps", "givenDirections", "seed", "label"],
    "extraUsages",
]);
const TENSOR = ["name", "shape", "param", "grad", "group", "frozen", "storage", "columnRates", "shareSecondMoment"];
const ROW_SET = ["name", "tensors", "capacity", "mask", "skipZeroGradients"];

/** The engine's name of a setting: `weight_decay` for `weightDecay`. */
export function snake(name: string): string {
    return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** The name of a setting in JavaScript: `weightDecay` for `weight_decay`. */
export function camel(name: string): string {
    return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** The settings among the options. */
export function settings(options: object, others: ReadonlySet<string> = new Set()): Record<string, unknown> {
    const given = Object.entries(options).filter(([name, value]) => !others.has(name) && value !== undefined);
    return Object.fromEntries(given.map(([name, value]) => [snake(name), value]));
}

function known(what: string, options: object, names: readonly string[]): void {
    const other = Object.keys(options).find((name) => !names.includes(name));
    if (other !== undefined) throw new TypeError(`unknown option \`${other}\` of ${what}; known: ${names.join(", ")}`);
}

/** The plan of an optimizer, and the bytes of each tensor's gradient. */
export function plan(module: Module, device: Device, options: Options): { plan: Plan; gradBytes: Map<string, number> } {
    if (!Array.isArray(options?.tensors)) throw new TypeError("the options need `tensors`: a list of { name, shape, … }");
    const plan = begin(module, options);
    const groups = new Map<string, number>([["default", 0]]);
    adjust(plan, 0, options);
    for (const group of options.groups ?? []) {
        const index = plan.group(group.name, group.rule, settings(group, GROUP));
        groups.set(group.name, index);
        adjust(plan, index, group);
    }
    if (options.storage !== undefined) plan.storage(options.storage);
    const capacities = new Map<string, number>();
    for (const set of options.rowSets ?? []) {
        for (const name of set.capacity === undefined ? [] : set.tensors) capacities.set(name, set.capacity as number);
    }
    const tensors = new Map<string, number>();
    const gradBytes = new Map<string, number>();
    for (const tensor of options.tensors) {
        known(`tensor \`${tensor.name}\``, tensor, TENSOR);
        tensors.set(tensor.name, addTensor(module, plan, device, options, groups, capacities, gradBytes, tensor));
    }
    for (const set of options.rowSets ?? []) addRows(plan, device, tensors, set);
    surround(plan, options);
    return { plan, gradBytes };
}

function begin(module: Module, options: Options): Plan {
    const given = settings(options, OPTIMIZER);
    if (typeof options.rule === "string") return new module.Plan(options.rule, given);
    if (typeof options.rule?.wgsl !== "string") {
        throw new TypeError("the options need a `rule`: the name of an optimizer, or { name, wgsl }");
    }
    return module.Plan.custom(options.rule.name, options.rule.wgsl, { ...given, ...options.rule.settings });
}

/** What a group has beside settings. */
function adjust(plan: Plan, group: number, options: Options | GroupOptions): void {
    if (options.maximize) plan.maximize(group);
    const schedules = typeof options.schedule === "string" ? { lr: options.schedule } : (options.schedule ?? {});
    for (const [setting, schedule] of Object.entries(schedules)) plan.schedule(group, snake(setting), schedule);
    for (const which of [options.noDecay ?? []].flat()) plan.excludeFromDecay(group, which);
}

function addTensor(
    module: Module,
    plan: Plan,
    device: Device,
    options: Options,
    groups: ReadonlyMap<string, number>,
    capacities: ReadonlyMap<string, number>,
    gradSizes: Map<string, number>,
    tensor: TensorOptions,
): number {
    const { name } = tensor;
    const group = groups.get(tensor.group ?? "default");
    if (group === undefined) {
        throw new Error(`tensor \`${name}\`: unknown group \`${tensor.group}\`; known: ${[...groups.keys()].join(", ")}`);
    }
    if (!tensor.shape?.every?.((n) => Number.isInteger(n) && n >= 0 && n < 2 ** 32)) {
        throw new TypeError(`tensor \`${name}\`: its shape is ${String(tensor.shape)}, needs a list of whole numbers`);
    }
    const shape = Uint32Array.from(tensor.shape);
    const rows = capacities.get(name);
    const room = tensor.shape.map((n, i) => (i === 0 ? (rows ?? n) : n)).reduce((a, b) => a * b, 1);
    const [paramBytes, gradBytes] = module.Plan.bytesPerElement(tensor.storage ?? options.storage ?? "f32") as unknown as [
        number,
        number,
    ];
    gradSizes.set(name, room * gradBytes);
    let index: number;
    if (tensor.param === undefined) {
        if (tensor.grad !== undefined) {
            throw new Error(`tensor \`${name}\`: it has \`grad\` without \`param\`: give both ranges, or neither`);
        }
        index = plan.tensor(group, name, shape);
    } else {
        const param = range(tensor.param, room * paramBytes);
        const handle = device.handle(param.buffer);
        checkRange(`tensor \`${name}\`: its parameters`, param);
        if (tensor.grad === undefined) {
            index = plan.bindParam(group, name, shape, handle, param.offset, param.size);
        } else {
            const grad = range(tensor.grad, room * gradBytes);
            checkRange(`tensor \`${name}\`: its gradients`, grad);
            const gradHandle = device.handle(grad.buffer);
            index = plan.bind(group, name, shape, handle, param.offset, param.size, gradHandle, grad.offset, grad.size);
        }
    }
    if (tensor.frozen) plan.freeze(index);
    if (tensor.storage !== undefined) plan.tensorStorage(index, tensor.storage);
    if (tensor.columnRates) plan.columnRates(index, Float64Array.from(tensor.columnRates));
    if (tensor.shareSecondMoment) plan.shareSecondMoment(index);
    return index;
}

/** Checks a range against its buffer: the engine could not even name one that lies outside. */
export function checkRange(what: string, { buffer, offset, size }: { buffer: GPUBuffer; offset: number; size: number }): void {
    if (offset >= 0 && size >= 0 && offset + size <= buffer.size) return;
    throw new RangeError(`${what} are bytes ${offset} to ${offset + size} of a buffer of ${buffer.size}: make the buffer longer`);
}

function addRows(plan: Plan, device: Device, tensors: ReadonlyMap<string, number>, set: RowSetOptions): void {
    known(`row set \`${set.name}\``, set, ROW_SET);
    const indices = set.tensors.map((name) => {
        const index = tensors.get(name);
        if (index === undefined) throw new Error(`row set \`${set.name}\`: there is no tensor \`${name}\``);
        return index;
    });
    const rows = plan.rowSet(set.name, Uint32Array.from(indices));
    if (set.capacity !== undefined) plan.rowCapacity(rows, set.capacity);
    if (set.skipZeroGradients) plan.skipZeroGradients(rows);
    if (set.mask === true) plan.mask(rows);
    else if (set.mask) {
        const mask = range(set.mask, "buffer" in set.mask ? set.mask.buffer.size - (set.mask.offset ?? 0) : set.mask.size);
        checkRange(`row set \`${set.name}\`: its flags`, mask);
        plan.maskIn(rows, device.handle(mask.buffer), mask.offset, mask.size);
    }
}

/** The options around the rule. */
function surround(plan: Plan, options: Options): void {
    const { clip, lossScale, accumulate, ema, extraUsages } = options;
    if (clip !== undefined) {
        const [kind, most] = Object.entries(clip)[0] ?? ["nothing", NaN];
        plan.clip(kind, most as number);
    }
    if (lossScale) {
        const { initial, growth, backoff, interval } = lossScale === true ? {} : lossScale;
        plan.lossScale(initial, growth, backoff, interval);
    }
    if (accumulate) plan.accumulate(accumulate === "sum" ? undefined : accumulate.mean);
    if (ema) {
        const { decay, warmup } = ema === true ? {} : ema;
        plan.ema(decay, warmup);
    }
    if (options.skipNonfinite) plan.skipNonfinite(true);
    if (options.zeroGrad) plan.zeroGrad(true);
    if (options.telemetry) plan.telemetry(true);
    if (options.dynamicGradients) plan.dynamicGradients(true);
    if (options.undampedSteps) plan.undampedSteps(true);
    if (options.givenDirections) plan.givenDirections(true);
    if (options.seed !== undefined) plan.seed(options.seed);
    if (options.label !== undefined) plan.label(options.label);
    if (extraUsages) plan.extraUsages(extraUsages.params ?? 0, extraUsages.grads ?? 0);
}
