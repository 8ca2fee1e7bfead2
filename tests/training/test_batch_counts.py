"""Limits and intervals of the trainer are checked against the number of batches, as Lightning counts them."""

import json

import pytest
import pytorch_lightning as pl
import torch
from support.records import newest_run
from torch.utils.data import DataLoader

from instruct_lab import cli
from instruct_lab.errors import InstructLabError
from instruct_lab.training.batch_counts import check_batch_counts, count_batches, count_validations

QUIET = {
    "logger": False,
    "accelerator": "cpu",
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


class Counter(pl.LightningModule):
    """Counts what Lightning does."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.num_validations = 0

    def training_step(self, batch):
        return self.layer(batch).sum()

    def validation_step(self, batch):
        pass

    def on_validation_epoch_end(self):
        self.num_validations += 1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def loader(batches):
    return DataLoader(torch.zeros(batches, 1), batch_size=1)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{"max_epochs": 1}, {"max_epochs": 3}, {"max_epochs": -1, "max_steps": 4}])
@pytest.mark.parametrize("limit", [None, 3, 0.5])
@pytest.mark.parametrize(("interval", "every"), [(1.0, 1), (0.5, 1), (2, 1), (6, 1), (6, None), (20, None), (2, 3)])
def test_the_checks_agree_with_lightning(arguments, limit, interval, every):
    settings = {"val_check_interval": interval, "check_val_every_n_epoch": every, "accumulate_grad_batches": 2}
    trainer = pl.Trainer(**QUIET, **settings, **arguments, limit_train_batches=limit)
    model, fails = Counter(), False
    try:
        trainer.fit(model, loader(8), loader(2))
    except ValueError:
        fails = True
    fresh = pl.Trainer(**QUIET, **settings, **arguments, limit_train_batches=limit)
    if fails:
        with pytest.raises(InstructLabError, match="Set it to"):
            check_batch_counts(fresh, 8, 2)
    else:
        assert (check_batch_counts(fresh, 8, 2) is None) == bool(model.num_validations)
        total = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        assert count_validations(interval, every, count_batches(limit, 8), total) == model.num_validations


def test_validations_by_time_are_not_counted():
    assert count_validations("00:01:00:00", None, 8, 80) == 0
    assert count_validations(None, 1, 8, 80) == 10


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("share", "length"), [(0.1, 9), (0.3, 3), (0.01, 8)])
def test_the_named_share_is_the_smallest_that_leaves_a_batch(split, share, length):
    def check_share(value):
        trainer = pl.Trainer(**QUIET, max_epochs=1, **{f"limit_{split}_batches": value})
        return check_batch_counts(trainer, length, length)

    with pytest.raises(InstructLabError, match=f"trainer.limit_{split}_batches") as caught:
        check_share(share)
    check_share(float(str(caught.value).split("at least ")[1].split(",")[0]))


def test_without_validation_only_the_training_batches_are_checked():
    trainer = pl.Trainer(**QUIET, max_epochs=1, val_check_interval=100)
    assert check_batch_counts(trainer, 2, 0) is None
    with pytest.raises(InstructLabError, match="No batch is left"):
        check_batch_counts(pl.Trainer(**QUIET, max_epochs=1, limit_train_batches=0), 2, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("trainer.val_check_interval=100", "an epoch has only"),
        ("trainer.limit_val_batches=0.001", "less than one of"),
        ("trainer.limit_train_batches=0", "No batch is left"),
    ],
)
def test_a_run_is_refused_before_the_model_is_loaded(lab, tiny, capsys, monkeypatch, override, expected):
    from instruct_lab.training.workspace import Workspace

    monkeypatch.setattr(Workspace, "base", lambda *arguments, **options: pytest.fail("loaded"))
    assert cli.main(["train", *tiny, override]) == 1
    assert expected in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_ends_before_its_first_validation_warns_of_it(lab, tiny, capsys):
    late = ["trainer.val_check_interval=100", "trainer.check_val_every_n_epoch=null", "trainer.max_steps=1"]
    assert cli.main(["train", *tiny, *late]) == 0
    assert "first validation would be at batch 100" in " ".join("".join(capsys.readouterr()).split())
    [audit] = (lab / "runs").glob("*/*/audit.json")
    assert any("first validation" in text for text in json.loads(audit.read_text())["facts"]["warnings"])


@pytest.mark.slow
def test_a_run_of_a_sweep_that_would_not_measure_its_metric_is_refused_before_the_model_is_loaded(lab, tiny):
    late = ["trainer.max_steps=1", "evaluation.splits=[validation]", 'sweep.points=["tuning.r=2"]']
    for metric, status in (("val/loss", "failed"), ("val/chrf", "finished"), ("train/loss", "finished")):
        assert cli.main(["train", "-m", *tiny, *late, f"sweep.metric={metric}"]) == int(status == "failed")
        manifest = json.loads((newest_run(lab) / "manifest.json").read_text())
        assert manifest["status"] == status
        if status == "failed":
            assert "The sweep compares its runs by val/loss" in manifest["exception"]["message"]
            assert not (newest_run(lab) / "metrics.jsonl").exists()
