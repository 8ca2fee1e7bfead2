"""Describe the fields of a component, or the arguments of another library's class: types, bounds, defaults, comments.

The command `instruct-lab list` and the documentation show these descriptions.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import io
import textwrap
import tokenize
import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from instruct_lab.config.component import Component
from instruct_lab.config.external import ExternalClass, find_class, signature_of

SIGNS = (
    (annotated_types.Ge, "ge", "≥"),
    (annotated_types.Gt, "gt", ">"),
    (annotated_types.Le, "le", "≤"),
    (annotated_types.Lt, "lt", "<"),
)


@dataclasses.dataclass(frozen=True)
class FieldDescription:
    """One field of a component, or one argument of another library's class.

    Args:
        name: name of the field, which is its key in YAML.
        type: the type as text, in which `null` stands for `None`.
        bounds: condition on valid values, such as `≥ 1`.
        is_required: whether the config has to set the field.
        default: the value if the config does not set the field; a value that JSON cannot express is given as text.
        comment: explanation of the field, from the comment beside it in the source; empty for an argument of another
            library's class.
    """

    name: str
    type: str
    bounds: str = ""
    is_required: bool = False
    default: Any = None
    comment: str = ""


def fields_of(kind: type[Component] | ExternalClass) -> list[FieldDescription]:
    """List the fields of a component, or the arguments of another library's class, in order of definition."""
    if isinstance(kind, ExternalClass):
        return _arguments(kind)
    comments = {name: text for base in reversed(kind.__mro__) for name, text in _comments(base).items()}
    infos: dict[str, FieldInfo] = getattr(kind, "__pydantic_fields__", {})
    return [_describe_field(name, info, comments.get(name, "")) for name, info in infos.items()]


def _describe_field(name: str, info: FieldInfo, comment: str) -> FieldDescription:
    text, bounds = _type_and_bounds(info.annotation, info.metadata)
    if info.is_required():
        return FieldDescription(name, text, bounds, is_required=True, comment=comment)
    default = info.get_default(call_default_factory=True)
    return FieldDescription(name, text, bounds, default=_plain(default), comment=comment)


def _plain(value: Any) -> Any:
    """Convert a field's default to values that JSON can express; a component becomes the name of its class."""
    if isinstance(value, Component):
        return type(value).__name__
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _arguments(external: ExternalClass) -> list[FieldDescription]:
    found = find_class(external.target)
    if found is None:
        return []
    signature = signature_of(*found)
    return [
        FieldDescription(
            name,
            "any" if kind is Any else _type_and_bounds(kind, ())[0],
            is_required=name in signature.required,
            default=signature.defaults.get(name),
        )
        for name, kind in signature.types.items()
    ]


def _type_and_bounds(annotation: Any, metadata: Iterable[Any]) -> tuple[str, str]:
    """Return the text for a type, such as `int | null`, and the text for its bounds, such as `≥ 1`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    bounds = [text for one in metadata for text in _bounds(one)]
    if origin is Annotated:
        text, more = _type_and_bounds(inner[0], inner[1:])
    elif origin is Literal:
        text, more = " | ".join(map(str, inner)), ""
    elif origin in (Union, types.UnionType):
        parts = [_type_and_bounds(part, ()) for part in inner]
        text, more = " | ".join(part for part, _ in parts), ", ".join(filter(None, (bound for _, bound in parts)))
    elif origin is not None and inner:
        name = getattr(origin, "__name__", str(origin))
        text, more = f"{name}[{', '.join(_type_and_bounds(part, ())[0] for part in inner)}]", ""
    else:
        text, more = _name_of(annotation), ""
    return text, ", ".join(filter(None, [*bounds, more]))


def _name_of(annotation: Any) -> str:
    if annotation is None or annotation is type(None):
        return "null"
    if annotation is Any:
        return "any"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _entries(count: int) -> str:
    return f"{count} entr{'y' if count == 1 else 'ies'}"


def _bounds(constraint: Any) -> list[str]:
    if isinstance(constraint, FieldInfo):
        return [text for one in constraint.metadata for text in _bounds(one)]
    if isinstance(constraint, annotated_types.MinLen):
        return [f"at least {_entries(constraint.min_length)}"]
    if isinstance(constraint, annotated_types.MaxLen):
        return [f"at most {_entries(constraint.max_length)}"]
    return [f"{sign} {getattr(constraint, name)}" for kind, name, sign in SIGNS if isinstance(constraint, kind)]


@functools.lru_cache(maxsize=1024)
def _comments(kind: type) -> dict[str, str]:
    """Return the comments beside the fields in a class's source, keyed by field.

    Inherited fields are left out. The result is empty if the source is not available.
    """
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):
        return {}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    by_line = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.ClassDef)
    return {
        statement.target.id: " ".join(
            by_line[line] for line in range(statement.lineno, (statement.end_lineno or 0) + 1) if line in by_line
        )
        for statement in definition.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
