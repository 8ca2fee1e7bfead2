"""Schedule-free optimizers are in the right mode: the average is evaluated and kept, the other weights train."""

import pytest
import pytorch_lightning as pl
import torch

from instruct_lab.callbacks.optimizer_modes import OptimizerModes
from instruct_lab.optimizer import AdamW, ScheduleFreeAdamW

pytest.importorskip("schedulefree")
STEPS = 12
INPUTS = torch.randn(STEPS, 3, generator=torch.Generator().manual_seed(3))


class Toy(pl.LightningModule):
    """A linear map whose optimizer is one of ours."""

    def __init__(self, settings):
        super().__init__()
        torch.manual_seed(0)
        self.settings = settings
        self.dense = torch.nn.Linear(3, 2)
        self.course, self.seen = [], []

    def training_step(self, batch, index):
        assert self.settings.averages_weights is False or self.optimizers().optimizer.param_groups[0]["train_mode"]
        self.course.append(self.dense.weight.detach().clone())
        return self.dense(INPUTS[self.global_step]).square().sum()

    def validation_step(self, batch, index):
        self.seen.append(self.dense.weight.detach().clone())

    def configure_optimizers(self):
        return self.settings.build(self.named_parameters())

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(STEPS, 3))

    def val_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(1, 3))


class Keeper(pl.Callback):
    """Keeps weights at the end of a validation and a state between two steps, as checkpoints are written."""

    def __init__(self, path=None, step=0):
        self.kept, self.path, self.step = [], path, step

    def on_validation_end(self, trainer, module):
        self.kept.append(module.dense.weight.detach().clone())

    def on_train_batch_end(self, trainer, *_):
        if self.path is not None and trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def fit(settings, callbacks, path=None, **arguments):
    module = Toy(settings)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        **{"max_epochs": 1, "val_check_interval": 4} | arguments,
    )
    trainer.fit(module, ckpt_path=path, weights_only=True)
    return module, trainer


SCHEDULE_FREE = ScheduleFreeAdamW(lr=0.1, betas=[0.8, 0.9])


def test_the_average_is_evaluated_and_kept():
    keeper = Keeper()
    module, trainer = fit(SCHEDULE_FREE, [keeper, OptimizerModes()])
    (optimizer,) = trainer.optimizers
    assert not optimizer.param_groups[0]["train_mode"]
    for seen, kept in zip(module.seen, keeper.kept, strict=True):
        assert torch.equal(seen, kept)
    assert all(not torch.equal(seen, y) for seen, y in zip(module.seen, module.course[4::4], strict=False))
    # the average is (y - (1 - b1)·z) / b1, and the last validation saw what is kept at the end
    torch.testing.assert_close(module.seen[-1], module.dense.weight.detach())
    without_callback = fit(SCHEDULE_FREE, [])[0].dense.weight.detach()  # y: without the callback nobody calls eval()
    z = optimizer.state[module.dense.weight]["z"]
    torch.testing.assert_close(module.dense.weight.detach(), (without_callback - 0.2 * z) / 0.8)
    assert not torch.allclose(module.dense.weight.detach(), without_callback)


def test_the_number_of_validations_does_not_change_training():
    often = fit(SCHEDULE_FREE, [OptimizerModes()], val_check_interval=1)[0]
    never = fit(SCHEDULE_FREE, [OptimizerModes()], limit_val_batches=0)[0]
    assert len(often.seen) == STEPS
    assert all(torch.equal(a, b) for a, b in zip(often.course, never.course, strict=True))


@pytest.mark.parametrize("step", [3, 4, 7])
def test_a_resumed_run_is_the_same_to_the_last_bit(tmp_path, step):
    path = tmp_path / "state.ckpt"
    whole = fit(SCHEDULE_FREE, [Keeper(path, step), OptimizerModes()])[0]
    state = torch.load(path, weights_only=True)
    assert torch.equal(state["state_dict"]["dense.weight"], whole.course[step])
    resumed = fit(SCHEDULE_FREE, [OptimizerModes()], path)[0]
    assert all(torch.equal(a, b) for a, b in zip(resumed.course, whole.course[step:], strict=True))
    assert torch.equal(resumed.dense.weight, whole.dense.weight)


def test_a_run_that_has_no_step_left_keeps_the_average(tmp_path):
    path = tmp_path / "state.ckpt"
    bounds = {"max_epochs": -1, "max_steps": STEPS - 1}
    whole = fit(SCHEDULE_FREE, [Keeper(path, STEPS - 1), OptimizerModes()], **bounds)[0]
    resumed = fit(SCHEDULE_FREE, [OptimizerModes()], path, **bounds)[0]
    assert resumed.course == []
    assert torch.equal(resumed.dense.weight, whole.dense.weight)


def test_other_optimizers_are_not_touched():
    callback = OptimizerModes()
    copied = []
    callback.swap_in = lambda *_: copied.append(True)
    module = fit(AdamW(lr=0.1), [callback])[0]
    plain = fit(AdamW(lr=0.1), [])[0]
    assert copied == []
    assert torch.equal(module.dense.weight, plain.dense.weight)
