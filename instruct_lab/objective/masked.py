"""Masked language modelling."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.batching import IGNORED, Batch, Example, Reads
from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.objective._vocabulary import CONTINUES, vocabulary_of
from instruct_lab.objective.base import ANY_SUPERVISION, Loss, Objective

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OPENS = ("Ġ", "▁", " ")
"""Begins a byte-level or SentencePiece token that opens a word."""


@component
class Masked(Objective):
    r"""Cross-entropy of masked tokens, -sum_{t in M} log p(x_t | x with M masked). Source: Devlin et al., 2019 (BERT).

    Of the tokens, `probability` are chosen, at least one; of these `mask_share` become the mask token, `random_share`
    a token drawn from the vocabulary, and the rest stay as they are. What is chosen depends on the run's seed, the
    epoch and the example alone. For encoders: a decoder cannot read what follows a mask, and an encoder-decoder is
    trained by `SpanCorruption` or `TextInfilling`.
    """

    families: ClassVar = frozenset({"encoder"})
    reads: ClassVar[Reads] = "text"
    needs: ClassVar = ANY_SUPERVISION
    generates: ClassVar[bool] = False

    probability: Annotated[float, Field(gt=0, le=1)] = 0.15  # share of the tokens that are predicted
    mask_share: Annotated[float, Field(ge=0, le=1)] = 0.8  # of those, replaced by the mask token
    random_share: Annotated[float, Field(ge=0, le=1)] = 0.1  # of those, replaced by a random token
    whole_words: bool = False  # choose words, and all tokens of each (whole-word masking)

    def __post_init__(self) -> None:
        if self.mask_share + self.random_share > 1:
            raise Refusal("random_share", f"with mask_share={self.mask_share} it is more than all")

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse a tokenizer without a mask token."""
        mask_token_id(tokenizer)

    def corrupted(self, example: Example, tokenizer: PreTrainedTokenizerBase, source: random.Random) -> Example:
        """Mask tokens; labels are kept at those chosen."""
        places = [place for place, label in enumerate(example.labels) if label != IGNORED]
        if not places:
            return example
        groups = self._words(example.input_ids, places, tokenizer) if self.whole_words else [[p] for p in places]
        wanted = max(1, round(self.probability * len(places)))
        chosen: list[int] = []
        for group in source.sample(groups, len(groups)):
            if len(chosen) >= wanted:
                break
            chosen += group
        input_ids, labels = list(example.input_ids), [IGNORED] * len(example.labels)
        mask, ordinary = mask_token_id(tokenizer), vocabulary_of(tokenizer).ordinary
        for place in sorted(chosen):
            labels[place] = example.labels[place]
            drawn, replacement = source.random(), ordinary[int(source.random() * len(ordinary))]
            if drawn < self.mask_share:
                input_ids[place] = mask
            elif drawn < self.mask_share + self.random_share:
                input_ids[place] = replacement
        return Example(input_ids, labels, example.id, example.source)

    def _words(self, input_ids: list[int], places: list[int], tokenizer: Any) -> list[list[int]]:
        """Places of the tokens of each word."""
        tokens = tokenizer.convert_ids_to_tokens([input_ids[place] for place in places])
        by_piece = vocabulary_of(tokenizer).has_pieces
        words: list[list[int]] = []
        for place, token, before in zip(places, tokens, [None, *places], strict=False):
            opens = not token.startswith(CONTINUES) if by_piece else token.startswith(OPENS)
            if opens or not words or before != place - 1:
                words.append([place])
            else:
                words[-1].append(place)
        return words

    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Sums and counts for each row, each `[rows]`."""
        import torch

        from instruct_lab.objective._target_logits import summed_by_row, target_logits, token_losses

        logits, targets, rows = target_logits(model, batch)
        count = len(batch.labels)
        sums = summed_by_row(token_losses(logits, targets), rows, count)
        return Loss(sums, torch.bincount(rows, minlength=count))


def mask_token_id(tokenizer: Any) -> int:
    """The id of the mask token.

    Raises:
        InstructLabError: there is none.
    """
    number = tokenizer.mask_token_id
    if not isinstance(number, int):
        raise InstructLabError(
            "The tokenizer has no mask token",
            where="model.tokenizer",
            do="choose a model that was pretrained with one, or tokenizer=train",
        )
    return number
