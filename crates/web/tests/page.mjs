// What the runs need, in a page.

import * as wo from "../dist/index.js";
import { Checks } from "./cases.mjs";

async function device() {
    const adapter = await navigator.gpu.requestAdapter();
    const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
    return adapter.requestDevice({ requiredLimits: { maxBufferSize, maxStorageBufferBindingSize } });
}

async function file(name) {
    const answer = await fetch(name.endsWith(".d.ts") ? `/dist/${name}` : `/files/${name}`);
    if (!answer.ok) throw new Error(`${name} is not there`);
    return new Uint8Array(await answer.arrayBuffer());
}

const put = (name, body) => fetch(`/files/${name}`, { method: "PUT", body });

export const t = Object.assign(new Checks(), { wo, device, file, put });
export * from "./runs.mjs";
