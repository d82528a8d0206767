// What one unit does: the patch that it looks at, the kernels that made it, and the sum with its numbers.

import { LIMIT } from "./engine.js";
import { h, number, t } from "./page.js";
import { range, signedColor, thumbnail } from "./paint.js";
import { kindName, title } from "./stack.js";

const SHOWN = 6;

function picture(values, width, limit, css, ends = false) {
  const canvas = h("canvas", { class: `thumb ${css}` });
  thumbnail(canvas, values, width, limit, ends);
  return canvas;
}

const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-6);

export class Inspector {
  constructor(node) {
    this.node = node;
    this.open = null; // the input map whose numbers are shown
  }
  /** Shows a unit of a stage, or with `null` what to do to see one. */
  show(network, stage, unit) {
    if (!network) {
      this.node.replaceChildren(h("p", { class: "quiet" }, t("unit.none")));
      return;
    }
    const same = this.network === network && this.stage === stage && this.unit?.map === unit.map;
    Object.assign(this, { network, stage, unit, open: same ? this.open : null });
    this.update();
  }
  update() {
    if (!this.network) return;
    const { stage, unit } = this;
    const [, height, width] = stage.out.shape;
    const value = stage.out.data[(unit.map * height + unit.y) * width + unit.x];
    const place = height * width === 1 ? t("unit.place.vector", { map: unit.map }) : t("unit.place", { map: unit.map, y: unit.y, x: unit.x });
    const parts = { conv: "conv", max: "pool", average: "pool", subsample: "pool", columns: "columns", linear: "linear", rbf: "rbf" };
    this.node.dataset.value = value;
    this.node.replaceChildren(
      h("h2", {}, `${title(stage)} `, h("small", {}, place)),
      h("p", { class: value < 0 ? "value minus" : "value", "aria-live": "polite" }, number(value, 4)),
      h("p", { class: "quiet" }, kindName(stage)),
      this.patch(),
      ...this[parts[stage.kind]](),
    );
  }
  /** The part of the image that the unit sees. */
  patch() {
    const { network, stage, unit } = this;
    const box = network.field(stage, unit.y, unit.x).at(-1);
    const [channels, height, width] = network.picture.out.shape;
    const [top, left, bottom, right] = [Math.max(0, box.top), Math.max(0, box.left), Math.min(height, box.bottom), Math.min(width, box.right)];
    const { data } = network.picture.out;
    const canvas = h("canvas", { class: "thumb patch" });
    const cut = [];
    if (channels === 1) {
      for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) cut.push(data[y * width + x]);
      thumbnail(canvas, cut, right - left, 1, range(network.spec.preprocessing));
    } else {
      const { mean, std } = network.spec.preprocessing;
      [canvas.width, canvas.height] = [right - left, bottom - top];
      const image = new ImageData(right - left, bottom - top);
      let to = 0;
      for (let y = top; y < bottom; y++) {
        for (let x = left; x < right; x++) {
          for (let c = 0; c < 3; c++) image.data[to++] = (data[(c * height + y) * width + x] * std[c] + mean[c]) * 255;
          image.data[to++] = 255;
        }
      }
      canvas.getContext("2d").putImageData(image, 0, 0);
    }
    canvas.style.aspectRatio = `${right - left} / ${bottom - top}`;
    const sees = t("unit.sees", { height: box.bottom - box.top, width: box.right - box.left });
    return h("div", { class: "sees" }, canvas, h("p", {}, sees, h("br"), h("small", {}, t("unit.rows", { top, bottom: bottom - 1, left, right: right - 1 }))));
  }
  input() {
    return this.stage.input.out;
  }
  conv() {
    const { stage, unit } = this;
    const { layer } = stage;
    const input = this.input();
    const found = layer.table[unit.map].map((channel, place) => {
      const patch = layer.patch(input, channel, unit.y, unit.x);
      const kernel = layer.kernelOf(unit.map, place);
      return { channel, patch, kernel, sum: patch.reduce((sum, value, i) => sum + value * kernel[i], 0) };
    });
    const all = found.length;
    const shown = all > SHOWN ? [...found].sort((a, b) => Math.abs(b.sum) - Math.abs(a.sum)).slice(0, SHOWN) : found;
    const open = shown.find(({ channel }) => channel === this.open) ?? shown[0];
    const most = largest(found.flatMap(({ patch }) => patch));
    const heavy = largest(found.flatMap(({ kernel }) => [...kernel]));
    const from = this.stage.input;
    const rows = shown.map((one) => {
      const ends = from.kind === "input" && input.shape[0] === 1 ? range(this.network.spec.preprocessing) : false;
      const pick = () => {
        this.open = one.channel;
        this.update();
        this.node.querySelector(".term.open")?.focus({ preventScroll: true });
      };
      return h(
        "button",
        { type: "button", class: `term ${one === open ? "open" : ""}`, "aria-pressed": String(one === open), onclick: pick },
        h("span", { class: "from" }, this.mapName(one.channel)),
        picture(one.patch, layer.kernel[1], most, "cell", ends),
        h("span", {}, "×"),
        picture(one.kernel, layer.kernel[1], heavy, "cell"),
        h("span", {}, "="),
        h("output", {}, number(one.sum, 3)),
      );
    });
    const rest = found.filter((one) => !shown.includes(one)).reduce((sum, one) => sum + one.sum, 0);
    const total = found.reduce((sum, one) => sum + one.sum, 0);
    return [
      h("h3", {}, t("unit.kernels", { count: all })),
      h("div", { class: "terms" }, rows, all > SHOWN && h("p", { class: "quiet" }, t("unit.rest", { count: all - SHOWN, sum: number(rest, 3) }))),
      h("h3", {}, t("unit.numbers", { map: this.mapName(open.channel) })),
      this.products(open, layer.kernel[1], heavy),
      this.after(total, layer.bias?.[unit.map]),
    ];
  }
  mapName(channel) {
    const from = this.stage.input;
    if (from.kind === "input") return from.out.shape[0] === 1 ? t("unit.picture") : t(`unit.channel.${channel}`);
    return `${title(from)}·${channel}`;
  }
  /** Every product of a window and a kernel, with both factors. */
  products({ patch, kernel }, columns, heavy) {
    const most = Math.max(heavy, largest(patch.map((value, i) => value * kernel[i])));
    const cells = patch.map((value, i) =>
      h(
        "td",
        { style: { "--tint": signedColor(value * kernel[i], 2 * most) } },
        h("span", { class: "factors" }, number(value), h("br"), "×", number(kernel[i])),
        h("b", {}, number(value * kernel[i])),
      ),
    );
    const rows = [];
    while (cells.length) rows.push(h("tr", {}, cells.splice(0, columns)));
    return h("div", { class: "scroll" }, h("table", { class: "products" }, h("tbody", {}, rows)));
  }
  /** From the sum of the products to the unit's value, a line for each step. */
  after(total, bias, first = "unit.sum") {
    const { stage, unit } = this;
    const lines = [[t(first), number(total, 4)]];
    let value = total;
    if (bias !== undefined) {
      value += bias;
      lines.push([t("unit.bias"), `+ ${number(bias, 4)}`]);
    }
    if (stage.norm) {
      const [factor, summand] = [stage.norm.factor[unit.map], stage.norm.summand[unit.map]];
      lines.push([t("unit.norm"), `× ${number(factor, 4)} + ${number(summand, 4)}`]);
      value = value * factor + summand;
    }
    if (stage.squashing) {
      const symbol = { Tanh: "tanh", ScaledTanh: "1.7159 tanh(⅔ · )", ReLU: "max(0, · )", Sigmoid: "1 / (1 + exp(−·))" }[stage.squashing];
      lines.push([symbol, `(${number(value, 4)})`]);
    }
    const [, height, width] = stage.out.shape;
    const result = stage.out.data[(unit.map * height + unit.y) * width + unit.x];
    return h(
      "dl",
      { class: "steps" },
      lines.flatMap(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]),
      h("dt", { class: "result" }, t("unit.value")),
      h("dd", { class: "result" }, number(result, 4)),
    );
  }
  pool() {
    const { stage, unit } = this;
    const { layer } = stage;
    const patch = layer.patch(this.input(), unit.map, unit.y, unit.x);
    const most = LIMIT[stage.input.squashing] ?? largest([...this.input().data]);
    const best = patch.indexOf(Math.max(...patch));
    const cells = patch.map((value, i) =>
      h("td", { class: layer.kind === "max" && i === best ? "chosen" : "", style: { "--tint": signedColor(value, 2 * most) } }, h("b", {}, number(value, 3))),
    );
    const rows = [];
    while (cells.length) rows.push(h("tr", {}, cells.splice(0, layer.kernel[1])));
    const sum = patch.reduce((a, b) => a + b, 0);
    const table = h("table", { class: "products window" }, h("tbody", {}, rows));
    const heading = h("h3", {}, t("unit.window", { map: this.mapName(unit.map) }));
    if (layer.kind === "max") return [heading, table, h("p", {}, t("unit.max"))];
    if (layer.kind === "average") return [heading, table, h("p", {}, t("unit.average", { sum: number(sum, 3), count: patch.length }))];
    const weighted = sum * layer.weight[unit.map];
    const line = h("p", {}, t("unit.subsample", { sum: number(sum, 3), weight: number(layer.weight[unit.map], 3) }));
    return [heading, table, line, this.after(weighted, layer.bias[unit.map], "unit.weighted")];
  }
  columns() {
    const { unit } = this;
    const { data, shape: [, height, width] } = this.input();
    const column = Array.from({ length: height }, (_, y) => data[(unit.map * height + y) * width + unit.x]);
    const most = largest([...data]);
    const cells = column.map((value) => h("tr", {}, h("td", { style: { "--tint": signedColor(value, 2 * most) } }, h("b", {}, number(value, 2)))));
    const sum = column.reduce((a, b) => a + b, 0);
    return [
      h("h3", {}, t("unit.window", { map: this.mapName(unit.map) })),
      h("table", { class: "products column" }, h("tbody", {}, cells)),
      h("p", {}, t("unit.average", { sum: number(sum, 3), count: height })),
    ];
  }
  linear() {
    const { stage, unit } = this;
    const { layer } = stage;
    const { data, shape: [, , width] } = this.input();
    const n = data.length;
    const terms = Array.from(data, (value, i) => ({ i, value, weight: layer.weight[unit.map * n + i] }));
    for (const term of terms) term.product = term.value * term.weight;
    const top = [...terms].sort((a, b) => Math.abs(b.product) - Math.abs(a.product)).slice(0, 8);
    const most = Math.abs(top[0].product) || 1;
    const total = terms.reduce((sum, term) => sum + term.product, 0);
    const source = title(stage.input);
    const label = ({ i }) => (width === 1 ? `${source}·${i}` : `${source}·${Math.floor(i / width)}, ${i % width}`);
    const rows = top.map((term) =>
      h(
        "tr",
        {},
        h("td", {}, label(term)),
        h("td", {}, `${number(term.value)} × ${number(term.weight)}`),
        h("td", { class: "bar" }, h("i", { class: term.product < 0 ? "minus" : "plus", style: { width: `${(Math.abs(term.product) / most) * 100}%` } })),
        h("td", {}, number(term.product, 3)),
      ),
    );
    const all = picture(terms.map((term) => term.product), width === 1 ? 12 : width, most, "whole");
    return [
      h("h3", {}, t("unit.terms", { count: n })),
      h("table", { class: "list" }, h("tbody", {}, rows)),
      h("figure", {}, all, h("figcaption", {}, t("unit.all", { count: n }))),
      this.after(total, layer.bias?.[unit.map]),
    ];
  }
  rbf() {
    const { stage, unit } = this;
    const features = [...this.input().data];
    const code = [...stage.layer.codeOf(unit.map)];
    const squares = features.map((value, i) => (value - code[i]) ** 2);
    const far = squares.map((square, i) => ({ i, square })).sort((a, b) => b.square - a.square).slice(0, 5);
    const parts = [[features, 1.7159, "F6"], [code, 1.7159, t("unit.code")], [squares, Math.max(1, ...squares), t("unit.squares")]];
    const figures = parts.map(([values, limit, name]) => h("figure", {}, picture(values, 7, limit, "bitmap"), h("figcaption", {}, name)));
    const rows = far.map(({ i, square }) =>
      h("tr", {}, h("td", {}, `F6·${i}`), h("td", {}, `(${number(features[i])} − ${code[i] < 0 ? `(${number(code[i], 0)})` : number(code[i], 0)})²`), h("td", {}, number(square, 3))),
    );
    return [
      h("h3", {}, t("unit.distance")),
      h("div", { class: "figures" }, figures),
      h("table", { class: "list" }, h("tbody", {}, rows)),
      h("p", {}, t("unit.distance.sum", { count: code.length, sum: number(squares.reduce((a, b) => a + b, 0), 3) })),
    ];
  }
}
