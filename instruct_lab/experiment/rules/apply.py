"""Apply a rule to the components that were built.

A rule is a function whose parameters have the names and types of fields of `Experiment`; one more, `components`, takes
every component of the config by its full key. It yields a `Problem` for each thing that does not go together, and runs
only if all components that it compares could be built: what is wrong with the others is reported where they failed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args, get_origin, get_type_hints

from instruct_lab.config.component import Component
from instruct_lab.config.external import ExternalClass
from instruct_lab.errors import Problem

Rule = Callable[..., Iterator[Problem]]
Components = Mapping[str, Component | ExternalClass]


def apply(rule: Rule, built: Mapping[str, Any]) -> Iterator[Problem]:
    """Call a rule with the components that it names; yield nothing if one of them was not built.

    A dictionary by name (metrics, callbacks, trackers) holds those of its entries that were built.

    Args:
        rule: the function.
        built: components by full key.
    """
    arguments: dict[str, Any] = {}
    for name, kind in parameter_types(rule).items():
        if kind == Components:
            arguments[name] = {key: part for key, part in built.items() if isinstance(part, Component | ExternalClass)}
        elif get_origin(kind) is dict:
            arguments[name] = _entries(built, name, get_args(kind)[1])
        elif isinstance(built.get(name), kind):
            arguments[name] = built[name]
        else:
            return
    yield from rule(**arguments)


def _entries(built: Mapping[str, Any], group: str, kind: Any) -> dict[str, Any]:
    """The built components one level below a group, by name."""
    found = {}
    for key, part in built.items():
        above, _, name = key.rpartition(".")
        if above == group and isinstance(part, kind):
            found[name] = part
    return found


@functools.cache
def parameter_types(rule: Rule) -> dict[str, Any]:
    """The parameters of a rule and their types."""
    hints = get_type_hints(rule)
    hints.pop("return", None)
    return hints
