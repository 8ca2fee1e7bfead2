"""What is minimised.

In: a batch and a model. Out: a summed loss and what it is divided by, for each example: target tokens, or one for a
pair. The division happens once per optimizer step.
"""

from instruct_lab.objective.base import Head, Loss, Objective, TokenScores
from instruct_lab.objective.denoising import SpanCorruption, TextInfilling
from instruct_lab.objective.distillation import Distillation
from instruct_lab.objective.masked import Masked
from instruct_lab.objective.preference import CPO, DPO, KTO, ORPO, Preference, SimPO
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
    "Preference",
    "Reward",
    "SimPO",
    "SpanCorruption",
    "Supervised",
    "TextInfilling",
    "TokenScores",
]
