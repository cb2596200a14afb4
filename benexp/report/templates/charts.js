/* The charts: each makes a figure for plotly of the configurations that are shown, or null where there is nothing. */
"use strict";

const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "cross", "star-triangle-down", "hexagon"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];

class Charts extends Configurations {
  speed(key, field, what, shown) {
    const found = this.measured(shown).filter((one) => one[field] !== null);
    const lines = unique(found.map((one) => without(one, key)));
    const along = (line) => unique(found.filter((one) => without(one, key) === line).map((one) => one[field]));
    if (!lines.some((line) => along(line).length > 1)) return null;
    const inGroup = new Map();
    const traces = lines.map((line) => {
      const points = found.filter((one) => without(one, key) === line).sort((a, b) => a[field] - b[field]);
      const group = this.group[points[0].place];
      const nth = inGroup.get(group) ?? 0;
      inGroup.set(group, nth + 1);
      const speeds = points.map((one) => one.patches_per_second);
      return {
        type: "scatter",
        mode: "lines+markers",
        name: plain(this.name(points[0], key)),
        x: points.map((one) => one[field]),
        y: speeds.map((speed) => speed.median),
        error_y: {
          type: "data",
          symmetric: false,
          array: speeds.map((speed) => (speed.high ?? speed.median) - speed.median),
          arrayminus: speeds.map((speed) => speed.median - (speed.low ?? speed.median)),
          thickness: 1,
          width: 4,
          color: `${this.colour(group)}99`,
        },
        line: { color: this.colour(group), dash: DASHES[nth % DASHES.length], width: 2 },
        marker: { color: this.colour(group), symbol: SYMBOLS[nth % SYMBOLS.length], size: 9 },
        hovertemplate: `%{y:,.1f} patches/s<br>${what} %{x}<extra>%{fullData.name}</extra>`,
      };
    });
    const ticks = unique(found.map((one) => one[field])).sort((a, b) => a - b);
    const top = 1.2 * Math.max(...found.map((one) => one.patches_per_second.median));
    return {
      data: traces,
      layout: {
        height: 400,
        xaxis: { title: { text: what }, type: "log", tickvals: ticks, ticktext: ticks.map(String) },
        /* Intervals of two or three repeats may be many times as long as the axis. */
        yaxis: { title: { text: "patches/s" }, range: [0, top] },
      },
    };
  }

  bars(shown) {
    const found = this.measured(shown);
    if (!found.length) return null;
    const top = 1.2 * Math.max(...found.map((one) => one.patches_per_second.median));
    const speeds = found.map((one) => one.patches_per_second);
    return {
      data: [
        {
          type: "bar",
          orientation: "h",
          y: found.map((one) => this.label(one)),
          x: speeds.map((speed) => speed.median),
          error_x: {
            type: "data",
            symmetric: false,
            array: speeds.map((speed) => (speed.high ?? speed.median) - speed.median),
            arrayminus: speeds.map((speed) => speed.median - (speed.low ?? speed.median)),
            thickness: 1,
          },
          marker: { color: found.map((one) => this.colour(this.group[one.place])) },
          hovertemplate: "%{x:,.1f} patches/s<extra>%{y}</extra>",
          showlegend: false,
        },
      ],
      layout: this.rows(found.length, { title: { text: "patches/s" }, range: [0, top] }),
    };
  }

  rows(count, xaxis) {
    return { height: 130 + 38 * count, bargap: 0.35, xaxis, yaxis: { autorange: "reversed", type: "category" }, hovermode: "closest" };
  }

