"""Rules that compare what one component declares that it needs with what the other components provide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from instruct_lab.batching import Batching
from instruct_lab.data import Data, DataSet, Mixture
from instruct_lab.data.conversation import Supervision
from instruct_lab.data.mixture import leaves
from instruct_lab.data.split import SPLIT_NAMES
from instruct_lab.errors import Problem
from instruct_lab.files import user_path
from instruct_lab.model import Model, ModelFacts, Random, Tokenizer
from instruct_lab.objective import Objective
from instruct_lab.optimizer import Optimizer
from instruct_lab.template import ChatTemplate, Template
from instruct_lab.tuning import Tuning


class Kind(NamedTuple):
    """A description of one kind of supervision (answers, labels, pairs or text), for error messages.

    It names a data option with this kind of supervision, and an objective that learns from it.
    """

    meaning: str
    data: str
    objective: str


SUPERVISION: dict[Supervision, Kind] = {
    "answers": Kind("a prompt with its answer", "local_alpaca", "supervised"),
    "labels": Kind("an answer marked good or bad", "local_unpaired_preference", "kto"),
    "pairs": Kind("a prompt with a chosen and a rejected answer", "local_preference", "dpo"),
    "text": Kind("plain text", "local_text", "causal"),
}
FAR_OFF = 10
"""A warning is printed if the chosen learning rate is at least this many times above or below the suitable one."""


def check_supervision(data: Data, objective: Objective) -> Iterator[Problem]:
    """Report data that gives nothing from which the objective can learn.

    An objective learns from answers, from preference pairs, from labels that mark answers as desirable or undesirable,
    or from plain text.
    """
    if data.gives_any(objective.needs):
        return
    goal = type(objective).__name__
    reason = f"{goal} needs {_list_kinds(objective.needs, 'or')}; data is a {_describe_supervision(data)}"
    options = [f"data={SUPERVISION[kind].data}" for kind in sorted(objective.needs)]
    others = [f"objective={SUPERVISION[kind].objective}" for kind in sorted(data.gives)]
    advice = f"choose other data, such as {' or '.join(options)}"
    advice += f", or another objective, such as {' or '.join(others)}" if others else ""
    yield Problem(key="objective", value=goal, reason=f"{reason}: {advice}")


def check_training_rows(data: Data, tuning: Tuning) -> Iterator[Problem]:
    """Report data without training rows if the run trains a model; such data can only be evaluated on."""
    for key, part in leaves(data) if tuning.trains else ():
        if not part.source_names("train"):
            held_out = [split for split in SPLIT_NAMES if part.source_names(split)]
            reason = (
                f"the data has rows for {' and '.join(held_out)} and none to train on: name files with training rows "
                "(`train` in the name of a file in a folder), or measure a run on it with `instruct-lab evaluate`"
            )
            yield Problem(key=f"{key}.train", reason=reason)


def _describe_supervision(data: Data) -> str:
    """Describe the data and the kinds of supervision that it has; for a mixture, list them for each data set."""
    kind = type(data).__name__
    if isinstance(data, Mixture):
        parts = [f"{name}: {_list_kinds(part.gives, 'and')}" for name, part in data.parts.items() if part is not None]
        return f"{kind} of parts ({'; '.join(parts)})"
    if isinstance(data, DataSet):
        kind = f"{kind} with format {type(data.format).__name__}"
    return f"{kind}, which gives {_list_kinds(data.gives, 'and')}"


def _list_kinds(kinds: frozenset[Supervision], word: str) -> str:
    return f" {word} ".join(f"{kind} ({SUPERVISION[kind].meaning})" for kind in sorted(kinds)) or "nothing"


def check_new_tokens(model: Model, tuning: Tuning) -> Iterator[Problem]:
    """Report tokens that the config adds to the tokenizer, and whose embeddings the tuning method does not train."""
    if not tuning.trains or tuning.trains_new_tokens:
        return
    for field, tokens in (
        ("extra_tokens", model.tokenizer.extra_tokens),
        ("extra_special_tokens", model.tokenizer.extra_special_tokens),
    ):
        if tokens:
            reason = f"{type(tuning).__name__} would leave new tokens untrained: choose tuning=lora or tuning=full"
            yield Problem(key=f"model.tokenizer.{field}", value=", ".join(tokens), reason=reason)


def check_biases_exist(model: Model, tuning: Tuning, cache_path: str) -> Iterator[Problem]:
    """Report a tuning method that trains only biases if the model has no biases."""
    if tuning.needs_biases and facts_of(model, cache_path).has_biases is False:
        method = type(tuning).__name__
        reason = f"{method} trains only biases, and the model has none: choose another method; tuning=ia3 is as small"
        yield Problem(key="tuning", value=method, reason=reason)


def facts_of(model: Model, cache_path: str) -> ModelFacts:
    """Return what is known of the model before it is loaded, such as its hidden size and number of positions."""
    return model.facts(user_path(cache_path))


def longest_example(model: Model, tuning: Tuning, cache_path: str) -> int | None:
    """Return the number of tokens of the longest example that the model can read, or `None` if it is not known.

    The model's positions limit this number; virtual tokens that the tuning method adds take some of them.
    """
    positions = facts_of(model, cache_path).max_positions
    return None if positions is None else max(2, positions - tuning.num_added_positions)


def check_chat_template(template: Template, model: Model) -> Iterator[Problem]:
    """Report that the tokenizer's own chat template is chosen although the model's tokenizer has none."""
    reads_own = isinstance(template, ChatTemplate) and template.jinja is None
    is_own = type(model.tokenizer) is Tokenizer and model.tokenizer.source is None
    if reads_own and is_own and model.weights.lacks_chat_template():
        reason = "the tokenizer of the model has no chat template: choose template=chatml, template=alpaca or "
        yield Problem(key="template", reason=f"{reason}template=plain, or set template.jinja")


def check_positions(model: Model, tuning: Tuning, batching: Batching, cache_path: str) -> Iterator[Problem]:
    """Warn that `batching.max_tokens` is lowered to the length of the longest example that the model can read."""
    longest, set_to = longest_example(model, tuning, cache_path), batching.max_tokens
    if longest is not None and (set_to is None or set_to > longest):
        taken = f", {tuning.num_added_positions} of them for virtual tokens" if tuning.num_added_positions else ""
        reason = f"the model has {longest + tuning.num_added_positions} positions{taken}: lowered to {longest}"
        yield Problem(key="batching.max_tokens", value=set_to, reason=reason, kind="warning")


def check_packed_model(model: Model, batching: Batching, cache_path: str) -> Iterator[Problem]:
    """Report packing if the model, or its attention implementation, cannot keep apart several texts in one row."""
    if batching.packing is None:
        return
    if facts_of(model, cache_path).can_pack is False:
        reason = f"{model.weights.label} cannot read several texts in one row: they would see each other"
        yield Problem(key="batching", value=type(batching).__name__, reason=reason, suggestion="padded")
    elif model.family == "encoder" and model.attention in ("eager", "flex_attention"):
        reason = "the attention of an encoder cannot be limited to one text of a packed row in this way"
        yield Problem(key="model.attention", value=model.attention, reason=reason, suggestion="sdpa")


def suitable_learning_rate(
    tuning: Tuning, objective: Objective, optimizer: Optimizer, model: Model, cache_path: str
) -> float | None:
    """Return the peak learning rate that suits the tuning method, the objective, the optimizer and the model.

    The result is `None` if nothing is trained or the tuning method declares no learning rate.
    """
    is_pretrained = not isinstance(model.weights, Random)
    rate = tuning.learning_rate_for(facts_of(model, cache_path).hidden_size, is_pretrained)
    if rate is None:
        return None
    return float(f"{rate * optimizer.learning_rate_scale * objective.learning_rate_scale:.6g}")


def check_learning_rate(
    tuning: Tuning, objective: Objective, optimizer: Optimizer, model: Model, cache_path: str
) -> Iterator[Problem]:
    """Report a learning rate of null if the tuning method declares no default learning rate.

    Also warn of a learning rate that is at least ten times higher or lower than the one that suits the tuning method.
    """
    suitable = suitable_learning_rate(tuning, objective, optimizer, model, cache_path)
    method, rate = type(tuning).__name__, optimizer.lr
    if suitable is None:
        if tuning.trains and rate is None:
            yield Problem(key="optimizer.lr", reason=f"{method} declares no learning rate: set optimizer.lr=...")
    elif rate is None:
        if facts_of(model, cache_path).hidden_size is None and _depends_on_width(tuning):
            reason = f"{method}'s rate depends on the model's hidden size, which is unknown before the download: using"
            yield Problem(key="optimizer.lr", reason=f"{reason} {suitable:g}, which may be too high", kind="warning")
    elif not suitable / FAR_OFF < rate < suitable * FAR_OFF:
        ratio = max(rate / suitable, suitable / rate)
        compared = "above" if rate > suitable else "below"
        reason = f"this is {ratio:.3g} times {compared} {suitable:g}, which suits {method} here: null selects that rate"
        yield Problem(key="optimizer.lr", value=rate, reason=reason, kind="warning")


def _depends_on_width(tuning: Tuning) -> bool:
    return tuning.learning_rate_for(None) != tuning.learning_rate_for(10**6)
