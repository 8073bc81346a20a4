// Images: the one under the pointer, the one chosen with all that is known of it, its neighbours, and the wall.
const WALL = 60; // images of a page
let hovering = 0;

const showHover = guarded(async (view, row) => {
  const tip = byId("hover"), asked = (hovering += 1);
  if (row === NONE) { tip.hidden = true; return; }
  const [address] = await view.atlas.pictures([row]);
  const label = view.atlas.has("label") ? await view.atlas.column("label") : null;
  if (asked !== hovering) return;
  const name = label && label.values[row] >= 0 ? label.names[label.values[row]] : "no label";
  tip.replaceChildren(picture(address, "", 2), words(name));
  tip.hidden = false;
  const { left, top } = view.box.getBoundingClientRect(), [x, y] = view.screen(row);
  besides(tip, left + x, top + y);
});
function besides(tip, x, y) { // below and to the right of a place, inside the window
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(innerWidth - box.width - 4, x + 14))}px`;
  tip.style.top = `${Math.max(4, Math.min(innerHeight - box.height - 4, y + 14))}px`;
}

async function showCell(atlas, told, x, y, wanted) { // of a density: an example and what the cell holds
  const [address] = await atlas.pictures([told.row]);
  if (!wanted()) return;
  const about = atlas.about.columns.find((column) => column.name === state.colour), unit = about?.unit ? ` ${about.unit}` : "";
  const line = element("span", {}, `${grouped(told.count)} ${told.count === 1 ? "image" : "images"}`);
  if (told.name !== undefined) line.append(" · ", told.name === null ? "unknown" : words(told.name), told.share > 0 && told.count > 1 ? ` ${Math.round(100 * told.share)} %` : "");
  if (told.mean !== undefined) line.append(` · ${titled(state.colour)} ${told.count > 1 ? "mean " : ""}${number(told.mean, about?.kind)}${told.mean === null ? "" : unit}`);
  byId("hover").replaceChildren(picture(address, "", 2), line);
  byId("hover").hidden = false;
  besides(byId("hover"), x, y);
}

function picture(address, alt, times) { // magnified by whole pixels: nothing is smoothed
  const image = element("img", { alt });
  image.addEventListener("load", () => {
    const most = times === "fit" ? Math.max(1, Math.floor(230 / Math.max(image.naturalWidth, image.naturalHeight))) : times;
    image.width = image.naturalWidth * most;
  });
  image.src = address;
  return image;
}

// As large as it is known: as stored with a scale bar, where the server has the dataset; else the thumbnail, which
// has its bar in it.
async function large(atlas, row) {
  const [small] = await atlas.pictures([row]);
  if (!atlas.about.originals) return () => element("div", { class: "large" }, picture(small, "the chosen image", "fit"));
  const address = await atlas.original(row);
  return (um_per_px) => {
    const image = element("img", { alt: "the chosen image, as stored" }), bar = element("div", { class: "scale" }), box = element("div", { class: "large" }, image, bar);
    image.addEventListener("load", () => {
      const { naturalWidth: width, naturalHeight: height } = image, most = Math.min(box.clientWidth - 18, 420);
      const times = Math.max(width, height) > most ? most / Math.max(width, height) : Math.floor(most / Math.max(width, height));
      image.width = width * times;
      if (um_per_px) {
        const round = roundLength(0.4 * width * um_per_px);
        bar.style.width = `${(round / um_per_px) * times}px`;
        bar.textContent = round >= 1000 ? `${round / 1000} mm` : `${round} µm`;
      } else bar.replaceWith(element("p", { class: "facts" }, "scale unknown"));
      URL.revokeObjectURL(address);
    });
    image.src = address;
    return box;
  };
}
function roundLength(most) { // the longest of 1, 2, 5, 10, ... below
  const power = 10 ** Math.floor(Math.log10(most));
  return Number(([5, 2, 1].find((m) => m * power <= most) * power).toPrecision(3));
}

const choose = guarded(async (place, row) => {
  const atlas = state.atlases[place], before = performance.now(), chosen = (state.chosen = { atlas: place, row });
  const [shown, details, near] = await Promise.all([large(atlas, row), atlas.details(row), atlas.neighbours(row)]);
  if (chosen !== state.chosen) return;
  const facts = element("dl");
  for (const { name, kind, unit } of atlas.about.columns) {
    const value = details[name];
    if (value === null || value === undefined || value === "") continue;
    const text = kind === "names" ? words(value) : `${number(value, kind)}${unit ? ` ${unit}` : ""}`;
    facts.append(element("dt", {}, titled(name)), element("dd", {}, text));
  }
  const title = element("h2", {}, words(details.label ?? details.class ?? "no label"));
  byId("image").replaceChildren(title, shown(details.um_per_px),
    element("p", { class: "facts" }, words(details.image_id)));
  byId("facts").replaceChildren(facts);
  await Promise.all([strip("near", atlas, near.near, near.cosine), strip("foreign", atlas, near.foreign)]);
  rings(place, row, near);
  document.body.dataset.chosen = `${place}/${row}`;
  document.body.dataset.chooseMs = String(Math.round(performance.now() - before));
  announce(`image ${plain(details.image_id)}`);
});


function rings(place, row, near) { // in both maps
  const made = [{ row, colour: "#d55e00", wide: 4 }, ...near.near.map((r) => ({ row: r, colour: "#0072b2", wide: 2 })),
    ...near.foreign.map((r) => ({ row: r, colour: "#009e73", wide: 2 }))];
  state.views.forEach((view, n) => view.ring(n === place ? made : made
    .map((ring) => ({ ...ring, row: linked({ atlas: place, rows: [ring.row] }, n)[0] ?? NONE })).filter((ring) => ring.row !== NONE)));
}

async function strip(id, atlas, rows, cosines) {
  const addresses = await atlas.pictures(rows);
  byId(id).replaceChildren(...await tiles(atlas, rows, addresses, cosines));
  byId(id).scrollLeft = 0;
  if (!rows.length) byId(id).append(element("li", { class: "facts" }, "none"));
}

async function tiles(atlas, rows, addresses, cosines) {
  const label = atlas.has("label") ? await atlas.column("label") : null, instrument = await atlas.column("instrument");
  return rows.map((row, n) => {
    const name = label && label.values[row] >= 0 ? label.names[label.values[row]] : "no label";
    const from = instrument.names[instrument.values[row]] ?? "", cosine = cosines ? ` · ${cosines[n].toFixed(2)}` : "";
    const button = element("button", { type: "button", "data-row": row, title: plain(`${name}; ${from}`),
      onclick: () => choose(atlas.number, row) }, picture(addresses[n], "", 1), words(name), element("small", {}, plain(from) + cosine));
    return element("li", {}, button);
  });
}

const select = guarded(async (selection) => {
  state.selection = selection?.rows.length ? selection : null;
  state.page = 0;
  state.views.forEach((view, n) => view.highlight(state.selection ? linked(state.selection, n) : null));
  document.body.dataset.selected = String(state.selection?.rows.length ?? 0);
  await Promise.all([drawWall(), drawHistograms()]);
  drawGeography();
  announce(state.selection ? `${grouped(state.selection.rows.length)} images selected` : "nothing selected");
});

function shownRows() { // the selected images that pass the filters
  if (!state.selection) return [];
  const { atlas, rows } = state.selection, mask = state.masks[atlas];
  return mask ? rows.filter((row) => mask[row]) : rows;
}

const drawWall = guarded(async () => {
  const rows = shownRows(), all = state.selection?.rows.length ?? 0, pages = Math.max(1, Math.ceil(rows.length / WALL));
  state.page = Math.max(0, Math.min(pages - 1, state.page));
  byId("count").textContent = !all ? "nothing selected" : rows.length === all ? `${grouped(all)} selected`
    : `${grouped(rows.length)} of ${grouped(all)} selected pass the filters`;
  for (const id of ["before", "page", "after"]) byId(id).hidden = rows.length <= WALL;
  for (const id of ["ids", "labels"]) byId(id).disabled = !rows.length;
  byId("clear").disabled = !all;
  byId("page").textContent = `${state.page + 1} / ${grouped(pages)}`;
  byId("before").disabled = state.page === 0;
  byId("after").disabled = state.page >= pages - 1;
  byId("hint").hidden = all > 0;
  const asked = state.page, selection = state.selection;
  if (!rows.length) { byId("wall").replaceChildren(); return; }
  const atlas = state.atlases[state.selection.atlas], part = Array.from(rows.slice(asked * WALL, (asked + 1) * WALL));
  const made = await tiles(atlas, part, await atlas.pictures(part));
  if (asked === state.page && selection === state.selection) byId("wall").replaceChildren(...made);
});

function turn(by) { state.page += by; drawWall(); }

const save = guarded(async (kind) => { // what `aqqua explore select --ids` reads
  const { atlas } = state.selection, rows = shownRows(), ids = await state.atlases[atlas].ids(rows), proposed = byId("proposed").value.trim();
  if (kind === "labels" && !proposed) throw new Error("a new label must be written first, got none; fill the field beside the button");
  const quote = (text) => `"${text.replaceAll('"', '""')}"`;
  const lines = ids.map((id) => (kind === "labels" ? `${quote(id)},${quote(proposed)}` : quote(id)));
  const text = [kind === "labels" ? "image_id,label" : "image_id", ...lines, ""].join("\n");
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  element("a", { href: address, download: kind === "labels" ? "labels.csv" : "selection.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  announce(`${grouped(ids.length)} images saved`);
});
