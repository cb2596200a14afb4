/* The page: one map, its controls, and what they do. */
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
const choose = (name, value) => document.querySelector(`input[name=${name}][value="${value}"]`)?.click();

function say(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}

function fail(error) {
  const old = !CSS.supports("color", "light-dark(red, red)");
  const hint = old ? " A browser of 2024 or later is needed." : "";
  say("failure", `The map cannot be shown: ${error?.message ?? error}.${hint}`);
}
addEventListener("error", (event) => fail(event.error ?? event.message));
addEventListener("unhandledrejection", (event) => fail(event.reason));

const projection = tileProjection(data);
const style = new Style(data.classes.map((item) => item.colour), data.ramp);
const pictures = new Map(
  data.pictures.map(({ id }) => [id, pictureLayer(byId(id).textContent, data, projection)]),
);
const map = new ol.Map({
  target: "map",
  layers: [...pictures.values()],
  view: new ol.View({
    projection,
    center: ol.extent.getCenter(data.extent),
    extent: data.extent,
    constrainOnlyCenter: true,
    minResolution: data.pixel / 32,
    enableRotation: false,
  }),
  controls: [
    new ol.control.Zoom(),
    new ol.control.ZoomToExtent({ extent: data.extent, label: byId("whole"), tipLabel: "Whole tile" }),
    new ol.control.ScaleLine({ minWidth: 80 }),
  ],
  interactions: ol.interaction.defaults.defaults({ altShiftDragRotate: false, pinchRotate: false }),
});
let grid = null, geotiffs = null, results = null;

const fit = (options) => map.getView().fit(data.extent, { padding: [8, 8, 8, 8], ...options });

/* Layers */

function redraw() {
  for (const [id, layer] of pictures) layer.setVisible(id === chosen("input"));
  const result = chosen("result"), swiping = byId("swipe").checked && result !== "";
  byId("divider").hidden = !swiping;
  byId("opacity").disabled = byId("swipe").disabled = result === "";
  byId("ramp").hidden = result === "" || result === "class";
  const [low, high] = data.ends[result] ?? ["", ""];
  [byId("ramp").firstChild.textContent, byId("ramp").lastChild.textContent] = [low, high];
  byId("outlines").disabled = result === "";
  if (!results) return;
  results.setVisible(result !== "");
  results.setOpacity(Number(byId("opacity").value));
  if (result) style.result = result;
  style.outlined = byId("outlines").checked;
  byId("own").hidden = !usesGeotiffs() || result === "" || fromGeotiffs();
  results.getSource().setKey(`${style.key} ${fromGeotiffs()}`);
  map.render();
}

const usesGeotiffs = () => geotiffs !== null && byId("geotiffs").checked;
const fromGeotiffs = () => usesGeotiffs() && geotiffs.has(style.result);

/** A piece of the result, from the page's own grid or from the GeoTIFFs. */
function draw(rows, cols) {
  if (!fromGeotiffs()) return style.paint(grid, rows, cols);
  const opened = geotiffs;
  return opened.read(style.result, rows, cols).then(
    (found) => style.paint(found, rows, cols),
    (error) => {
      giveUp(opened, error);
      return style.paint(grid, rows, cols);
    },
  );
}

/** Draw from the page's own grid, and say why; ticking the box opens the GeoTIFFs again. */
function giveUp(opened, error) {
  if (geotiffs !== opened) return;
  geotiffs = null;
  byId("geotiffs").checked = false;
  const text = `The GeoTIFFs cannot be read (${error.message}): the map shows the page's own grid.`;
  say("unread", `${text} Tick "Drawn from the GeoTIFFs" to try again.`);
  redraw();
}

async function openGeotiffs() {
  const opened = await GeoTiffs.open(data);
  if (!opened) return;
  geotiffs = opened;
  byId("geotiffs").closest("p").hidden = false;
  const { class: classes, ...others } = opened.failed;
  if (classes) return giveUp(opened, classes);
  const missing = Object.entries(others).map(
    ([result, { message }]) => `The ${result} is drawn from the page's own grid: its GeoTIFF cannot be read (${message}).`,
  );
  say("unread", missing.join(" "));
  redraw();
}

function isolate(id, several) {
  const others = [...style.chosen].filter((other) => other !== id);
  const already = style.chosen.has(id);
  style.chosen = new Set(several ? others : already && !others.length ? [] : [id]);
  if (several && !already) style.chosen.add(id);
  showChosen();
}

function showChosen() {
  for (const row of document.querySelectorAll("[data-class]")) {
    row.querySelector("button").setAttribute("aria-pressed", String(style.chosen.has(Number(row.dataset.class))));
  }
  byId("everything").hidden = !style.chosen.size;
  redraw();
  histogram();
}

/* What is under the pointer */

const readout = new Readout(data, byId("readout"));
let place = null, reading = false;

/** Tell of the place at `coordinate`; GeoTIFFs are read for one place at a time, and none that the pointer has left. */
async function read(coordinate) {
  place = coordinate;
  const [west, , , north] = data.extent, [x, y] = coordinate;
  const row = Math.floor((north - y) / data.pixel), col = Math.floor((x - west) / data.pixel);
  const own = grid?.at(row, col);
  const tell = (file) => readout.show(coordinate, row, col, known(own, file, data.grid.every > 1));
  if (!usesGeotiffs()) return tell(null);
  readout.show(coordinate, row, col);
  if (reading) return;
  reading = true;
  const opened = geotiffs;
  const file = await opened.at(row, col).catch((error) => giveUp(opened, error));
  reading = false;
  if (file && place === coordinate) tell(file);
  else if (place) read(place);
}

