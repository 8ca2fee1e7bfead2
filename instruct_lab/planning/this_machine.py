"""Measure a device of this machine: the speed of matrix products and copies, and the time to start an operation."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from instruct_lab.memory import free_memory
from instruct_lab.planning.device import GIB, THIS_MACHINE, Device, Precision

UNKNOWN_MEMORY = 16 * GIB
"""Memory that is assumed if the system does not report it."""
REPEATS = 5
SMALL_OPERATIONS = 9
"""The time to start an operation of a model on a CPU, as a multiple of the time of a small operation without a model.

The model's Python code, the recording for the backward pass and the allocation of memory take most of this time. The
number was measured with steps and answers of the default model (`tests/benchmarks/README.md`).
"""


@functools.cache
def measure_this_machine(kind: str = "cpu") -> Device:
    """Measure the speed of this machine's processor (`cpu`) or first GPU (`cuda`), which takes about a second.

    The processor is measured with torch's current number of threads.
    """
    import torch

    from instruct_lab.model.linear_layers import has_faster_products, multiply

    is_gpu = kind == "cuda"
    product = multiply if not is_gpu and has_faster_products() else torch.mm
    size = 4096 if is_gpu else 768

    def products(dtype: torch.dtype) -> float:
        left, right = (
            torch.randn(512, size, device=kind, dtype=dtype),
            torch.randn(size, size, device=kind, dtype=dtype),
        )
        return 2 * 512 * size * size / _seconds(lambda: product(left, right), 20 if is_gpu else 1) / 1e12

    def copies() -> float:
        source = torch.randn(64 * 2**20 if is_gpu else 4 * 2**20, device=kind)  # larger than the caches
        target = torch.empty_like(source)
        return 2 * source.numel() * 4 / _seconds(lambda: torch.mul(source, 1.5, out=target)) / 1e9

    gigabytes_per_second = copies()
    small = torch.randn(8, device=kind)
    teraflops: dict[Precision, float] = {"float32": products(torch.float32)}
    if is_gpu and torch.cuda.is_bf16_supported(including_emulation=False):
        teraflops["bfloat16"] = products(torch.bfloat16)
    if is_gpu:
        torch.cuda.empty_cache()  # other processes, such as the runs of a sweep, need the memory
    start = 1e6 * _seconds(lambda: small * 1.5, count=200) * (1 if is_gpu else SMALL_OPERATIONS)
    free = torch.cuda.get_device_properties(0).total_memory if is_gpu else free_memory()
    count = torch.get_num_threads()
    threads = f"the CPU of this machine, {count} thread{'' if count == 1 else 's'}"
    return Device(
        name=THIS_MACHINE if kind == "cpu" else kind,
        label=torch.cuda.get_device_name(0) if is_gpu else threads,
        memory_gib=(UNKNOWN_MEMORY if free is None else free) / GIB,
        reserved_gib=0.6 if is_gpu else 0.0,
        teraflops=teraflops,
        gigabytes_per_second=gigabytes_per_second,
        reached_share=1.0,  # the measurement is of what products reach
        microseconds_per_operation=max(1.0, start),
        kind="gpu" if is_gpu else "cpu",
    )


def _seconds(run: Callable[[], object], count: int = 1) -> float:
    """Return the seconds that one call of `run` takes.

    After a first call that is not measured, `REPEATS` groups of `count` calls are measured. The result is the median of
    the groups, divided by `count`.
    """
    import torch

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    run()
    wait()
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        for _ in range(count):
            run()
        wait()
        found.append((time.perf_counter() - started) / count)
    return sorted(found)[REPEATS // 2]
