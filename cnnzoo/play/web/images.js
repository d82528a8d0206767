// From a drawing or a chosen image to the bytes that a network takes.

/** Grey bytes as PIL makes them of red, green and blue (ITU-R 601-2, in 16 bits). */
export function grey(rgba) {
  const bytes = new Uint8Array(rgba.length / 4);
  for (let i = 0; i < bytes.length; i++) {
    bytes[i] = (rgba[4 * i] * 19595 + rgba[4 * i + 1] * 38470 + rgba[4 * i + 2] * 7471 + 0x8000) >> 16;
  }
  return bytes;
}

/** The weights by which a resized axis is made: a triangle as wide as a step of the output, or as a pixel. */
function triangles(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, place) => {
    const center = (place + 0.5) * scale;
    const first = Math.max(0, Math.floor(center - support + 0.5));
    const last = Math.min(from, Math.floor(center + support + 0.5));
    const weights = [];
    for (let i = first; i < last; i++) weights.push(Math.max(0, 1 - Math.abs((i + 0.5 - center) / support)));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

/** An image (height, width, channels) of another size: bilinear, and smoothed where it shrinks. */
export function resize(pixels, [height, width, channels], [newHeight, newWidth]) {
  const wide = new Float64Array(height * newWidth * channels);
  triangles(width, newWidth).forEach(({ first, weights }, x) => {
    for (let y = 0; y < height; y++) {
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let i = 0; i < weights.length; i++) sum += weights[i] * pixels[(y * width + first + i) * channels + c];
        wide[(y * newWidth + x) * channels + c] = sum;
      }
    }
  });
  const resized = new Uint8ClampedArray(newHeight * newWidth * channels); // which rounds
  const row = newWidth * channels;
  triangles(height, newHeight).forEach(({ first, weights }, y) => {
    for (let x = 0; x < row; x++) {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += weights[i] * wide[(first + i) * row + x];
      resized[y * row + x] = sum;
    }
  });
  return resized;
}

/** The rows and columns that hold anything brighter than `threshold`; null where nothing is. */
function bounds(pixels, height, width, threshold) {
  let [top, bottom, left, right] = [height, -1, width, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (pixels[y * width + x] <= threshold) continue;
      if (y < top) top = y;
      bottom = y;
      if (x < left) left = x;
      if (x > right) right = x;
    }
  }
  return bottom < 0 ? null : { top, left, height: bottom - top + 1, width: right - left + 1 };
}

/**
 * Bright ink on black (height, width), brought to 28x28 as the images of the data set were made.
 *
 * MNIST's digits were scaled into 20x20 pixels, aspect ratio kept, and placed with their centre of mass in the middle;
 * the articles of Fashion-MNIST fill the image, and stand in its middle.
 */
export function framed(ink, height, width, data) {
  const side = 28;
  const frame = new Uint8Array(side * side);
  const box = bounds(ink, height, width, 24);
  if (!box) return frame;
  const inner = data === "mnist" ? 20 : 28;
  const scale = inner / Math.max(box.height, box.width);
  const [h, w] = [box.height, box.width].map((length) => Math.max(1, Math.round(length * scale)));
  const cut = new Uint8Array(box.height * box.width);
  for (let y = 0; y < box.height; y++) {
    const from = (box.top + y) * width + box.left;
    cut.set(ink.subarray(from, from + box.width), y * box.width);
  }
  const small = resize(cut, [box.height, box.width, 1], [h, w]);
  let [middleY, middleX] = [h / 2, w / 2];
  if (data === "mnist") {
    let [mass, momentY, momentX] = [0, 0, 0];
    small.forEach((value, i) => {
      mass += value;
      momentY += value * (Math.floor(i / w) + 0.5);
      momentX += value * ((i % w) + 0.5);
    });
    if (mass) [middleY, middleX] = [momentY / mass, momentX / mass];
  }
  const place = (middle, length) => Math.min(side - length, Math.max(0, Math.round(side / 2 - middle)));
  const [top, left] = [place(middleY, h), place(middleX, w)];
  for (let y = 0; y < h; y++) frame.set(small.subarray(y * w, (y + 1) * w), (top + y) * side + left);
  return frame;
}

const LARGEST = 1024; // of a photograph, more pixels than any network here can use

/** An image file's pixels as { rgba, height, width }, on white where it is transparent. Throws where it is none. */
export async function decoded(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0, width, height);
  return { rgba: context.getImageData(0, 0, width, height).data, height, width };
}

/** A chosen image for LeNet-5: one of 28x28 as it is, any other cut out and centred; dark on bright is inverted. */
export function greyImage({ rgba, height, width }, data) {
  const pixels = grey(rgba);
  if (height === 28 && width === 28) return pixels;
  let [border, count] = [0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x += y === 0 || y === height - 1 ? 1 : Math.max(1, width - 1)) {
      border += pixels[y * width + x];
      count++;
    }
  }
  const ground = border / count;
  const contrast = pixels.map((value) => Math.abs(value - ground));
  const most = contrast.reduce((a, b) => Math.max(a, b), 1);
  // The ground, uneven on a photograph, becomes black, and what differs most from it white.
  return framed(contrast.map((value) => Math.max(0, Math.min(255, ((value / most - 0.25) / 0.5) * 255))), height, width, data);
}

/** A chosen image for a network in colour: (height, width, 3), resized where its size differs. */
export function colorImage({ rgba, height, width }, [wantedHeight, wantedWidth]) {
  const rgb = new Uint8Array(height * width * 3);
  for (let i = 0, j = 0; i < rgba.length; i += 4) for (let c = 0; c < 3; c++) rgb[j++] = rgba[i + c];
  return height === wantedHeight && width === wantedWidth ? rgb : resize(rgb, [height, width, 3], [wantedHeight, wantedWidth]);
}
