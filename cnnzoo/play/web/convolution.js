// The page `convolution`: a window walks over the padded input, and the formula stands below with its numbers.

import { allowed, answer, least, mostPadding, OPERATIONS, span, windows } from "./arithmetic.js";
import { begin, h, number, onChange, still, t } from "./page.js";
import { readColors, signedColor } from "./paint.js";

const at = (id) => document.getElementById(id);
const SLIDERS = { n: [1, 16], k: [1, 7], s: [1, 5], p: [0, 5], d: [1, 4] };
const KERNELS = ["edge", "mean", "sharpen", "random"];
const MINUS_INFINITY = "−∞";

const state = { op: "conv", n: 7, k: 3, s: 2, p: 1, d: 1, ceil: false, kernel: "edge", seed: 0 };
let settings = allowed(state);
let place = 0; // the window, counted row by row
let timer = null;
let saving = null;
let input, weights, outputs, cells;

/** The same numbers for the same seed, on every machine (mulberry32). */
function numbers(seed) {
  let a = seed * 2654435761 + 1;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let mixed = Math.imul(a ^ (a >>> 15), 1 | a);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** A ring, on which an edge kernel has something to find; or whole numbers from 0 to 9. */
function makeInput() {
  const { n, seed } = { ...settings, seed: state.seed };
  const draw = numbers(seed);
  const middle = (n - 1) / 2;
  return Array.from({ length: n * n }, (_, i) => {
    if (seed) return Math.floor(draw() * 10);
    const radius = Math.hypot(Math.floor(i / n) - middle, (i % n) - middle);
    return Math.round(9 * Math.exp(-(((radius - n / 3.2) / (n / 6.5)) ** 2)));
  });
}

function makeKernel() {
  const { k } = settings;
  const draw = numbers(state.seed + 99);
  const middle = Math.floor(k / 2);
  return Array.from({ length: k * k }, (_, i) => {
    const [y, x] = [Math.floor(i / k), i % k];
    if (state.kernel === "random") return Math.floor(draw() * 7) - 3;
    if (state.kernel === "mean" || k === 1) return 1;
    if (state.kernel === "edge") return Math.sign(x - (k - 1) / 2);
    const cross = y === middle || x === middle;
    return y === middle && x === middle ? 2 * k - 1 : cross ? -1 : 0;
  });
}

// Controls

function choices(id, names, key, prefix) {
  at(id).replaceChildren(
    ...names.map((name) =>
      h("button", { type: "button", data: { value: name }, "aria-pressed": String(state[key] === name), onclick: () => change({ [key]: name }) }, t(`${prefix}.${name}`)),
    ),
  );
}

function controls() {
  choices("operation", OPERATIONS, "op", "operation");
  choices("kernel", KERNELS, "kernel", "kernel");
  at("kernels").hidden = settings.op !== "conv";
  at("kernel-panel").hidden = settings.op !== "conv";
  for (const [key, [, most]] of Object.entries(SLIDERS)) {
    const slider = at(`slider-${key}`);
    slider.max = key === "p" ? Math.min(most, mostPadding(settings)) : most;
    slider.value = settings[key];
    slider.disabled = (key === "d" && settings.op === "average") || (key === "p" && slider.max === "0");
    at(`value-${key}`).textContent = settings[key];
  }
  at("ceil").checked = settings.ceil;
  at("ceil").disabled = settings.op === "conv";
  at("value-ceil").textContent = t(settings.ceil ? "ceil.on" : "ceil.off");
  const notes = [];
  if (settings.op === "conv") notes.push(t("note.ceil"));
  if (settings.op === "average") notes.push(t("note.dilation"));
  if (settings.op !== "conv") notes.push(t("note.padding", { most: mostPadding(settings) }));
  at("notes").textContent = notes.join(" ");
}

function makeSliders() {
  const fields = Object.entries(SLIDERS).map(([key, [lowest, most]]) =>
    h(
      "label",
      { class: "field", for: `slider-${key}` },
      h("span", {}, h("i", {}, key), " ", h("span", { data: { t: `setting.${key}` } })),
      h("output", { id: `value-${key}`, for: `slider-${key}` }),
      h("input", { type: "range", id: `slider-${key}`, min: lowest, max: most, oninput: (event) => change({ [key]: Number(event.target.value) }) }),
    ),
  );
  const ceil = h(
    "label",
    { class: "field switch", for: "ceil" },
    h("span", { data: { t: "setting.ceil" } }),
    h("output", { id: "value-ceil", for: "ceil" }),
    h("input", { type: "checkbox", id: "ceil", onchange: (event) => change({ ceil: event.target.checked }) }),
  );
  at("sliders").replaceChildren(...fields, ceil);
}

function change(changes) {
  const focused = document.activeElement?.closest("[data-value]");
  const group = focused?.parentNode.id;
  Object.assign(state, changes);
  render();
  if (group) at(group).querySelector(`[data-value="${focused.dataset.value}"]`)?.focus();
  clearTimeout(saving); // browsers refuse an address that changes with every step of a slider
  saving = setTimeout(() => {
    const { seed, ...shared } = { ...state, ceil: Number(state.ceil) };
    history.replaceState(null, "", `#${new URLSearchParams(Object.entries(shared))}`);
  }, 300);
}

function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [key, [lowest, most]] of Object.entries(SLIDERS)) {
    const value = parseInt(given.get(key), 10);
    if (Number.isInteger(value)) state[key] = Math.min(most, Math.max(lowest, value));
  }
  if (OPERATIONS.includes(given.get("op"))) state.op = given.get("op");
  if (KERNELS.includes(given.get("kernel"))) state.kernel = given.get("kernel");
  if (given.has("ceil")) state.ceil = given.get("ceil") === "1";
}

