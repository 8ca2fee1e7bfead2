"""Find the class that a `_target_` in a config names.

A component class is imported. For a class that is not a component, such as a torch class, only the signature is read,
without an import.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import traceback
from collections.abc import Iterator
from typing import Any, get_args

import pydantic.dataclasses

from instruct_lab.config import lab_code
from instruct_lab.config.component import Component
from instruct_lab.config.external import (
    ExternalClass,
    Signature,
    find_class,
    has_module,
    is_component,
    name_needing_permission,
    public_names,
    signature_of,
)
from instruct_lab.config.lab_code import lab_source
from instruct_lab.config.permissions import how_to_allow, is_class_allowed
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import Problem, one_line

TARGET = "_target_"


def class_of(target: Any, key: str, problems: list[Problem]) -> type | Signature | None:
    """Return the component class that a `_target_` names, or the signature of another library's class.

    Args:
        target: the value of the `_target_`, which should be the dotted name of a class.
        key: full key of the `_target_` in the config, for the problem.
        problems: list to which a problem is added if the class does not exist or may not be used; the function then
            returns `None`.
    """
    parts = target.split(".") if isinstance(target, str) else []
    if len(parts) < 2 or not all(map(str.isidentifier, parts)):
        problems.append(Problem(key=key, value=target, reason="not the dotted name of a class"))
        return None
    module, _, name = target.rpartition(".")
    if module.split(".")[0] == __package__.split(".")[0]:
        return _own_class(module, name, target, key, problems)
    try:
        found = find_class(target)
        suggestion = None if found else nearest(name, public_names(module))
    except SyntaxError as error:
        reason = f"{error.filename}, line {error.lineno}: not valid Python: {error.msg}"
        problems.append(Problem(key=key, value=target, reason=reason))
        return None
    if found is None:
        reason = "no installed library has this class, and no module of this lab"
        problems.append(
            Problem(key=key, value=target, reason=reason, suggestion=suggestion and f"{module}.{suggestion}")
        )
        return None
    if (refusal := _refusal(found, key)) is not None:
        problems.append(Problem(key=key, value=target, reason=refusal, kind="permission"))
        return None
    if lab_source(found[0]) is not None:
        lab_code.make_importable(found[0])
    if is_component(found[1]):
        return _import_component(found[0], found[1].name, target, key, problems)
    return signature_of(*found)


def bases_of_field(kind: type, field: str) -> tuple[type, ...]:
    """Return the component classes in the type of a component's field; the field accepts them and their subclasses.

    The result is empty if the field accepts no component, or if it also accepts classes of other libraries.

    Args:
        kind: the class of the component that has the field.
        field: name of the field.
    """
    info = getattr(kind, "__pydantic_fields__", {}).get(field)
    found = list(_classes_in(info.annotation)) if info is not None else []
    return () if ExternalClass in found else tuple(found)


def _classes_in(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and issubclass(annotation, Component | ExternalClass):
        yield annotation
    for part in get_args(annotation):
        yield from _classes_in(part)


def wrong_base(target: Any, bases: tuple[type, ...]) -> str | None:
    """Return an error text if a field accepts only components and the given class is not a component, else `None`.

    Args:
        target: the dotted name of the class.
        bases: the component classes that the field accepts; empty if it also accepts other classes, in which case
            the function returns `None`.
    """
    if not bases or not isinstance(target, str) or target.split(".")[0] == __package__.split(".")[0]:
        return None
    try:
        found = find_class(target)
    except SyntaxError:
        return None
    if found is None or is_component(found[1]):
        return None
    names = " or ".join(f"{base.__module__.rpartition('.')[0]}.{base.__name__}" for base in bases)
    return f"only a class with @component that derives from {names} can be used here: choose an option, or write one"


def _refusal(found: tuple[str, ast.ClassDef], key: str) -> str | None:
    """Return why a class from outside this package may not be used, and how to allow it; `None` if it may be used.

    Args:
        found: the name of the module that defines the class, and the class definition.
        key: full key of the `_target_` that names the class.
    """
    if (source := lab_source(found[0])) is not None:
        reason = "this class is defined in the lab's own code"
        return (how := lab_code.refusal()) and f"{reason} ({source.name}), which runs only if you allow it: {how}"
    name = name_needing_permission(*found, key.partition(".")[0])
    if name is None or is_class_allowed(name):
        return None
    return (
        f"this class of another library is used only if you allow it, because it may do anything: {how_to_allow(name)}"
    )


def _import_component(module: str, name: str, target: str, key: str, problems: list[Problem]) -> type | None:
    """Import a component class from the user's files or another library; if it fails, add a problem and return `None`.

    Args:
        module: the module that defines the class.
        name: name of the class.
        target: the dotted name in the config.
        key: full key of the `_target_`.
        problems: list to which the problem is added.
    """
    try:
        kind = getattr(importlib.import_module(module), name)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{module} cannot be imported: {type(error).__name__}: {one_line(error)}"
        problems.append(Problem(key=key, value=target, reason=f"{reason} ({frame.filename}, line {frame.lineno})"))
        return None
    if not (isinstance(kind, type) and issubclass(kind, Component)):
        reason = "the class does not derive from a component of this package"
        problems.append(Problem(key=key, value=target, reason=reason))
        return None
    try:
        _build_validator(kind)
    except Exception as error:
        reason = f"a field of {module}.{name} has a type that cannot be checked: {type(error).__name__}"
        problems.append(Problem(key=key, value=target, reason=f"{reason}: {one_line(error)}"))
        return None
    return kind


def _build_validator(kind: Any) -> None:
    """Build pydantic's validator for a component class; the decorator `@component` leaves this until the first use."""
    pydantic.dataclasses.rebuild_dataclass(kind)


def _own_class(module: str, name: str, target: str, key: str, problems: list[Problem]) -> type | None:
    if not has_module(module):
        package = module
        while not has_module(package):
            package = package.rpartition(".")[0]
        known = [f"{package}.{part}" for part in _module_names(importlib.import_module(package))]
        suggestion = nearest(module, known)
        reason = f"there is no module {module}"
        problems.append(Problem(key=key, value=target, reason=reason, suggestion=suggestion and f"{suggestion}.{name}"))
        return None
    found = importlib.import_module(module)
    kind = getattr(found, name, None)
    if isinstance(kind, type) and issubclass(kind, Component):
        return kind
    names = {*vars(found), *getattr(found, "__all__", ())}
    known = [n for n in sorted(names) if isinstance(k := getattr(found, n), type) and issubclass(k, Component)]
    suggestion = nearest(name, known)
    problems.append(
        Problem(
            key=key,
            value=target,
            reason=f"{module} has no component {name}",
            suggestion=suggestion and f"{module}.{suggestion}",
        )
    )
    return None


def _module_names(package: Any) -> list[str]:
    return [module.name for module in pkgutil.iter_modules(getattr(package, "__path__", []))]
