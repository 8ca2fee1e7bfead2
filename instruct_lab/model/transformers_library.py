"""A faster import of the library transformers: two of its imports are delayed until they are used.

One is `scipy.optimize`, which only the losses of object detection need. The other is `transformers.models`, whose
`__init__.py` reads the source files of all models to list their names, although importing transformers has already done
so.
"""

from __future__ import annotations

import importlib

from instruct_lab.late_imports import initialize_late


def import_transformers() -> None:
    """Import transformers, but delay the import of `scipy.optimize` and `transformers.models` until they are used."""
    importlib.import_module("transformers")
    initialize_late("transformers.models", members={})
    initialize_late("scipy.optimize", members={"linear_sum_assignment": "_lsap"})
