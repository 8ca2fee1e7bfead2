"""Label runs by what differs between them: `lora r=8 lr=0.01`.

A label names the options and values in which a run differs from the other runs in the same list. A difference in a
value that the user typed is always named. Other values are left out if the program computes them, if a chosen option
sets them, or if they always change together with a value that is already named. Labels do not depend on the order of
the runs.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from instruct_lab.records.run_settings import RunSettings

GROUPS = (
    *("experiments", "model", "tokenizer", "tuning", "objective", "optimizer", "lr_scheduler", "trainer", "data"),
    *("preprocessing", "template", "batching", "generation", "evaluation", "callbacks", "metrics"),
)
"""The order of groups in a label; other groups follow in alphabetical order, and the seed is last."""
SEED = "seed"
NOT_IN_LABELS = frozenset({"tracker"})
"""Groups whose options do not change results."""
STUDIES = "experiments"
OPTIONAL = frozenset({STUDIES, "debug"})
"""Groups from which no option is chosen by default."""
NOT_A_NAME = frozenset({"none", "null", "default", "auto", "standard", "on", "off", "true", "false"})
"""Options that a reader understands only together with the name of their group."""
MAX_VALUE = 24
"""Maximum number of characters of a value in a label."""
DIGITS = (3, 4, 6, 9, 17)
MISSING = object()


@dataclasses.dataclass(frozen=True)
class Difference:
    """A difference between runs: a config group whose options differ, or a config key whose values differ.

    Args:
        key: name of the group, or full config key.
        is_choice: whether `key` is the name of a group.
        values: for each run, its option of the group or its value of the key; `MISSING` if the run has none.
    """

    key: str
    is_choice: bool
    values: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Label:
    """A run's label, as a list of short texts.

    Args:
        parts: texts such as `lora` and `r=8`, ordered by the config group to which they belong.
        common: indices in `parts` of the texts that more than half of the labelled runs have too.
    """

    parts: tuple[str, ...] = ()
    common: frozenset[int] = frozenset()

    def __str__(self) -> str:
        """Return the texts of the label, joined by spaces."""
        return " ".join(self.parts)

    def fit(self, width: int) -> str:
        """Return the label, shortened if it has more than `width` characters.

        Texts that most runs have are omitted first. Then as many of the last texts as necessary are replaced by a count
        of them: `+2` in `r=8 +2` stands for two texts.

        Args:
            width: maximum number of characters.
        """
        text = str(self)
        if len(text) <= width:
            return text
        own = [part for index, part in enumerate(self.parts) if index not in self.common]
        for parts in (own, self.parts) if own else (self.parts,):
            for count in range(len(parts), 0, -1):
                left_out = len(parts) - count
                text = " ".join([*parts[:count], *([f"+{left_out}"] if left_out else [])])
                if len(text) <= width:
                    return text
            if len(parts[0]) <= width:
                return parts[0]
        return f"{[*own, *self.parts][0][: max(0, width - 1)]}…"


def label_runs(runs: Sequence[RunSettings], *, with_seed: bool = True) -> list[Label]:
    """Return a label for each run, which names the settings in which it differs from the other runs.

    Runs with equal settings have equal labels. The labels are empty if all runs are equal.

    Args:
        runs: the settings of the runs; a run without any settings, such as a damaged one, gets an empty label.
        with_seed: whether the labels may contain the seed.
    """
    found = differences(runs, with_seed=with_seed)
    names, texts = _short_names(found), [_value_texts(one) for one in found]
    ambiguous = _ambiguous_options(found)
    rows = [
        [
            _part(one, name, text, ambiguous) if value is not MISSING else ""
            for text, value in zip(of, one.values, strict=True)
        ]
        for one, name, of in zip(found, names, texts, strict=True)
    ]
    common = [_most_common(row) for row in rows]
    labels = []
    for index, run in enumerate(runs):
        parts = [(row[index], shared) for row, shared in zip(rows, common, strict=True) if row[index]]
        if not parts and found and (run.values or run.choices):
            parts = [(f"no {names[0]}", "")]
        shared_parts = frozenset(position for position, (text, shared) in enumerate(parts) if text == shared)
        labels.append(Label(tuple(text for text, _ in parts), shared_parts))
    return labels


def _most_common(texts: Sequence[str]) -> str:
    """Return the text that occurs in more than half of `texts`, which has an item for each run; empty if none does."""
    text, count = Counter(texts).most_common(1)[0]
    return text if 2 * count > len(texts) else ""


def label_typed(run: RunSettings) -> Label:
    """Return a label for a single run: the options and values that the user typed and that can change results."""
    choices = {key: value for key, value in run.choices.items() if key not in NOT_IN_LABELS}
    found = [
        Difference(key, values is choices, (values[key],))
        for values in (choices, run.values)
        for key in values
        if key in run.typed
    ]
    found = sorted(found, key=_order)
    names, ambiguous = _short_names(found), _ambiguous_options(found)
    pairs = zip(found, names, strict=True)
    return Label(tuple(_part(one, name, _value_texts(one)[0], ambiguous) for one, name in pairs))


def differences(runs: Sequence[RunSettings], *, with_seed: bool = True) -> list[Difference]:
    """Return the differences between runs that their labels name, in the order in which a label names them.

    Args:
        runs: the settings of the runs.
        with_seed: whether the seed may be one of the differences.
    """
    typed = frozenset[str]().union(*(run.typed for run in runs))
    choices = list(_differing([run.choices for run in runs], typed, is_choice=True))
    groups, study = {one.key for one in choices}, [one for one in choices if one.key == STUDIES]
    values = [
        one
        for one in _differing([run.values for run in runs], typed, is_choice=False)
        if one.key not in groups and (with_seed or one.key != SEED)
    ]
    of_study = {one.key for one in choices if any(_is_function_of(one, choice) for choice in study)} - {STUDIES}
    kept = [one for one in choices if one.key in typed or one.key not in NOT_IN_LABELS | of_study]
    kept += [one for one in values if one.key in typed]
    patterns = {_pattern(one) for one in kept}
    for one in values:
        is_derived = all(
            one.key in run.derived for run, value in zip(runs, one.values, strict=True) if value is not MISSING
        )
        follows = one.key in typed or is_derived or any(_is_function_of(one, choice) for choice in choices)
        if not follows and _pattern(one) not in patterns:
            kept.append(one)
            patterns.add(_pattern(one))
    return sorted(kept, key=_order)


def _differing(runs: Sequence[Mapping[str, Any]], typed: frozenset[str], *, is_choice: bool) -> Iterator[Difference]:
    """Yield a difference for each key whose value is not the same in all runs that have the key.

    Some runs may lack a key, for example because an older version of instruct_lab, which did not have this key yet,
    wrote their records. So a missing key is not a difference, with two exceptions: the user typed the key for another
    run, or the key is a group without a default option.

    Args:
        runs: the options or the config values of each run.
        typed: groups and keys that the user typed for at least one run.
        is_choice: whether the keys are names of groups.
    """
    for key in dict.fromkeys(key for keys in sorted({tuple(run) for run in runs}) for key in keys):
        values = tuple(run.get(key, MISSING) for run in runs)
        known = {_comparable(value) for value in values if value is not MISSING}
        is_missing = any(value is MISSING and run for value, run in zip(values, runs, strict=True))
        if len(known) > 1 or (is_missing and (key in typed or (is_choice and key in OPTIONAL))):
            yield Difference(key, is_choice, values)


def _comparable(value: Any) -> str:
    return "" if value is MISSING else json.dumps(value, sort_keys=True, default=str)


def _pattern(one: Difference) -> tuple[int, ...]:
    """Return a number for each run; runs with equal values of the setting get the same number.

    Two settings with the same pattern always change together: the values `(a, b, a)` and `(1, 2, 1)` of three runs both
    have the pattern `(0, 1, 0)`.
    """
    texts = [_comparable(value) for value in one.values]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return tuple(numbers[text] for text in texts)


def _is_function_of(one: Difference, choice: Difference) -> bool:
    """Whether all runs with the same option of a group also have the same value of a setting.

    Args:
        one: the setting, with its value in each run.
        choice: the group, with its option in each run.
    """
    pairs = zip(choice.values, one.values, strict=True)
    known = {(_comparable(option), _comparable(value)) for option, value in pairs if value is not MISSING}
    return len({option for option, _ in known}) == len(known)


def _order(one: Difference) -> tuple[bool, int, str, bool]:
    group = one.key.partition(".")[0].partition("/")[0]
    rank = GROUPS.index(group) if group in GROUPS else len(GROUPS)
    return one.key == SEED, rank, group if rank == len(GROUPS) else "", not one.is_choice


# ---- texts


def _part(one: Difference, name: str, text: str, ambiguous: frozenset[str]) -> str:
    return text if one.is_choice and text not in ambiguous else f"{name}={text}"


def _ambiguous_options(found: Iterable[Difference]) -> frozenset[str]:
    """Return the options that labels show together with the name of their group, such as `callbacks=none`.

    An option needs this if it occurs in several groups, or means nothing without its group. Then the other options of
    this group are shown in the same way.
    """
    options = [set(_value_texts(one)) for one in found if one.is_choice]
    counts = Counter(text for texts in options for text in texts)
    unclear = [
        texts for texts in options if any(counts[text] > 1 or text.casefold() in NOT_A_NAME for text in texts - {""})
    ]
    return frozenset[str]().union(*unclear)


def _short_names(found: Sequence[Difference]) -> list[str]:
    """Return a short name for each key: its last component, such as `lr` for `optimizer.lr`.

    If other keys end with the same components, more components are included until the name is unique.
    """
    keys = [one.key.removesuffix("._target_").replace("/", ".").split(".") for one in found]
    names = []
    for key in keys:
        count = 1
        while count < len(key) and sum(other[-count:] == key[-count:] for other in keys) > 1:
            count += 1
        names.append(".".join(key[-count:]))
    return names


def _value_texts(one: Difference) -> list[str]:
    """Format each run's value as a short text: long texts are cut, and numbers get only as many digits as they need.

    Numbers need enough digits to look different if they are different.
    """
    known = [value for value in one.values if value is not MISSING]
    if one.key.endswith("._target_"):
        short = [str(value).rpartition(".")[2] for value in known]
        if len(set(short)) == len(set(map(str, known))):
            return ["" if value is MISSING else str(value).rpartition(".")[2] for value in one.values]
    numbers = {value for value in known if isinstance(value, float)}
    digits = next((count for count in DIGITS if len({f"{value:.{count}g}" for value in numbers}) == len(numbers)), 17)
    return _shorten(["" if value is MISSING else _value_text(value, digits) for value in one.values])


def _value_text(value: Any, digits: int) -> str:
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, list) and all(isinstance(inner, str) for inner in value):
        return "+".join(value) or "[]"
    return json.dumps(value, separators=(",", ":"), default=str)


def _shorten(texts: list[str]) -> list[str]:
    """Cut the middle of long texts, since paths differ at their ends and sentences at their beginnings.

    If different texts look equal after the cut, a number is appended to each of them.
    """
    head = MAX_VALUE // 3
    short = {text: f"{text[:head]}…{text[head + 1 - MAX_VALUE :]}" for text in sorted(texts) if len(text) > MAX_VALUE}
    equal: dict[str, list[str]] = {}
    for text, cut in short.items():
        equal.setdefault(cut, []).append(text)
    for cut, having in equal.items():
        short |= {text: f"{cut}#{number}" for number, text in enumerate(having, start=1) if len(having) > 1}
    return [short.get(text, text) for text in texts]
