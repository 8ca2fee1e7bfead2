"""The page of a comparison: its data, its size limits, and that text of the data is never markup."""

import dataclasses
import hashlib
import html.parser
import json
import math
import random
import re
import shutil
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support import planted_sweep

from instruct_lab import cli
from instruct_lab.comparison.compare import compare
from instruct_lab.comparison.page import run_page
from instruct_lab.comparison.page.columns import Column, _logged_columns, columns
from instruct_lab.comparison.page.curves import CURVE_BYTES, MAX_POINTS, curves, thin
from instruct_lab.comparison.page.data import run_labels
from instruct_lab.comparison.page.examples import PREDICTION_BYTES, predictions
from instruct_lab.comparison.page.forest import forests
from instruct_lab.comparison.page.page import ECHARTS, SCRIPTS, VIEW, comparison_page, write_comparison
from instruct_lab.comparison.page.values import MAX_TEXT, logged_values, measured
from instruct_lab.comparison.text import answer
from instruct_lab.pages.render import script_json
from instruct_lab.records import PredictionLine, RunRecord
from instruct_lab.sweep.record import find_sweep


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    runs_path = tmp_path_factory.mktemp("runs")
    planted_sweep.sweep(runs_path, num_runs=7, num_steps=50, num_examples=12)
    return find_sweep(runs_path, planted_sweep.SWEEP).runs()


@pytest.fixture(scope="module")
def compared(records):
    return compare([record for record in records if record.manifest.status == "finished"])


@pytest.fixture(scope="module")
def seeded(records, tmp_path_factory):
    """Two configurations with two seeds each."""
    folder = tmp_path_factory.mktemp("arms")
    for number in (0, 1):
        for seed in (0, 1):
            path = folder / f"x-{number}-s{seed}"
            shutil.copytree(records[number].path, path)
            config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
            (path / "config.yaml").write_text(yaml.safe_dump({**config, "seed": seed}), encoding="utf-8")
    return [RunRecord.open(path) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def text(records, compared):
    return comparison_page(records, compared)


def embedded(text):
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(block)


class Elements(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.text, self._last = [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self._last = tag

    def handle_data(self, data):
        self.text += "" if self._last in ("script", "style") else data


# ---- the document


@pytest.mark.slow
def test_hostile_texts_stay_text_on_the_page(text):
    read = Elements(text)
    assert [tag for tag, _ in read.found if tag in ("img", "iframe", "object", "embed", "link")] == ["link"]  # its icon
    assert not [name for _, attributes in read.found for name in attributes if name.startswith("on")]
    assert len([tag for tag, _ in read.found if tag == "script"]) == 4  # data, every page's, the library's, this page's
    assert planted_sweep.HOSTILE.split()[0] + " src=x" not in text
    kept = embedded(text)["predictions"]["test"]
    (attacked,) = [example for example in kept if example["id"] == "test-3"]
    assert attacked["prompt"].startswith(planted_sweep.HOSTILE.replace("\u202e", "⟨U+202E⟩"))


@given(st.text() | st.text(alphabet="<>&/!-scriptSCRIPT \u2028\ud800\x00"))
def test_data_cannot_end_its_element(value):
    block = script_json({"text": value, value: 1.5})
    assert "<" not in block
    assert ">" not in block
    block.encode()
    assert json.loads(block)


def test_a_number_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="JSON compliant"):
        script_json(math.nan)


def test_the_policy_lists_each_script_and_style_and_nothing_else(text):
    import base64

    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    own = [part for tag in ("script", "style") for part in re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)]
    assert len(own) == 5
    for part in own:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" in policy
    assert "style=" not in text.replace(ECHARTS.read_text(encoding="utf-8"), "")


def test_the_library_is_the_published_one_and_nothing_else_has_an_address(text):
    digest = "b66b25aeb4df84e33199dc21694014d336d222cbd9deb0e5a7c14bd6aa0d0fd0"  # echarts 6.1.0, dist/echarts.min.js
    assert hashlib.sha256(ECHARTS.read_bytes()).hexdigest() == digest
    assert "Apache License" in (ECHARTS.parent / "LICENSE").read_text(encoding="utf-8")
    rest = text.replace(ECHARTS.read_text(encoding="utf-8"), "").replace("http-equiv", "")
    assert "http" not in rest


def test_the_script_creates_elements_only_from_text():
    own = "".join(path.read_text(encoding="utf-8") for path in VIEW.glob("*.js"))
    assert {path.stem for path in VIEW.glob("*.js")} == {*SCRIPTS, *run_page.SCRIPTS}
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "fetch("):
        assert word not in own


def test_the_page_shows_what_differs_and_the_verdicts(text, compared):
    read = Elements(text)
    for shown in ("optimizer.lr", "tuning.r", "test/exact", "best", "not distinguishable", "corrected for all pairs"):
        assert shown in read.text, shown
    assert "2 of the 7 runs did not finish" in read.text
    assert "What differs in the configs" in read.text


