"""Describe an option: its YAML file's comment, its components' docstrings and fields, and what combines with it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from instruct_lab.config import Component, ExternalClass
from instruct_lab.config.build import build
from instruct_lab.config.classes import TARGET, class_of
from instruct_lab.config.compose import compose_option_tree
from instruct_lab.config.external import docstring_of, find_class
from instruct_lab.config.fields import FieldDescription, fields_of
from instruct_lab.config.options import HYDRA_GROUPS, STUDIES, Option, options
from instruct_lab.config.show import render_value
from instruct_lab.config.yaml_text import read_yaml_text
from instruct_lab.errors import Problem
from instruct_lab.experiment.matrix import FAMILIES, component_of
from instruct_lab.experiment.rules import combination_problems
from instruct_lab.experiment.rules.combinations import can_answer
from instruct_lab.metrics import Metric
from instruct_lab.model import Model

COMBINED = ("objective", "tuning")
"""Groups of options; for each option in them, it is checked whether the described option can be combined with it."""

LONG_LINE = 90
"""A line of prose with at least this many characters is assumed to continue on the next line."""
Combinable = Mapping[str, Mapping[str, Any]]
"""The components of all objectives and tuning methods, keyed by group and then by the option's name."""


def combinable() -> Combinable:
    """Build the components of all objectives and tuning methods, keyed by group and then by the option's name."""
    return {group: {one.name: component_of(group, one.name) for one in options(group)} for group in COMBINED}


def describe(option: Option, others: Combinable | None = None) -> dict[str, Any]:
    """Describe an option as a JSON object.

    Args:
        option: the option.
        others: the components of all objectives and tuning methods; `None` to build them here. A caller that describes
            several options builds them once, with `combinable`.

    Returns:
        A dictionary with these keys:
        `group` and `option`: the names of the group and of the option; `file`: the path of the option's file;
        `lab`: whether the file is the user's own and not the package's; `comment`: the lines of the file's comment;
        `components`: for each component that the option configures, its `key`, `class`, `docstring` and `fields`;
        `sets`: the values that the option sets outside of components, keyed by full key;
        `works_with`: the names of the model families (`families`), objectives (`objective`) and tuning methods
        (`tuning`) with which the option can be combined, or an empty dictionary if it configures no component;
        `problems`: a message for each class of the option that does not exist or cannot be imported.

    Raises:
        ConfigError: the option's file is not readable, or Hydra cannot compose it.
    """
    problems: list[Problem] = []
    tree = _tree(option)
    targets = dict(_targets(tree, ""))
    kinds = {key: _kind(node[TARGET], key, problems) for key, node in targets.items()}
    known = {key: kind for key, kind in kinds.items() if kind is not None}
    return {
        "group": option.group,
        "option": option.name,
        "file": str(option.path),
        "lab": option.from_lab,
        "comment": option.comment_lines,
        "components": [_describe_component(key, kind, targets[key]) for key, kind in known.items()],
        "sets": dict(_leaves(tree, "")),
        "works_with": works_with(tree, [kind for kind in known.values() if isinstance(kind, type)], others),
        "problems": [str(problem) for problem in problems],
    }


def _tree(option: Option) -> dict[str, Any]:
    """Return the values that an option sets, as nested dictionaries whose outermost keys are top-level config keys.

    If the option chooses options of other groups, as a study does, their names are in the outermost dictionary, keyed
    by group.
    """
    values = yaml.safe_load(read_yaml_text(option.path)) or {}
    if option.group in HYDRA_GROUPS:  # Hydra's own schema lacks these fields until a run is composed
        above, _, name = option.group.partition("/")
        return {above: {name: values}}
    defaults = values.pop("defaults", []) if isinstance(values, dict) else []
    chosen = {key: value for one in defaults if isinstance(one, dict) for key, value in one.items()}
    if option.group != STUDIES and not any(str(key).startswith("override ") for key in chosen):
        return compose_option_tree(option.group, option.name)
    choices = {str(key).removeprefix("override ").lstrip("/"): value for key, value in chosen.items()}
    return {**choices, **{str(key): value for key, value in values.items()}}


def _targets(node: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the full key and the content of each mapping in a config that names a class with `_target_`."""
    if isinstance(node, dict):
        if TARGET in node:
            yield key, node
        for name, inner in node.items():
            yield from _targets(inner, f"{key}.{name}" if key else str(name))


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the full key and the value of each config value outside the mappings that name a class with `_target_`."""
    if not isinstance(node, dict):
        yield key, node
    elif TARGET not in node:
        for name, inner in node.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))


def _kind(target: Any, key: str, problems: list[Problem]) -> type[Component] | ExternalClass | None:
    kind = class_of(target, f"{key}.{TARGET}", problems)
    if kind is None:
        return None
    return kind if isinstance(kind, type) else ExternalClass(target, {})


def _describe_component(key: str, kind: type[Component] | ExternalClass, node: Mapping[str, Any]) -> dict[str, Any]:
    fields = [_describe_field(field, node) for field in fields_of(kind)]
    return {"key": key, "class": node[TARGET], "docstring": _docstring(kind), "fields": fields}


