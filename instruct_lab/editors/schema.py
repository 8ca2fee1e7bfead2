"""JSON Schema of option files, studies and the whole config, from the fields of the component classes.

Editors check and complete a file by its schema while it is written (`# yaml-language-server: $schema=...`). A schema
holds what can be known from one file: which classes and fields there are, their types and bounds, and which fields are
required. What depends on other files or choices is left to `instruct-lab check`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from instruct_lab import files
from instruct_lab.config import Component, ExternalClass
from instruct_lab.config.classes import TARGET, class_of
from instruct_lab.config.external import find_class, signature_of
from instruct_lab.config.fields import fields_of
from instruct_lab.config.lab_code import lab_source
from instruct_lab.config.options import GROUPS, STUDIES, Option, options
from instruct_lab.config.yaml_text import read_yaml_text
from instruct_lab.editors.field_types import INTERPOLATION, schema_of
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.rules.trainer import TRAINER
from instruct_lab.late_imports import import_all_names
from instruct_lab.model import Model
from instruct_lab.preprocessing import Step
from instruct_lab.sweep import Launcher, Pruner, Sampler, Sweep

DRAFT = "http://json-schema.org/draft-07/schema#"
WHOLE = "config"
"""Name of the schema of the whole config and of the studies."""
DELTAS = ("debug", STUDIES)
"""Groups whose option files may set any key of the whole config."""
CLASSES: dict[str, type[Component]] = {
    "preprocessing/step": Step,
    "pruner": Pruner,
    "hydra/sweeper": Sampler,
    "hydra/launcher": Launcher,
}
"""The base class for each group that is not a field of `Experiment`."""
OWN_CLASS = r"^instruct_lab\."
PART = " (changes)"


def group_schema(group: str) -> dict[str, Any]:
    """Return the schema of a group's option files.

    An option file of the group `debug` may set any key of the config, and so may a study: their schema is that of the
    whole config. The schema of another group does not apply to those of its files that contain `# @package _global_`,
    which may also set any key.
    """
    if group in DELTAS:
        return config_schema()
    writer, in_part = _Writer(), {"required": ["defaults"]}
    if group == "trainer":
        root = writer.trainer()
    else:
        kind = _type_of(group)
        changes = writer.field(kind, part=True)
        if changes.get("type") == "object":  # entries by name, beside other options that the file chooses
            changes = {**changes, "properties": {"defaults": {"type": "array"}}}
        root = {"if": in_part, "then": changes, "else": writer.field(kind)}
    return {"$schema": DRAFT, "title": group, **root, "definitions": writer.definitions}


def option_schema(option: Option) -> dict[str, Any]:
    """Return the schema of one option's file, with the file's comment as its description."""
    title = {"title": f"{option.group}={option.name}", "description": "\n".join(option.comment_lines)}
    return {**(config_schema() if is_change_of_all(option.path) else group_schema(option.group)), **title}


def is_change_of_all(path: Path) -> bool:
    """Whether a file's keys are those of the whole config (`# @package _global_`) and not of a group."""
    lines = read_yaml_text(path).splitlines()
    return any(re.fullmatch(r"#\s*@package\s+_global_\s*", line) for line in lines[:3])


def config_schema() -> dict[str, Any]:
    """Return the schema of the whole config, in which every key may be left out, as in a study."""
    writer = _Writer()
    return {"$schema": DRAFT, "title": WHOLE, **writer.whole_config(), "definitions": writer.definitions}


def write_schemas(folder: Path) -> list[Path]:
    """Write the schema of each group and of the whole config to a folder, and return the files."""
    with files.disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    schemas = {schema_name(group): group_schema(group) for group in GROUPS if group not in DELTAS}
    for name, schema in {schema_name(STUDIES): config_schema(), **schemas}.items():
        files.write_atomically(folder / name, [json.dumps(schema), "\n"])
    return sorted(folder / name for name in {schema_name(STUDIES), *schemas})


def schema_name(group: str) -> str:
    """Return the name of the file with the schema of a group's options."""
    return f"{WHOLE if group in DELTAS else group.replace('/', '-')}.json"


