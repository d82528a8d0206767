// The page `play`: what is drawn or chosen goes through the networks, and everything that they compute is shown.

import { CaptchaAnswer } from "./captcha.js";
import { Network, readSafetensors, softmax } from "./engine.js";
import { Inspector } from "./inspector.js";
import { Pad, SIDE } from "./pad.js";
import { begin, h, number, onChange, t } from "./page.js";
import { readColors } from "./paint.js";
import { colorImage, decoded, framed, greyImage } from "./images.js";
import { Stack } from "./stack.js";

const ORDER = ["mnist", "fashion_mnist", "captchas"];
const at = (id) => document.getElementById(id);
const tensors = new Map(); // files of weights that were read
const times = []; // of the last strokes, in milliseconds

let manifest, view;
const inspector = new Inspector(at("unit"));

async function fetched(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(t("error.fetch", { path, status: response.status }));
  return response;
}

async function network(spec) {
  if (!tensors.has(spec.file)) tensors.set(spec.file, readSafetensors(await (await fetched(spec.file)).arrayBuffer()));
  return new Network(spec, tensors.get(spec.file));
}

const className = (spec, i) => (spec.data === "fashion_mnist" ? t(`class.fashion_mnist.${i}`) : spec.classes[i]);

function complain(error) {
  at("complaint").textContent = error.message;
  at("complaint").hidden = false;
}

/** The image in a file, or nothing and a complaint. */
async function readable(blob) {
  at("complaint").hidden = true;
  try {
    return await decoded(blob);
  } catch {
    complain(new Error(t("error.image")));
  }
}

/** What the views have in common: stacks of layers, and the unit that is looked at. */
class View {
  constructor(networks) {
    this.networks = networks;
    this.stacks = networks.map((one) => new Stack(one, (...picked) => this.pick(...picked)));
    this.picked = null;
  }
  open() {
    at("stacks").replaceChildren(...this.stacks.map((stack) => stack.node));
    this.fit();
  }
  /** The stacks that are on the page. */
  get shown() {
    return this.stacks;
  }
  fit() {
    for (const stack of this.shown) stack.fit();
  }
  pick(stack, stage, unit, byKey = false) {
    this.picked = { stack, stage, unit };
    for (const one of this.stacks) one.mark(one === stack ? stage : null, one === stack ? unit : null);
    this.paint();
    inspector.show(stack.network, stage, unit);
    at("inspector").classList.add("open");
    if (byKey) at("said").textContent = `${stage.name} ${unit.map}, ${unit.y}, ${unit.x}: ${number(at("unit").dataset.value * 1, 3)}`;
  }
  unpick() {
    this.picked = null;
    for (const stack of this.stacks) stack.mark(null);
    inspector.show(null);
    inspector.network = null;
    at("inspector").classList.remove("open");
    this.paint();
  }
  paint() {
    for (const stack of this.shown) stack.paint((i) => className(stack.network.spec, i));
  }
}

