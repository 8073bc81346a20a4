// More points than a browser draws: the server counts them in the cells of the window looked at, and says of which
// colour each is. Clicks and lassos ask the server which points lie inside, the pointer what is in a cell.
const CELL = 3; // px of the screen, at any zoom: so cells are finer on the map the nearer it is looked at

class DensityMap {
  constructor(number, box) {
    Object.assign(this, { number, box, atlas: state.atlases[number], centre: [0, 0], half: 1.1, asked: 0, over: 0, mode: "pan", line: [] });
    this.canvas = element("canvas", { class: "points", tabindex: "0", role: "application", "aria-label":
      `density of ${this.atlas.about.name}: arrows move, + and − zoom, L lasso, V selects what is in view` });
    box.append(this.canvas, element("p", { class: "note" }, `${grouped(this.atlas.rows)} points in cells: the stronger a colour, the more of them; zoom in for finer cells`));
  }
  async open() {
    const on = (name, act) => this.canvas.addEventListener(name, guarded(act.bind(this)));
    on("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.from = { x: event.offsetX, y: event.offsetY, centre: this.centre, moved: false };
      this.line = [this.place(event.offsetX, event.offsetY)];
    });
    on("pointermove", (event) => (this.from ? this.dragged(event) : this.hover(event)));
    on("pointerleave", () => this.hover(null));
    on("pointerup", (event) => this.dropped(event));
    on("wheel", (event) => { event.preventDefault(); this.zoom(Math.exp(-event.deltaY / 500), this.place(event.offsetX, event.offsetY)); });
    new ResizeObserver(() => this.refresh()).observe(this.box);
  }
  window() {
    const { width, height } = this.box.getBoundingClientRect(), scale = this.half / Math.min(width, height) / 0.5;
    const [x, y] = this.centre, w = (width * scale) / 2, h = (height * scale) / 2;
    return { left: x - w, right: x + w, bottom: y - h, top: y + h };
  }
  place(x, y) {
    const { width, height } = this.box.getBoundingClientRect(), { left, right, bottom, top } = this.window();
    return [left + (x / width) * (right - left), top - (y / height) * (top - bottom)];
  }
  hover(event) { // what is in the cell under the pointer, once it rests
    const over = (this.over += 1);
    clearTimeout(this.resting);
    byId("hover").hidden = true;
    if (event) this.resting = setTimeout(guarded(() => this.tell(event, over)), 80);
  }
  async tell(event, over) {
    const { offsetX: x, offsetY: y } = event, [left, top] = this.place(CELL * Math.floor(x / CELL), CELL * Math.floor(y / CELL));
    const [right, bottom] = this.place(CELL * (Math.floor(x / CELL) + 1), CELL * (Math.floor(y / CELL) + 1));
    const column = this.colouring && this.atlas.has(state.colour) ? state.colour : "";
    const told = await this.atlas.cell({ left, right, bottom, top }, this.filters(), column);
    if (over === this.over && told.count) await showCell(this.atlas, told, event.clientX, event.clientY, () => over === this.over);
  }
  filters() { return filterList().filter((filter) => this.atlas.has(filter.column)); }
  dragged(event) {
    const [right, up] = [event.offsetX - this.from.x, event.offsetY - this.from.y];
    this.from.moved ||= Math.hypot(right, up) > 4;
    if (this.mode === "lasso") this.line.push(this.place(event.offsetX, event.offsetY));
    else {
      const { left, right: end } = this.window(), scale = (end - left) / this.box.getBoundingClientRect().width;
      this.centre = [this.from.centre[0] - right * scale, this.from.centre[1] + up * scale];
    }
    this.paintPicture();
  }
  async dropped(event) {
    const { moved } = this.from ?? {};
    this.from = null;
    if (this.mode === "lasso" && this.line.length > 2) {
      const every = Math.ceil(this.line.length / 500);
      await this.choose(this.line.filter((_, n) => n % every === 0));
      setMode("pan");
    } else if (!moved) {
      const corners = [[-4, -4], [4, -4], [4, 4], [-4, 4]].map(([x, y]) => this.place(event.offsetX + x, event.offsetY + y));
      const rows = await this.atlas.inside(corners);
      if (rows.length) choose(this.number, rows[0]);
    } else await this.refresh();
    this.line = [];
    this.paintPicture();
  }
  async choose(corners) { select({ atlas: this.number, rows: await this.atlas.inside(corners) }); }
  zoom(by, [x, y]) {
    const half = Math.min(1.5, Math.max(1e-4, this.half / by)), share = half / this.half;
    this.centre = [x + (this.centre[0] - x) * share, y + (this.centre[1] - y) * share];
    this.half = half;
    this.hover(null); // what it said was of another cell
    this.paintPicture();
    clearTimeout(this.later);
    this.later = setTimeout(guarded(() => this.refresh()), 120);
  }
  async refresh() {
    const { width, height } = this.box.getBoundingClientRect(), asked = (this.asked += 1), window = this.window();
    if (width < 2 || height < 2) return;
    const cells = [width, height].map((side) => Math.min(2048, Math.round(side / CELL))), made = this.colouring;
    const found = await this.atlas.density(window, ...cells, this.filters(), made?.asked);
    if (asked !== this.asked) return; // a later one is under way
    const picture = await inColours(found, made?.colours ?? [OTHER]);
    if (asked !== this.asked) return;
    Object.assign(this, { picture, shown: window });
    this.paintPicture();
  }
  paintPicture() {
    const { pen, width, height } = sized(this.canvas), now = this.window(), was = this.shown;
    pen.fillStyle = styled("--map");
    pen.fillRect(0, 0, width, height);
    pen.imageSmoothingEnabled = false;
    const across = (x) => ((x - now.left) / (now.right - now.left)) * width, down = (y) => ((now.top - y) / (now.top - now.bottom)) * height;
    if (was) pen.drawImage(this.picture, across(was.left), down(was.top), across(was.right) - across(was.left), down(was.bottom) - down(was.top));
    pen.beginPath();
    if (this.mode === "lasso") this.line.forEach(([x, y]) => pen.lineTo(across(x), down(y)));
    pen.strokeStyle = styled("--accent");
    pen.lineWidth = 2;
    pen.stroke();
  }
  async paint(colouring) { this.colouring = colouring; await this.refresh(); }
  async show() { await this.refresh(); }
  highlight() {}
  ring() {}
  setMode(mode) { this.mode = this.canvas.dataset.mode = mode; }
  inView() {
    const { left, right, bottom, top } = this.window();
    return this.atlas.inside([[left, bottom], [right, bottom], [right, top], [left, top]]);
  }
  move(right, up, zoom) {
    this.centre = [this.centre[0] + right * this.half, this.centre[1] + up * this.half];
    this.zoom(zoom, this.centre);
  }
  reset() { [this.centre, this.half] = [[0, 0], 1.1]; this.refresh(); }
  zoomTo() {}
}

function inColours({ width, height, shades, codes }, colours) { // the shade of a cell is how solid its colour is
  const picture = new ImageData(width, height), parts = colours.map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  for (let i = 0; i < shades.length; i += 1) {
    if (shades[i]) picture.data.set([...parts[codes[i]], 110 + 0.56 * shades[i]], 4 * i);
  }
  return createImageBitmap(picture);
}
