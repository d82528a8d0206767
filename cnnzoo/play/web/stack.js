// The layers of a network, one below the other, each with its maps; a unit can be picked on any of them.

import { LIMIT } from "./engine.js";
import { h, number, t } from "./page.js";
import { Mosaic, thumbnail } from "./paint.js";

const PLANS = {
  lenet5: {
    input: { most: 96 },
    c1: { columns: 6 },
    s2: { columns: 6, most: 56 },
    c3: { columns: 8, most: 60 },
    s4: { columns: 8, most: 40 },
    c5: { columns: 30, gap: 2, most: 14 },
    f6: { columns: 28, gap: 2, most: 14 },
    output: { columns: 10, gap: 4, most: 32 },
  },
  captcha_cnn_small: {
    input: { most: 180 },
    conv1: { columns: 4, most: 180 },
    conv2: { columns: 8, most: 90 },
    conv3: { columns: 8, most: 90 },
    conv4: { columns: 12, gap: 3, most: 66 },
    conv5: { columns: 12, gap: 3, most: 66 },
    pool1: { columns: 4, most: 90 },
    pool2: { columns: 8, most: 90 },
    pool3: { columns: 8, gap: 3, most: 66 },
    columns: { columns: 1, gap: 0, most: 440, row: 3 },
    fc: { columns: 10, gap: 3, most: 20 },
  },
};

/** F6 of 1998 is compared with codes that are drawings of 7x12 pixels, and is shown as one. */
const CODE = { columns: 7, gap: 0, most: 11 };

/** What a layer is called on the page: C3 as in the paper, conv3 as in the code. */
export const title = (stage) => (["input", "output"].includes(stage.name) ? t(`layer.${stage.name}`) : /^[csf]\d$/.test(stage.name) ? stage.name.toUpperCase() : stage.name);

export const kindName = (stage) => t(`kind.${stage.kind}`);

export const shapeName = ([count, height, width]) => (height * width === 1 ? t("units", { count }) : t("maps", { count, height, width }));