def _docstring(kind: type[Component] | ExternalClass) -> str:
    if not isinstance(kind, ExternalClass):
        return inspect.getdoc(kind) or ""
    found = find_class(kind.target)
    return docstring_of(found[1]) if found else ""


def _describe_field(field: FieldDescription, node: Mapping[str, Any]) -> dict[str, Any]:
    described = {
        "name": field.name,
        "type": field.type,
        "bounds": field.bounds,
        "required": field.is_required,
        "default": field.default,
        "comment": field.comment,
    }
    if field.name in node:
        value = node[field.name]
        described["value"] = value[TARGET] if isinstance(value, dict) and TARGET in value else value
    return described


def works_with(
    tree: dict[str, Any], kinds: list[type[Component]], others: Combinable | None = None
) -> dict[str, list[str]]:
    """List the model families, objectives and tuning methods with which an option can be combined.

    Args:
        tree: the values that the option sets, as nested dictionaries whose outermost keys are top-level config keys.
        kinds: the classes of the option's components.
        others: components of all objectives and tuning methods; `None` to build them here.

    Returns:
        Lists of names with the keys `families`, `objective` and `tuning`. The key `objective` or `tuning` is left out
        if the option itself sets the objective or the tuning method. The dictionary is empty if the option has no
        component.
    """
    if not kinds:
        return {}
    others = others or combinable()
    built = build(OmegaConf.create(tree)).built
    families = [family for family in FAMILIES if _fits(family, kinds, built)]
    found = {"families": families}
    for group in COMBINED:
        if group not in tree:
            found[group] = [name for name, other in others[group].items() if _combines(group, other, families, built)]
    return found


def _fits(family: str, kinds: list[type[Component]], built: Mapping[str, Any]) -> bool:
    models = [part for part in built.values() if isinstance(part, Model)]
    metrics = [part for part in built.values() if isinstance(part, Metric)]
    return (
        all(family in kind.families for kind in kinds)
        and all(model.family == family for model in models)
        and all(can_answer(metric, family) for metric in metrics)
    )


def _combines(group: str, other: Any, families: list[str], built: Mapping[str, Any]) -> bool:
    together = {**built, group: other}
    return any(family in other.families for family in families) and not any(
        problem.refuses for problem in combination_problems(together)
    )


# ---- as text


def render(description: dict[str, Any]) -> str:
    """Render as text what `describe` returns about an option."""
    lines = [f"{description['group']}={description['option']}  ({Path(description['file'])})"]
    lines += [f"  {line}" for line in description["comment"]]
    for component in description["components"]:
        lines += ["", f"{component['key']}: {component['class']}"]
        lines += [f"  {line}".rstrip() for line in component["docstring"].splitlines()]
        lines += ["", *_render_fields(component["fields"])]
    if description["sets"]:
        lines += ["", "sets", *(f"  {key}: {render_value(value)}" for key, value in description["sets"].items())]
    if description["works_with"]:
        lines += ["", "works with"]
        lines += [f"  {group}: {', '.join(names) or 'none'}" for group, names in description["works_with"].items()]
    lines += [f"problem: {problem}" for problem in description["problems"]]
    return "\n".join(lines)


def join_paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """Join the lines of each paragraph into one line, which can then be wrapped to any width.

    A line of less than 90 characters ends a paragraph. An empty line, a list item or a row of a table is not joined to
    the line before it.
    """
    parts: list[str] = []
    for line in lines:
        text = line.strip()
        indent = line[: len(line) - len(text)]
        if parts and len(parts[-1]) >= LONG_LINE and parts[0].startswith(indent) and _is_prose(text, parts[-1]):
            parts.append(text)
            continue
        if parts:
            yield " ".join(parts)
        parts = [line]
    yield " ".join(parts)


def _is_prose(*lines: str) -> bool:
    """Whether each line is running text: not an empty line, a list item or a row of a table."""
    return all(line.strip() and "  " not in line.strip() and line.strip()[0] not in "-*" for line in lines)


def _render_fields(fields: list[dict[str, Any]]) -> list[str]:
    values = [_render_setting(field) for field in fields]
    types = [", ".join(filter(None, (field["type"], field["bounds"]))) for field in fields]
    width = max((len(value) for value in values), default=0)
    type_width = max((len(text) for text in types), default=0)
    return [
        f"  {value:<{width}}  {text:<{type_width}}  {field['comment']}".rstrip()
        for value, text, field in zip(values, types, fields, strict=True)
    ]


def _render_setting(field: dict[str, Any]) -> str:
    """Render a field with the value that the option sets and, if it differs, the default value."""
    default = "required" if field["required"] else f"default {render_value(field['default'])}"
    if "value" not in field:
        return f"{field['name']}: {'(required)' if field['required'] else render_value(field['default'])}"
    value = f"{field['name']}: {render_value(field['value'])}"
    return value if not field["required"] and field["value"] == field["default"] else f"{value} ({default})"
