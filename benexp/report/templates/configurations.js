/* The configurations of a report: their names, and a colour for each group of them. */
"use strict";

/* Okabe and Ito's colours, which the colour-blind tell apart, without those that a dark or a light page swallows. */
const COLOURS = ["#0086d1", "#e69f00", "#00a37a", "#d55e00", "#cc79a7", "#56b4e9", "#8c8c8c", "#a6761d"];
const BATCH = "backend.batch_size";
const CHUNK = "chunking.chunk_size";

/* Names go into what plotly takes for a little HTML. */
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const median = (values) => {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length ? (sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2) : null;
};
const unique = (values) => [...new Set(values)];
const set = (one, key) => one.overrides.find((text) => text.startsWith(`${key}=`));
const without = (one, ...keys) => one.overrides.filter((text) => !keys.some((key) => text.startsWith(`${key}=`))).join(" ");

class Configurations {
  constructor(data) {
    this.data = data;
    this.all = data.configurations;
    /* One colour for each backend and what else there is but sizes; with one backend alone, for each chunk, and so on. */
    const ways = [(one) => without(one, BATCH, CHUNK), (one) => without(one, BATCH), (one) => one.config_hash];
    const way = ways.find((of) => unique(this.all.map(of)).length > 1) ?? ways[2];
    const groups = unique(this.all.map(way));
    this.group = this.all.map((one) => groups.indexOf(way(one)));
    this.groupName = groups.map((key) => {
      const one = this.all.find((other) => way(other) === key);
      return way === ways[0] ? this.name(one, BATCH, CHUNK) : way === ways[1] ? this.name(one, BATCH) : one.configuration;
    });
  }

  colour(group) {
    return COLOURS[group % COLOURS.length];
  }

  /* A configuration's name without some of its settings. */
  name(one, ...keys) {
    let name = one.configuration;
    for (const key of keys) {
      const value = set(one, key)?.slice(key.length + 1);
      if (value !== undefined) name = name.replace(`, ${key === BATCH ? "batch" : "chunk"} ${value}`, "");
    }
    return name;
  }

  /* On two lines where it is long. */
  label(one) {
    const name = plain(one.configuration);
    return name.length > 22 ? name.replace(", ", "<br>") : name;
  }

  measured(shown) {
    return shown.map((i) => ({ ...this.all[i], place: i })).filter((one) => one.patches_per_second);
  }
}