def test_equal_runs_are_not_distinguishable(tmp_path):
    for number in range(2):
        planted_sweep.run(tmp_path, number, "finished", 5, 10, 4, random.Random(1))
    records = [RunRecord.open(path.parent) for path in sorted(tmp_path.glob("*/*/manifest.json"))]
    records[1].write_json("after.json", records[0].read_json("after.json"))
    records[1].write_summary(records[0].summary)
    text = Elements(comparison_page(records, compare(records))).text
    assert text.count("not distinguishable") == 4


# ---- columns


def test_columns_are_what_differs_then_metrics_with_intervals_then_costs(records, compared):
    found = {column.key: column for column in columns(records, compared, [logged_values(record) for record in records])}
    assert "choice data" not in found  # all runs have the same
    assert found["choice tuning"].values[:3] == ["lora", "dora", "full"]
    assert found["config optimizer.lr"].is_log
    assert found["config tuning.r"].shown  # it was swept
    assert not found["config tuning.use_dora"].shown  # it follows from the choice of tuning
    assert not found["config seed"].is_log
    metric = found["metric test/exact"]
    assert metric.values[-1] is None
    assert metric.low[0] <= metric.values[0] <= metric.high[0]
    assert [records[run].id for run in metric.best] == [compared.best["test/exact"]]
    assert found["cost peak_memory_bytes"].values[1] == 1010.0
    assert found["cost trained_parameters"].values[2] == 134_515_008
    assert found["status"].values[-2:] == ["pruned", "failed"]
    assert found["last train/loss"].values[-1] is not None  # unfinished runs have curves
    kept = json.dumps([column.to_json() for column in found.values()], allow_nan=False)
    assert "[0.9, 0.95]" in kept


def test_runs_that_differ_only_in_the_seed_are_one_configuration_and_best_together(seeded):
    copies = seeded
    together = compare(copies)
    found = {column.key: column for column in columns(copies, together, [logged_values(record) for record in copies])}
    assert len(set(found["configuration"].values)) == 2
    assert len(found["metric test/f1"].best) == 2
    assert len(comparison_page(copies, together)) < 2_000_000


def test_the_configurations_of_a_metric_are_ordered_from_the_best(compared, text):
    read = Elements(text).text
    start = read.index("difference from the best, paired")
    means = dict(zip((arm.label for arm in compared.arms), compared.means["val/exact"], strict=True))
    ordered = sorted(means, key=lambda label: -means[label].value)
    positions = [read.index(label, start) for label in ordered[:1] + ordered[-1:]]
    assert positions == sorted(positions)
    assert read.index(ordered[0], start) - start < 50


@given(st.floats(1, 1e6) | st.floats(-1e6, -1) | st.sampled_from([93.02499999999999, 1.005, 2.675, 99.995]))
def test_values_on_the_page_are_rounded_as_in_text(value):
    assert f"{measured(value):.2f}" == f"{value:.2f}"


@pytest.mark.parametrize(
    ("values", "is_log"),
    [
        ([4, 8, 16, 32, 64], True),
        ([1e-5, 1e-4, 1e-3], True),
        ([0.001, 0.01, 0.01], True),
        ([1, 2, 3, 4], False),
        (list(range(1, 51)), False),
        ([0, 1, 100], False),
        ([-1, 10, 100], False),
        ([7.0, 40.0, 80.0], False),
        ([5, 5, None], False),
        (["a", "b"], False),
        ([True, False], False),
        ([], False),
    ],
)
def test_values_spaced_by_factors_get_a_logarithmic_axis(values, is_log):
    assert Column("k", "k", "config", values).is_log is is_log


def test_runs_are_labelled_by_what_differs(records):
    labels = run_labels(records)
    assert len(set(labels)) == len(records)
    for label, record in zip(labels, records, strict=True):
        assert record.config["tuning"]["name"] in label
    assert not any(record.id in label for label, record in zip(labels, records, strict=True))


def test_runs_that_differ_only_in_the_seed_are_labelled_with_the_seed(seeded):
    labels = run_labels(seeded)
    assert [label.rpartition("seed=")[2] for label in labels] == ["0", "1", "0", "1"]
    assert len(set(labels)) == 4


def test_equal_runs_are_labelled_with_their_ids(records, tmp_path):
    for name in ("first", "second"):
        shutil.copytree(records[0].path, tmp_path / name)
    labels = run_labels([RunRecord.open(tmp_path / "first"), RunRecord.open(tmp_path / "second")])
    assert "first" in labels[0]
    assert "second" in labels[1]


# ---- the forest plot


