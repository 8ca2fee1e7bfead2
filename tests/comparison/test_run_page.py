"""`show-run`: one run in the terminal, as JSON and as a page."""

import html.parser
import io
import json
import math
import re

import pytest
import yaml
from support.browser import MISSING, Browser, chromium
from support.planted_runs import NAME, record_of, rows_of

from instruct_lab import cli
from instruct_lab.comparison.page.page import ECHARTS, VIEW
from instruct_lab.comparison.page.run_page import run_page, write_run_page
from instruct_lab.comparison.run_text import show
from instruct_lab.config.compose import compose
from instruct_lab.metrics import MetricValue
from instruct_lab.records import RunRecord, Summary
from instruct_lab.records.evaluations import EvaluationFiles, Origin
from instruct_lab.records.run_report import report_of
from instruct_lab.terminal import open_console

RIGHT, WRONG = (True, True, False, True, False), (False, True, False, False, False)
VALUES = {
    "before": MetricValue(20.0, 10.0, 30.0, 5, "exact", ("the base model's note",)),
    "after": MetricValue(60.0, 50.0, 70.0, 5, "exact"),
    "difference": MetricValue(40.0, 25.0, 55.0, 5, "exact"),
    "majority": MetricValue(33.0, 23.0, 43.0, 5, "exact"),
}
HOSTILE = "<img src=x onerror=alert(1)> \u202e"


