"""`instruct-lab runs`: one line for each run, whatever the width; what does not fit is left out and reported."""

import datetime
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.listed_runs import STARTED, systems, write_run, write_runs

from instruct_lab import cli
from instruct_lab.errors import InstructLabError
from instruct_lab.pages.text_columns import TextColumn, lay_out, list_within
from instruct_lab.records import Summary, find_run, list_runs
from instruct_lab.records.locate import short_ids
from instruct_lab.records.query import find_runs
from instruct_lab.records.runs_table import View, runs_lines

NOW = STARTED + datetime.timedelta(days=6)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs")
    write_runs(path)
    return path


def table(runs, width, query=(), sort=None, **view):
    found = find_runs(runs, query, sort, view.get("is_reversed", False), view.get("columns", ()))
    lines = runs_lines(found, list_runs(runs), width, View(sorted_by=sort, **view), NOW)
    return [line.plain.rstrip() for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 120, 160])
def test_nineteen_different_runs_fit_a_terminal(runs, width):
    lines = table(runs, width)
    assert len(lines) <= 25
    assert all(len(line) <= width for line in lines)
    for number, line in enumerate(lines[1:20]):
        short, status = line.split()[:2]
        assert find_run(runs, short).id.endswith(f"-{number:05x}0")
        assert status in ("finished", "failed", "pruned", "interrupted")
        assert status != "finished" or f"{30 + number:.2f} [{27 + number:.2f}, {33 + number:.2f}]" in line
        assert status != "finished" or f"{12.75 + number:+.2f}" in line
    assert ("age" in lines[0].split()) == (width > 80)
    assert any("no space for: age" in line for line in lines) == (width == 80)


@pytest.mark.slow
def test_labels_show_what_few_runs_share(runs):
    lines = table(runs, 80)
    assert [line[21:47].split("  ")[0].strip() for line in lines[2:9]] == [
        "dora",
        "full lr=2e-05",
        "r=4",
        "r=4 lr=0.01",
        "r=16 lr=0.01",
        "train_last_layers",
        "flan_t5_…t_some_revision",
    ]


def test_the_examples_of_the_documentation(runs, capsys):
    lines = table(runs, 80, ["tuning=lora test/chrf>30"], "optimizer.lr")
    heading = lines[0].split()
    assert heading == ["id", "status", "what", "differs", "optimizer.lr", "test/chrf"]
    rates = [float(line.split()[-4]) for line in lines[1:-3]]
    assert rates == sorted(rates)
    assert len(rates) == 14
    assert "14 runs, sorted by optimizer.lr" in lines[-3]
    assert cli.main(["runs", "tuning=lora test/chrf>30", "--sort", "optimizer.lr", "--runs", str(runs)]) == 0
    assert "0.0002" in capsys.readouterr().out


def test_asked_columns_replace_the_metric_and_the_list_is_limited(runs):
    lines = table(runs, 100, columns=("test/bleu", "seconds"), limit=3)
    assert lines[0].split() == ["id", "status", "age", "what", "differs", "test/bleu", "change", "seconds"]
    assert [line.split()[0] for line in lines[1:4]] == ["000100", "000110", "000120"]
    assert lines[1].split()[-5:] == ["46.40", "[43.40,", "49.40]", "+29.15", "76"]
    assert "3 of 19 runs, oldest first" in lines[4]
    newest = table(runs, 100, is_reversed=True, limit=2)
    assert [line.split()[0] for line in newest[1:3]] == ["000120", "000110"]


def test_columns_without_a_change_keep_their_order(tmp_path):
    for number in range(2):
        record = write_run(tmp_path, number, [f"tuning.r={2**number}"], metrics=())
        record.write_summary(Summary(seconds=5.0, metrics={"test/bleu": {"after": systems(30.0)["after"]}}))
    for columns in itertools.permutations(("test/bleu", "seconds", "optimizer.lr")):
        assert table(tmp_path, 100, columns=columns)[0].split()[-3:] == list(columns)
    lines = table(tmp_path, 100, columns=("seconds",))
    assert "test/bleu" not in lines[0]
    assert lines[-1] == "also measured: test/bleu (--columns NAME,NAME)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("of_sweep", "others", "expected"),
    [
        (["test/rouge_l"], 2, "test/rouge_l"),
        (["val/missing", "test/bleu", "test/chrf"], 0, "test/bleu"),
        (["seconds"], 0, "val/chrf"),
        (["test/rouge_l"], 4, "test/rouge_l"),
        ([], 2, "val/chrf"),
    ],
)
def test_the_metric_of_a_sweep_is_shown(tmp_path, of_sweep, others, expected):
    for number in range(3 + others):
        facts = {"sweep": {"id": "s", "values": {"seed": number}, "metrics": of_sweep}} if number < 3 else {}
        write_run(tmp_path, number, [f"seed={number}"], **facts)
    lines = table(tmp_path, 120)
    assert expected in lines[0].split()
    assert not any(line.startswith("also measured") and f" {expected}," in line for line in lines)


def test_runs_are_grouped_by_a_key(runs):
    lines = table(runs, 80, columns=("tuning",), group="tuning")
    assert [line for line in lines if line.startswith("tuning=")] == [
        "tuning=lora: 16 runs",
        "tuning=dora: 1 run",
        "tuning=full: 1 run",
        "tuning=train_last_layers: 1 run",
    ]
    assert lines[lines.index("tuning=dora: 1 run") + 1].split()[0] == "000010"
    assert "tuning" not in lines[0].split()