// Grids

/** A square grid of cells; `make` gives what stands in one. */
function grid(id, count, most, make) {
  const node = at(id);
  node.style.setProperty("--count", count);
  node.style.setProperty("--most", `${most}px`);
  node.classList.toggle("fine", count > 12);
  const found = Array.from({ length: count * count }, (_, i) => make(Math.floor(i / count), i % count, i));
  node.replaceChildren(...found);
  return found;
}

function render() {
  settings = allowed(state);
  const { size } = windows(settings);
  input = makeInput();
  weights = makeKernel();
  outputs = size < 1 ? [] : Array.from({ length: size * size }, (_, i) => answer(settings, input, weights, Math.floor(i / size), i % size));
  place = Math.min(place, Math.max(0, outputs.length - 1));
  controls();
  const { n, p, k, s } = settings;
  const reach = size < 1 ? n + 2 * p : Math.max(n + 2 * p, (size - 1) * s + span(settings));
  const around = settings.op === "max" ? MINUS_INFINITY : "0";
  cells = {};
  cells.input = grid("input", reach, 40, (y, x) => {
    const [row, column] = [y - p, x - p];
    const inside = row >= 0 && row < n && column >= 0 && column < n;
    if (inside) return h("span", { class: "cell", style: { "--value": input[row * n + column] / 9 } }, input[row * n + column]);
    const beyond = row >= n + p || column >= n + p;
    return h("span", { class: beyond ? "cell beyond" : "cell padding" }, beyond ? "" : around);
  });
  cells.reach = reach;
  const heavy = Math.max(...weights.map(Math.abs), 1);
  grid("weights", k, 40, (y, x, i) => h("span", { class: "cell tinted", style: { "--tint": signedColor(weights[i], 2 * heavy) } }, number(weights[i], 0)));
  const most = Math.max(...outputs.map(({ value }) => (Number.isFinite(value) ? Math.abs(value) : 0)), 1e-6);
  cells.output = size < 1 ? [] : grid("output", size, 40, (y, x, i) => h("span", { class: "cell tinted", data: { i }, style: { "--tint": signedColor(outputs[i].value, 2 * most) } }, whole(outputs[i].value)));
  if (size < 1) at("output").replaceChildren(h("span", { class: "empty" }, "∅"));
  at("input-size").textContent = t("grid.padded", { n, p });
  at("output-size").textContent = size < 1 ? "0" : t("grid.size", { n: size });
  at("output-size").dataset.value = Math.max(0, size);
  at("window-title").textContent = t(settings.op === "conv" ? "grid.window" : "grid.values");
  for (const id of ["back", "next", "toggle"]) at(id).disabled = outputs.length < 2;
  formula();
  show();
}

