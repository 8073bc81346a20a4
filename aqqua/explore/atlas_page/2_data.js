// Where the points come from: a server, or files that stand beside this page (or in it). Both answer alike:
// points, column, keep, histogram, pictures, details, neighbours, search, ids, density, inside.
const BINS = 32;

function countLocally(column, mask) {
  const bins = column.kind === "names" ? column.names.length : BINS;
  const span = column.high - column.low || 1, all = new Array(bins).fill(0), kept = new Array(bins).fill(0);
  column.values.forEach((value, row) => {
    let bin = value;
    if (column.kind !== "names") {
      if (Number.isNaN(value)) return;
      bin = Math.min(BINS - 1, Math.floor(((value - column.low) / span) * BINS));
    } else if (bin < 0) return;
    all[bin] += 1;
    if (!mask || mask[row]) kept[bin] += 1;
  });
  return { all, kept };
}

function passes(column, filter) { // a test of one value
  if (column.kind === "names") {
    const wanted = new Set(filter.names.map((name) => (name === null ? NONE : column.names.indexOf(name))));
    return (value) => wanted.has(value);
  }
  const from = Math.fround(filter.from ?? -Infinity), to = Math.fround(filter.to ?? Infinity);
  return (value) => (Number.isNaN(value) ? filter.unknown === true : value >= from && value <= to);
}

class Kept { // what both sources share: columns and pictures once asked for
  constructor(number, about) {
    Object.assign(this, { number, about, rows: about.rows, columns: new Map(), urls: new Map() });
  }
  column(name) {
    if (!this.columns.has(name)) {
      const made = this.readColumn(name);
      made.catch(() => this.columns.delete(name));
      this.columns.set(name, made);
    }
    return this.columns.get(name);
  }
  has(name) { return this.about.columns.some((column) => column.name === name); }
  async pictures(rows) { // addresses of pictures, in order
    const missing = [...new Set(rows)].filter((row) => !this.urls.has(row));
    if (missing.length) {
      const read = await this.readPictures(missing);
      missing.forEach((row, n) => this.urls.set(row, read[n]));
    }
    const found = rows.map((row) => this.urls.get(row));
    for (const row of this.urls.keys()) {
      if (this.urls.size <= 2000) break;
      if (rows.includes(row)) continue;
      if (this.urls.get(row).startsWith("blob:")) URL.revokeObjectURL(this.urls.get(row));
      this.urls.delete(row);
    }
    return found;
  }
}

class ServerAtlas extends Kept {
  async ask(name, question = {}) {
    const query = new URLSearchParams(Object.entries(question).map(([k, v]) => [k, typeof v === "object" ? JSON.stringify(v) : v]));
    const answer = await fetch(`api/${this.number}/${name}?${query}`, { credentials: "same-origin" });
    if (!answer.ok) throw new Error((await answer.json()).error);
    return answer;
  }
  async json(name, question) { return (await this.ask(name, question)).json(); }
  async bytes(name, question) { return (await this.ask(name, question)).arrayBuffer(); }
  async points() {
    const all = new Float32Array(await this.bytes("points"));
    return { x: all.slice(0, this.rows), y: all.slice(this.rows) };
  }
  async readColumn(name) {
    const [about, bytes] = await Promise.all([this.json("column", { column: name }), this.bytes("values", { column: name })]);
    return { ...about, values: about.kind === "names" ? new Int32Array(bytes) : new Float32Array(bytes) };
  }
  async keep(filters) {
    const bits = new Uint8Array(await this.bytes("filter", { filters })), mask = new Uint8Array(this.rows);
    for (let row = 0; row < this.rows; row += 1) mask[row] = (bits[row >> 3] >> (row & 7)) & 1;
    return mask;
  }
  async histogram(name, filters, mask) {
    return mask ? countLocally(await this.column(name), mask) : this.json("histogram", { column: name, filters });
  }
  async readPictures(rows) {
    const found = [];
    for (let first = 0; first < rows.length; first += 200) {
      const bytes = await this.bytes("wall", { rows: rows.slice(first, first + 200).join(",") });
      const count = new DataView(bytes).getUint32(0, true), sizes = new Uint32Array(bytes.slice(4, 4 + 4 * count));
      let at = 4 + 4 * count;
      for (const size of sizes) {
        found.push(URL.createObjectURL(new Blob([bytes.slice(at, at + size)])));
        at += size;
      }
    }
    return found;
  }
  details(row) { return this.json("details", { rows: row }); }
  neighbours(row) { return this.json("neighbours", { rows: row }); }
  async original(row) { return URL.createObjectURL(new Blob([await this.bytes("original", { rows: row })])); }
  search(text) { return this.json("search", { text }); }
  async ids(rows) {
    const found = [];
    for (let first = 0; first < rows.length; first += 2000) {
      found.push(...(await this.json("ids", { rows: Array.from(rows.slice(first, first + 2000)).join(",") })));
    }
    return found;
  }
  async density(window, width, height, filters, colour) { // shades, then numbers of colours, a byte for each cell
    const both = new Uint8Array(await this.bytes("density", { ...window, width, height, filters, ...colour }));
    return { width, height, shades: both.subarray(0, width * height), codes: both.subarray(width * height) };
  }
  cell(window, filters, column) { return this.json("cell", { ...window, filters, column }); }
  async inside(corners) { return new Uint32Array(await this.bytes("lasso", { corners: corners.flat().join(",") })); }
}

async function openServer() {
  const answer = await fetch("api/about", { credentials: "same-origin" });
  if (!answer.ok) throw new Error((await answer.json()).error);
  const { atlases, originals } = await answer.json();
  state.atlases = atlases.map((about, n) => new ServerAtlas(n, { ...about, originals }));
  if (atlases.length < 2) return;
  state.link = new Int32Array(await (await fetch("api/link", { credentials: "same-origin" })).arrayBuffer());
}
