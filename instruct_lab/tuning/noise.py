"""Noise on the embeddings in training."""

from __future__ import annotations

import math
from typing import Any


def add_embedding_noise(model: Any, alpha: float) -> None:
    """Add uniform noise in [-1, 1] times alpha / sqrt(L d) to the embeddings of the input, in training alone.

    L is the length of the padded batch and d the width of the embeddings, as transformers and TRL have it. The noise is
    drawn from torch's random state and is no part of the model. Source: Jain et al., 2024 (NEFTune).
    """
    import torch

    def noisy(module: Any, arguments: tuple[Any, ...], output: Any) -> Any:
        if not module.training:
            return output
        scale = alpha / math.sqrt(output.shape[1] * output.shape[2])
        return output + torch.empty_like(output).uniform_(-scale, scale)

    model.get_input_embeddings().register_forward_hook(noisy)
