"""Examples: token ids and labels of one conversation, in the layout of the objective and the model family."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Literal

IGNORED = -100
"""The label of a token that is not trained."""

Reads = Literal["answers", "text", "pairs"]
"""What an objective reads of a conversation.

- `answers`: the whole conversation; the answers are trained, as the template marks them.
- `text`: the whole conversation as one text; every token of it may be trained.
- `pairs`: two conversations that share a prompt, one with the chosen and one with the rejected answer.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """How examples are laid out: what the objective reads, and the model family.

    - decoder: `input_ids` is the whole text. `labels` has the same length and is not shifted; its first entry is
      ignored, because no token precedes it.
    - encoder-decoder: for `answers` and `pairs`, `input_ids` is the prompt and `labels` the answer with its end token;
      their lengths differ and no label is ignored. For `text`, `input_ids` is the whole text and `labels` repeats it.
    - encoder: `input_ids` is the whole text between the tokenizer's own special tokens. `labels` has the same length
      and is ignored at those special tokens.
    """

    reads: Reads = "answers"
    family: str = "decoder"


SUPERVISED_DECODER = Layout()


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """Token ids and labels of one conversation; `Layout` says how they relate.

    Args:
        input_ids: what the model reads.
        labels: what it predicts, not shifted; `-100` where nothing is trained.
        id: the conversation's id.
        source: the conversation's source.
        weights: the weight of each label in the loss, in the layout of `labels`; `None`: 1 each.
        rejected: the same prompt with the rejected answer, in the layout `pairs`.
        reference: log-probabilities, in nats, of the labels and of the rejected labels under the base model, if they
            were computed before training.
    """

    input_ids: list[int]
    labels: list[int]
    id: str = ""
    source: str = ""
    weights: list[float] | None = None
    rejected: Example | None = None
    reference: tuple[float, float] | None = None

    @property
    def num_target_tokens(self) -> int:
        """How many tokens are predicted, without those of the rejected answer."""
        return len(self.labels) - self.labels.count(IGNORED)

    @property
    def has_target_tokens(self) -> bool:
        """Whether any token is predicted; searched from the end, where answers are."""
        return any(label != IGNORED for label in reversed(self.labels))


ExampleTransform = Callable[[Example, random.Random], Example]
"""Changes an example each time it enters a batch (masking, noise), with random numbers from the given source."""
