"""Tuning methods: which parameters are trained, and which are added.

Input: a `LoadedModel`. Output: the same model with `requires_grad` set on every parameter, and folders with the trained
parameters. Prompting trains nothing and adds worked examples to the prompts.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.tuning.adapters import BOFT, IA3, OFT, FourierFT, VeRA
    from instruct_lab.tuning.base import Tuning
    from instruct_lab.tuning.full import Full
    from instruct_lab.tuning.lora import LoRA
    from instruct_lab.tuning.parameters import ParameterCounts, count_parameters, trainable_parameters
    from instruct_lab.tuning.partial import BitFit, Freeze, HeadOnly
    from instruct_lab.tuning.peft_method import PeftMethod
    from instruct_lab.tuning.prompting import Prompting
    from instruct_lab.tuning.virtual_tokens import PrefixTuning, PromptTuning, PTuning

__all__ = [
    "BOFT",
    "IA3",
    "OFT",
    "BitFit",
    "FourierFT",
    "Freeze",
    "Full",
    "HeadOnly",
    "LoRA",
    "PTuning",
    "ParameterCounts",
    "PeftMethod",
    "PrefixTuning",
    "PromptTuning",
    "Prompting",
    "Tuning",
    "VeRA",
    "count_parameters",
    "trainable_parameters",
]

__getattr__ = names_on_demand(__name__)
