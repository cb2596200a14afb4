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
  /** `files`: the images of each layer; `failed`: why a result's cannot be read. */
  constructor(data, files, failed) {
    Object.assign(this, { data, files, failed, tiles: {} });
  }

  /** The GeoTIFFs of a page, as far as they open, or null where no server has them, or a library to read them. */
  static async open(data) {
    if (!location.protocol.startsWith("http") || !data.geotiffs.class) return null;
    const loaded = "GeoTIFF" in window || await new Promise((done) => {
      const script = document.createElement("script");
      script.src = LIBRARY;
      script.onload = () => done(true);
      script.onerror = () => done(false);
      document.head.append(script);
    });
    if (!loaded) return null;
    const files = {}, failed = {};
    await Promise.all(Object.keys(LAYERS).map(async (result) => {
      const layer = LAYERS[result] ?? "class", address = data.geotiffs[layer];
      if (!address) return;
      try {
        // In blocks, of which some stay here: neighbouring parts of the map lie in the same internal tiles.
        const file = await GeoTIFF.fromUrl(new URL(address, location.href).href, { blockSize: 65536, cacheSize: 256 });
        const count = await file.getImageCount();
        files[layer] = await Promise.all(Array.from({ length: count }, (_, i) => file.getImage(i)));
      } catch (error) {
        failed[result] = GeoTiffs.named(address, error);
      }
    }));
    return new GeoTiffs(data, files, failed);
  }

  static named(address, error) {
    return new Error(`${decodeURIComponent(address)}: ${error.message}`.replace(/\.$/, ""));
  }

  has(result) {
    return (LAYERS[result] ?? "class") in this.files;
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
    const read = await this.window(layer, image, [left, top, right, bottom]);
    for (let y = 0, k = 0; y < down.length; y++) {
      for (let x = 0; x < across.length; x++, k++) {
        const inside = down[y] >= top && down[y] < bottom && across[x] >= left && across[x] < right;
        if (inside) found[k] = read[(down[y] - top) * (right - left) + across[x] - left];
      }
    }
    return found;
  }

  /** What each GeoTIFF holds at one pixel, by layer: nothing where it has no class. */
  async at(row, col) {
    const [height, width] = this.data.grid.shape;
    if (row < 0 || col < 0 || row >= height || col >= width) return {};
    const layers = Object.keys(this.files);
    const held = await Promise.all(layers.map((layer) => this.pixel(layer, row, col)));
    const found = Object.fromEntries(layers.map((layer, i) => [layer, held[i]]));
    return found.class < this.data.classes.length ? found : {};
  }

  /** One pixel's value; the last internal tile of each layer stays, as the pointer will be in it again. */
  async pixel(layer, row, col) {
    const image = this.files[layer][0], [high, wide] = [image.getTileHeight(), image.getTileWidth()];
    const top = row - (row % high), left = col - (col % wide), right = Math.min(left + wide, image.getWidth());
    let tile = this.tiles[layer];
    if (tile?.top !== top || tile.left !== left) {
      const values = this.window(layer, image, [left, top, right, Math.min(top + high, image.getHeight())]);
      tile = this.tiles[layer] = { top, left, values };
    }
    return (await tile.values)[(row - top) * (right - left) + col - left];
  }

  async window(layer, image, window) {
    try {
      const [values] = await image.readRasters({ window, samples: [0] });
      return values;
    } catch (error) {
      throw GeoTiffs.named(this.data.geotiffs[layer], error);
    }
  }
}
