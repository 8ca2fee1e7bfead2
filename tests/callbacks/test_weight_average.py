"""The running average of the weights is evaluated and kept, and changes neither training nor its exact resumption."""

import pytest
import pytorch_lightning as pl
import torch
from support.records import logged, newest_run

from instruct_lab import cli
from instruct_lab.callbacks import WeightAverage
from instruct_lab.errors import InstructLabError

STEPS = 12
GRADIENTS = torch.randn(STEPS, 2, generator=torch.Generator().manual_seed(3))


class Toy(pl.LightningModule):
    """Two trained numbers and a frozen one; the gradient is its step's, so that the weights of every step are known."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.trained = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=dtype))
        self.frozen = torch.nn.Parameter(torch.tensor([5.0]), requires_grad=False)
        self.course, self.seen = [], []

    def training_step(self, batch, index):
        self.course.append(self.trained.detach().clone())
        return (self.trained * GRADIENTS[self.global_step]).sum()

    def validation_step(self, batch, index):
        self.seen.append(self.trained.detach().clone())

    def configure_optimizers(self):
        return torch.optim.SGD([self.trained], lr=0.1)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(STEPS, 2))

    def val_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(1, 2))


class SaveAt(pl.Callback):
    """Writes a state after a step, before or after the average's callback in the list."""

    def __init__(self, path, step):
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def fit(module, callbacks, path=None, **arguments):
    arguments = {"val_check_interval": 4, "max_epochs": 1} | arguments
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        **arguments,
    )
    trainer.fit(module, ckpt_path=path, weights_only=True)
    return module


def average(**fields):
    return WeightAverage(**fields).build(None, None)


def expected(course, decay, every, start):
    """The average after all of these weights; the first are the untuned ones."""
    value = course[start].double()
    for step in range(start + 1, len(course)):
        if (step - start) % every == 0:
            value = decay * value + (1 - decay) * course[step].double()
    return value


@pytest.fixture(scope="module")
def plain():
    return fit(Toy(), [])


@pytest.mark.parametrize(("decay", "every", "start"), [(0.9, 1, 0), (0.5, 1, 0), (0.9, 3, 0), (0.9, 1, 3), (0.8, 2, 3)])
def test_the_average_is_evaluated_and_kept(plain, decay, every, start):
    module = fit(Toy(), [average(decay=decay, every_steps=every, start_step=start)])
    course = [*plain.course, plain.trained.detach()]
    for step, seen in zip((4, 8, 12), module.seen, strict=True):
        torch.testing.assert_close(seen.double(), expected(course[: step + 1], decay, every, start))
    torch.testing.assert_close(module.trained.detach().double(), expected(course, decay, every, start))
    assert not torch.equal(module.trained, plain.trained)


def test_before_its_start_the_training_weights_are_evaluated(plain):
    module = fit(Toy(), [average(start_step=9)])
    assert torch.equal(module.seen[0], plain.seen[0])
    assert torch.equal(module.seen[1], plain.seen[1])
    assert not torch.equal(module.seen[2], plain.seen[2])


def test_training_is_the_same_to_the_last_bit(plain):
    module = fit(Toy(), [average(decay=0.9)])
    assert all(torch.equal(a, b) for a, b in zip(module.course, plain.course, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("writes_first", [True, False])
@pytest.mark.parametrize("step", [3, 4, 7])  # right before a validation, at one, and between two
@pytest.mark.parametrize("start", [0, 5])
def test_a_resumed_run_has_the_same_average(tmp_path, writes_first, step, start):
    settings = {"decay": 0.9, "every_steps": 2, "start_step": start}
    path = tmp_path / "state.ckpt"
    undisturbed = average(**settings), SaveAt(path, step)
    whole = fit(Toy(), list(reversed(undisturbed) if writes_first else undisturbed))
    state = torch.load(path, weights_only=True)
    assert torch.equal(state["state_dict"]["trained"], whole.course[step])  # what trains, not the average
    resumed = fit(Toy(), [average(**settings)], path)
    assert all(torch.equal(a, b) for a, b in zip(resumed.course, whole.course[step:], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(resumed.seen[-2:], whole.seen[-2:], strict=True))
    assert torch.equal(resumed.trained, whole.trained)


def test_a_run_that_has_no_step_left_keeps_the_average(tmp_path):
    path = tmp_path / "state.ckpt"
    whole = fit(Toy(), [average(decay=0.9), SaveAt(path, STEPS - 1)], max_steps=STEPS - 1, max_epochs=-1)
    resumed = fit(Toy(), [average(decay=0.9)], path, max_steps=STEPS - 1, max_epochs=-1)
    assert resumed.course == []
    assert torch.equal(resumed.trained, whole.trained)


def test_frozen_parameters_are_not_averaged():
    callback = average()
    fit(Toy(), [callback])
    assert list(callback.state_dict()["average"]) == ["trained"]


def test_narrow_weights_are_averaged_in_float32():
    callback = average(decay=0.999)
    module = fit(Toy(torch.bfloat16), [callback])
    assert callback.state_dict()["average"]["trained"].dtype == torch.float32
    assert not torch.equal(callback.state_dict()["average"]["trained"], torch.tensor([1.0, -2.0]))
    assert module.trained.dtype == torch.bfloat16


def test_micro_batches_are_not_steps():
    callback = average()
    fit(Toy(), [callback], accumulate_grad_batches=3, val_check_interval=12)
    assert callback.state_dict()["step"] == STEPS // 3


def test_an_optimizer_that_averages_by_itself_is_refused():
    schedulefree = pytest.importorskip("schedulefree")

    class Averaging(Toy):
        def configure_optimizers(self):
            return schedulefree.AdamWScheduleFree([self.trained])

    with pytest.raises(InstructLabError, match="averages the weights itself"):
        fit(Averaging(), [average()])


@pytest.mark.slow
def test_a_run_keeps_the_average_and_trains_as_without_it(lab, tiny, monkeypatch):
    quick = [
        "evaluation.before=false",
        "evaluation.baselines=false",
        "evaluation.during_examples=0",
        "metrics=perplexity",
    ]
    overrides = [*tiny, *quick, "trainer.max_epochs=1", "batching.batch_size=8"]
    kept = {}
    for name, callbacks in (("plain", "default"), ("average", "default,ema")):
        assert cli.main(["train", *overrides, f"callbacks=[{callbacks}]", f"name={name}"]) == 0
        record = newest_run(lab)
        kept[name] = logged(record, "train/loss"), logged(record, "val/loss")
    assert kept["plain"][0] == kept["average"][0]
    assert kept["plain"][1] != kept["average"][1]
