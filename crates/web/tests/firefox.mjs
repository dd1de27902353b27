// The cases and `verify` in Firefox, whose compiler is naga: node crates/web/tests/firefox.mjs FILES [--verify STORAGE…] [--only TEXT]
//
// FIREFOX names the browser (default firefox-esr). The page sends its outcomes to the server by itself, so that no driver is needed.

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Log } from "./runs.mjs";
import { serve, words } from "./server.mjs";

const [files, ...rest] = process.argv.slice(2);
const PREFERENCES = ["dom.webgpu.enabled", "gfx.webgpu.force-enabled", "gfx.webgpu.ignore-blocklist"];

const log = new Log();
let end;
const ended = new Promise((resolve) => {
    end = resolve;
});
const server = await serve(files, (outcome) => (outcome.end ? end("") : log.say(outcome)));

const profile = await mkdtemp(join(tmpdir(), "wgpu-optim-firefox-"));
await writeFile(join(profile, "user.js"), PREFERENCES.map((name) => `user_pref("${name}", true);\n`).join(""));
const search = new URLSearchParams(["verify", "only"].flatMap((name) => words(rest, `--${name}`).map((word) => [name, word])));
const page = `${server.origin}/tests/firefox.html?${search}`;
const firefox = spawn(process.env.FIREFOX ?? "firefox-esr", ["--headless", "--no-remote", "--profile", profile, page], { stdio: "ignore" });
firefox.on("error", (error) => end(error.message));
firefox.on("exit", (code) => end(`Firefox ended with ${code}`));

const trouble = await ended;
if (trouble) log.say({ ok: false, text: trouble, ms: performance.now() });
firefox.kill();
server.close();
await rm(profile, { recursive: true, force: true, maxRetries: 5 });
process.exit(log.failed === 0 ? 0 : 1);