class Text(html.parser.HTMLParser):
    """The visible text of a page, and its tags."""

    def __init__(self, page):
        super().__init__()
        self.text, self.tags, self._tag = "", [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._tag = tag

    def handle_endtag(self, tag):
        self._tag = ""

    def handle_data(self, data):
        self.text += "" if self._tag in ("script", "style") else f"{data} "


def embedded(page):
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(block)


@pytest.fixture
def record(tmp_path):
    """A finished run of the default options with two overrides, measured before and after training."""
    composition = compose(["tuning=full", "optimizer.weight_decay=0.5"])
    record = record_of(tmp_path / "runs", "one", RIGHT, choices=composition.choices)
    from omegaconf import OmegaConf

    config = OmegaConf.to_container(composition.config, resolve=True)
    record.write_config(
        {**config, "metrics": record.config["metrics"], "optimizer": {**config["optimizer"], "lr": 0.1}}
    )
    record.write_overrides(["tuning=full", "optimizer.weight_decay=0.5"])
    predictions = [{"id": f"example-{number}", "references": ["yes"]} for number in range(len(WRONG))]
    measured = {"rows": {"exact_match": rows_of(WRONG)}, "predictions": predictions}
    record.write_json("before.json", {"test": {"before": measured}})
    lines = [json.loads(line) for line in (record.path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = [
        {**line, "prediction_before": "yes" if right else HOSTILE} for line, right in zip(lines, WRONG, strict=True)
    ]
    (record.path / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in texts), encoding="utf-8")
    record.write_summary(Summary(seconds=60.0, training_seconds=30.0, metrics={NAME: VALUES}))
    derived = {"optimizer.lr": "the rate that suits it"}
    record.write_manifest(status="finished", derived=derived, seconds=60.0, warnings=["a planted warning"])
    for step in range(4):
        record.append_metrics(step, 0, {"train/loss": 2.0 / (step + 1), "val/loss": 3.0 / (step + 1)})
    return RunRecord.open(record.path)


def output(capsys, *arguments, code=0):
    assert cli.main(["show-run", *map(str, arguments)]) == code
    return capsys.readouterr()


def evaluate(record, name, metrics):
    """Write an evaluation as `instruct-lab evaluate` does."""
    files = EvaluationFiles(record, name)
    files.folder.mkdir(parents=True)
    files.write(Summary(metrics=metrics), Origin(), {}, [], {})


@pytest.mark.slow
def test_evaluations_made_after_the_run_are_shown_apart_from_its_results(record, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    other = {**VALUES, "after": MetricValue(77.0, 71.0, 78.0, 5, "exact", ("a note on other data",))}
    evaluate(record, "other", {"validation/exact": VALUES, "test/exact": other})
    evaluate(record, HOSTILE.replace("/", ""), {"test/exact": {"after": MetricValue(12.0, 11.0, 13.0, 5, "exact")}})
    text = output(capsys, record.path).out
    _, evaluated = text.split("Evaluation other")
    assert "77.00 [71.00, 78.00]" not in text.split("alert(1)")[0]
    lines = evaluated.split("Costs")[0].splitlines()
    assert [line.split()[0] for line in lines if "/exact" in line] == ["test/exact", "validation/exact"]
    alone = text.split("alert(1)")[1].split("Evaluation other")[0]
    assert "12.00 [11.00, 13.00]" in alone
    assert "base model" not in alone, "only one system was measured"
    found = json.loads(output(capsys, record.path, "--json").out)
    assert found["evaluations"]["other"]["test/exact"]["after"]["value"] == 77.0
    assert found["results"][NAME]["after"]["value"] == 60.0
    page = run_page(report_of(record))
    assert "<img src=x" not in page
    shown = Text(page).text
    assert shown.index("60.00 [50.00, 70.00]") < shown.index("Evaluation other") < shown.index("77.00 [71.00, 78.00]")
    assert "test: exact (after training): a note on other data" in shown


# ---- what differs from the defaults


@pytest.mark.slow
def test_only_options_and_values_that_differ_from_the_defaults_are_listed(record):
    report = report_of(record)
    assert report.has_defaults
    assert report.choices == {"tuning": "full"}
    assert report.settings["optimizer.weight_decay"][0] == 0.5
    assert "optimizer.lr" not in report.settings  # the program computed it
    assert {key for key in report.settings if not key.startswith("metrics")} == {"optimizer.weight_decay"}
    assert report.label == "full weight_decay=0.5"


@pytest.mark.slow
@pytest.mark.parametrize("group", ["data", "model", "tuning"])
def test_a_run_with_an_option_that_does_not_exist_here_lists_what_was_typed(record, group, capsys):
    choices = {**record.manifest.choices, group: "of_another_lab"}
    record.write_manifest(choices=choices)
    report = report_of(record)
    assert not report.has_defaults
    assert report.choices == choices
    assert list(report.settings) == ["optimizer.weight_decay"]
    assert "does not exist here" in output(capsys, record.path).out


@pytest.mark.slow
def test_the_value_of_a_class_that_an_old_record_spells_out_is_no_difference(record):
    config = record.config
    record.write_config({**config, "optimizer": {**config["optimizer"], "betas": [0.9, 0.999]}})
    assert "optimizer.betas" not in report_of(RunRecord.open(record.path)).settings


# ---- the terminal and JSON


@pytest.mark.parametrize("width", [72, 80, 120])
def test_numbers_are_never_cut_in_a_narrow_terminal(record, width):
    console = open_console(width=width, file=io.StringIO())
    show(report_of(record), console)
    lines = console.file.getvalue().splitlines()
    row = next(index for index, line in enumerate(lines) if line.startswith("test/exact_match"))
    both = "".join(lines[row : row + 2])
    assert [text in both for text in ("60.00", "[50.00, 70.00]", "[+25.00, +55.00]")] == [True] * 3
    assert "…" not in both


@pytest.mark.slow
def test_the_terminal_shows_status_settings_results_and_files(record, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = output(capsys, record.path).out
    for expected in (
        "run one of planted: full weight_decay=0.5",
        "finished",
        "warning: a planted warning",
        "optimizer.weight_decay",
        "20.00 [10.00, 30.00]",
        "60.00 [50.00, 70.00]",
        "+40.00 [+25.00, +55.00]",
        "predictions.jsonl",
        "show-run one",
    ):
        assert expected in text, expected


@pytest.mark.slow
def test_json_has_the_same_facts(record, capsys):
    found = json.loads(output(capsys, record.path, "--json").out)
    assert found["status"] == "finished"
    assert found["path"] == str(record.path)
    assert found["changed_choices"] == {"tuning": "full"}
    assert found["changed_settings"]["optimizer.weight_decay"]["value"] == 0.5
    assert found["results"][NAME]["difference"]["low"] == 25.0
    assert found["files"]["config.yaml"] == str(record.path / "config.yaml")
    assert found["error"] is None


@pytest.mark.slow
def test_a_failed_run_without_results_is_shown(tmp_path, capsys):
    record = RunRecord.create(tmp_path, "broken", {"name": "broken"}, [])
    record.write_manifest(status="failed", exception={"type": "ValueError", "message": "a planted error"})
    text = output(capsys, record.path).out
    assert "failed" in text
    assert "error: a planted error" in text
    assert "Results" not in text
    page = Text(run_page(report_of(record))).text
    assert "a planted error" in page
    assert "The run has no results" in page
    assert "In brackets: 95% intervals" not in page


def test_a_run_that_does_not_exist_is_refused(tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    assert "no runs yet" in output(capsys, "latest", "--runs", tmp_path / "runs", code=2).err


# ---- the page


@pytest.mark.slow
def test_the_page_has_results_settings_audit_and_system(record, tmp_path, capsys):
    audit = {"stages": {"data/train/mine": {"in": 9, "out": 5}}, "reasons": []}
    record.write_json("audit.json", audit)
    path = tmp_path / "page.html"
    assert output(capsys, record.path, "--html", path).out.strip() == str(path)
    text = Text(path.read_text(encoding="utf-8")).text
    for expected in ("60.00 [50.00, 70.00]", "baseline majority", "optimizer.weight_decay", "the rate that suits it"):
        assert expected in text, expected
    for expected in ("test: exact_match (base model): the base model's note", "mine", "Python", "the whole config"):
        assert expected in text, expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "num_marks"),
    [
        (MetricValue(20.0, 10.0, 30.0, 5, "x"), MetricValue(60.0, 50.0, 70.0, 5, "x"), 2),
        (MetricValue(0.0, 0.0, 0.0, 5, "x"), MetricValue(0.0, 0.0, 0.0, 5, "x"), 0),
        (MetricValue(math.nan, 0.0, 1.0, 5, "x"), MetricValue(1.0, 0.0, 2.0, 5, "x"), 0),
        (MetricValue(math.inf, 0.0, math.inf, 5, "x"), MetricValue(1.0, 0.0, 2.0, 5, "x"), 0),
        (None, MetricValue(1.0, 0.0, 2.0, 5, "x"), 0),
    ],
)
def test_values_before_and_after_are_drawn_on_one_scale(record, before, after, num_marks):
    metrics = {"before": before, "after": after}
    record.write_summary(Summary(metrics={NAME: {name: value for name, value in metrics.items() if value is not None}}))
    page = run_page(report_of(record))
    drawing = page.partition('class="intervals"')[2].partition("</svg>")[0]
    values = [float(value) for value in re.findall(r'cx="([0-9.]+)%"', drawing)]
    assert len(values) == num_marks
    if num_marks:
        ends = [float(end) for end in re.findall(r'x[12]="([0-9.]+)%"', drawing)]
        assert ends == [4.0, 34.7, 65.3, 96.0]  # 10, 30, 50 and 70 between 10 and 70
        assert values == [19.3, 80.7]


@pytest.mark.slow
def test_the_page_compares_the_answers_before_and_after_with_their_own_scores(record):
    data = embedded(run_page(report_of(record)))
    assert [run["label"] for run in data["runs"]] == ["base model", "after training"]
    examples = data["predictions"]["test"]
    assert [example["scores"]["exact_match"] for example in examples] == [
        [100.0 * before, 100.0 * after] for before, after in zip(WRONG, RIGHT, strict=True)
    ]
    assert data["primary"] == NAME
    assert [len(groups) for groups in data["curves"]] == [0, 1]
    assert data["curves"][1][0]["values"]["train/loss"] == [2.0, 1.0, 0.66667, 0.5]


@pytest.mark.slow
def test_hostile_texts_stay_text_on_the_page(record):
    record.write_manifest(warnings=[HOSTILE])
    config = yaml.safe_load((record.path / "config.yaml").read_text(encoding="utf-8"))
    record.write_config({**config, "planted": HOSTILE})
    page = run_page(report_of(RunRecord.open(record.path)))
    assert "<img" not in page.replace(ECHARTS.read_text(encoding="utf-8"), "")
    assert "img" not in Text(page).tags
    assert "\u202e" not in page


@pytest.mark.slow
def test_secrets_of_the_environment_stay_names(record, monkeypatch):
    monkeypatch.setenv("PLANTED_KEY", "value-of-the-key")
    path = record.path / "config.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "planted: ${oc.env:PLANTED_KEY}\n", encoding="utf-8")
    report = report_of(RunRecord.open(record.path))
    assert "value-of-the-key" not in run_page(report)
    assert "value-of-the-key" not in json.dumps(report.to_json())
    assert "PLANTED_KEY" in run_page(report)


# ---- the page in a browser


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason=MISSING)
@pytest.mark.parametrize(("width", "dark"), [(1440, False), (400, True)])
def test_the_page_in_a_browser_requests_nothing_and_fits_the_window(record, tmp_path, width, dark):
    record.write_json("audit.json", {"stages": {"data/train/mine": {"in": 9, "out": 5}}, "reasons": []})
    path = write_run_page(tmp_path / "run.html", report_of(record))
    with Browser(width, 900, dark=dark) as opened:
        opened.open(path)
        opened.wait("document.documentElement.dataset.ready")
        assert opened.run("document.documentElement.scrollWidth") <= width
        series = 'echarts.getInstanceByDom(document.getElementById("curves")).getOption().series'
        assert opened.run(f"{series}.map((one) => one.name)") == ["train/loss", "val/loss"]
        examples = opened.run('[...document.querySelectorAll(".example")].map((one) => one.textContent)')
        assert len(examples) == 5
        assert any("exact_match +100.00 in the second" in one for one in examples)
        assert any(HOSTILE.split(" \u202e")[0] in one for one in examples)
        assert opened.run("document.images.length") == 0
        assert opened.errors == []
        assert opened.requests == [path.as_uri()]


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason=MISSING)
def test_words_that_differ_are_marked_unless_nearly_all_do(record, tmp_path):
    path = write_run_page(tmp_path / "run.html", report_of(record))
    source = (VIEW / "words.js").read_text(encoding="utf-8")
    assert source in path.read_text(encoding="utf-8")
    with Browser() as opened:
        opened.open(path)

        def marked(first, second):
            call = f"(() => {{ {source} return wordDifference({json.dumps(first)}, {json.dumps(second)}); }})()"
            return ["".join(f"[{text}]" if differs else text for text, differs in part) for part in opened.run(call)]

        assert marked("the quick fox", "the slow fox") == ["the [quick] fox", "the [slow] fox"]
        assert marked("a b c d", "a b x y c d") == ["a b c d", "a b [x y ]c d"]
        assert marked("same", "same") == ["same", "same"]
        assert marked("", "new words") == ["", "new words"]
        assert marked("nothing in common here", "quite another text") == [
            "nothing in common here",
            "quite another text",
        ]
        assert marked("one two three four", "one two three") == ["one two three[ four]", "one two three"]
        long = " ".join(f"w{number}" for number in range(2000))
        assert marked(f"start {long} end", f"begin {long} end")[0].startswith("[start]")