  pareto(field, mark, title, scale, shown) {
    const found = this.measured(shown).filter((one) => one[field] !== null && one.compared);
    if (found.length < 2) return null;
    const x = (one) => one[field] / scale;
    if (field !== "memory_bytes" && found.every((one) => one[field] === 0)) {
      return "Every map is the same as the reference's, pixel by pixel: nothing has to be traded for speed.";
    }
    const limit = field === "memory_bytes" ? this.data.limits.max_memory_gb : this.data.limits.max_flips_per_million;
    const most = Math.max(...found.map(x), limit ?? 0);
    const front = found.filter((one) => one[mark]).sort((a, b) => x(a) - x(b));
    const traces = [];
    if (front.length > 1) {
      traces.push({
        type: "scatter",
        mode: "lines",
        name: "Pareto front",
        x: front.map(x),
        y: front.map((one) => one.patches_per_second.median),
        line: { shape: "hv", dash: "dot", width: 2, color: "#8c8c8c" },
        hoverinfo: "skip",
      });
    }
    for (const group of unique(found.map((one) => this.group[one.place]))) {
      const points = found.filter((one) => this.group[one.place] === group);
      traces.push({
        type: "scatter",
        mode: "markers",
        name: plain(this.groupName[group]),
        x: points.map(x),
        y: points.map((one) => one.patches_per_second.median),
        text: points.map((one) => plain(one.configuration) + (one[mark] ? "<br>on the front" : "")),
        marker: {
          color: this.colour(group),
          size: 12,
          line: { width: 2, color: this.colour(group) },
          symbol: points.map((one) => SYMBOLS[group % 4] + (one[mark] ? "" : "-open")),
        },
        hovertemplate: `%{text}<br>%{y:,.1f} patches/s, %{x:,.4~g} ${title}<extra></extra>`,
      });
    }
    const best = found.find((one) => one.place === this.data.recommended);
    if (best) {
      traces.push({
        type: "scatter",
        mode: "markers+text",
        name: "recommended",
        x: [x(best)],
        y: [best.patches_per_second.median],
        text: [x(best) > most / 2 ? "recommended ★  " : "  ★ recommended"],
        textposition: x(best) > most / 2 ? "middle left" : "middle right",
        marker: { symbol: "circle-open", size: 22, line: { width: 2 }, color: "ink" },
        hoverinfo: "skip",
        showlegend: false,
      });
    }
    const shapes = limit === null ? [] : [{ type: "line", x0: limit, x1: limit, yref: "paper", y0: 0, y1: 1, line: { dash: "dash", width: 1 } }];
    return {
      data: traces,
      layout: {
        height: 420,
        hovermode: "closest",
        shapes,
        xaxis: { title: { text: title + (limit === null ? "" : " (dashed: the limit)") }, range: [-0.04 * most, 1.12 * most] },
        yaxis: { title: { text: "patches/s" }, range: [0, 1.2 * Math.max(...found.map((one) => one.patches_per_second.median))] },
      },
    };
  }

  stages(shown) {
    const found = this.measured(shown);
    if (!found.length) return null;
    const y = found.map((one) => this.label(one));
    const traces = this.data.stages.flatMap((stage, i) => found.every((one) => !one.stage_seconds[stage]) ? [] : ({
      type: "bar",
      orientation: "h",
      name: stage,
      y,
      x: found.map((one) => one.stage_seconds[stage] ?? 0),
      marker: { color: COLOURS[i] },
      hovertemplate: `${stage}: %{x:,.2f} s busy<extra>%{y}</extra>`,
    }));
    traces.push({
      type: "scatter",
      mode: "markers",
      name: "by the clock",
      y,
      x: found.map((one) => one.median.median),
      marker: { symbol: "line-ns-open", size: 20, line: { width: 3 }, color: "ink" },
      hovertemplate: "%{x:,.2f} s by the clock<extra>%{y}</extra>",
    });
    return { data: traces, layout: { ...this.rows(found.length, { title: { text: "seconds" } }), barmode: "stack" } };
  }

  /* Where stages of two configurations take their time. */
  pair(first, second) {
    const traces = [first, second].map((i, nth) => {
      const one = this.all[i];
      const stages = this.data.stages.filter((stage) => this.all[first].stage_seconds[stage] || this.all[second].stage_seconds[stage]);
      return {
        type: "bar",
        orientation: "h",
        name: plain(one.configuration),
        y: stages,
        x: stages.map((stage) => one.stage_seconds[stage] ?? 0),
        marker: { color: COLOURS[nth], pattern: { shape: nth ? "/" : "", solidity: 0.25 } },
        hovertemplate: "%{y}: %{x:,.2f} s busy<extra>%{fullData.name}</extra>",
      };
    });
    return {
      data: traces,
      layout: { height: 340, barmode: "group", xaxis: { title: { text: "seconds busy" } }, yaxis: { autorange: "reversed" } },
    };
  }

