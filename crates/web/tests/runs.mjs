// Runs of the cases and of `verify`, on any implementation of WebGPU. Each resolves to its outcome, { ok, text, ms }.

import { cases } from "./cases.mjs";

export const names = Object.keys(cases);

export async function runCase(t, name) {
    const began = performance.now();
    const error = await cases[name](t).then(() => "", (error) => `: ${error}\n${error.stack ?? ""}`);
    return { ok: error === "", text: `${name}${error}`, ms: performance.now() - began };
}

/** Verifies every case of a storage. Too few cases are a failure. */
export async function verify(t, storage) {
    const began = performance.now();
    const reports = await t.wo.verify(await t.device(), { storage });
    const bad = reports.filter((report) => !report.passed);
    const text = [`verify ${storage}: ${reports.length - bad.length} of ${reports.length}`, ...bad.map((report) => JSON.stringify(report))];
    return { ok: bad.length === 0 && reports.length >= 100, text: text.join("\n"), ms: performance.now() - began };
}

/** Prints outcomes and counts the failures. */
export class Log {
    failed = 0;

    say({ ok, text, ms }) {
        this.failed += !ok;
        console.log(`${ok ? "passed" : "FAILED"}  ${text} (${Math.round(ms)} ms)`);
    }
}
