// The pad to draw on: with mouse, pen or finger, with the keyboard, or by itself.

import { color, h, still, t } from "./page.js";

export const SIDE = 280;
const BRUSH = 24; // about two pixels of MNIST, once the digit is scaled into its 20x20

// How a hand writes the digits: strokes through points of a 100x100 field.
const HAND = [
  [[[52, 12], [30, 25], [24, 52], [34, 82], [55, 88], [74, 70], [76, 38], [62, 15], [50, 12]]],
  [[[56, 10], [52, 40], [48, 68], [45, 90]]],
  [[[28, 30], [38, 14], [58, 12], [68, 28], [58, 52], [38, 74], [26, 86], [48, 84], [76, 86]]],
  [[[30, 18], [50, 10], [68, 22], [60, 40], [44, 48], [64, 54], [72, 72], [56, 88], [30, 84]]],
  [[[32, 12], [27, 34], [26, 52], [50, 54], [76, 50]], [[68, 14], [64, 50], [60, 90]]],
  [[[34, 14], [31, 44], [52, 42], [70, 56], [68, 76], [50, 88], [28, 82]], [[34, 14], [54, 14], [72, 12]]],
  [[[62, 10], [40, 28], [28, 56], [34, 82], [54, 88], [68, 74], [60, 56], [42, 56], [32, 70]]],
  [[[26, 18], [50, 17], [74, 15], [60, 44], [48, 68], [42, 90]]],
  [[[64, 22], [48, 11], [34, 22], [44, 42], [60, 58], [66, 76], [50, 89], [34, 78], [40, 58], [60, 40], [66, 24]]],
  [[[68, 26], [52, 12], [34, 22], [32, 42], [50, 48], [66, 36], [69, 24], [66, 54], [58, 90]]],
];

/** Points close together on a smooth curve through the given ones (Catmull-Rom). */
function smooth(points, steps = 8) {
  const found = [];
  for (let i = 0; i + 1 < points.length; i++) {
    const [a, b, c, d] = [points[Math.max(0, i - 1)], points[i], points[i + 1], points[Math.min(points.length - 1, i + 2)]];
    for (let s = 0; s < steps; s++) {
      const u = s / steps;
      found.push([0, 1].map((axis) => {
        const [p, q, r, v] = [a[axis], b[axis], c[axis], d[axis]];
        return 0.5 * (2 * q + (r - p) * u + (2 * p - 5 * q + 4 * r - v) * u * u + (3 * q - p - 3 * r + v) * u * u * u);
      }));
    }
  }
  found.push(points.at(-1));
  return found;
}

