"""Full fine-tuning of a model with a parameter that no forward pass reads."""

import torch

from instruct_lab.config import component
from instruct_lab.tuning import Full


@component
class FullWithUnusedParameter(Full):
    """Full fine-tuning with one more parameter, which is trained, decayed and saved, and has no effect."""

    def apply(self, loaded):
        """Add the parameter."""
        loaded = super().apply(loaded)
        loaded.model.register_parameter("unused", torch.nn.Parameter(torch.ones(5)))
        return loaded

    def _check(self, found, path):
        """Accept the additional tensor in the file of the weights."""
