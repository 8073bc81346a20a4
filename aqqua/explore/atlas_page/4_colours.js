// A column as colours: each point gets a number into a list of colours.
const STEPS = 48; // of a scale

function mixed(scale, share) {
  const stops = SCALES[scale], place = share * (stops.length - 1), low = Math.min(stops.length - 2, Math.floor(place));
  const parts = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const [a, b] = [parts(stops[low]), parts(stops[low + 1])];
  return "#" + a.map((v, i) => Math.round(v + (b[i] - v) * (place - low)).toString(16).padStart(2, "0")).join("");
}

// The numbers that most points lie between, so that one giant does not make all others one colour.
function spread(values) {
  const step = Math.max(1, Math.floor(values.length / 20000)), known = [];
  for (let i = 0; i < values.length; i += step) if (!Number.isNaN(values[i])) known.push(values[i]);
  known.sort((a, b) => a - b);
  if (!known.length) return [0, 1];
  const [low, high] = [known[Math.floor(0.01 * (known.length - 1))], known[Math.ceil(0.99 * (known.length - 1))]];
  return low < high ? [low, high] : [known[0], known[known.length - 1] > known[0] ? known[known.length - 1] : known[0] + 1];
}

// names: shared by both atlases, so that a name has one colour on both maps
function colouring(column, names) {
  if (column.kind === "names") {
    const place = new Map(names.map((name, n) => [name, n])), shown = Math.min(names.length, NAMED.length);
    const codes = column.names.map((name) => Math.min(place.get(name) ?? shown, shown));
    const of = new Uint8Array(column.values.length);
    for (let i = 0; i < of.length; i += 1) of[i] = column.values[i] < 0 ? shown + 1 : codes[column.values[i]];
    const asked = { names: names.slice(0, shown) }; // what a server must know to colour alike
    return { of, colours: [...NAMED.slice(0, shown), OTHER, UNKNOWN], shown, asked };
  }
  const [low, high] = spread(column.values), of = new Uint8Array(column.values.length);
  for (let i = 0; i < of.length; i += 1) {
    const share = (column.values[i] - low) / (high - low);
    of[i] = Number.isNaN(share) ? STEPS : Math.round(Math.min(1, Math.max(0, share)) * (STEPS - 1));
  }
  const colours = [...Array.from({ length: STEPS }, (_, i) => mixed(state.scale, i / (STEPS - 1))), UNKNOWN];
  return { of, colours, low, high, asked: { low, high, steps: STEPS } };
}

function legendOf(column, made, about) {
  const unit = about.unit ? ` (${about.unit})` : "", list = element("ul", { class: "legend" });
  if (column.kind !== "names") {
    const bar = element("div", { class: "ramp" });
    bar.style.background = `linear-gradient(to right, ${SCALES[state.scale].join(",")})`;
    const show = (value) => (column.kind === "time" ? day(value) : number(value));
    const unknown = column.values.some((value) => Number.isNaN(value));
    return element("div", {}, bar, element("div", { class: "ends" }, element("span", {}, `≤ ${show(made.low)}`),
      element("span", {}, column.kind === "time" ? "UTC" : about.unit), element("span", {}, `≥ ${show(made.high)}`)),
      unknown ? element("div", { class: "facts" }, key(UNKNOWN), " unknown") : null);
  }
  const row = (colour, text, count) => element("li", {}, key(colour), " ", text, element("span", { class: "count" }, grouped(count)));
  column.names.slice(0, made.shown).forEach((name, n) => list.append(row(made.colours[n], words(name), column.counts[n])));
  const total = column.counts.reduce((a, b) => a + b, 0), rest = column.counts.slice(made.shown);
  if (rest.length) list.append(row(OTHER, `${rest.length} more${unit}`, rest.reduce((a, b) => a + b, 0)));
  if (total < column.values.length) list.append(row(UNKNOWN, "unknown", column.values.length - total));
  return list;
}
function key(colour) {
  const mark = element("span", { class: "key" });
  mark.style.background = colour;
  return mark;
}

async function recolour() {
  const name = byId("colour").value, before = performance.now();
  state.colour = name;
  const first = await state.atlases[0].column(name);
  for (const [n, view] of state.views.entries()) {
    const there = n === 0 || state.atlases[n].has(name);
    const column = n === 0 ? first : there ? await state.atlases[n].column(name) : null;
    const made = column ? colouring(column, first.names) : null;
    if (made) made.asked.column = name;
    await view.paint(made);
  }
  const made = state.views[0].colouring, about = state.atlases[0].about.columns.find((column) => column.name === name);
  byId("legend").replaceChildren(legendOf(first, made, about));
  byId("scale-choice").hidden = first.kind === "names";
  document.body.dataset.colour = name;
  document.body.dataset.recolourMs = String(Math.round(performance.now() - before));
  drawGeography();
  announce(`coloured by ${titled(name)}`);
}
