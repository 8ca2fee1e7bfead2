"""Masked language modelling: an encoder predicts tokens of a text that are masked."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.batching import IGNORED, Batch, Example, Reads
from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.objective.base import ANY_SUPERVISION, Loss, Objective
from instruct_lab.objective.vocabulary import CONTINUES, vocabulary_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WORD_STARTS = ("Ġ", "▁", " ")
"""Prefixes that mark the first token of a word in byte-level and SentencePiece vocabularies."""


@component
class Masked(Objective):
    r"""Cross-entropy of masked tokens, -sum_{t in M} log p(x_t | x with M masked). Source: Devlin et al., 2019 (BERT).

    M is a random share `probability` of the tokens, at least one. A share `mask_share` of M is replaced by the mask
    token and `random_share` by random tokens of the vocabulary; the rest is not changed. In training, M depends on
    the run's seed, the epoch and the example; in evaluation, an example is masked in the same way in every run.
    This objective is only for encoders: a decoder cannot read the text after a mask. For encoder-decoders, use
    `SpanCorruption` or `TextInfilling`.
    """

    families: ClassVar = frozenset({"encoder"})
    reads: ClassVar[Reads] = "text"
    needs: ClassVar = ANY_SUPERVISION
    generates: ClassVar[bool] = False
    reads_packed: ClassVar[bool] = True

    probability: Annotated[float, Field(gt=0, le=1)] = 0.15  # share of the tokens that are predicted
    mask_share: Annotated[float, Field(ge=0, le=1)] = 0.8  # share of the predicted tokens that become the mask token
    random_share: Annotated[float, Field(ge=0, le=1)] = 0.1  # share of the predicted tokens that become a random token
    whole_words: bool = False  # choose whole words instead of single tokens (whole-word masking)

    def __post_init__(self) -> None:
        if self.mask_share + self.random_share > 1:
            raise Refusal("random_share", f"with mask_share={self.mask_share} the sum is above 1")

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Check that the tokenizer has a mask token."""
        mask_token_id(tokenizer)

    def corrupt(self, example: Example, tokenizer: PreTrainedTokenizerBase, source: random.Random) -> Example:
        """Choose random target tokens, and replace most of them by the mask token or by random tokens.

        In the returned example, only the chosen tokens are targets.
        """
        positions = [position for position, label in enumerate(example.labels) if label != IGNORED]
        if not positions:
            return example
        groups = self._words(example.input_ids, positions, tokenizer) if self.whole_words else [[p] for p in positions]
        wanted = max(1, round(self.probability * len(positions)))
        chosen: list[int] = []
        for group in source.sample(groups, len(groups)):
            if len(chosen) >= wanted:
                break
            chosen += group
        input_ids, labels = list(example.input_ids), [IGNORED] * len(example.labels)
        mask, ordinary = mask_token_id(tokenizer), vocabulary_of(tokenizer).ordinary
        for position in sorted(chosen):
            labels[position] = example.labels[position]
            drawn, replacement = source.random(), ordinary[int(source.random() * len(ordinary))]
            if drawn < self.mask_share:
                input_ids[position] = mask
            elif drawn < self.mask_share + self.random_share:
                input_ids[position] = replacement
        return Example(input_ids, labels, example.id, example.source)

    def _words(self, input_ids: list[int], positions: list[int], tokenizer: Any) -> list[list[int]]:
        """Group the given positions by word: each list in the result holds the positions of one word's tokens."""
        tokens = tokenizer.convert_ids_to_tokens([input_ids[position] for position in positions])
        marks_continuations = vocabulary_of(tokenizer).marks_continuations
        words: list[list[int]] = []
        for position, token, before in zip(positions, tokens, [None, *positions], strict=False):
            starts = not token.startswith(CONTINUES) if marks_continuations else token.startswith(WORD_STARTS)
            if starts or not words or before != position - 1:
                words.append([position])
            else:
                words[-1].append(position)
        return words

    def loss(self, model: PreTrainedModel, batch: Batch, teacher: Any = None) -> Loss:
        """Compute the summed cross-entropy and the number of target tokens of each example."""
        from instruct_lab.objective.target_logits import summed_cross_entropy

        return summed_cross_entropy(model, batch)


def mask_token_id(tokenizer: Any) -> int:
    """Return the id of the mask token.

    Raises:
        InstructLabError: the tokenizer has no mask token.
    """
    number = tokenizer.mask_token_id
    if not isinstance(number, int):
        raise InstructLabError(
            "The tokenizer has no mask token",
            where="model.tokenizer",
            do="choose a model that was pretrained with one, or tokenizer=train",
        )
    return number
