"""An attention implementation for transformers that keeps apart the texts that are packed into one row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "instruct_lab_packed"
"""The name under which transformers knows this attention implementation."""

VARLEN_DTYPES = (torch.float16, torch.bfloat16)
MAX_VARLEN_WIDTH = 256
"""Largest width of an attention head that `varlen_attn` computes."""


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Compute attention in packed rows, which each hold several texts; a token attends only to tokens of its own text.

    For padded rows, which hold one text each, PyTorch's own attention is called.

    Args:
        module: the attention layer that calls the function.
        query: `[rows, heads, seq, width]`; `width` is the width of one head.
        key: `[rows, key heads, seq, width]`; there can be fewer key heads than query heads.
        value: `[rows, key heads, seq, width]`.
        attention_mask: for packed rows, the borders of the texts, int32 `[1, 1, 1, texts + 1]`: the index of each
            text's first token, counted through all rows, then the number of all tokens. Any other mask means padded
            rows. The borders are passed as the mask because some models pass only the mask on to their layers.
        dropout: the probability that an attention weight is dropped.
        scaling: the number by which attention scores are multiplied; `None`: one over the square root of the width.
        options: other keyword arguments of the attention layer. `sliding_window` is the number of tokens in a window,
            which includes the token itself; `max_length_q` is the number of tokens of the longest text.

    Returns:
        The output `[rows, seq, heads, width]`; and `None` instead of attention weights.
    """
    if attention_mask is None or attention_mask.dtype != torch.int32:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    borders = attention_mask.flatten()
    causal = options.pop("is_causal", None)
    is_causal = bool(getattr(module, "is_causal", True) if causal is None else causal)
    window: int | None = options.get("sliding_window")
    rows, _, seq, _ = query.shape
    flat = [states.transpose(1, 2).flatten(0, 1) for states in (query, key, value)]  # [rows * seq, heads, width]
    if query.is_cuda and query.dtype in VARLEN_DTYPES and not dropout and query.shape[-1] <= MAX_VARLEN_WIDTH:
        longest = options.get("max_length_q") or int(borders.diff().max())
        output = _attend_at_once(flat, borders, longest, scaling, is_causal, window)
        return output.unflatten(0, (rows, seq)), None
    outputs = []
    lengths = borders.diff().tolist()
    for states in zip(*(states.split(lengths) for states in flat), strict=True):
        q, k, v = (one.transpose(0, 1)[None] for one in states)  # [1, heads, length, width]
        mask = _window_mask(q, window, is_causal) if window is not None and q.shape[2] > window else None
        outputs.append(
            sdpa_attention_forward(
                module, q, k, v, mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **options
            )[0][0]
        )
    return torch.cat(outputs).unflatten(0, (rows, seq)), None


def _attend_at_once(
    states: list[Tensor], borders: Tensor, longest: int, scaling: float | None, is_causal: bool, window: int | None
) -> Tensor:
    """Compute attention in all texts with one call of PyTorch's kernel for texts of different lengths, on a GPU.

    Args:
        states: queries, keys and values, each `[tokens, heads, width]`.
        borders: index of each text's first token, then the number of all tokens, int32 `[texts + 1]`.
        longest: number of tokens of the longest text.
        scaling: the number by which attention scores are multiplied; `None`: one over the square root of the width.
        is_causal: whether a token attends only to itself and earlier tokens.
        window: number of tokens in the sliding window; `None`: there is no window.

    Returns:
        The output of attention, `[tokens, heads, width]`.
    """
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = states
    before = -1 if window is None else window - 1
    sizes = (before, 0 if is_causal else before)
    has_groups = query.shape[1] != key.shape[1]
    output = varlen_attn(
        query, key, value, borders, borders, longest, longest, scale=scaling, window_size=sizes, enable_gqa=has_groups
    )
    assert isinstance(output, Tensor)
    return output


def _window_mask(query: Tensor, window: int, is_causal: bool) -> Tensor:
    """Return a mask that is true where a key (column) is in the sliding window of a query (row).

    Args:
        query: the queries of one text, `[1, heads, length, width]`; `length` is its number of tokens.
        window: number of tokens in the sliding window.
        is_causal: whether a token attends only to itself and earlier tokens.

    Returns:
        The mask, bool `[1, 1, length, length]`.
    """
    positions = torch.arange(query.shape[2], device=query.device)
    distances = positions[:, None] - positions  # [length, length]
    is_seen = distances.abs() < window
    return (is_seen & (distances >= 0) if is_causal else is_seen)[None, None]


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