const whole = (value) => (value === -Infinity ? MINUS_INFINITY : number(value, Number.isInteger(value) ? 0 : 1));

/** The window at `place`: its taps, its products and their sum. */
function show() {
  const { size } = windows(settings);
  const { k, p } = settings;
  for (const cell of cells.input) cell.classList.remove("tap", "chosen");
  if (size < 1) {
    at("products").replaceChildren();
    at("sum").textContent = "";
    at("place").textContent = "";
    return;
  }
  const [row, column] = [Math.floor(place / size), place % size];
  const { terms, value } = outputs[place];
  const chosen = settings.op === "max" ? terms.findIndex((term) => term.value === value) : -1;
  terms.forEach(({ tap }, i) => {
    const cell = cells.input[(tap.y + p) * cells.reach + tap.x + p];
    cell?.classList.add("tap");
    if (i === chosen) cell?.classList.add("chosen");
  });
  cells.output.forEach((cell, i) => {
    cell.classList.toggle("later", i > place);
    cell.classList.toggle("now", i === place);
  });
  products(terms, k, chosen);
  at("sum").textContent = sentence(terms, value);
  at("place").textContent = t("walk.at", { i: place + 1, all: outputs.length, y: row, x: column });
}

function products(terms, k, chosen) {
  const most = Math.max(...terms.map(({ value, weight }) => Math.abs(value * (weight ?? 1))).filter(Number.isFinite), 1e-6);
  const missing = k * k - terms.length; // of an average that reaches beyond the padding
  const columns = missing ? new Set(terms.map(({ tap }) => tap.x)).size : k;
  const node = at("products");
  node.style.setProperty("--count", columns);
  node.style.setProperty("--most", settings.op === "conv" ? "56px" : "40px");
  node.replaceChildren(
    ...terms.map(({ value, weight }, i) => {
      const product = weight === undefined ? value : value * weight;
      const factors = weight !== undefined && k <= 5 && h("small", {}, `${whole(value)}·${weight < 0 ? `(${number(weight, 0)})` : weight}`);
      return h("span", { class: `cell tinted ${i === chosen ? "chosen" : ""}`, style: { "--tint": signedColor(product, 2 * most) } }, factors, h("b", {}, whole(product)));
    }),
  );
}

const SHOWN = 9;

function sentence(terms, value) {
  const texts = terms.map((term) => (settings.op === "conv" ? `${whole(term.value)}·${term.weight < 0 ? `(${number(term.weight, 0)})` : term.weight}` : whole(term.value)));
  const cut = texts.length > SHOWN ? [...texts.slice(0, SHOWN - 1), t("sum.more", { count: texts.length - SHOWN + 1 })] : texts;
  const joined = cut.join(settings.op === "max" ? ", " : " + ");
  return t(`sum.${settings.op}`, { terms: joined, count: terms.length, value: Number.isInteger(value) ? number(value, 0) : whole(value) });
}

// The formula, in MathML

const MATH = "http://www.w3.org/1998/Math/MathML";

function m(tag, ...children) {
  const node = document.createElementNS(MATH, tag);
  node.append(...children);
  return node;
}

const token = (text) => m(/^[a-z]$/.test(text) ? "mi" : /^\d+$/.test(text) ? "mn" : "mo", /^-\d/.test(text) ? `−${text.slice(1)}` : text);
const row = (...texts) => m("mrow", ...texts.map((text) => (typeof text === "string" ? token(text) : text)));

function math(...texts) {
  const node = m("math", row(...texts));
  node.setAttribute("display", "block");
  return node;
}

/** A fraction in brackets that round it; the style sheet draws them, since few fonts have them in every height. */
function rounded(above, below) {
  const brackets = m("mrow", m("mfrac", row(...above), row(below)));
  brackets.classList.add(settings.ceil ? "ceil" : "floor");
  brackets.setAttribute("aria-label", settings.ceil ? "ceil" : "floor");
  return row(brackets, "+", "1");
}

