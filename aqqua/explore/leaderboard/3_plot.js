// The plot of a metric against a cost.
const WIDE = 720, HIGH = 380, LEFT = 62, RIGHT = 150, TOP = 14, BOTTOM = 46;

function scaleOf(values, log, start, end) {
  const of = log ? Math.log10 : (value) => value;
  let low = Math.min(...values.map(of)), high = Math.max(...values.map(of));
  const room = (high - low) * 0.08 || (log ? 0.3 : 0.05);
  [low, high] = [low - room, high + room];
  const place = (value) => start + ((of(value) - low) / (high - low)) * (end - start);
  return { place, ticks: ticksOf(low, high, log) };
}

function ticksOf(low, high, log) {
  if (log && high - low > 1) {
    const powers = [];
    for (let power = Math.ceil(low); power <= high; power += Math.ceil((high - low) / 6)) powers.push(10 ** power);
    return powers;
  }
  const [a, b] = log ? [10 ** low, 10 ** high] : [low, high];
  const rough = (b - a) / 5, ten = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * ten).find((one) => one >= rough);
  const ticks = [];
  for (let tick = Math.ceil(a / step) * step; tick <= b; tick += step) ticks.push(Number(tick.toPrecision(8)));
  return ticks;
}

function markPath(mark, x, y, r = 5) {
  const polygon = (points) => "M" + points.map(([a, b]) => `${x + a * r} ${y + b * r}`).join("L") + "Z";
  if (mark === "square") return polygon([[-1, -1], [1, -1], [1, 1], [-1, 1]]);
  if (mark === "triangle") return polygon([[0, -1.2], [1.1, 0.9], [-1.1, 0.9]]);
  if (mark === "diamond") return polygon([[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]]);
  if (mark === "cross") return polygon([[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4],
    [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]]);
  if (mark === "star") return polygon([...Array(10).keys()].map((k) => {
    const long = k % 2 ? 0.6 : 1.4, angle = (Math.PI * k) / 5 - Math.PI / 2;
    return [long * Math.cos(angle), long * Math.sin(angle)];
  }));
  return `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;
}

function drawPlot() {
  const cost = byId("cost").value, metric = byId("metric").value;
  const points = board().entries
    .map((entry) => ({ entry, x: entry.model[cost], figure: result(entry)?.metrics[metric] }))
    .filter((point) => point.x > 0 && point.figure);
  const without = board().entries.length - points.length;
  byId("plot-note").textContent = without ? `${without} of ${board().entries.length} entries do not tell both.` : "";
  if (!points.length) return byId("plot").replaceChildren();
  const ends = points.flatMap(({ figure }) => [figure.value, figure.low ?? figure.value, figure.high ?? figure.value]);
  const x = scaleOf(points.map((point) => point.x), true, LEFT, WIDE - RIGHT);
  const y = scaleOf(ends, false, HIGH - BOTTOM, TOP);
  const kinds = inUnion(board().entries.map((entry) => entry.model.kind));
  byId("plot").replaceChildren(
    drawn("title", {}, `${metricName(metric)} against ${COSTS[cost]}`),
    ...axes(x, y, cost, metric), ...labelled(points, x, y, kinds), ...legend(kinds));
}

function axes(x, y, cost, metric) {
  const line = (x1, y1, x2, y2) => drawn("line", { x1, y1, x2, y2, class: "grid" });
  const text = (content, at, anchor, extra = {}) =>
    drawn("text", { x: at[0], y: at[1], "text-anchor": anchor, ...extra }, content);
  const bottom = HIGH - BOTTOM, right = WIDE - RIGHT;
  return [
    ...x.ticks.flatMap((tick) => [line(x.place(tick), TOP, x.place(tick), bottom),
      text(short(tick), [x.place(tick), bottom + 16], "middle")]),
    ...y.ticks.flatMap((tick) => [line(LEFT, y.place(tick), right, y.place(tick)),
      text(String(tick), [LEFT - 6, y.place(tick) + 4], "end")]),
    text(COSTS[cost], [(LEFT + right) / 2, HIGH - 8], "middle"),
    text(metricName(metric), [14, (TOP + bottom) / 2], "middle", { transform: `rotate(-90 14 ${(TOP + bottom) / 2})` }),
  ];
}

function labelled(points, x, y, kinds) {
  return points.map(({ entry, x: at, figure }) => {
    const kind = kinds.indexOf(entry.model.kind), [px, py] = [x.place(at), y.place(figure.value)];
    const bar = figure.low === null ? null
      : drawn("line", { x1: px, x2: px, y1: y.place(figure.low), y2: y.place(figure.high), class: "bar" });
    const left = px > LEFT + 0.6 * (WIDE - RIGHT - LEFT); // of the mark, where its right has no room
    const hint = `${entry.model.name}: ${number(figure.value)}, ${short(at)} ${COSTS[byId("cost").value]}`;
    return drawn("g", { class: "point" }, drawn("title", {}, hint), bar,
      drawn("path", { d: markPath(MARKS[kind % 6], px, py), fill: COLOURS[kind % 6] }),
      drawn("text", { x: px + (left ? -9 : 9), y: py + 4, "text-anchor": left ? "end" : "start" }, entry.model.name));
  });
}

function legend(kinds) {
  return kinds.map((kind, place) => drawn("g", {},
    drawn("path", { d: markPath(MARKS[place % 6], WIDE - RIGHT + 24, TOP + 12 + 20 * place), fill: COLOURS[place % 6] }),
    drawn("text", { x: WIDE - RIGHT + 36, y: TOP + 16 + 20 * place }, kind)));
}
