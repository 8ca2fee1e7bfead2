"""Inputs for a model that reads several texts in one row, and a check that these texts do not affect each other."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from instruct_lab.batching import Batch, Packing
from instruct_lab.errors import InstructLabError, one_line
from instruct_lab.model.family import family_of, without_adapters

if TYPE_CHECKING:
    from torch import Tensor

TESTED_LENGTHS = (5, 1, 7, 3)


@dataclasses.dataclass(frozen=True)
class PackedInputs:
    """The arguments of a model that reads packed rows, which each hold several texts.

    Args:
        arguments: keyword arguments with which the model is called.
        positions: for each token of the batch, its index in the packed rows, counted through all rows; int64 `[texts,
            seq]`, 0 for padding.
    """

    arguments: dict[str, Any]
    positions: Tensor


def packed_inputs(model: Any, batch: Batch) -> PackedInputs:
    """Join the texts of a batch into long rows, to which `batch.packing` assigns them.

    In a model that uses PyTorch's attention, the attention is permanently replaced by an implementation that keeps
    attention within each text. The results for padded rows, which hold one text each, stay the same.

    Args:
        model: a decoder or an encoder, with or without adapters.
        batch: a batch with `packing`; each row of its tensors is one text.

    Raises:
        InstructLabError: the model cannot read packed rows.
    """
    import torch

    assert batch.packing is not None
    base = without_adapters(model)
    device = batch.input_ids.device
    is_token = batch.attention_mask.bool()  # [texts, seq]
    lengths: list[int] = is_token.sum(dim=1).tolist()
    rows, width = batch.packing.rows(lengths)
    starts, segments = [0] * len(lengths), list[int]()  # segments: the texts' lengths, in the order of the rows
    for row, texts in enumerate(rows):
        position = row * width
        for text in texts:
            starts[text] = position
            segments.append(lengths[text])
            position += lengths[text]
        if position < (row + 1) * width:
            segments.append((row + 1) * width - position)  # padding
    within = torch.arange(is_token.shape[1], device=device)
    positions = (torch.tensor(starts, device=device)[:, None] + within).masked_fill(~is_token, 0)  # [texts, seq]
    shape = (len(rows), width)
    input_ids = batch.input_ids.new_zeros(shape).flatten()
    input_ids[positions[is_token]] = batch.input_ids[is_token]
    position_ids = torch.full_like(input_ids, _first_position(base))
    position_ids[positions[is_token]] += within.expand_as(is_token)[is_token]
    borders = torch.tensor([0, *segments], device=device).cumsum(0).int()
    return PackedInputs(
        {
            "input_ids": input_ids.view(shape),
            "position_ids": position_ids.view(shape),
            **_attention_arguments(base, borders, max(segments)),
        },
        positions,
    )


def _first_position(model: Any) -> int:
    """Return the position id of a text's first token: 0, or more if the position embeddings have a row for padding."""
    tables = (getattr(module, "position_embeddings", None) for module in model.modules())
    padding = next((row for table in tables if (row := getattr(table, "padding_idx", None)) is not None), -1)
    return int(padding) + 1


def _attention_arguments(model: Any, borders: Tensor, longest: int) -> dict[str, Any]:
    """Return the keyword arguments that make the model's attention implementation keep attention within each text.

    Args:
        model: a model without adapters.
        borders: the index of each text's first token, counted through all packed rows, then the number of all
            positions; int32 `[texts + 1]`. Padding at the end of a row counts as a text.
        longest: length of the longest text, in tokens.
    """
    from instruct_lab.model.packed_attention import NAME

    if family_of(model) == "encoder-decoder":
        raise cannot_pack(model, "it counts positions from the start of a row")
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)  # has no effect on models with their own way to choose it
    implementation = model.config._attn_implementation
    if implementation == NAME:
        return {"attention_mask": borders[None, None, None], "max_length_q": longest}
    if implementation.startswith("flash_attention"):
        sizes = {"max_length_q": longest, "max_length_k": longest}
        return {"attention_mask": None, "cu_seq_lens_q": borders, "cu_seq_lens_k": borders, **sizes}
    if family_of(model) == "decoder":
        # without a cache, transformers makes a mask that separates texts where positions start again
        return {"attention_mask": None, "use_cache": False}
    raise cannot_pack(model, f"its attention is computed by {implementation}, which cannot be limited to one text")


