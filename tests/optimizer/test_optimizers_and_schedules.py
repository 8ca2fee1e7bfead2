"""Schedules against their formulas, and AdamW as most runs use it."""

import math

import pytest
import torch

from instruct_lab.lr_scheduler import (
    Constant,
    Cosine,
    CosineRestarts,
    InverseSquareRoot,
    Linear,
    Polynomial,
    WarmupStableDecay,
)
from instruct_lab.optimizer import AdamW


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
    with pytest.raises(ValueError, match="excludes warmup_ratio"):
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


def test_polynomial_is_a_power_of_what_is_left():
    schedule = Polynomial(power=3, min_ratio=0.1, warmup_steps=2)
    for step in range(2, 43):
        assert schedule.factor(step, 42) == pytest.approx(0.1 + 0.9 * (1 - (step - 2) / 40) ** 3)
    assert Polynomial(power=1).factor(7, 40) == pytest.approx(Linear().factor(7, 40))


def test_cosine_with_restarts_goes_back_to_the_peak():
    schedule = CosineRestarts(warmup_steps=0, cycles=4, min_ratio=0.2)
    for step in range(80):
        expected = 0.2 + 0.8 * (1 + math.cos(math.pi * (step % 20) / 20)) / 2
        assert schedule.factor(step, 80) == pytest.approx(expected)
    assert schedule.factor(80, 80) == pytest.approx(0.2)


def test_cycles_grow_and_peaks_fall():
    schedule = CosineRestarts(cycles=3, growth=2.0, peak_decay=0.5)  # of 70 steps: 10, 20, 40
    assert [schedule.factor(step, 70) for step in (0, 10, 30)] == pytest.approx([1.0, 0.5, 0.25])
    assert [schedule.factor(step, 70) for step in (5, 20, 50)] == pytest.approx([0.5, 0.25, 0.125])
    assert schedule.factor(9, 70) < 0.03
    with pytest.raises(ValueError, match="below min_ratio"):
        CosineRestarts(cycles=3, peak_decay=0.5, min_ratio=0.3)


def test_inverse_square_root_is_the_transformers_schedule():
    schedule = InverseSquareRoot(warmup_steps=10)
    for step in range(10, 60):
        assert schedule.factor(step, 60) == pytest.approx(math.sqrt(10 / step))
    assert schedule.factor(40, 60) == schedule.factor(40, 6000)
    assert InverseSquareRoot(warmup_steps=10, timescale=30).factor(40, 60) == pytest.approx(math.sqrt(0.5))
    assert InverseSquareRoot().factor(3, 60) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("shape", "formula"),
    [
        ("1-sqrt", lambda t: 1 - math.sqrt(t)),
        ("linear", lambda t: 1 - t),
        ("cosine", lambda t: (1 + math.cos(math.pi * t)) / 2),
    ],
)
def test_warmup_stable_decay_decays_over_its_share_of_all_steps(shape, formula):
    schedule = WarmupStableDecay(warmup_ratio=0.1, decay_ratio=0.3, decay_shape=shape, min_ratio=0.1)
    assert schedule.factor(4, 100) == pytest.approx(5 / 11)
    assert [schedule.factor(step, 100) for step in (10, 40, 70)] == [1.0, 1.0, 1.0]
    for step in range(71, 101):
        assert schedule.factor(step, 100) == pytest.approx(0.1 + 0.9 * formula((step - 70) / 30))


def test_warmup_stable_decay_takes_no_more_than_all_steps():
    assert WarmupStableDecay(decay_ratio=0.0).factor(99, 100) == 1.0
    assert WarmupStableDecay(decay_ratio=1.0, decay_shape="linear").factor(25, 100) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="above 1"):
        WarmupStableDecay(warmup_ratio=0.5, decay_ratio=0.6)
