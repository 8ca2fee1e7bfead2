"use strict";
/* What all parts of the page share: the data, which runs are drawn, their colours. */
const data = JSON.parse(document.getElementById("data").textContent);
const { runs, columns } = data;
const byKey = new Map(columns.map((column) => [column.key, column]));
const primary = byKey.get(`metric ${data.primary}`) ?? columns.find((column) => column.kind === "metric"); // what the comparison is about
const FEW = 10; // runs that are told apart by colour

const state = {
  ticked: new Set(runs.keys()),
  matching: new Set(runs.keys()),
  brushed: null, // null: no range is brushed
  colour: null, // a column's key; null: a colour for each run
  shown: new Set(columns.filter((column) => column.shown && varies(column)).map((column) => column.key)),
  sort: null, // [key, 1 or -1]
};
const listeners = [];
const onChange = (listener) => listeners.push(listener);
const changed = (what) => listeners.forEach((listener) => listener(what));

const isDrawn = (run) => isAsked(run) && (state.brushed === null || state.brushed.has(run));
const isAsked = (run) => state.ticked.has(run) && state.matching.has(run);
const allRuns = () => [...runs.keys()];

const byId = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const isDark = matchMedia("(prefers-color-scheme: dark)");

/** An element with text; nothing from the data is ever taken for markup. */
function make(tag, text = "", name = "") {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  if (name) made.className = name;
  return made;
}

/** Fill a select with [value, label] pairs. */
function choices(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, label]) => {
    const option = make("option", label);
    option.value = value;
    return option;
  }));
  if (chosen !== undefined) select.value = chosen;
}

/** A labelled checkbox for each column, in a box. */
function tickBoxes(box, offered, chosen, then) {
  box.replaceChildren(...offered.map((column) => {
    const label = make("label"), input = make("input");
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

function shownNumber(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(2).replace(/\.?0+e/, "e");
  return value.toLocaleString("en", { maximumSignificantDigits: size >= 1000 ? 7 : 4 });
}

// ---- colours

const CATEGORIES = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#e08020", "#7a6ad8", "#8a8a8a", "#20a090"];
const SCALE = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]]; // viridis

const category = (place) => (place < CATEGORIES.length ? CATEGORIES[place] : `hsl(${Math.round(place * 137.5) % 360}, 55%, 55%)`);

/** A colour for a share of the scale; its ends that do not stand out from the page are left out. */
function graded(share) {
  const place = (isDark.matches ? 0.22 + 0.78 * share : 0.9 * share) * (SCALE.length - 1);
  const low = Math.min(Math.floor(place), SCALE.length - 2), part = place - low;
  return `rgb(${SCALE[low].map((from, i) => Math.round(from + part * (SCALE[low + 1][i] - from))).join(", ")})`;
}

function range(column) {
  const told = column.values.filter((value) => value !== null);
  return [Math.min(...told), Math.max(...told)];
}

const categoriesOf = (column) => [...new Set(column.values.filter((value) => value !== null))].sort();

let colours = [];
function setColours() {
  const column = byKey.get(state.colour);
  if (!column) {
    colours = runs.map((_, run) => category(run));
  } else if (column.numeric) {
    const place = column.log ? Math.log : (value) => value;
    const [low, high] = range(column).map(place);
    colours = column.values.map((value) => (value === null ? css("--dim") : graded(high > low ? (place(value) - low) / (high - low) : 0.5)));
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
    const [low, high] = range(column), bar = make("span", "", "scale");
    bar.style.background = `linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map(graded).join(", ")})`;
    box.append(shownNumber(low), bar, shownNumber(high), column.log ? " (logarithmic)" : "");
  } else {
    categoriesOf(column).slice(0, 12).forEach((value, place) => box.append(swatch(category(place)), value));
  }
}

function swatch(colour) {
  const made = make("span", "", "swatch");
  made.style.background = colour;
  return made;
}
