"""A study's report: its question, its command, and the results of its own runs."""

import pytest

from instruct_lab import cli
from instruct_lab.sweep.report import read_study

STUDY = """# @package _global_
# ranks: which rank is enough
# for this?
# Command: instruct-lab train experiments=ranks
# Cost: a few seconds.
sweep:
  metric: val/perplexity
  space:
    tuning.r: 2,4
"""
SHORT = ["trainer.max_steps=2", "evaluation.before=false", "evaluation.splits=[validation]", "metrics=perplexity"]


@pytest.fixture
def ranks(lab):
    (lab / "experiments").mkdir()
    (lab / "experiments" / "ranks.yaml").write_text(STUDY)
    return lab


def test_a_study_has_a_question(ranks):
    study = read_study("ranks")
    assert study.question == "which rank is enough for this?"
    assert study.fields == {"Command": "instruct-lab train experiments=ranks", "Cost": "a few seconds."}


@pytest.mark.slow
def test_the_report_of_a_sweep_and_of_one_run(ranks, tiny, capsys):
    assert cli.main(["report", "ranks"]) == 2
    assert "run it: instruct-lab train experiments=ranks" in capsys.readouterr().err
    assert cli.main(["train", *tiny, *SHORT, "experiments=ranks", "tuning.r=2"]) == 0
    capsys.readouterr()
    assert cli.main(["report", "ranks"]) == 0
    assert "| val/perplexity |" in capsys.readouterr().out
    assert cli.main(["train", *tiny, *SHORT, "experiments=ranks"]) == 0
    assert cli.main(["report", "ranks", "--output", "ranks.md"]) == 0
    written = (ranks / "ranks.md").read_text(encoding="utf-8")
    assert "which rank is enough for this?" in written
    assert "**Conclusion.** Best by val/perplexity: r=" in written
    assert "- Runs: 2 finished, of 2 planned" in written
    assert "instruct-lab train experiments=ranks data=mine" in written


def test_an_unknown_study_is_refused_with_the_nearest(ranks, capsys):
    assert cli.main(["report", "rank"]) == 2
    assert "ranks" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("header", ["", "# @package _global_\n"])
def test_a_study_needs_no_package_header(ranks, tiny, header):
    (ranks / "experiments" / "plain.yaml").write_text(f"{header}# plain: is it?\ntuning:\n  r: 3\n")
    assert cli.main(["check", *tiny, "experiments=plain"]) == 0
