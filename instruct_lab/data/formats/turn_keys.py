"""Keys of a turn other than its role and text: training flags, weights, reasoning, and keys that can be ignored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from instruct_lab.data.sources.base import Row

FlagMeaning = Literal["trained", "untrained"]
"""What the value true of a training flag means: the turn is trained on, or it is not."""
Reasoning = Literal["template", "think_tags", "drop"]
"""How reasoning in a separate key is used; `template` acts as `think_tags` and requires a template with such tags."""
FLAGS: dict[str, FlagMeaning] = {
    **dict.fromkeys(("trained", "train", "training", "trainable", "loss", "loss_mask"), "trained"),
    "masked": "untrained",
}
"""Keys that say whether a turn is trained on (as axolotl, LLaMA-Factory, ms-swift, verl and torchtune name them)."""
WEIGHTS = ("weight", "loss_weight", "loss_scale")
"""Keys of the weight of a turn's tokens in the loss; a turn of weight 0 is not trained on."""
UNCLEAR_FLAGS = {
    "mask": "for some tools true means that the turn is trained, for others that it is not",
    "train_detail": "it marks parts of a turn, and a turn can only be trained as a whole",
}
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts")
DESCRIBING = (
    "id _id uuid message_id msg_id parent_id turn turn_id turn_index turn_identifier index idx user_id author "
    "name timestamp time date created created_at create_time update_time updated_at model model_name lang "
    "language locale source url rank num_tokens token_count tokens_count finish_reason stop_reason hash hashed_ip "
    "country state header redacted toxic cache_control annotations"
)
HARMLESS_KEYS = frozenset(DESCRIBING.split())
"""Keys that only describe a turn, so that a format may ignore them."""
FLAG_KEYS = frozenset((*FLAGS, *WEIGHTS, *UNCLEAR_FLAGS))
TRUTH: dict[Any, bool] = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}


def refuse_unused(turn: Mapping[str, Any], used: frozenset[str], ignored: Sequence[str], row: Row, where: str) -> None:
    """Check that no value in an object (a turn, a part of its content, or a tool call) is left unread.

    Keys that only describe a turn, such as `id`, may be left unread.

    Args:
        turn: the object to check.
        used: the keys of the object that are read.
        ignored: keys that the user chose to ignore.
        row: the row that contains the object.
        where: the object's location in the row.

    Raises:
        InstructLabError: a value is not read; the error names its key, and the setting with which to ignore this key.
    """
    if turn.keys() <= used:
        return
    for key in turn.keys() - used - HARMLESS_KEYS:
        value = turn[key]
        if key in ignored or value is None or value in ("", [], {}):
            continue
        found = repr(value)
        found = found if len(found) <= 60 else f"{found[:59]}…"
        raise row.error(
            f"The key {key!r} has a value that would not be used: {found}",
            where,
            f"Leave it out with data.format.ignore_keys=[{key}]",
        )


def training_of(
    turn: Mapping[str, Any], flags: Mapping[str, FlagMeaning | None], ignored: Sequence[str], row: Row, location: str
) -> tuple[bool | None, float]:
    """Return whether a turn is trained on (`None` without a flag or weight), and the weight of its tokens.

    Args:
        turn: the turn.
        flags: keys, in addition to the usual ones, that say whether a turn is trained on. Each is mapped to what the
            value true means: `trained` or `untrained`.
        ignored: keys that the user chose to ignore.
        row: the row that contains the turn.
        location: the turn's location in the row.

    Raises:
        InstructLabError: a flag or weight is not understood, or two flags or two weights contradict each other.
    """
    if not flags and FLAG_KEYS.isdisjoint(turn):
        return None, 1.0
    trained: bool | None = None
    weight: float | None = None
    decided_by = weighted_by = ""
    for key, value in turn.items():
        if value is None or key in ignored:
            continue
        if meaning := flags.get(key) or FLAGS.get(key):
            says = _truth(key, value, row, location) == (meaning == "trained")
            if trained is not None and trained != says:
                raise row.error(f"{decided_by!r} and {key!r} contradict each other", location, "Correct the row")
            trained, decided_by = says, key
        elif key in WEIGHTS:
            if weight is not None and weight != value:
                found = f"{weight!r} ({weighted_by!r}) and {value!r} ({key!r})"
                raise row.error(f"The turn has two weights, {found}", location, "Correct the row")
            weight, weighted_by = _weight(key, value, row, location), key
        elif key in UNCLEAR_FLAGS and value != []:
            raise row.error(
                f"{key!r} cannot be used: {UNCLEAR_FLAGS[key]}",
                location,
                f"Leave it out with data.format.ignore_keys=[{key}], or say what true means with "
                f"data.format.flags.{key}=trained or untrained",
            )
    if weight is None:
        return trained, 1.0
    is_trained = weight > 0 and trained is not False
    return is_trained, weight if is_trained else 1.0


def _truth(key: str, value: Any, row: Row, location: str) -> bool:
    spelled = value.strip().casefold() if isinstance(value, str) else value
    if not isinstance(spelled, bool | int | float | str) or spelled not in TRUTH:
        raise row.error(f"{key} must be true or false; {value!r} was found", location, "Correct the row")
    return TRUTH[spelled]


def _weight(key: str, value: Any, row: Row, location: str) -> float:
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise row.error(f"{key} must be a number from 0 up; {value!r} was found", location, "Correct the row")
    return float(value)


def add_reasoning(
    turn: Mapping[str, Any], role: str, text: str, choice: Reasoning | None, row: Row, location: str
) -> str:
    """Return a turn's text, preceded by the reasoning that the turn has under other keys.

    If `choice` is `drop`, the reasoning is left out.

    Args:
        turn: the turn.
        role: the role of the turn.
        text: the text of the turn.
        choice: the setting `reasoning` of the format.
        row: the row that contains the turn.
        location: the turn's location in the row.

    Raises:
        InstructLabError: the turn has reasoning under another key, and one of these is true: `choice` is `None`; the
            role is not assistant; the text contains reasoning too; two keys have different reasoning.
    """
    found = {key: value for key in REASONING_KEYS if (value := turn.get(key)) not in (None, "", [])}
    if not found or choice == "drop":
        return text
    key, value = next(iter(found.items()))
    if choice is None:
        raise row.error(
            f"The turn has reasoning in {key!r}, which would not be trained",
            location,
            "Choose data.format.reasoning=think_tags to write it before the answer as <think>…</think>, "
            "data.format.reasoning=template to do so if the chat template does, or data.format.reasoning=drop to "
            "leave it out",
        )
    thoughts = {row.check_text(value, f"{location}, {key!r}").strip() for key, value in found.items()}
    if role != "assistant" or len(thoughts) > 1 or "<think>" in text:
        reason = (
            f"it is the {role}'s"
            if role != "assistant"
            else "its keys differ"
            if len(thoughts) > 1
            else "the text has <think> too"
        )
        raise row.error(
            f"The reasoning in {key!r} cannot be written before the answer: {reason}", location, "Correct the row"
        )
    thought = thoughts.pop()
    return think_tags(thought, text) if thought else text


def think_tags(thought: str, answer: str) -> str:
    """Put reasoning in think tags before an answer, as the chat templates of reasoning models do."""
    return f"<think>\n{thought}\n</think>\n\n{answer}"
