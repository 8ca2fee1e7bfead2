/* Puts the parts together: what is read first is drawn first, the rest after the page has been shown. */
function setUp() {
  state.colour = runs.length > FEW && primary && varies(primary) ? primary.key : null;
  choices(byId("colour"), [["", "each run"], ...columns.filter(varies).map((column) => [column.key, column.label])], state.colour ?? "");
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
  setUpTable();
  setUpPredictions();
  setUpCurves();
  drawTable();
  drawCurves();
  setTimeout(() => {
    setUpParallel();
    drawParallel();
    setUpScatter();
    drawScatter();
    if (!byId("predictions").hidden) drawExamples();
    document.documentElement.dataset.ready = "yes";
  });
}
setUp();