def cannot_pack(model: Any, reason: str) -> InstructLabError:
    """Return the error for a model that cannot read packed rows."""
    return InstructLabError(
        f"A {model.config.model_type} model cannot read several texts in one row: {reason}",
        where="batching",
        do="choose batching=padded, or another model",
    )


def check_packing(model: Any) -> None:
    """Check that the texts in one row do not affect each other: pack a few short texts and compute their logits.

    The logits of a text must be the same as if it were computed without the others (up to rounding). If the first text
    changes, the logits of the other texts must not change.

    Args:
        model: a language model in evaluation mode, with or without adapters.

    Raises:
        InstructLabError: the model cannot read packed rows, or the logits of a text depend on the other texts.
    """
    import torch

    batch = _tested_batch(model)
    changed = dataclasses.replace(batch, input_ids=batch.input_ids.clone())
    changed.input_ids[0, : TESTED_LENGTHS[0]] = batch.input_ids[0, : TESTED_LENGTHS[0]].flip(0)
    with torch.no_grad():
        try:
            first, second = _logits(model, batch), _logits(model, changed)
            texts = [
                _logits(model, batch.rows(text, text + 1), length)[0] for text, length in enumerate(TESTED_LENGTHS)
            ]
        except InstructLabError:
            raise
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            raise cannot_pack(model, one_line(error)) from error
    is_quantized = bool(getattr(model, "is_quantized", False))
    depends = is_quantized or any("expert" in name for name, _ in model.named_modules())  # rounding, on all tokens
    if _differ(first[1:], second[1:], 5e-2 if depends else 0.0):
        raise cannot_pack(model, "the output of a text changes with the text before it")
    if _differ(first, texts, 1e-3 if model.dtype == torch.float32 and not is_quantized else 5e-2):
        raise cannot_pack(model, "the output of a text in a row is not its output without the other texts")


def _differ(first: list[Tensor], second: list[Tensor], tolerance: float) -> bool:
    """Whether two computations of the same texts' logits differ.

    They do if, for any text, the norm of the difference is above `tolerance` times the norm of the logits in `second`.
    """
    return any(bool((one - other).norm() > tolerance * other.norm()) for one, other in zip(first, second, strict=True))


def _tested_batch(model: Any) -> Batch:
    """Return the short texts for `check_packing`: a batch of tokens other than the pad token, on the model's device."""
    import torch

    embeddings = model.get_input_embeddings().weight
    pad = getattr(model.config, "pad_token_id", None)
    usable = [token for token in range(min(64, len(embeddings))) if token != pad]
    device = embeddings.device
    within = torch.arange(max(TESTED_LENGTHS), device=device)
    mask = (within < torch.tensor(TESTED_LENGTHS, device=device)[:, None]).long()
    tokens = torch.tensor(usable, device=device)[(7 * within + 5 * within[: len(mask), None]) % len(usable)]
    return Batch(tokens * mask, mask, tokens, packing=Packing())


def _logits(model: Any, batch: Batch, single: int | None = None) -> list[Tensor]:
    """Return the logits of each text, float32 `[length, vocab]`.

    Args:
        model: a language model, with or without adapters.
        batch: the texts, one in each row.
        single: if it is a number, only the first text is computed, without packing, and this is its number of tokens.
            `None`: all texts are packed into rows.
    """
    options = {} if family_of(model) == "encoder" else {"use_cache": False}
    if single is not None:
        return [model(input_ids=batch.input_ids[:, :single], **options).logits[0].float()]
    packed = packed_inputs(model, batch)
    logits = model(**packed.arguments | options).logits.flatten(0, 1).float()
    return [
        logits[of_text[is_token]]
        for of_text, is_token in zip(packed.positions, batch.attention_mask.bool(), strict=True)
    ]