  /* A row for each configuration: how its batches spread, by bins that all runs share. */
  latencies(shown) {
    const traces = [];
    const rows = [];
    const perDecade = this.data.per_decade;
    for (const i of shown) {
      const all = new Map();
      for (const run of this.data.runs.filter((one) => one.configuration === i)) {
        for (const [bin, count] of Object.entries(run.latencies)) all.set(+bin, (all.get(+bin) ?? 0) + count);
      }
      if (!all.size) continue;
      const fine = [...all.keys()].sort((a, b) => a - b);
      const total = fine.reduce((sum, bin) => sum + all.get(bin), 0);
      /* Few batches would be a comb in narrow bins. */
      const width = total < 200 ? 5 : total < 1000 ? 2 : 1;
      const counts = new Map();
      for (const bin of fine) counts.set(Math.floor(bin / width), (counts.get(Math.floor(bin / width)) ?? 0) + all.get(bin));
      const bins = [...counts.keys()];
      const most = Math.max(...counts.values());
      const row = rows.push(this.label(this.all[i])) - 1;
      const edge = (bin) => 1000 * 10 ** ((width * bin) / perDecade);
      const rank = (share) => {
        let left = share * total;
        return edge((fine.find((bin) => (left -= all.get(bin)) <= 0) + 0.5) / width);
      };
      const x = [edge(bins[0])];
      const y = [row];
      for (let bin = bins[0]; bin <= bins.at(-1); bin++) {
        const height = row - (0.8 * (counts.get(bin) ?? 0)) / most;
        x.push(edge(bin), edge(bin + 1));
        y.push(height, height);
      }
      x.push(edge(bins.at(-1) + 1));
      y.push(row);
      const colour = this.colour(this.group[i]);
      traces.push({
        ...{ type: "scatter", mode: "lines", x, y, fill: "toself", fillcolor: `${colour}66`, line: { color: colour, width: 1 } },
        ...{ hoverinfo: "skip", showlegend: false },
      });
      traces.push({
        type: "scatter",
        mode: "markers",
        x: [rank(0.5), rank(0.9), rank(0.99)],
        y: [row, row, row],
        text: ["median", "9 of 10 take less than", "99 of 100 take less than"],
        marker: { symbol: ["line-ns-open", "line-ns-open", "line-ns-open"], size: [14, 9, 9], line: { width: 2 }, color: "ink" },
        hovertemplate: `%{text}: about %{x:,.3~g} ms<extra>${plain(this.all[i].configuration)}, ${total} batches</extra>`,
        showlegend: false,
      });
    }
    if (!rows.length) return null;
    return {
      data: traces,
      layout: {
        height: 130 + 44 * rows.length,
        hovermode: "closest",
        xaxis: { type: "log", title: { text: "milliseconds per batch" }, tickformat: "~r", dtick: "D2" },
        yaxis: { range: [rows.length - 0.6, -1], tickvals: rows.map((_, row) => row - 0.3), ticktext: rows, showgrid: false },
      },
    };
  }

  memory(shown) {
    const named = new Set();
    const traces = [];
    for (const run of this.data.runs) {
      const bytes = run.over_time.rss_bytes;
      if (!bytes || !shown.includes(run.configuration)) continue;
      const group = this.group[run.configuration];
      const own = { type: "scatter", mode: "lines", name: plain(this.groupName[group]), legendgroup: String(group) };
      if (!named.has(group)) traces.push({ ...own, x: [null], y: [null], line: { color: this.colour(group) } });
      named.add(group);
      traces.push({
        ...own,
        showlegend: false,
        x: run.over_time.seconds,
        y: bytes.map((value) => value / 1e9),
        line: { color: this.colour(group), width: 1.5, dash: DASHES[Math.max(0, shown.indexOf(run.configuration)) % DASHES.length] },
        hovertemplate: `%{y:.2f} GB after %{x:.1f} s<br>${plain(this.all[run.configuration].configuration)}<br>${plain(run.tile)}, repeat ${run.repeat}<extra></extra>`,
      });
    }
    if (!traces.length) return null;
    return {
      data: traces,
      layout: {
        height: 400,
        hovermode: "closest",
        xaxis: { title: { text: "seconds" }, rangemode: "tozero" },
        yaxis: { title: { text: "GB" }, rangemode: "tozero" },
      },
    };
  }

  /* Title, what to know of it, and how it is made. */
  list(shown) {
    const bySize = [
      ["Speed against batch size", "Bars are 95 % intervals, cut off where they are longer than the axis.", this.speed(BATCH, "batch_size", "batch", shown)],
      ["Speed against chunk size", "Bars are 95 % intervals, cut off where they are longer than the axis.", this.speed(CHUNK, "chunk_size", "chunk", shown)],
    ];
    const speeds = bySize.some(([, , figure]) => figure) ? bySize : [["Speed", "Medians with 95 % intervals.", this.bars(shown)]];
    const accuracy = ["Speed against accuracy", "Up and left is better. Pixels whose class is not the reference's.", this.pareto("flips_per_million", "pareto_flips", "other pixels per million", 1, shown)];
    const memory = ["Memory over time", "Resident memory of each run; dashes tell configurations of a colour apart.", this.memory(shown)];
    /* Beside each other are charts of a height; what is but a sentence comes last. */
    const [beside, last] = typeof accuracy[2] === "string" ? [memory, accuracy] : [accuracy, memory];
    return [
      ...speeds,
      ["Speed against memory", "Up and left is better. Filled: nothing else is both faster and smaller.", this.pareto("memory_bytes", "pareto_memory", "GB of memory at most", 1e9, shown)],
      beside,
      ["Where the time goes", "Busy seconds of each stage, summed over threads: stages overlap, so bars may pass the clock.", this.stages(shown)],
      ["Time per batch", "How often a batch took how long; ticks: median, 9 of 10, 99 of 100.", this.latencies(shown)],
      last,
    ].filter(([, , figure]) => figure);
  }
}
