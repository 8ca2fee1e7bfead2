"""What `check` and `train` print before a run: length, batch, learning rate and its origin, device, evaluation."""

import pytest

from instruct_lab import cli
from instruct_lab.experiment.check import check
from instruct_lab.experiment.overview import settings_overview


def overview(*overrides):
    checked = check(["model=tiny_random", *overrides]).or_refuse()
    return dict(settings_overview(checked.experiment, checked.composition.derived, list(overrides)))


@pytest.mark.parametrize(
    ("overrides", "rate"),
    [
        ([], "0.002 (the rate that suits LoRA), AdamW, schedule Cosine"),
        (["tuning=full"], "(the rate that suits Full)"),
        (["optimizer.lr=1e-4"], "0.0001 (typed: optimizer.lr=1e-4)"),
        (
            ["++optimizer.lr=0.003", "lr_scheduler=constant"],
            "0.003 (typed: ++optimizer.lr=0.003), AdamW, schedule Constant",
        ),
    ],
)
def test_the_learning_rate_has_its_origin(overrides, rate):
    assert rate in overview(*overrides)["learning rate"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "training"),
    [
        ([], "1 epoch; 8 examples a step"),
        (["batching.batch_size=4", "trainer.accumulate_grad_batches=3"], "12 examples a step (4 × 3 batches)"),
        (["batching.micro_batch=2"], "8 examples a step, computed 2 at a time"),
        (["trainer.max_epochs=null", "+trainer.max_steps=1500"], "1,500 steps; 8"),
        (["trainer.max_epochs=3", "+trainer.max_steps=20"], "3 epochs, at most 20 steps; 8"),
        (["trainer=ddp", "trainer.devices=2"], "16 examples a step (8 × 2 devices)"),
    ],
)
def test_the_length_and_the_batch_are_those_of_the_trainer(overrides, training):
    assert training in overview(*overrides)["training"]


def test_a_method_that_trains_nothing_has_no_learning_rate():
    found = overview("tuning=few_shot")
    assert "learning rate" not in found
    assert found["training"].startswith("none")


def test_the_evaluation_and_the_device_are_named():
    found = overview(
        "evaluation.max_examples=null", "evaluation.before=false", "evaluation.splits=[test]", "trainer=cpu"
    )
    assert found["evaluation"] == "all examples of test, after training"
    assert found["device"].startswith("cpu, precision 32-true")


def test_check_prints_it_and_says_what_is_known_later(capsys):
    assert cli.main(["check", "model=tiny_random"]) == 0
    printed = capsys.readouterr().out
    assert "    learning rate  0.002 (the rate that suits LoRA), AdamW" in printed
    assert "    known later    examples, steps" in printed


@pytest.mark.parametrize("width", [80, 120, 160])
def test_lines_fit_the_width_and_numbers_stay_whole(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.main(["check", "model=tiny_random", "trainer.max_epochs=null", "+trainer.max_steps=123456789"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("    training "))
    assert all(len(line.rstrip()) <= width for line in lines[start:])
    assert "123,456,789 steps" in " ".join(" ".join(lines[start:]).split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["-m", "tuning.r=4,8"], 2),
        (["-m", "tuning.r=4,8", "seed=1,2,3"], 6),
        (["sweep.seeds=5"], 5),
        (["experiments=lora_rank", "tuning.r=2"], None),
        (["experiments=lora_rank"], "some"),
    ],
)
def test_check_says_that_a_config_is_a_sweep(capsys, arguments, count):
    code = cli.main(["check", "model=tiny_random", *arguments])
    printed = capsys.readouterr().out
    assert code == 0
    if count is None:
        return
    assert "this is a sweep of " in printed
    if isinstance(count, int):
        assert f"this is a sweep of {count} runs" in printed
