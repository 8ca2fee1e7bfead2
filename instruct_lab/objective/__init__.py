"""What is minimised.

In: a batch and a model. Out: a summed loss in nats and the number of target tokens, divided once per optimizer step.
"""

from instruct_lab.objective.base import Head, Loss, Objective, TokenScores
from instruct_lab.objective.supervised import Supervised

__all__ = ["Head", "Loss", "Objective", "Supervised", "TokenScores"]
