"""Fields that exclude or describe each other, set by an option, a study and an override."""

import json

import pytest

from instruct_lab import cli
from instruct_lab.experiment.check import check

OWN = """# own: a cosine whose warm-up is given in steps
defaults: [cosine, _self_]
warmup_steps: 7
"""
STUDY = """# @package _global_
# warm: a warm-up in steps
defaults:
  - override /lr_scheduler: linear
lr_scheduler:
  warmup_steps: 9
"""
COMMIT = "12fd25f77366fa6b3b4b768ec3050bf629380bac"


def settled(tiny, *overrides):
    return check([*tiny, *overrides]).or_refuse()


def problems(tiny, *overrides):
    return {problem.key: str(problem) for problem in check([*tiny, *overrides]).problems}


@pytest.fixture
def options(lab):
    (lab / "conf" / "lr_scheduler").mkdir()
    (lab / "conf" / "lr_scheduler" / "own.yaml").write_text(OWN)
    (lab / "experiments").mkdir()
    (lab / "experiments" / "warm.yaml").write_text(STUDY)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "steps", "ratio"),
    [
        ([], None, 0.05),
        (["lr_scheduler.warmup_steps=10"], 10, None),
        (["lr_scheduler=wsd", "lr_scheduler.warmup_steps=0"], 0, None),
        (["lr_scheduler.warmup_ratio=0.2"], None, 0.2),
        (["lr_scheduler=own"], 7, None),
        (["lr_scheduler=own", "lr_scheduler.warmup_ratio=0.2"], None, 0.2),
        (["lr_scheduler=own", "lr_scheduler.warmup_steps=null"], None, 0.05),
        (["experiments=warm"], 9, None),
        (["experiments=warm", "lr_scheduler.warmup_ratio=0.2"], None, 0.2),
        (["experiments=warm", "lr_scheduler=own"], 9, None),
    ],
)
def test_of_two_exclusive_fields_the_one_that_was_set_later_counts(options, tiny, overrides, steps, ratio):
    checked = settled(tiny, *overrides)
    scheduler = checked.experiment.lr_scheduler
    assert (scheduler.warmup_steps, scheduler.warmup_ratio) == (steps, ratio)
    recorded = checked.resolved["lr_scheduler"]
    assert (recorded.get("warmup_steps"), recorded["warmup_ratio"]) == (steps, ratio)


@pytest.mark.parametrize("overrides", [["warmup_steps=10", "warmup_ratio=0.1"], ["warmup_ratio=0", "warmup_steps=0"]])
def test_two_exclusive_fields_that_are_both_typed_are_refused(lab, tiny, overrides):
    found = problems(tiny, *(f"lr_scheduler.{text}" for text in overrides))
    assert "both are set" in found["lr_scheduler.warmup_steps"]


def test_a_mapping_sets_the_fields_in_it(lab, tiny):
    checked = settled(tiny, "lr_scheduler={_target_: instruct_lab.lr_scheduler.Linear, warmup_steps: 3}")
    assert checked.experiment.lr_scheduler.warmup_steps == 3


def test_a_sweep_over_one_of_them_runs(lab, tiny):
    assert cli.main(["check", "-m", *tiny, "lr_scheduler.warmup_steps=0,10"]) == 0


def test_show_names_the_reason_of_the_null(lab, tiny, capsys):
    assert cli.main(["show", *tiny, "--json", "lr_scheduler.warmup_steps=10"]) == 0
    origins = json.loads(capsys.readouterr().out)["origins"]
    assert origins["lr_scheduler.warmup_ratio"] == "null, because lr_scheduler.warmup_steps is set"
    assert origins["lr_scheduler.warmup_steps"] == "override"


def test_a_path_replaces_the_package_of_an_option(lab, tiny):
    (lab / "model.gguf").write_bytes(b"GGUF")
    model = settled(tiny, "model=smollm2_135m", "model.weights.path=model.gguf").experiment.model
    assert model.weights.asset is None
    assert model.declared_facts is None


@pytest.mark.slow
def test_a_revision_is_not_kept_for_another_repository(lab, tiny):
    hub = [*tiny, "model=smollm2_135m_hub", "model.weights.repository=owner/other"]
    assert "set model.weights.revision too" in problems(hub)["model.weights.revision"]
    for revision in ("main", COMMIT):
        model = settled(hub, f"model.weights.revision={revision}").experiment.model
        assert (model.weights.repository, model.weights.revision) == ("owner/other", revision)
        assert model.declared_facts is None
    model = settled([*tiny, "model=smollm2_135m_hub"]).experiment.model
    assert model.weights.revision == COMMIT
    assert model.declared_facts.hidden_size == 576


@pytest.mark.slow
def test_the_revision_of_a_data_set_or_a_tokenizer_is_not_kept_either(lab, tiny):
    found = problems(tiny, "data=alpaca_hub", "data.train.hub.repository=owner/rows")
    assert "another repository" in found["data.train.hub.revision"]
    tokenizer = ["model.tokenizer.source=owner/words", "model.tokenizer.revision=v2"]
    (lab / "conf" / "tokenizer").mkdir()
    (lab / "conf" / "tokenizer" / "pinned.yaml").write_text(
        "# @package model.tokenizer\n# pinned: another tokenizer\n_target_: instruct_lab.model.Tokenizer\n"
        "source: owner/words\nrevision: v1\n"
    )
    changed = settled(tiny, "tokenizer=pinned", tokenizer[0]).experiment.model.tokenizer
    assert changed.revision is None
    assert settled(tiny, "tokenizer=pinned", *tokenizer).experiment.model.tokenizer.revision == "v2"
    assert settled(tiny, "tokenizer=pinned").experiment.model.tokenizer.revision == "v1"


def test_a_study_that_changes_the_repository_sets_the_revision_too(lab, tiny):
    (lab / "experiments").mkdir()
    text = "# @package _global_\n# other: another model\ndefaults: [override /model: smollm2_135m_hub]\n"
    text += "model:\n  weights:\n    repository: owner/other\n"
    (lab / "experiments" / "other.yaml").write_text(text)
    assert "model.weights.revision" in problems(tiny[:1] + tiny[2:], "experiments=other")
    (lab / "experiments" / "other.yaml").write_text(text + "    revision: main\n")
    assert settled(tiny[:1] + tiny[2:], "experiments=other").experiment.model.weights.revision == "main"


@pytest.mark.slow
@pytest.mark.parametrize("option", ["hub", "hub_encoder", "hub_encoder_decoder"])
def test_a_repository_without_an_option_needs_only_its_name(lab, option):
    rest = ["data=mine", "tracker=none"]
    if option != "hub":
        rest += ["template=contents"]
    if option == "hub_encoder":
        rest += ["objective=masked", "metrics=masked", "tuning=full"]
    assert "model.weights.repository" in problems([f"model={option}", *rest])
    weights = settled([f"model={option}", *rest], "model.weights.repository=owner/name").experiment.model.weights
    assert (weights.repository, weights.revision) == ("owner/name", "main")
