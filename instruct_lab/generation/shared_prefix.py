"""Tokens with which several rows of a batch begin; their keys and values are computed only once.

All prompts may begin with the same system prompt or worked examples, and a prompt has a row for each beam and sample.
Under a causal mask, the keys and values of these shared tokens are the same numbers in every row, so they are computed
in one row and then repeated. The padding of shorter prompts lies after the tokens that all prompts share.
`objective.shared_prefix.obstacle` returns the reason why a model's keys and values cannot be shared in this way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from instruct_lab.model.family import without_adapters
from instruct_lab.tuning.cache_names import cache_name

MIN_SAVED = 64
"""Shared tokens are computed only once if this saves at least so many token positions of a batch.

Otherwise it would save no time, because it takes one more forward pass.
"""


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens at the beginning of all prompts are the same.

    It is enough to compute the keys and values of these tokens once. The result is 0 if there are so few tokens that
    this would save no time. The last token of each prompt is never included, because the model predicts the first token
    of the answer from it.

    Args:
        prompts: token ids of the prompts of a batch.
    """
    ordered = sorted(map(list, prompts))  # what the first and the last share, all share
    bound = min(map(len, prompts)) - 1
    shared = next((index for index in range(bound) if ordered[0][index] != ordered[-1][index]), bound)
    return shared if shared * (len(prompts) - 1) >= MIN_SAVED else 0


def prompt_cache(
    model: Any, input_ids: torch.Tensor, mask: torch.Tensor, shared: int, num_beams: int
) -> dict[str, Any]:
    """Create the key-value cache of a batch, and compute the keys and values of tokens that several rows share.

    The first `shared` tokens, which all rows share, are computed once. Rows with the same prompt share all its tokens
    but the last: these are computed once for each distinct prompt, unless this would save no time.

    Args:
        model: a model of transformers in evaluation mode, for which `objective.shared_prefix.obstacle` returns `None`.
        input_ids: token ids of the prompts, int64 `[batch, seq]`; padding lies after the shared tokens.
        mask: attention mask, int64 `[batch, seq]`; 1 for tokens, 0 for padding.
        shared: number of first tokens that all prompts share, from `shared_length`.
        num_beams: number of beams; each row of `input_ids` becomes that many rows of the cache.

    Returns:
        A dictionary with the cache. Its key is the name of the argument by which the model takes the cache.
    """
    base = without_adapters(model)
    cache = DynamicCache(config=base.config.get_text_config(decoder=True))
    name = str(cache_name(base))
    arguments = {name: cache, "use_cache": True}
    body = base.base_model  # without the head, since no token is predicted
    if shared:
        first = torch.arange(shared, device=input_ids.device)[None]
        body(input_ids=input_ids[:1, :shared], position_ids=first, **arguments)
    distinct, owners = torch.unique(torch.cat([input_ids, mask], dim=1), dim=0, return_inverse=True)
    owners = owners.repeat_interleave(num_beams)  # for each row, the index of its prompt
    width = input_ids.shape[1]
    saves = (len(owners) - len(distinct)) * (width - 1 - shared) >= MIN_SAVED
    if shared:
        cache.batch_repeat_interleave(len(distinct) if saves else len(owners))
    if saves:
        ids, shown = distinct[:, : width - 1], distinct[:, width:-1]  # without the last token
        positions = (shown.cumsum(dim=1) - 1).clamp(min=0)
        body(input_ids=ids[:, shared:], attention_mask=shown, position_ids=positions[:, shared:], **arguments)
        cache.batch_select_indices(owners)
    return {name: cache}
