"""Linear layers by oneDNN give what torch's own give, wherever they are used."""

import copy
import platform

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from instruct_lab import cores
from instruct_lab.model import linear_layers
from instruct_lab.model.checkpointing import _selective_contexts
from instruct_lab.model.linear_layers import MIN_ROWS, MIN_SIZE, has_faster_products, use_faster_products


@pytest.fixture(autouse=True)
def amd(monkeypatch):
    """This machine is one on which oneDNN is faster."""
    monkeypatch.setattr(linear_layers, "has_faster_products", lambda: True)


@pytest.fixture
def products(monkeypatch):
    """Collects the shapes of the products that oneDNN computes."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("torch is sure to contain oneDNN on x86 processors only, the only ones that use it here")
    found, multiply = [], linear_layers.multiply

    def record(left, right, bias=None):
        found.append((*left.shape, right.shape[0]))
        return multiply(left, right, bias)

    monkeypatch.setattr(linear_layers, "multiply", record)
    return found


def pair(inputs, outputs, bias=True):
    """The same layer twice: computed by oneDNN, and by torch in float64."""
    torch.manual_seed(0)
    layer = nn.Linear(inputs, outputs, bias=bias)
    exact = copy.deepcopy(layer).double()
    use_faster_products(layer)
    return layer, exact


@pytest.mark.parametrize("shape", [(MIN_ROWS, 130), (3, 7, 200), (2, 2, 5, 128), (300, 576)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("trained", [("input",), ("weight",), ("input", "weight")], ids=" and ".join)
def test_outputs_and_gradients_are_those_of_float64(products, shape, bias, trained):
    layer, exact = pair(shape[-1], 150, bias)
    torch.manual_seed(1)
    given = torch.randn(shape, requires_grad="input" in trained)
    layer.requires_grad_("weight" in trained)
    weights = torch.randn(*shape[:-1], 150)
    output = layer(given)
    (output * weights).sum().backward()
    again = given.detach().double().requires_grad_()
    expected = exact(again)
    (expected * weights.double()).sum().backward()
    assert len(products) == 1 + len(trained)
    assert isinstance(layer, nn.Linear)
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
    if "input" in trained:
        torch.testing.assert_close(given.grad.double(), again.grad, rtol=1e-5, atol=1e-4)
    for name, parameter in exact.named_parameters():
        ours = layer.get_parameter(name).grad
        assert (ours is None) == ("weight" not in trained)
        if ours is not None:
            torch.testing.assert_close(ours.double(), parameter.grad, rtol=1e-5, atol=1e-4)


def test_results_are_the_same_to_the_bit_each_time(products):
    layer, _ = pair(576, 1536)
    given = torch.randn(100, 576)
    spare = [torch.randn(7), layer(given)]  # other addresses in memory
    assert all(torch.equal(layer(given.clone()), spare[1]) for _ in range(3))


class Executed(TorchDispatchMode):
    """Counts the products of oneDNN that are computed."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        self.count += function is torch.ops.mkldnn._linear_pointwise.default
        return function(*arguments, **(named or {}))


def test_selective_checkpointing_keeps_the_products(products):
    layer, exact = pair(576, 1536)
    given = torch.randn(50, 576, requires_grad=True)

    def block(rows):
        return layer(rows).sin()

    with Executed() as executed:
        output = checkpoint(block, given, use_reentrant=False, context_fn=_selective_contexts())
        output.sum().backward()
    assert executed.count == 3, "one forward, and one for each gradient"
    exact(given.detach().double()).sin().sum().backward()
    torch.testing.assert_close(layer.weight.grad.double(), exact.weight.grad, rtol=1e-5, atol=1e-4)


def test_all_other_inputs_are_left_to_torch(products):
    layer, exact = pair(256, 256)
    few = torch.randn(MIN_ROWS - 1, 256)
    torch.testing.assert_close(layer(few).double(), exact(few.double()), rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(64, 256)).dtype == torch.bfloat16
    assert layer.to(torch.bfloat16)(torch.randn(64, 256, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert exact(torch.randn(64, 256, dtype=torch.float64)).dtype == torch.float64
    assert layer.to("meta")(torch.randn(64, 256, device="meta", dtype=torch.bfloat16)).device.type == "meta"
    with torch._subclasses.FakeTensorMode() as mode:
        fake = nn.Linear(256, 256)
        use_faster_products(fake)
        assert fake(mode.from_tensor(torch.randn(64, 256))).shape == (64, 256)
    assert products == []


def test_small_layers_subclasses_and_other_machines_do_not_change(monkeypatch):
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(MIN_SIZE - 1, MIN_SIZE), Own(256, 256), nn.Linear(MIN_SIZE, MIN_SIZE))
    use_faster_products(model)
    assert [type(module).__name__ for module in model] == ["Linear", "Own", "_Linear"]
    monkeypatch.setattr(linear_layers, "has_faster_products", lambda: False)
    other = nn.Linear(256, 256)
    use_faster_products(other)
    assert type(other) is nn.Linear


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f\n", True),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2\n", False),
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx512f\n", False),
        ("Features\t: fp asimd\n", False),
        (None, False),
    ],
    ids=["AMD with AVX-512", "AMD without it", "Intel", "ARM", "a system that lists none"],
)
def test_only_amd_processors_with_avx512_use_it(monkeypatch, tmp_path, text, expected):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(cores, "CPUINFO", tmp_path / "cpuinfo")
    for library in (torch.backends.mkl, torch.backends.mkldnn):
        monkeypatch.setattr(library, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", None, raising=False)
    assert has_faster_products.__wrapped__() is expected
