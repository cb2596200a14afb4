/* What is under the pointer: where it is, and what the model said there. */
"use strict";

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

/** Longitude and latitude by the polynomials that Python fitted to the tile. */
function lonLat(data, [x, y]) {
  const [west, south, east, north] = data.extent, { longitude, latitude, degree } = data.lonlat;
  const u = (2 * (x - west)) / (east - west) - 1, v = (2 * (y - south)) / (north - south) - 1;
  let lon = 0, lat = 0;
  for (let i = 0, k = 0; i <= degree; i++) {
    for (let j = 0; i + j <= degree; j++, k++) {
      const term = u ** i * v ** j;
      lon += longitude[k] * term;
      lat += latitude[k] * term;
    }
  }
  return [((lon + 540) % 360) - 180, lat];
}

/**
 * What is known of a pixel, null where it has no class: by the GeoTIFFs (`file`, by layer) what they hold, all else by
 * the page's grid (`own`, null where it has nothing). `about` names what only a grid that is not thinned has exactly.
 */
function known(own, file, thinned) {
  const first = file ? file.class : own?.first;
  if (first === undefined) return null;
  const { maxprob, gap, entropy } = file ?? {}, scores = own?.probabilities ?? [];
  const second = own?.first === first ? own.second : own?.first;
  const confidence = maxprob ?? scores[first], next = gap === undefined ? scores[second] : confidence - gap;
  const found = { first, second, confidence, next, gap: Math.max(0, confidence - next), entropy: entropy ?? own?.entropy };
  const exact = { first: file, confidence: maxprob, next: maxprob && gap, gap, entropy };
  const about = thinned ? Object.keys(found).filter((name) => (exact[name] ?? null) === null) : [];
  return { ...found, about: new Set(about) };
}

class Readout {
  constructor(data, target) {
    Object.assign(this, { data, target, empty: [...target.childNodes] });
  }

  clear() {
    this.target.replaceChildren(...this.empty);
    this.mark(null);
  }

  /** Tell of a place and the pixel there; without `found` (undefined) only where it is, null: that it has no class. */
  show(coordinate, row, col, found) {
    this.target.replaceChildren(...this.place(coordinate, row, col), ...(found === undefined ? [] : this.facts(found)));
    if (found !== undefined) this.mark(found);
  }

  place([x, y], row, col) {
    const whole = (number) => Math.round(number).toLocaleString("en");
    const degrees = (angle, letters) => `${Math.abs(angle).toFixed(5)}° ${letters[angle < 0 ? 1 : 0]}`;
    const [lon, lat] = lonLat(this.data, [x, y]);
    return [
      this.line(`${whole(x)} E, ${whole(y)} N`, this.data.crs),
      this.line(`${degrees(lat, "NS")}, ${degrees(lon, "EW")}`, `row ${row}, col ${col}`),
    ];
  }

  facts(found) {
    if (!found) return [element("p", {}, "No class here")];
    const about = (name) => (found.about.has(name) ? "≈ " : "");
    const number = (name, digits) => {
      const value = found[name];
      return Number.isFinite(value) ? about(name) + value.toFixed(digits) : "unknown";
    };
    const score = (which, name) => {
      const { colour, name: text } = this.data.classes[found[which]];
      return element(
        "p", { class: "score", "data-id": found[which] },
        element("i", { class: "swatch", style: `background: ${colour}` }),
        element("span", {}, about(which) + text),
        element("data", { value: found[name] }, number(name, 3)),
      );
    };
    const note = `≈ by 1 in ${this.data.grid.every} patches along each axis`;
    return [
      score("first", "confidence"),
      ...(found.second === undefined ? [] : [score("second", "next")]),
      this.line(`entropy ${number("entropy", 2)} bits`, `gap ${number("gap", 3)}`),
      ...(found.about.size ? [element("p", { class: "note" }, note)] : []),
    ];
  }

  line(...texts) {
    return element("p", { class: "place" }, ...texts.map((text) => element("span", {}, text)));
  }

  /** Mark the class in the legend. */
  mark(found) {
    for (const other of document.querySelectorAll(".under")) other.classList.remove("under");
    if (found) document.querySelector(`[data-class="${found.first}"]`).classList.add("under");
  }
}
