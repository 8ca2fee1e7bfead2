"""The examples on which a model is evaluated."""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence

from instruct_lab.batching import Example
from instruct_lab.data import Conversation


@dataclasses.dataclass(frozen=True)
class EvaluatedExamples:
    """Examples of one split, in the order of the reported results.

    Args:
        split: the split of the examples.
        conversations: the conversations, with the references for the answers.
        examples: the same conversations as tokenized examples; empty if no metric needs them.
        prompts: the same conversations in the form in which the model gets their prompts. A tuning method such as
            few-shot prompting adds solved examples to them.
        clusters: for each example, the name of its cluster of related rows; empty if the data have no clusters.
    """

    split: str
    conversations: Sequence[Conversation]
    examples: Sequence[Example]
    prompts: Sequence[Conversation]
    clusters: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.conversations)

    @property
    def sources(self) -> list[str]:
        """The data source of each example."""
        return [conversation.source for conversation in self.conversations]

    @property
    def references(self) -> list[str]:
        """The references (expected answers) of all examples in one list; an example can have several."""
        return [answer for conversation in self.conversations for answer in conversation.answers]

    @property
    def lengths(self) -> list[int]:
        """The length of each example: in tokens, or in characters of the conversation if there are no token ids."""
        if self.examples:
            return [len(example.input_ids) for example in self.examples]
        return [sum(len(message.content) for message in one.messages) for one in self.conversations]

    def take(self, indices: Iterable[int]) -> EvaluatedExamples:
        """Return the examples at the given indices, in that order."""
        chosen = list(indices)
        return EvaluatedExamples(
            self.split,
            [self.conversations[index] for index in chosen],
            [self.examples[index] for index in chosen] if self.examples else [],
            [self.prompts[index] for index in chosen],
            [self.clusters[index] for index in chosen] if self.clusters else (),
        )


Encoded = tuple[Conversation, int]
"""A conversation and the index of its example."""


def pair_with_examples(conversations: Iterable[Conversation], example_ids: Iterable[str]) -> Iterator[Encoded]:
    """Yield each conversation from which an example was made, with the index of this example in `example_ids`.

    Conversations and examples are matched by id and order, since equal conversations have the same id.

    Args:
        conversations: conversations of one split.
        example_ids: ids of the examples that batching made from the conversations; it may have dropped some of them.
    """
    expected = enumerate(example_ids)
    index, name = next(expected, (-1, None))
    for conversation in conversations:
        if conversation.id == name:
            yield conversation, index
            index, name = next(expected, (-1, None))


def sample(encoded: Iterable[Encoded], max_examples: int | None, sources: Sequence[str] | None = None) -> list[Encoded]:
    """Choose the conversations to evaluate on, and sort them by a hash of their ids.

    If there are more than `max_examples`, those with the lowest hashes are chosen. The choice depends on the ids and
    not on positions, so that runs over the same data are evaluated on the same examples. Conversations without a
    reference answer, and conversations whose answer is labelled as undesirable, are left out.

    Args:
        encoded: conversations of one split with the indices of their examples.
        max_examples: maximum number of conversations; `None` means no limit.
        sources: the data sources from which to choose, with up to `max_examples` conversations from each. `None` means
            all sources, with up to `max_examples` conversations in total.
    """
    usable = [one for one in encoded if one[0].answers and one[0].desirable is not False]
    if max_examples is None:
        return sorted(usable, key=_hash)
    if sources is None:
        return heapq.nsmallest(max_examples, usable, key=_hash)
    chosen: list[Encoded] = []
    for source in sources:
        chosen += heapq.nsmallest(max_examples, (one for one in usable if one[0].source == source), key=_hash)
    return sorted(chosen, key=_hash)


def _hash(encoded: Encoded) -> bytes:
    return hashlib.sha256(encoded[0].id.encode()).digest()
