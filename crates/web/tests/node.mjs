// The cases on Dawn without a browser, and `verify`: node crates/web/tests/node.mjs FILES [--verify STORAGE…] [--texts FILE]
//
// Needs a Vulkan driver that Dawn accepts: run.sh names Chromium's SwiftShader.

import { readFile, writeFile } from "node:fs/promises";
import { create, globals } from "webgpu";
import * as wo from "../dist/index.js";
import { Checks, cases } from "./cases.mjs";

Object.assign(globalThis, globals);
const gpu = create([]);
const dist = new URL("../dist/", import.meta.url);
const [files, ...rest] = process.argv.slice(2);
const option = (name) => {
    const at = rest.indexOf(name);
    return at < 0 ? [] : rest.slice(at + 1).slice(0, (rest.slice(at + 1).findIndex((word) => word.startsWith("--")) + 1 || Infinity) - 1 || undefined);
};

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

let failed = 0;
const only = option("--only")[0] ?? "";
for (const [name, run] of Object.entries(cases)) {
    if (!name.includes(only)) continue;
    const began = performance.now();
    try {
        await run(t);
        console.log(`passed  ${name} (${Math.round(performance.now() - began)} ms)`);
    } catch (error) {
        failed++;
        console.log(`FAILED  ${name}: ${error.stack ?? error}`);
    }
}

for (const storage of option("--verify")) {
    const began = performance.now();
    const reports = await wo.verify(await device(), { storage });
    const bad = reports.filter((report) => !report.passed);
    failed += bad.length + (reports.length < 100);
    console.log(`${bad.length ? "FAILED" : "passed"}  verify ${storage}: ${reports.length - bad.length} of ${reports.length} (${Math.round(performance.now() - began)} ms)`);
    for (const report of bad) console.log(JSON.stringify(report));
}

for (const file of option("--texts")) {
    const lines = (await readFile(file, "utf8")).trim().split("\n").map((line) => JSON.parse(line));
    const texts = [...new Map(lines.map((line) => [line.wgsl, line])).values()];
    const began = performance.now();
    const target = await device();
    let bad = texts.length < 1000 ? 1 : 0;
    for (let at = 0; at < texts.length; at += 64) {
        const infos = await Promise.all(texts.slice(at, at + 64).map(({ wgsl }) => target.createShaderModule({ code: wgsl }).getCompilationInfo()));
        infos.forEach((info, i) => {
            const messages = info.messages.filter(({ type }) => type !== "info");
            if (messages.length === 0) return;
            bad++;
            console.log(`${texts[at + i].name}: ${messages[0].type} in line ${messages[0].lineNum}: ${messages[0].message}`);
        });
    }
    // A text that is wrong must be seen.
    const wrong = await target.createShaderModule({ code: texts[0].wgsl.replace("fn ", "fn wo ") }).getCompilationInfo();
    if (!wrong.messages.some(({ type }) => type === "error")) bad++;
    failed += bad;
    console.log(`${bad ? "FAILED" : "passed"}  ${texts.length} texts under Tint (${Math.round(performance.now() - began)} ms)`);
}

// Dawn's threads keep the process alive.
process.exit(failed === 0 ? 0 : 1);
