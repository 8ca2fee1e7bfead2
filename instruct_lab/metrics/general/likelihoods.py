"""Log-probabilities of plain texts under a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from instruct_lab.batch_limits import compute_in_parts
from instruct_lab.batching import IGNORED, Example, Padded
from instruct_lab.generation import context_length
from instruct_lab.generation.decoding import evaluation_mode
from instruct_lab.model import LoadedModel
from instruct_lab.model.token_budget import scored_tokens
from instruct_lab.objective.log_probabilities import sequence_log_probabilities
from instruct_lab.progress import advance, stage


def log_probabilities(
    loaded: LoadedModel, requests: Sequence[tuple[str, str]], batch_tokens: int | None = None
) -> list[float]:
    """Compute the log-probability of each continuation after its context, in nats.

    The BOS token (or the EOS token if there is no BOS token) is put before each context. So the model also predicts the
    first token of a continuation whose context is empty. A text that is longer than the model's maximum length is
    scored in windows, each of which starts with the last token of the preceding window.

    Args:
        loaded: a decoder-only language model in memory.
        requests: pairs of a context (which may be empty) and the continuation whose probability is computed.
        batch_tokens: maximum number of tokens of a batch, with padding; `None`: estimated from the memory.
    """
    model, tokenizer, context = loaded.model, loaded.tokenizer, context_length(loaded.model)
    device = next(model.parameters()).device
    batching = Padded(max_tokens=None)
    owners, windows = [], []
    for index, request in enumerate(requests):
        for window in cut_windows(*_encode(tokenizer, *request), context):
            owners.append(index)
            windows.append(window)

    def score(indices: Sequence[int]) -> list[float]:
        batch = batching.collate([windows[index] for index in indices], tokenizer.pad_token_id).to(device)
        found: list[float] = sequence_log_probabilities(model, batch)[0].double().tolist()
        return found

    def size(indices: Sequence[int]) -> int:
        return len(indices) * max(len(windows[index].input_ids) for index in indices)

    totals = [0.0] * len(requests)
    with evaluation_mode(model), stage("general texts", len(windows), "text"):
        for chosen in batching.evaluation_batches(windows, batch_tokens or scored_tokens(device)):
            indices = chosen.tolist()
            parts = compute_in_parts("likelihoods", indices, score, size=size)
            for index, value in zip(indices, (value for part in parts for value in part), strict=True):
                totals[owners[index]] += value
            advance(len(indices))
    return totals


def _encode(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], int]:
    """Return the token ids of BOS token, context and continuation, and the number of ids before the continuation.

    If the tokenizer has no BOS token, the EOS token is used instead.
    """
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    before, whole = (
        tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        for text in (context, context + continuation)
    )
    return [first, *whole], 1 + min(len(before), len(whole) - 1)


def cut_windows(ids: list[int], num_context: int, limit: int | None) -> list[Example]:
    """Cut a text into examples of limited length; each token of the continuation is a label in exactly one of them.

    Args:
        ids: the token ids of the context and the continuation.
        num_context: number of ids before the continuation, at least 1.
        limit: maximum length of an example; `None`: no limit.
    """
    labels = [IGNORED] * num_context + ids[num_context:]
    size = len(ids) if limit is None else min(limit, len(ids))
    found = []
    for start in range(0, max(1, len(ids) - 1), max(1, size - 1)):
        part = labels[start : start + size]
        if start:
            part[0] = IGNORED  # the window before has scored it
        if any(label != IGNORED for label in part):
            found.append(Example(ids[start : start + size], part))
    return found
