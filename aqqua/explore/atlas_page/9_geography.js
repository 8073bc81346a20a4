// Where on Earth: longitude and latitude as they are, with a graticule; the window fits the points that are known.
let geography = null, earthing = 0;

async function openGeography() {
  const atlas = state.atlases[0];
  if (!atlas.has("lat") || !atlas.has("lon")) { byId("show-earth").disabled = true; return; }
  byId("show-earth").addEventListener("click", () => showEarth(byId("earth").hidden));
  new ResizeObserver(() => drawGeography()).observe(byId("earth"));
  const canvas = byId("earth-points");
  canvas.addEventListener("pointerdown", (event) => { canvas.dataset.from = `${event.offsetX},${event.offsetY}`; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointerup", guarded(async (event) => {
    if (!geography) return;
    const [x, y] = canvas.dataset.from.split(",").map(Number), reach = Math.hypot(event.offsetX - x, event.offsetY - y) < 5 ? 6 : 0;
    const [left, right] = [x, event.offsetX].sort((a, b) => a - b), [top, bottom] = [y, event.offsetY].sort((a, b) => a - b);
    const rows = geography.at.filter(([, px, py]) => px >= left - reach && px <= right + reach && py >= top - reach && py <= bottom + reach).map(([row]) => row);
    await select({ atlas: 0, rows: Uint32Array.from(rows) });
  }));
}
function showEarth(shown) {
  byId("earth").hidden = !shown;
  byId("show-earth").setAttribute("aria-pressed", String(shown));
  if (shown) drawGeography();
}

const drawGeography = guarded(async () => {
  const box = byId("earth"), asked = (earthing += 1);
  if (box.hidden || !state.views.length) return;
  const atlas = state.atlases[0], [lat, lon] = await Promise.all([atlas.column("lat"), atlas.column("lon")]);
  const column = await atlas.column(state.colour), names = column.kind === "names" ? column.names : null;
  if (asked !== earthing) return;
  const made = state.views[0].colouring ?? colouring(column, names), mask = effective();
  const { pen, width, height } = sized(byId("earth-points")), view = windowOf(lat, lon, width, height);
  pen.fillStyle = styled("--map");
  pen.fillRect(0, 0, width, height);
  graticule(pen, view, width, height);
  geography = { at: [] };
  const seen = new Set();
  for (let row = 0; row < atlas.rows; row += 1) {
    if ((mask && !mask[row]) || Number.isNaN(lat.values[row]) || Number.isNaN(lon.values[row])) continue;
    const x = view.x(lon.values[row]), y = view.y(lat.values[row]);
    geography.at.push([row, x, y]);
    const cell = (Math.round(x) * 4096 + Math.round(y)) * 64 + made.of[row]; // stations hold thousands of points
    if (seen.has(cell)) continue;
    seen.add(cell);
    pen.fillStyle = made.colours[made.of[row]];
    pen.fillRect(x - 2, y - 2, 4, 4);
  }
  byId("earth-note").textContent = `${grouped(geography.at.length)} points with a position; click or drag to select`;
});

function windowOf(lat, lon, width, height) { // a degree is as long both ways
  const lowest = Math.max(-90, lat.low - 2), highest = Math.min(90, lat.high + 2);
  const west = Math.max(-180, lon.low - 2), east = Math.min(180, lon.high + 2);
  const scale = Math.min((width - 8) / (east - west), (height - 8) / (highest - lowest));
  const [middle, centre] = [(east + west) / 2, (lowest + highest) / 2];
  return { scale, x: (value) => width / 2 + (value - middle) * scale, y: (value) => height / 2 - (value - centre) * scale,
    left: middle - width / 2 / scale, right: middle + width / 2 / scale, low: centre - height / 2 / scale, high: centre + height / 2 / scale };
}
function graticule(pen, view, width, height) {
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 45].find((one) => one * view.scale >= 60) ?? 45;
  const shown = (value) => String(Number(Math.abs(value).toFixed(1)));
  pen.strokeStyle = styled("--line");
  pen.fillStyle = styled("--quiet");
  pen.font = "11px system-ui, sans-serif";
  const line = (...ends) => { pen.beginPath(); pen.moveTo(ends[0], ends[1]); pen.lineTo(ends[2], ends[3]); pen.stroke(); };
  for (let at = Math.ceil(Math.max(-180, view.left) / step) * step; at <= Math.min(180, view.right); at += step) {
    line(view.x(at), view.y(Math.min(90, view.high)), view.x(at), view.y(Math.max(-90, view.low)));
    pen.fillText(`${shown(at)}° ${at < 0 ? "W" : at > 0 ? "E" : ""}`, view.x(at) + 3, height - 4);
  }
  for (let at = Math.ceil(Math.max(-90, view.low) / step) * step; at <= Math.min(90, view.high); at += step) {
    line(view.x(Math.max(-180, view.left)), view.y(at), view.x(Math.min(180, view.right)), view.y(at));
    pen.fillText(`${shown(at)}° ${at < 0 ? "S" : at > 0 ? "N" : ""}`, 4, view.y(at) - 3);
  }
}
