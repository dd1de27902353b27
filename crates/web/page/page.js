// The page: forms, tables and charts. The work itself runs in a worker.

import { bars, curves } from "./charts.js";

const $ = (selector, root = document) => root.querySelector(selector);

/** A worker for one task at a time. */
class Worker_ {
    #worker;

    /** Runs a task; `on` gets its events. A stopped task never settles. */
    run(task, options, on = () => {}) {
        this.stop();
        const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
        this.#worker = worker;
        return new Promise((resolve, reject) => {
            worker.onmessage = ({ data }) => {
                if ("event" in data) return on(data.event);
                worker.terminate();
                if ("error" in data) reject(new Error(data.error));
                else resolve(data.done);
            };
            worker.onerror = (event) => reject(new Error(event.message || "the worker did not start"));
            worker.postMessage({ task, options });
        });
    }

    stop() {
        this.#worker?.terminate();
        this.#worker = undefined;
    }
}

/** A section with a form: its buttons, its status line, and the results that Copy copies. */
class Section {
    constructor(id, run) {
        this.root = document.getElementById(id);
        this.form = $("form", this.root);
        this.worker = new Worker_();
        this.results = [];
        this.form.addEventListener("submit", (event) => {
            event.preventDefault();
            void this.#run(run);
        });
        this.button("stop").addEventListener("click", () => {
            this.worker.stop();
            this.say("Stopped.");
            this.#running(false);
        });
        this.button("copy").addEventListener("click", async () => {
            await navigator.clipboard.writeText(this.json());
            this.say("Copied.");
        });
    }

    button(action) {
        return $(`[data-action="${action}"]`, this.root);
    }

    /** One object a line: what ran where, then the results. */
    json() {
        return [about, ...this.results].map((one) => JSON.stringify(one)).join("\n");
    }

    value(name) {
        return this.form.elements[name].value;
    }

    say(text, error = false) {
        const status = $(".status", this.root);
        status.textContent = text;
        status.classList.toggle("error", error);
    }

    #running(running) {
        $("[type=submit]", this.form).disabled = running || ($("[type=submit]", this.form).dataset.needs === "gpu" && !about.adapter);
        this.button("stop").disabled = !running;
        this.button("copy").disabled = running || this.results.length === 0;
    }

    async #run(run) {
        this.results = [];
        this.#running(true);
        const began = performance.now();
        try {
            const said = await run(this);
            this.say(`${said} ${((performance.now() - began) / 1000).toFixed(1)} s.`);
        } catch (error) {
            this.say(error.message, true);
        }
        this.#running(false);
    }
}

/** What `info` says of this browser; the first line of every copied result. */
const about = { page: "wgpu-optim", browser: navigator.userAgent, adapter: null };

async function showDevice() {
    const note = $("#device-note");
    const facts = $("#device-facts");
    if (!("gpu" in navigator)) {
        note.className = "notice";
        note.textContent = window.isSecureContext
            ? "This browser has no WebGPU. Chrome and Edge have it from version 113 on, Safari from 26, Firefox from 141 on Windows and 145 on macOS. On Linux, Chrome may need chrome://flags/#enable-unsafe-webgpu. The host's path below works without it."
            : "WebGPU needs a secure page: open this page by https, or from localhost.";
        return;
    }
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter) {
        note.className = "notice";
        note.textContent = "This browser has WebGPU but gives no adapter: its GPU may be on the browser's block list, or its driver too old. Update the driver, or see chrome://gpu. The host's path below works without it.";
        return;
    }
    const { info, limits } = adapter;
    about.adapter = Object.fromEntries(["vendor", "architecture", "device", "description"].map((key) => [key, info[key] ?? ""]));
    about.fallback = info.isFallbackAdapter ?? false;
    const mib = (bytes) => `${Math.round(bytes / 2 ** 20).toLocaleString("en")} MiB`;
    const rows = {
        GPU: [info.description || info.device, info.vendor, info.architecture].filter(Boolean).join(", ") || "not named by the browser",
        Kind: about.fallback ? "software: the figures below say little of a GPU" : "hardware",
        "Largest buffer": mib(limits.maxBufferSize),
        "Largest binding": mib(limits.maxStorageBufferBindingSize),
        "Storage buffers": `${limits.maxStorageBuffersPerShaderStage} a stage (an optimizer needs at most 8)`,
        Subgroups: info.subgroupMinSize ? `${info.subgroupMinSize} to ${info.subgroupMaxSize} threads` : "unknown",
        Features: [...adapter.features].sort().join(", ") || "none",
    };
    for (const [name, text] of Object.entries(rows)) {
        const [term, fact] = [document.createElement("dt"), document.createElement("dd")];
        term.textContent = name;
        fact.textContent = text;
        facts.append(term, fact);
    }
    note.textContent = "Everything below runs on it.";
}

const scientific = (x) => x.toExponential(2);

