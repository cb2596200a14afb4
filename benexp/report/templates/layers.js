/* The map's layers: pictures of the input, and results drawn from the probability grid, tile by tile, at every zoom. */
"use strict";

const TILE = 256;

/** How a result is drawn: a value from 0 to 1 along the ramp, or null for the class's own colour. */
const RESULTS = {
  class: null,
  confidence: (grid, total, first) => grid.scores[first] / total,
  entropy: (grid) => 1 - grid.entropy() / Math.log2(grid.classes),
  gap: (grid, total, first, second) => (grid.scores[first] - grid.scores[second]) / total,
};

const rgb = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

/** 256 colours [r, g, b, r, g, b, ...] through the given ones. */
function ramp(colours) {
  const stops = colours.map(rgb), table = new Uint8Array(256 * 3);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
    for (let k = 0; k < 3; k++) table[3 * i + k] = stops[low][k] + (place - low) * (stops[low + 1][k] - stops[low][k]);
  }
  return table;
}

/** Draw a line in a grey where a class ends, along rows and columns, so that no one has to tell colours apart. */
function outline(ids, pixels, grey) {
  for (let i = 0; i < ids.length; i++) {
    const left = i % TILE ? ids[i - 1] : ids[i], above = i < TILE ? ids[i] : ids[i - TILE];
    const ends = (left >= 0 && left !== ids[i]) || (above >= 0 && above !== ids[i]);
    if (ids[i] >= 0 && ends) pixels.set([grey, grey, grey, 255], 4 * i);
  }
}

/** What is drawn: which result, of which classes alone (none: all), and whether with the classes' outlines. */
class Style {
  constructor(colours, rampColours) {
    this.palette = colours.map(rgb);
    this.ramp = ramp(rampColours);
    this.result = "class";
    this.chosen = new Set();
    this.outlined = false;
  }

  get key() {
    return `${this.result} ${[...this.chosen].join()} ${this.outlined}`;
  }

  /** Paint the pixels at `rows` and `cols` of the tile into a canvas of TILE x TILE. */
  paint(grid, rows, cols) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = TILE;
    const context = canvas.getContext("2d"), image = context.createImageData(TILE, TILE), pixels = image.data;
    const value = RESULTS[this.result], ids = new Int16Array(TILE * TILE).fill(-1);
    grid.sample(rows, cols, (x, y, total) => {
      if (!(total > 0)) return;
      const at = 4 * (y * TILE + x), [first, second] = grid.best();
      let shade = 1;
      ids[at / 4] = first;
      pixels[at + 3] = 255;
      if (this.chosen.size && !this.chosen.has(first)) {
        // A veil over the other classes; the chosen ones are hatched, so that no one has to tell colours apart.
        pixels[at] = pixels[at + 1] = pixels[at + 2] = 128;
        pixels[at + 3] = 110;
        return;
      }
      if (this.chosen.size && ((x + y) & 7) === 0) shade = 0.55;
      const [table, entry] = value
        ? [this.ramp, 3 * Math.round(255 * Math.min(1, Math.max(0, value(grid, total, first, second))))]
        : [this.palette[first], 0];
      for (let k = 0; k < 3; k++) pixels[at + k] = shade * table[entry + k];
    });
    if (this.outlined) outline(ids, pixels, value ? 255 : 24);
    context.putImageData(image, 0, 0);
    return canvas;
  }
}

/** The tile's own projection: metres in its CRS, on which nothing has to be warped. */
function tileProjection(data) {
  return new ol.proj.Projection({ code: data.crs, units: "m", extent: data.extent, getPointResolution: (size) => size });
}

/** A picture of the input, stretched over the tile. */
function pictureLayer(url, data, projection) {
  const source = new ol.source.ImageStatic({ url, imageExtent: data.extent, projection });
  return new ol.layer.Image({ source, visible: false });
}

/**
 * The result that `style` says, drawn where it is looked at by `draw(rows, cols)`, which gives a canvas or promises one;
 * call source.setKey() when something else is to be drawn.
 */
function resultLayer(draw, data, projection) {
  const [west, , , north] = data.extent, resolutions = [data.pixel];
  while (resolutions[0] * TILE < data.pixel * Math.max(...data.grid.shape)) resolutions.unshift(2 * resolutions[0]);
  const every = (start, size) =>
    Array.from({ length: TILE }, (_, i) => Math.floor((start + i + 0.5) * (size / data.pixel)));
  const source = new ol.source.ImageTile({
    projection,
    tileGrid: new ol.tilegrid.TileGrid({ extent: data.extent, origin: [west, north], resolutions, tileSize: TILE }),
    // Beyond the tile's resolution its pixels are seen as they are.
    interpolate: false,
    transition: 0,
    wrapX: false,
    loader: (z, x, y) => draw(every(y * TILE, resolutions[z]), every(x * TILE, resolutions[z])),
  });
  return new ol.layer.Tile({ source });
}

/** Show `layer` only right of a share of the map's width, as `share()` says; null shows all of it. */
function clipLeft(layer, map, share) {
  layer.on("prerender", (event) => {
    const context = event.context, [width, height] = map.getSize(), at = share();
    context.save();
    if (at === null) return;
    const corners = [[at * width, 0], [width, 0], [width, height], [at * width, height]];
    context.beginPath();
    corners.map((corner) => ol.render.getRenderPixel(event, corner)).forEach(([x, y]) => context.lineTo(x, y));
    context.closePath();
    context.clip();
  });
  layer.on("postrender", (event) => event.context.restore());
}
