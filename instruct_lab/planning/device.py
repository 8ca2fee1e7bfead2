"""The description of a device: its memory, speed and bandwidth."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

THIS_MACHINE = "cpu"
"""The name of the device whose arithmetic and bandwidth are measured: the processor of this machine."""
GIB = 2**30
Precision = Literal["float32", "bfloat16", "float16"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Device:
    """One device on which a run can compute.

    Args:
        name: the name by which the command line selects the device.
        label: the name that reports show.
        memory_gib: memory that a program can allocate, in GiB.
        reserved_gib: the part of `memory_gib` that the driver and the libraries use, in GiB.
        teraflops: peak speed of dense matrix products, in 10^12 floating-point operations per second, keyed by the
            dtype of the numbers.
        gigabytes_per_second: bandwidth of the memory.
        interconnect_gigabytes_per_second: bandwidth between devices, in each direction; `None`: unknown.
        reached_share: fraction of the peak speed that matrix products of usual sizes reach.
        microseconds_per_operation: minimum time of an operation of a model, however small its tensors are.
        kind: `gpu` or `cpu`.
    """

    name: str
    label: str
    memory_gib: Positive
    reserved_gib: Annotated[float, Field(ge=0)] = 0.6
    teraflops: dict[Precision, Positive]
    gigabytes_per_second: Positive
    interconnect_gigabytes_per_second: Positive | None = None
    reached_share: Annotated[float, Field(gt=0, le=1)] = 0.6
    microseconds_per_operation: Positive = 8.0
    kind: Literal["gpu", "cpu"] = "gpu"

    @property
    def precision(self) -> str:
        """The precision, by its name in Lightning, that a run on this device uses if its configuration sets none."""
        return "bf16-mixed" if self.kind == "gpu" and "bfloat16" in self.teraflops else "32-true"

    @property
    def usable_bytes(self) -> float:
        """The memory that tensors can use, in bytes."""
        return (self.memory_gib - self.reserved_gib) * GIB

    def flops_per_second(self, width: int) -> float:
        """Return the floating-point operations per second that matrix products of usual sizes reach.

        Args:
            width: size of each number in the matrices, in bytes.
        """
        half = self.teraflops.get("bfloat16") or self.teraflops.get("float16")
        full = self.teraflops.get("float32") or half
        chosen = half if width <= 2 and half else full
        assert chosen is not None
        return chosen * 1e12 * self.reached_share
