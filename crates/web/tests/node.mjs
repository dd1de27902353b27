// The cases on Dawn without a browser, and `verify`: node crates/web/tests/node.mjs FILES [--verify STORAGE…] [--texts FILE]
//
// Needs a Vulkan driver that Dawn accepts: run.sh names Chromium's SwiftShader.

import { createReadStream } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { create, globals } from "webgpu";
import * as wo from "../dist/index.js";
import { Checks } from "./cases.mjs";
import { Log, names, runCase, verify } from "./runs.mjs";
import { words } from "./server.mjs";

Object.assign(globalThis, globals);
const gpu = create([]);
const dist = new URL("../dist/", import.meta.url);
const [files, ...rest] = process.argv.slice(2);
const option = (name) => words(rest, name);

async function device() {
    const adapter = await gpu.requestAdapter();
    if (!adapter) throw new Error("Dawn finds no adapter: VK_DRIVER_FILES must name a Vulkan driver with dynamic indexing (SwiftShader)");
    return adapter.requestDevice({ requiredLimits: { maxBufferSize: adapter.limits.maxBufferSize, maxStorageBufferBindingSize: adapter.limits.maxStorageBufferBindingSize } });
}

const t = Object.assign(new Checks(), {
    wo,
    device,
    file: async (name) => new Uint8Array(await readFile(name.endsWith(".d.ts") ? new URL(name, dist) : `${files}/${name}`)),
    put: (name, bytes) => writeFile(`${files}/${name}`, bytes),
});

/** Gives every text to Tint, in batches. */
async function compileTexts(file) {
    const distinct = new Map();
    for await (const line of createInterface({ input: createReadStream(file) })) {
        const { name, wgsl } = JSON.parse(line);
        distinct.set(wgsl, name);
    }
    const texts = [...distinct];
    const began = performance.now();
    const target = await device();
    const refusals = async ([wgsl, name]) => {
        const { messages } = await target.createShaderModule({ code: wgsl }).getCompilationInfo();
        return messages.filter(({ type }) => type !== "info").map(({ type, lineNum, message }) => `${name}: ${type} in line ${lineNum}: ${message}`);
    };
    const bad = [];
    for (let at = 0; at < texts.length; at += 64) bad.push(...(await Promise.all(texts.slice(at, at + 64).map(refusals))).flat());
    // A text that is wrong must be seen.
    const wrong = await refusals([texts[0][0].replace("fn ", "fn wo "), "wrong"]);
    if (wrong.length === 0) bad.push("a wrong text compiles");
    return { ok: bad.length === 0 && texts.length >= 1000, text: [`${texts.length} texts under Tint`, ...bad].join("\n"), ms: performance.now() - began };
}

const log = new Log();
const only = option("--only")[0] ?? "";
for (const name of names.filter((name) => name.includes(only))) log.say(await runCase(t, name));
for (const storage of option("--verify")) log.say(await verify(t, storage));
for (const file of option("--texts")) log.say(await compileTexts(file));

// Dawn's threads keep the process alive.
process.exit(log.failed === 0 ? 0 : 1);
