// The cases, `verify` and the page in Chromium: node crates/web/tests/chromium.mjs FILES [--verify STORAGE…] [--only TEXT] [--figures FILE]
//
// CHROMIUM names the browser (default /usr/bin/chromium). The screenshots of the page go to FILES.

import { createReadStream } from "node:fs";
import { stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { Checks, cases } from "./cases.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const [files, ...rest] = process.argv.slice(2);
const option = (name) => {
    const at = rest.indexOf(name);
    const words = at < 0 ? [] : rest.slice(at + 1);
    const end = words.findIndex((word) => word.startsWith("--"));
    return end < 0 ? words : words.slice(0, end);
};

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".wasm": "application/wasm" };

/** A page that shares nothing with others has a clock of microseconds. */
const ISOLATED = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };

/** Serves the crate's folder, and the files of the run under /files/. */
const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
    const file = path.startsWith("/files/") ? join(files, path.slice(7)) : join(root, path.endsWith("/") ? `${path}index.html` : path);
    if (request.method === "PUT") {
        const parts = [];
        for await (const part of request) parts.push(part);
        await writeFile(file, Buffer.concat(parts));
        return response.end();
    }
    const found = await stat(file).catch(() => undefined);
    if (!found?.isFile()) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream", "cache-control": "no-store", ...ISOLATED });
    createReadStream(file).pipe(response);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${server.address().port}`;

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
        "--enable-unsafe-webgpu",
        "--use-webgpu-adapter=swiftshader",
        "--enable-features=Vulkan",
        "--use-vulkan=swiftshader",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--ignore-gpu-blocklist",
        "--no-sandbox",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
    ],
});
console.log(`chromium ${browser.version()}`);

let failed = 0;
const said = (ok, text, began) => {
    failed += !ok;
    console.log(`${ok ? "passed" : "FAILED"}  ${text} (${Math.round(performance.now() - began)} ms)`);
};

async function open(path, viewport = { width: 1100, height: 900 }) {
    const context = await browser.newContext({ viewport, permissions: ["clipboard-read", "clipboard-write"] });
    const page = await context.newPage();
    page.setDefaultTimeout(600_000);
    page.on("pageerror", (error) => console.log(`page: ${error.message}`));
    await page.goto(`${origin}${path}`);
    return page;
}

/** Runs cases.mjs in a page. */
async function runCases() {
    const page = await open("/tests/blank.html");
    await page.evaluate(async () => {
        const { Checks, cases } = await import("/tests/cases.mjs");
        const wo = await import("/dist/index.js");
        const device = async () => {
            const adapter = await navigator.gpu.requestAdapter();
            const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
            return adapter.requestDevice({ requiredLimits: { maxBufferSize, maxStorageBufferBindingSize } });
        };
        const file = async (name) => {
            const answer = await fetch(name.endsWith(".d.ts") ? `/dist/${name}` : `/files/${name}`);
            if (!answer.ok) throw new Error(`${name} is not there`);
            return new Uint8Array(await answer.arrayBuffer());
        };
        const put = (name, body) => fetch(`/files/${name}`, { method: "PUT", body });
        globalThis.t = Object.assign(new Checks(), { wo, device, file, put });
        globalThis.cases = cases;
    });
    const only = option("--only")[0] ?? "";
    for (const name of Object.keys(cases).filter((name) => name.includes(only))) {
        const began = performance.now();
        const error = await page.evaluate((name) => globalThis.cases[name](globalThis.t).then(() => "", (error) => error.stack ?? String(error)), name);
        said(error === "", error === "" ? name : `${name}: ${error}`, began);
    }
    return page;
}

async function verify(page, storage) {
    const began = performance.now();
    const reports = await page.evaluate(async (storage) => globalThis.t.wo.verify(await globalThis.t.device(), { storage }), storage);
    const bad = reports.filter((report) => !report.passed);
    said(bad.length === 0 && reports.length >= 100, `verify ${storage}: ${reports.length - bad.length} of ${reports.length}`, began);
    for (const report of bad) console.log(JSON.stringify(report));
}

/** The page's buttons, by keyboard and by mouse, and that the tab is never blocked. */
async function usePage() {
    const t = new Checks();
    const began = performance.now();
    const page = await open("/page/");
    await page.waitForSelector("[data-ready]", { state: "attached" });
    const opened = performance.now() - began;
    console.log(`the page opened in ${Math.round(opened)} ms`);
    await page.evaluate(() => {
        globalThis.longest = 0;
        new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) globalThis.longest = Math.max(globalThis.longest, entry.duration);
        }).observe({ type: "longtask" });
    });
    t.ok(/SwiftShader|swiftshader|google/i.test(await page.textContent("#device-facts")), "the device is shown");

    // By keyboard: to the button of Verify, and Enter.
    await page.selectOption('#verify [name="only"]', "adamw");
    await page.focus('#verify [name="only"]');
    await page.keyboard.press("Tab");
    t.equal(await page.evaluate(() => document.activeElement.textContent), "Verify");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => /passed in|FAILED/.test(document.querySelector("#verify .status").textContent));
    t.ok(/^All \d+ cases passed/.test(await page.textContent("#verify .status")), await page.textContent("#verify .status"));
    await page.click('#verify [data-action="copy"]');
    const lines = (await page.evaluate(() => navigator.clipboard.readText())).split("\n").map((line) => JSON.parse(line));
    t.ok(lines.length > 10 && lines[0].adapter && lines.at(-1).passed, "Copy gives a line for the run and one for each case");

    await page.selectOption('#bench [name="size"]', "1,10000");
    await page.click("#bench [type=submit]");
    await page.waitForFunction(() => /measurements in/.test(document.querySelector("#bench .status").textContent));
    t.equal(await page.locator("#bench rect").count(), 8);

    await page.fill('#race [name="steps"]', "60");
    await page.click("#race [type=submit]");
    await page.waitForFunction(() => /ends best/.test(document.querySelector("#race .status").textContent));
    t.equal(await page.locator("#race polyline").count(), 3);
    await page.screenshot({ path: `${files}/page.png`, fullPage: true });
    await page.selectOption('#race [name="problem"]', "rosenbrock");
    await page.selectOption('#race [name="backend"]', "gpu");
    await page.click("#race [type=submit]");
    await page.waitForFunction(() => /ends best|All diverged/.test(document.querySelector("#race .status").textContent));

    // A task that is stopped ends.
    await page.selectOption('#verify [name="only"]', "");
    await page.click("#verify [type=submit]");
    await page.waitForFunction(() => /^\d+ of \d+/.test(document.querySelector("#verify .status").textContent));
    await page.click('#verify [data-action="stop"]');
    t.equal(await page.textContent("#verify .status"), "Stopped.");
    const longest = await page.evaluate(() => globalThis.longest);
    console.log(`the longest task of the tab took ${Math.round(longest)} ms`);
    await page.context().close();

    const phone = await open("/page/", { width: 360, height: 740 });
    await phone.waitForSelector("[data-ready]", { state: "attached" });
    t.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is as wide as a phone");
    await phone.screenshot({ path: `${files}/phone.png`, fullPage: true });
    await phone.context().close();

    // Without WebGPU the page says what to do, and the host's path works.
    const context = await browser.newContext();
    await context.addInitScript(() => delete Navigator.prototype.gpu);
    const without = await context.newPage();
    await without.goto(`${origin}/page/`);
    await without.waitForSelector("[data-ready]", { state: "attached" });
    t.ok(/no WebGPU/.test(await without.textContent("#device-note")), "the page says that there is no WebGPU");
    t.ok(await without.isDisabled("#verify [type=submit]"), "nothing can be verified");
    await without.fill('#race [name="steps"]', "20");
    await without.click("#race [type=submit]");
    await without.waitForFunction(() => /ends best/.test(document.querySelector("#race .status").textContent), { timeout: 600_000 });
    await context.close();
    return { opened, longest };
}

/** The figures of the package's README. */
async function figures(page) {
    return page.evaluate(async () => {
        const { wo, device } = globalThis.t;
        const gpu = await device();
        const began = performance.now();
        const optimizer = await wo.Optimizer.create(gpu, { rule: "adamw", tensors: [{ name: "w", shape: [1000] }] });
        optimizer.step();
        await optimizer.readStepCount();
        const figures = { first_step_ms: performance.now() - began, record_us: {}, step_ms: {} };
        for (const tensors of [1, 1000]) figures.record_us[tensors] = 1e6 * (await wo.recording(gpu, "adamw", tensors)).record_s;
        const plan = { rules: ["adamw", "vradam"], storages: ["f32", "bf16-sr", "bf16-sr,8bit"], seconds: 1, samples: 5 };
        for (const result of await wo.bench(gpu, plan)) {
            figures.step_ms[`${result.optimizer} ${result.storage} ${result.tensors} × ${result.elements}`] = 1e3 * result.min_s;
        }
        return figures;
    });
}

const page = await runCases();
for (const storage of option("--verify")) await verify(page, storage);
if (option("--figures").length > 0) {
    await writeFile(option("--figures")[0], JSON.stringify(await figures(page), undefined, 1));
}
await page.context().close();
if (!rest.includes("--no-page")) {
    const began = performance.now();
    try {
        await usePage();
        said(true, "the page", began);
    } catch (error) {
        said(false, `the page: ${error.stack}`, began);
    }
}
await browser.close();
server.close();
process.exit(failed === 0 ? 0 : 1);
