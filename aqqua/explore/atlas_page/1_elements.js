// The page of an atlas. Text of others (ids, labels, names) is set as text, never as HTML.
"use strict";

const byId = (id) => document.getElementById(id);
const NONE = -1;
const DARK = matchMedia("(prefers-color-scheme: dark)").matches;
// Okabe & Ito 2008, then Tol's muted: told apart by people with any colour vision; black and white left out. Tol's
// wine and indigo are lost on a dark map: there they are lighter.
const NAMED = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", DARK ? "#b8405e" : "#882255",
  "#44aa99", "#999933", "#aa4499", DARK ? "#8f83d8" : "#332288"];
const OTHER = "#8f8f8f", UNKNOWN = DARK ? "#4d545a" : "#cdcdcd";
// cividis (Nuñez et al. 2018) and viridis (matplotlib), nine steps each, mixed linearly in between.
const SCALES = {
  cividis: ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#fee838"],
  viridis: ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"],
};
const state = {
  atlases: [], views: [], link: null, back: null, // link: row of atlas 0 -> row of atlas 1; back: the reverse
  colour: "", scale: "viridis", filters: new Map(), // column -> filter; all must hold
  masks: [], selection: null, // by atlas: Uint8Array or null for all; rows of atlas 0, sorted, or null
  chosen: null, page: 0, ready: false,
};

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
// Other people's words: letters that are not seen are made visible; the direction stays inside.
const plain = (text) => String(text).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}]/gu, "\ufffd");
const words = (text, attributes = {}) => element("bdi", attributes, plain(text));
const grouped = (value) => Number(value).toLocaleString("en").replaceAll(",", "\u2009");
const TITLES = { um_per_px: "pixel size", depth_m: "depth", esd_um: "ESD", area_um2: "area", volume_sphere_um3: "volume",
  carbon_pg: "carbon", class: "predicted class", score: "score", taxon_class: "class" };
const titled = (name) => TITLES[name] ?? name.replaceAll("_", " ");

function number(value, kind = "numbers") {
  if (value === null || value === undefined || Number.isNaN(value)) return "unknown";
  if (kind === "time") return new Date(value * 86400000).toISOString().slice(0, 16).replace("T", " ");
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(2);
  return String(Number(value.toPrecision(size >= 1000 ? 6 : 4)));
}
function day(value) { return new Date(value * 86400000).toISOString().slice(0, 10); }

function announce(text) { byId("said").textContent = text; }
function fail(error) {
  console.error(error);
  byId("wrong").textContent = String(error.message ?? error);
  byId("wrong").hidden = false;
}
const guarded = (act) => async (...given) => {
  try { return await act(...given); } catch (error) { fail(error); }
};
const styled = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function sized(canvas) { // pixels of the screen, so that lines are sharp on any display
  const ratio = Math.min(devicePixelRatio || 1, 2), box = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(box.width * ratio));
  canvas.height = Math.max(1, Math.round(box.height * ratio));
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { pen, width: box.width, height: box.height };
}