def test_one_run_is_labelled_by_what_was_typed_and_none_is_an_answer(tmp_path):
    assert table(tmp_path, 80) == ["There are no runs yet: instruct-lab train"]
    write_run(tmp_path, 3, ["tuning=dora", "optimizer.lr=0.01"])
    assert "dora lr=0.01" in table(tmp_path, 80)[1]
    assert table(tmp_path, 80, ["tuning=full"]) == ["No run meets these conditions"]


def test_runs_without_results_are_listed(tmp_path):
    for number, status in enumerate(("running", "failed", "pruned")):
        write_run(tmp_path, number, [f"tuning.r={2**number}"], status)
    (next(tmp_path.glob("*/*-000010")) / "manifest.json").write_text("{")
    lines = table(tmp_path, 80)
    assert [line.split()[1] for line in lines[1:4]] == ["interrupted", "damaged", "pruned"]
    assert any(line.startswith("damaged (manifest.json): 2026") for line in lines)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("test/chfr>3", r"did you mean test/chrf \(in 16 of 19 runs\)\?"),
        ("val/accuracy/chrf>3", r"did you mean val/chrf \(in 16 of 19 runs\)\? Similar keys: test/chrf"),
        ("lr<3", r"did you mean optimizer\.lr \(in all 19 runs\)"),
        ("xyzzy=3", "A key is a group"),
    ],
)
def test_an_unknown_key_names_similar_ones_with_their_runs(runs, query, message):
    with pytest.raises(InstructLabError, match=message):
        find_runs(runs, [query])


def test_values_logged_during_training_are_found(tmp_path):
    for number in range(3):
        record = write_run(tmp_path, number, [f"seed={number}"])
        for step in range(3):
            record.append_metrics(step, 0.0, {"val/loss": 5.0 - number - step})
    assert [one.values["val/loss"] for one in find_runs(tmp_path, ["val/loss<3"], "val/loss")] == [1.0, 2.0]


@pytest.mark.parametrize("option", [["--limit", "0"], ["--limit", "x"]])
def test_a_limit_is_a_number_of_runs(runs, option):
    with pytest.raises(SystemExit) as refused:
        cli.main(["runs", "--runs", str(runs), *option])
    assert refused.value.code == 2


def test_the_command_honours_columns(runs, capsys, monkeypatch):
    for width in (80, 120, 160):
        monkeypatch.setenv("COLUMNS", str(width))
        assert cli.main(["runs", "--runs", str(runs)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= width
        assert len(lines) <= 25
    assert cli.main(["runs", "--runs", str(runs), "--json", "--limit", "2"]) == 0
    assert [one["label"] for one in json.loads(capsys.readouterr().out)] == [
        "r=8 dpo lr=0.0002",
        "r=64 supervised lr=1",
    ]


def test_short_ids_find_their_runs(tmp_path):
    ids = ["20260101-000000-aaaa1", "20260101-000000-aaaa1-0001", "20260102-000000-aaaa1", "aaaa1-0001", "x", "b-x"]
    for name in ids:
        write = tmp_path / "study" / name
        write.mkdir(parents=True)
        (write / "manifest.json").write_text(json.dumps({"id": name, "status": "finished"}))
    for name, short in short_ids(list_runs(tmp_path)).items():
        assert find_run(tmp_path, short).id == name
    assert short_ids(list_runs(tmp_path))["20260101-000000-aaaa1-0001"] == "20260101-000000-aaaa1-0001"


CELLS = st.text("ab 漢字\x1b", max_size=12)


@given(st.data(), st.integers(1, 100))
def test_lines_are_never_wider_than_the_least_columns_or_the_width(data, width):
    num_rows = data.draw(st.integers(0, 4))
    columns = [
        TextColumn(heading, data.draw(st.lists(CELLS, min_size=num_rows, max_size=num_rows)), rank)
        for rank, heading in enumerate(data.draw(st.lists(CELLS, max_size=5)))
    ]
    lines, left_out = lay_out(columns, width)
    shown = [column for column in columns if column.rank == 0 or column.heading not in left_out]
    least = columns[0].natural_width if columns else 0
    assert all(line.cell_len <= max(width, least) for line in lines)
    assert len(lines) == num_rows + 1 if columns else len(lines) == 1
    for before, after in itertools.pairwise(column.rank for column in shown):
        assert before < after


@pytest.mark.parametrize("sort", ["val/chrf", "test/bleu", "val/perplexity"])
def test_the_sorted_column_is_shown_before_others_that_were_asked_for(runs, sort):
    columns = ("val/bleu", "test/chrf", "test/perplexity", sort)
    assert sort in table(runs, 80, sort=sort, columns=columns)[0]


def test_a_list_of_names_fits_a_line():
    names = [f"val/metric_{number}" for number in range(20)]
    line = list_within("also measured", names, 80, hint="--columns NAME")
    assert len(line) <= 80
    assert line.startswith("also measured: val/metric_0, ")
    assert line.endswith("more (--columns NAME)")
    assert list_within("x", ["y"], 5) == "x: y"
    assert list_within("x", ["yyyyyyyy"], 5) == "x: 1"


@pytest.mark.parametrize(
    ("names", "width", "expected"),
    [
        (["a name that does not fit", "b", "c"], 25, "x: a name tha… and 2 more"),
        (["a name that does not fit"], 20, "x: a name that does…"),
        (["a name that does not fit", "b"], 18, "x: 2"),
    ],
)
def test_a_name_that_does_not_fit_is_shortened(names, width, expected):
    assert list_within("x", names, width) == expected
