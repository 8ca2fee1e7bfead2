"""The page of a comparison in a real browser without a network: a planted sweep of 50 runs."""

from itertools import pairwise

import pytest
from support import planted_sweep
from support.browser import MISSING, Browser, chromium
from support.planted_runs import record_of

from instruct_lab import cli

pytestmark = [pytest.mark.browser, pytest.mark.skipif(chromium() is None, reason=MISSING)]
CHARTS = ("curves", "parallel", "scatter")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    runs_path = tmp_path_factory.mktemp("runs")
    planted_sweep.sweep(runs_path, num_examples=40)
    path = runs_path / "page.html"
    assert cli.main(["compare", planted_sweep.SWEEP, "--runs", str(runs_path), "--html", str(path)]) == 0
    return path


@pytest.fixture
def browser(path):
    with Browser() as opened:
        opened.open(path)
        opened.wait("document.documentElement.dataset.ready")
        yield opened
        assert opened.errors == []
        assert opened.requests == [path.as_uri()]


def drawing(browser, name):
    """The picture of a chart, as bytes."""
    return browser.run(f"document.querySelector('#{name} canvas').toDataURL()")


def put(browser, name, value):
    """Set the value of a control as a user would."""
    browser.run(
        f"""(() => {{ const one = document.getElementById("{name}");
        if (one.type === "checkbox") one.checked = {str(bool(value)).lower()}; else one.value = {value!r};
        one.dispatchEvent(new Event("input", {{ bubbles: true }}));
        one.dispatchEvent(new Event("change", {{ bubbles: true }})); }})()"""
    )


def redraws(browser, name, control, value):
    before = drawing(browser, name)
    put(browser, control, value)
    browser.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")
    return drawing(browser, name) != before


def rows(browser):
    return browser.run('[...document.querySelectorAll("#runs tbody tr")].map((row) => Number(row.dataset.run))')


def drag(browser, x, y, to_x, to_y):
    for kind, at_x, at_y in (
        *(("mouseMoved", x, y), ("mousePressed", x, y), ("mouseMoved", (x + to_x) / 2, (y + to_y) / 2)),
        *(("mouseMoved", to_x, to_y), ("mouseReleased", to_x, to_y)),
    ):
        button = (
            {"button": "left", "buttons": 1, "clickCount": 1} if kind != "mouseMoved" or (at_x, at_y) != (x, y) else {}
        )
        browser.call("Input.dispatchMouseEvent", type=kind, x=at_x, y=at_y, **button)


@pytest.mark.slow
def test_everything_is_drawn_and_nothing_hostile_ran(browser):
    assert len(rows(browser)) == 50
    assert browser.run("document.title").startswith("50 runs of planted")
    assert browser.run("document.images.length") == 0
    assert browser.colours(browser.screenshot()) > 200
    for name in CHARTS:
        browser.run(f'document.getElementById("{name}").scrollIntoView({{ block: "center" }})')
        assert browser.colours(browser.screenshot()) > 200, name
    for name in ("What differs in the configs", "Predictions", "Learning curves"):
        assert name in browser.run("document.body.innerText")


@pytest.mark.slow
def test_the_forest_shows_each_configuration_of_the_chosen_metric(browser):
    def forest():
        return browser.run('[...document.querySelectorAll("#forest tbody tr")].map((row) => row.textContent)')

    first = forest()
    assert len(first) == 48  # finished runs
    assert first[0].endswith("best")
    assert browser.run('document.querySelectorAll("#forest circle.dot").length') == 48
    edges = ".map((one) => one.getBoundingClientRect()).map((box) => [box.left, box.right])"
    marks = '[...document.querySelector("#forest tr.best svg").querySelectorAll(".whisker, .dot")]'
    whisker, dot = browser.run(marks + edges)
    (plot,) = browser.run('[document.querySelector("#forest tbody .plot")]' + edges)
    assert plot[0] <= whisker[0] < dot[0] < dot[1] < whisker[1] <= plot[1]
    put(browser, "forest-metric", "test/f1")
    assert forest() != first


