"""Float16 training: gradients are unscaled before the step, so that they can be clipped and measured."""

import pytest
import torch
from pytorch_lightning.plugins import MixedPrecision

from instruct_lab.optimizer import AdamW


def train(fused, clip):
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimizer = AdamW(lr=0.1, fused=fused).build([("w", parameter)])
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    precision = MixedPrecision("16-mixed", "cpu", scaler)
    for _ in range(3):
        optimizer.zero_grad()
        scaler.scale((parameter**2).sum()).backward()
        scaler.unscale_(optimizer)
        torch.testing.assert_close(parameter.grad, 2 * parameter.detach())
        precision.clip_gradients(optimizer, clip)
        scaler.step(optimizer)
        scaler.update()
    return parameter.detach()


@pytest.mark.parametrize("clip", [0, 0.5])
def test_gradients_of_a_fused_optimizer_are_clipped_as_of_any_other(clip):
    torch.testing.assert_close(train(True, clip), train(False, clip))
