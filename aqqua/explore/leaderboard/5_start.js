// What happens when the page opens, and when something is chosen.
function drawFacts() {
  const { suite, tiers, left_out } = board().entries[0], tier = tiers[byId("tier").value];
  const facts = {
    suite: `${suite.name}, protocol ${suite.protocol}, ${suite.classes} classes`,
    tier: tier ? `${tier.train_images} images to learn from, ${tier.test_images} to test on, in ${tier.groups} groups` : "–",
    data: Object.entries(suite.datasets).map(([name, sha]) => `${name} ${sha.slice(0, 12)}`).join(", "),
    "not used": Object.entries(left_out).map(([why, images]) => `${why}: ${images}`).join("; ") || "nothing",
  };
  byId("facts").replaceChildren(...Object.entries(facts).flatMap(([name, text]) =>
    [element("dt", {}, name), element("dd", {}, text)]));
}

function drawAll() {
  drawFacts(); drawTable(); drawPlot(); drawClasses(); drawConfusion();
}

fillSelect("suite", boards.boards.map((_, place) => String(place)),
  Object.fromEntries(boards.boards.map((one, place) => [String(place), one.name])));
fillSelect("cost", Object.keys(COSTS), COSTS);
for (const id of ["suite", "tier", "probe"]) byId(id).addEventListener("change", () => { refreshSelects(); drawAll(); });
byId("metric").addEventListener("change", () => { state.sort = byId("metric").value; state.down = betterOf(state.sort) === "higher"; drawAll(); });
byId("cost").addEventListener("change", drawPlot);
for (const id of ["first", "second"]) byId(id).addEventListener("change", () => { drawClasses(); drawConfusion(); });
refreshSelects();
drawAll();
document.body.dataset.ready = "yes";
