"""Schedules and optimizers against their formulas."""

import math

import pytest
import torch

from instruct_lab.optimization import AdamW, Constant, Cosine, Linear


def test_warm_up_is_linear_and_ends_at_the_peak():
    schedule = Cosine(warmup_steps=4)
    assert [schedule.factor(step, 20) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_cosine_follows_half_a_cosine_down_to_its_floor():
    schedule = Cosine(warmup_steps=0, min_ratio=0.1)
    for step in range(51):
        expected = 0.1 + 0.9 * (1 + math.cos(math.pi * step / 50)) / 2
        assert schedule.factor(step, 50) == pytest.approx(expected)


def test_linear_ends_at_its_floor():
    assert Linear(min_ratio=0.25).factor(40, 40) == pytest.approx(0.25)
    assert Linear().factor(20, 40) == pytest.approx(0.5)


def test_a_warm_up_ratio_is_a_share_of_all_steps():
    assert Constant(warmup_ratio=0.1).factor(9, 100) < 1.0
    assert Constant(warmup_ratio=0.1).factor(10, 100) == 1.0


def test_warm_up_is_given_once():
    with pytest.raises(ValueError, match="not both"):
        Linear(warmup_steps=1, warmup_ratio=0.1)


def test_norms_biases_and_embeddings_are_not_decayed():
    names = ["layer.weight", "layer.bias", "input_layernorm.weight", "embed_tokens.weight"]
    parameters = [(name, torch.nn.Parameter(torch.ones(2))) for name in names]
    optimizer = AdamW(lr=0.1, weight_decay=0.5).build(parameters)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decay[id(parameter)] for _, parameter in parameters] == [0.5, 0.0, 0.0, 0.0]


def test_frozen_parameters_are_left_out():
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    trained = torch.nn.Parameter(torch.ones(2))
    optimizer = AdamW(lr=0.1).build([("a", frozen), ("b", trained)])
    assert [p for group in optimizer.param_groups for p in group["params"]] == [trained]


def test_adamw_makes_the_update_of_its_paper():
    parameter = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = AdamW(lr=0.1, betas=[0.8, 0.9], eps=1e-6, weight_decay=0.02, fused=False).build([("w", parameter)])
    value, mean, square = 1.0, 0.0, 0.0
    for step in range(1, 4):
        gradient = 0.3 * step
        parameter.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        mean, square = 0.8 * mean + 0.2 * gradient, 0.9 * square + 0.1 * gradient**2
        value -= 0.1 * 0.02 * value
        value -= 0.1 * (mean / (1 - 0.8**step)) / (math.sqrt(square / (1 - 0.9**step)) + 1e-6)
        assert parameter.item() == pytest.approx(value, rel=1e-12)
