"""Raise an error for a model or tensors that do not fit into the free memory, before memory is allocated for them."""

from __future__ import annotations

import contextlib
import copy
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    import torch

MAX_TENSORS = 100_000
"""Maximum number of tensors of a model; Python needs some kilobytes for each tensor, even for the smallest."""
MEMINFO = Path("/proc/meminfo")
CGROUP, CGROUP_ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
CREATORS = frozenset({"empty", "eye", "full", "new_empty", "new_zeros", "ones", "rand", "randn", "zeros"})
"""Operations of torch that create a tensor whose size is among their arguments."""
BYTES = 4
"""Assumed number of bytes of each value in a tensor that is created."""
ADVICE = (
    "choose a smaller model or smaller settings; set its dtype to bfloat16, which halves the memory; or use a machine, "
    "or a limit of the container, with more memory"
)


def free_memory() -> int | None:
    """Return the memory in bytes that this process can still allocate; `None` if the system does not report it.

    This is the available memory of the system or, if it is less, what the process's control groups (such as those of a
    container) still allow. Files that the system keeps in memory only as a cache count as free.
    """
    found = [limit - used for limit, used in _group_limits()]
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text(encoding="ascii").splitlines())
        found.append(1024 * int(lines["MemAvailable"].split()[0]))
    if not found:
        found += _machine_memory()  # macOS: all memory
    return max(0, min(found)) if found else None


def total_memory() -> int | None:
    """Return the memory of the machine in bytes; `None` if it is not known.

    If the process's control groups (such as those of a container) allow less, the result is their limit.

    In contrast to `free_memory`, the result does not depend on what runs at the moment.
    """
    found = [*_machine_memory(), *(limit for limit, _ in _group_limits())]
    return min(found) if found else None


def _machine_memory() -> list[int]:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    return []


def _group_limits() -> Iterator[tuple[int, int]]:
    """Yield the memory limit and the used memory, in bytes, of each control group (v1 or v2) of this process."""
    try:
        entries = [line.split(":", 2) for line in CGROUP.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return
    for entry in entries:
        controllers, path = entry[1], entry[2].strip("/")
        if controllers not in ("", "memory"):
            continue
        root = CGROUP_ROOT / controllers
        limit, usage = (
            ("memory.max", "memory.current") if not controllers else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        folder = root / path
        for group in (folder, *folder.parents):
            if not group.is_relative_to(root):
                break
            with contextlib.suppress(OSError, ValueError):
                used = int((group / usage).read_text()) - _cached_files(group)
                yield int((group / limit).read_text()), used  # "max" is no number


def _cached_files(group: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        lines = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int(lines.get("inactive_file", lines.get("total_inactive_file", "0")))
    return 0


def does_not_fit(num_bytes: float) -> str | None:
    """Return why weights do not fit into the free memory; `None` if they fit, or if the free memory is not known."""
    free = free_memory()
    if free is None or num_bytes <= free:
        return None
    return f"its weights need at least {_gib(num_bytes)} of memory, and {_gib(free)} are free"


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB"


def refuse_if_too_large(num_bytes: float, where: str) -> None:
    """Raise an error if weights of `num_bytes` bytes need more memory than is free.

    Raises:
        InstructLabError: the weights need more memory; the error's message contains `where`.
    """
    if (reason := does_not_fit(num_bytes)) is not None:
        raise InstructLabError(f"The model cannot be loaded: {reason}", where=where, do=ADVICE)


def check_memory(config: Any, auto: Any, bytes_per_number: float, where: str, trust_remote_code: bool = False) -> None:
    """Raise an error for a model that does not fit into the free memory, without allocating its weights.

    Args:
        config: the model's configuration in transformers.
        auto: transformers' auto class that builds the model, such as `AutoModelForCausalLM`.
        bytes_per_number: bytes of memory for each number in the loaded weights.
        where: key or name of the model in the error.
        trust_remote_code: whether Python files that come with the model are run.

    Raises:
        InstructLabError: the model does not fit, or has more than 100,000 parameter tensors.
    """
    import torch
    from torch.nn.modules.module import register_module_parameter_registration_hook

    free, numbers, count = free_memory(), 0, 0
    too_many = InstructLabError(
        f"The model has more than {MAX_TENSORS:,} parameters, each a tensor",
        where=where,
        do="set fewer layers or experts",
    )
    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if isinstance(layers, int) and layers > MAX_TENSORS:  # each has a parameter; building some of them takes seconds
        raise too_many

    def add(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        """Count a parameter of the model that is being built, and raise an error if the model becomes too large.

        A tensor that two modules share is counted twice here. The limit is therefore twice the free memory. An error is
        also raised if there are too many parameter tensors.
        """
        nonlocal numbers, count
        numbers, count = numbers + (0 if parameter is None else parameter.numel()), count + 1
        if count > MAX_TENSORS:
            raise too_many
        if free is not None and numbers * bytes_per_number > 2 * free:
            refuse_if_too_large(numbers * bytes_per_number / 2, where)

    handle = register_module_parameter_registration_hook(add)
    try:
        with torch.device("meta"):
            model = auto.from_config(copy.deepcopy(config), trust_remote_code=trust_remote_code)
    except InstructLabError:
        raise
    except Exception:  # the same error ends the real build, with its explanation
        return
    finally:
        handle.remove()
    needed = bytes_per_number * sum(parameter.numel() for parameter in model.parameters())
    needed += sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())  # such as masks of GPT-Neo
    refuse_if_too_large(needed, where)


@contextlib.contextmanager
def limited_allocations(where: str) -> Iterator[None]:
    """Raise an error if the tensors that are created in the block would together need more memory than is free.

    Raises:
        InstructLabError: a tensor would exceed the free memory; it is not created.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    free, total = free_memory(), 0

    class Limit(TorchDispatchMode):
        """A dispatch mode of torch that raises an error if all new tensors together do not fit into the free memory."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal total
            options, name = kwargs or {}, func.overloadpacket.__name__
            if name in CREATORS and options.get("device") != torch.device("meta"):
                total += BYTES * _num_values(name, [one for one in args if not isinstance(one, torch.Tensor)])
                if free is not None and total > free:
                    what = f"Tensors of more than {_gib(total)} would be created, and {_gib(free)} of memory are free"
                    raise InstructLabError(what, where=where, do="choose smaller sizes, such as a lower rank")
            return func(*args, **options)

    with Limit():
        yield


def _num_values(name: str, arguments: list[Any]) -> int:
    """Return the number of values in the tensor that torch creates by an operation.

    Args:
        name: name of the operation, such as `zeros`.
        arguments: arguments of the operation.
    """
    if name == "eye":
        sizes = [one for one in arguments if isinstance(one, int)]
        return sizes[0] * sizes[-1]
    return math.prod(arguments[0])
