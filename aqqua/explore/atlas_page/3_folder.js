// The second source: data that stands in this page, or in files beside it that are loaded as scripts, as a page
// opened from a disk may fetch nothing. A file says AQQUA_DATA(name, value).
const loaded = new Map();
globalThis.AQQUA_DATA = (name, value) => loaded.get(name)?.resolve(value);

function load(name) {
  if (loaded.has(name)) return loaded.get(name).promise;
  const inside = document.querySelector(`script[type="application/json"][data-name="${name}"]`);
  if (inside) return Promise.resolve(JSON.parse(inside.textContent));
  const entry = {};
  entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
  loaded.set(name, entry);
  const file = `data/${name.replaceAll("/", "-")}.js`;
  const script = element("script", { src: file });
  script.addEventListener("error", () => entry.reject(new Error(`the file ${file} must stand beside this page, got none; unpack the whole folder`)));
  document.head.append(script);
  return entry.promise;
}

function bytesOf(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
  return bytes.buffer;
}

class FolderAtlas extends Kept {
  get(name) { return load(`${this.number}/${name}`); }
  async chunks(kind, rows) { // pieces that hold these rows, by number
    const size = this.about.chunk, needed = [...new Set(rows.map((row) => Math.floor(row / size)))];
    const read = await Promise.all(needed.map((n) => this.get(`${kind}/${n}`)));
    return new Map(needed.map((n, i) => [n, read[i]]));
  }
  async points() {
    const all = new Float32Array(bytesOf(await this.get("points")));
    return { x: all.slice(0, this.rows), y: all.slice(this.rows) };
  }
  async readColumn(name) {
    const { values, ...about } = await this.get(`column/${name}`), bytes = bytesOf(values);
    return { ...about, values: about.kind === "names" ? new Int32Array(bytes) : new Float32Array(bytes) };
  }
  async keep(filters) {
    const mask = new Uint8Array(this.rows).fill(1);
    for (const filter of filters) {
      const column = await this.column(filter.column), test = passes(column, filter);
      for (let row = 0; row < this.rows; row += 1) if (mask[row] && !test(column.values[row])) mask[row] = 0;
    }
    return mask;
  }
  async histogram(name, filters, mask) {
    return countLocally(await this.column(name), mask ?? (filters.length ? await this.keep(filters) : null));
  }
  async readPictures(rows) {
    const chunks = await this.chunks("thumbnails", rows), size = this.about.chunk;
    return rows.map((row) => {
      const text = chunks.get(Math.floor(row / size))[row % size];
      return `data:image/${text.startsWith("UklGR") ? "webp" : "png"};base64,${text}`;
    });
  }
  async details(row) {
    const found = { image_id: (await this.ids([row]))[0] };
    for (const { name } of this.about.columns) {
      const column = await this.column(name), value = column.values[row];
      if (column.kind === "names") found[name] = value < 0 ? null : column.names[value];
      else found[name] = Number.isNaN(value) ? null : value;
    }
    return found;
  }
  async neighbours(row) {
    const size = this.about.chunk, piece = (await this.chunks("neighbours", [row])).get(Math.floor(row / size));
    const there = (value) => value !== 4294967295, at = row % size;
    const part = (name, Kind, k) => Array.from(new Kind(bytesOf(piece[name])).slice(at * k, (at + 1) * k));
    const near = part("near", Uint32Array, 20), cosine = part("cosine", Float32Array, 20);
    return { near: near.filter(there), cosine: cosine.filter((c, n) => there(near[n])),
      foreign: part("foreign", Uint32Array, 10).filter(there) };
  }
  async search(text) {
    const wanted = text.trim().toLowerCase(), whole = [], found = [];
    if (!wanted) return [];
    const columns = await Promise.all(["label", "sample"].filter((name) => this.has(name)).map((name) => this.column(name)));
    const hits = columns.map((column) => column.names.map((name) => name.toLowerCase().includes(wanted)));
    for (let first = 0; first < this.rows; first += this.about.chunk) {
      const ids = await this.get(`ids/${first / this.about.chunk}`);
      ids.forEach((id, n) => {
        const row = first + n, lower = id.toLowerCase();
        if (lower === wanted) whole.push(row);
        else if (found.length < 200 && (lower.includes(wanted) || columns.some((c, k) => hits[k][c.values[row]]))) found.push(row);
      });
    }
    return [...whole, ...found].slice(0, 200);
  }
  async ids(rows) {
    const list = Array.from(rows), chunks = await this.chunks("ids", list), size = this.about.chunk;
    return list.map((row) => chunks.get(Math.floor(row / size))[row % size]);
  }
}

async function openFolder() {
  const { atlases } = await load("about");
  state.atlases = atlases.map((about, n) => new FolderAtlas(n, about));
  if (atlases.length > 1) state.link = new Int32Array(bytesOf(await load("link")));
}
