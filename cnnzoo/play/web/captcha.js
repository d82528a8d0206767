// The CAPTCHA reader: the image, the four digits that are read in it, and where each of them was seen.

import { softmax } from "./engine.js";
import { color, h, number, t } from "./page.js";

export class CaptchaAnswer {
  /** `onPick` is told of a score: (stage, unit). */
  constructor(network, onPick) {
    Object.assign(this, { network, onPick });
    const { height, width } = network.spec.preprocessing;
    this.canvas = h("canvas", { width, height, role: "img" });
    this.overlay = h("canvas", { class: "overlay", width: width * 2, height: height * 2, "aria-hidden": "true" });
    this.cards = h("div", { class: "digits" });
    this.read = h("p", { class: "read", "aria-live": "polite" });
    this.node = h("div", { class: "captcha" }, h("div", { class: "frame" }, this.canvas, this.overlay), h("p", { class: "quiet" }, t("captcha.where")), this.read, this.cards);
  }
  /** The bytes (height, width, 3) that the network has just read. */
  show(bytes, label) {
    const { charset, length } = this.network.spec;
    const [height, width] = [this.canvas.height, this.canvas.width];
    const image = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) image.data.set([bytes[3 * i], bytes[3 * i + 1], bytes[3 * i + 2], 255], 4 * i);
    this.canvas.getContext("2d").putImageData(image, 0, 0);
    const scores = this.network.scores;
    const each = Array.from({ length }, (_, at) => softmax(scores.subarray(at * charset.length, (at + 1) * charset.length)));
    const best = each.map((shares) => shares.indexOf(Math.max(...shares)));
    const text = best.map((digit) => charset[digit]).join("");
    this.canvas.setAttribute("aria-label", t("captcha.label", { text }));
    this.node.dataset.text = text;
    this.read.replaceChildren(h("b", {}, text), label ? h("span", { class: label === text ? "right" : "wrong" }, t(label === text ? "captcha.right" : "captcha.wrong", { label })) : "");
    const last = this.network.stages.at(-1);
    this.cards.replaceChildren(
      ...each.map((shares, at) =>
        h(
          "button",
          { type: "button", class: `digit position-${at}`, onclick: () => this.onPick(last, { map: at * charset.length + best[at], y: 0, x: 0 }) },
          h("b", {}, charset[best[at]]),
          h("span", { class: "share" }, `${number(shares[best[at]] * 100, 1)} %`),
          h("span", { class: "bars", "aria-hidden": "true" }, shares.map((share) => h("i", { style: { height: `${Math.max(2, share * 100)}%` } }))),
        ),
      ),
    );
    this.where(best);
  }
  /** What each place of the last maps adds to the score of the digit that was read: its class activation map. */
  where(best) {
    const { stages, spec } = this.network;
    const [columns, linear] = [stages.at(-2), stages.at(-1)];
    const { data, shape: [channels, height, width] } = columns.input.out;
    const draw = this.overlay.getContext("2d");
    draw.clearRect(0, 0, this.overlay.width, this.overlay.height);
    const small = document.createElement("canvas");
    [small.width, small.height] = [width, height];
    const n = channels * width;
    best.forEach((digit, at) => {
      const unit = at * spec.charset.length + digit;
      const sums = new Float64Array(height * width);
      for (let c = 0; c < channels; c++) {
        for (let y = 0; y < height; y++) {
          for (let x = 0; x < width; x++) sums[y * width + x] += (data[(c * height + y) * width + x] * linear.layer.weight[unit * n + c * width + x]) / height;
        }
      }
      const most = Math.max(...sums);
      const rgb = color(`position-${at}`);
      const [r, g, b] = [1, 3, 5].map((from) => parseInt(rgb.slice(from, from + 2), 16));
      const image = new ImageData(width, height);
      sums.forEach((sum, i) => image.data.set([r, g, b, Math.max(0, (sum / most - 0.15) / 0.85) ** 0.8 * 190], 4 * i));
      small.getContext("2d").putImageData(image, 0, 0);
      draw.imageSmoothingQuality = "high";
      draw.drawImage(small, 0, 0, this.overlay.width, this.overlay.height);
    });
  }
}
