"""Detection of data that contain special tokens as text, probably because a chat template was already applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from instruct_lab.data import Audit, Conversation
from instruct_lab.template.special_tokens import special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SpecialTokensInText = Literal["ordinary", "parse"]
REASON = "text spells special tokens of the tokenizer"
WARNED_SHARE = 0.1
"""A warning is given if more than this share of a split's conversations contain special tokens as text."""


def spells_special_token(conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a message contains the text of a special token."""
    search = special_tokens(tokenizer).pattern.search
    return any(search(message.content) for message in (*conversation.messages, *conversation.rejected))


def warn_of_spelled_tokens(audit: Audit, stage: str, split: str, num_rows: int) -> str | None:
    """Return a warning if over a tenth of a split's rows contain the text of special tokens; otherwise `None`.

    Such texts are encoded as ordinary text.

    Args:
        audit: the report on the data, which counts such rows under the reason `REASON`.
        stage: the stage of data preparation, such as `batching`, under which the report counts them.
        split: the name of the split.
        num_rows: the number of rows in the split.
    """
    tally = audit.tallies.get((stage, "reported", f"{split}: {REASON}"))
    if tally is None or tally.count <= WARNED_SHARE * num_rows:
        return None
    return (
        f"{split}: {tally.count:,} of {num_rows:,} texts spell special tokens, as if a chat template had been applied "
        "to them already. They are encoded as ordinary text; batching.special_tokens_in_text=parse makes them tokens."
    )
