"""First steps of every optimizer against its paper's formula, in float64, written here."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from instruct_lab.optimizer import Adafactor, AdamW, GaLore, Lion, Muon, QuantizedAdamW, ScheduleFreeAdamW

SHAPE = (5, 3)
GRADIENTS = [np.random.default_rng(step).normal(size=SHAPE) for step in range(4)]
START = np.random.default_rng(99).normal(size=SHAPE)


def run(settings, gradients=GRADIENTS, start=START, name="layers.0.proj.weight", dtype=torch.float64):
    """The parameter after each step."""
    parameter = torch.nn.Parameter(torch.tensor(start, dtype=dtype))
    optimizer = settings.build([(name, parameter)])
    course = []
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient, dtype=dtype)
        optimizer.step()
        course.append(parameter.detach().double().numpy().copy())
    return course


def adam_updates(gradients, first=0.9, second=0.999, eps=1e-8):
    mean = square = 0.0
    for step, gradient in enumerate(gradients, start=1):
        mean = first * mean + (1 - first) * gradient
        square = second * square + (1 - second) * gradient**2
        yield (mean / (1 - first**step)) / (np.sqrt(square / (1 - second**step)) + eps)


def adamw(gradients, start, lr, wd, **options):
    value, course = start.copy(), []
    for update in adam_updates(gradients, **options):
        value = value - lr * wd * value - lr * update
        course.append(value)
    return course


def assert_same(course, expected, rtol=1e-10):
    assert len(course) == len(expected)
    for found, wanted in zip(course, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("fused", [True, False])
def test_adamw(fused):
    settings = AdamW(lr=0.1, betas=[0.8, 0.95], eps=1e-3, weight_decay=0.3, fused=fused)
    assert_same(run(settings), adamw(GRADIENTS, START, 0.1, 0.3, first=0.8, second=0.95, eps=1e-3))


def test_the_fused_kernel_is_taken_only_where_there_is_one():
    here, elsewhere = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2, device="meta"))
    assert AdamW(lr=0.1).build([("w", here)]).defaults["fused"]
    assert not AdamW(lr=0.1, fused=False).build([("w", here)]).defaults["fused"]
    assert not AdamW(lr=0.1).build([("w", here), ("v", elsewhere)]).defaults["fused"]


def test_lion():
    value, momentum, expected = START.copy(), np.zeros(SHAPE), []
    for gradient in GRADIENTS:
        value = value - 0.1 * 0.3 * value - 0.1 * np.sign(0.7 * momentum + 0.3 * gradient)
        momentum = 0.9 * momentum + 0.1 * gradient
        expected.append(value)
    assert_same(run(Lion(lr=0.1, betas=[0.7, 0.9], weight_decay=0.3)), expected)


def adafactor(gradients, start, lr, wd, exponent, eps, least, clip):
    value, row, column, square, course = start.copy(), 0.0, 0.0, 0.0, []
    for step, gradient in enumerate(gradients, start=1):
        decay = 1 - step**exponent
        size = max(least, math.sqrt((value**2).mean())) * min(lr, 1 / math.sqrt(step))
        if gradient.ndim > 1:
            row = decay * row + (1 - decay) * (gradient**2).mean(axis=1)
            column = decay * column + (1 - decay) * (gradient**2).mean(axis=0)
            estimate = np.outer(row, column) / row.mean()
        else:
            estimate = square = decay * square + (1 - decay) * gradient**2
        update = gradient / np.maximum(np.sqrt(estimate), eps)
        update = update / max(1.0, math.sqrt((update**2).mean()) / clip)
        value = value - lr * wd * value - size * update
        course.append(value)
    return course


@pytest.mark.parametrize("ndim", [1, 2])
def test_adafactor(ndim):
    gradients = [gradient if ndim == 2 else gradient[:, 0] for gradient in GRADIENTS]
    start = START if ndim == 2 else START[:, 0]
    settings = Adafactor(lr=0.6, weight_decay=0.2, beta2_decay=-0.7, eps=0.5, min_scale=0.9, clip_threshold=1.1)
    expected = adafactor(gradients, start, 0.6, 0.2, -0.7, 0.5, 0.9, 1.1)
    assert_same(run(settings, gradients, start, name="proj"), expected)


@pytest.mark.parametrize(
    ("field", "value"), [("beta2_decay", -0.5), ("eps", 2.0), ("min_scale", 5.0), ("clip_threshold", 1.5), ("lr", 0.1)]
)
def test_every_field_of_adafactor_has_an_effect(field, value):
    gradients = [*GRADIENTS[:2], 10 * GRADIENTS[2]]
    changed = Adafactor(**({"lr": 0.6} | {field: value}))
    assert not np.allclose(run(Adafactor(lr=0.6), gradients)[-1], run(changed, gradients)[-1])


def schedule_free(gradients, start, lr_at, wd, first, second, eps, power):
    """With x, z and y apart, as the paper has them."""
    x, z, square, weights, largest = start.copy(), start.copy(), 0.0, 0.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        y = (1 - first) * z + first * x
        square = second * square + (1 - second) * gradient**2
        lr = lr_at(step)
        largest = max(largest, lr)
        z = z - lr * (gradient / (np.sqrt(square / (1 - second**step)) + eps) + wd * y)
        weight = step**power * largest**2
        weights += weight
        x = (1 - weight / weights) * x + weight / weights * z
    return x, (1 - first) * z + first * x


def test_schedule_free_adamw_measures_the_average_and_trains_the_point_between():
    pytest.importorskip("schedulefree")
    settings = ScheduleFreeAdamW(lr=0.1, betas=[0.8, 0.95], eps=1e-3, weight_decay=0.3, averaging_power=0.5)
    parameter = torch.nn.Parameter(torch.tensor(START))
    optimizer = settings.build([("w", parameter)])
    for gradient, factor in zip(GRADIENTS, (0.5, 1.0, 1.0, 1.0), strict=True):
        optimizer.param_groups[0]["lr"] = 0.1 * factor  # as a warm-up does
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
    warm = lambda step: 0.05 if step == 1 else 0.1  # noqa: E731
    x, y = schedule_free(GRADIENTS, START, warm, 0.3, 0.8, 0.95, 1e-3, 0.5)
    np.testing.assert_allclose(parameter.detach().numpy(), y, rtol=1e-10)
    optimizer.eval()
    np.testing.assert_allclose(parameter.detach().numpy(), x, rtol=1e-10)


def test_schedule_free_needs_a_share_of_the_average():
    with pytest.raises(ValueError, match="above 0"):
        ScheduleFreeAdamW(lr=0.1, betas=[0.0, 0.9])


def newton_schulz(update, iterations):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update if update.shape[0] <= update.shape[1] else update.T
    x = x / np.linalg.norm(x)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if update.shape[0] <= update.shape[1] else x.T


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("scale", ["match_rms_adamw", "original"])
def test_muon_is_orthogonal_momentum(shape, nesterov, scale):
    gradients = [gradient.reshape(shape) for gradient in GRADIENTS]
    start = START.reshape(shape)
    settings = Muon(lr=0.1, momentum=0.7, nesterov=nesterov, iterations=3, scale=scale, weight_decay=0.3)
    rows, columns = shape
    size = 0.2 * math.sqrt(max(shape)) if scale == "match_rms_adamw" else math.sqrt(max(1, rows / columns))
    value, momentum = start.copy(), np.zeros(shape)
    for found, gradient in zip(run(settings, gradients, start), gradients, strict=True):
        momentum = 0.7 * momentum + 0.3 * gradient
        update = newton_schulz(0.7 * momentum + 0.3 * gradient if nesterov else momentum, 3)
        value = value - 0.1 * 0.3 * value - 0.1 * size * update
        assert np.linalg.norm(found - value) < 0.02 * 0.1 * size * np.linalg.norm(update) * 4  # iterated in bfloat16


def test_muon_gives_the_rest_to_adamw():
    shapes = {"embed_tokens.weight": SHAPE, "layers.0.q_proj.weight": SHAPE, "lm_head.weight": SHAPE, "norm.weight": 5}
    parameters = {name: torch.nn.Parameter(torch.ones(shape, dtype=torch.float64)) for name, shape in shapes.items()}
    optimizer = Muon(lr=0.1, adamw_lr=0.01, betas=[0.8, 0.95], eps=1e-3, weight_decay=0.3).build(parameters.items())
    gradients = {name: np.random.default_rng(7).normal(size=shape) for name, shape in shapes.items()}
    for _ in range(2):
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(gradients[name])
        optimizer.step()
    for name in ("embed_tokens.weight", "lm_head.weight", "norm.weight"):
        decay = 0.3 if name == "lm_head.weight" else 0.0
        options = {"first": 0.8, "second": 0.95, "eps": 1e-3}
        expected = adamw([gradients[name]] * 2, np.ones(shapes[name]), 0.01, decay, **options)
        np.testing.assert_allclose(parameters[name].detach().numpy(), expected[-1], rtol=1e-10)
    assert "momentum_buffer" in optimizer.state[parameters["layers.0.q_proj.weight"]]


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_galore_is_adamw_among_the_leading_singular_vectors(shape):
    pytest.importorskip("pytorch_optimizer")
    gradients = [np.random.default_rng(step).normal(size=shape) for step in range(5)]
    start = np.ones(shape)
    settings = GaLore(lr=0.1, rank=2, update_every=3, scale=0.5, weight_decay=0.3, betas=[0.8, 0.95], eps=1e-9)
    course = run(settings, gradients, start, dtype=torch.float32)
    value, mean, square = start.copy(), 0.0, 0.0
    is_tall = shape[0] > shape[1]
    basis = np.linalg.svd(gradients[0] if is_tall else gradients[0].T)[2][:2]  # up to signs, which cancel
    for step in (1, 2):
        low = (gradients[step - 1] if is_tall else gradients[step - 1].T) @ basis.T
        mean, square = 0.8 * mean + 0.2 * low, 0.95 * square + 0.05 * low**2
        update = (mean / (1 - 0.8**step)) / (np.sqrt(square / (1 - 0.95**step)) + 1e-9) @ basis
        value = value - 0.1 * 0.5 * (update if is_tall else update.T)
        value = value - 0.1 * 0.3 * value
        np.testing.assert_allclose(course[step - 1], value, rtol=1e-4, atol=1e-5)
    once = dataclasses.replace(settings, update_every=100)
    kept = run(once, gradients, start, dtype=torch.float32)
    assert np.allclose(kept[1], course[1])
    assert not np.allclose(kept[2], course[2])  # the third step chose the directions again


@pytest.mark.parametrize(("kind", "rank"), [(GaLore, 3)])
def test_matrices_with_a_short_side_get_adamws_update(kind, rank):
    pytest.importorskip("pytorch_optimizer")
    parameters = {"a": torch.nn.Parameter(torch.ones(4, 4)), "b": torch.nn.Parameter(torch.ones(4, 3))}
    optimizer = kind(lr=0.1, rank=rank).build(parameters.items())
    for parameter in parameters.values():
        parameter.grad = torch.linspace(-1, 2, parameter.numel()).reshape(parameter.shape)
    optimizer.step()
    expected = adamw([parameters["b"].grad.numpy()], np.ones((4, 3)), 0.1, 0.0)[0]
    np.testing.assert_allclose(parameters["b"].detach().numpy(), expected, rtol=1e-5)
    shapes = [tuple(value.shape) for value in optimizer.state[parameters["a"]].values() if torch.is_tensor(value)]
    assert any(3 in shape for shape in shapes)
    assert (4, 4) not in shapes


@pytest.mark.parametrize("kind", [Muon, GaLore])
def test_an_optimizer_of_matrices_is_refused_where_none_trains(kind):
    with pytest.raises(Exception, match="would do the same as AdamW"):
        kind(lr=0.1).build([("norm.weight", torch.nn.Parameter(torch.ones(3)))])


def test_matrices_that_get_adamws_update_can_be_chosen():
    parameters = [
        ("a.weight", torch.nn.Parameter(torch.ones(3, 3))),
        ("b.weight", torch.nn.Parameter(torch.ones(3, 3))),
    ]
    groups = Muon(lr=0.1, adamw_lr=0.2, outside="^b").build(parameters).param_groups
    assert [(group["lr"], group["params"][0] is parameters[i][1]) for i, group in enumerate(groups)] == [
        (0.1, True),
        (0.2, True),
    ]
    with pytest.raises(ValueError, match="is not a regular expression"):
        Muon(lr=0.1, outside="(")


@pytest.mark.parametrize("bits", [8, 32])
def test_quantized_adamw_is_adamw_with_states_of_few_bits(bits):
    pytest.importorskip("bitsandbytes")
    gradients = [np.random.default_rng(step).normal(size=(64, 64)) for step in range(3)]
    settings = QuantizedAdamW(lr=0.1, bits=bits, weight_decay=0.3, betas=[0.8, 0.95], eps=1e-4)
    expected = adamw(gradients, np.ones((64, 64)), 0.1, 0.3, first=0.8, second=0.95, eps=1e-4)
    course = run(settings, gradients, np.ones((64, 64)), dtype=torch.float32)
    far = np.abs(course[-1] - expected[-1]).max()
    assert far < (1e-5 if bits == 32 else 0.1)
    assert bits == 32 or far > 1e-5


def test_small_parameters_keep_32_bits():
    pytest.importorskip("bitsandbytes")
    for least, dtype in ((64, torch.uint8), (65, torch.float32)):
        parameter = torch.nn.Parameter(torch.ones(64))
        parameter.grad = torch.ones(64)
        optimizer = QuantizedAdamW(lr=0.1, min_quantized=least).build([("w", parameter)])
        optimizer.step()
        assert optimizer.state[parameter]["state1"].dtype == dtype
