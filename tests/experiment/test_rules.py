"""Rules between components: typed by `Experiment`, applied to what could be built, warnings apart from refusals."""

import importlib.util
import json
from typing import get_type_hints

import pytest

from instruct_lab import cli
from instruct_lab.config import Component
from instruct_lab.errors import Problem
from instruct_lab.experiment import Experiment, rules
from instruct_lab.experiment.check import check
from instruct_lab.experiment.rules.apply import Components, apply, parameter_types
from instruct_lab.experiment.rules.combinations import check_benchmarks
from instruct_lab.experiment.rules.monitoring import mode_argument, monitored_direction
from instruct_lab.metrics import LmEval
from instruct_lab.objective import Reward, Supervised
from instruct_lab.tuning import LoRA, Prompting, Tuning

STOPPING = "callbacks=[default,early_stopping]"


RULES = (*rules.COMBINATION_RULES, *rules.SETTING_RULES, *rules.TRAINING_RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_parameters_of_a_rule_are_fields_of_the_experiment(rule):
    fields = get_type_hints(Experiment)
    for name, kind in parameter_types(rule).items():
        field = Components if name == "components" else fields[name]
        narrower = isinstance(field, type) and issubclass(field, Component) and issubclass(kind, field)
        by_name = getattr(kind, "__origin__", None) is dict and str(field).startswith("dict")
        assert kind == field or narrower or by_name, f"{name}: {kind} is not {field}"


def test_a_rule_is_applied_only_if_its_components_were_built():
    def compares(tuning: LoRA, seed: int):
        yield Problem(key="tuning", reason=f"{tuning.r} {seed}")

    assert list(apply(compares, {"tuning": LoRA(r=3)})) == []
    assert [problem.reason for problem in apply(compares, {"tuning": LoRA(r=3), "seed": 1})] == ["3 1"]
    assert list(apply(compares, {"tuning": object(), "seed": 1})) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "direction"),
    [
        ("val/loss", "min"),
        ("train/loss", "min"),
        ("val/perplexity", "min"),
        ("val/chrf", "max"),
        ("val/ter", "min"),
        ("val/no_such_value", None),
    ],
)
def test_the_direction_of_a_monitored_value_is_that_of_its_metric(key, direction):
    assert monitored_direction(check(["metrics=translation"]).experiment, key) == direction


@pytest.mark.parametrize(("monitor", "mode"), [("val/loss", "min"), ("val/chrf", "max")])
def test_a_callback_of_another_library_gets_the_direction(monitor, mode):
    overrides = [STOPPING, f"callbacks.early_stopping.monitor={monitor}", "callbacks.early_stopping.mode=null"]
    experiment = check(overrides).or_refuse().experiment
    assert mode_argument(experiment.callbacks["early_stopping"], experiment) == {"mode": mode}


def test_a_stated_mode_against_the_metric_is_refused():
    overrides = [STOPPING, "callbacks.early_stopping.monitor=val/chrf", "callbacks.early_stopping.mode=min"]
    (problem,) = check(overrides).problems
    assert (problem.key, problem.suggestion) == ("callbacks.early_stopping.mode", "max")


@pytest.fixture
def warned(monkeypatch):
    """A rule that warns of every run."""

    def warns(tuning: Tuning):
        yield Problem(key="tuning", value=type(tuning).__name__, reason="for a test", kind="warning")

    monkeypatch.setattr(rules, "SETTING_RULES", (*rules.SETTING_RULES, warns))


@pytest.mark.slow
def test_a_warning_is_printed_and_refuses_nothing(warned, lab, tiny, capsys):
    line = "warning: tuning = 'LoRA': for a test.\n"
    assert cli.main(["check"]) == 0
    assert line in capsys.readouterr().err
    assert cli.main(["check", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["errors"] == []
    assert [warning["reason"] for warning in printed["warnings"]] == ["for a test"]
    assert cli.main(["train", *tiny, "trainer.max_steps=1", "evaluation.before=false"]) == 0
    assert line in capsys.readouterr().err


def test_what_a_machine_lacks_and_what_is_left_to_the_user_have_kinds_of_their_own(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name))
    kinds = {problem.key: problem.kind for problem in check(["data=local_alpaca", "tracker=tensorboard"]).problems}
    assert kinds["data.train.file.path"] == "missing"
    assert kinds["tracker.tensorboard"] == "unavailable_here"


def test_benchmarks_need_a_model_that_gives_text_and_have_prompts_of_their_own():
    def found(objective, tuning):
        return [(one.kind, one.key) for one in check_benchmarks({"mine": LmEval(tasks=["x"])}, objective, tuning)]

    assert found(Reward(), LoRA()) == [("error", "metrics.mine")]
    assert found(Supervised(), Prompting(shots=2)) == [("warning", "metrics.mine")]
    assert found(Supervised(), Prompting()) == found(Supervised(), LoRA()) == []