def test_the_forest_has_each_configuration_with_its_interval_and_verdict(records, compared):
    labels = run_labels(records)
    found = forests(records, labels, compared)
    assert next(iter(found)) == compared.primary
    rows = found["val/exact"]
    assert rows[0]["verdict"] == "best"
    assert [row["runs"] for row in rows if row["verdict"] == "best"] == [
        [index for index, record in enumerate(records) if record.id == compared.best["val/exact"]]
    ]
    differences = {one.arm: one for one in compared.differences["val/exact"]}
    for row in rows[1:]:
        one = differences[records[row["runs"][0]].id]
        assert row["verdict"] == ("worse" if one.probability < 0.05 else "not distinguishable")
        assert row["value"][1] <= row["value"][0] <= row["value"][2]
        assert row["difference"][0] == pytest.approx(row["value"][0] - rows[0]["value"][0], abs=1e-3)
    distances = [abs(row["value"][0] - rows[0]["value"][0]) for row in rows]
    assert distances == sorted(distances)


def test_runs_that_differ_only_in_the_seed_are_one_row_of_the_forest(seeded):
    together = compare(seeded)
    rows = forests(seeded, run_labels(seeded), together)[together.primary]
    assert sorted(map(len, (row["runs"] for row in rows))) == [2, 2]
    for row in rows:
        values = [together.metrics[together.primary][run].value for run in row["runs"]]
        assert row["value"][0] == pytest.approx(sum(values) / 2, rel=1e-4)
        assert "seed" not in row["label"]


def test_a_metric_that_is_not_paired_has_a_row_for_each_run_without_verdict(records):
    finished = [record for record in records if record.manifest.status == "finished"]
    one = compare(finished[:3])
    unpaired = dataclasses.replace(one, means={}, unpaired=dict.fromkeys(one.metrics, "a reason"), primary=None)
    rows = forests(finished[:3], run_labels(finished[:3]), unpaired)["test/f1"]
    assert [row["runs"] for row in rows] == [[0], [1], [2]]
    assert {row["verdict"] for row in rows} == {None}
    assert answer(unpaired) == ["No answer: the runs cannot be compared example by example (a reason)."]


def test_the_answer_names_the_best_and_sorts_the_others_by_verdict(compared, text):
    verdict, *details = answer(compared)
    best = next(arm for arm in compared.arms if arm.id == compared.best[compared.primary])
    assert verdict.startswith(f"Best by {compared.primary}: {best.label}, ")
    worse = [one for one in compared.differences[compared.primary] if one.is_significant]
    assert any(detail.startswith("Worse on these examples (one run each") for detail in details) == bool(worse)
    assert details[-1].startswith("One run each")
    assert f"<strong>{html.escape(verdict)}</strong>" in text
    for detail in details:
        assert f"<li>{html.escape(detail)}</li>" in text


# ---- curves


@given(st.lists(st.floats(allow_nan=True) | st.just(math.nan), min_size=1, max_size=400), st.integers(4, 40))
def test_a_thinned_curve_keeps_its_ends_and_extremes(values, most):
    kept = thin(values, most)
    assert kept == sorted(set(kept))
    assert len(kept) <= max(most, 4)
    assert {0, len(values) - 1} <= set(kept)
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) == len(values):
        assert {min(values), max(values)} <= {values[index] for index in kept}
    elif len(values) > most:
        assert any(not math.isfinite(values[index]) for index in kept)


def test_curves_have_the_logged_values_and_a_note_about_thinning():
    lines = [{"step": step, "epoch": 0, "seconds": step / 3, "train/loss": 1 / (step + 1)} for step in range(2000)]
    lines[1234]["train/loss"] = 50.0
    lines[17]["train/loss"] = math.nan
    for line in lines[::100]:
        line["val/loss"] = 0.123456789
    (groups,), notes = curves([lines])
    by_name = {name: group for group in groups for name in group["values"]}
    assert by_name["val/loss"]["step"] == list(range(0, 2000, 100))
    assert by_name["val/loss"]["values"]["val/loss"][0] == 0.12346
    thinned = by_name["train/loss"]
    assert len(thinned["step"]) == len(thinned["seconds"]) <= MAX_POINTS
    assert 50.0 in thinned["values"]["train/loss"]
    assert None in thinned["values"]["train/loss"]
    (note,) = notes
    assert note.startswith(f"1 curves were logged in more than {MAX_POINTS} points")
    assert curves([lines[:10]])[1] == []


