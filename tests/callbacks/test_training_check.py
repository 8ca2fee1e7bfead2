"""Training that leaves trained parameters as they are, or changes frozen ones, is reported."""

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist

from instruct_lab.callbacks.training_check import TrainingCheck
from instruct_lab.errors import InstructLabError


class Layers(pl.LightningModule):
    """Four layers; tests say which are frozen, unused or too coarse to change."""

    def __init__(self, lr=0.1):
        super().__init__()
        torch.manual_seed(0)
        self.automatic_optimization = True
        self.first, self.second, self.third = (torch.nn.Linear(3, 3, bias=False) for _ in range(3))
        self.lr, self.used = lr, ["first", "second", "third"]

    def training_step(self, batch, index):
        hidden = batch
        for name in self.used:
            hidden = getattr(self, name)(hidden)
        return (hidden - 1).square().sum()

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=self.lr)


def fit(module, steps=12, *callbacks):
    warnings = []
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        **options,
        enable_model_summary=False,
        accelerator="cpu",
        max_steps=steps,
        callbacks=[TrainingCheck(warnings.append), *callbacks],
    )
    trainer.fit(module, torch.utils.data.DataLoader(0.1 * torch.ones(40, 3), batch_size=1))
    return warnings


def test_a_sound_run_has_no_warning():
    module = Layers()
    module.second.requires_grad_(False)
    assert fit(module) == []


def test_factors_that_start_at_zero_get_their_gradient_at_the_second_step():
    module = Layers()
    torch.nn.init.zeros_(module.third.weight)  # as B in LoRA: the others have no gradient at first
    assert fit(module, 3) == []
    module = Layers()
    torch.nn.init.zeros_(module.third.weight)
    assert fit(module, 1) == []


@pytest.mark.parametrize("steps", [3, 12])
def test_an_unused_parameter_is_named(steps, capsys):
    module = Layers()
    module.used = ["first", "third"]
    (warning,) = fit(module, steps)
    assert warning.startswith("1 of 3 trained parameters received no gradient in the first")
    assert "second.weight" in warning
    assert "first.weight" not in warning
    assert f"warning: {warning}" in capsys.readouterr().err


def test_a_run_in_which_nothing_receives_a_gradient_is_stopped():
    module = Layers()
    torch.nn.init.zeros_(module.first.weight)
    torch.nn.init.zeros_(module.third.weight)
    torch.nn.init.zeros_(module.second.weight)
    with pytest.raises(InstructLabError, match=r"3 of 3 trained parameters received no gradient in the first 10"):
        fit(module)


@pytest.mark.parametrize("lr", [0.0, 1e-30])
def test_a_trained_parameter_that_does_not_change_is_named(lr):
    (warning,) = fit(Layers(lr))
    assert warning.startswith("3 of 3 trained parameters did not change in 12 steps: first.weight, ")
    assert "torch.float32" in warning


class Touch(pl.Callback):
    def __init__(self, name):
        self.name = name

    def on_train_batch_end(self, trainer, pl_module, *arguments):
        with torch.no_grad():
            getattr(pl_module, self.name).weight[0, 0] += 1


def test_a_frozen_parameter_that_changes_is_named():
    module = Layers()
    module.second.requires_grad_(False)
    (warning,) = fit(module, 12, Touch("second"))
    assert warning == "1 frozen parameters changed during training: second.weight"


# ---- several ranks


@pytest.fixture
def second_rank(monkeypatch):
    """Pretend that there is a second rank; the test decides how what it gathers differs from the first rank's."""

    def pretend(change):
        def gather(gathered, value):
            gathered[:] = [value, change(value)]

        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_world_size", lambda: 2)
        monkeypatch.setattr(dist, "get_rank", lambda: 0)
        monkeypatch.setattr(dist, "all_gather_object", gather)

    return pretend


def checked(rounds=12):
    """Check a training without Lightning's loop, which would need a second rank; return the warnings."""
    module, warnings = Layers(), []
    check = TrainingCheck(warnings.append)
    check.on_train_start(None, module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(rounds):
        optimizer.zero_grad()
        module.training_step(0.1 * torch.ones(1, 3), 0).backward()
        check.on_before_optimizer_step(None, module, optimizer)
        optimizer.step()
    check.on_train_end(None, module)
    return warnings


def test_equal_ranks_have_no_warning(second_rank):
    second_rank(lambda value: value)
    assert checked() == []


def test_a_parameter_without_a_gradient_on_another_rank_is_named(second_rank):
    calls = []
    second_rank(lambda value: (calls.append(1), ["second.weight"] if len(calls) == 1 else value)[1])
    (warning,) = checked()
    assert warning.startswith("1 of 3 trained parameters received no gradient in the first 10 steps: second.weight")


def test_a_parameter_that_changed_on_another_rank_only_differs(second_rank):
    second_rank(lambda value: {**value, "third.weight": b"another"} if isinstance(value, dict) else value)
    assert checked() == ["1 parameters differ between the ranks after training: third.weight"]


def test_a_parameter_that_did_not_change_on_another_rank_is_named(second_rank):
    calls = []
    second_rank(lambda value: (calls.append(1), ["first.weight"] if len(calls) == 2 else value)[1])
    (warning,) = checked()
    assert warning.startswith("1 of 3 trained parameters did not change in 12 steps: first.weight")
