// Maps as images: blue below zero, orange above it.

import { color } from "./page.js";

const STEPS = 255;

function channels(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

const pack = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0; // the order of bytes in memory

/** A table of colours through the given stops, evenly apart. */
function ramp(stops, length) {
  const all = stops.map(channels);
  return Uint32Array.from({ length }, (_, i) => {
    const at = (i / (length - 1)) * (all.length - 1);
    const low = Math.min(Math.floor(at), all.length - 2);
    return pack(all[low].map((from, c) => Math.round(from + (at - low) * (all[low + 1][c] - from))));
  });
}

export let signed, inked;

/** Takes the colours from the style sheet; called again when they have changed. */
export function readColors() {
  signed = ramp(["minus-2", "minus", "zero", "plus", "plus-2"].map(color), 2 * STEPS + 1);
  inked = ramp([color("zero"), color("ink")], STEPS + 1);
}

const scratch = document.createElement("canvas");
const context = scratch.getContext("2d");
let image = null;

/** A canvas of the size of a map, or of several side by side, to paint pixels into. */
function pixels(width, height) {
  if (scratch.width !== width || scratch.height !== height || !image) {
    [scratch.width, scratch.height] = [width, height];
    image = context.createImageData(width, height);
  }
  return new Uint32Array(image.data.buffer);
}

export const signedAt = (value, limit) => {
  const place = Math.round((value / limit) * STEPS) + STEPS;
  return signed[place < 0 ? 0 : place > 2 * STEPS ? 2 * STEPS : place] ?? signed[STEPS];
};

/** The colour of a value as the style sheet writes it. */
export const signedColor = (value, limit) => {
  const packed = signedAt(value, limit);
  return `rgb(${packed & 255} ${(packed >> 8) & 255} ${(packed >> 16) & 255})`;
};

/** Paints values (height, width) into a canvas, which is given that size; CSS enlarges it. */
export function thumbnail(canvas, values, width, limit, picture = false) {
  const height = values.length / width;
  const into = pixels(width, height);
  values.forEach((value, i) => (into[i] = picture ? inkedAt(value, picture) : signedAt(value, limit)));
  context.putImageData(image, 0, 0);
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").drawImage(scratch, 0, 0);
}

const inkedAt = (value, { black, white }) => {
  const place = Math.round(((value - black) / (white - black)) * STEPS);
  return inked[place < 0 ? 0 : place > STEPS ? STEPS : place];
};

/** The values of black and white in a network's input, channel by channel. */
export const range = ({ mean, std }, c = 0) => ({ black: (0 - mean[c]) / std[c], white: (1 - mean[c]) / std[c] });

/** All maps of a stage on one canvas, in rows; knows which unit lies under a point, and marks units and windows. */
export class Mosaic {
  /** `plan` has columns, gap, least and greatest size of a map, and what is not a square pixel. */
  constructor(out, plan, preprocessing = null) {
    Object.assign(this, { out, plan, preprocessing });
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d");
    this.marks = [];
  }
  /** Lays the maps out on a width in CSS pixels. */
  fit(width) {
    const [count, height, mapWidth] = this.grid;
    const { gap = 4, most = 84, row } = this.plan;
    const columns = Math.min(count, this.plan.columns ?? count);
    const device = Math.min(devicePixelRatio || 1, 3);
    const scale = Math.min((width - (columns - 1) * gap) / (columns * mapWidth), most / mapWidth);
    // A pixel of a map is a whole number of the canvas's own, so that all are alike; the browser fits the canvas in.
    const ratio = scale * device < 1 ? device : Math.ceil(scale * device) / scale;
    const rows = Math.ceil(count / columns);
    Object.assign(this, { columns, gap, ratio, sx: scale, sy: row ?? scale });
    const full = [columns * (mapWidth * scale + gap) - gap, rows * (height * this.sy + gap) - gap];
    [this.canvas.width, this.canvas.height] = full.map((length) => Math.max(1, Math.round(length * ratio)));
    this.canvas.style.width = `${full[0]}px`;
    this.canvas.style.height = `${full[1]}px`;
    this.canvas.dataset.plan = JSON.stringify({ columns, gap, height, width: mapWidth, sx: this.sx, sy: this.sy });
    this.paint();
  }
  get grid() {
    const [count, height, width] = this.out.shape;
    return this.preprocessing ? [1, height, width] : [count, height, width];
  }
  place(map) {
    const [, height, width] = this.grid;
    const [column, row] = [map % this.columns, Math.floor(map / this.columns)];
    return [column * (width * this.sx + this.gap), row * (height * this.sy + this.gap)];
  }
  paint() {
    if (!this.columns) return;
    const [count, height, width] = this.grid;
    const into = pixels(width, height * count);
    const { data } = this.out;
    if (!this.preprocessing) {
      const limit = this.plan.limit || data.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-6);
      this.limit = limit;
      for (let i = 0; i < data.length; i++) into[i] = signedAt(data[i], limit);
    } else if (this.out.shape[0] === 1) {
      const ends = range(this.preprocessing);
      for (let i = 0; i < data.length; i++) into[i] = inkedAt(data[i], ends);
    } else {
      const area = height * width;
      const { mean, std } = this.preprocessing;
      for (let i = 0; i < area; i++) {
        into[i] = pack([0, 1, 2].map((c) => Math.round((data[c * area + i] * std[c] + mean[c]) * 255)));
      }
    }
    context.putImageData(image, 0, 0);
    const draw = this.context;
    draw.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    draw.clearRect(0, 0, this.canvas.width, this.canvas.height);
    draw.imageSmoothingEnabled = this.sx * this.ratio < 1;
    for (let map = 0; map < count; map++) {
      const [x, y] = this.place(map);
      draw.drawImage(scratch, 0, map * height, width, height, x, y, width * this.sx, height * this.sy);
    }
    for (const mark of this.marks) this.outline(mark);
  }
  outline({ maps = [0], top, left, bottom, right, strong }) {
    const draw = this.context;
    const [, height, width] = this.grid;
    const [t, l, b, r] = [Math.max(0, top), Math.max(0, left), Math.min(height, bottom), Math.min(width, right)];
    for (const map of maps) {
      const [x, y] = this.place(map);
      const box = [x + l * this.sx, y + t * this.sy, (r - l) * this.sx, (b - t) * this.sy];
      if (maps.length <= 16) {
        draw.lineWidth = strong ? 4 : 3;
        draw.strokeStyle = color("surface");
        draw.strokeRect(...box);
      }
      draw.lineWidth = strong ? 2 : maps.length <= 16 ? 1.5 : 1;
      draw.strokeStyle = color("mark");
      draw.strokeRect(...box);
    }
  }
  /** The unit under a point of the window, or null between maps. */
  at(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    const [count, height, width] = this.grid;
    const [x, y] = [clientX - box.left, clientY - box.top];
    const [column, row] = [Math.floor(x / (width * this.sx + this.gap)), Math.floor(y / (height * this.sy + this.gap))];
    const map = row * this.columns + column;
    const [left, top] = this.place(map);
    const unit = { map, y: Math.floor((y - top) / this.sy), x: Math.floor((x - left) / this.sx) };
    const inside = column >= 0 && column < this.columns && map >= 0 && map < count;
    return inside && unit.y >= 0 && unit.y < height && unit.x >= 0 && unit.x < width ? unit : null;
  }
  /** The unit one step away on the canvas: past the edge of a map comes the next map. */
  step({ map, y, x }, down, right) {
    const [count, height, width] = this.grid;
    const rows = Math.ceil(count / this.columns);
    const wrap = (value, length) => (value + length) % length;
    const row = wrap(Math.floor(map / this.columns) * height + y + down, rows * height);
    const column = wrap((map % this.columns) * width + x + right, this.columns * width);
    const next = Math.floor(row / height) * this.columns + Math.floor(column / width);
    return { map: Math.min(next, count - 1), y: row % height, x: column % width };
  }
}
