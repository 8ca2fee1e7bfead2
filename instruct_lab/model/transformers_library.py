"""A faster import of the library transformers, which delays parts that a run may not use.

These are `scipy.optimize`, which the losses of object detection import, and the `__init__` of `transformers.models`,
which reads the files of all models a second time to find their names. Both are imported when they are used.
"""

from __future__ import annotations

import importlib

from instruct_lab.late_imports import initialize_late


def import_transformers() -> None:
    """Import transformers; parts that a run may not use are imported only when they are first used."""
    importlib.import_module("transformers")
    initialize_late("transformers.models", members={})
    initialize_late("scipy.optimize", members={"linear_sum_assignment": "_lsap"})
