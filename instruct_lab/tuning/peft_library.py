"""Load the library PEFT without bitsandbytes, which PEFT would otherwise import even if no model is quantised.

Importing bitsandbytes takes half as long as importing PEFT. bitsandbytes is not needed to find quantised layers: a
model has them only if bitsandbytes was already imported when the model was loaded.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

from instruct_lab.late_imports import import_late

QUANTIZER = "bitsandbytes"


def load_peft() -> Any:
    """Import PEFT without bitsandbytes, which is then imported only when PEFT first uses it."""
    with import_late(QUANTIZER):
        return importlib.import_module("peft")


@contextlib.contextmanager
def without_quantizer(config: Any) -> Iterator[None]:
    """Make PEFT skip its search for bitsandbytes layers when it adds adapters to a model in the `with` block.

    If bitsandbytes has been imported, the model may have such layers, and nothing is skipped.

    Args:
        config: PEFT's configuration. With the initialisation `loftq`, PEFT itself uses bitsandbytes, so that nothing is
            skipped.
    """
    from peft import import_utils

    if QUANTIZER in sys.modules or getattr(config, "init_lora_weights", None) == "loftq":
        yield
        return
    answers = (import_utils.is_bnb_available, import_utils.is_bnb_4bit_available)  # both cache their first result
    _forget(answers)
    sys.modules[QUANTIZER] = None  # type: ignore[assignment]  # Python's mark of a module that cannot be imported
    try:
        for is_available in answers:
            is_available()
    finally:
        del sys.modules[QUANTIZER]
    try:
        yield
    finally:
        _forget(answers)


def _forget(answers: tuple[Any, ...]) -> None:
    for is_available in answers:
        is_available.cache_clear()
