"""Call a rule with the components that its parameters name.

A rule is a function that yields a `Problem` for each conflict between choices of a run. Its parameters have the names
and types of fields of `Experiment`; a parameter `components` receives all components of the config, keyed by full key.
A rule is called only if all components that its parameters name could be built. Why a component could not be built is
reported by the function that builds it.
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
    """Call a rule with the components that its parameters name, and yield the problems that the rule yields.

    If one of the components could not be built, the rule is not called. A parameter that takes several components by
    name (metrics, callbacks, trackers) receives those that could be built.

    Args:
        rule: the rule.
        built: the components that could be built, keyed by full key.
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
    """Return the components of class `kind` whose full key is `group.NAME`, keyed by this name."""
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