/** Two LeNet-5s, that of 1998 and that of today, on the same image. */
class LeNetView extends View {
  constructor(networks, data, samples) {
    super([...networks].sort((a, b) => b.spec.classic - a.spec.classic));
    Object.assign(this, { data, samples, variant: "0" });
    this.pad = new Pad(() => this.stroke());
    this.answers = this.networks.map(({ spec }) => {
      const rows = Array.from({ length: 10 }, () => ({ name: h("th", { scope: "row" }), bar: h("i"), value: h("td", { class: "number" }) }));
      const body = rows.map(({ name, bar, value }) => h("tr", {}, name, h("td", { class: "bar" }, bar), value));
      const [title, best, note] = [h("h2"), h("p", { class: "best", "aria-live": "polite" }), h("p", { class: "quiet" })];
      const node = h("section", { class: "answer", data: { network: spec.id } }, title, best, note, h("table", {}, h("tbody", {}, body)));
      return { node, title, best, note, rows };
    });
  }
  open() {
    const choose = h("input", { type: "file", id: "choose", accept: "image/*", class: "hidden", onchange: (event) => this.choose(event.target) });
    const buttons = h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", id: "clear", onclick: () => this.pad.clear() }, t("pad.clear")),
      h("label", { class: "button" }, choose, t("pad.choose")),
    );
    const digits = this.data === "mnist" && h("div", { class: "hand", role: "group", "aria-label": t("pad.write") }, Array.from({ length: 10 }, (_, digit) => h("button", { type: "button", onclick: () => this.pad.write(digit) }, String(digit))));
    const samples = this.samples.length && h(
      "div",
      { class: "samples", role: "group", "aria-label": t("pad.samples") },
      this.samples.map(({ file, label }) => {
        const name = className(this.networks[0].spec, Number(label));
        return h("button", { type: "button", class: "sample", title: name, onclick: () => this.sample(file) }, h("img", { src: file, alt: name, width: 28, height: 28 }));
      }),
    );
    at("source").replaceChildren(
      this.pad.node,
      buttons,
      ...(digits ? [h("p", { class: "quiet" }, t("pad.write")), digits] : []),
      ...(samples ? [h("p", { class: "quiet" }, t("pad.samples")), samples] : []),
      h("p", { id: "pad-keys", class: "quiet keys" }, t("pad.keys")),
    );
    at("answers").replaceChildren(...this.answers.map((answer) => answer.node), h("p", { class: "time" }, h("output", { id: "time" })));
    at("answers").dataset.data = this.data;
    this.variants();
    super.open();
    this.pad.relabel();
  }
  /** Which of the two networks has its layers on the page. */
  variants() {
    const names = { 0: "variant.classic", 1: "variant.today", both: "variant.both" };
    at("variants").replaceChildren(
      ...Object.keys(names).map((key) =>
        h("button", { type: "button", "aria-pressed": String(this.variant === key), data: { variant: key }, onclick: () => this.show(key) }, t(names[key])),
      ),
    );
    at("variants").hidden = this.stacks.length < 2;
    at("stacks").dataset.shown = this.stacks.length < 2 ? "0" : this.variant;
  }
  get shown() {
    return this.stacks.length < 2 || this.variant === "both" ? this.stacks : [this.stacks[Number(this.variant)]];
  }
  show(key) {
    this.variant = key;
    this.variants();
    this.fit();
    at("variants").querySelector(`[data-variant="${key}"]`).focus();
  }
  async sample(file) {
    await this.take(await (await fetched(file)).blob());
  }
  async choose(input) {
    const [file] = input.files;
    input.value = "";
    if (file) await this.take(file);
  }
  async take(blob) {
    const found = await readable(blob);
    if (!found) return;
    this.pad.show(greyImage(found, this.data));
  }
  /** Everything that happens between a movement of the pen and the answer. */
  stroke() {
    const began = performance.now();
    const bytes = this.pad.bytes ?? framed(this.pad.ink(), SIDE, SIDE, this.data);
    for (const one of this.networks) one.run(bytes);
    this.paint();
    if (this.picked) inspector.update();
    this.answer();
    times.push(performance.now() - began);
    if (times.length > 60) times.shift();
    const median = [...times].sort((a, b) => a - b)[times.length >> 1];
    at("time").textContent = t("time", { ms: number(median, 1) });
    at("time").dataset.ms = times.at(-1);
    document.body.dataset.shown = String(Number(document.body.dataset.shown ?? 0) + 1);
  }
  answer() {
    this.networks.forEach(({ scores, spec }, which) => {
      const { title, best, note, rows, node } = this.answers[which];
      const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a]);
      const shares = spec.classic ? null : softmax(scores);
      title.textContent = t(spec.classic ? "variant.classic" : "variant.today");
      best.textContent = className(spec, order[0]);
      note.textContent = spec.classic
        ? t("answer.distance", { nearest: number(-scores[order[0]], 1), next: className(spec, order[1]), far: number(-scores[order[1]], 1) })
        : t("answer.share", { share: number(shares[order[0]] * 100, 1), score: number(scores[order[0]], 2) });
      const most = spec.classic ? Math.max(...scores.map((score) => -score)) : 1;
      node.dataset.scores = JSON.stringify(Array.from(scores));
      rows.forEach(({ name, bar, value }, i) => {
        name.textContent = className(spec, i);
        bar.style.width = `${Math.max(1, ((spec.classic ? -scores[i] : shares[i]) / most) * 100)}%`;
        value.textContent = spec.classic ? number(-scores[i], 1) : `${number(shares[i] * 100, 1)} %`;
        bar.parentNode.parentNode.classList.toggle("top", i === order[0]);
      });
    });
  }
  async begin() {
    const blank = new Uint8Array(28 * 28);
    for (let i = 0; i < 12; i++) for (const one of this.networks) one.run(blank); // so that the browser compiles the engine
    if (this.data === "mnist") this.pad.write(5);
    else await this.sample(this.samples.at(-1).file);
    const [stack] = this.stacks;
    const stage = stack.network.stages.find(({ name }) => name === "c3");
    this.stroke();
    times.length = 0; // the first of a page says little
    this.pick(stack, stage, { map: 3, y: 4, x: 5 });
    at("inspector").classList.remove("open"); // on a small screen, only when asked
  }
}

