/* The GeoTIFFs beside a page that `benexp task=serve` shows: read by byte ranges, at the overview that is looked at. */
"use strict";

const LIBRARY = "/-/geotiff.js";
/** The layer that a result is read from, besides the class. */
const LAYERS = { class: null, confidence: "maxprob", entropy: "entropy", gap: "gap" };

/** What a part of the GeoTIFFs says, in the words of Grid, so that Style paints both. */
class Reading {
  constructor(result, ids, values, classes) {
    Object.assign(this, { result, ids, values, classes, scores: new Float32Array(classes + 1), value: 0, first: 0 });
  }

  sample(rows, cols, visit) {
    for (let y = 0, k = 0; y < rows.length; y++) {
      for (let x = 0; x < cols.length; x++, k++) {
        this.first = this.ids[k];
        if (!(this.first < this.classes)) continue;
        this.value = this.values ? this.values[k] : 1;
        // Above a runner-up of 0: confidence and gap are the value itself.
        this.scores[this.first] = this.value;
        visit(x, y, 1);
      }
    }
  }

  best() {
    return [this.first, this.classes];
  }

  entropy() {
    return this.value;
  }
}

class GeoTiffs {
  constructor(data, files) {
    Object.assign(this, { data, files });
  }

  /** The GeoTIFFs of a page, or null where it was not served, or by a server that has no library to read them. */
  static async open(data) {
    if (!location.protocol.startsWith("http") || !data.geotiffs.class) return null;
    const loaded = await new Promise((done) => {
      const script = document.createElement("script");
      script.src = LIBRARY;
      script.onload = () => done(true);
      script.onerror = () => done(false);
      document.head.append(script);
    });
    if (!loaded) return null;
    const named = Object.entries(data.geotiffs).map(async ([name, address]) => {
      // In blocks, of which some stay here: neighbouring parts of the map lie in the same internal tiles.
      const file = await GeoTIFF.fromUrl(new URL(address, location.href).href, { blockSize: 65536, cacheSize: 256 });
      const count = await file.getImageCount();
      return [name, await Promise.all(Array.from({ length: count }, (_, i) => file.getImage(i)))];
    });
    return new GeoTiffs(data, Object.fromEntries(await Promise.all(named)));
  }

  has(result) {
    return !LAYERS[result] || LAYERS[result] in this.files;
  }

  /** What the GeoTIFFs hold at these rows and columns of the tile, which may lie outside it. */
  async read(result, rows, cols) {
    const layer = LAYERS[result];
    const [ids, values] = await Promise.all([
      this.values("class", rows, cols),
      layer ? this.values(layer, rows, cols) : null,
    ]);
    return new Reading(result, ids, values, this.data.classes.length);
  }

  async values(layer, rows, cols) {
    const images = this.files[layer], [height, width] = this.data.grid.shape;
    // The coarsest overview that is no coarser than what is drawn.
    const step = rows.length > 1 ? Math.max(1, rows[1] - rows[0]) : 1;
    const image = images.findLast((each) => width / each.getWidth() <= step * 1.01) ?? images[0];
    const places = (all, size, pixels) => all.map((at) => Math.floor(((at + 0.5) * pixels) / size));
    const [down, across] = [places(rows, height, image.getHeight()), places(cols, width, image.getWidth())];
    const clip = (all, pixels) => [Math.max(0, all[0]), Math.min(pixels, all.at(-1) + 1)];
    const [top, bottom] = clip(down, image.getHeight()), [left, right] = clip(across, image.getWidth());
    const found = new Float32Array(rows.length * cols.length).fill(NaN);
    if (top >= bottom || left >= right) return found;
    const [read] = await image.readRasters({ window: [left, top, right, bottom], samples: [0] });
    for (let y = 0, k = 0; y < down.length; y++) {
      for (let x = 0; x < across.length; x++, k++) {
        const inside = down[y] >= top && down[y] < bottom && across[x] >= left && across[x] < right;
        if (inside) found[k] = read[(down[y] - top) * (right - left) + across[x] - left];
      }
    }
    return found;
  }
}
