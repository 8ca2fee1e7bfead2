"""Examples: the token ids and labels of one conversation, as the objective and the model family need them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Literal

IGNORED = -100
"""The label of a token that is not a target."""

Reads = Literal["answers", "text", "pairs", "labels"]
"""The part of a conversation that an objective reads.

- `answers`: the whole conversation, whose targets are the answers that the template marks.
- `text`: the whole conversation as one text; every token may be a target.
- `pairs`: two conversations with the same prompt, one with the chosen and one with the rejected answer.
- `labels`: a conversation whose final answer is marked as desirable or undesirable, or a pair.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """The layout of examples: what `input_ids` and `labels` hold, by model family and by what the objective reads.

    - decoder: `input_ids` is the whole text. `labels` has the same length and is not shifted; the first label is
      ignored, because no token precedes it.
    - encoder-decoder: `input_ids` is the prompt and `labels` is the answer with its end token. Their lengths differ and
      no label is ignored. If the objective reads `text`, each of the two fields holds the whole text.
    - encoder: `input_ids` is the whole text between the tokenizer's own special tokens. `labels` has the same length;
      the labels of those special tokens are ignored.
    """

    reads: Reads = "answers"
    family: str = "decoder"


SUPERVISED_DECODER = Layout()


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """Token ids and labels of one conversation; `Layout` describes what they hold for each model family.

    Args:
        input_ids: the token ids that the model reads.
        labels: the token ids that the model predicts, not shifted; `-100` for tokens that are not targets.
        id: the id of the conversation.
        source: name of the data source of the conversation.
        weights: the weight of each label in the loss; `None` means that every weight is 1.
        rejected: for a pair, the example with the same prompt and the rejected answer.
        reference: log-probability of the whole answer, and that of the rejected answer, under the base model, in nats;
            `None` if they were not computed before training.
        desirable: whether the answer is marked as desirable; `None` if the data do not mark it.
    """

    input_ids: list[int]
    labels: list[int]
    id: str = ""
    source: str = ""
    weights: list[float] | None = None
    rejected: Example | None = None
    reference: tuple[float, float] | None = None
    desirable: bool | None = None

    @property
    def num_target_tokens(self) -> int:
        """The number of target tokens, not counting those in the rejected answer."""
        return len(self.labels) - self.labels.count(IGNORED)

    @property
    def has_target_tokens(self) -> bool:
        """Whether the example has a target token; the search begins at the end, where answers usually are."""
        return any(label != IGNORED for label in reversed(self.labels))


def evaluation_source(example: Example) -> random.Random:
    """Return the random number generator for an example's masks and noise in evaluation.

    Its seed depends only on the example's id. So an example is masked in the same way in every run, whatever the run's
    seed is, during validation and in the final evaluation.
    """
    return random.Random(f"evaluation:{example.id}")


ExampleTransform = Callable[[Example, random.Random], Example]
"""A function that masks an example or adds noise to it each time it enters a batch, with the given random generator."""
