"""What the number of examples of a sweep can show, as `check` says before anything has run."""

import json
import math

import pytest

from instruct_lab import cli

TINY = ["model=tiny_random", "tuning.r=4,8", "metrics=text"]


def lines_of(capsys, *overrides):
    assert cli.main(["check", "-m", "--json", *TINY, *overrides]) == 0
    return json.loads(capsys.readouterr().out)["precision"]


@pytest.mark.slow
@pytest.mark.parametrize("count", [24, 96, 400])
def test_the_limit_is_half_an_interval_of_the_typical_deviation(capsys, count):
    (line,) = lines_of(
        capsys, f"evaluation.max_examples={count}", "sweep.metric=test/chrf", "data.limit.validation=null"
    )
    assert line.startswith(f"{count} examples (test): differences under ±{1.96 * 17 / math.sqrt(count):.1f} chrf will")
    assert "one run each: training noise comes on top" in line


@pytest.mark.slow
def test_a_sweep_by_another_value_describes_all_metrics_of_all_splits(capsys):
    first, second = lines_of(capsys, "sweep.seeds=3", "evaluation.max_examples=96", "data.limit.validation=20")
    assert first.startswith("20 examples (val): ")
    assert second.startswith("96 examples (test): ")
    assert all(name in second for name in ("bleu", "chrf", "rougeL", "exact_match"))
    assert "perplexity" not in second
    assert "training noise" not in first + second


def test_an_unknown_number_of_examples_is_not_described(capsys):
    assert lines_of(capsys, "evaluation.max_examples=null", "data.limit.validation=null") == []


def test_the_line_is_printed_below_the_plan(capsys):
    assert cli.main(["check", "-m", *TINY, "sweep.metric=val/chrf"]) == 0
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first.startswith("ok: this is a sweep of 2 runs")
    assert second.strip().startswith("96 examples (val): differences under ±3.4 chrf will not be distinguishable")
