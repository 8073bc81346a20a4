// Filters, each with a histogram: grey all points, in colour those kept by all filters and by the selection.
const NAMES_SHOWN = 40;
const filterList = () => [...state.filters.values()];
let histogramming = 0;

const filtered = guarded(async () => {
  const filters = filterList(), before = performance.now();
  const mask = filters.length ? await state.atlases[0].keep(filters) : null;
  state.masks = state.atlases.map((atlas, n) => (n === 0 || !mask ? mask
    : Uint8Array.from(state.back, (row) => (row === NONE ? 0 : mask[row]))));
  await Promise.all(state.views.map((view, n) => view.show(state.masks[n])));
  if (state.selection) state.views.forEach((view, n) => view.highlight(linked(state.selection, n)));
  const kept = mask ? mask.reduce((a, b) => a + b, 0) : state.atlases[0].rows;
  byId("kept").textContent = mask ? `${grouped(kept)} of ${grouped(state.atlases[0].rows)} points` : `all ${grouped(kept)} points`;
  byId("unfilter").disabled = !filters.length;
  await Promise.all([drawHistograms(), drawWall()]);
  document.body.dataset.kept = String(kept);
  document.body.dataset.filterMs = String(Math.round(performance.now() - before));
  drawGeography();
  announce(byId("kept").textContent);
});

function effective() { // filters and selection; null where the filters say it all
  const { selection } = state;
  if (!selection) return state.masks[0] ?? null;
  const mask = new Uint8Array(state.atlases[0].rows);
  for (const row of linked(selection, 0)) if (!state.masks[0] || state.masks[0][row]) mask[row] = 1;
  return mask;
}

const drawHistograms = guarded(async () => {
  const asked = (histogramming += 1), mask = state.selection ? effective() : null, atlas = state.atlases[0];
  for (const card of document.querySelectorAll("#cards > section")) {
    const name = card.dataset.column, column = await atlas.column(name);
    const counts = await atlas.histogram(name, filterList(), mask ?? (atlas instanceof FolderAtlas ? effective() : null));
    if (asked !== histogramming) return;
    if (column.kind === "names") drawNames(card, column, counts);
    else drawBins(card, column, counts);
  }
});

function addCard(name) {
  if (document.querySelector(`#cards > section[data-column="${name}"]`)) return;
  const about = state.atlases[0].about.columns.find((column) => column.name === name);
  const close = element("button", { type: "button", class: "small", "aria-label": `remove ${titled(name)}`, onclick: () => {
    card.remove();
    if (state.filters.delete(name)) filtered();
  } }, "×");
  const body = about.kind === "names" ? namesBody(name) : numbersBody(name, about);
  const unit = about.unit ? element("span", { class: "facts" }, ` ${about.unit}`) : null;
  const card = element("section", { "data-column": name, "aria-label": `filter ${titled(name)}` },
    element("header", {}, element("h3", {}, titled(name), unit), close), ...body);
  byId("cards").append(card);
}

function namesBody(name) {
  const find = element("input", { type: "search", placeholder: "find a name", "aria-label": `find in ${titled(name)}`, oninput: drawHistograms });
  return [find, element("ul", { class: "names" })];
}
function drawNames(card, column, counts) {
  const name = card.dataset.column, wanted = card.querySelector("input[type=search]");
  wanted.hidden = column.names.length <= NAMES_SHOWN;
  const filter = state.filters.get(name), text = wanted.value.trim().toLowerCase(), most = Math.max(1, ...counts.all);
  const chosen = (place) => filter?.names.includes(column.names[place]) ?? false;
  const places = [...column.names.keys()].filter((place) => !text || column.names[place].toLowerCase().includes(text));
  const shown = places.filter((place, n) => n < NAMES_SHOWN || chosen(place));
  const focused = document.activeElement?.closest?.("li")?.dataset.name;
  const items = shown.map((place) => {
    const box = element("input", { type: "checkbox", checked: chosen(place), onchange: () => toggle(name, column.names[place]) });
    const bar = element("span", { class: "bar" }), part = element("span", { class: "part" });
    bar.style.width = `${(100 * counts.all[place]) / most}%`;
    part.style.width = `${(100 * counts.kept[place]) / most}%`;
    return element("li", { "data-name": place }, element("label", {}, box, bar, part, words(column.names[place], { title: plain(column.names[place]) }),
      element("span", { class: "count" }, grouped(counts.kept[place]))));
  });
  if (places.length > shown.length) items.push(element("li", { class: "facts" }, `${places.length - shown.length} more`));
  card.querySelector("ul").replaceChildren(...items);
  if (focused !== undefined && document.activeElement === document.body) card.querySelector(`li[data-name="${focused}"] input`)?.focus();
}
function toggle(column, name) {
  const filter = state.filters.get(column) ?? { column, names: [] };
  filter.names = filter.names.includes(name) ? filter.names.filter((one) => one !== name) : [...filter.names, name];
  if (filter.names.length) state.filters.set(column, filter);
  else state.filters.delete(column);
  filtered();
}

function numbersBody(name, about) {
  const canvas = element("canvas", { class: "bins", "aria-hidden": "true" });
  const kind = about.kind === "time" ? { type: "date" } : { type: "number", step: "any" };
  const edge = (key) => element("input", { ...kind, "data-edge": key, "aria-label": `${titled(name)} ${key}`, onchange: (event) => {
    const value = event.target.value === "" ? undefined : about.kind === "time" ? Date.parse(event.target.value) / 86400000 : Number(event.target.value);
    limit(name, { ...state.filters.get(name), [key]: value });
  } });
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); canvas.dataset.from = event.offsetX; });
  canvas.addEventListener("pointerup", guarded(async (event) => {
    const { low, high } = await state.atlases[0].column(name), { width } = canvas.getBoundingClientRect();
    const [a, b] = [Number(canvas.dataset.from), event.offsetX].sort((p, q) => p - q).map((x) => low + Math.min(1, Math.max(0, x / width)) * (high - low));
    limit(name, b - a > (high - low) / 200 ? { from: a, to: b } : {}); // a click takes the limits away
  }));
  return [canvas, element("div", { class: "edges" }, edge("from"), element("span", {}, "to"), edge("to"))];
}
function limit(column, { from, to }) {
  if (from === undefined && to === undefined) state.filters.delete(column);
  else state.filters.set(column, { column, ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) });
  filtered();
}
function drawBins(card, column, counts) {
  const { pen, width, height } = sized(card.querySelector("canvas")), filter = state.filters.get(card.dataset.column);
  // The square root: rare sizes are seen beside common ones.
  const most = Math.sqrt(Math.max(1, ...counts.all)), w = width / counts.all.length, tall = (n) => (Math.sqrt(n) / most) * (height - 2);
  pen.clearRect(0, 0, width, height);
  counts.all.forEach((count, n) => {
    pen.fillStyle = styled("--bar");
    pen.fillRect(n * w, height - tall(count), w - 1, tall(count));
    pen.fillStyle = styled("--accent");
    pen.fillRect(n * w, height - tall(counts.kept[n]), w - 1, tall(counts.kept[n]));
  });
  for (const edge of card.querySelectorAll("input")) {
    const value = filter?.[edge.dataset.edge], open = edge.dataset.edge === "from" ? column.low : column.high;
    if (column.kind === "time") edge.value = day(value ?? open);
    else { edge.value = value === undefined ? "" : number(value); edge.placeholder = number(Math.abs(open) < (column.high - column.low) / 1e4 ? 0 : open); }
  }
}
