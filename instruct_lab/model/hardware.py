"""What this machine has, found out without loading a heavy library."""

from __future__ import annotations

from pathlib import Path

DEVICES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Where the drivers of NVIDIA and AMD, and of Windows' Linux, show a GPU."""


def has_gpu() -> bool:
    """Whether a GPU's driver is there."""
    return any(Path(device).exists() for device in DEVICES)
