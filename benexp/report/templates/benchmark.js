/* The page: tables, what is compared, charts in the page's colours. */
"use strict";

const byId = (id) => document.getElementById(id);
function fail(error) {
  byId("failure").textContent = `The page cannot be shown: ${error?.message ?? error}. A browser of 2024 or later is needed.`;
  byId("failure").hidden = false;
}
addEventListener("error", (event) => fail(event.error ?? event.message));
addEventListener("unhandledrejection", (event) => fail(event.reason));

const data = JSON.parse(byId("data").textContent);
const charts = new Charts(data);
const filter = new Filter(byId("configurations"), byId("runs"));
let shown = data.configurations.map((_, i) => i);

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/* Charts */

const LIGHT = { ink: "#1c2024", quiet: "#59636c", line: "#dde1e4", paper: "#fff" };

function theme() {
  const style = getComputedStyle(document.body);
  const read = (name) => {
    const probe = document.body.appendChild(element("i", { style: `color: var(${name})` }));
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return colour;
  };
  return { ink: style.color, quiet: read("--quiet"), line: read("--line"), paper: "rgba(0,0,0,0)" };
}

/* A figure in these colours; "ink" is the colour of letters. */
function painted({ data: traces, layout }, colours, narrow = false) {
  const named = new Set(traces.filter((trace) => trace.showlegend !== false).map((trace) => trace.name)).size;
  const axis = (own) => ({
    ...{ gridcolor: colours.line, zerolinecolor: colours.line, linecolor: colours.quiet, automargin: true, fixedrange: coarse },
    ...own,
    tickangle: narrow && own?.dtick ? -60 : "auto",
    title: own?.title && { ...own.title, standoff: 10 },
  });
  return {
    data: traces.map((trace) =>
      trace.marker?.color === "ink"
        ? { ...trace, marker: { ...trace.marker, color: colours.ink, line: { ...trace.marker.line, color: colours.ink } }, textfont: { color: colours.ink } }
        : trace,
    ),
    layout: {
      font: { family: "system-ui, sans-serif", size: 13, color: colours.ink },
      paper_bgcolor: colours.paper,
      plot_bgcolor: colours.paper,
      margin: { l: 60, r: 16, t: 12, b: 48 },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "normal", font: { size: 12 } },
      hoverlabel: { align: "left", namelength: -1 },
      dragmode: coarse ? false : "zoom",
      ...layout,
      /* A narrow legend has a line for each name. */
      height: layout.height + (narrow ? 20 * named : 0),
      shapes: layout.shapes?.map((shape) => ({ ...shape, line: { ...shape.line, color: colours.ink } })),
      xaxis: axis(layout.xaxis),
      yaxis: axis(layout.yaxis),
    },
  };
}

/* A finger scrolls the page, and does not zoom what it passes. */
const coarse = matchMedia("(pointer: coarse)").matches;
const drawn = new Map();

async function draw(place, title, figure) {
  drawn.set(place, { title, figure });
  const { data: traces, layout } = painted(figure, theme(), innerWidth < 600);
  await Plotly.react(place, traces, layout, { displayModeBar: false, responsive: true, doubleClick: "reset" });
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", `Chart: ${title}. The tables hold its numbers.`);
}

function save(place, title, format) {
  const figure = painted(drawn.get(place).figure, LIGHT);
  const height = figure.layout.height;
  const options = { format, width: 900, height, scale: format === "png" ? 3 : 1, filename: title.toLowerCase().replaceAll(" ", "-") };
  return Plotly.downloadImage(figure, options);
}

function head(level, title, place) {
  const buttons = ["svg", "png"].map((format) => {
    const button = element("button", { type: "button", textContent: format.toUpperCase(), title: `Save “${title}” as ${format.toUpperCase()}, for papers` });
    button.addEventListener("click", () => save(place, title, format));
    return button;
  });
  return element("div", { className: "head" }, element(level, {}, title), ...buttons);
}

let latest = 0;

