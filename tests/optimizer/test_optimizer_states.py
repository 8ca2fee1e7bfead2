"""A state that was saved and loaded as a checkpoint is goes on to the last bit, with its schedule."""

import io

import pytest
import torch

from instruct_lab.lr_scheduler import Cosine
from instruct_lab.optimizer import Adafactor, AdamW, GaLore, Lion, Muon, QuantizedAdamW, ScheduleFreeAdamW

SETTINGS = {
    "adamw": AdamW(lr=0.01, weight_decay=0.1),
    "adamw_unfused": AdamW(lr=0.01, weight_decay=0.1, fused=False),
    "adafactor": Adafactor(lr=0.01, weight_decay=0.1),
    "lion": Lion(lr=0.01, weight_decay=0.1),
    "schedule_free": ScheduleFreeAdamW(lr=0.01, weight_decay=0.1),
    "muon": Muon(lr=0.01, adamw_lr=0.02, weight_decay=0.1),
    "galore": GaLore(lr=0.01, rank=2, update_every=4, weight_decay=0.1),
    "adamw_8bit": QuantizedAdamW(lr=0.01, min_quantized=16, weight_decay=0.1),
}
STEPS, STOP = 9, 5


class Training:
    """A tiny model, its optimizer and its schedule."""

    def __init__(self, settings):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential()
        self.model.add_module("embed", torch.nn.Embedding(7, 6))
        self.model.add_module("dense", torch.nn.Linear(6, 8))
        self.model.add_module("norm", torch.nn.LayerNorm(8))
        self.model.add_module("out", torch.nn.Linear(8, 5))
        factor = lambda name: 2.0 if name.startswith("out") else 1.0  # noqa: E731
        self.optimizer = settings.build(self.model.named_parameters(), factor)
        self.schedule = Cosine(warmup_steps=2).build(self.optimizer, STEPS)

    def run(self, first, last):
        for step in range(first, last):
            source = torch.Generator().manual_seed(step)
            ids = torch.randint(7, (4,), generator=source)

            def closure(ids=ids):
                self.optimizer.zero_grad()
                loss = self.model(ids).square().sum()
                loss.backward()
                return loss

            assert self.optimizer.step(closure).requires_grad  # gradients were on
            self.schedule.step()

    def saved(self):
        parts = (self.model, self.optimizer, self.schedule)
        file = io.BytesIO()
        torch.save([part.state_dict() for part in parts], file)
        file.seek(0)
        return file

    def load(self, file):
        states = torch.load(file, weights_only=True)  # as a run that goes on does
        for part, state in zip((self.model, self.optimizer, self.schedule), states, strict=True):
            part.load_state_dict(state)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_loaded_state_goes_on_to_the_last_bit(name):
    settings = SETTINGS[name]
    if settings.package is not None:
        pytest.importorskip(settings.package[0])
    undisturbed = Training(settings)
    undisturbed.run(0, STEPS)
    stopped = Training(settings)
    stopped.run(0, STOP)
    resumed = Training(settings)
    resumed.load(stopped.saved())
    resumed.run(STOP, STEPS)
    for (key, expected), found in zip(
        undisturbed.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(expected, found), key
    forgetful = Training(settings)  # the test of the test: without the optimizer's state it is another course
    forgetful.model.load_state_dict(stopped.model.state_dict())
    forgetful.run(STOP, STEPS)
    assert any(
        not torch.equal(a, b) for a, b in zip(forgetful.model.parameters(), undisturbed.model.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_a_schedule_keeps_the_ratios_of_the_groups(name):
    settings = SETTINGS[name]
    if settings.package is not None:
        pytest.importorskip(settings.package[0])
    training = Training(settings)
    peaks = [group["initial_lr"] for group in training.optimizer.param_groups]
    assert len(set(peaks)) > 1
    schedule = Cosine(warmup_steps=2)
    for step in range(4):
        rates = [group["lr"] for group in training.optimizer.param_groups]
        assert rates == pytest.approx([peak * schedule.factor(step, STEPS) for peak in peaks])
        training.run(step, step + 1)


def test_both_parts_of_a_joint_optimizer_follow_the_schedule_after_loading():
    first, second = Training(SETTINGS["muon"]), Training(SETTINGS["muon"])
    first.run(0, 3)
    second.load(first.saved())
    before = [parameter.detach().clone() for parameter in second.model.parameters()]
    for group in second.optimizer.param_groups:
        group["lr"] = 0.0
    second.run(3, 4)
    assert all(torch.equal(a, b) for a, b in zip(before, second.model.parameters(), strict=True))
