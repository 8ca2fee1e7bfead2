"""Build every component of a composed config, and collect all problems. A config is checked by building it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import pydantic
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from instruct_lab.config.classes import TARGET, bases_of_field, class_of, wrong_base
from instruct_lab.config.component import Component
from instruct_lab.config.external import ExternalClass, Signature
from instruct_lab.config.field_problems import component_problems, external_problems, join_key
from instruct_lab.config.interpolation import bounded, is_limit_reached
from instruct_lab.config.permitted import permission_problems
from instruct_lab.errors import InstructLabError, Problem, one_line


class _Failed:
    """A marker that replaces a value that could not be built.

    The value's problem has been reported, so no further problem is reported for what contains the marker: a list, a
    mapping or a component.
    """

    def __repr__(self) -> str:
        return "<failed>"


FAILED = _Failed()


@dataclasses.dataclass
class Build:
    """The result of building a config.

    Args:
        root: the object built from the whole config; `FAILED` if it could not be built.
        built: every built component, keyed by full key (`""` for the whole config); also the config's top-level values
            that are strings.
        problems: all problems that were found.
    """

    root: Any = FAILED
    built: dict[str, Any] = dataclasses.field(default_factory=dict)
    problems: list[Problem] = dataclasses.field(default_factory=list)


def build(config: DictConfig, unused: Collection[str] = ()) -> Build:
    """Build the components of a composed config, innermost first; if one fails, the others are still built.

    Args:
        config: the composed config.
        unused: top-level keys of components that will not be used. Their fields are checked, but not what depends on
            the environment: it does not matter, for example, if one of their files is missing.
    """
    result = Build()
    with bounded():
        plain = _resolve(config, "", result.problems)
    result.root = _build(plain, "", result)
    result.built |= {name: value for name, value in plain.items() if isinstance(value, str)}
    result.problems.extend(permission_problems(result.built))
    for key, component in result.built.items():
        if isinstance(component, Component) and key.partition(".")[0] not in unused:
            try:
                for problem in component.problems():
                    result.problems.append(dataclasses.replace(problem, key=join_key(key, problem.key)))
            except InstructLabError as error:
                result.problems.append(Problem(key=key, reason=one_line(error)))
    return result


def _resolve(node: Any, key: str, problems: list[Problem]) -> Any:
    """Convert a config to dictionaries and lists with its interpolations resolved.

    A value that is missing or does not resolve becomes `FAILED`, and a problem is added to `problems`.

    Args:
        node: the config, or a value in it.
        key: full key of the value.
        problems: list to which problems are added.
    """
    if isinstance(node, DictConfig) and not node._is_none():
        return {str(name): _value(node, name, join_key(key, str(name)), problems) for name in node}
    if isinstance(node, ListConfig) and not node._is_none():
        return [_value(node, index, f"{key}[{index}]", problems) for index in range(len(node))]
    return node


def _value(parent: Any, name: Any, key: str, problems: list[Problem]) -> Any:
    if OmegaConf.is_missing(parent, name):
        problems.append(Problem(key=key, reason=f"a value is required: set {key}=...", kind="missing"))
        return FAILED
    if is_limit_reached() and OmegaConf.is_interpolation(parent, name):
        return FAILED  # the value that reached the limit has been reported
    try:
        value = parent[name]
    except OmegaConfBaseException as error:
        raw = parent._get_node(name)._value()
        problems.append(Problem(key=key, value=str(raw), reason=" ".join(str(error).splitlines()[0].split())))
        return FAILED
    return _resolve(value, key, problems)


def _build(value: Any, key: str, result: Build, bases: tuple[type, ...] = ()) -> Any:
    if isinstance(value, list):
        return [_build(element, f"{key}[{index}]", result, bases) for index, element in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if TARGET not in value:
        return {name: _build(inner, join_key(key, name), result, bases) for name, inner in value.items()}
    target = value[TARGET]
    if (reason := wrong_base(target, bases)) is not None:
        result.problems.append(Problem(key=join_key(key, TARGET), value=target, reason=reason))
        return FAILED
    built = _construct(target, value, key, result)
    if built is not FAILED:
        result.built[key] = built
    return built


def _construct(target: Any, value: dict[str, Any], key: str, result: Build) -> Any:
    kind = class_of(target, join_key(key, TARGET), result.problems)
    arguments = {
        name: _build(inner, join_key(key, name), result, bases_of_field(kind, name) if isinstance(kind, type) else ())
        for name, inner in value.items()
        if name != TARGET and not name.startswith("_")
    }
    for name in value:
        if name.startswith("_") and name != TARGET:
            result.problems.append(
                Problem(key=join_key(key, name), reason="only _target_ may begin with an underscore")
            )
    if kind is None:
        return FAILED
    failed = {name for name, argument in arguments.items() if _contains_failed(argument)}
    if isinstance(kind, Signature):
        arguments = {name: value for name, value in arguments.items() if not kind.leaves_default(name, value)}
        problems = list(external_problems(kind, arguments, failed, target, key))
        result.problems.extend(problems)
        return FAILED if problems or failed else ExternalClass(target=target, arguments=arguments)
    try:
        component = kind(**arguments)
    except pydantic.ValidationError as error:
        result.problems.extend(component_problems(error, kind, arguments, failed, key))
        return FAILED
    return FAILED if failed else component


def _contains_failed(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_contains_failed, value.values()))
    if isinstance(value, list):
        return any(map(_contains_failed, value))
    return value is FAILED