def _type_of(group: str) -> Any:
    """Return the type of what a group's options configure: a class, or the type of the field with the group's name."""
    if group in CLASSES:
        return CLASSES[group]
    owner: Any = Model if group == "tokenizer" else Experiment
    return owner.__pydantic_fields__[group].annotation


class _Writer:
    """A builder of one schema, with the definitions to which the schema refers.

    Each class has two definitions: one in which required fields must be set, and one for files that only change fields
    of a component that another file chooses.
    """

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {INTERPOLATION: {"type": "string", "pattern": r"\$\{|^\?\?\?$"}}

    def whole_config(self) -> dict[str, Any]:
        """Return the schema of a config in which every key may be left out."""
        infos = Experiment.__pydantic_fields__  # type: ignore[attr-defined]  # set by pydantic
        properties = {name: self.field(info.annotation, info.metadata, part=True) for name, info in infos.items()}
        properties |= {"trainer": self.trainer(), "sweep": self.field(Sweep, part=True), TARGET: {"type": "string"}}
        hydra = {"sweeper": self.field(Sampler, part=True), "launcher": self.field(Launcher, part=True)}
        properties |= {"hydra": {"type": "object", "properties": hydra}, "defaults": {"type": "array"}}
        comments = {field.name: field.comment for field in fields_of(Experiment)}
        described = {name: _describe(one, comments.get(name, "")) for name, one in properties.items()}
        return {"type": "object", "properties": described, "additionalProperties": False}

    def trainer(self) -> dict[str, Any]:
        """Return the schema of the trainer's arguments, all of which may be left out."""
        return {**_external_arguments(TRAINER), "type": "object", "additionalProperties": False}

    def field(self, annotation: Any, metadata: Any = (), *, part: bool = False) -> dict[str, Any]:
        """Return the schema of a field; component classes in its type become references to definitions.

        Args:
            annotation: the type of the field.
            metadata: constraints on the values, as in `Annotated`.
            part: whether the schema requires no field of a component class, because another file can set the fields.
        """
        return schema_of(annotation, metadata, functools.partial(self._reference, part=part))

    def _reference(self, kind: type, *, part: bool) -> dict[str, Any]:
        """Define the schema of a class and its subclasses, and return a reference to it.

        With `part`, the schema requires no field.
        """
        name = kind.__name__ + (PART if part else "")
        if name not in self.definitions:
            self.definitions[name] = {}  # a field of the class may have the class as its type
            self.definitions[name] = self._choice(kind, part)
        return {"$ref": f"#/definitions/{name}"}

    def _choice(self, kind: type, part: bool) -> dict[str, Any]:
        """Return the schema of an object whose `_target_` determines its fields.

        With `part`, the schema requires no field.
        """
        if kind is ExternalClass:
            required = {} if part else {"required": [TARGET]}
            return {"type": "object", "properties": {TARGET: {"not": {"pattern": OWN_CLASS}}}, **required}
        kinds = {_target(one): one for one in concrete_classes(kind)}
        known = {"enum": list(kinds)}
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {TARGET: {"anyOf": [known, {"type": "string", "not": {"pattern": OWN_CLASS}}]}},
            "allOf": [
                {
                    "if": {"properties": {TARGET: {"const": target}}, "required": [TARGET]},
                    "then": self._fields(one, part),
                }
                for target, one in kinds.items()
            ],
        }
        if not part:
            return {**schema, "required": [TARGET]}
        fields = self._united_fields(list(kinds.values()))
        unnamed = {"if": {"not": {"required": [TARGET]}}, "then": fields}
        return {**schema, "allOf": [*schema["allOf"], unnamed]}

    def _fields(self, kind: type[Component], part: bool) -> dict[str, Any]:
        name = f"{kind.__name__} fields{PART if part else ''}"
        if name not in self.definitions:
            self.definitions[name] = {}
            self.definitions[name] = self._object(kind, part)
        return {"$ref": f"#/definitions/{name}"}

    def _object(self, kind: type[Component], part: bool) -> dict[str, Any]:
        infos: dict[str, Any] = kind.__pydantic_fields__  # type: ignore[attr-defined]  # set by pydantic
        described = {field.name: field for field in fields_of(kind)}
        properties: dict[str, Any] = {TARGET: {"description": (inspect.getdoc(kind) or "").partition("\n")[0]}}
        for name, info in infos.items():
            schema = _describe(self.field(info.annotation, info.metadata, part=part), described[name].comment)
            properties[name] = schema if info.is_required() else {**schema, "default": described[name].default}
        required = [name for name, info in infos.items() if info.is_required()]
        if part:
            properties["defaults"] = {"type": "array"}
        more = {} if part or not required else {"required": required}
        return {"type": "object", "properties": properties, "additionalProperties": False, **more}

    def _united_fields(self, kinds: list[type[Component]]) -> dict[str, Any]:
        """Return the schema of an object without `_target_`, which changes fields of a component of an unknown class.

        It accepts each field that one of the classes has.

        Args:
            kinds: the classes that the component can have.
        """
        properties: dict[str, list[Any]] = {"defaults": [{"type": "array"}]}
        for kind in kinds:
            self._fields(kind, True)
            for name, schema in self.definitions[f"{kind.__name__} fields{PART}"].get("properties", {}).items():
                if name not in (TARGET, "defaults") and schema not in properties.setdefault(name, []):
                    properties[name].append(schema)
        united = {name: found[0] if len(found) == 1 else {"anyOf": found} for name, found in properties.items()}
        return {"properties": united, "additionalProperties": False}


