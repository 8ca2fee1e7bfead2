/* Starts the parts of the page of one run. */
setColours();
isDark.addEventListener("change", () => {
  setColours();
  changed("colour");
  changed("dark");
});
initPredictions(0, 1);
if (!byId("predictions").hidden) drawExamples();
initCurves();
if (data.curves.some((groups) => groups.length > 0)) drawCurves();
else byId("learning").hidden = true;
document.documentElement.dataset.ready = "yes";
