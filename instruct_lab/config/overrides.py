"""Parse the overrides that a user types, and check them against the known options."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from instruct_lab.config.options import GROUPS, options
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import Problem

OPTIONAL_GROUPS = ("debug", "experiments")
OWN_HYDRA_KEYS = ("hydra.sweeper.", "hydra.launcher.")


def parse(text: str, problems: list[Problem]) -> Override | None:
    """Parse an override in Hydra's syntax; if that fails, add a problem and return `None`."""
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        problems.append(Problem(key=text.partition("=")[0], value=text, reason=f"this is not an override: {reason}"))
        return None
    if not override.key_or_group:
        problems.append(Problem(key="", value=text, reason="this is not an override: there is no key before the ="))
        return None
    return override


def to_applicable(override: Override, problems: list[Problem]) -> Override | None:
    """Convert an override to the form that Hydra applies; for an unknown option, add a problem and return `None`.

    A value becomes `++key=value`, which sets the key even if it does not exist: building reports unknown keys.
    """
    key, text = override.key_or_group, str(override.input_line)
    if key in GROUPS and override.package is None and not override.is_delete():
        return _to_choice(override, problems)
    is_of_hydra = key.startswith("hydra") and not key.startswith(OWN_HYDRA_KEYS)
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
    wrong = [name for name in chosen if str(name) not in known and not (name is None and group in OPTIONAL_GROUPS)]
    problems.extend(unknown_option(group, name, known) for name in wrong)
    return None if wrong else _reparse(text)


def _reparse(text: str) -> Override:
    return OverridesParser.create().parse_override(text)


def unknown_option(group: str, name: Any, known: list[str]) -> Problem:
    """Return the problem for an option that a group does not have."""
    return Problem(
        key=group,
        value=name,
        reason=f"group {group} has no such option (options: {', '.join(known)})",
        suggestion=nearest(str(name), known),
    )


def chosen_lists(overrides: list[Override]) -> dict[str, list[str]]:
    """Return the options of groups with several chosen options, which Hydra does not list among its choices."""
    found = {}
    for override in overrides:
        value = None if override.is_delete() else override.value()
        if override.key_or_group in GROUPS and override.package is None and isinstance(value, list) and value:
            found[override.key_or_group] = [str(name) for name in value]
    return found
