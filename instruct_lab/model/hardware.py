"""Detect GPUs without loading torch."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

DEVICES = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/dxg")
"""Device files of GPU drivers: NVIDIA, AMD, and Windows Subsystem for Linux."""


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