/* One chart after the other, with room for the browser in between; a later call takes over. */
async function drawAll() {
  const call = ++latest;
  const list = charts.list(shown);
  const kept = new Map([...byId("charts").children].map((section) => [section.dataset.title, section]));
  const sections = list.map(([title, note, figure]) => {
    const old = kept.get(title);
    if (old && !old.dataset.text && typeof figure !== "string") return [old, title, figure];
    const place = element("div", { className: "plot" });
    const section = element("section", {}, place, element("p", { className: "quiet" }, typeof figure === "string" ? figure : note));
    section.prepend(typeof figure === "string" ? element("h2", {}, title) : head("h2", title, place));
    section.dataset.title = title;
    if (typeof figure === "string") section.dataset.text = "";
    return [section, title, figure];
  });
  byId("charts").replaceChildren(...sections.map(([section]) => section));
  for (const [section, title, figure] of sections) {
    await new Promise((resolve) => setTimeout(resolve));
    if (call !== latest) return;
    if (typeof figure !== "string") await draw(section.querySelector(".plot"), title, figure);
  }
}

/* Comparing two */

const number = (value, digits = 3) => Number(value.toPrecision(digits)).toLocaleString("en", { maximumFractionDigits: 6 });

function rows(a, b) {
  const ofRuns = (one, share) => {
    const found = data.runs.filter((run) => data.configurations[run.configuration] === one).map((run) => run.latency_seconds[share]);
    const value = median(found.filter((seconds) => seconds != null));
    return value === null ? null : 1000 * value;
  };
  const scaled = (value, by) => (value === null ? null : value / by);
  const figures = [
    ["patches/s", (one) => one.patches_per_second?.median ?? null],
    ["95 % interval", (one) => one.interval],
    ["km²/s", (one) => one.km2_per_second?.median ?? null],
    ["seconds, all tiles", (one) => one.median?.median ?? null],
    ["seconds without a model", (one) => one.ceiling_seconds?.median ?? null],
    ["memory, GB", (one) => scaled(one.peak_rss_bytes, 1e9)],
    ["device memory, GB", (one) => scaled(one.peak_device_memory_bytes, 1e9)],
    ["batch, ms: median", (one) => ofRuns(one, "p50")],
    ["batch, ms: 9 of 10", (one) => ofRuns(one, "p90")],
    ["batch, ms: 99 of 100", (one) => ofRuns(one, "p99")],
    ["other pixels, per million", (one) => one.flips_per_million],
    ["of them no ties", (one) => one.beyond_ties_per_million],
    ["largest probability difference", (one) => one.prob_diff_max],
    ["failed repeats", (one) => (one.failed.length ? `${one.failed.length} of ${one.repeats.length}` : "none")],
    ["why", (one) => one.errors.join("; ") || null],
    ["what ran", (one) => [one.backend, one.precision, one.device, one.provider].filter(Boolean).join(", ")],
  ];
  const settings = (one) => new Map(one.overrides.map((text) => [text.slice(0, text.indexOf("=")), text.slice(text.indexOf("=") + 1)]));
  const [ours, theirs] = [settings(a), settings(b)];
  const differing = unique([...ours.keys(), ...theirs.keys()]).filter((key) => ours.get(key) !== theirs.get(key));
  return [
    ...differing.map((key) => [key, ours.get(key) ?? "–", theirs.get(key) ?? "–", ""]),
    ...figures.map(([label, of]) => [label, of(a), of(b)]).filter(([, x, y]) => x !== null || y !== null).map(([label, x, y]) => {
      const both = typeof x === "number" && typeof y === "number";
      const ratio = both && x > 0 && y > 0 ? `${(x / y).toFixed(2)}×` : "";
      const text = (value) => (value === null ? "–" : typeof value === "number" ? number(value, 4) : value);
      return [label, text(x), text(y), ratio];
    }),
  ];
}

function sentence(i, j) {
  if (i === j) return "Pick two different configurations.";
  const [a, b] = [data.configurations[i], data.configurations[j]];
  const lacking = [a, b].find((one) => !one.median);
  if (lacking) return `${lacking.configuration} has no time to compare: ${lacking.errors.join("; ")}.`;
  const ratio = (b.median.median / a.median.median).toPrecision(3);
  const byMedians = `${a.configuration} is ${ratio}x as fast as ${b.configuration}, by medians`;
  const beaten = [a, b].flatMap((one) => one.verdicts.filter(({ code }) => code === "ceiling").map((verdict) => ` ${one.configuration}: ${verdict.sentence}.`));
  return `${told(data.pairs.find(([x, y]) => x === i && y === j), byMedians)}${beaten.join("")}`;
}

