"""A faster import of the library transformers: two of its imports are delayed until they are used.

They are `scipy.optimize`, which only the losses of object detection need, and the `__init__` of `transformers.models`,
which reads the files of all models a second time to find their names.
"""

from __future__ import annotations

import importlib

from instruct_lab.late_imports import initialize_late


def import_transformers() -> None:
    """Import transformers, but delay the import of `scipy.optimize` and `transformers.models` until they are used."""
    importlib.import_module("transformers")
    initialize_late("transformers.models", members={})
    initialize_late("scipy.optimize", members={"linear_sum_assignment": "_lsap"})
