"""Null removes an entry that exists; the name of an entry that does not exist is refused."""

import pytest
from support.lab import data_set, mixture, write_data

from instruct_lab.errors import ConfigError
from instruct_lab.experiment.check import check
from instruct_lab.sweep.plan import plan


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("preprocessing.steps.deduplicte=null", "deduplicate"),
        ("metrics.chfr=null", "chrf"),
        ("callbacks.progres=null", "progress"),
        ("tracker.wandbb=null", "wandb"),
        ("data.train.mime=null", "mine"),
        ("data.format.roles.bot=null", None),
    ],
)
def test_an_entry_that_does_not_exist_cannot_be_removed(lab, override, meant):
    write_data(lab, "mine", data_set("rows.jsonl", row_format="Messages"))
    found = [one for one in check(["data=mine", override]).problems if one.kind == "unknown_key"]
    assert [(one.key, one.suggestion) for one in found] == [(override.partition("=")[0], meant)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["preprocessing.steps.deduplicate=null", "metrics.chrf=null", "callbacks.progress=null", "tracker.wandb=null"],
        ["metrics=translation", "metrics.ter=null"],
        ["metrics=[text,translation]", "metrics.ter=null", "metrics.rouge1=null"],
        ["preprocessing/step=[redact]", "preprocessing.steps.redact=null"],
        ["+callbacks.more={_target_: instruct_lab.callbacks.Progress}", "callbacks.more=null"],
        ["model=tiny_random", "model.weights.settings.sliding_window=null"],
        ["tuning.alpha=null", "evaluation.max_examples=null", "data.limit.train=null"],
    ],
)
def test_null_removes_what_is_set_and_is_a_value_elsewhere(lab, overrides):
    checked = check(["data=mine", *overrides])
    assert [str(one) for one in [*checked.problems, *checked.warnings] if "null removes" in one.reason] == []


@pytest.mark.slow
def test_parts_of_a_mixture_are_entries(lab):
    one = data_set("rows.jsonl", validation=0.2)
    write_data(lab, "mixed", mixture(a=one, b=one, c=one))
    assert check(["data=mixed", "data.parts.c=null"]).problems == []
    (problem,) = check(["data=mixed", "data.parts.d=null"]).problems
    assert "the entries are a, b, c" in problem.reason


def test_a_study_that_removes_nothing_is_a_warning(lab):
    (lab / "experiments").mkdir()
    study = "# @package _global_\n# mine: fewer callbacks\ncallbacks:\n  progress: null\n  progres: null\n"
    (lab / "experiments" / "mine.yaml").write_text(study, encoding="utf-8")
    checked = check(["experiments=mine", "data=mine"])
    assert checked.problems == []
    assert [(one.key, one.kind) for one in checked.warnings if "null" in one.reason] == [
        ("callbacks.progres", "warning")
    ]


@pytest.mark.slow
def test_each_point_of_a_sweep_is_checked(lab):
    assert plan(["data=mine", "preprocessing=standard,strict", "preprocessing.steps.deduplicate=null"]).num_points == 2
    with pytest.raises(ConfigError, match=r"preprocessing\.steps\.redact.*no entry has this name"):
        plan(["data=mine", "preprocessing=standard,strict", "preprocessing.steps.redact=null"])