@pytest.mark.parametrize(
    ("during_examples", "logged"),
    [
        (16, {"val/chrf_estimate", "val/loss"}),
        (1, {"val/chrf_estimate", "val/loss"}),
        (0, {"val/chrf", "val/loss"}),
        (None, {"val/chrf", "val/loss"}),
    ],
)
def test_a_metric_of_few_answers_has_a_name_of_its_own_on_the_page(tmp_path, during_examples, logged):
    evaluation = {} if during_examples is None else {"during_examples": during_examples}
    metrics = {"chrf": {"_target_": "instruct_lab.metrics.ChrF"}}
    record = RunRecord.create(tmp_path, "run", {"evaluation": evaluation, "metrics": metrics}, [])
    record.append_metrics(1, 0.5, {"val/chrf": 20.0, "val/loss": 2.0})
    ((groups,), _) = curves([logged_values(record)])
    assert {name for group in groups for name in group["values"]} == logged
    measured = SimpleNamespace(metrics={"val/chrf": []})
    found = {column.key for column in _logged_columns(measured, [logged_values(record)])}
    assert found == {f"last {name}" for name in logged - {"val/chrf"}}
    assert record.read_metrics()[0]["val/chrf"] == 20.0


def test_many_long_curves_stay_within_their_limit():
    source = random.Random(0)
    names = [f"train/name_{number}" for number in range(40)]
    lines = [
        {"step": step, "seconds": step * 0.1234567, **{name: source.gauss(0, 1) for name in names}}
        for step in range(300)
    ]
    kept, notes = curves([lines] * 50)
    assert len(json.dumps(kept, separators=(",", ":"))) < 1.2 * CURVE_BYTES
    assert notes
    assert all(len(group["step"]) >= 20 for groups in kept for group in groups)


# ---- predictions


def lines_of(run, count, words=5, split="test"):
    source = random.Random(run)
    return [
        PredictionLine(
            id=str(index),
            split=split,
            prompt=f"prompt {index}",
            prediction="same" if index == 0 else " ".join(f"{source.random()}" for _ in range(words)),
            references=["reference"],
            scores={"f1": source.random() if index != 70 else float(run), "exact": None},
        )
        for index in range(count)
    ]


def test_equal_answers_are_stored_once_and_runs_without_an_answer_have_none():
    kept, notes = predictions([lines_of(0, 3), lines_of(1, 2), []])
    first, second, third = kept["test"]
    assert first["texts"] == ["same"]
    assert first["after"] == [0, 0, None]
    assert second["after"] == [0, 1, None]
    assert third["after"] == [0, None, None]
    assert first["before"] is None
    assert first["scores"]["exact"] == [None, None, None]
    assert notes == []


def test_predictions_stay_within_their_limit_and_include_the_largest_disagreements():
    runs = [lines_of(run, 100, words=60) for run in range(20)]
    kept, notes = predictions(runs)
    assert len(script_json(kept).encode()) <= PREDICTION_BYTES
    assert 20 < len(kept["test"]) < 70
    ids = [example["id"] for example in kept["test"]]
    assert "70" in ids  # of which the scores differ most
    assert ids[:5] == ["0", "1", "2", "3", "4"]
    assert ids == sorted(ids, key=int)
    assert f"{len(ids)} of the 100 test examples are here" in notes[0]


def test_the_size_of_predictions_includes_their_escaping():
    runs = [
        [dataclasses.replace(line, prediction="<&>\u202e" * 60 + f"{run} {line.id}") for line in lines_of(run, 100)]
        for run in range(20)
    ]
    kept, _ = predictions(runs)
    assert 0.9 * PREDICTION_BYTES < len(script_json(kept).encode()) <= PREDICTION_BYTES


def test_long_texts_are_cut_with_a_note():
    first, second = lines_of(0, 2)
    kept, notes = predictions([[first, dataclasses.replace(second, prediction="x" * (MAX_TEXT + 1234))]])
    assert kept["test"][1]["texts"] == ["x" * MAX_TEXT + " … (1,234 more characters)"]
    assert notes == [f"Texts of more than {MAX_TEXT:,} characters are cut, in 1 examples."]


# ---- the command


@pytest.mark.parametrize(
    "names", [[planted_sweep.SWEEP], [f"{planted_sweep.SWEEP}-0000", f"{planted_sweep.SWEEP}-0001"]]
)
def test_the_command_writes_the_page_and_prints_where_it_is(records, tmp_path, capsys, names):
    runs_path = records[0].path.parent.parent
    path = tmp_path / "new" / "page.html"
    assert cli.main(["compare", *names, "--runs", str(runs_path), "--html", str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    kept = embedded(path.read_text(encoding="utf-8"))
    assert len(kept["runs"]) == (7 if len(names) == 1 else 2)


@pytest.mark.slow
def test_a_file_that_cannot_be_written_is_refused(records, compared, tmp_path, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    runs_path = records[0].path.parent.parent
    arguments = [
        "compare",
        planted_sweep.SWEEP,
        "--runs",
        str(runs_path),
        "--html",
        str(tmp_path / "file" / "page.html"),
    ]
    assert cli.main(arguments) == 2
    assert "What to do" in capsys.readouterr().err
    assert write_comparison(tmp_path / "page.html", records, compared).stat().st_size < 2_000_000