@pytest.mark.slow
def test_headings_sort_and_words_filter(browser):
    first = rows(browser)
    heading = '[...document.querySelectorAll("#runs th button")].find((one) => one.title === "optimizer.lr")'
    browser.run(f"{heading}.click()")
    rising = rows(browser)
    browser.run(f"{heading}.click()")
    assert rows(browser) == rising[::-1]
    assert rising != first
    assert sorted(rising) == sorted(first)
    assert browser.run('document.querySelectorAll("#runs th[aria-sort=descending]").length') == 1
    before = drawing(browser, "curves")
    put(browser, "words", "tuning=dora finished")
    shown = rows(browser)
    assert 10 < len(shown) < 20
    assert all(run % 3 == 1 for run in shown)
    assert drawing(browser, "curves") != before
    put(browser, "words", "nothing has this")
    assert rows(browser) == []
    browser.run('document.getElementById("reset").click()')
    assert len(rows(browser)) == 50


@pytest.mark.slow
def test_every_control_redraws_its_chart(browser):
    assert browser.run('document.getElementById("curve-metric").value') == "val/loss"  # val/exact was not logged
    assert redraws(browser, "curves", "curve-metric", "train/loss")
    assert redraws(browser, "curves", "curve-metric", "train/gradient_norm")
    assert redraws(browser, "curves", "smoothing", "0.9")
    assert browser.run('document.getElementById("smoothing-value").textContent') == "0.90"
    assert redraws(browser, "curves", "curve-x", "seconds")
    assert redraws(browser, "curves", "curve-log", True)
    assert redraws(browser, "scatter", "scatter-x", "cost training_seconds")
    assert redraws(browser, "scatter", "scatter-y", "metric test/f1")
    assert redraws(browser, "scatter", "scatter-x-log", True)
    assert redraws(browser, "parallel", "colour", "choice tuning")


@pytest.mark.slow
def test_a_smoothed_curve_lies_between_the_logged_values_which_are_drawn_faintly(browser):
    def series():
        found = 'echarts.getInstanceByDom(document.getElementById("curves")).getOption().series'
        return browser.run(f"{found}.map((one) => [one.lineStyle.opacity ?? 1, one.data.map((point) => point[1])])")

    put(browser, "curve-metric", "train/loss")
    raw = series()
    put(browser, "smoothing", "0.9")
    both = series()
    assert len(both) == 2 * len(raw) == 100
    assert both[0][0] < 0.5 < both[1][0]
    assert both[0][1] == raw[0][1]
    logged, smooth = ([value for value in one[1] if value is not None] for one in both[:2])
    assert smooth[0] == pytest.approx(logged[0])  # corrected for its start

    def steps(values):
        return sum(abs(b - a) for a, b in pairwise(values))

    assert steps(smooth) < steps(logged) / 3


@pytest.mark.slow
def test_brushing_an_axis_keeps_the_runs_inside_the_range(browser):
    chart = 'echarts.getInstanceByDom(document.getElementById("parallel"))'
    browser.run('document.getElementById("parallel").scrollIntoView({ block: "center" })')
    box = browser.run('(({ x, y }) => [x, y])(document.getElementById("parallel").getBoundingClientRect())')
    names = browser.run(f"{chart}.getOption().parallelAxis.map((axis) => axis.name)")
    index = names.index("val/exact")
    layout = f'{chart}.getModel().getComponent("parallel").coordinateSystem.getAxisLayout("dim{index}").position'
    x, y = browser.run(layout)
    before = drawing(browser, "curves")
    drag(browser, box[0] + x, box[1] + y - 4, box[0] + x, box[1] + y - 150)
    browser.wait('!document.getElementById("drawn").textContent.startsWith("50")')
    drawn = int(browser.run('document.getElementById("drawn").textContent').split()[0])
    assert 0 < drawn < 48
    assert browser.run('document.querySelectorAll("#runs tr.apart").length') == 50 - drawn
    assert drawing(browser, "curves") != before
    browser.run('document.getElementById("reset").click()')
    browser.wait('document.getElementById("drawn").textContent.startsWith("50")')


