"""Detection of GPUs, their bfloat16 support, and the instruction sets of the CPU, without loading torch."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import os
import platform
from pathlib import Path

from instruct_lab.cores import processor_fact

DEVICES = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/dxg")
"""Device files of GPU drivers: NVIDIA, AMD, and Windows Subsystem for Linux."""

NVIDIA_LIBRARIES = ("libnvidia-ml.so.1", "nvml.dll")
"""NVIDIA's management library, which is part of the driver, on Linux and Windows."""
BFLOAT16_CAPABILITY = 8
"""First major compute capability of NVIDIA GPUs with bfloat16 arithmetic (Ampere)."""

INSTRUCTIONS = {"avx2": "avx2", "avx512": "avx512f", "bf16": "avx512_bf16", "amx": "amx_bf16"}
"""x86 instruction sets that make training on a CPU faster, each with its name in Linux's `/proc/cpuinfo`."""
ARM_INSTRUCTIONS = {"neon": "asimd", "sve": "sve", "bf16": "bf16"}


def has_gpu() -> bool:
    """Whether torch can use a GPU on this machine."""
    return no_gpu() is None


def no_gpu() -> str | None:
    """Return the reason why torch cannot use a GPU on this machine, or `None` if it can."""
    root = Path("/")
    if not any(True for device in DEVICES for _ in root.glob(device.lstrip("/"))):
        return "there is no GPU here"
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "the package torch is not installed"
    return f"torch {version} is built for the CPU" if version.endswith("+cpu") else None


def has_apple_gpu() -> bool:
    """Whether this machine has an Apple GPU, which torch calls MPS."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def num_gpus() -> int | None:
    """Return the number of GPUs that torch can use; `None` if it is not known, for example with AMD GPUs."""
    if has_apple_gpu():
        return 1
    if not has_gpu():
        return 0
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return min(len(nvidia_capabilities()), len(named) or len(nvidia_capabilities())) or None


def computes_bfloat16() -> bool:
    """Whether this machine has GPUs that torch can use, and all of them support bfloat16 arithmetic."""
    if not has_gpu():
        return False
    if "+rocm" in importlib.metadata.version("torch"):
        return True  # all AMD GPUs that torch supports
    capabilities = nvidia_capabilities()
    return bool(capabilities) and min(capabilities) >= BFLOAT16_CAPABILITY


def cpu_instructions() -> list[str]:
    """Return the instruction sets of the CPU that speed up training; empty if the system does not list them."""
    flags = (processor_fact("flags|Features") or "").split()
    return [name for name, flag in {**ARM_INSTRUCTIONS, **INSTRUCTIONS}.items() if flag in flags]


def emulates_bfloat16() -> bool:
    """Whether the CPU is known to lack bfloat16 arithmetic, so that bfloat16 is eight times as slow as float32."""
    instructions = cpu_instructions()
    return bool(instructions) and not {"bf16", "amx"} & set(instructions)


@functools.cache
def nvidia_capabilities() -> tuple[int, ...]:
    """Return the major compute capability of each NVIDIA GPU, as the driver reports it; empty without a driver.

    CUDA is not initialised, because a process that has initialised CUDA cannot use it in processes that it forks.
    """
    library = _nvidia_library()
    if library is None or library.nvmlInit_v2() != 0:
        return ()
    try:
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return ()
        return tuple(_nvidia_capability(library, index) for index in range(count.value))
    finally:
        library.nvmlShutdown()


def _nvidia_library() -> ctypes.CDLL | None:
    for name in NVIDIA_LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _nvidia_capability(library: ctypes.CDLL, index: int) -> int:
    """Return the major compute capability of one GPU; 0 if the driver does not report it."""
    device, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
    if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)) != 0:
        return 0
    failed = library.nvmlDeviceGetCudaComputeCapability(device, ctypes.byref(major), ctypes.byref(minor)) != 0
    return 0 if failed else major.value