async function verify(section) {
    const [table, progress] = [$("table", section.root), $("progress", section.root)];
    const [body, worst] = [$("tbody", table), new Map()];
    body.replaceChildren();
    table.hidden = progress.hidden = false;
    progress.value = 0;
    const options = { storage: section.value("storage"), only: section.value("only") && `${section.value("only")}/` };
    const reports = await section.worker.run("verify", options, ({ report, done, of }) => {
        progress.value = done / of;
        section.say(`${done} of ${of}: ${report.case}`);
        section.results.push(report);
        const known = worst.get(report.optimizer) ?? { cases: 0, step: 0, state: 0, passed: true, row: body.insertRow() };
        known.cases++;
        known.step = Math.max(known.step, report.worst_step_error);
        known.state = Math.max(known.state, report.worst_state_error);
        known.passed &&= report.passed;
        worst.set(report.optimizer, known);
        const cells = [report.optimizer, known.cases, scientific(known.step), scientific(known.state), scientific(report.tolerance), known.passed ? "passed" : "FAILED"];
        known.row.replaceChildren(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
        known.row.lastChild.className = known.passed ? "passed" : "failed";
    });
    const failed = reports.filter((report) => !report.passed).length;
    return failed ? `${failed} of ${reports.length} cases FAILED in` : `All ${reports.length} cases passed in`;
}

async function bench(section) {
    const chosen = (name) => [...section.form.querySelectorAll(`[data-choices="${name}"] :checked`)].map((input) => input.value);
    const backend = section.value("backend");
    const plan = {
        rules: chosen("rules"),
        storages: chosen("storages"),
        sizes: [section.value("size").split(",").map(Number)],
        seconds: 0.3,
        samples: 5,
    };
    if (plan.rules.length === 0 || plan.storages.length === 0) throw new Error("Choose an optimizer and a storage.");
    const figure = $("figure", section.root);
    await section.worker.run("bench", { backend, plan }, (result) => {
        section.results.push(result);
        bars(figure, section.results);
        section.say(`${result.optimizer} in ${result.storage}: ${(result.median_s * 1e3).toFixed(2)} ms`);
    });
    return `${section.results.length} measurements in`;
}

async function race(section) {
    const entrants = [...section.root.querySelectorAll(".entrants li")].map((item) => {
        const [rule, lr, storage] = ["rule", "lr", "storage"].map((name) => $(`[name="${name}"]`, item).value);
        return { label: `${rule} ${lr}${storage === "f32" ? "" : ` ${storage}`}`, rule, storage, settings: { lr: Number(lr) } };
    });
    const steps = Number(section.value("steps"));
    const plan = { problem: section.value("problem"), steps, entrants };
    const series = new Map(entrants.map(({ label }) => [label, []]));
    const figure = $("figure", section.root);
    let painting = false;
    const paint = () => {
        painting = false;
        curves(figure, series, steps);
    };
    const outcomes = await section.worker.run("race", { backend: section.value("backend"), plan }, (event) => {
        if ("point" in event) {
            if (event.point.loss !== null) series.get(event.key.entrant).push([event.point.step, event.point.loss]);
            section.say(`${event.key.entrant}: step ${event.point.step}, loss ${event.point.loss?.toPrecision(4) ?? "not finite"}`);
        }
        if ("outcome" in event) section.results.push(event.outcome);
        if (!painting) requestAnimationFrame(paint);
        painting = true;
    });
    paint();
    const best = outcomes.filter((outcome) => !outcome.diverged).sort((a, b) => a.test - b.test)[0];
    return best ? `${best.key.entrant} ends best, ${best.measure} ${best.test.toPrecision(3)}; all in` : "All diverged in";
}

const STORAGES = ["f32", "bf16-split", "bf16-sr", "bf16-sr,8bit"];
let names = ["adamw"];

function choices(name, values, checked) {
    const place = $(`[data-choices="${name}"]`);
    for (const value of values) {
        const label = document.createElement("label");
        const input = Object.assign(document.createElement("input"), { type: "checkbox", value, checked: checked.includes(value) });
        label.append(input, value);
        place.append(label);
    }
}

function select(name, label, values, value) {
    const made = Object.assign(document.createElement("select"), { name });
    for (const one of values) made.append(new Option(one, one, one === value, one === value));
    const holder = document.createElement("label");
    holder.append(label, made);
    return holder;
}

function addEntrant(rule, lr, storage = "f32") {
    const row = document.createElement("div");
    const rate = document.createElement("label");
    rate.append("Rate", Object.assign(document.createElement("input"), { name: "lr", type: "number", min: 0, step: "any", value: lr }));
    const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "Remove" });
    remove.addEventListener("click", () => item.remove());
    row.append(select("rule", "Optimizer", names, rule), rate, select("storage", "Storage", STORAGES, storage), remove);
    const item = document.createElement("li");
    item.append(row);
    $(".entrants").append(item);
}

async function start() {
    const sections = [new Section("verify", verify), new Section("bench", bench), new Section("race", race)];
    // The module loads while the browser looks for a GPU.
    const listed = new Worker_().run("rules");
    await showDevice();
    if (!about.adapter) {
        for (const needs of document.querySelectorAll('[data-needs="gpu"]')) needs.disabled = true;
        for (const option of document.querySelectorAll('option[value="gpu"]')) option.disabled = true;
        $('#bench [name="backend"]').value = "cpu";
    }
    names = (await listed).map((rule) => rule.name);
    for (const name of names) $('#verify [name="only"]').append(new Option(name));
    choices("rules", names, ["adamw", "sgd", "lion", "vradam"]);
    choices("storages", STORAGES, ["f32", "bf16-sr"]);
    addEntrant("adamw", 0.003);
    addEntrant("sgd", 0.1);
    addEntrant("lion", 0.001);
    $('[data-action="add"]').addEventListener("click", () => addEntrant("vradam", 0.003));
    // What tests, and readers with a console, can ask.
    globalThis.page = { about, sections };
    document.documentElement.dataset.ready = "";
}

await start();
