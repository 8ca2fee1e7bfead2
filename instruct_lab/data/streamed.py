"""Checks for `stream`, the reading of training data during training: of its config, and of each row that is read.

The check of a row finds out whether its prompt is also in the validation or test split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from instruct_lab.data.conversation import Conversation
from instruct_lab.data.sources.base import Source
from instruct_lab.data.split import SamePrompt, held_out_hashes
from instruct_lab.errors import Refusal


def refuse_stream(sources: Mapping[str, Source], limit: int | None) -> None:
    """Refuse a config of the training data with which `stream` is not possible.

    A stream is read in blocks of `max_rows` rows, so nothing may need all rows of the source at once.

    Args:
        sources: the training sources, by name.
        limit: the value of `limit.train`, which selects this number of rows among all rows; `None` if it is not set.

    Raises:
        Refusal: there is not exactly one source, its `max_rows` is not set, it has a shuffle buffer or keeps only one
            of equal rows, or `limit` is set.
    """
    if len(sources) != 1:
        found = f"several: {', '.join(sources)}" if sources else "none"
        raise Refusal("stream", f"reads one source, and train names {found}", "false")
    ((name, source),) = sources.items()
    key = f"train.{name}"
    if source.max_rows is None:
        raise Refusal("stream", f"needs the number of rows of the first block: set data.{key}.max_rows", "false")
    if source.shuffle_buffer:
        reason = "does not shuffle rows as they are read, since each block of max_rows rows is shuffled: "
        raise Refusal("stream", f"{reason}set data.{key}.shuffle_buffer=0", "false")
    if source.keeps_one_of_equal_rows:
        reason = f"cannot leave out equal rows of {type(source).__name__}, since it does not hold all rows"
        raise Refusal("stream", reason, "false")
    if limit is not None:
        reason = "cannot select limit.train rows by their content, since it does not hold all rows; an epoch is a block"
        raise Refusal("stream", reason, "false")


def held_out_prompts(
    splits: Mapping[str, Sequence[Conversation]], same_prompt: SamePrompt
) -> Callable[[Conversation], str | None]:
    """Return a function that says in which held-out split a conversation's prompt occurs (`None` if in none).

    Args:
        splits: conversations of the held-out splits, by name.
        same_prompt: whether prompts are compared by all their characters, where the amount of white space does not
            count, or only by their words.
    """
    held = {hashes[-1]: name for name, rows in splits.items() for hashes in held_out_hashes(rows, same_prompt)}

    def find(conversation: Conversation) -> str | None:
        hashes = next(iter(held_out_hashes([conversation], same_prompt)))
        return next((held[prompt] for prompt in hashes if prompt in held), None)

    return find if held else lambda conversation: None