@pytest.mark.slow
def test_predictions_of_two_runs_are_shown_side_by_side(browser):
    def shown():
        return browser.run('[...document.querySelectorAll(".example")].map((one) => one.textContent)')

    assert len(shown()) == 15
    assert "+100.00 in the second" in shown()[0]
    put(browser, "order", "stored")
    assert shown()[0].startswith("test-0")
    put(browser, "text", "onerror")
    (attacked,) = shown()
    assert "<img src=x onerror=" in attacked
    assert "⟨U+202E⟩" in attacked
    put(browser, "text", "")
    put(browser, "split", "validation")
    assert shown()[0].startswith("validation-0")
    put(browser, "all-answers", True)
    assert browser.run('document.querySelector(".example").querySelectorAll(".answers > div").length') == 50
    browser.run('document.getElementById("more-examples").click()')
    assert len(shown()) > 15
    assert browser.run("document.title").startswith("50 runs")


@pytest.mark.slow
def test_pointing_at_a_curve_names_the_nearest_runs(browser):
    browser.run('document.getElementById("curves").scrollIntoView({ block: "center" })')
    box = browser.run('(({ x, y }) => [x, y])(document.getElementById("curves").getBoundingClientRect())')
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + 600, y=box[1] + 200)
    browser.wait('document.querySelector("#curves .tip .near")')
    text = browser.run('document.querySelector("#curves .tip").textContent')
    assert text.startswith("step ")
    assert "more" in text


@pytest.mark.slow
def test_the_page_is_dark_if_the_user_prefers_it(path):
    with Browser(dark=True) as opened:
        opened.open(path)
        opened.wait("document.documentElement.dataset.ready")
        assert opened.run("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
        assert opened.colours(opened.screenshot()) > 200
        assert opened.errors == []


@pytest.mark.slow
def test_two_runs_and_a_phone(tmp_path):
    planted_sweep.sweep(tmp_path, num_runs=2, num_steps=20, num_examples=5)
    names = [f"{planted_sweep.SWEEP}-{number:04d}" for number in range(2)]
    page = tmp_path / "page.html"
    assert cli.main(["compare", *names, "--runs", str(tmp_path), "--html", str(page)]) == 0
    with Browser(400, 800) as opened:
        opened.open(page)
        opened.wait("document.documentElement.dataset.ready")
        assert opened.run("document.documentElement.scrollWidth") <= 400
        assert opened.errors == []
        assert opened.requests == [page.as_uri()]


@pytest.mark.slow
def test_runs_that_differ_only_in_the_seed_share_a_row_and_a_colour(tmp_path):
    records = [
        record_of(
            tmp_path, f"{tuning}-s{seed}", [index < right - seed for index in range(20)], choices=choices, seed=seed
        )
        for tuning, right in (("lora", 15), ("full", 9))
        for choices in [{"tuning": tuning}]
        for seed in range(3)
    ]
    for record in records:
        config = {**record.config, "tuning": {"name": record.manifest.choices["tuning"]}}
        record.write_config(config)
    page = tmp_path / "page.html"
    assert cli.main(["compare", *(str(record.path) for record in records), "--html", str(page)]) == 0
    with Browser(400, 800, dark=True) as opened:
        opened.open(page)
        opened.wait("document.documentElement.dataset.ready")
        assert opened.run('document.querySelectorAll("#forest tbody tr").length') == 2
        assert opened.run('document.querySelectorAll("#forest circle.seed").length') == 6
        swatches = '[...document.querySelectorAll("#runs tbody .swatch")].map((one) => one.style.background)'
        assert len(set(opened.run(swatches))) == 2
        assert opened.run("document.documentElement.scrollWidth") <= 400
        assert opened.errors == []
