// Reads .safetensors files and runs the networks that they hold: the layer kinds of LeNet-5 and of the CAPTCHA reader.
//
// Maps are { data: Float32Array, shape: [channels, height, width] }; vectors are maps of height and width 1. Sums are
// taken in double precision and stored in single precision, so that answers agree with torch's.

/** The tensors of a .safetensors file by name, as { data, shape }; integers (a counter of batches) are left out. */
export function readSafetensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(header).filter(([k]) => k !== "__metadata__")) {
    if (dtype === "F32") tensors[name] = { data: new Float32Array(buffer.slice(8 + length + begin, 8 + length + end)), shape };
    else if (dtype !== "I64") throw new Error(`${name} is stored as ${dtype}; this page reads F32`);
  }
  return tensors;
}

export const size = ([channels, height, width]) => channels * height * width;
const maps = (channels, height, width) => ({ data: new Float32Array(channels * height * width), shape: [channels, height, width] });

export const SQUASH = {
  Tanh: Math.tanh,
  ScaledTanh: (a) => 1.7159 * Math.tanh((a * 2) / 3),
  ReLU: (a) => Math.max(a, 0),
  Sigmoid: (a) => 1 / (1 + Math.exp(-a)),
};

/** The largest absolute value that a squashing function can give; 0 where there is none. */
export const LIMIT = { Tanh: 1, ScaledTanh: 1.7159, Sigmoid: 1 };

// Layers. Each kind prepares its weights once, and has `shape` (of its output), `run` (from one map object into
// another) and, where it looks at a window, `window` (the rows and columns of its input that a unit sees).

class Windowed {
  constructor({ kernel, stride = kernel, padding = [0, 0], dilation = [1, 1] }) {
    Object.assign(this, { kernel, stride, padding, dilation });
  }
  extent(axis, length) {
    const span = this.dilation[axis] * (this.kernel[axis] - 1) + 1;
    return Math.floor((length + 2 * this.padding[axis] - span) / this.stride[axis]) + 1;
  }
  window(y, x) {
    const at = (place, axis) => place * this.stride[axis] - this.padding[axis];
    const span = (axis) => this.dilation[axis] * (this.kernel[axis] - 1) + 1;
    const [top, left] = [at(y, 0), at(x, 1)];
    return { top, left, bottom: top + span(0), right: left + span(1) };
  }
  /** The values of one input map under the window of a unit, row by row; 0 in the padding. */
  patch(input, channel, y, x) {
    const [, height, width] = input.shape;
    const { top, left } = this.window(y, x);
    const found = [];
    for (let ky = 0; ky < this.kernel[0]; ky++) {
      for (let kx = 0; kx < this.kernel[1]; kx++) {
        const [iy, ix] = [top + ky * this.dilation[0], left + kx * this.dilation[1]];
        const inside = iy >= 0 && iy < height && ix >= 0 && ix < width;
        found.push(inside ? input.data[(channel * height + iy) * width + ix] : 0);
      }
    }
    return found;
  }
}

class Convolution extends Windowed {
  kind = "conv";
  constructor(spec, weights) {
    super(spec);
    this.weight = weights.weight.data;
    this.bias = weights.bias?.data;
    this.channels = spec.out;
    // For each output map, the input maps that it sees; its kernels lie in this order, one after the other.
    this.table = spec.table ?? Array.from({ length: spec.out }, () => Array.from({ length: spec.in }, (_, i) => i));
    let next = 0;
    this.first = this.table.map((inputs) => (next += inputs.length) - inputs.length);
    this.sparse = Boolean(spec.table);
  }
  shape([, height, width]) {
    return [this.channels, this.extent(0, height), this.extent(1, width)];
  }
  kernelOf(map, place) {
    const area = this.kernel[0] * this.kernel[1];
    const from = (this.first[map] + place) * area;
    return this.weight.subarray(from, from + area);
  }
  run(input, output) {
    const [, inHeight, inWidth] = input.shape;
    const [channels, height, width] = output.shape;
    const [[kh, kw], [sy, sx], [py, px], [dy, dx]] = [this.kernel, this.stride, this.padding, this.dilation];
    if (kh === inHeight && kw === inWidth && py + px === 0 && dy * dx === 1) {
      this.whole(input.data, output.data, kh * kw);
      return;
    }
    const sums = new Float64Array(height * width);
    const { data } = input;
    for (let map = 0; map < channels; map++) {
      sums.fill(this.bias ? this.bias[map] : 0);
      this.table[map].forEach((channel, place) => {
        const kernel = this.kernelOf(map, place);
        for (let ky = 0; ky < kh; ky++) {
          // Rows and columns whose tap lies inside the input; the padding adds nothing.
          const firstRow = Math.max(0, Math.ceil((py - ky * dy) / sy));
          const lastRow = Math.min(height - 1, Math.floor((inHeight - 1 + py - ky * dy) / sy));
          for (let kx = 0; kx < kw; kx++) {
            const weight = kernel[ky * kw + kx];
            const firstColumn = Math.max(0, Math.ceil((px - kx * dx) / sx));
            const lastColumn = Math.min(width - 1, Math.floor((inWidth - 1 + px - kx * dx) / sx));
            for (let row = firstRow; row <= lastRow; row++) {
              let from = (channel * inHeight + row * sy + ky * dy - py) * inWidth + firstColumn * sx + kx * dx - px;
              const end = row * width + lastColumn;
              for (let to = row * width + firstColumn; to <= end; to++, from += sx) sums[to] += weight * data[from];
            }
          }
        }
      });
      output.data.set(sums, map * height * width);
    }
  }
  /** A window as large as its input, as in C5: one product of vectors for each unit. */
  whole(input, output, area) {
    this.table.forEach((channels, map) => {
      let sum = this.bias ? this.bias[map] : 0;
      channels.forEach((channel, place) => {
        const [from, weight] = [channel * area, (this.first[map] + place) * area];
        for (let i = 0; i < area; i++) sum += input[from + i] * this.weight[weight + i];
      });
      output[map] = sum;
    });
  }
}