/** captcha_cnn_small on a CAPTCHA. */
class CaptchaView extends View {
  constructor(networks, samples) {
    super(networks);
    this.samples = samples;
  }
  open() {
    this.answers = new CaptchaAnswer(this.networks[0], (stage, unit) => this.pick(this.stacks[0], stage, unit));
    const choose = h("input", { type: "file", id: "choose", accept: "image/*", class: "hidden", onchange: (event) => this.choose(event.target) });
    at("source").replaceChildren(
      h("p", { class: "quiet" }, t("captcha.samples")),
      h("div", { class: "samples wide", role: "group", "aria-label": t("captcha.samples") }, this.samples.map(({ file, label }) => h("button", { type: "button", class: "sample", onclick: () => this.sample(file, label) }, h("img", { src: file, alt: t("captcha.alt", { label }), width: 180, height: 100 })))),
      h("div", { class: "buttons" }, h("label", { class: "button" }, choose, t("pad.choose"))),
      h("p", { class: "quiet" }, t("captcha.limits")),
    );
    at("answers").replaceChildren(this.answers.node, h("p", { class: "time" }, h("output", { id: "time" })));
    at("answers").dataset.data = "captchas";
    at("variants").hidden = true;
    at("stacks").dataset.shown = "0";
    super.open();
    if (this.bytes) this.run();
  }
  async sample(file, label) {
    await this.take(await (await fetched(file)).blob(), label);
  }
  async choose(input) {
    const [file] = input.files;
    input.value = "";
    if (file) await this.take(file, "");
  }
  async take(blob, label) {
    const found = await readable(blob);
    if (!found) return;
    const { height, width } = this.networks[0].spec.preprocessing;
    this.bytes = colorImage(found, [height, width]);
    this.label = label;
    this.run();
  }
  run() {
    const began = performance.now();
    const [reader] = this.networks;
    reader.run(this.bytes);
    this.paint();
    if (this.picked) inspector.update();
    this.answers.show(this.bytes, this.label);
    this.answers.node.dataset.scores = JSON.stringify(Array.from(reader.scores));
    at("time").textContent = t("captcha.time", { ms: number(performance.now() - began, 0) });
    document.body.dataset.shown = String(Number(document.body.dataset.shown ?? 0) + 1);
  }
  async begin() {
    const [{ file, label }] = this.samples;
    await this.sample(file, label);
    const [stack] = this.stacks;
    const stage = stack.network.stages.find(({ name }) => name === "conv5");
    this.pick(stack, stage, stack.strongest(stage));
    at("inspector").classList.remove("open");
  }
}

const views = new Map();

async function show(data) {
  for (const tab of at("tabs").children) tab.setAttribute("aria-selected", String(tab.dataset.data === data));
  for (const tab of at("tabs").children) tab.tabIndex = tab.dataset.data === data ? 0 : -1;
  history.replaceState(null, "", `#${data}`);
  document.body.dataset.view = data;
  at("title").textContent = t(`title.${data}`);
  const both = data === "captchas" || manifest.networks.filter((spec) => spec.data === data).length > 1;
  at("lead").textContent = t(both ? `lead.${data}` : "lead.one");
  const fresh = !views.has(data);
  if (fresh) {
    const networks = await Promise.all(manifest.networks.filter((spec) => spec.data === data).map(network));
    const samples = manifest.samples[data] ?? [];
    views.set(data, data === "captchas" ? new CaptchaView(networks, samples) : new LeNetView(networks, data, samples));
  }
  if (document.body.dataset.view !== data) return; // another was asked for meanwhile
  view = views.get(data);
  times.length = 0;
  view.open();
  if (fresh) await view.begin();
  else if (view.picked) view.pick(view.picked.stack, view.picked.stage, view.picked.unit);
  else inspector.show(null);
  if (!fresh) at("inspector").classList.remove("open");
}

function tabs() {
  const found = ORDER.filter((data) => manifest.networks.some((spec) => spec.data === data));
  const selected = found.includes(location.hash.slice(1)) ? location.hash.slice(1) : found[0];
  at("tabs").replaceChildren(...found.map((data) => h("button", { type: "button", role: "tab", data: { data }, "aria-controls": "view", onclick: () => show(data).catch(complain) }, t(`tab.${data}`))));
  at("tabs").onkeydown = (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const all = [...at("tabs").children];
    const next = all[(all.indexOf(document.activeElement) + by + all.length) % all.length];
    next.focus();
    next.click();
  };
  return selected;
}

async function start() {
  begin();
  readColors();
  at("waiting").hidden = true;
  manifest = await (await fetched("manifest.json")).json();
  at("close").addEventListener("click", () => view.unpick());
  addEventListener("keydown", (event) => event.key === "Escape" && view?.picked && view.unpick());
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) view?.fit();
    width = innerWidth;
  });
  onChange(() => {
    readColors();
    const selected = document.body.dataset.view;
    tabs();
    for (const one of views.values()) for (const stack of one.stacks) stack.relabel();
    show(selected).then(() => view instanceof LeNetView && view.stroke()).catch(complain);
  });
  await show(tabs());
  view.fit();
  document.body.dataset.ready = "true";
}

start().catch(complain);
