/* Tables whose rows are sorted by a click on a heading, and shown or hidden together. */
"use strict";

/* Cells without a value stay at the end, whichever way. Of what is the better the more there is, the best comes first. */
function sortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.textContent.trim().toLowerCase();
    if (cell.dataset.value === undefined) return text === "–" ? null : text;
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  const sort = (column) => {
    const { ariaSort: now, dataset } = headings[column];
    const ascending = now === "none" ? dataset.first !== "most" : now === "descending";
    headings.forEach((heading) => heading.ariaSort && (heading.ariaSort = "none"));
    headings[column].ariaSort = ascending ? "ascending" : "descending";
    const rows = [...table.tBodies[0].rows].map((row) => [value(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const order = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
      return ascending ? order : -order;
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };
  headings.forEach((heading, column) => heading.querySelector(".sorter")?.addEventListener("click", () => sort(column)));
}

/* What a person may look for in each configuration's row and in those of its runs, which tell of each other. */
class Filter {
  constructor(configurations, runs) {
    this.configurations = [...configurations.tBodies[0].rows];
    this.runs = [...runs.tBodies[0].rows];
    const text = (row) => [row.textContent, ...[...row.querySelectorAll("[title]")].map((part) => part.title)].join(" ");
    const own = new Map(this.configurations.map((row) => [row.dataset.configuration, text(row)]));
    this.texts = new Map();
    for (const row of this.runs) this.texts.set(row, `${text(row)} ${own.get(row.dataset.configuration)}`.toLowerCase());
    for (const row of this.configurations) {
      const below = this.runs.filter((run) => run.dataset.configuration === row.dataset.configuration);
      this.texts.set(row, [own.get(row.dataset.configuration), ...below.map(text)].join(" ").toLowerCase());
    }
  }

  /* Show what has all the words, and what is asked for; the places of the configurations that are shown. */
  apply({ words, backend, status, front }) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of [...this.configurations, ...this.runs]) {
      row.hidden = !(
        wanted.every((word) => this.texts.get(row).includes(word)) &&
        (!backend || row.dataset.backend === backend) &&
        (!status || row.dataset.status === status) &&
        (!front || row.dataset.front !== undefined)
      );
    }
    const shown = this.configurations.filter((row) => !row.hidden).map((row) => Number(row.dataset.configuration));
    return shown.sort((a, b) => a - b);
  }
}
