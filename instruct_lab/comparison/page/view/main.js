/* Starts the parts: the first sections are drawn at once, the others after the page is shown. */
function init() {
  state.colour = runs.length > FEW && primary && varies(primary) ? primary.key : null;
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
