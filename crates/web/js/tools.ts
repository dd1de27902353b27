/** The tools: the comparison of every optimizer with the f64 reference, the time of steps, and races. They load the second module. */

import { Device } from "./device.js";
import { type Module, load } from "./module.js";
import { type Settings, settings } from "./options.js";

/** The result of a case. */
export interface VerifyReport {
    optimizer: string;
    backend: string;
    adapter: string | null;
    storage: string;
    case: string;
    worst_param_ulp: number;
    worst_step_error: number;
    worst_state_error: number;
    tolerance: number;
    passed: boolean;
}

export interface VerifyOptions {
    /** How tensors are stored. Default `"f32"`. */
    storage?: string;
    /** Only the cases whose names begin so, such as `"adamw/"`. */
    only?: string;
    /** `"cpu"` verifies the host's f32 path. */
    backend?: "gpu" | "cpu";
    /** Called after each case. */
    onReport?: (report: VerifyReport, done: number, of: number) => void;
    /** Ends the run after the current case. */
    signal?: AbortSignal;
}

/** Runs every case, and resolves to the reports. A case that cannot run rejects. */
export async function verify(device: GPUDevice | undefined, options: VerifyOptions = {}): Promise<VerifyReport[]> {
    const module = await load("full");
    const { storage = "f32", only = "", backend = "gpu", onReport, signal } = options;
    const cases = module.verifyCases(storage).filter((name) => name.startsWith(only));
    const adopted = backend === "gpu" ? await Device.of(module, device as GPUDevice) : undefined;
    const reports: VerifyReport[] = [];
    for (const name of cases) {
        signal?.throwIfAborted();
        adopted?.check();
        const text = adopted ? await module.verifyGpu(adopted.engine, name) : module.verifyCpu(name);
        const report = JSON.parse(text as string) as VerifyReport;
        reports.push(report);
        onReport?.(report, reports.length, cases.length);
        // Lets the page paint.
        if (!adopted) await new Promise((resolve) => setTimeout(resolve, 0));
    }
    return reports;
}

/** What is measured: every rule in every storage at every size. */
export interface BenchPlan {
    rules: string[];
    storages?: string[];
    /** Pairs of a count of tensors and the elements of each. Default: 1 of a million, 1000 of a thousand. */
    sizes?: [number, number][];
    /** Seconds of a measurement. Default 1. */
    seconds?: number;
    /** The least count of samples. Default 5. */
    samples?: number;
}

/** A line of `wgpu-optim bench --json`. */
export interface Measurement {
    optimizer: string;
    backend: string;
    adapter: string;
    storage: string;
    tensors: number;
    elements: number;
    samples: number;
    median_s: number;
    min_s: number;
    bytes_per_element: number;
    gb_per_s: number;
    copy_gb_per_s: number;
    stream_gb_per_s: number;
    dispatches: number | null;
    record_s: number | null;
}

/** Measures steps on a device, or on the host where `device` is undefined. */
export async function bench(
    device: GPUDevice | undefined,
    plan: BenchPlan,
    onResult: (result: Measurement) => void = () => undefined,
): Promise<Measurement[]> {
    const results: Measurement[] = [];
    const on = (text: string) => {
        const result = JSON.parse(text) as Measurement;
        results.push(result);
        onResult(result);
    };
    const text = JSON.stringify({ storages: ["f32"], ...plan });
    await anywhere(device, (module, engine) => (engine ? module.benchGpu(engine, text, on) : module.benchCpu(text, on)));
    return results;
}

/** The median seconds of recording one step over `tensors` tensors of a few elements. */
export async function recording(device: GPUDevice, rule: string, tensors: number): Promise<{ record_s: number; finish_s: number }> {
    const module = await load("full");
    const adopted = await Device.of(module, device);
    return JSON.parse((await module.recording(adopted.engine, rule, tensors)) as string) as { record_s: number; finish_s: number };
}

/** One optimizer of a race. */
export interface Entrant {
    label: string;
    rule: string;
    settings?: Settings;
    storage?: string;
}

export interface RacePlan {
    /** `"digits"`, `"rosenbrock"`, or another of the crate's problems. */
    problem: string;
    settings?: Record<string, number | boolean | string>;
    entrants: Entrant[];
    /** Steps of a run. Default 500. */
    steps?: number;
    /** Runs of each entrant. Default 1. */
    seeds?: number;
}

/** A measurement during a run. */
export interface RacePoint {
    step: number;
    evaluations: number;
    loss: number | null;
    validation: number | null;
    test: number | null;
}

export interface RaceOutcome {
    key: { entrant: string; seed: number };
    measure: string;
    lr: number | null;
    diverged: boolean;
    loss: number | null;
    validation: number | null;
    test: number | null;
    cost: { steps: number; seconds: number };
    points: RacePoint[];
    /** The parameters at each step, for a problem that has two. */
    path: [number, number][];
}

export type RaceEvent =
    | { planned: number }
    | { key: { entrant: string; seed: number }; point: RacePoint }
    | { outcome: RaceOutcome };

/** Runs every entrant on a device, or on the host where `device` is undefined; resolves to the outcomes. */
export async function race(
    device: GPUDevice | undefined,
    plan: RacePlan,
    onEvent: (event: RaceEvent) => void = () => undefined,
): Promise<RaceOutcome[]> {
    const outcomes: RaceOutcome[] = [];
    const on = (text: string) => {
        const event = JSON.parse(text) as RaceEvent;
        if ("outcome" in event) outcomes.push(event.outcome);
        onEvent(event);
    };
    const entrants = plan.entrants.map((entrant) => ({ ...entrant, settings: settings(entrant.settings ?? {}) }));
    const text = JSON.stringify({ ...plan, entrants });
    await anywhere(device, (module, engine) => (engine ? module.raceGpu(engine, text, on) : module.raceCpu(text, on)));
    return outcomes;
}

/** Whether the device is hardware, as far as a page can tell. */
export async function isHardware(device: GPUDevice): Promise<boolean> {
    const module = await load("full");
    return module.isHardware((await Device.of(module, device)).engine);
}

async function anywhere<T>(
    device: GPUDevice | undefined,
    run: (module: Module, engine: Device["engine"] | undefined) => Promise<T>,
): Promise<T> {
    const module = await load("full");
    return run(module, device && (await Device.of(module, device)).engine);
}
