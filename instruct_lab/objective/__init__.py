"""Objectives: the losses that training minimises.

Input: a batch and a model. Output: a summed loss and a count for each example. The count is the number of target
tokens, or 1 for a preference pair. Once per optimizer step, the sum of all losses is divided by the sum of all counts.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.objective.base import Head, Loss, Objective, TokenScores
    from instruct_lab.objective.denoising import SpanCorruption, TextInfilling
    from instruct_lab.objective.distillation import Distillation
    from instruct_lab.objective.masked import Masked
    from instruct_lab.objective.preference import PreferenceObjective
    from instruct_lab.objective.preference_losses import CPO, DPO, KTO, ORPO, SimPO
    from instruct_lab.objective.reward import Reward
    from instruct_lab.objective.supervised import Causal, Supervised

__all__ = [
    "CPO",
    "DPO",
    "KTO",
    "ORPO",
    "Causal",
    "Distillation",
    "Head",
    "Loss",
    "Masked",
    "Objective",
    "PreferenceObjective",
    "Reward",
    "SimPO",
    "SpanCorruption",
    "Supervised",
    "TextInfilling",
    "TokenScores",
]

__getattr__ = names_on_demand(__name__)
