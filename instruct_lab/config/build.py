"""Build every component of a composed config and collect every problem: checking a config is building it."""

from __future__ import annotations

import dataclasses
import importlib
import json
import traceback
from collections.abc import Iterator
from typing import Any

import pydantic
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from instruct_lab.config import lab_code
from instruct_lab.config.component import Component
from instruct_lab.config.external import ExternalClass, Signature, find_class, is_component, public_names, signature_of
from instruct_lab.config.lab_code import lab_source
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import Problem, Refusal, one_line

TARGET = "_target_"


class _Failed:
    """Stands for a value that could not be built; the problem is reported where it failed, not in the parts above."""

    def __repr__(self) -> str:
        return "<failed>"


FAILED = _Failed()


@dataclasses.dataclass
class Build:
    """What was built, by full key (`""` is the whole config), and every problem that was found."""

    root: Any = FAILED
    built: dict[str, Any] = dataclasses.field(default_factory=dict)
    problems: list[Problem] = dataclasses.field(default_factory=list)


def build(config: DictConfig) -> Build:
    """Build a composed config from its innermost parts outwards; a failure does not stop the others."""
    result = Build()
    plain = _resolve(config, "", result.problems)
    result.root = _build(plain, "", result)
    for key, component in result.built.items():
        if isinstance(component, Component):
            for problem in component.problems():
                result.problems.append(dataclasses.replace(problem, key=_join(key, problem.key)))
    return result


