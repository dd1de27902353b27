/**
 * The two WebAssembly modules: `core` builds and steps optimizers, `full` can also compile rules of one's own, verify, measure and race.
 * Each loads once, when it is first needed.
 */

export type Module = typeof import("./full/wgpu_optim_web.js");
export type Which = "core" | "full";

/** What a module can be loaded from. */
export type Source = URL | string | Request | Response | BufferSource | WebAssembly.Module;

const loading = new Map<Which, Promise<Module>>();

/** Loads a module. Call it yourself only to load from another place than beside this file. */
export function load(which: Which = "core", source?: Source | Promise<Source>): Promise<Module> {
    let module = loading.get(which);
    if (module === undefined) {
        module = start(which, source);
        // A load that failed may be tried again.
        module.catch(() => loading.delete(which));
        loading.set(which, module);
    }
    return module;
}

async function start(which: Which, source?: Source | Promise<Source>): Promise<Module> {
    const glue = which === "core" ? await import("./core/wgpu_optim_web.js") : await import("./full/wgpu_optim_web.js");
    const module_or_path = await (source ?? beside(which));
    await glue.default({ module_or_path: module_or_path as BufferSource });
    return glue as Module;
}

/** The module beside this file. Node's fetch reads no files. */
async function beside(which: Which): Promise<Source> {
    const url =
        which === "core"
            ? new URL("./core/wgpu_optim_web_bg.wasm", import.meta.url)
            : new URL("./full/wgpu_optim_web_bg.wasm", import.meta.url);
    if (url.protocol !== "file:") return url;
    const files = "node:fs/promises";
    const { readFile } = (await import(/* @vite-ignore */ /* webpackIgnore: true */ files)) as {
        readFile(path: URL): Promise<Uint8Array<ArrayBuffer>>;
    };
    return readFile(url);
}
