// Start, tools, search, keyboard.
const FIRST_COLOURS = ["label", "class", "taxon_class", "instrument", "cluster"];
const FIRST_FILTERS = ["label", "instrument", "depth_m", "novelty"];

function setMode(mode) {
  state.views.forEach((view) => view.setMode(mode));
  byId("lasso").setAttribute("aria-pressed", String(mode === "lasso"));
}
const selectInView = guarded(async () => {
  const view = state.views.find((one) => one.canvas === document.activeElement) ?? state.views[0];
  await select({ atlas: view.number, rows: Uint32Array.from(await view.inView()).sort() });
});
const selectKept = guarded(async () => {
  const rows = [], mask = state.masks[0];
  for (let row = 0; row < state.atlases[0].rows; row += 1) if (!mask || mask[row]) rows.push(row);
  await select({ atlas: 0, rows: Uint32Array.from(rows) });
});
function unfilter() { state.filters.clear(); filtered(); }

const search = guarded(async (event) => {
  event.preventDefault();
  const rows = await state.atlases[0].search(byId("search").value);
  byId("found").textContent = rows.length ? `${rows.length}${rows.length === 200 ? " or more" : ""} found` : "nothing found";
  if (!rows.length) return;
  await choose(0, rows[0]);
  await select({ atlas: 0, rows: Uint32Array.from(rows).sort() });
});

const KEYS = {
  "/": () => byId("search").focus(), l: () => setMode(byId("lasso").getAttribute("aria-pressed") === "true" ? "pan" : "lasso"),
  r: () => state.views.forEach((view) => view.reset()), v: () => selectInView(), f: () => selectKept(), n: () => turn(1), b: () => turn(-1),
  c: () => byId("colour").focus(), g: () => byId("show-earth").click(), "?": () => { byId("keys").open = !byId("keys").open; },
  Escape: () => { setMode("pan"); if (state.selection) select(null); },
};
const MOVES = { ArrowLeft: [-0.15, 0, 1], ArrowRight: [0.15, 0, 1], ArrowUp: [0, 0.15, 1], ArrowDown: [0, -0.15, 1], "+": [0, 0, 1.25], "=": [0, 0, 1.25], "-": [0, 0, 0.8] };
function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("select, input:not([type=checkbox]), textarea");
  if (typing) { if (event.key === "Escape") event.target.blur(); return; }
  const view = state.views.find((one) => one.canvas === event.target);
  if (view && MOVES[event.key]) { view.move(...MOVES[event.key]); event.preventDefault(); return; }
  if (!KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
}

const NUMBERS = { // the numbers that say whether the map can be believed
  purity_label: ["same label", "mean share of an image's neighbours that have its label"],
  purity_label_foreign: ["same label across instruments", "the same among its neighbours of other instruments"],
  purity_instrument: ["same instrument", "mean share of an image's neighbours that are of its instrument"],
  trustworthiness: ["trustworthiness", "1: neighbours on the map are neighbours in the model's space"],
  continuity: ["continuity", "1: neighbours in the model's space are neighbours on the map"],
};
function headed(atlas) {
  const { numbers = {}, points, images } = atlas.about.facts, line = element("p", { class: "numbers" });
  line.append(element("strong", {}, words(atlas.about.name)), element("span", {}, `${grouped(atlas.rows)} points`));
  if (points < images) line.append(element("span", {}, `of ${grouped(images)} images`));
  for (const [name, [text, title]] of Object.entries(NUMBERS)) {
    if (typeof numbers[name] !== "number") continue;
    const chance = numbers[`${name}_chance`], beside = typeof chance === "number" ? ` (by chance ${chance.toFixed(2)})` : "";
    line.append(element("span", { title }, `${text} `, element("b", {}, numbers[name].toFixed(2)), beside));
  }
  return line;
}

function tools() {
  const act = { lasso: () => KEYS.l(), "in-view": selectInView, "all-kept": selectKept, reset: KEYS.r, clear: () => select(null), before: () => turn(-1),
    after: () => turn(1), ids: () => save("ids"), labels: () => save("labels"), unfilter };
  for (const [id, does] of Object.entries(act)) byId(id).addEventListener("click", does);
  byId("colour").addEventListener("change", guarded(recolour));
  byId("scale").addEventListener("change", guarded(async (event) => { state.scale = event.target.value; await recolour(); }));
  byId("searching").addEventListener("submit", search);
  byId("wrong").addEventListener("click", () => { byId("wrong").hidden = true; });
  byId("add").addEventListener("change", (event) => { addCard(event.target.value); event.target.value = ""; drawHistograms(); });
  document.addEventListener("keydown", pressed);
}

function fillColumns() {
  const names = state.atlases[0].about.columns.map((column) => column.name);
  const options = () => names.map((name) => element("option", { value: name }, titled(name)));
  byId("colour").replaceChildren(...options());
  byId("add").append(...options());
  byId("colour").value = FIRST_COLOURS.find((name) => names.includes(name)) ?? names[0];
  FIRST_FILTERS.filter((name) => names.includes(name)).forEach(addCard);
}

async function start() {
  const server = document.documentElement.dataset.source === "server";
  await (server ? openServer() : openFolder());
  if (state.link) state.back = backOf(state.link, state.atlases[1].rows);
  byId("numbers").replaceChildren(...state.atlases.map(headed));
  byId("maps").dataset.count = String(state.atlases.length);
  fillColumns();
  tools();
  for (const [n, atlas] of state.atlases.entries()) {
    const box = element("div", { class: "map" }, state.atlases.length > 1 ? element("p", { class: "name" }, words(atlas.about.name)) : null);
    byId("maps").append(box);
    const dense = server && (atlas.rows > POINTS_DRAWN || location.hash === "#density");
    const view = new (dense ? DensityMap : ScatterMap)(n, box);
    await view.open();
    state.views.push(view);
  }
  byId("dense").hidden = !state.views.every((view) => view instanceof DensityMap);
  await recolour();
  document.body.dataset.firstPaintMs = String(Math.round(performance.now()));
  setMode("pan");
  await openGeography();
  await filtered();
  document.body.dataset.ready = "yes";
}
guarded(start)();