export class Stack {
  /** `onPick` is told of a unit: (stack, stage, { map, y, x }). */
  constructor(network, onPick) {
    Object.assign(this, { network, onPick, rows: [], picked: null });
    const { name, preprocessing, classic } = network.spec;
    this.node = h("div", { class: "stack" });
    for (const stage of [network.picture, ...network.stages]) {
      const coded = network.stages.at(-1).kind === "rbf" && stage.name === "f6";
      const plan = { ...(coded ? CODE : PLANS[name][stage.name]), limit: LIMIT[stage.squashing] };
      const mosaic = new Mosaic(stage.out, plan, stage.kind === "input" ? preprocessing : null);
      const row = { stage, mosaic, heading: h("h3"), facts: h("p", { class: "facts" }), body: h("div", { class: "maps" }) };
      row.node = h("section", { class: "layer", data: { layer: stage.name, kind: stage.kind } }, h("div", { class: "legend" }, row.heading, row.facts), row.body);
      if (stage === network.stages.at(-1) && name === "lenet5") this.classes(row);
      else row.body.append(mosaic.canvas);
      if (stage.kind !== "input" && !row.cells) this.listen(row);
      this.rows.push(row);
      this.node.append(row.node);
    }
    this.node.dataset.network = network.spec.id;
    this.classic = classic;
    this.relabel();
  }
  relabel() {
    for (const { stage, heading, facts, mosaic } of this.rows) {
      heading.textContent = title(stage);
      const [count, height, width] = stage.out.shape;
      const parts = stage.kind === "input" ? [`${height}×${width}`] : [shapeName([count, height, width]), kindName(stage)];
      if (stage.layer?.sparse) parts.push(t("kind.sparse", { count: stage.layer.table.flat().length }));
      if (stage.params) parts.push(t("parameters", { count: stage.params.toLocaleString("en") }));
      facts.replaceChildren(...parts.map((part) => h("span", {}, part)));
      mosaic.canvas.setAttribute("aria-label", t("layer.label", { layer: title(stage), shape: shapeName([count, height, width]) }));
    }
  }
  listen({ stage, mosaic }) {
    const { canvas } = mosaic;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    const pick = (event) => {
      const unit = mosaic.at(event.clientX, event.clientY);
      if (unit) this.onPick(this, stage, unit);
    };
    canvas.addEventListener("click", pick);
    canvas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && event.buttons === 1 && pick(event));
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      const own = this.picked?.stage === stage ? this.picked.unit : null;
      if (move) this.onPick(this, stage, own ? mosaic.step(own, ...move) : { map: 0, y: 0, x: 0 }, true);
      else if (event.key === "Enter" || event.key === " ") this.onPick(this, stage, own ?? this.strongest(stage), true);
      else return;
      event.preventDefault();
    });
  }
  /** The unit of a stage that answers most. */
  strongest(stage) {
    const [, height, width] = stage.out.shape;
    let best = 0;
    stage.out.data.forEach((value, i) => {
      if (value > stage.out.data[best]) best = i;
    });
    return { map: Math.floor(best / (height * width)), y: Math.floor(best / width) % height, x: best % width };
  }
  /** The ten classes of the last layer: those of 1998 have codes, drawings to which the distance is measured. */
  classes(row) {
    const { layer } = row.stage;
    row.cells = Array.from({ length: layer.units }, (_, unit) => {
      const [picture, distance, label] = [h("canvas"), h("span", { class: "distance" }), h("span", { class: "class" })];
      const pick = () => this.onPick(this, row.stage, { map: unit, y: 0, x: 0 });
      return { picture, distance, label, node: h("button", { type: "button", class: "code", onclick: pick }, label, picture, distance) };
    });
    row.body.classList.add("codes");
    row.body.append(...row.cells.map((cell) => cell.node));
  }
  fit() {
    for (const { mosaic, cells, body } of this.rows) if (!cells) mosaic.fit(Math.max(120, body.clientWidth));
    this.paint();
  }
  /** Shows what the network has computed last. */
  paint(labels = (i) => this.network.spec.classes[i]) {
    for (const row of this.rows) {
      if (row.cells) this.paintClasses(row, labels);
      else row.mosaic.paint();
    }
  }
  paintClasses({ stage, cells }, labels) {
    const scores = stage.out.data;
    const best = scores.indexOf(Math.max(...scores));
    const coded = stage.kind === "rbf";
    const limit = scores.reduce((most, score) => Math.max(most, Math.abs(score)), 1e-6);
    cells.forEach(({ picture, distance, label, node }, unit) => {
      if (coded) thumbnail(picture, stage.layer.codeOf(unit), 7, 1.7159);
      else thumbnail(picture, [scores[unit]], 1, limit);
      label.textContent = labels(unit);
      distance.textContent = coded ? number(-scores[unit], scores[unit] <= -100 ? 0 : 1) : number(scores[unit], 1);
      node.classList.toggle("best", unit === best);
      node.classList.toggle("picked", this.picked?.stage === stage && this.picked.unit.map === unit);
      node.setAttribute("aria-label", t(coded ? "code.label" : "score.label", { class: labels(unit), number: distance.textContent }));
    });
  }
  /** Marks a unit, and in every layer before it what it sees; without one, nothing. */
  mark(stage, unit) {
    this.picked = stage ? { stage, unit } : null;
    for (const { mosaic } of this.rows) mosaic.marks = [];
    if (stage) {
      const own = this.rows.find((row) => row.stage === stage);
      own.mosaic.marks = [{ maps: [unit.map], top: unit.y, left: unit.x, bottom: unit.y + 1, right: unit.x + 1, strong: true }];
      let maps = [unit.map];
      let at = stage;
      for (const box of this.network.field(stage, unit.y, unit.x)) {
        maps = seen(at, maps, box.stage);
        at = box.stage;
        const row = this.rows.find((one) => one.stage === box.stage);
        const [count, height, width] = at.out.shape;
        const all = maps.length === count && box.top <= 0 && box.left <= 0 && box.bottom >= height && box.right >= width;
        if (at.kind === "input") row.mosaic.marks = [{ ...box, maps: [0] }];
        else if (!all) row.mosaic.marks = [{ ...box, maps }]; // a frame around everything says nothing
      }
    }
  }
}

/** Which maps of `before` feed the given maps of a stage. */
function seen(stage, maps, before) {
  if (stage.kind === "conv") return [...new Set(maps.flatMap((map) => stage.layer.table[map]))];
  if (stage.kind === "linear" || stage.kind === "rbf") return Array.from({ length: before.out.shape[0] }, (_, i) => i);
  return maps;
}