class Pooling extends Windowed {
  constructor(spec, weights) {
    super(spec);
    this.kind = { MaxPool2d: "max", AvgPool2d: "average", Subsample: "subsample" }[spec.type];
    this.weight = weights.weight?.data; // trainable sub-sampling: (sum of the window) x weight + bias
    this.bias = weights.bias?.data;
  }
  shape([channels, height, width]) {
    return [channels, this.extent(0, height), this.extent(1, width)];
  }
  run(input, output) {
    const [, inHeight, inWidth] = input.shape;
    const [channels, height, width] = output.shape;
    const [[kh, kw], [sy, sx]] = [this.kernel, this.stride];
    let to = 0;
    for (let map = 0; map < channels; map++) {
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          let [sum, most] = [0, -Infinity];
          for (let ky = 0; ky < kh; ky++) {
            const row = (map * inHeight + y * sy + ky) * inWidth + x * sx;
            for (let kx = 0; kx < kw; kx++) {
              const value = input.data[row + kx];
              sum += value;
              if (value > most) most = value;
            }
          }
          output.data[to++] = this.pooled(map, sum, most);
        }
      }
    }
  }
  pooled(map, sum, most) {
    if (this.kind === "max") return most;
    return this.kind === "average" ? sum / (this.kernel[0] * this.kernel[1]) : sum * this.weight[map] + this.bias[map];
  }
}

/** The average over the height: a column of each map becomes one number. */
class Columns {
  kind = "columns";
  shape = ([channels, , width]) => [channels, 1, width];
  run(input, output) {
    const [channels, height, width] = input.shape;
    for (let map = 0; map < channels; map++) {
      for (let x = 0; x < width; x++) {
        let sum = 0;
        for (let y = 0; y < height; y++) sum += input.data[(map * height + y) * width + x];
        output.data[map * width + x] = sum / height;
      }
    }
  }
  window(y, x, [, height]) {
    return { top: 0, left: x, bottom: height, right: x + 1 };
  }
}

class Linear {
  kind = "linear";
  constructor(spec, weights) {
    this.weight = weights.weight.data;
    this.bias = weights.bias?.data;
    this.units = spec.out;
  }
  shape = () => [this.units, 1, 1];
  run(input, output) {
    const n = input.data.length;
    for (let unit = 0; unit < this.units; unit++) {
      let sum = this.bias ? this.bias[unit] : 0;
      for (let i = 0; i < n; i++) sum += this.weight[unit * n + i] * input.data[i];
      output.data[unit] = sum;
    }
  }
}

/** Minus the squared distance between the features and the code of each class. */
class RadialBasis {
  kind = "rbf";
  constructor(spec, weights) {
    this.codes = weights.codes.data;
    this.units = weights.codes.shape[0];
  }
  shape = () => [this.units, 1, 1];
  codeOf(unit) {
    const length = this.codes.length / this.units;
    return this.codes.subarray(unit * length, (unit + 1) * length);
  }
  run(input, output) {
    for (let unit = 0; unit < this.units; unit++) {
      let sum = 0;
      this.codeOf(unit).forEach((value, i) => (sum += (input.data[i] - value) ** 2));
      output.data[unit] = -sum;
    }
  }
}

