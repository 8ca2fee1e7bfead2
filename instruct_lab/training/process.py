"""Preparation of a process that executes several runs."""

from __future__ import annotations

import gc

import instruct_lab.training.run  # noqa: F401  # loads the libraries
from instruct_lab.training.shared import SharedModels


def shared_models() -> SharedModels:
    """Load the libraries that all runs need, and return an empty `SharedModels`, which the runs fill with models.

    The objects that the libraries create, about a million, are excluded from later garbage collections.
    """
    gc.freeze()
    return SharedModels()
