// A map of points: regl-scatterplot draws them, a canvas above carries rings. The same for every number of points
// that a browser can draw; 6_density.js stands in beyond it.
const POINTS_DRAWN = 1_500_000;

function pointSize(rows) {
  return rows < 2000 ? 7 : rows < 20_000 ? 5 : rows < 100_000 ? 3.5 : rows < 400_000 ? 2.2 : 1.5;
}

class ScatterMap {
  constructor(number, box) {
    Object.assign(this, { number, box, atlas: state.atlases[number], rings: [], hovered: NONE, colouring: null, lassoed: -1e9 });
    this.canvas = element("canvas", { class: "points", tabindex: "0", role: "application", "aria-label":
      `map of ${this.atlas.about.name}: arrows move, + and − zoom, L lasso, V selects what is in view` });
    this.above = element("canvas", { class: "above", "aria-hidden": "true" });
    box.append(this.canvas, this.above);
  }
  async open() {
    const { width, height } = this.box.getBoundingClientRect(), { rows } = this.atlas, { number } = this;
    this.plot = AQQUA_SCATTER.createScatterplot({
      canvas: this.canvas, width, height, backgroundColor: styled("--map"), pointSize: pointSize(rows),
      opacity: rows > 200_000 ? 0.5 : 0.8, opacityInactiveScale: 0.12, pointSizeSelected: 1, pointOutlineWidth: 0,
      lassoColor: styled("--accent"), lassoMinDist: 3, lassoMinDelay: 8, deselectOnDblClick: false, deselectOnEscape: false,
      pointColor: [OTHER], pointColorActive: [OTHER], pointColorHover: [OTHER], colorBy: "valueA",
      performanceMode: rows > 400_000, cameraDistance: this.far(),
    });
    this.at = await this.atlas.points();
    this.plot.subscribe("pointOver", (row) => this.hover(row));
    this.plot.subscribe("pointOut", () => this.hover(NONE));
    this.plot.subscribe("view", () => { this.moved = true; });
    this.plot.subscribe("draw", () => this.drawAbove());
    this.plot.subscribe("select", ({ points }) => this.selected(points));
    this.plot.subscribe("deselect", () => { // a click beside all points keeps the selection, an empty lasso ends it
      if (this.canvas.dataset.mode === "lasso") select(null);
      else if (state.selection) this.highlight(linked(state.selection, number));
    });
    this.plot.subscribe("lassoEnd", () => {
      this.lassoed = performance.now();
      setMode("pan");
    });
    this.canvas.addEventListener("pointermove", (event) => { this.pointer = event; });
    this.canvas.addEventListener("pointerleave", () => this.hover(NONE));
    new ResizeObserver(() => this.resize()).observe(this.box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.plot.set({ backgroundColor: styled("--map") }));
  }
  async paint(colouring) {
    this.colouring = colouring ?? { of: new Uint8Array(this.atlas.rows), colours: [OTHER] };
    const { colours, of } = this.colouring, list = colours.length > 1 ? colours : [...colours, ...colours];
    this.plot.set({ pointColor: list, pointColorActive: list, pointColorHover: list });
    await this.plot.draw({ x: this.at.x, y: this.at.y, valueA: of }, {
      zDataType: "categorical", spatialIndex: this.index, preventFilterReset: this.index !== undefined });
    this.index ??= this.plot.get("spatialIndex");
    if (state.selection) this.highlight(linked(state.selection, this.number));
  }
  async show(mask) { // the points that filters keep
    if (!mask) return this.plot.get("isPointsFiltered") ? this.plot.unfilter({ preventEvent: true }) : undefined;
    const rows = [];
    for (let row = 0; row < mask.length; row += 1) if (mask[row]) rows.push(row);
    return this.plot.filter(rows, { preventEvent: true });
  }
  highlight(rows) {
    if (rows?.length) this.plot.select(rows.length > 300_000 ? [] : Array.from(rows), { preventEvent: true });
    else this.plot.deselect({ preventEvent: true });
  }
  selected(points) { // a click chooses one, a lasso many
    if (points.length === 1 && this.canvas.dataset.mode !== "lasso") {
      this.highlight(state.selection ? linked(state.selection, this.number) : null);
      if (performance.now() - this.lassoed > 300) choose(this.number, points[0]); // not where a lasso ended
    } else select({ atlas: this.number, rows: Uint32Array.from(points).sort() });
  }
  hover(row) {
    this.hovered = row;
    this.drawAbove();
    showHover(this, row);
  }
  ring(rings) { // [{ row, colour, wide }]
    this.rings = rings;
    this.drawAbove();
  }
  screen(row) { return this.plot.getScreenPosition(row); }
  drawAbove() {
    const { pen, width, height } = sized(this.above);
    pen.clearRect(0, 0, width, height);
    const rings = this.hovered === NONE ? this.rings : [...this.rings, { row: this.hovered, colour: styled("--ink"), wide: 2 }];
    for (const { row, colour, wide } of rings) {
      const [x, y] = this.screen(row) ?? [NaN, NaN];
      pen.beginPath();
      pen.arc(x, y, 5 + wide, 0, 2 * Math.PI);
      pen.lineWidth = wide + 2.5;
      pen.strokeStyle = styled("--map");
      pen.stroke();
      pen.lineWidth = wide;
      pen.strokeStyle = colour;
      pen.stroke();
    }
  }
  setMode(mode) {
    this.canvas.dataset.mode = mode;
    this.plot.set({ mouseMode: mode === "lasso" ? "lasso" : "panZoom" });
  }
  async inView() { // the points in the window that filters keep
    const [x, y] = this.plot.get("cameraTarget"), high = this.plot.get("cameraDistance"), mask = state.masks[this.number];
    const { width, height } = this.box.getBoundingClientRect(), wide = (high * width) / height, rows = [];
    for (let row = 0; row < this.atlas.rows; row += 1) {
      if (Math.abs(this.at.x[row] - x) <= wide && Math.abs(this.at.y[row] - y) <= high && (!mask || mask[row])) rows.push(row);
    }
    return rows;
  }
  move(right, up, zoom) {
    const [x, y] = this.plot.get("cameraTarget"), distance = this.plot.get("cameraDistance");
    this.plot.set({ cameraTarget: [x + right * distance, y + up * distance], cameraDistance: Math.max(0.005, distance / zoom) });
  }
  far() { // so that the whole map is seen, also in a box that is higher than wide
    const { width, height } = this.box.getBoundingClientRect();
    return 1.12 * Math.max(1, height / Math.max(width, 1));
  }
  reset() {
    this.plot.set({ cameraTarget: [0, 0], cameraDistance: this.far() });
    this.moved = false;
  }
  zoomTo(rows) { this.plot.zoomToPoints(Array.from(rows), { padding: 0.4 }); }
  resize() {
    const { width, height } = this.box.getBoundingClientRect();
    if (width < 2 || height < 2) return;
    this.plot.set({ width, height });
    if (this.hovered !== NONE) this.hover(NONE); // it stood beside a point that is elsewhere now
    if (!this.moved) this.reset();
  }
}

// Rows of the same images in an atlas.
function linked(selection, number) {
  if (selection.atlas === number) return selection.rows;
  const link = selection.atlas === 0 ? state.link : state.back;
  return Array.from(selection.rows, (row) => link[row]).filter((row) => row !== NONE);
}
function backOf(link, rows) {
  const back = new Int32Array(rows).fill(NONE);
  link.forEach((there, here) => { if (there !== NONE) back[there] = here; });
  return back;
}
