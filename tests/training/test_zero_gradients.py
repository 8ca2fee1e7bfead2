"""A parameter that no rank has used keeps its value, although DDP gives it a gradient of zeros."""

import pytest
import torch

from instruct_lab.training.zero_gradients import ZeroGradients


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_an_optimizer_leaves_parameters_without_a_gradient_unchanged(num_ranks):
    used, unused, frozen = (torch.nn.Parameter(torch.ones(3)) for _ in range(3))
    frozen.requires_grad_(False)
    optimizer = torch.optim.AdamW([used, unused], lr=0.1, weight_decay=0.5)
    zeros = ZeroGradients()
    for _ in range(2):
        optimizer.zero_grad()
        used.sum().backward()
        zeros.zero([used, unused, frozen]).backward()
        assert unused.grad is not None, "DDP would average it"
        assert torch.equal(used.grad, torch.ones(3))
        zeros.remove_unused([count * num_ranks for count in zeros.has_gradient])
        optimizer.step()
    assert torch.equal(unused.detach(), torch.ones(3))
    assert not torch.equal(used.detach(), torch.ones(3))


def test_a_parameter_that_only_another_rank_has_used_keeps_its_gradient():
    parameter = torch.nn.Parameter(torch.ones(2))
    zeros = ZeroGradients()
    zeros.zero([parameter]).backward()
    assert zeros.has_gradient == [0.0]
    zeros.remove_unused([1.0])
    assert parameter.grad is not None
