"""Values that follow from other choices, from the machine, or from the training answers."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab import cli
from instruct_lab.batching.answer_lengths import AnswerLengths
from instruct_lab.config import ExternalClass
from instruct_lab.experiment.check import check
from instruct_lab.experiment.rules.trainer import TRAINER
from instruct_lab.experiment.settled import settle_answers, suitable_precision, usual_answer
from instruct_lab.model import hardware


@pytest.fixture(scope="module")
def default():
    return check(["model=tiny_random"]).or_refuse().experiment


# ---- the maximum length of answers


@given(st.integers(1, 5000))
def test_a_usual_length_is_rounded_up_to_a_multiple_of_eight(usual):
    value, origin = usual_answer(usual)
    assert value % 8 == 0
    assert usual <= value < usual + 8
    assert origin == f"99% of the training answers have at most {usual}"


@given(
    usual=st.integers(1, 400),
    max_tokens=st.none() | st.integers(2, 300),
    prompt=st.none() | st.integers(0, 300),
    context=st.none() | st.integers(1, 500),
)
def test_the_length_of_answers_fits_examples_and_context(default, usual, max_tokens, prompt, context):
    experiment = dataclasses.replace(default, batching=dataclasses.replace(default.batching, max_tokens=max_tokens))
    settled, found = settle_answers(experiment, AnswerLengths(usual, prompt), context)
    value = settled.generation.max_new_tokens
    assert value == found.value >= 1
    assert max_tokens is None or value <= max_tokens
    if prompt is not None and context is not None:
        assert prompt + value <= max(context, prompt + 1)
    rounded = usual_answer(usual).value
    room = rounded if None in (prompt, context) else context - prompt
    assert value == max(1, min(rounded, max_tokens or rounded, room))
    assert ("; " in found.origin) == (value < rounded)


def test_without_training_answers_there_is_a_fixed_limit_that_says_so(default):
    _, found = settle_answers(default, AnswerLengths(), None)
    assert found.value == 64
    assert "no training answer" in found.origin


def test_a_set_length_wins_and_a_model_that_writes_nothing_has_none(default):
    chosen = dataclasses.replace(default, generation=dataclasses.replace(default.generation, max_new_tokens=5))
    assert settle_answers(chosen, AnswerLengths(300), None) == (chosen, None)
    checked = check(["objective=masked", "model=tiny_encoder", "metrics=masked", "template=plain"])
    encoder = checked.or_refuse().experiment
    assert settle_answers(encoder, AnswerLengths(300), None) == (encoder, None)
    assert "generation.max_new_tokens" not in checked.composition.derived


@pytest.mark.slow
def test_check_and_show_say_where_values_come_from(capsys):
    assert cli.main(["check", "model=tiny_random"]) == 0
    printed = capsys.readouterr().out
    assert "generation.max_new_tokens follows from the training answers" in printed
    assert "optimizer.lr = " in printed
    assert "trainer.precision = 32-true follows from" in printed
    assert cli.main(["show", "model=tiny_random"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "max_new_tokens" in line)
    assert "null" in line
    assert line.split("#")[1].strip().startswith("the training answers")
    assert cli.main(["check", "model=tiny_random", "generation.max_new_tokens=9"]) == 0
    assert "max_new_tokens" not in capsys.readouterr().out


# ---- precision


def trainer(**arguments):
    return ExternalClass(TRAINER, arguments)


@pytest.mark.parametrize(
    ("arguments", "computes", "precision"),
    [
        ({}, True, "bf16-mixed"),
        ({"accelerator": "gpu"}, True, "bf16-mixed"),
        ({"accelerator": "cuda", "precision": None}, True, "bf16-mixed"),
        ({"accelerator": "cpu"}, True, "32-true"),
        ({"accelerator": "mps"}, True, "32-true"),
        ({}, False, "32-true"),
        ({"accelerator": "gpu"}, False, "32-true"),
        ({"precision": "16-mixed"}, True, None),
        ({"precision": "32-true"}, True, None),
        ({"plugins": ["a plugin for the precision"]}, True, None),
    ],
)
def test_the_precision_follows_from_the_device_unless_it_is_set(monkeypatch, arguments, computes, precision):
    monkeypatch.setattr(hardware, "computes_bfloat16", lambda: computes)
    found = suitable_precision(trainer(**arguments))
    assert (found and found.value) == precision


@pytest.mark.parametrize("options", [[], ["trainer=gpu"], ["trainer=ddp"]], ids=str)
def test_a_run_on_a_gpu_records_bfloat16_with_its_origin(monkeypatch, options):
    monkeypatch.setattr(hardware, "computes_bfloat16", lambda: True)
    monkeypatch.setattr(hardware, "no_gpu", lambda: None)
    checked = check(["model=tiny_random", *options]).or_refuse()
    assert checked.resolved["trainer"]["precision"] == "bf16-mixed"
    assert checked.experiment.trainer.arguments["precision"] == "bf16-mixed"
    assert checked.experiment.evaluation_setup.precision == "bf16-mixed"
    assert "bfloat16" in checked.composition.derived["trainer.precision"]


@pytest.mark.parametrize("options", [[], ["trainer=cpu"], ["trainer=ddp"]], ids=str)
def test_without_such_a_gpu_the_precision_is_float32(monkeypatch, options):
    monkeypatch.setattr(hardware, "computes_bfloat16", lambda: False)
    assert check(["model=tiny_random", *options]).or_refuse().resolved["trainer"]["precision"] == "32-true"
