"""Embedding rows for tokens that were not pretrained."""

from __future__ import annotations

from typing import Any


def fit_embeddings(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Add rows for new tokens to the input embeddings and the output projection, each set to the mean of the old rows.

    If a new row were random, its token could get nearly all the probability; the mean avoids this (Hewitt, 2021,
    "Initializing new word embeddings for pretrained language models"). If a new token uses a row that the pretrained
    tokenizer left unused, this row also counts as new. No random number is drawn.

    Args:
        model: the model, which is changed in place; its input and output embeddings may be one tensor.
        tokenizer: the tokenizer; it has `added_token_ids` if tokens were added.

    Returns:
        The indices of the new rows, in order.
    """
    import torch

    num_tokens = max(tokenizer.get_vocab().values()) + 1
    num_rows = model.get_input_embeddings().weight.shape[0]  # [rows, hidden]
    new = set(getattr(tokenizer, "added_token_ids", ())) | set(range(num_rows, num_tokens))
    if not new:
        return ()
    if num_tokens > num_rows:
        with torch.random.fork_rng(devices=[]):
            model.resize_token_embeddings(num_tokens, mean_resizing=False)
    old = torch.tensor([row for row in range(min(num_rows, num_tokens)) if row not in new])
    rows = torch.tensor(sorted(new))
    parts: dict[int, Any] = {}
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        if layer is not None:
            parts |= {id(layer.weight): layer.weight}
            bias = getattr(layer, "bias", None)
            parts |= {} if bias is None else {id(bias): bias}
    with torch.no_grad():
        for part in parts.values():  # tied weights are changed only once
            part[rows] = part[old].float().mean(dim=0).to(part.dtype)
    return tuple(rows.tolist())