function leave() {
  if (byId("map").matches(":focus-visible")) return read(map.getView().getCenter());
  place = null;
  readout.clear();
}

/* How sure the model is */

function histogram() {
  const bins = new Array(20).fill(0), step = Math.ceil(Math.max(grid.height, grid.width) / 400);
  const every = (length) => Array.from({ length: Math.ceil(length / step) }, (_, i) => i * step);
  let sum = 0, count = 0;
  grid.sample(every(grid.height), every(grid.width), (x, y, total) => {
    if (!(total > 0)) return;
    const [first] = grid.best();
    if (style.chosen.size && !style.chosen.has(first)) return;
    const confidence = grid.scores[first] / total;
    bins[Math.min(bins.length - 1, Math.floor(confidence * bins.length))]++;
    sum += confidence;
    count++;
  });
  const most = Math.max(...bins), names = [...style.chosen].map((id) => data.classes[id].name).join(", ");
  const bars = bins.map((pixels, i) => {
    const height = most ? (90 * pixels) / most : 0;
    const title = `${i / 20} to ${(i + 1) / 20}: ${((100 * pixels) / count).toFixed(1)} %`;
    return `<rect x="${i * 5 + 0.3}" y="${90 - height}" width="4.4" height="${height}"><title>${title}</title></rect>`;
  });
  const unsure = bins.slice(0, 10).reduce((a, b) => a + b, 0) / count;
  const text = count
    ? `Mean ${(sum / count).toFixed(2)}; ${(100 * unsure).toFixed(0)} % of the pixels below 0.5`
    : "No pixels";
  byId("histogram").innerHTML =
    `<svg viewBox="0 0 100 90" preserveAspectRatio="none" role="img" aria-label="Histogram. ${text}">${bars.join("")}</svg>`;
  byId("histogram").append(
    element("div", { class: "axis" }, ...["0", "0.5", "1"].map((label) => element("span", {}, label))),
    element("p", { class: "quiet" }, `${names || "All classes"}: probability of the best class. ${text}.`),
  );
}

/* Events */

for (const input of document.querySelectorAll("aside input")) input.addEventListener("input", redraw);
byId("geotiffs").addEventListener("input", () => byId("geotiffs").checked && !geotiffs && openGeotiffs());
byId("divider").addEventListener("input", () => map.render());
byId("divider").addEventListener("keydown", (event) => {
  // Finer by the mouse than by a key, which would take a thousand strokes.
  const change = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02 }[event.key];
  if (!change) return;
  event.preventDefault();
  byId("divider").value = Number(byId("divider").value) + change;
  map.render();
});
for (const row of document.querySelectorAll("[data-class]")) {
  row.querySelector("button").addEventListener("click", (event) =>
    isolate(Number(row.dataset.class), event.shiftKey || event.ctrlKey || event.metaKey),
  );
}
const showAll = () => {
  style.chosen = new Set();
  showChosen();
};
byId("everything").addEventListener("click", showAll);
map.on(["pointermove", "click"], (event) => event.dragging || read(event.coordinate));
byId("view").addEventListener("pointerleave", (event) => event.pointerType === "mouse" && leave());
map.on("moveend", () => byId("map").matches(":focus-visible") && read(map.getView().getCenter()));

const switchTheme = () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
};
byId("theme").addEventListener("click", switchTheme);
byId("help").addEventListener("click", () => byId("keys").showModal());
byId("copy").addEventListener("click", async () => {
  const text = byId("command").textContent;
  getSelection().selectAllChildren(byId("command"));
  await navigator.clipboard.writeText(text).then(() => (byId("copy").textContent = "Copied"), () => {});
});

const fade = (change) => {
  byId("opacity").value = Number(byId("opacity").value) + change;
  redraw();
};
const KEYS = {
  Home: () => fit({ duration: 200 }),
  Escape: showAll,
  "[": () => fade(-0.1),
  "]": () => fade(0.1),
  s: () => byId("swipe").click(),
  o: () => byId("outlines").click(),
  t: switchTheme,
  "?": () => byId("keys").showModal(),
};
data.pictures.forEach(({ id }, i) => (KEYS[i + 1] = () => choose("input", id)));
data.results.forEach(([name, key]) => (KEYS[key] = () => choose("result", name)));
KEYS[0] = () => choose("result", "");
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || (event.target.type === "range" && event.key === "Home")) return;
  event.preventDefault();
  act();
});

/* Start: the picture at once, the results as soon as the grid is unpacked. */

byId("ramp").querySelector("i").style.background = `linear-gradient(90deg, ${data.ramp.join()})`;
fit();
redraw();
Grid.load(data.grid).then((loaded) => {
  grid = loaded;
  results = resultLayer(draw, data, projection);
  clipLeft(results, map, () => (byId("divider").hidden ? null : Number(byId("divider").value)));
  map.addLayer(results);
  redraw();
  histogram();
  document.documentElement.dataset.ready = "";
  return openGeotiffs();
});
