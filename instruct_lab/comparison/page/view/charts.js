/* What the three charts share. */
const charts = [];

/** A chart in a box; it follows the box's width. `series` gives the places of a run in it. */
function makeChart(id, places) {
  const one = echarts.init(byId(id), null, { renderer: "canvas", locale: "EN" });
  new ResizeObserver(() => one.resize()).observe(byId(id));
  charts.push(one);
  onChange((what) => {
    for (const type of ["highlight", "downplay"]) {
      if (typeof what === "object" && type in what) places(what[type]).forEach((place) => one.dispatchAction({ type, ...place }));
    }
  });
  return one;
}

function axisOf(name, isLog, extra = {}) {
  const dim = css("--dim"), line = css("--line");
  return {
    type: isLog ? "log" : "value", name, nameLocation: "middle", nameGap: 30, scale: true, nameTextStyle: { color: dim },
    axisLabel: { color: dim, formatter: shownNumber, hideOverlap: true }, axisLine: { show: true, lineStyle: { color: line } },
    splitLine: { lineStyle: { color: line, opacity: 0.6 } }, ...extra,
  };
}

function baseOption() {
  const dim = css("--dim");
  return {
    animation: false, backgroundColor: "transparent", textStyle: { fontFamily: "system-ui, sans-serif" },
    grid: { left: 70, right: 30, top: 40, bottom: 50 },
    toolbox: { right: 20, iconStyle: { borderColor: dim }, feature: { dataZoom: { title: { zoom: "enlarge a part", back: "back" } }, restore: { title: "restore" }, saveAsImage: { title: "save as PNG", backgroundColor: css("--back") } } },
    tooltip: tooltip(),
  };
}

function tooltip() {
  return { confine: true, backgroundColor: css("--back"), borderColor: css("--line"), textStyle: { color: css("--text") }, padding: 8 };
}

/** What is shown beside the pointer: a heading, then lines of a swatch, a name and a value. */
function tip(title, lines) {
  const box = make("div", "", "tip");
  box.append(make("strong", title), ...lines.map(([name, value, colour, near]) => {
    const line = make("div", "", near ? "near" : ""), left = make("span");
    if (colour) left.append(swatch(colour));
    left.append(name);
    line.append(left, make("span", value));
    return line;
  }));
  return box;
}
