/* Parallel coordinates over config keys, metrics and costs. */
const MAX_AXES = 9;
const parallel = { chart: null, runs: [], axes: new Set() };

const axisColumns = () => columns.filter((column) => parallel.axes.has(column.key));

function drawParallel() {
  const dim = css("--dim"), line = css("--line");
  const halo = { color: css("--text"), textBorderColor: css("--back"), textBorderWidth: 4 };
  const axes = axisColumns().map((column, index) => ({
    dim: index, name: column.label.length > 24 ? "…" + column.label.slice(-23) : column.label, nameGap: 14,
    ...(column.numeric ? { type: column.log ? "log" : "value", scale: true, axisLabel: { ...halo, formatter: formatValue } }
      : { type: "category", data: categoriesOf(column), axisLabel: { ...halo, width: 90, overflow: "truncate" } }),
    nameTextStyle: { color: css("--text"), fontSize: 11 }, axisLine: { lineStyle: { color: dim } }, axisTick: { lineStyle: { color: line } },
    splitLine: { show: false }, z: 10, areaSelectStyle: { width: 18, borderColor: css("--accent"), color: css("--accent"), opacity: 0.25 },
  }));
  state.brushed = null;
  parallel.chart.setOption({
    animation: false, textStyle: { fontFamily: "system-ui, sans-serif" }, parallelAxis: axes, series: [runLines()],
    parallel: { left: 60, right: 110, top: 40, bottom: 24, axisExpandable: false },
    tooltip: { ...tooltip(), trigger: "item", formatter: (one) => tipOfRun(parallel.runs[one.dataIndex], axisColumns()) },
  }, { notMerge: true });
}

function runLines() {
  parallel.runs = allRuns().filter(isSelected);
  const shown = axisColumns();
  return {
    type: "parallel", id: "runs", smooth: false, inactiveOpacity: 0.06, activeOpacity: 0.95,
    emphasis: { lineStyle: { width: 4, opacity: 1 } },
    data: parallel.runs.map((run) => ({
      name: runs[run].label, value: shown.map((column) => column.values[run] ?? "-"),
      lineStyle: { color: colours[run], width: 1.6, opacity: 0.75, type: shown.some((column) => column.values[run] === null) ? "dashed" : "solid" },
    })),
  };
}

function tipOfRun(run, shown) {
  if (run === undefined) return "";
  return tip(runs[run].label, shown.map((column) => [column.label, formatValue(column.values[run])]));
}

function updateBrushed() {
  const series = parallel.chart.getModel().getSeriesByIndex(0);
  const active = series.getRawIndicesByActiveState("active"), inactive = series.getRawIndicesByActiveState("inactive");
  state.brushed = active.length + inactive.length === 0 ? null : new Set(active.map((index) => parallel.runs[index]));
  changed("brushed");
}

function initParallel() {
  const usable = columns.filter(varies);
  const settings = usable.filter((column) => ["choice", "config"].includes(column.kind) && column.shown);
  const named = settings.filter((column) => column.label !== "seed"); // the seed is an axis only if nothing else differs
  parallel.axes = new Set([...(named.length ? named : settings).slice(0, MAX_AXES - 1), ...usable.filter((column) => column === primary)].map((column) => column.key));
  parallel.chart = createChart("parallel", (run) => {
    const dataIndex = parallel.runs.indexOf(run);
    return dataIndex < 0 ? [] : [{ seriesIndex: 0, dataIndex }];
  });
  parallel.chart.on("axisareaselected", updateBrushed);
  createCheckboxes(byId("axis-choice"), usable, parallel.axes, () => {
    drawParallel();
    changed("brushed");
  });
  onChange((what) => {
    if (what === "colour" || what === "drawn") parallel.chart.setOption({ series: [runLines()] });
    if (what === "unbrush" || what === "dark") {
      drawParallel();
      changed("brushed");
    }
  });
}
