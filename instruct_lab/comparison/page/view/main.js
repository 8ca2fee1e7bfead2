/* Starts the parts: the first sections are drawn at once, the others after the page is shown. */

/** The column that colours the runs at first: the configuration if runs differ only in the seed; many runs, the metric. */
function firstColour() {
  const configuration = byKey.get("configuration");
  if (configuration && varies(configuration) && categoriesOf(configuration).length <= FEW) return configuration.key;
  return runs.length > FEW && primary && varies(primary) ? primary.key : null;
}

function init() {
  state.colour = firstColour();
  fillSelect(byId("colour"), [["", "each run"], ...columns.filter(varies).map((column) => [column.key, column.label])], state.colour ?? "");
  setColours();
  byId("colour").addEventListener("input", () => {
    state.colour = byId("colour").value || null;
    setColours();
    changed("colour");
  });
  isDark.addEventListener("change", () => {
    setColours();
    changed("colour");
    changed("dark");
  });
  onChange((what) => {
    if (what === "brushed") drawTable();
  });
  initForest();
  initTable();
  initPredictions();
  initCurves();
  drawTable();
  drawCurves();
  setTimeout(() => {
    initParallel();
    drawParallel();
    initScatter();
    drawScatter();
    if (!byId("predictions").hidden) drawExamples();
    document.documentElement.dataset.ready = "yes";
  });
}
init();
