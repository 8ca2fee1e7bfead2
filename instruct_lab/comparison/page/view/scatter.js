/* A scatter of any two columns, with intervals where a column has them. */
const scatter = { chart: null, runs: [] };

function drawScatter() {
  const [across, up] = ["x", "y"].map((axis) => byKey.get(byId(`scatter-${axis}`).value));
  if (!across || !up) return;
  const logs = [["x", across], ["y", up]].map(([axis, column]) => {
    const box = byId(`scatter-${axis}-log`);
    box.disabled = !(range(column)[0] > 0);
    if (box.disabled) box.checked = false;
    return box.checked;
  });
  const drawn = allRuns().filter(isDrawn);
  scatter.runs = drawn.filter((run) => across.values[run] !== null && up.values[run] !== null);
  const left = drawn.length - scatter.runs.length;
  byId("scatter-note").textContent = left ? `${left} drawn runs have no value in one of them` : "";
  const label = { show: scatter.runs.length <= FEW, position: "top", color: css("--text"), formatter: (one) => one.name, fontSize: 11 };
  scatter.chart.setOption({
    ...baseOption(),
    tooltip: { ...tooltip(), trigger: "item", formatter: (one) => tipOfRun(scatter.runs[one.dataIndex], scatterTip(across, up)) },
    xAxis: axisOf(across.label, logs[0]), yAxis: axisOf(up.label, logs[1], { nameGap: 50 }),
    series: [
      { type: "scatter", symbolSize: 11, label, labelLayout: insideChart, emphasis: { scale: 1.8, label: { show: true } },
        data: scatter.runs.map((run) => ({ name: runs[run].label, value: [across.values[run], up.values[run]], itemStyle: { color: colours[run], opacity: 0.9 } })) },
      { type: "custom", silent: true, clip: true, z: 1, encode: { x: [0, 2, 3], y: [1, 4, 5] }, renderItem: bars,
        data: scatter.runs.map((run) => [across.values[run], up.values[run], ...ends(across, run), ...ends(up, run), run]) },
    ],
  }, { notMerge: true });
}

const scatterTip = (across, up) => [...new Set([across, up, ...columns.filter((column) => ["choice", "config"].includes(column.kind) && column.shown).slice(0, 8)])];

/** The shift that keeps a label inside the chart. */
function insideChart({ rect, labelRect: { width } }) {
  const x = rect.x + rect.width / 2 - width / 2; // labelRect.x includes an earlier shift
  return { hideOverlap: true, dx: Math.max(0, -x) + Math.min(0, scatter.chart.getWidth() - x - width) };
}

/** The ends of a value's interval; without an interval, the value itself. */
function ends(column, run) {
  const value = column.values[run];
  return [column.low?.[run] ?? value, column.high?.[run] ?? value];
}

function bars(_, api) {
  const [x, y, left, right, low, high, run] = [0, 1, 2, 3, 4, 5, 6].map((index) => api.value(index));
  const line = ([x1, y1], [x2, y2]) => ({ type: "line", shape: { x1, y1, x2, y2 }, style: { stroke: colours[run], opacity: 0.4, lineWidth: 1.5 } });
  return { type: "group", children: [line(api.coord([left, y]), api.coord([right, y])), line(api.coord([x, low]), api.coord([x, high]))] };
}

function initScatter() {
  const numeric = columns.filter((column) => column.numeric);
  const metric = primary?.numeric ? primary : numeric[0];
  const other = numeric.find((column) => column.kind === "config" && column.shown && column.label !== "seed" && varies(column)) ?? numeric.find((column) => column.kind === "cost" && varies(column)) ?? numeric[0];
  for (const [axis, column] of [["x", other], ["y", metric]]) {
    fillSelect(byId(`scatter-${axis}`), numeric.map((one) => [one.key, one.label]), column?.key);
    const setLog = () => { byId(`scatter-${axis}-log`).checked = byKey.get(byId(`scatter-${axis}`).value)?.log ?? false; };
    setLog();
    byId(`scatter-${axis}`).addEventListener("input", () => {
      setLog();
      drawScatter();
    });
    byId(`scatter-${axis}-log`).addEventListener("input", drawScatter);
  }
  scatter.chart = createChart("scatter", (run) => {
    const dataIndex = scatter.runs.indexOf(run);
    return dataIndex < 0 ? [] : [{ seriesIndex: 0, dataIndex }];
  });
  onChange((what) => {
    if (typeof what === "string" && what !== "unbrush") drawScatter();
  });
}
