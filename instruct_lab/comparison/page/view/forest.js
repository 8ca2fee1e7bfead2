/* Forest plot: each configuration's value with its 95% interval; the base model is a vertical line. */
const SVG = byId("empty-drawing").namespaceURI;

function createSvg(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** About five round numbers between two limits. */
function roundTicks(low, high) {
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const ticks = [];
  for (let index = Math.ceil(low / step); index * step <= high; index += 1) ticks.push(index * step || 0);
  return [ticks, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
}

/** The values of the base model and of the data's baselines; equal values of one system are joined. */
function referencesOf(metric) {
  const found = new Map();
  for (const one of data.baselines) {
    const value = one.values[`metric ${metric}`], key = `${one.system} ${value}`;
    if (!value || value[0] === null) continue;
    found.set(key, { ...one, value, label: found.has(key) ? one.system : one.label });
  }
  return [...found.values()];
}

/** A function from a value to its horizontal position in percent, and the limits of the axis. */
function forestScale(rows, references) {
  const values = [...rows, ...references].flatMap((row) => row.value).filter((value) => value !== null);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const gap = (high - low) * 0.04 || Math.abs(high) * 0.05 || 1;
  [low, high] = [low - gap, high + gap];
  return [(value) => `${(100 * (value - low)) / (high - low)}%`, low, high];
}

function drawForest() {
  const metric = byId("forest-metric").value, rows = data.forest[metric], references = referencesOf(metric);
  const [at, low, high] = forestScale(rows, references), column = byKey.get(`metric ${metric}`);
  const hasVerdicts = rows.some((row) => row.verdict), head = create("tr");
  head.append(create("th", hasVerdicts ? "configuration" : "run"), createAxis(at, low, high), create("th", "value", "number"));
  if (hasVerdicts) head.append(create("th", "difference from the best", "number wide-only"), create("th", "verdict"));
  byId("forest").tHead.replaceChildren(head);
  byId("forest").tBodies[0].replaceChildren(...rows.map((row) => createForestRow(row, at, references, column, hasVerdicts)));
  drawForestKey(references, column, rows);
}

function createAxis(at, low, high) {
  const cell = create("th", "", "plot"), plot = createSvg("svg", { role: "presentation" }), [ticks, digits] = roundTicks(low, high);
  for (const tick of ticks) {
    const share = parseFloat(at(tick)), anchor = share < 4 ? "start" : share > 96 ? "end" : "middle"; // whole at the edges
    const text = createSvg("text", { x: at(tick), y: "80%", "text-anchor": anchor, class: "tick" });
    text.textContent = tick.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
    plot.append(text);
  }
  cell.append(plot);
  return cell;
}

function createForestRow(row, at, references, column, hasVerdicts) {
  const line = create("tr", "", { best: "best", worse: "worse" }[row.verdict] ?? "alike"), cell = create("td", "", "plot");
  const [value, low, high] = row.value, plot = createSvg("svg", { role: "img" });
  for (const one of references) {
    if (one.base && one.value[1] !== null) plot.append(createSvg("rect", { x: at(one.value[1]), y: 0, width: `${parseFloat(at(one.value[2])) - parseFloat(at(one.value[1]))}%`, height: "100%", class: "band" }));
    plot.append(createSvg("line", { x1: at(one.value[0]), x2: at(one.value[0]), y1: 0, y2: "100%", class: one.base ? "base" : "other" }));
  }
  if (value !== null) {
    if (low !== null && high !== null) plot.append(createSvg("line", { x1: at(low), x2: at(high), y1: "50%", y2: "50%", class: "whisker" }));
    if (row.runs.length > 1) plot.append(...row.runs.filter((run) => column.values[run] !== null).map((run) => createSvg("circle", { cx: at(column.values[run]), cy: "50%", r: 2.5, class: "seed" })));
    plot.append(createSvg("circle", { cx: at(value), cy: "50%", r: 5, class: "dot" }));
  }
  const title = createSvg("title", {});
  title.textContent = `${row.label}: ${intervalText(column, row.value)}`;
  plot.append(title);
  cell.append(plot);
  const label = create("td", row.label, "label");
  if (row.runs.length > 1) label.append(" ", create("small", `mean of ${row.runs.length} runs`));
  label.title = row.runs.map((run) => runs[run].id).join("\n");
  line.append(label, cell, create("td", intervalText(column, row.value), "number"));
  if (hasVerdicts) {
    const apart = row.difference === null ? "" : intervalText(column, row.difference, true);
    const verdict = create("td", row.verdict, "verdict");
    if (row.probability !== null) verdict.title = `p = ${formatValue(row.probability)}, corrected for all pairs`;
    line.append(create("td", apart, "number wide-only"), verdict);
  }
  line.addEventListener("mouseenter", () => row.runs.forEach((run) => changed({ highlight: run })));
  line.addEventListener("mouseleave", () => row.runs.forEach((run) => changed({ downplay: run })));
  return line;
}

/** The explanation below the plot, with the values of the vertical lines. */
function drawForestKey(references, column, rows) {
  const lines = references.map((one) => `${one.base ? "dashed line and band" : "dotted line"}: ${one.label}, ${intervalText(column, one.value)}`);
  const means = rows.some((row) => row.runs.length > 1) ? " Small dots are the single runs." : "";
  byId("forest-key").textContent = `Dot: value. Horizontal line: 95% interval.${means}${lines.length ? ` Vertical lines: ${lines.join("; ")}.` : ""}`;
  byId("forest-note").textContent = data.unpaired[byId("forest-metric").value] ? `not compared example by example: ${data.unpaired[byId("forest-metric").value]}` : "";
}

function initForest() {
  const names = Object.keys(data.forest);
  byId("forest-section").hidden = names.length === 0;
  if (names.length === 0) return;
  fillSelect(byId("forest-metric"), names.map((name) => [name, name]), names[0]);
  byId("forest-metric").addEventListener("input", drawForest);
  drawForest();
}
