// The arithmetic of windows along one axis, and what one window makes of its input.

export const OPERATIONS = ["conv", "max", "average"];

/** How far a window reaches from its first tap to its last, both counted. */
export const span = ({ k, d }) => d * (k - 1) + 1;

/** The number of windows as the formula gives it, and after the rule of ceil mode; below 1 where none fits. */
export function windows({ n, k, s, p, d, ceil }) {
  const room = n + 2 * p - d * (k - 1) - 1;
  const formula = (ceil ? Math.ceil(room / s) : Math.floor(room / s)) + 1;
  const dropped = ceil && (formula - 1) * s >= n + p; // the last window must start inside the input or its left padding
  return { room, formula, dropped, size: dropped ? formula - 1 : formula };
}

/** The smallest input of which any window fits. */
export function least(settings) {
  let n = 1;
  while (windows({ ...settings, n }).size < 1) n++;
  return n;
}

/** The most padding that torch takes for a pooling: half of its kernel, whatever the dilation. */
export const mostPadding = ({ op, k }) => (op === "conv" ? Infinity : Math.floor(k / 2));

/** The settings as torch has them: what the operation does not know is off, and padding is within its bounds. */
export function allowed(settings) {
  const found = { ...settings };
  if (found.op === "conv") found.ceil = false;
  if (found.op === "average") found.d = 1;
  found.p = Math.min(found.p, mostPadding(found));
  return found;
}

/** What the window at (row, column) of the output covers: a tap for each weight, with its place in the input. */
export function taps({ n, k, s, p, d }, row, column) {
  return Array.from({ length: k * k }, (_, i) => {
    const y = row * s - p + Math.floor(i / k) * d;
    const x = column * s - p + (i % k) * d;
    const inside = y >= 0 && y < n && x >= 0 && x < n;
    return { y, x, inside, beyond: y >= n + p || x >= n + p };
  });
}

/** The value of one output; `terms` are what it is made of. */
export function answer(settings, input, kernel, row, column) {
  const found = taps(settings, row, column);
  const value = ({ y, x }) => input[y * settings.n + x];
  if (settings.op === "conv") {
    const terms = found.map((tap, i) => ({ tap, value: tap.inside ? value(tap) : 0, weight: kernel[i] }));
    return { terms, value: terms.reduce((sum, term) => sum + term.value * term.weight, 0) };
  }
  if (settings.op === "max") {
    const terms = found.map((tap) => ({ tap, value: tap.inside ? value(tap) : -Infinity }));
    return { terms, value: Math.max(...terms.map((term) => term.value)) };
  }
  const terms = found.filter((tap) => !tap.beyond).map((tap) => ({ tap, value: tap.inside ? value(tap) : 0 }));
  return { terms, value: terms.reduce((sum, term) => sum + term.value, 0) / terms.length };
}
