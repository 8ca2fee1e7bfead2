"""Measure memory and computation of torch operations on tensors without values.

The weights are fake tensors: they have a shape, a dtype and a storage size, but no memory. Whatever is computed from
them is fake too. Token ids, labels and masks are ordinary tensors. So the number of target tokens, and each decision
that a model's code takes by the values of a mask, are the same as in a real step.
"""

from __future__ import annotations

import functools
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop

aten = torch.ops.aten
MASKED = frozenset({aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index})
"""Operations that select by a mask; the shape of their result depends on the mask's values."""
DEVICE = torch.ops.prim.device.default
"""The question for the device of a fake tensor, which torch's C++ code asks twice for each operation."""


def _forward_flops(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return int(sdpa_flop(query.shape, key.shape, value.shape))


def _backward_flops(gradient: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return int(sdpa_backward_flop(gradient.shape, query.shape, key.shape, value.shape))


ATTENTION_FLOPS: dict[Any, Callable[..., int]] = {
    aten._scaled_dot_product_flash_attention_for_cpu: _forward_flops,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward_flops,
}
"""FLOP formulas of the fused attention on CPUs, which torch's counter lacks."""


class Operation(NamedTuple):
    """The cost of one torch operation, such as a matrix product.

    Args:
        flops: number of floating-point operations.
        moved: number of bytes that it reads and writes.
        width: size of each number in its result, in bytes.
    """

    flops: int
    moved: int
    width: int


class Meter(TorchDispatchMode):
    """A dispatch mode that measures the memory and the computation of all torch operations inside its `with` block.

    It counts the bytes in use, separately for each category (such as `activations`), and records each operation in
    `operations`.

    Args:
        vocabulary: size of the vocabulary; results whose last dimension has this size count as logits.
    """

    def __init__(self, vocabulary: int | None) -> None:
        super().__init__()
        self._vocabulary = vocabulary
        self._storages: dict[int, tuple[int, str, Any]] = {}
        self.live: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.operations: list[Operation] = []
        self.category = "activations"

    @property
    def peak_bytes(self) -> int:
        """The largest number of bytes that were in use at the same time."""
        return self.peak.total()

    def reset_peak(self) -> None:
        """Measure the largest use of memory from now on, beginning with the bytes that are in use now."""
        self.peak = Counter(self.live)

    @contextmanager
    def phase(self, category: str) -> Iterator[None]:
        """Inside the `with` block, count the results of operations under `category` instead of `activations`."""
        before, self.category = self.category, category
        try:
            yield
        finally:
            self.category = before

    def hold(self, tensor: torch.Tensor, category: str) -> None:
        """Count a tensor under a category until it is freed, even if it was counted under another category before."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._storages:
            size, before, reference = self._storages[key]
            self.live[before] -= size
            self._storages[key] = size, category, reference
        else:
            size = storage.nbytes()
            self._storages[key] = size, category, weakref.ref(storage, lambda _: self._free(key))
        self.live[category] += size

    def _free(self, key: int) -> None:
        size, category, _ = self._storages.pop(key)
        self.live[category] -= size

    def _count(self, tensor: torch.Tensor) -> None:
        if tensor.untyped_storage()._cdata in self._storages:
            return
        is_logits = tensor.dim() > 0 and tensor.shape[-1] == self._vocabulary and tensor.is_floating_point()
        is_logits = is_logits and self.category == "activations"
        self.hold(tensor, "logits" if is_logits else self.category)
        if self.live.total() > self.peak_bytes:
            self.peak = Counter(self.live)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, count the memory of its results, and record its cost."""
        if func is DEVICE:
            return args[0].device
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet in MASKED:
            args = (args[0], _positions(args[1]), *args[2:])
        result = func(*args, **kwargs)
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        for tensor in results:
            self._count(tensor)
        if not _is_view(func) and any(isinstance(tensor, FakeTensor) for tensor in results):
            inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            moved = sum(_num_bytes(tensor) for tensor in (*inputs, *results))
            self.operations.append(Operation(_flops(packet, args, kwargs, result), moved, results[0].element_size()))
        return result


@functools.cache
def _is_view(func: Any) -> bool:
    """Return whether an operation only gives its input another shape, and computes nothing."""
    returns = func._schema.returns
    return bool(returns) and returns[0].alias_info is not None and not returns[0].alias_info.is_write


def _num_bytes(tensor: torch.Tensor) -> int:
    """Return the number of bytes that a tensor takes in memory; repeated elements of an expanded tensor count once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _flops(packet: Any, args: Any, kwargs: Any, result: Any) -> int:
    if packet in ATTENTION_FLOPS:
        return ATTENTION_FLOPS[packet](*args, **kwargs)
    formula = flop_registry.get(packet)
    return 0 if formula is None else int(formula(*args, **kwargs, out_val=result))


def _positions(indices: Any) -> list[Any]:
    """Replace each mask among an operation's indices by the positions of its true elements.

    This is possible because masks, unlike weights, are ordinary tensors with values.
    """
    found: list[Any] = []
    for index in indices:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            found += index.nonzero().unbind(1)
        else:
            found.append(index)
    return found


def remove_values(model: torch.nn.Module) -> FakeTensorMode:
    """Replace a model's parameters and buffers, which are on the device `meta`, by fake tensors on the CPU.

    Modules that share a weight still share it afterwards.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    replaced: dict[int, torch.Tensor] = {}

    def fake(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in replaced:
            new: torch.Tensor = FakeTensor(mode, tensor.detach().to("meta"), torch.device("cpu"))
            if isinstance(tensor, torch.nn.Parameter):
                new = torch.nn.Parameter(new, requires_grad=tensor.requires_grad)
            replaced[id(tensor)] = new
        return replaced[id(tensor)]

    originals = []  # kept until the end, so that no id is used twice
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in list(tensors.items()):
                if tensor is not None:
                    originals.append(tensor)
                    tensors[name] = fake(tensor)  # type: ignore[assignment]
    return mode
