"""JSON Schema of a field's type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from instruct_lab.config import Component, ExternalClass

INTERPOLATION = "interpolation"
"""Name of the definition of values that are known later: `${key}` and `???`."""
CLASS = "x-class"
SCALARS = ("integer", "number", "boolean", "array")
LIMITS = {"enum", "const", "pattern", "minLength", "maxLength", "format"}
"""Keywords of JSON Schema that restrict texts, and would therefore refuse an interpolation."""


class _Generator(GenerateJsonSchema):
    """Pydantic's schema generator, changed to leave a mark wherever a config names a class."""

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
    """Return the schema of the values of a type in YAML.

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
    """Return a schema for YAML, in which interpolations are also valid values.

    A mark is replaced by the schema of its class, and a reference to a definition by the definition itself.
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
