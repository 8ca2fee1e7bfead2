/* The table of runs: sorting, filtering, ticking. */
const LABEL = { key: "label", label: "run", numeric: false, values: runs.map((run) => run.label) };

function orderedRuns() {
  if (state.sort === null) return allRuns();
  const [key, sign] = state.sort, { values } = byKey.get(key) ?? LABEL;
  return allRuns().sort((a, b) => {
    const [one, other] = [values[a], values[b]];
    if (one === null || other === null) return (one === null) - (other === null); // runs without a value come last
    const order = typeof one === "number" ? one - other : String(one).localeCompare(String(other), "en", { numeric: true });
    return sign * order || a - b;
  });
}

/** Whether a run matches every word: anywhere in its row, or as `key=value` in one column. */
function matches(run, words) {
  const whole = [runs[run].id, ...columns.map((column) => column.values[run])].join("\n").toLowerCase();
  return words.every((word) => {
    const [key, value] = word.split("=");
    if (value === undefined || !key) return whole.includes(word);
    return columns.some((column) => column.label.toLowerCase().endsWith(key) && String(column.values[run]).toLowerCase() === value);
  });
}

function drawTable() {
  const shown = columns.filter((column) => state.shown.has(column.key));
  const head = create("tr");
  head.append(...[LABEL, ...shown].map(createHeading));
  byId("runs").tHead.replaceChildren(head);
  const rows = orderedRuns().filter((run) => state.matching.has(run)).map((run) => createRow(run, shown));
  byId("runs").tBodies[0].replaceChildren(...rows, ...data.baselines.map((baseline) => createBaselineRow(baseline, shown)));
  const count = allRuns().filter(isDrawn).length;
  byId("drawn").textContent = `${count} of ${runs.length} runs drawn`;
}

/** A row below the runs: the model before training, or a baseline of the data set. */
function createBaselineRow(baseline, shown) {
  const line = create("tr", "", "baseline");
  line.append(create("td", baseline.label), ...shown.map((column) => {
    const [value, low, high] = baseline.values[column.key] ?? [null, null, null];
    const cell = create("td", formatIn(column, value), column.numeric ? "number" : "");
    if (value !== null && low !== null) cell.append(" ", create("small", `[${formatIn(column, low)}, ${formatIn(column, high)}]`));
    return cell;
  }));
  return line;
}

/** The sort direction that puts the best run first: descending if its value is above the middle. */
function bestFirst(column) {
  if (!column.best?.length) return 1;
  const [low, high] = range(column), best = column.best.map((run) => column.values[run]);
  return best.reduce((sum, value) => sum + value, 0) / best.length > (low + high) / 2 ? -1 : 1;
}

function createHeading(column) {
  const cell = create("th", "", column.numeric ? "number" : ""), button = create("button");
  const sign = state.sort !== null && state.sort[0] === column.key ? state.sort[1] : 0;
  button.textContent = column.label.replace(/([./])(?=[^./]*$)/, "$1\n") + (sign ? (sign > 0 ? " ▲" : " ▼") : "");
  button.title = column.label;
  cell.ariaSort = sign ? (sign > 0 ? "ascending" : "descending") : "none";
  button.addEventListener("click", () => {
    const first = bestFirst(column);
    state.sort = sign === 0 ? [column.key, first] : [column.key, -sign];
    drawTable();
  });
  cell.append(button);
  return cell;
}

function createRow(run, shown) {
  const line = create("tr", "", isDrawn(run) ? "" : "apart"), first = create("td"), tick = create("input");
  line.dataset.run = run;
  tick.type = "checkbox";
  tick.checked = state.ticked.has(run);
  tick.ariaLabel = `draw ${runs[run].label}`;
  tick.addEventListener("change", () => {
    if (tick.checked) state.ticked.add(run); else state.ticked.delete(run);
    changed("drawn");
  });
  first.title = runs[run].id;
  first.append(tick, swatch(colours[run]), runs[run].label);
  line.append(first, ...shown.map((column) => createCell(column, run)));
  line.addEventListener("mouseenter", () => changed({ highlight: run }));
  line.addEventListener("mouseleave", () => changed({ downplay: run }));
  return line;
}

function createCell(column, run) {
  const element = create("td", formatIn(column, column.values[run]), column.numeric ? "number" : "");
  if (column.best?.includes(run)) element.classList.add("best");
  if (column.low && column.low[run] !== null && column.values[run] !== null) {
    element.append(" ", create("small", `[${formatIn(column, column.low[run])}, ${formatIn(column, column.high[run])}]`));
  }
  if (!column.numeric) element.title = String(column.values[run]);
  return element;
}

function initTable() {
  byId("words").addEventListener("input", () => {
    const words = byId("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    state.matching = new Set(allRuns().filter((run) => matches(run, words)));
    changed("drawn");
  });
  const tick = (chosen) => {
    state.ticked = new Set(chosen);
    changed("drawn");
  };
  const visible = () => orderedRuns().filter((run) => state.matching.has(run));
  byId("tick-all").addEventListener("click", () => tick(allRuns()));
  byId("tick-none").addEventListener("click", () => tick([]));
  byId("tick-best").addEventListener("click", () => tick(visible().slice(0, 5)));
  byId("reset").addEventListener("click", () => {
    byId("words").value = "";
    state.matching = new Set(allRuns());
    tick(allRuns());
    changed("unbrush");
  });
  createCheckboxes(byId("column-choice"), columns, state.shown, drawTable);
  if (primary) state.sort = [primary.key, bestFirst(primary)];
  onChange((what) => {
    if (what === "drawn" || what === "colour") drawTable();
  });
}
