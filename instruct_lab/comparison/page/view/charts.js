/* Shared by the three charts. */
const charts = [];

/** Create a chart in a box and resize it with the box. `targets` gives the chart's elements that belong to a run. */
function createChart(id, targets) {
  const one = echarts.init(byId(id), null, { renderer: "canvas", locale: "EN" });
  new ResizeObserver(() => one.resize()).observe(byId(id));
  charts.push(one);
  onChange((what) => {
    for (const type of ["highlight", "downplay"]) {
      if (typeof what === "object" && type in what) targets(what[type]).forEach((target) => one.dispatchAction({ type, ...target }));
    }
  });
  return one;
}

function axisOf(name, isLog, extra = {}) {
  const dim = css("--dim"), line = css("--line");
  return {
    type: isLog ? "log" : "value", name, nameLocation: "middle", nameGap: 30, scale: true, nameTextStyle: { color: dim },
    axisLabel: { color: dim, formatter: formatValue, hideOverlap: true }, axisLine: { show: true, lineStyle: { color: line } },
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

/** The tooltip: a heading, then lines with a swatch, a name and a value. */
function tip(title, lines) {
  const box = create("div", "", "tip");
  box.append(create("strong", title), ...lines.map(([name, value, colour, near]) => {
    const line = create("div", "", near ? "near" : ""), left = create("span");
    if (colour) left.append(swatch(colour));
    left.append(name);
    line.append(left, create("span", value));
    return line;
  }));
  return box;
}
