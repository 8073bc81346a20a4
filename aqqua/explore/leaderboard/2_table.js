// The table of all entries, sortable by any column.
function columns() {
  const shown = [byId("metric").value, ...Object.keys(METRICS).filter((name) => METRICS[name].main)];
  const there = (name) => board().entries.some((entry) => result(entry)?.metrics[name]);
  const metrics = [...new Set(shown)].filter(there);
  return [
    { key: "name", text: "model", of: (entry) => entry.model.name },
    { key: "kind", text: "kind", words: true, of: (entry) => entry.model.kind },
    ...metrics.map((name) => ({
      key: name, text: metricName(name), metric: true, better: betterOf(name), higher: betterOf(name) === "higher",
      of: (entry) => result(entry)?.metrics[name]?.value ?? null,
      figure: (entry) => result(entry)?.metrics[name],
    })),
    ...Object.entries(COSTS).map(([name, text]) => ({
      key: name, text, of: (entry) => entry.model[name], format: short, higher: false,
    })),
    { key: "resolution", text: "sees an image at", words: true, of: (entry) => entry.model.resolution },
    { key: "seen", text: "test images seen in pretraining", of: seenShare, format: seenText },
  ];
}

const seenShare = (entry) => {
  const seen = entry.seen_in_pretraining;
  return seen === null || seen.of === 0 ? null : seen.images / seen.of;
};
const seenText = (value) => (value === null ? "not looked at" : `${(100 * value).toPrecision(2)} %`);

function compare(column, down) {
  return (a, b) => {
    const [x, y] = [column.of(a), column.of(b)];
    if (x === null || x === undefined) return 1; // what is not known comes last, either way
    if (y === null || y === undefined) return -1;
    const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y));
    return down ? -order : order;
  };
}

function sortBy(column) {
  if (state.sort === column.key) state.down = !state.down;
  else [state.sort, state.down] = [column.key, column.higher ?? false];
  drawTable();
}

function heading(column, sorted, down, onclick) {
  const arrow = sorted ? (down ? " ▼" : " ▲") : "";
  const button = element("button", { type: "button", onclick }, column.text + arrow);
  return element("th", { scope: "col", class: column.words ? "words" : null, "aria-sort": sorted ? (down ? "descending" : "ascending") : "none" }, button);
}

function figureCell(figure, best) {
  const cell = element("td", { class: best ? "best" : null }, number(figure?.value));
  if (figure?.low !== null && figure?.low !== undefined) {
    cell.append(element("small", {}, ` ${number(figure.low)} to ${number(figure.high)}`));
  }
  return cell;
}

function bestOf(values, better) {
  if (better === "higher") return Math.max(...values);
  if (better === "lower") return Math.min(...values);
  if (better === "nearer 0") return values.sort((a, b) => Math.abs(a) - Math.abs(b))[0];
  return null;
}

function drawTable() {
  const shown = columns();
  const sorted = shown.find((column) => column.key === state.sort) ?? shown.find((column) => column.metric) ?? shown[0];
  if (sorted.key !== state.sort) [state.sort, state.down] = [sorted.key, sorted.higher ?? false];
  const entries = [...board().entries].sort(compare(sorted, state.down));
  const best = Object.fromEntries(shown.filter((c) => c.metric).map((column) => {
    const values = entries.map(column.of).filter((value) => value !== null);
    return [column.key, bestOf(values, column.better)];
  }));
  const head = shown.map((column) => heading(column, column === sorted, state.down, () => sortBy(column)));
  const rows = entries.map((entry) => element("tr", {}, ...shown.map((column) => {
    if (column.metric) return figureCell(column.figure(entry), column.of(entry) === best[column.key]);
    const value = column.of(entry);
    if (column.key === "name") return element("th", { scope: "row" }, nameOf(entry));
    return element("td", { class: column.words ? "words" : null }, column.format ? column.format(value) : String(value));
  })));
  byId("table").replaceChildren(element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
}

function nameOf(entry) {
  const facts = [
    `command: ${entry.command}`, `commit: ${entry.commit}`, `made: ${entry.date}, aqqua ${entry.aqqua}`,
    `weights: ${entry.model.sha256}`, `features: ${entry.model.feature_width} numbers`,
  ];
  const lines = facts.map((fact) => element("div", {}, fact));
  return element("details", {}, element("summary", {}, entry.model.name), ...lines);
}
