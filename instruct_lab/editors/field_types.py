"""Conversion of the type of a component's field to a JSON Schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from instruct_lab.config import Component, ExternalClass

INTERPOLATION = "interpolation"
"""Name of the schema definition for values that are not known yet: `${key}` and `???`."""
CLASS = "x-class"
SCALARS = ("integer", "number", "boolean", "array")
LIMITS = {"enum", "const", "pattern", "minLength", "maxLength", "format"}
"""Keywords of JSON Schema that restrict which texts are valid, and would therefore refuse an interpolation."""


class _Generator(GenerateJsonSchema):
    """Pydantic's schema generator, which puts the name of a component class where the schema of the class would stand.

    `_replace` then puts the schema of the class and its subclasses there, since a config chooses one by `_target_`.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:
        return self._mark(schema["cls"]) or super().dataclass_schema(schema)

    def is_instance_schema(self, schema: Any) -> JsonSchemaValue:
        return self._mark(schema["cls"]) or {}

    def callable_schema(self, schema: Any) -> JsonSchemaValue:
        return {}

    def _mark(self, kind: Any) -> JsonSchemaValue | None:
        is_choice = isinstance(kind, type) and issubclass(kind, Component | ExternalClass)
        return {CLASS: _register(kind)} if is_choice else None


_KINDS: dict[str, type] = {}


def _register(kind: type) -> str:
    name = f"{kind.__module__}.{kind.__qualname__}"
    _KINDS[name] = kind
    return name


def schema_of(annotation: Any, metadata: Iterable[Any], reference: Callable[[type], dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of the YAML values that are valid for a type.

    Args:
        annotation: the type.
        metadata: constraints on the values, as in `Annotated`.
        reference: function that returns the schema of a component class.
    """
    constraints = tuple(metadata)
    annotated: Any = Annotated
    kind = annotated[(annotation, *constraints)] if constraints else annotation
    if isinstance(kind, type) and issubclass(kind, Component | ExternalClass):
        return reference(kind)
    config = ConfigDict(arbitrary_types_allowed=True)
    adapter = TypeAdapter(kind) if _has_own_config(kind) else TypeAdapter(kind, config=config)
    found = adapter.json_schema(schema_generator=_Generator)
    definitions = found.pop("$defs", {})
    schema = _replace(found, definitions, reference)
    assert isinstance(schema, dict)
    return schema


def _has_own_config(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "__pydantic_config__")


def _replace(node: Any, definitions: dict[str, Any], reference: Callable[[type], dict[str, Any]]) -> Any:
    """Return a copy of a schema, or of a part of it, that also accepts interpolations (`${key}`) as values.

    The name of a component class, which `_Generator` put into the schema, is replaced by the schema of the class. A
    `$ref` is replaced by the definition to which it refers.

    Args:
        node: the schema or a part of it: a dictionary, a list or a single value.
        definitions: the definitions to which the schema refers, by name.
        reference: function that returns the schema of a component class.
    """
    if isinstance(node, list):
        return [_replace(inner, definitions, reference) for inner in node]
    if not isinstance(node, dict):
        return node
    if CLASS in node:
        return reference(_KINDS[node[CLASS]])
    if "$ref" in node:
        return _replace(definitions[node["$ref"].rpartition("/")[2]], definitions, reference)
    schema = {key: _replace(value, definitions, reference) for key, value in node.items() if key != "title"}
    if schema.get("type") in SCALARS or LIMITS & set(schema):
        return {"anyOf": [schema, {"$ref": f"#/definitions/{INTERPOLATION}"}]}
    return schema
