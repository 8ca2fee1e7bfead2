/* Learning curves: logged values over steps or seconds, smoothed. */
const curves = { chart: null, runs: [], pointer: 0 };
const NEAREST = 8; // curves listed in the tooltip
const BOTH = " and "; // joins the names of metrics that share a chart

/** The points [x, y] of one run; null if it did not log the metric. */
function points(run, metric, axis) {
  const group = data.curves[run].find((one) => metric in one.values);
  return group ? group[axis].map((x, index) => [x, group.values[metric][index]]) : null;
}

/** Exponential moving average with bias correction; gaps remain gaps. */
function smooth(found, weight) {
  let sum = 0, mass = 0;
  return found.map(([x, y]) => {
    if (y === null) return [x, null];
    sum = weight * sum + (1 - weight) * y;
    mass = weight * mass + (1 - weight);
    return [x, sum / mass];
  });
}

function drawCurves() {
  const metric = byId("curve-metric").value, axis = byId("curve-x").value, names = metric.split(BOTH);
  const weight = Number(byId("smoothing").value), isLog = byId("curve-log").checked;
  byId("smoothing-value").textContent = weight.toFixed(2);
  const series = [];
  curves.runs = [];
  for (const [run, name] of allRuns().filter(isDrawn).flatMap((run) => names.map((name) => [run, name]))) {
    const found = points(run, name, axis), colour = names.length > 1 ? category(names.indexOf(name)) : colours[run];
    if (found === null) continue;
    const usable = isLog ? found.map(([x, y]) => [x, y > 0 ? y : null]) : found;
    const line = (points_, more) => ({ type: "line", name: names.length > 1 ? name : runs[run].label, data: points_, symbol: points_.length < 30 ? "circle" : "none", symbolSize: 4, itemStyle: { color: colour }, ...more });
    if (weight > 0) series.push(line(usable, { silent: true, symbol: "none", lineStyle: { color: colour, width: 1, opacity: 0.22 }, z: 1 }));
    curves.runs.push([run, series.length]);
    series.push(line(smooth(usable, weight), { lineStyle: { color: colour, width: 1.6 }, emphasis: { lineStyle: { width: 4 } }, triggerLineEvent: true, z: 2 }));
  }
  const nearby = { trigger: "axis", axisPointer: { type: "line", triggerEmphasis: false, lineStyle: { color: css("--dim") } }, formatter: nearest };
  curves.chart.setOption({
    ...baseOption(), legend: names.length > 1 ? { top: 8, left: 0, textStyle: { color: css("--text") } } : undefined, tooltip: { ...tooltip(), ...nearby },
    xAxis: axisOf(axis, false, { scale: false, min: "dataMin", max: "dataMax" }), yAxis: axisOf(metric, isLog, { nameGap: 50 }), series,
    title: series.length ? [] : { text: "no drawn run logged this", left: "center", top: "middle", textStyle: { color: css("--dim"), fontSize: 14 } },
  }, { notMerge: true });
}

/** The tooltip with the curves nearest to the pointer. */
function nearest(parameters) {
  const runBySeries = new Map(curves.runs.map(([run, series]) => [series, run]));
  const found = parameters.filter((one) => runBySeries.has(one.seriesIndex) && one.value[1] !== null);
  const height = (one) => curves.chart.convertToPixel({ yAxisIndex: 0 }, one.value[1]);
  const ordered = found.map((one) => [Math.abs(height(one) - curves.pointer), one]).sort((a, b) => a[0] - b[0]).slice(0, NEAREST);
  const lines = ordered.map(([, one], index) => [one.seriesName, formatValue(one.value[1]), one.color, index === 0]);
  const more = found.length - lines.length;
  return tip(`${byId("curve-x").value} ${formatValue(parameters[0]?.axisValue)}`, more > 0 ? [...lines, [`and ${more} more`, ""]] : lines);
}

function initCurves() {
  const names = [...new Set(data.curves.flatMap((groups) => groups.flatMap((group) => Object.keys(group.values))))].sort();
  const compared = data.primary ? `val/${data.primary.split("/").pop()}` : "";
  const isCurve = (name) => data.curves.some((groups) => groups.some((group) => group.values[name]?.length > 1));
  const first = [compared, `${compared}_estimate`, "val/loss", "train/loss"].find(isCurve) ?? names[0];
  const losses = ["train/loss", "val/loss"].filter((name) => names.includes(name));
  const joined = data.isOneRun && losses.length > 1 ? [losses.join(BOTH)] : [];
  fillSelect(byId("curve-metric"), [...joined, ...names].map((name) => [name, name]), joined[0] ?? first);
  curves.chart = createChart("curves", (run) => curves.runs.filter(([one]) => one === run).map(([, seriesIndex]) => ({ seriesIndex })));
  curves.chart.getZr().on("mousemove", (event) => { curves.pointer = event.offsetY; });
  for (const id of ["curve-metric", "curve-x", "smoothing", "curve-log"]) byId(id).addEventListener("input", drawCurves);
  onChange((what) => {
    if (typeof what === "string" && what !== "unbrush") drawCurves();
  });
}
