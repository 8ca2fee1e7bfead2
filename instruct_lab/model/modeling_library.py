"""Load the modelling code of transformers without `scipy.optimize`, which only its losses of object detection use."""

from __future__ import annotations

import importlib

from instruct_lab.late_imports import initialize_late


def load_modeling() -> None:
    """Import the code that all models of transformers share; most of `scipy.optimize` is imported when it is used."""
    initialize_late("scipy.optimize", members={"linear_sum_assignment": "_lsap"})
    importlib.import_module("transformers.modeling_utils")
