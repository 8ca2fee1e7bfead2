"""The printed table of results fits the terminal without breaking numbers."""

import io
import re

import pytest
from rich.cells import cell_len

from instruct_lab.evaluation.result import fitting_table, show_sample
from instruct_lab.generation import Prediction
from instruct_lab.metrics import MetricValue
from instruct_lab.records.measurement import Measurement
from instruct_lab.records.schema import AFTER, BEFORE
from instruct_lab.terminal import open_console


def values(*systems):
    return {
        system: MetricValue(12.345 * (index + 1), 1.5 * index - 3, 123.456 + index, count=96, signature="s")
        for index, system in enumerate(systems)
    }


def printed(width, *systems, metrics=("perplexity", "chrf", "exact_match_after_normalization")):
    found = {f"test/{name}": values(*systems, "difference") for name in metrics}
    console = open_console(file=io.StringIO(), width=width)
    console.print(fitting_table("test: 96 held-out examples", "test", list(systems), found, console))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 160])
@pytest.mark.parametrize(
    "systems", [("after",), ("before", "after"), ("before", "nearest", "after"), ("before", "nearest", "copy", "after")]
)
def test_numbers_are_whole_and_lines_fit(width, systems):
    text = printed(width, *systems)
    assert all(cell_len(line) <= width for line in text.splitlines())
    assert "…" not in text
    left_out = text.partition("left out")[2].partition(":")[2].replace(",", " ").split()
    assert not {"before", "after"} & {*left_out}
    num_columns = len(systems) - len(left_out) + 1  # the difference too
    assert len(re.findall(r"[+-]?\d+\.\d+", text)) == 3 * 3 * num_columns


def test_a_wide_terminal_shows_everything_on_one_line():
    text = printed(200, "before", "nearest", "copy", "after")
    assert "left out" not in text
    assert "12.35 [-3.00, 123.46]" in text


def test_a_narrow_terminal_leaves_baselines_out_and_names_them():
    text = printed(80, "before", "nearest", "copy", "after")
    assert "nearest" not in text.partition("left out")[0]
    assert re.search(r"left out, since the terminal is narrow: .*copy", text)
    assert "untuned" in text
    assert "tuned - untuned" in text


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("answer", ["", "one\ntwo\n\nthree", "first " + "word " * 60])
def test_a_sample_stays_in_its_column(width, answer):
    measured = Measurement(predictions=[Prediction("7", "test", "Ask?", answer, ("Yes.",))])
    systems = {BEFORE: measured, AFTER: measured}
    console = open_console(file=io.StringIO(), width=width)
    show_sample(console, "test", 0, systems)
    lines = console.file.getvalue().splitlines()[1:]
    assert all(line[:13].strip() in ("prompt", "reference", "untuned", "tuned", "") for line in lines)
    assert all(cell_len(line) <= width for line in lines)
    shown = " ".join(" ".join(line[13:] for line in lines).split())
    assert shown.count(" ".join(answer.split())[:30] or "(empty)") == 2
