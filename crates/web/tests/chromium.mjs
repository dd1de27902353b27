// The cases, `verify` and the page in Chromium: node crates/web/tests/chromium.mjs FILES [--verify STORAGE…] [--only TEXT] [--figures FILE]
//
// CHROMIUM names the browser (default /usr/bin/chromium). The screenshots of the page go to FILES.

import { writeFile } from "node:fs/promises";
import { chromium } from "playwright-core";
import { Checks } from "./cases.mjs";
import { Log } from "./runs.mjs";
import { serve, words } from "./server.mjs";

const [files, ...rest] = process.argv.slice(2);
const option = (name) => words(rest, name);
const server = await serve(files);

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

const log = new Log();

async function open(path, viewport = { width: 1100, height: 900 }) {
    const context = await browser.newContext({ viewport, permissions: ["clipboard-read", "clipboard-write"] });
    const page = await context.newPage();
    page.setDefaultTimeout(600_000);
    page.on("pageerror", (error) => console.log(`page: ${error.message}`));
    await page.goto(`${server.origin}${path}`);
    return page;
}

/** Runs cases.mjs in a page. */
async function runCases() {
    const page = await open("/tests/blank.html");
    const names = await page.evaluate(async () => {
        globalThis.tests = await import("/tests/page.mjs");
        return globalThis.tests.names;
    });
    const only = option("--only")[0] ?? "";
    for (const name of names.filter((name) => name.includes(only))) {
        log.say(await page.evaluate((name) => globalThis.tests.runCase(globalThis.tests.t, name), name));
    }
    return page;
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
    await without.goto(`${server.origin}/page/`);
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
        const { wo, device } = globalThis.tests.t;
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
for (const storage of option("--verify")) {
    log.say(await page.evaluate((storage) => globalThis.tests.verify(globalThis.tests.t, storage), storage));
}
if (option("--figures").length > 0) {
    await writeFile(option("--figures")[0], JSON.stringify(await figures(page), undefined, 1));
}
await page.context().close();
if (!rest.includes("--no-page")) {
    const began = performance.now();
    const error = await usePage().then(() => "", (error) => `: ${error.stack}`);
    log.say({ ok: error === "", text: `the page${error}`, ms: performance.now() - began });
}
await browser.close();
server.close();
process.exit(log.failed === 0 ? 0 : 1);
