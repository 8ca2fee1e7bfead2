"""Compilation of the repeated layers of a model with `torch.compile`."""

from __future__ import annotations

import functools
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any

from instruct_lab.errors import InstructLabError
from instruct_lab.model.hardware import has_gpu
from instruct_lab.optional_packages import is_installed

BACKEND = "inductor"
"""The backend of `torch.compile`, which generates kernels."""
COMPILERS = ("g++", "clang++", "c++", "cl")
"""C++ compilers that torch can use for a CPU; the environment variable `CXX` may name another one."""


def compile_obstacle() -> str | None:
    """Return the reason why `torch.compile` cannot generate kernels on this machine, or `None` if it can."""
    if has_gpu():
        return (
            None if is_installed("triton") else "needs the package triton, which is not installed: pip install triton"
        )
    named = os.environ.get("CXX", "").split()[:1]
    if not any(map(shutil.which, (*named, *COMPILERS))):
        return f"needs a C++ compiler on a CPU, and none is found ({', '.join((*named, *COMPILERS))})"
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return None if header.is_file() else f"needs Python's header files on a CPU, and {header} does not exist"


def compile_layers(model: Any) -> None:
    """Compile the layers of a model for training; evaluation and decoding run the layers without compilation.

    Layers of the same class share the compiled code (regional compilation), so the time to compile does not grow with
    their number. Sizes of batches are symbolic, so that batches of other lengths need no further compilation.

    Args:
        model: a model of transformers after its tuning method was applied, which may have added adapters.

    Raises:
        InstructLabError: the model has no layers that can be compiled one by one.
    """
    import torch
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise InstructLabError(
            f"The layers of {type(model).__name__} cannot be compiled one by one",
            where="model.compile",
            do="set it to false",
        )
    for layer in layers:
        compiled = torch.compile(layer._call_impl, backend=BACKEND, dynamic=True)
        layer._compiled_call_impl = functools.partial(_call, layer, compiled)  # `Module.__call__` looks for it


def is_compiled(model: Any) -> bool:
    """Whether `compile_layers` has compiled the model's layers."""
    return any(module._compiled_call_impl is not None for module in model.modules())


def _call(layer: Any, compiled: Any, *args: Any, **kwargs: Any) -> Any:
    return (compiled if layer.training else layer._call_impl)(*args, **kwargs)
