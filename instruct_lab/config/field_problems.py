"""Convert errors in the fields of a component, or in the arguments of another library's class, to `Problem` objects."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pydantic

from instruct_lab.config.component import Component
from instruct_lab.config.external import Signature
from instruct_lab.config.fields import fields_of
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import Problem, Refusal

UNEXPECTED = "unexpected_keyword_argument"
MAX_UNKNOWN = 20
"""Maximum number of unknown keys of one component that are reported one by one."""


def _more_unknown(key: str, count: int) -> Problem:
    return Problem(key=key, reason=f"{count:,} more keys here are unknown: check that the file is the right one")


def join_key(prefix: str, key: str) -> str:
    """Join a prefix and a config key with a dot; if one of them is empty, return the other."""
    return f"{prefix}.{key}" if prefix and key else prefix or key


def component_problems(
    error: pydantic.ValidationError, kind: type, arguments: dict[str, Any], failed: set[str], key: str
) -> Iterator[Problem]:
    """Yield one problem for each field of a component whose name or value pydantic refuses.

    If a field accepts several types, its problem gives one reason for each type. If there are many unknown fields, the
    last ones share one problem.

    Args:
        error: pydantic's error.
        kind: the component's class.
        arguments: the values of the component's fields in the config.
        failed: fields whose values could not be built; they are skipped, since their problems are already reported.
        key: full key of the component.
    """
    fields = [field.name for field in dataclasses.fields(kind)]
    by_field: dict[str, list[Any]] = {}
    for detail in error.errors(include_url=False):
        location = detail["loc"]
        by_field.setdefault(str(location[0]) if location else "", []).append(detail)
    unknown = [field for field, details in by_field.items() if details[0]["type"] == UNEXPECTED]
    for field in unknown[MAX_UNKNOWN:]:
        del by_field[field]
    if len(unknown) > MAX_UNKNOWN:
        yield _more_unknown(key, len(unknown) - MAX_UNKNOWN)
    for field, details in by_field.items():
        refusal = details[0].get("ctx", {}).get("error")
        if isinstance(refusal, Refusal):
            value = _to_plain(_refused_value(arguments, refusal.field))
            yield Problem(
                key=join_key(key, refusal.field), value=value, reason=refusal.reason, suggestion=refusal.suggestion
            )
        elif field not in failed:
            yield _field_problem(kind, field, details, fields, key, arguments.get(field))


def _refused_value(arguments: Any, key: str) -> Any:
    """Return the value of a dotted key; if it is missing, return the innermost existing value on the way to it."""
    name, _, rest = key.partition(".")
    value = arguments.get(name) if isinstance(arguments, dict) else getattr(arguments, name, None)
    inner = _refused_value(value, rest) if rest else None
    return value if inner is None else inner


def _field_problem(kind: type, field: str, details: list[Any], fields: list[str], key: str, siblings: Any) -> Problem:
    first = details[0]
    full = join_key(key, field)
    if first["type"] == UNEXPECTED:
        known = ", ".join(fields) or "none"
        reason = f"{_name(kind)} has no field {field} (fields: {known})"
        value, suggestion = _to_plain(first["input"]), nearest(field, fields)
        return Problem(key=full, value=value, reason=reason, suggestion=suggestion, kind="unknown_key")
    if first["type"] in ("missing", "missing_keyword_only_argument", "missing_argument"):
        return Problem(key=full, reason=f"{_name(kind)} requires a value here: set {full}=...")
    inner = _common_path(details)
    if inner:
        full = join_key(full, ".".join(inner))
    reasons = _reasons(details)
    if first["type"] == "string_pattern_mismatch" and issubclass(kind, Component):
        comment = next((one.comment for one in fields_of(kind) if one.name == field), "")
        reasons = [f"expected another form of text{comment and f': {comment}'}"]
    valid = [value for detail in details for value in _literals(detail)]
    value = first["input"]
    suggestion = nearest(value, valid) if isinstance(value, str) and valid else None
    if inner and isinstance(siblings, dict):  # an entry of a dictionary by name: its name may be misspelt
        suggestion = suggestion or nearest(inner[0], [name for name in siblings if name != inner[0]])
    return Problem(key=full, value=_to_plain(value), reason="; or ".join(reasons), suggestion=suggestion)


CLASS_TYPES = ("is_instance_of", "dataclass_type", "dataclass_exact_type")


def _name(kind: type) -> str:
    named = kind.name_in_messages if issubclass(kind, Component) else None
    return named or kind.__name__


def _common_path(details: list[Any]) -> list[str]:
    """Return the path of the refused value inside a component's field; it is empty if the whole field is refused.

    The path is the beginning that the paths in all of pydantic's errors have in common.

    Args:
        details: pydantic's errors for the field, one for each type that the field accepts.
    """
    paths = [
        [str(part) for part in detail["loc"][1:] if not str(part).startswith(("function-", "nullable", "union"))]
        for detail in details
    ]
    same = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
    return [parts[0] for parts in same]


def _reasons(details: list[Any]) -> list[str]:
    """Return the reasons why pydantic refuses the value of one field, each once.

    All errors that ask for a component become one reason, which names all accepted classes.

    Args:
        details: pydantic's errors for the field, one for each type that the field accepts.
    """
    classes = [detail for detail in details if detail["type"] in CLASS_TYPES]
    wanted = " or ".join(
        dict.fromkeys(detail["ctx"].get("class") or detail["ctx"].get("class_name") for detail in classes)
    )
    reasons = []
    if classes and isinstance(classes[0]["input"], dict):
        reasons = [f"there is no {wanted} by this name to change: choose an option of the group, or give a _target_"]
    elif classes:
        reasons = [f"expected one of the {wanted} components"]
    takes_numbers = _takes_numbers(details)
    others = [_reason(detail, takes_numbers) for detail in details if detail not in classes]
    return list(dict.fromkeys([*reasons, *others]))


def _takes_numbers(details: list[Any]) -> bool:
    """Whether a field accepts numbers, according to pydantic's errors for it.

    If it does not, a number without quotes in YAML was probably meant as a text, and the error message says so.
    """
    return any(str(detail["type"]).startswith(("int", "float")) for detail in details)


def _reason(detail: Any, takes_numbers: bool) -> str:
    reason = str(detail["msg"]).removeprefix("Value error, ").replace("Input should be", "expected")
    if detail["type"] == "string_type" and isinstance(detail["input"], bool | int | float) and not takes_numbers:
        return f"{reason}: YAML reads no, yes, on, off, true, false and numbers as such unless they are in quotes"
    return reason


def _literals(detail: Any) -> list[str]:
    expected = detail.get("ctx", {}).get("expected", "") if detail["type"] == "literal_error" else ""
    return [word.strip(" '\"") for word in str(expected).replace(" or ", ",").split(",") if word.strip()]


def _to_plain(value: Any) -> Any:
    """Convert a value for error messages and JSON.

    A component becomes the name of its class; any other value that JSON cannot express becomes its `repr`.
    """
    try:
        json.dumps(value)
    except TypeError:
        return type(value).__name__ if dataclasses.is_dataclass(value) else repr(value)
    return value


def external_problems(
    signature: Signature, arguments: dict[str, Any], failed: set[str], target: str, key: str
) -> Iterator[Problem]:
    """Yield a problem for each argument of another library's class that is missing, unknown, or of the wrong type.

    Args:
        signature: the arguments that the class accepts, with their types.
        arguments: the values of the arguments in the config.
        failed: arguments whose values could not be built; they are skipped, since their problems are already reported.
        target: dotted name of the class.
        key: full key of the class in the config.
    """
    name = target.rpartition(".")[2]
    for argument in sorted(signature.required - arguments.keys()):
        full = join_key(key, argument)
        yield Problem(key=full, reason=f"{name} requires a value here: set {full}=...")
    unknown = [name for name in arguments if name not in signature.types and not signature.takes_any]
    if len(unknown) > MAX_UNKNOWN:
        yield _more_unknown(key, len(unknown) - MAX_UNKNOWN)
    unreported = {*failed, *unknown[MAX_UNKNOWN:]}
    for argument, value in arguments.items():
        full = join_key(key, argument)
        if argument in unreported:
            continue
        if argument not in signature.types:
            if not signature.takes_any:
                suggestion = nearest(argument, signature.types)
                reason = f"{name} takes no argument {argument}"
                value = _to_plain(value)
                yield Problem(key=full, value=value, reason=reason, suggestion=suggestion, kind="unknown_key")
            continue
        try:
            pydantic.TypeAdapter(signature.types[argument]).validate_python(value, strict=True)
        except pydantic.ValidationError as error:
            details = error.errors(include_url=False)
            takes_numbers = _takes_numbers(details)
            reasons = "; or ".join(dict.fromkeys(_reason(detail, takes_numbers) for detail in details))
            valid = [word for detail in details for word in _literals(detail)]
            suggestion = nearest(value, valid) if isinstance(value, str) else None
            yield Problem(key=full, value=_to_plain(value), reason=reasons, suggestion=suggestion)
        except pydantic.errors.PydanticUserError:
            continue  # a type that only the library itself can check