/* A ratio of medians, and what the repeats of both say of it: that it may be chance comes first. */
function told(pair, byMedians) {
  if (!pair) return `${byMedians}. No repeat was measured of both: there is no interval.`;
  const [, , verdict, words] = pair;
  if (["faster", "slower"].includes(verdict)) return `${byMedians}. Over the repeats of both: ${words}.`;
  const interval = words.replace(verdict, "").replace(/^: | ?[()]/g, "");
  const chance = verdict === "undecided" ? ", which may be chance" : "";
  return `${verdict[0].toUpperCase()}${verdict.slice(1)}: ${byMedians}${chance}. Over the repeats of both: ${interval}.`;
}

async function compare() {
  const [i, j] = [Number(byId("first").value), Number(byId("second").value)];
  for (const box of document.querySelectorAll(".pick")) box.checked = [i, j].includes(Number(box.closest("tr").dataset.configuration));
  const [a, b] = [data.configurations[i], data.configurations[j]];
  byId("verdict").textContent = sentence(i, j);
  const line = (tag, cells, same) => element("tr", { className: same ? "same" : "" }, ...cells.map((cell, n) => element(n ? tag : "th", {}, cell)));
  byId("differences").replaceChildren(
    element("thead", {}, line("th", ["", a.configuration, b.configuration, "ratio"])),
    element("tbody", {}, ...rows(a, b).map((cells) => line("td", cells, cells[1] === cells[2]))),
  );
  const place = document.querySelector("[data-chart=pair] .plot");
  await draw(place, "Stages of two configurations", charts.pair(i, j));
}

function pick(box) {
  const place = box.closest("tr").dataset.configuration;
  if (box.checked) {
    byId("first").value = byId("second").value;
    byId("second").value = place;
  }
  return compare();
}

/* Events */

const asked = () => ({
  words: byId("words").value,
  backend: byId("backend").value,
  status: byId("status").value,
  front: byId("front")?.checked ?? false,
});
async function refilter() {
  shown = filter.apply(asked());
  const every = data.configurations.length;
  const charted = shown.length < every ? ", here and in the charts" : "";
  byId("shown").textContent = `${shown.length} of ${every} configurations shown${charted}.`;
  await drawAll();
}
for (const control of document.querySelectorAll("#words, #backend, #status, #front")) control.addEventListener("input", refilter);
byId("reset").addEventListener("click", () => {
  for (const id of ["words", "backend", "status"]) byId(id).value = "";
  if (byId("front")) byId("front").checked = false;
  return refilter();
});
document.querySelectorAll(".sortable").forEach(sortable);

const repaint = () => Promise.all([...drawn].filter(([place]) => place.isConnected).map(([place, { title, figure }]) => draw(place, title, figure)));
const switchTheme = () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  return repaint();
};
byId("theme").addEventListener("click", switchTheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
byId("copy")?.addEventListener("click", async () => {
  getSelection().selectAllChildren(byId("command"));
  await navigator.clipboard.writeText(byId("command").textContent).then(() => (byId("copy").textContent = "Copied"), () => {});
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox]), select")) return;
  const act = { t: switchTheme, "/": () => byId("words").focus() }[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act();
});

/* Start */

async function start() {
  if (byId("comparison")) {
    const figure = document.querySelector("[data-chart=pair]");
    const place = element("div", { className: "plot" });
    figure.append(head("h3", "Stages of the two", place), place);
    const first = data.recommended ?? data.configurations.findIndex((one) => one.median);
    const usable = data.configurations.map((_, i) => i).filter((i) => i !== first);
    const second = data.reference !== null && data.reference !== first ? data.reference : (usable.find((i) => data.configurations[i].median) ?? usable[0]);
    byId("first").value = Math.max(0, first);
    byId("second").value = second;
    byId("first").addEventListener("change", compare);
    byId("second").addEventListener("change", compare);
    byId("swap").addEventListener("click", () => {
      [byId("first").value, byId("second").value] = [byId("second").value, byId("first").value];
      return compare();
    });
    for (const box of document.querySelectorAll(".pick")) box.addEventListener("change", () => pick(box));
    await compare();
  }
  await refilter();
  document.documentElement.dataset.ready = "";
}
start();
