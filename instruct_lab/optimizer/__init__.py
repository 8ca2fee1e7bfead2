"""Optimizers and parameter groups.

Input: a model's named parameters. Output: a torch optimizer.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.optimizer.base import Optimizer
    from instruct_lab.optimizer.matrix_optimizers import GaLore, Muon
    from instruct_lab.optimizer.optimizers import Adafactor, AdamW, Lion, ScheduleFreeAdamW
    from instruct_lab.optimizer.quantized import QuantizedAdamW

__all__ = ["Adafactor", "AdamW", "GaLore", "Lion", "Muon", "Optimizer", "QuantizedAdamW", "ScheduleFreeAdamW"]

__getattr__ = names_on_demand(__name__)