function formula() {
  const { n, k, s, p, d, ceil, op } = settings;
  const { room, formula: plain, dropped, size } = windows(settings);
  const text = (value) => String(value).replace("-", "−");
  const result = math("=", text(dropped ? plain : size));
  result.classList.add("result");
  at("formula").replaceChildren(
    math("o", "=", rounded(["n", "+", "2", "p", "−", "d", row("(", "k", "−", "1", ")"), "−", "1"], "s")),
    math("=", rounded([text(n), "+", "2", "·", text(p), "−", text(d), "·", row("(", text(k), "−", "1", ")"), "−", "1"], text(s))),
    math("=", rounded([text(room)], text(s))),
    result,
  );
  at("formula").dataset.value = size;
  const remarks = [];
  if (dropped) remarks.push(t("formula.dropped", { before: plain, after: size }));
  if (size < 1) remarks.push(t("formula.empty", { span: span(settings), size: n + 2 * p, least: least(settings) }));
  else {
    const rest = n + 2 * p - ((size - 1) * s + span(settings));
    if (size === n) remarks.push(t("formula.same"));
    if (rest > 0) remarks.push(t("formula.unused", { count: rest }));
    if (rest < 0) remarks.push(t("formula.beyond", { count: -rest }));
    if (op === "conv") remarks.push(t("formula.cost", { macs: (size * size * k * k).toLocaleString("en") }));
  }
  at("remarks").textContent = remarks.join(" ");
  const extras = [`stride=${s}`, p && `padding=${p}`, d > 1 && `dilation=${d}`, ceil && "ceil_mode=True"].filter(Boolean).join(", ");
  const layer = { conv: `nn.Conv2d(1, 1, kernel_size=${k}, ${extras})`, max: `nn.MaxPool2d(${k}, ${extras})`, average: `nn.AvgPool2d(${k}, ${extras})` }[op];
  at("code").textContent = `${layer}\ncnnzoo.output_size(${n}, ${k}, ${extras})${size < 1 ? "  # ShapeError" : `  # ${size}`}`;
}

// Walking

function step(by) {
  if (!outputs.length) return;
  place = (place + by + outputs.length) % outputs.length;
  show();
}

function play(on) {
  clearInterval(timer);
  timer = on ? setInterval(() => step(1), 1200 / Number(at("speed").value)) : null;
  at("toggle").textContent = t(on ? "walk.pause" : "walk.play");
  at("toggle").setAttribute("aria-pressed", String(on));
}

function start() {
  begin();
  readColors();
  at("waiting").hidden = true;
  fromAddress();
  makeSliders();
  at("settings").addEventListener("submit", (event) => event.preventDefault());
  const by = (steps) => () => {
    play(false);
    step(steps);
  };
  at("back").addEventListener("click", by(-1));
  at("next").addEventListener("click", by(1));
  at("toggle").addEventListener("click", () => play(!timer));
  at("speed").addEventListener("input", () => play(Boolean(timer)));
  at("shuffle").addEventListener("click", () => change({ seed: state.seed + 1 }));
  at("output").addEventListener("click", (event) => {
    const cell = event.target.closest("[data-i]");
    if (!cell) return;
    play(false);
    place = Number(cell.dataset.i);
    show();
  });
  addEventListener("keydown", (event) => {
    if (event.target !== document.body && event.target !== at("walk")) return;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: windows(settings).size, ArrowUp: -windows(settings).size }[event.key];
    if (steps) by(steps)();
    else if (event.key === " ") play(!timer);
    else return;
    event.preventDefault();
  });
  addEventListener("hashchange", () => {
    fromAddress();
    render();
  });
  const texts = () => {
    readColors();
    render();
    play(Boolean(timer));
  };
  onChange(texts);
  document.querySelectorAll("[data-t]").forEach((node) => (node.textContent = t(node.dataset.t)));
  render();
  play(!still());
  document.body.dataset.ready = "true";
}

start();
