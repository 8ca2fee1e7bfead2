"""Suppression of messages that libraries would print to the terminal."""

from __future__ import annotations

import logging
import warnings

from instruct_lab.model.transformers_library import import_transformers


def quiet_libraries() -> None:
    """Silence notices, progress bars and deprecation warnings of libraries, for this process."""
    import_transformers()
    from transformers.utils.logging import disable_progress_bar

    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torch.utils.data|transformers|peft")
    disable_progress_bar()