const KINDS = {
  Conv2d: Convolution,
  ConnectionTableConv2d: Convolution,
  MaxPool2d: Pooling,
  AvgPool2d: Pooling,
  Subsample: Pooling,
  AdaptiveAvgPool2d: Columns,
  Linear,
  RBFOutput: RadialBasis,
};

/** Batch normalisation in evaluation: one factor and one summand for each map. */
function normalization(spec, weights) {
  const factor = weights.weight.data.map((w, i) => w / Math.sqrt(weights.running_var.data[i] + spec.eps));
  return { factor, summand: weights.bias.data.map((b, i) => b - weights.running_mean.data[i] * factor[i]) };
}

/** A layer with weights or a window, and what follows it up to the next one: normalisation and squashing function. */
class Stage {
  constructor(spec, weights, input) {
    this.name = spec.name;
    this.layer = new KINDS[spec.type](spec, weights);
    this.kind = this.layer.kind;
    this.type = spec.type;
    this.params = spec.params;
    this.input = input; // the previous stage, or the image
    this.sum = maps(...this.layer.shape(input.out.shape));
    this.out = this.sum;
  }
  normalize(spec, weights) {
    this.norm = normalization(spec, weights);
    this.params += spec.params;
    this.out = maps(...this.sum.shape);
  }
  squash(type) {
    this.squashing = type;
    this.out = maps(...this.sum.shape);
  }
  run() {
    this.layer.run(this.input.out, this.sum);
    if (this.out === this.sum) return;
    const area = this.sum.shape[1] * this.sum.shape[2];
    const f = SQUASH[this.squashing] ?? ((a) => a);
    const { data } = this.sum;
    for (let i = 0; i < data.length; i++) {
      const map = Math.floor(i / area);
      this.out.data[i] = f(this.norm ? data[i] * this.norm.factor[map] + this.norm.summand[map] : data[i]);
    }
  }
  /** The rows and columns of the input that a unit sees, which may reach into the padding. */
  window(y, x) {
    const [, height, width] = this.input.out.shape;
    return this.layer.window?.(y, x, this.input.out.shape) ?? { top: 0, left: 0, bottom: height, right: width };
  }
}

/** A network as the manifest describes it, with the weights of its file. */
export class Network {
  constructor(spec, tensors) {
    this.spec = spec;
    const { channels, height, width, pad } = spec.preprocessing;
    this.picture = { name: "input", kind: "input", out: maps(channels, height + 2 * pad, width + 2 * pad) };
    this.stages = [];
    for (const layer of spec.layers) {
      const own = Object.entries(tensors).filter(([name]) => name.startsWith(`${layer.name}.`));
      const weights = Object.fromEntries(own.map(([name, tensor]) => [name.slice(layer.name.length + 1), tensor]));
      const last = this.stages.at(-1);
      if (layer.type in KINDS) this.stages.push(new Stage(layer, weights, last ?? this.picture));
      else if (layer.type === "BatchNorm2d") last.normalize(layer, weights);
      else if (layer.type in SQUASH) last.squash(layer.type);
      else if (layer.type !== "Flatten") throw new Error(`${spec.id}: this page does not run layers of type ${layer.type}`);
    }
  }
  /** Scores of an image: bytes (height, width, channels) as the manifest's preprocessing wants them. */
  run(bytes) {
    const { channels, height, width, pad, mean, std } = this.spec.preprocessing;
    const { data, shape } = this.picture.out;
    for (let c = 0; c < channels; c++) {
      data.fill((0 - mean[c]) / std[c], c * shape[1] * shape[2], (c + 1) * shape[1] * shape[2]);
      for (let y = 0; y < height; y++) {
        const row = (c * shape[1] + y + pad) * shape[2] + pad;
        for (let x = 0; x < width; x++) data[row + x] = (bytes[(y * width + x) * channels + c] / 255 - mean[c]) / std[c];
      }
    }
    for (const stage of this.stages) stage.run();
    return this.scores;
  }
  get scores() {
    return this.stages.at(-1).out.data;
  }
  /** What a unit of a stage sees: for each map before it, from its input to the image, rows and columns. */
  field(stage, y, x) {
    const found = [];
    let box = { top: y, left: x, bottom: y + 1, right: x + 1 };
    for (let at = stage; at.kind !== "input"; at = at.input) {
      const [first, last] = [at.window(box.top, box.left), at.window(box.bottom - 1, box.right - 1)];
      box = { top: first.top, left: first.left, bottom: last.bottom, right: last.right };
      found.push({ stage: at.input, ...box });
    }
    return found;
  }
}

export function softmax(scores) {
  const most = Math.max(...scores);
  const powers = Array.from(scores, (score) => Math.exp(score - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}
