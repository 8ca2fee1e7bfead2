"""Which parameters train, and which are added.

In: a loaded model. Out: the same model with `requires_grad` set everywhere, and folders of what was trained.
"""

from instruct_lab.tuning.base import Tuning
from instruct_lab.tuning.full import Full
from instruct_lab.tuning.lora import LoRA
from instruct_lab.tuning.parameters import ParameterCounts, count_parameters, trainable_parameters

__all__ = ["Full", "LoRA", "ParameterCounts", "Tuning", "count_parameters", "trainable_parameters"]
