/* The probability grid inside the page: class probabilities at any pixel, by the formula of benexp/mapping/blending.py. */
"use strict";

/** The bytes of a deflated base64 blob in the page. */
async function unpack(id) {
  const text = atob(document.getElementById(id).textContent.trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

class Grid {
  /** `facts` as benexp/report/embedding.py writes them. */
  static async load(facts) {
    const [probabilities, classified, mask] = await Promise.all(["probabilities", "classified", "mask"].map(unpack));
    const values = facts.exact ? new Float32Array(probabilities) : new Uint16Array(probabilities);
    return new Grid(facts, values, new Uint8Array(classified), new Uint8Array(mask));
  }

  constructor(facts, values, classified, mask) {
    [this.height, this.width] = facts.shape;
    this.classes = facts.classes;
    this.values = values;
    this.scale = facts.scale;
    this.classified = classified;
    this.mask = mask;
    this.maskStep = facts.maskStep;
    this.maskStride = Math.ceil(Math.ceil(this.width / facts.maskStep) / 8);
    this.window = facts.window;
    this.rows = Grid.reach(facts.rows, this.height, facts.window.length);
    this.cols = Grid.reach(facts.cols, this.width, facts.window.length);
    const across = facts.cols.length;
    this.sums = new Float64Array(across * this.classes);
    this.weights = new Float64Array(across);
    this.scores = new Float64Array(this.classes);
  }

  /** For every pixel of an axis the patches that reach it: `first` up to, not with, `end`. */
  static reach(origins, length, size) {
    const first = new Int32Array(length), end = new Int32Array(length);
    for (let pixel = 0, low = 0, high = 0; pixel < length; pixel++) {
      while (origins[low] + size <= pixel) low++;
      while (high < origins.length && origins[high] <= pixel) high++;
      first[pixel] = low;
      end[pixel] = high;
    }
    return { origins, first, end };
  }

  isValid(row, col) {
    const y = Math.floor(row / this.maskStep), x = Math.floor(col / this.maskStep);
    return (this.mask[y * this.maskStride + (x >> 3)] >> (7 - (x & 7))) & 1;
  }

  /** Blend the patches along y for one row of pixels, for the patches from `begin` up to `stop`: then come the pixels. */
  enterRow(row, begin, stop) {
    const { classes, values, classified, sums, weights } = this;
    const { origins, first, end } = this.rows;
    const across = this.cols.origins.length;
    sums.fill(0, begin * classes, stop * classes);
    weights.fill(0, begin, stop);
    for (let i = first[row]; i < end[row]; i++) {
      const weight = this.window[row - origins[i]];
      const shift = i * across * classes;
      for (let k = begin * classes; k < stop * classes; k++) sums[k] += weight * values[shift + k];
      for (let j = begin; j < stop; j++) weights[j] += weight * classified[i * across + j];
    }
    this.row = row;
  }

  /** Put a pixel's probabilities, times the answer, into `scores`; 0 where the pixel has none. Call enterRow first. */
  blend(col) {
    if (!this.isValid(this.row, col)) return 0;
    const { classes, sums, weights, scores } = this;
    const { origins, first, end } = this.cols;
    let total = 0;
    scores.fill(0);
    for (let j = first[col]; j < end[col]; j++) {
      const weight = this.window[col - origins[j]];
      total += weight * weights[j];
      for (let c = 0, k = j * classes; c < classes; c++, k++) scores[c] += weight * sums[k];
    }
    return total / this.scale;
  }

  /** The best class of `scores` and the runner-up; ties go to the lowest id. */
  best() {
    const { classes, scores } = this;
    let first = 0, second = -1;
    for (let c = 1; c < classes; c++) {
      if (scores[c] > scores[first]) {
        second = first;
        first = c;
      } else if (second < 0 || scores[c] > scores[second]) second = c;
    }
    return [first, second];
  }

  /** Shannon's entropy in bits of the scores, normalised to sum 1. */
  entropy() {
    const { classes, scores } = this;
    let sum = 0, logs = 0;
    for (let c = 0; c < classes; c++) {
      const score = scores[c];
      if (score > 0) {
        sum += score;
        logs += score * Math.log(score);
      }
    }
    return sum > 0 ? (Math.log(sum) - logs / sum) / Math.LN2 : Math.log2(classes);
  }

  /** All that is known of one pixel; null where nothing is. */
  at(row, col) {
    if (row < 0 || col < 0 || row >= this.height || col >= this.width) return null;
    this.enterRow(row, this.cols.first[col], this.cols.end[col]);
    const total = this.blend(col);
    if (!(total > 0)) return null;
    const [first, second] = this.best();
    return {
      first,
      second,
      probabilities: Array.from(this.scores, (score) => score / total),
      entropy: this.entropy(),
    };
  }

  /** Call `visit(x, y, total)` for the pixels of each sampled row and column, with `scores` blended where total > 0. */
  sample(rows, cols, visit) {
    const inside = cols.filter((col) => col >= 0 && col < this.width);
    if (!inside.length) return;
    const begin = this.cols.first[inside[0]], stop = this.cols.end[inside[inside.length - 1]];
    for (let y = 0; y < rows.length; y++) {
      if (rows[y] < 0 || rows[y] >= this.height) continue;
      this.enterRow(rows[y], begin, stop);
      for (let x = 0; x < cols.length; x++) {
        if (cols[x] >= 0 && cols[x] < this.width) visit(x, y, this.blend(cols[x]));
      }
    }
  }
}
