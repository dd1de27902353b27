// Charts as SVG: bars of shares, and curves that grow.

const COLOURS = ["#2a78d6", "#d9662b", "#2b9a66", "#a34fc4", "#c2902a", "#cc3d6b", "#3aa6b9", "#7c8694"];
export const colour = (index) => COLOURS[index % COLOURS.length];

function element(name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
}

function svg(width, height, label) {
    return element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
}

function legend(labels) {
    const list = document.createElement("ul");
    labels.forEach((label, i) => {
        const item = document.createElement("li");
        item.style.setProperty("--colour", colour(i));
        item.textContent = label;
        list.append(item);
    });
    return list;
}

/** Bars of each measurement's share of the copy's rate, by optimizer and storage. */
export function bars(figure, results) {
    const storages = [...new Set(results.map((result) => result.storage))];
    const row = 24;
    const width = 640;
    const [left, right] = [170, 60];
    const chart = svg(width, results.length * row + 26, "Share of the copy's rate");
    const shares = results.map((result) => result.gb_per_s / result.copy_gb_per_s);
    const most = Math.max(1, ...shares);
    const x = (share) => left + (share / most) * (width - left - right);
    chart.append(element("line", { x1: x(1), x2: x(1), y1: 0, y2: results.length * row, class: "grid" }));
    chart.append(element("text", { x: x(1), y: results.length * row + 18, "text-anchor": "middle", class: "faint" }, "copy"));
    results.forEach((result, i) => {
        const y = i * row;
        chart.append(element("text", { x: left - 8, y: y + 17, "text-anchor": "end" }, result.optimizer));
        const bar = element("rect", { x: left, y: y + 4, width: Math.max(1, x(shares[i]) - left), height: row - 8, rx: 3, fill: colour(storages.indexOf(result.storage)) });
        bar.append(element("title", {}, `${result.optimizer} ${result.storage}: ${(result.median_s * 1e3).toFixed(2)} ms, ${result.gb_per_s.toFixed(2)} GB/s`));
        chart.append(bar);
        chart.append(element("text", { x: x(shares[i]) + 6, y: y + 17 }, `${(result.median_s * 1e3).toFixed(1)} ms`));
    });
    figure.replaceChildren(chart, legend(storages));
    figure.hidden = false;
}

/** Curves of the loss over the steps, on a logarithmic scale. */
export function curves(figure, series, steps) {
    const [width, height, left, bottom] = [640, 320, 56, 28];
    const chart = svg(width, height, "Loss over steps");
    const points = [...series.values()].flat().filter(([, loss]) => loss > 0);
    const losses = points.map(([, loss]) => Math.log10(loss));
    const [low, high] = losses.length ? [Math.min(...losses), Math.max(...losses)] : [-1, 0];
    const span = Math.max(high - low, 0.5);
    const x = (step) => left + (step / steps) * (width - left - 12);
    const y = (loss) => 10 + ((high - Math.log10(loss)) / span) * (height - bottom - 20);
    for (let decade = Math.ceil(high - span); decade <= Math.floor(high); decade++) {
        chart.append(element("line", { x1: left, x2: width - 12, y1: y(10 ** decade), y2: y(10 ** decade), class: "grid" }));
        chart.append(element("text", { x: left - 6, y: y(10 ** decade) + 4, "text-anchor": "end", class: "faint" }, `1e${decade}`));
    }
    for (const part of [0, 0.5, 1]) {
        chart.append(element("text", { x: x(part * steps), y: height - 6, "text-anchor": part === 1 ? "end" : "middle", class: "faint" }, Math.round(part * steps)));
    }
    [...series.values()].forEach((line, i) => {
        const shown = line.filter(([, loss]) => loss > 0).map(([step, loss]) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`);
        chart.append(element("polyline", { points: shown.join(" "), fill: "none", stroke: colour(i), "stroke-width": 2 }));
    });
    figure.replaceChildren(chart, legend([...series.keys()]));
    figure.hidden = false;
}
