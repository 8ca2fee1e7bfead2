/* Predictions: two runs' answers to the same prompts side by side, or every run's. */
const PAGE = 15;
const browser = { count: PAGE };

const chosenRun = (id) => Number(byId(id).value);

/** The second run's score minus the first's; null if one has none. */
function difference(example) {
  const scores = example.scores[byId("score").value];
  const [one, other] = [scores?.[chosenRun("first-run")], scores?.[chosenRun("second-run")]];
  return typeof one === "number" && typeof other === "number" ? other - one : null;
}

function chosenExamples() {
  const words = byId("text").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (one) => [one.id, one.prompt, ...one.references, ...one.texts].join("\n").toLowerCase();
  const found = (data.predictions[byId("split").value] ?? []).filter((one) => words.every((word) => text(one).includes(word)));
  const height = { apart: Math.abs, first: (d) => -d, second: (d) => d }[byId("order").value];
  if (!height) return found;
  const key = (one) => (difference(one) === null ? -Infinity : height(difference(one)));
  return found.map((one) => [key(one), one]).sort((a, b) => b[0] - a[0]).map(([, one]) => one);
}

function drawExamples() {
  const found = chosenExamples();
  byId("examples").replaceChildren(...found.slice(0, browser.count).map(createExample));
  byId("example-count").textContent = `${Math.min(browser.count, found.length)} of ${found.length} examples`;
  byId("more-examples").hidden = browser.count >= found.length;
}

function createExample(example) {
  const box = create("article", "", "example"), apart = difference(example);
  const note = apart === null ? "" : ` · ${byId("score").value} ${apart > 0 ? "+" : ""}${formatScore(apart)} in the second`;
  box.append(create("h3", example.id + note + (example.others ? " · some runs had another prompt" : "")));
  box.append(create("div", example.prompt, "text"));
  const answers = create("div", "", "answers"), [first, second] = [chosenRun("first-run"), chosenRun("second-run")];
  answers.append(...example.references.map((text, index) => createAnswer(index ? `reference ${index + 1}` : "reference", "", [[text, false]])));
  const before = example.before?.[first] ?? example.before?.[second];
  if (before !== undefined && before !== null) answers.append(createAnswer("base model", "", [[example.texts[before], false]]));
  const shown = byId("all-answers").checked ? allRuns().filter(isDrawn) : [...new Set([first, second])];
  answers.append(...shown.filter((run) => example.after[run] !== null).map((run) => createAnswer(runs[run].label, scoresOf(example, run), markedAnswer(example, run, first, second), colours[run])));
  box.append(answers);
  return box;
}

/** The parts of a run's answer, marked where it differs from the other run's answer or from the reference. */
function markedAnswer(example, run, first, second) {
  const mark = byId("mark").value, text = example.texts[example.after[run]], other = run === first ? second : first;
  if (mark === "reference" && example.references.length) return wordDifference(text, example.references[0])[0];
  if (mark === "other" && other !== run && example.after[other] !== null && typeof example.after[other] === "number") return wordDifference(text, example.texts[example.after[other]])[0];
  return [[text, false]];
}

function createAnswer(name, scores, parts, colour) {
  const box = create("div"), title = create("h4"), isEmpty = parts.every(([text]) => text === "");
  if (colour) title.append(swatch(colour));
  title.append(name + " ", create("span", scores));
  const text = create("div", isEmpty ? "(empty)" : "", isEmpty ? "text dim" : "text");
  text.tabIndex = 0; // a long text scrolls with the keyboard
  text.append(...parts.map(([words, differs]) => (differs ? create("mark", words) : words)));
  box.append(title, text);
  return box;
}

/** A score with two digits, as everywhere; a very large one with its leading digits. */
const formatScore = (value) => (typeof value === "number" && Math.abs(value) < 1e5 ? value.toFixed(2) : formatValue(value));

const scoresOf = (example, run) => Object.entries(example.scores).map(([name, values]) => `${name} ${formatScore(values[run])}`).join(" · ");

function setScores() {
  const examples = data.predictions[byId("split").value] ?? [];
  const names = [...new Set(examples.flatMap((one) => Object.keys(one.scores)))];
  const first = [byId("score").value, data.primary?.split("/").pop()].find((name) => names.includes(name)) ?? names[0];
  fillSelect(byId("score"), names.map((name) => [name, name]), first);
}

/** Fill the controls. `firstRun` and `secondRun` are the runs to compare; without them, the last and the best run. */
function initPredictions(firstRun, secondRun) {
  const splits = Object.keys(data.predictions);
  const answered = allRuns().filter((run) => splits.some((split) => data.predictions[split].some((one) => one.after[run] !== null)));
  if (answered.length === 0) {
    byId("predictions").hidden = true;
    return;
  }
  fillSelect(byId("split"), splits.map((name) => [name, name]), splits.includes("test") ? "test" : splits[0]);
  const ordered = orderedRuns().filter((run) => answered.includes(run)), pairs = ordered.map((run) => [run, runs[run].label]);
  fillSelect(byId("first-run"), pairs, firstRun ?? ordered[ordered.length - 1]);
  fillSelect(byId("second-run"), pairs, secondRun ?? ordered[0]);
  setScores();
  const redraw = () => {
    browser.count = PAGE;
    drawExamples();
  };
  byId("all-answers").parentElement.hidden = runs.length < 3;
  for (const id of ["first-run", "second-run", "score", "order", "text", "mark", "all-answers"]) byId(id).addEventListener("input", redraw);
  byId("split").addEventListener("input", () => {
    setScores();
    redraw();
  });
  byId("more-examples").addEventListener("click", () => {
    browser.count += PAGE;
    drawExamples();
  });
  onChange((what) => {
    if (what === "colour" || (what === "drawn" && byId("all-answers").checked)) drawExamples();
  });
}
