// The server of the tests in browsers: the crate's folder, and the files of the run under /files/.

import { createReadStream } from "node:fs";
import { stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".wasm": "application/wasm" };

/** A page that shares nothing with others has a clock of microseconds. */
const ISOLATED = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };

async function body(request) {
    const parts = [];
    for await (const part of request) parts.push(part);
    return Buffer.concat(parts);
}

/** Serves until `close`. A PUT writes a file of the run, and `posted` gets the JSON of each POST. */
export async function serve(files, posted = () => {}) {
    const server = createServer(async (request, response) => {
        const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
        const file = path.startsWith("/files/") ? join(files, path.slice(7)) : join(root, path.endsWith("/") ? `${path}index.html` : path);
        if (request.method === "PUT") {
            await writeFile(file, await body(request));
            return response.end();
        }
        if (request.method === "POST") {
            posted(JSON.parse(await body(request)));
            return response.end();
        }
        const found = await stat(file).catch(() => undefined);
        if (!found?.isFile()) return response.writeHead(404).end();
        response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream", "cache-control": "no-store", ...ISOLATED });
        createReadStream(file).pipe(response);
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    return { origin: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

/** The words of the command line after `name`, up to the next option. */
export function words(line, name) {
    const at = line.indexOf(name);
    const after = at < 0 ? [] : line.slice(at + 1);
    const end = after.findIndex((word) => word.startsWith("--"));
    return end < 0 ? after : after.slice(0, end);
}