def _describe(schema: dict[str, Any], comment: str) -> dict[str, Any]:
    """Add a description to a schema.

    A `$ref` is put into `allOf`, since draft 7 of JSON Schema ignores keys beside a `$ref`.
    """
    if "$ref" in schema:
        schema = {"allOf": [schema]}
    return {**schema, "description": comment} if comment else schema


def import_lab_classes() -> None:
    """Import the classes that the user's own options name, if the user's Python files are allowed to run."""
    for option in (option for group in GROUPS for option in options(group) if option.from_lab):
        for target in re.findall(rf"{TARGET}:\s*[\"']?([\w.]+)", read_yaml_text(option.path)):
            if lab_source(target.rpartition(".")[0]) is not None:
                class_of(target, option.path.name, [])


def concrete_classes(kind: type[Component]) -> list[type[Component]]:
    """Return the classes that a config can choose for a type: the class itself and its subclasses, unless abstract."""
    import_all_names()
    return sorted(filter(_is_concrete, _derived(kind)), key=lambda one: (one.__name__, one.__module__))


def _derived(kind: type[Component]) -> set[type[Component]]:
    return {kind}.union(*map(_derived, kind.__subclasses__()))


def _is_concrete(kind: type) -> bool:
    is_own = kind.__module__.startswith("instruct_lab.") and not kind.__name__.startswith("_")
    return (
        (is_own or lab_source(kind.__module__) is not None)
        and "__pydantic_fields__" in vars(kind)
        and not inspect.isabstract(kind)
    )


def _target(kind: type) -> str:
    """Return the name of a class in configs, such as `instruct_lab.tuning.LoRA`.

    It is `MODULE.CLASS` for a class that its package does not export, and for a class of the user.
    """
    if not kind.__module__.startswith("instruct_lab."):
        return f"{kind.__module__}.{kind.__name__}"
    package = ".".join(kind.__module__.split(".")[:2])
    exported = getattr(importlib.import_module(package), kind.__name__, None)
    return f"{package if exported is kind else kind.__module__}.{kind.__name__}"


def _external_arguments(target: str) -> dict[str, Any]:
    """Return the schema of the arguments of another library's class.

    The arguments are read from the source code of the class, which is not run.
    """
    found = find_class(target)
    types = {} if found is None else signature_of(*found).types
    properties: dict[str, Any] = {name: _argument(kind) for name, kind in types.items()}
    return {"properties": {TARGET: {"type": "string"}, "defaults": {"type": "array"}, **properties}}


def _argument(kind: Any) -> dict[str, Any]:
    try:
        TypeAdapter(kind)
    except Exception:  # a type that only the library itself can check
        return {}
    return schema_of(kind, (), lambda _: {})
