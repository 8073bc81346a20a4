// Classes and confusions of one model, beside another.
function classRows() {
  const first = result(board().entries[Number(byId("first").value)])?.classes ?? [];
  const other = byId("second").value;
  const second = other === "" ? [] : result(board().entries[Number(other)])?.classes ?? [];
  const places = new Map(second.map((one) => [one.name, one]));
  return first.map((one) => ({ ...one, other: places.get(one.name)?.recall ?? null }))
    .map((one) => ({ ...one, ahead: one.other === null || one.recall === null ? null : one.recall - one.other }));
}

function recallBar(value) {
  const bar = element("span", { class: "recall", "aria-hidden": "true" });
  bar.style.width = `${(value ?? 0) * 6}rem`;
  return element("td", {}, number(value), bar);
}

function drawClasses() {
  const both = byId("second").value !== "";
  const shown = [["name", "class"], ["support", "test images"], ["recall", "recall"], ["precision", "precision"],
    ...(both ? [["other", "recall of the other"], ["ahead", "ahead by"]] : [])].map(([key, text]) => ({ key, text, of: (one) => one[key] }));
  const sorted = shown.find((column) => column.key === state.classSort) ?? shown[1];
  const rows = classRows().sort(compare(sorted, state.classDown));
  const head = shown.map((column) => heading(column, column === sorted, state.classDown, () => {
    if (state.classSort === column.key) state.classDown = !state.classDown;
    else [state.classSort, state.classDown] = [column.key, column.key !== "name"];
    drawClasses();
  }));
  const body = rows.map((one) => element("tr", {}, element("th", { scope: "row" }, one.name),
    element("td", {}, String(one.support)), recallBar(one.recall), element("td", {}, number(one.precision)),
    ...(both ? [recallBar(one.other), element("td", {}, number(one.ahead))] : [])));
  byId("classes").replaceChildren(element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
  byId("classes-note").textContent = rows.length ? "" : "This entry has no figures of single classes.";
}

function drawConfusion() {
  const found = result(board().entries[Number(byId("first").value)]);
  const names = found?.classes.map((one) => one.name) ?? [], pairs = found?.confusion ?? [];
  const wrong = pairs.filter(([a, b]) => a !== b).sort((p, q) => q[2] - p[2]);
  const support = found?.classes.map((one) => one.support) ?? [];
  const items = wrong.slice(0, LIST).map(([a, b, images]) => element("li", {},
    `${names[a]} taken for ${names[b]}: ${images} of ${support[a]} images`));
  byId("confused").replaceChildren(...items);
  drawMatrix(names, pairs, support);
}

function drawMatrix(names, pairs, support) {
  const canvas = byId("matrix"), cell = names.length ? Math.max(3, Math.min(32, Math.floor(640 / names.length))) : 0;
  canvas.width = canvas.height = Math.max(1, cell * names.length);
  canvas.setAttribute("aria-label", `Confusion of ${names.length} classes; the list beside it names the largest`);
  const pen = canvas.getContext("2d"), at = new Map();
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  for (const [a, b, images] of pairs) {
    const share = support[a] ? images / support[a] : 0, dark = Math.round(235 * (1 - Math.sqrt(share)));
    pen.fillStyle = a === b ? `rgb(${dark}, ${Math.min(255, dark + 60)}, 235)` : `rgb(255, ${dark}, ${Math.round(dark / 2)})`;
    pen.fillRect(b * cell, a * cell, cell, cell);
    at.set(`${a} ${b}`, images);
  }
  canvas.onmousemove = (event) => {
    const box = canvas.getBoundingClientRect();
    const b = Math.floor((event.clientX - box.left) / box.width * names.length);
    const a = Math.floor((event.clientY - box.top) / box.height * names.length);
    if (names[a] === undefined || names[b] === undefined) return;
    byId("at").textContent = `${names[a]} → ${names[b]}: ${at.get(`${a} ${b}`) ?? 0} of ${support[a]} images`;
  };
}
