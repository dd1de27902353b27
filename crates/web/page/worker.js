// What takes time runs here, so that the page never waits. A message is { task, options }; the answers are { event }, then { done } or
// { error }. A task that the reader stops ends with its worker.

import { bench, isHardware, race, rules, verify } from "../dist/index.js";

async function device() {
    const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter) throw new Error("this browser gives no GPU adapter");
    const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
    return adapter.requestDevice({ requiredLimits: { maxBufferSize, maxStorageBufferBindingSize } });
}

const on = (event) => postMessage({ event });

const tasks = {
    rules,
    hardware: async () => isHardware(await device()),
    verify: async (options) => verify(await device(), { ...options, onReport: (report, done, of) => on({ report, done, of }) }),
    bench: async ({ backend, plan }) => bench(backend === "gpu" ? await device() : undefined, plan, on),
    race: async ({ backend, plan }) => race(backend === "gpu" ? await device() : undefined, plan, on),
};

self.onmessage = async ({ data: { task, options } }) => {
    try {
        postMessage({ done: await tasks[task](options) });
    } catch (error) {
        postMessage({ error: error instanceof Error ? error.message : String(error) });
    }
};
