"""Apply a rule to the built components.

A rule is a function that yields a `Problem` for each conflict. Its parameters have the names and types of fields of
`Experiment`; a parameter `components` receives all components of the config, keyed by full key. A rule runs only if
all components that it compares could be built; failures of the build are reported separately.
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
    """Call a rule with the components that its parameters name; yield nothing if one of them could not be built.

    For a dictionary (metrics, callbacks, trackers), the rule receives only the entries that could be built.

    Args:
        rule: the rule.
        built: components, keyed by full key.
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
    """Return the built components directly below a group, keyed by name."""
    found = {}
    for key, part in built.items():
        above, _, name = key.rpartition(".")
        if above == group and isinstance(part, kind):
            found[name] = part
    return found


@functools.cache
def parameter_types(rule: Rule) -> dict[str, Any]:
    """Return the types of a rule's parameters, keyed by name."""
    hints = get_type_hints(rule)
    hints.pop("return", None)
    return hints
