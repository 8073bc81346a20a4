// The leaderboard's page: one suite, tier, probe and metric at a time; table, plot, classes, confusions.
// All data stands in the page (#entries); nothing is fetched. Text from entries is set as text, never as HTML.
"use strict";

const boards = JSON.parse(document.getElementById("entries").textContent);
const METRICS = boards.metrics;
const COSTS = {
  gflops_per_image: "10⁹ operations per image",
  parameters: "parameters",
  gpu_hours: "GPU-hours of pretraining",
};
const MARKS = ["circle", "square", "triangle", "diamond", "cross", "star"];
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]; // Okabe & Ito 2008
const LIST = 20; // confusions listed
const state = { sort: null, down: true, classSort: "support", classDown: true };
const byId = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "line", "path", "text", "rect", "title"].includes(tag) && attributes.svg;
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "svg" || value === null || value === undefined) continue;
    if (name === "onclick") node.addEventListener("click", value);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
const drawn = (tag, attributes, ...children) => element(tag, { ...attributes, svg: true }, ...children);

function fillSelect(id, names, labels = {}) {
  const select = byId(id), old = select.value;
  select.replaceChildren(...names.map((name) => element("option", { value: name }, labels[name] ?? name)));
  select.value = names.includes(old) ? old : names[0] ?? "";
  select.disabled = names.length < 2;
}

const board = () => boards.boards[Number(byId("suite").value)];
const result = (entry) => entry.tiers[byId("tier").value]?.probes[byId("probe").value];
const metricName = (name) => METRICS[name]?.label ?? name.replaceAll("_", " ");
const betterOf = (name) => METRICS[name]?.better ?? "higher"; // "lower", "nearer 0", or "" where neither is
const inUnion = (lists) => [...new Set(lists.flat())];

function refreshSelects() {
  const entries = board().entries;
  fillSelect("tier", inUnion(entries.map((entry) => Object.keys(entry.tiers))));
  const tiers = entries.map((entry) => entry.tiers[byId("tier").value]).filter(Boolean);
  fillSelect("probe", inUnion(tiers.map((tier) => Object.keys(tier.probes))));
  const probes = entries.map(result).filter(Boolean);
  const metrics = inUnion(probes.map((probe) => Object.keys(probe.metrics)));
  const order = Object.keys(METRICS);
  metrics.sort((a, b) => (order.indexOf(a) + 1 || 999) - (order.indexOf(b) + 1 || 999) || a.localeCompare(b));
  fillSelect("metric", metrics, Object.fromEntries(metrics.map((name) => [name, metricName(name)])));
  const names = entries.map((entry, place) => String(place));
  const labels = Object.fromEntries(entries.map((entry, place) => [String(place), entry.model.name]));
  fillSelect("first", names, labels);
  fillSelect("second", ["", ...names], { "": "no other", ...labels });
}

function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && (Math.abs(value) >= 1e4 || Math.abs(value) < 1e-3)) return value.toPrecision(3);
  return value.toFixed(digits);
}

function short(value) {
  if (value === null || value === undefined) return "–";
  for (const [size, unit] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
    if (value >= size) return (value / size).toPrecision(3) + unit;
  }
  return String(Number(value.toPrecision(3)));
}