def _join(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix and key else prefix or key


def _resolve(node: Any, key: str, problems: list[Problem]) -> Any:
    """Plain containers with interpolations resolved; a value that is missing or cannot be resolved is a problem."""
    if isinstance(node, DictConfig) and not node._is_none():
        return {str(name): _value(node, name, _join(key, str(name)), problems) for name in node}
    if isinstance(node, ListConfig) and not node._is_none():
        return [_value(node, index, f"{key}[{index}]", problems) for index in range(len(node))]
    return node


def _value(parent: Any, name: Any, key: str, problems: list[Problem]) -> Any:
    if OmegaConf.is_missing(parent, name):
        problems.append(Problem(key=key, reason=f"a value is required: set {key}=...", kind="missing"))
        return FAILED
    try:
        value = parent[name]
    except OmegaConfBaseException as error:
        raw = parent._get_node(name)._value()
        problems.append(Problem(key=key, value=str(raw), reason=" ".join(str(error).splitlines()[0].split())))
        return FAILED
    return _resolve(value, key, problems)


def _build(value: Any, key: str, result: Build) -> Any:
    if isinstance(value, list):
        return [_build(element, f"{key}[{index}]", result) for index, element in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if TARGET not in value:
        return {name: _build(inner, _join(key, name), result) for name, inner in value.items()}
    target = value[TARGET]
    built = _construct(target, value, key, result)
    if built is not FAILED:
        result.built[key] = built
    return built


def _construct(target: Any, value: dict[str, Any], key: str, result: Build) -> Any:
    kind = class_of(target, _join(key, TARGET), result.problems)
    arguments = {
        name: _build(inner, _join(key, name), result)
        for name, inner in value.items()
        if name != TARGET and not name.startswith("_")
    }
    for name in value:
        if name.startswith("_") and name != TARGET:
            result.problems.append(Problem(key=_join(key, name), reason="only _target_ may begin with an underscore"))
    if kind is None:
        return FAILED
    failed = {name for name, argument in arguments.items() if _contains_failed(argument)}
    if isinstance(kind, Signature):
        arguments = {name: value for name, value in arguments.items() if not kind.leaves_default(name, value)}
        problems = list(_external_problems(kind, arguments, failed, target, key))
        result.problems.extend(problems)
        return FAILED if problems or failed else ExternalClass(target=target, arguments=arguments)
    try:
        component = kind(**arguments)
    except pydantic.ValidationError as error:
        result.problems.extend(_component_problems(error, kind, arguments, failed, key))
        return FAILED
    return FAILED if failed else component


def _contains_failed(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_contains_failed, value.values()))
    if isinstance(value, list):
        return any(map(_contains_failed, value))
    return value is FAILED


def class_of(target: Any, key: str, problems: list[Problem]) -> type | Signature | None:
    """The component class that a `_target_` names, or another library's signature.

    Args:
        target: the dotted name.
        key: the full key of the `_target_`, for problems.
        problems: receives what is wrong with the name; then there is no class.
    """
    if not isinstance(target, str) or not target.rpartition(".")[0]:
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
    if (source := lab_source(module)) is not None:
        if not lab_code.is_allowed():
            reason = f"this class is defined in the lab's own code ({source.name}), which runs only if you allow it"
            problems.append(Problem(key=key, value=target, reason=f"{reason}: {lab_code.HOW_TO_ALLOW}"))
            return None
        lab_code.make_importable()
    if is_component(found[1]):
        return _import_component(module, name, target, key, problems)
    return signature_of(*found)


def _import_component(module: str, name: str, target: str, key: str, problems: list[Problem]) -> type | None:
    """A component of a lab or of another library; whatever its module raises is a problem."""
    try:
        kind: type = getattr(importlib.import_module(module), name)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{module} cannot be imported: {type(error).__name__}: {one_line(error)}"
        problems.append(Problem(key=key, value=target, reason=f"{reason} ({frame.filename}, line {frame.lineno})"))
        return None
    return kind


def _own_class(module: str, name: str, target: str, key: str, problems: list[Problem]) -> type | None:
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError:
        import instruct_lab

        package = importlib.import_module(module.rpartition(".")[0]) if module.count(".") > 1 else instruct_lab
        known = [f"{package.__name__}.{part}" for part in _modules(package)]
        suggestion = nearest(module, known)
        reason = f"there is no module {module}"
        problems.append(Problem(key=key, value=target, reason=reason, suggestion=suggestion and f"{suggestion}.{name}"))
        return None
    kind = getattr(found, name, None)
    if isinstance(kind, type) and issubclass(kind, Component):
        return kind
    known = [n for n, k in vars(found).items() if isinstance(k, type) and issubclass(k, Component)]
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


def _modules(package: Any) -> Iterator[str]:
    import pkgutil

    yield from (module.name for module in pkgutil.iter_modules(package.__path__))


def _component_problems(
    error: pydantic.ValidationError, kind: type, arguments: dict[str, Any], failed: set[str], key: str
) -> Iterator[Problem]:
    """Pydantic's errors as problems: one for each field, with all the reasons that a union gives."""
    fields = [field.name for field in dataclasses.fields(kind)]
    by_field: dict[str, list[Any]] = {}
    for detail in error.errors(include_url=False):
        location = detail["loc"]
        by_field.setdefault(str(location[0]) if location else "", []).append(detail)
    for field, details in by_field.items():
        refusal = details[0].get("ctx", {}).get("error")
        if isinstance(refusal, Refusal):
            value = _to_plain(arguments.get(refusal.field.split(".")[0]))
            yield Problem(
                key=_join(key, refusal.field), value=value, reason=refusal.reason, suggestion=refusal.suggestion
            )
        elif field not in failed:
            yield _field_problem(kind, field, details, fields, key, arguments.get(field))


def _field_problem(kind: type, field: str, details: list[Any], fields: list[str], key: str, siblings: Any) -> Problem:
    first = details[0]
    full = _join(key, field)
    if first["type"] == "unexpected_keyword_argument":
        known = ", ".join(fields) or "none"
        reason = f"{_name(kind)} has no field {field} (fields: {known})"
        return Problem(key=full, value=_to_plain(first["input"]), reason=reason, suggestion=nearest(field, fields))
    if first["type"] in ("missing", "missing_keyword_only_argument", "missing_argument"):
        return Problem(key=full, reason=f"{_name(kind)} requires a value here: set {full}=...")
    inner = [str(part) for part in first["loc"][1:] if not str(part).startswith(("function-", "nullable", "union"))]
    if len(details) == 1 and inner:
        full = _join(full, ".".join(inner))
    reasons = list(dict.fromkeys(_reason(detail) for detail in details))
    valid = [value for detail in details for value in _literals(detail)]
    value = first["input"]
    suggestion = nearest(value, valid) if isinstance(value, str) and valid else None
    if inner and isinstance(siblings, dict):  # a new entry of a dictionary by name, as a misspelt one is
        suggestion = suggestion or nearest(inner[0], [name for name in siblings if name != inner[0]])
    return Problem(key=full, value=_to_plain(value), reason="; or ".join(reasons), suggestion=suggestion)


def _name(kind: type) -> str:
    named = kind.name_in_messages if issubclass(kind, Component) else None
    return named or kind.__name__


def _reason(detail: Any) -> str:
    if detail["type"] in ("is_instance_of", "dataclass_type", "dataclass_exact_type"):
        wanted = detail["ctx"].get("class") or detail["ctx"].get("class_name")
        if isinstance(detail["input"], dict):
            return f"there is no {wanted} by this name to change: choose an option of the group, or give a _target_"
        return f"expected one of the {wanted} components"
    return str(detail["msg"]).removeprefix("Value error, ").replace("Input should be", "expected")


def _literals(detail: Any) -> list[str]:
    expected = detail.get("ctx", {}).get("expected", "") if detail["type"] == "literal_error" else ""
    return [word.strip(" '\"") for word in str(expected).replace(" or ", ",").split(",") if word.strip()]


def _to_plain(value: Any) -> Any:
    """A value in a form for messages and JSON."""
    try:
        json.dumps(value)
    except TypeError:
        return type(value).__name__ if dataclasses.is_dataclass(value) else repr(value)
    return value


def _external_problems(
    signature: Signature, arguments: dict[str, Any], failed: set[str], target: str, key: str
) -> Iterator[Problem]:
    name = target.rpartition(".")[2]
    for argument in sorted(signature.required - arguments.keys()):
        full = _join(key, argument)
        yield Problem(key=full, reason=f"{name} requires a value here: set {full}=...")
    for argument, value in arguments.items():
        full = _join(key, argument)
        if argument in failed:
            continue
        if argument not in signature.types:
            if not signature.takes_any:
                suggestion = nearest(argument, signature.types)
                reason = f"{name} takes no argument {argument}"
                yield Problem(key=full, value=_to_plain(value), reason=reason, suggestion=suggestion)
            continue
        try:
            pydantic.TypeAdapter(signature.types[argument]).validate_python(value, strict=True)
        except pydantic.ValidationError as error:
            details = error.errors(include_url=False)
            reasons = "; or ".join(dict.fromkeys(_reason(detail) for detail in details))
            valid = [word for detail in details for word in _literals(detail)]
            suggestion = nearest(value, valid) if isinstance(value, str) else None
            yield Problem(key=full, value=_to_plain(value), reason=reasons, suggestion=suggestion)
        except pydantic.errors.PydanticUserError:
            continue  # a type that only the library itself can check
