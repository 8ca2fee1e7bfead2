"use strict";
/* State shared by all parts of the page: the data, which runs are drawn, their colours. */
const data = JSON.parse(document.getElementById("data").textContent);
const { runs, columns } = data;
const byKey = new Map(columns.map((column) => [column.key, column]));
const primary = byKey.get(`metric ${data.primary}`) ?? columns.find((column) => column.kind === "metric"); // the metric of the comparison
const FEW = 10; // runs that can be distinguished by colour

const state = {
  ticked: new Set(runs.keys()),
  matching: new Set(runs.keys()),
  brushed: null, // null: no range is selected
  colour: null, // a column's key; null: a colour for each run
  shown: new Set(columns.filter((column) => column.shown && varies(column)).map((column) => column.key)),
  sort: null, // [key, 1 or -1]
};
const listeners = [];
const onChange = (listener) => listeners.push(listener);
const changed = (what) => listeners.forEach((listener) => listener(what));

const isDrawn = (run) => isSelected(run) && (state.brushed === null || state.brushed.has(run));
const isSelected = (run) => state.ticked.has(run) && state.matching.has(run);
const allRuns = () => [...runs.keys()];

const byId = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const isDark = matchMedia("(prefers-color-scheme: dark)");

/** Create an element with text; nothing from the data is parsed as markup. */
function create(tag, text = "", name = "") {
  const element = document.createElement(tag);
  if (text !== "") element.textContent = text;
  if (name) element.className = name;
  return element;
}

/** Fill a select with [value, label] pairs. */
function fillSelect(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, label]) => {
    const option = create("option", label);
    option.value = value;
    return option;
  }));
  if (chosen !== undefined) select.value = chosen;
}

/** Fill a box with a labelled checkbox for each column. */
function createCheckboxes(box, offered, chosen, then) {
  box.replaceChildren(...offered.map((column) => {
    const label = create("label"), input = create("input");
    input.type = "checkbox";
    input.checked = chosen.has(column.key);
    input.addEventListener("change", () => {
      if (input.checked) chosen.add(column.key); else chosen.delete(column.key);
      then();
    });
    label.append(input, " " + column.label);
    return label;
  }));
}

function varies(column) {
  return column.values.some((value) => value !== column.values[0]);
}

/** The number of digits after the decimal point that all values of a column have; null: each value's shortest form. */
function digitsOf(column) {
  if (!column.numeric || ["choice", "config"].includes(column.kind)) return null;
  const known = [...column.values, ...(column.low ?? []), ...(column.high ?? [])].filter((value) => typeof value === "number");
  const largest = Math.max(...known.map(Math.abs));
  if (column.kind === "metric") return largest < 1 ? 4 : 2;
  if (column.values.every((value) => value === null || Number.isInteger(value))) return 0;
  return largest < 1e-2 ? null : Math.max(0, 3 - Math.floor(Math.log10(largest)));
}
for (const column of columns) column.digits = digitsOf(column);

/** A value of a column with the column's number of digits. */
function formatIn(column, value, isSigned = false) {
  if (typeof value !== "number" || (column?.digits ?? null) === null) return formatValue(value);
  const signDisplay = isSigned ? "exceptZero" : "auto";
  return value.toLocaleString("en", { minimumFractionDigits: column.digits, maximumFractionDigits: column.digits, signDisplay });
}

/** A value with its interval: 31.20 [30.05, 32.41]. */
function intervalText(column, [value, low, high], isSigned = false) {
  const text = formatIn(column, value, isSigned);
  return low === null || high === null || value === null ? text : `${text} [${formatIn(column, low, isSigned)}, ${formatIn(column, high, isSigned)}]`;
}

function formatValue(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(2).replace(/\.?0+e/, "e");
  return value.toLocaleString("en", { maximumSignificantDigits: size >= 1000 ? 7 : 4 });
}

// ---- colours

const CATEGORIES = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#e08020", "#7a6ad8", "#8a8a8a", "#20a090"];
const SCALE = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]]; // viridis

const category = (index) => (index < CATEGORIES.length ? CATEGORIES[index] : `hsl(${Math.round(index * 137.5) % 360}, 55%, 55%)`);

/** The colour at a share of the scale, without the end that has too little contrast with the page. */
function gradedColour(share) {
  const position = (isDark.matches ? 0.22 + 0.78 * share : 0.9 * share) * (SCALE.length - 1);
  const low = Math.min(Math.floor(position), SCALE.length - 2), part = position - low;
  return `rgb(${SCALE[low].map((from, i) => Math.round(from + part * (SCALE[low + 1][i] - from))).join(", ")})`;
}

function range(column) {
  const known = column.values.filter((value) => value !== null);
  return [Math.min(...known), Math.max(...known)];
}

const categoriesOf = (column) => [...new Set(column.values.filter((value) => value !== null))].sort();

let colours = [];
function setColours() {
  const column = byKey.get(state.colour);
  if (!column) {
    colours = runs.map((_, run) => category(run));
  } else if (column.numeric) {
    const scaled = column.log ? Math.log : (value) => value;
    const [low, high] = range(column).map(scaled);
    colours = column.values.map((value) => (value === null ? css("--dim") : gradedColour(high > low ? (scaled(value) - low) / (high - low) : 0.5)));
  } else {
    const found = categoriesOf(column);
    colours = column.values.map((value) => (value === null ? css("--dim") : category(found.indexOf(value))));
  }
  drawLegend(column);
}

function drawLegend(column) {
  const box = byId("legend");
  box.replaceChildren();
  if (!column) return;
  if (column.numeric) {
    const [low, high] = range(column), bar = create("span", "", "scale");
    bar.style.background = `linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map(gradedColour).join(", ")})`;
    box.append(formatValue(low), bar, formatValue(high), column.log ? " (logarithmic)" : "");
  } else {
    categoriesOf(column).slice(0, 12).forEach((value, index) => box.append(swatch(category(index)), value));
  }
}

function swatch(colour) {
  const element = create("span", "", "swatch");
  element.style.background = colour;
  return element;
}
