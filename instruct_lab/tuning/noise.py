"""Add noise to the embeddings during training (NEFTune)."""

from __future__ import annotations

import math
from typing import Any

from instruct_lab.model.family import without_adapters


def add_embedding_noise(model: Any, alpha: float) -> None:
    """Add noise to the input embeddings in training mode: alpha / sqrt(L d) times uniform noise in [-1, 1].

    L is the length of the padded batch and d the width of the embeddings, as in transformers and TRL. In an
    encoder-decoder, the noise is added only to the encoder's input. Virtual tokens get no noise. The noise is drawn
    from torch's random state and does not change any parameter. Source: Jain et al., 2024 (NEFTune).

    Args:
        model: a model with or without adapters; hooks are registered on its embeddings.
        alpha: scale of the noise, above 0; 5 is usual.
    """
    import torch

    base = without_adapters(model)
    layers = [base.get_input_embeddings()]  # without virtual tokens
    in_decoder: list[bool] = []
    if base.config.is_encoder_decoder:  # encoder and decoder may have separate layers with the same weights
        layers.append(base.get_encoder().get_input_embeddings())
        decoder = base.get_decoder()
        decoder.register_forward_pre_hook(lambda module, arguments: in_decoder.append(True))
        decoder.register_forward_hook(lambda module, arguments, output: in_decoder.clear(), always_call=True)

    def noisy(module: Any, arguments: tuple[Any, ...], output: Any) -> Any:
        if not module.training or in_decoder:
            return output
        scale = alpha / math.sqrt(output.shape[1] * output.shape[2])  # [rows, seq, hidden]
        return output + torch.empty_like(output).uniform_(-scale, scale)

    for layer in {id(layer): layer for layer in layers}.values():
        layer.register_forward_hook(noisy)
