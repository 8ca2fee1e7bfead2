"""A step whose loss or gradient is not finite stops the run or is skipped, and the record names its cause."""

import itertools
import json

import pytest
import torch
from support.exhaustive import exhaustive
from support.records import logged, newest_run

import instruct_lab.training.module as training_module
from instruct_lab import cli

QUICK = [
    "evaluation.before=false",
    "evaluation.baselines=false",
    "evaluation.during_examples=0",
    "metrics=perplexity",
    "batching.batch_size=6",
    "trainer.accumulate_grad_batches=2",
    "trainer.max_epochs=2",
]


def manifest_of(record):
    return json.loads((record / "manifest.json").read_text())


@pytest.fixture
def spoil(monkeypatch):
    """Replace the loss of chosen micro-batches, counted from 0, by a function of it."""

    def install(batches, change):
        seen = []
        loss = training_module.TuningModule.training_step

        def training_step(self, batch, index):
            before = self._loss
            if len(seen) in batches:
                self._loss = lambda batch: change(before(batch))
            seen.append(batch.ids)
            try:
                return loss(self, batch, index)
            finally:
                self._loss = before

        monkeypatch.setattr(training_module.TuningModule, "training_step", training_step)
        return seen

    return install


def with_sums(loss, sums):
    return type(loss)(sums, loss.counts, loss.values)


def one_example(value):
    def change(loss):
        factor = torch.ones_like(loss.sums)
        factor[1] = value
        return with_sums(loss, loss.sums * factor)

    return change


class _BadGradient(torch.autograd.Function):
    @staticmethod
    def forward(context, value):
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * float("inf")


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), exhaustive(float("inf"))])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_example(lab, tiny, spoil, capsys, value):
    seen = spoil({5}, one_example(value))
    assert cli.main(["train", *tiny, *QUICK]) == 1
    message = capsys.readouterr().err
    assert f"The training loss is {value}" in message
    assert f"(examples {seen[5][1]}; first parameter with non-finite gradient: " in message
    assert "optimizer step 3" in message
    assert manifest_of(newest_run(lab))["exception"]["message"].startswith(f"The training loss is {value}")


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_stops_the_run_although_the_loss_is(lab, tiny, spoil, capsys):
    seen = spoil({2}, lambda loss: with_sums(loss, _BadGradient.apply(loss.sums)))
    assert cli.main(["train", *tiny, *QUICK]) == 1
    message = capsys.readouterr().err
    assert "The gradient is not finite" in message
    assert all(name in message for name in [*seen[2], *seen[3]][:8])
    assert "lora" in message


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", ["adamw", "galore", "schedule_free_adamw", *map(exhaustive, ("lion", "muon", "adafactor"))]
)
def test_a_skipped_step_changes_no_weight(lab, tiny, spoil, optimizer, monkeypatch):
    weights = []
    log_step = training_module.TuningModule.log_step

    def log(self):
        if self.step_ended:
            weights.append([p.detach().clone() for p in self.model.parameters() if p.requires_grad])
        log_step(self)

    monkeypatch.setattr(training_module.TuningModule, "log_step", log)
    spoil({5}, one_example(float("nan")))
    rank = ["optimizer.rank=4"] if optimizer == "galore" else []
    options = [*rank, f"optimizer={optimizer}", "optimizer.nonfinite=skip_step", "optimizer.weight_decay=0.1"]
    assert cli.main(["train", *tiny, *QUICK, *options]) == 0
    record = newest_run(lab)
    (entry,) = manifest_of(record)["skipped_steps"]
    assert (entry["step"], entry["loss"], len(entry["examples"])) == (3, "nan", 1)
    changed = [any(not torch.equal(a, b) for a, b in zip(*pair, strict=True)) for pair in itertools.pairwise(weights)]
    assert changed[:3] == [True, False, True]
    losses = dict(logged(record, "train/loss"))
    assert losses[3] is None
    assert losses[4] is not None
    tokens = dict(logged(record, "train/target_tokens"))
    assert tokens[3] == tokens[2] < tokens[4]
    assert "optimizer step 3 is skipped" in (record / "log.txt").read_text()


@pytest.mark.slow
def test_a_run_in_which_no_step_is_finite_stops(lab, tiny, spoil, capsys):
    spoil(set(range(1000)), one_example(float("nan")))
    many = ["optimizer.nonfinite=skip_step", "trainer.max_epochs=10"]
    assert cli.main(["train", *tiny, *QUICK, *many]) == 1
    assert "after 10 skipped steps" in capsys.readouterr().err
    assert len(manifest_of(newest_run(lab))["skipped_steps"]) == 10
