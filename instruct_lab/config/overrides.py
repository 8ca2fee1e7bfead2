"""Parse the overrides that a user types, and check that the options that they choose exist."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from instruct_lab.config.options import GROUPS, options
from instruct_lab.config.quoting import BLANKS, parse_or_none, quote_for_shell, quoted_override, several_values
from instruct_lab.config.references import (
    FORMS,
    SCHEMES,
    describe_reference,
    parse_reference,
    quote_reference,
    suggest_reference,
)
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import InstructLabError, Problem, one_line

OPTIONAL_GROUPS = ("debug", "experiments")
MAX_CHARACTERS, MAX_BRACKETS = 100_000, 50
OWN_HYDRA_KEYS = ("hydra.sweeper.", "hydra.launcher.")


def parse(text: str, problems: list[Problem]) -> Override | None:
    """Parse an override in Hydra's syntax; if Hydra refuses it, add a problem that shows what to type instead.

    A refused override is parsed again with quotes around its value, so that the rest of the config can be checked with
    the value that the user probably meant.

    Args:
        text: the override that the user typed.
        problems: list to which the problem is added.

    Returns:
        The override; `None` if it cannot be parsed with quotes either, is too long or nested, or has no key.
    """
    if len(text) > MAX_CHARACTERS or max(text.count(opening) for opening in "[{(") > MAX_BRACKETS:
        reason = f"longer than {MAX_CHARACTERS:,} characters, or has more than {MAX_BRACKETS} brackets of one kind"
        problems.append(Problem(key=text.partition("=")[0], reason=f"this override is {reason}: write an option file"))
        return None
    text = quote_reference(text)
    try:
        override = OverridesParser.create().parse_override(text)
    except (HydraException, ValueError) as error:  # a number of thousands of digits is a ValueError
        quoted = quoted_override(text)
        problems.append(_refused(text, quoted, one_line(next(iter(str(error).splitlines()), ""))))
        override = None if quoted is None else parse_or_none(quoted)
        return None if override is None or override.is_sweep_override() else override
    if not override.key_or_group:
        problems.append(Problem(key="", value=text, reason="this is not an override: there is no key before the ="))
        return None
    return override


def _refused(text: str, quoted: str | None, reason: str) -> Problem:
    """Return the problem to report for an override that is not in Hydra's syntax.

    Args:
        text: the override that the user typed.
        quoted: the override with quotes, in Hydra's syntax; `None` if quotes do not help.
        reason: Hydra's error message.
    """
    key, is_assignment, value = text.partition("=")
    key = key.lstrip("+").strip(BLANKS)
    if not is_assignment:
        return Problem(key=text, reason=f"this is not an override, which is KEY=VALUE: {_meant_by(text)}")
    if quoted is None:
        hint = "a key consists of letters, digits and _ - . $ %, without brackets; set a list as a whole: KEY=[a,b]"
        return Problem(key=key, value=value, reason=f"this is not an override ({reason}): {hint}")
    hint = f"type {quote_for_shell(quoted)}"
    if (several := several_values(text)) is not None and several != quoted:
        hint += f" for one text, or {quote_for_shell(several)} for several values of a sweep"
    return Problem(key=key, value=value, reason=f"{hint} (Hydra's syntax refuses the value without quotes: {reason})")


def _meant_by(word: str) -> str:
    """Return a hint on what to write instead of a word without `=`, such as `tuning=lora` for `lora`."""
    if word in GROUPS:
        return f"write {word}=OPTION, one of {', '.join(option.name for option in options(word))}"
    found = [f"{group}={word}" for group in GROUPS for option in options(group) if option.name == word]
    return f"perhaps {' or '.join(found)} is meant" if found else "write KEY=VALUE, without spaces around the ="


def to_applicable(override: Override, problems: list[Problem]) -> Override | None:
    """Convert an override to the form that Hydra applies.

    An override that sets a value becomes `++key=value`, which Hydra applies even if the key does not exist. Unknown
    keys are reported later, when the components are built.

    Args:
        override: the parsed override.
        problems: list to which a problem is added if the override chooses an option that does not exist, or sets a key
            below `hydra` that this program does not use.

    Returns:
        The converted override; `None` if a problem was added.
    """
    key, text = override.key_or_group, str(override.input_line)
    if key in GROUPS and override.package is None and not override.is_delete():
        return _to_choice(override, problems)
    is_of_hydra = key.partition(".")[0] == "hydra" and not key.startswith(OWN_HYDRA_KEYS)
    if is_of_hydra and "." in key and f"{key}." not in OWN_HYDRA_KEYS:
        reason = "this setting of Hydra has no effect here: only those of hydra.sweeper and hydra.launcher are used"
        problems.append(Problem(key=key, reason=reason))
        return None
    if override.is_delete() or is_of_hydra or "@" in text.partition("=")[0]:
        return override
    if override.value() is None and isinstance(override.value_type, type(None)):
        return override
    return _reparse(f"++{text.lstrip('+')}")


def _to_choice(override: Override, problems: list[Problem]) -> Override | None:
    group, value, text = override.key_or_group, override.value(), str(override.input_line).lstrip("+")
    if isinstance(value, dict):  # the content of a group, written inline
        return _reparse(f"++{text}")
    chosen = value if isinstance(value, list) else [value]
    known = [option.name for option in options(group)]
    found = [_option_problem(group, name, known) for name in chosen]
    wrong = [problem for problem in found if problem is not None]
    problems.extend(wrong)
    return None if wrong else _reparse(text)


def _option_problem(group: str, name: Any, known: list[str]) -> Problem | None:
    """Return the problem with a chosen option of a group; `None` if there is no problem.

    It is a problem if the group has no such option. A reference, such as `hub:ORG/NAME` or `path:FOLDER`, is a problem
    if the model or data to which it refers is not available.

    Args:
        group: the config group.
        name: the chosen option or reference.
        known: names of the group's options.
    """
    if str(name) in known or (name is None and group in OPTIONAL_GROUPS):
        return None
    reference = parse_reference(group, name)
    if reference is None:
        return unknown_option(group, name, known)
    try:
        describe_reference(reference)
    except InstructLabError as error:
        return Problem(key=group, value=name, reason=one_line(error, 1000))
    return None


def _reparse(text: str) -> Override:
    return OverridesParser.create().parse_override(text)


def unknown_option(group: str, name: Any, known: list[str]) -> Problem:
    """Return the problem to report for an option that a group does not have."""
    forms = " or ".join(FORMS.get(group, ()))
    if forms and str(name).strip() in {f"{scheme}:" for scheme in SCHEMES}:
        reason = f"the name is missing after the colon; write {forms}"
        return Problem(key=group, value=name, reason=reason, kind="unknown_option")
    references = f"; or {forms}" if forms else ""
    return Problem(
        key=group,
        value=name,
        reason=f"group {group} has no such option (options: {', '.join(known)}{references})",
        suggestion=suggest_reference(group, str(name)) or nearest(str(name), known),
        kind="unknown_option",
    )


def chosen_lists(overrides: list[Override]) -> dict[str, list[str]]:
    """Return the options that overrides choose as a list, such as `metrics=[translation,perplexity]`, keyed by group.

    Hydra records the chosen options itself, but not if they are a list.
    """
    found = {}
    for override in overrides:
        value = None if override.is_delete() else override.value()
        if override.key_or_group in GROUPS and override.package is None and isinstance(value, list) and value:
            found[override.key_or_group] = [str(name) for name in value]
    return found