export class Pad {
  /** `onInk` is called, at most once a frame, when there is something new on the pad. */
  constructor(onInk) {
    this.onInk = onInk;
    this.canvas = h("canvas", { width: SIDE, height: SIDE, class: "ink", tabindex: 0, role: "img", "aria-describedby": "pad-keys" });
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.pen = h("span", { class: "pen", hidden: true });
    this.hint = h("span", { class: "hint" });
    this.node = h("div", { class: "pad" }, this.canvas, this.pen, this.hint);
    this.cursor = [SIDE / 2, SIDE / 4];
    this.last = null;
    this.bytes = null;
    this.writing = 0;
    const on = (name, listener) => this.canvas.addEventListener(name, listener);
    on("pointerdown", (event) => {
      if (event.button) return;
      this.canvas.setPointerCapture(event.pointerId);
      this.box = this.canvas.getBoundingClientRect(); // once a stroke: asking lays the page out anew
      this.begin(this.point(event));
      event.preventDefault();
      this.canvas.focus({ preventScroll: true });
    });
    on("pointermove", (event) => {
      if (!this.last || !this.canvas.hasPointerCapture(event.pointerId)) return;
      const moves = event.getCoalescedEvents?.() ?? [];
      for (const one of moves.length ? moves : [event]) this.line(this.point(one));
    });
    for (const end of ["pointerup", "pointercancel"]) on(end, () => (this.last = null));
    on("keydown", (event) => this.key(event));
    on("blur", () => this.rest());
    this.relabel();
  }
  relabel() {
    this.hint.textContent = t("pad.hint");
    this.canvas.setAttribute("aria-label", t("pad.label"));
    this.recolor();
  }
  point(event) {
    const { left, top, width, height } = this.box;
    return [((event.clientX - left) / width) * SIDE, ((event.clientY - top) / height) * SIDE];
  }
  begin(point) {
    this.writing++; // the hand that writes by itself stops
    if (this.bytes) this.clear(false);
    this.last = point;
    this.line(point);
  }
  line(point) {
    const draw = this.context;
    draw.strokeStyle = color("ink");
    draw.lineWidth = BRUSH;
    draw.lineCap = draw.lineJoin = "round";
    draw.beginPath();
    draw.moveTo(...this.last);
    draw.lineTo(point[0], point[1] + (point[0] === this.last[0] && point[1] === this.last[1] ? 0.01 : 0));
    draw.stroke();
    this.last = point;
    this.hint.hidden = true;
    this.changed();
  }
  clear(tell = true) {
    this.context.clearRect(0, 0, SIDE, SIDE);
    this.bytes = null;
    this.last = null;
    this.hint.hidden = false;
    if (tell) {
      this.writing++;
      this.changed();
    }
  }
  changed() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.onInk();
    });
  }
  /** An image of 28x28 bytes in place of a drawing. */
  show(bytes) {
    this.clear();
    this.bytes = bytes;
    this.hint.hidden = true;
    this.recolor();
    this.changed();
  }
  recolor() {
    const draw = this.context;
    if (this.bytes) {
      const cell = SIDE / 28;
      draw.clearRect(0, 0, SIDE, SIDE);
      draw.fillStyle = color("ink");
      this.bytes.forEach((value, i) => {
        draw.globalAlpha = value / 255;
        draw.fillRect((i % 28) * cell, Math.floor(i / 28) * cell, cell, cell);
      });
      draw.globalAlpha = 1;
      return;
    }
    draw.globalCompositeOperation = "source-in";
    draw.fillStyle = color("ink");
    draw.fillRect(0, 0, SIDE, SIDE);
    draw.globalCompositeOperation = "source-over";
  }
  /** The ink as bytes (SIDE, SIDE). */
  ink() {
    const { data } = this.context.getImageData(0, 0, SIDE, SIDE);
    const ink = new Uint8Array(SIDE * SIDE);
    for (let i = 0; i < ink.length; i++) ink[i] = data[4 * i + 3];
    return ink;
  }
  /** Writes a digit, stroke by stroke, as a hand does. */
  write(digit) {
    this.clear();
    const own = ++this.writing;
    const strokes = HAND[digit].map((points) => smooth(points).map((point) => point.map((at) => (at / 100) * SIDE)));
    const moves = strokes.flatMap((points) => points.map((point, i) => ({ point, first: i === 0 })));
    const draw = (count) => {
      for (const { point, first } of moves.splice(0, count)) {
        if (first) this.last = point;
        this.line(point);
      }
      this.last = moves.length ? this.last : null;
    };
    if (still()) return draw(moves.length);
    const next = () => {
      if (own !== this.writing) return;
      draw(2);
      if (moves.length) requestAnimationFrame(next);
    };
    return next();
  }
  key(event) {
    const step = event.shiftKey ? 3 : 12;
    const move = { ArrowUp: [0, -step], ArrowDown: [0, step], ArrowLeft: [-step, 0], ArrowRight: [step, 0] }[event.key];
    if (move) {
      this.cursor = this.cursor.map((at, axis) => Math.min(SIDE, Math.max(0, at + move[axis])));
      if (this.drawing) this.line(this.cursor);
    } else if (event.key === " " || event.key === "Enter") {
      this.drawing = !this.drawing;
      if (this.drawing) this.begin(this.cursor);
      else this.last = null;
    } else if (event.key === "Delete" || event.key === "Backspace") this.clear();
    else return;
    event.preventDefault();
    this.pen.hidden = false;
    this.pen.classList.toggle("down", Boolean(this.drawing));
    this.pen.style.left = `${(this.cursor[0] / SIDE) * 100}%`;
    this.pen.style.top = `${(this.cursor[1] / SIDE) * 100}%`;
  }
  rest() {
    this.pen.hidden = true;
    this.drawing = false;
    this.last = null;
  }
}
