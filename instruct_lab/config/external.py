"""Read the signature of another library's class that a config names, to check the class's arguments in the config.

The signature is read from the installed source with `ast`. It therefore agrees with the installed version, and reading
it takes milliseconds, whereas importing the library would take seconds.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import importlib.util
import sys
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from instruct_lab.config.lab_code import lab_source
from instruct_lab.config.permissions import how_to_allow, is_class_allowed, is_library_class
from instruct_lab.errors import InstructLabError

_KNOWN_NAMES = {
    **{name: getattr(typing, name) for name in ("Any", "Literal", "Optional", "Union")},
    "Callable": Callable,
    "Iterable": Iterable,
    "Mapping": Mapping,
    "Sequence": Sequence,
    "List": list,
    "Dict": dict,
    "bool": bool,
    "dict": dict,
    "float": float,
    "int": int,
    "list": list,
    "set": set,
    "str": str,
    "tuple": tuple,
    "None": None,
}
_MAX_HOPS = 12


@dataclasses.dataclass(frozen=True)
class ExternalClass:
    """A class of another library that a config names, with the arguments from the config; `build` creates the object.

    Args:
        target: the dotted name of the class.
        arguments: keyword arguments. In their strings, `build` replaces placeholders such as `{run_path}`.
    """

    target: str
    arguments: dict[str, Any]

    def accepts(self, argument: str) -> bool:
        """Whether the class takes an argument of this name, according to its source code; nothing is imported."""
        found = find_class(self.target)
        return found is not None and argument in signature_of(*found).types

    def build(self, *, run: Mapping[str, str] | None = None, **values: Any) -> Any:
        """Import the class from the module that defines it, and create an object with the arguments of the config.

        Args:
            run: the text that replaces each placeholder, such as `{run_path}` in a string, keyed by the placeholder's
                name without braces; `None`: no replacement.
            values: arguments of the class that are added to those in the config, or replace them.

        Raises:
            InstructLabError: the class does not exist, or the user has not allowed it.
        """
        found = find_class(self.target)
        if found is None:
            raise InstructLabError(f"There is no class {self.target}", do="install the library that defines it")
        name = name_needing_permission(*found)
        if name is not None and not is_class_allowed(name):
            raise InstructLabError(f"The class {self.target} is not allowed", do=how_to_allow(name))
        kind = getattr(importlib.import_module(found[0]), found[1].name)
        arguments = {key: _build_argument(value, run or {}) for key, value in self.arguments.items()}
        return kind(**{**arguments, **values})


def _build_argument(value: Any, run: Mapping[str, str]) -> Any:
    """Build the `ExternalClass` objects in an argument's value, and replace placeholders by the texts in `run`."""
    if isinstance(value, ExternalClass):
        return value.build(run=run)
    if isinstance(value, dict):
        return {key: _build_argument(inner, run) for key, inner in value.items()}
    if isinstance(value, list):
        return [_build_argument(inner, run) for inner in value]
    if isinstance(value, str):
        for name, text in run.items():
            value = value.replace("{" + name + "}", text)
    return value


@dataclasses.dataclass(frozen=True)
class Signature:
    """The keyword arguments of a class: their types (`Any` if the source gives no type), and which are required."""

    types: dict[str, Any]
    required: frozenset[str]
    takes_any: bool  # whether the class takes **kwargs
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)  # if not a literal, the source text

    def leaves_default(self, name: str, value: Any) -> bool:
        """Whether an argument's value in the config is `None` and stands for the default.

        This is so if the argument is not required and its type does not accept `None`.
        """
        if value is not None or name in self.required or name not in self.types:
            return False
        try:
            pydantic.TypeAdapter(self.types[name]).validate_python(None, strict=True)
        except pydantic.ValidationError:
            return True
        except pydantic.errors.PydanticUserError:
            return False  # a type that only the library itself can check
        return False


def _parse(path: Path) -> ast.Module:
    return _parse_version(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _parse_version(path: Path, modified: int) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=path.name)


def _module_file(module: str) -> Path | None:
    """Find the source file of a module without importing it or its parent packages; `None` if there is no such file."""
    top, *rest = module.split(".")
    source = lab_source(module) or _installed_source(top)
    if source is None:
        return None
    if source.name != "__init__.py":
        return None if rest else source
    path = source.parent.joinpath(*rest)
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def _installed_source(top: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    source = Path(spec.origin) if spec is not None and spec.origin is not None else None
    return source if source is not None and source.suffix == ".py" else None


def _definition(
    module: str, name: str, hops: int = 0, skips_standard_library: bool = False
) -> tuple[str, ast.stmt] | None:
    """Find the statement that defines a name in a module; if the module imports the name, follow the import.

    Args:
        module: name of the module.
        name: name of a class, function or variable.
        hops: number of imports followed so far.
        skips_standard_library: whether names from Python's standard library count as not found.

    Returns:
        The name of the module that contains the statement, and the statement; `None` if it is not found.
    """
    if skips_standard_library and module.partition(".")[0] in sys.stdlib_module_names:
        return None
    file = _module_file(module)
    if file is None or hops > _MAX_HOPS:
        return None
    for statement in _parse(file).body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
            return module, statement
        if isinstance(statement, ast.Assign) and any(
            isinstance(assigned, ast.Name) and assigned.id == name for assigned in statement.targets
        ):
            return module, statement
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    source = _absolute(module, file, statement)
                    return _definition(source, alias.name, hops + 1, skips_standard_library)
    return None


def _absolute(module: str, file: Path, statement: ast.ImportFrom) -> str:
    if not statement.level:
        return statement.module or ""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for _ in range(statement.level - 1):
        package = package.rpartition(".")[0]
    return f"{package}.{statement.module}" if statement.module else package


class _Namespace(dict[str, Any]):
    """The namespace in which type annotations are evaluated; names other than common types and aliases are `Any`."""

    def __init__(self, module: str) -> None:
        super().__init__(_KNOWN_NAMES)
        self._module = module

    def __missing__(self, name: str) -> Any:
        found = _definition(self._module, name, skips_standard_library=True)  # its modules are large
        if found is None or not isinstance(found[1], ast.Assign):
            return Any
        return _evaluate(found[1].value, found[0])


def _evaluate(annotation: ast.expr | None, module: str) -> Any:
    if annotation is None:
        return Any
    if any(isinstance(node, ast.Call | ast.Lambda | ast.Await) for node in ast.walk(annotation)):
        return Any
    try:  # only names, subscripts, unions and constants reach here
        code = compile(ast.Expression(annotation), "<annotation>", "eval")
        return eval(code, {"__builtins__": {}}, _Namespace(module))
    except Exception:
        return Any


def find_class(target: str) -> tuple[str, ast.ClassDef] | None:
    """Find the source code of a class by its dotted name, without an import.

    Returns:
        The name of the module that defines the class, and the class definition; `None` if there is no such class.
    """
    module, _, name = target.rpartition(".")
    found = _definition(module, name) if module else None
    if found is None or not isinstance(found[1], ast.ClassDef):
        return None
    return found[0], found[1]


def name_needing_permission(module: str, definition: ast.ClassDef, group: str | None = None) -> str | None:
    """Return the dotted name of a class if the user has to allow this name before the class may be used, else `None`.

    A config may use some classes of Lightning without a permission (`LIBRARY_CLASSES`). Classes in the user's lab
    folder (the working directory) need the permission `lab-code` instead of their name.

    Args:
        module: module that defines the class.
        definition: definition of the class.
        group: config group in which the config names the class, since Lightning's classes are allowed only in their own
            group; `None`: the group does not matter.
    """
    name = f"{module}.{definition.name}"
    if lab_source(module) is not None or is_library_class(name, _ancestors(module, definition), group):
        return None  # a lab's code has a permission of its own
    return name


def _ancestors(module: str, definition: ast.ClassDef, hops: int = 0) -> set[str]:
    """Return the dotted names of all direct and indirect base classes of a class that `module` defines."""
    names: set[str] = set()
    for base in definition.bases:
        found = _definition(module, ast.unparse(base))
        if found is not None and isinstance(found[1], ast.ClassDef) and hops < _MAX_HOPS:
            names |= {f"{found[0]}.{found[1].name}", *_ancestors(found[0], found[1], hops + 1)}
    return names


def has_module(module: str) -> bool:
    """Whether a module has a source file; the module is not imported."""
    return _module_file(module) is not None


def public_names(module: str) -> list[str]:
    """List the public classes and functions in a module's source, and the public names that it imports.

    The list is empty if there is no such module.
    """
    file = _module_file(module)
    if file is None:
        return []
    body = _parse(file).body
    defined = [statement.name for statement in body if isinstance(statement, ast.ClassDef | ast.FunctionDef)]
    imported = [alias.asname or alias.name for s in body if isinstance(s, ast.ImportFrom) for alias in s.names]
    return [name for name in [*defined, *imported] if not name.startswith("_")]


def docstring_of(definition: ast.ClassDef) -> str:
    """Return the docstring of a class or, if it has none, of its `__init__`; an empty text if both have none."""
    functions = [statement for statement in definition.body if isinstance(statement, ast.FunctionDef)]
    initializers = [function for function in functions if function.name == "__init__"]
    own: list[ast.ClassDef | ast.FunctionDef] = [definition, *initializers]
    return next((text for statement in own if (text := ast.get_docstring(statement))), "")


def is_component(definition: ast.ClassDef) -> bool:
    """Whether the class is decorated with `@component`."""
    names = (ast.unparse(decorator).rpartition(".")[2] for decorator in definition.decorator_list)
    return any(name == "component" for name in names)


def signature_of(module: str, definition: ast.ClassDef, hops: int = 0) -> Signature:
    """Return the arguments of a class's `__init__`, which the class itself or a base class defines.

    If no source of an `__init__` is found, the class counts as taking any keyword argument. `module` is the module that
    defines the class.
    """
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return _arguments(statement.args, module)
    for base in definition.bases:
        found = _definition(module, ast.unparse(base))
        if found is not None and isinstance(found[1], ast.ClassDef) and hops < _MAX_HOPS:
            return signature_of(found[0], found[1], hops + 1)
    return Signature(types={}, required=frozenset(), takes_any=True)


@functools.lru_cache(maxsize=64)
def _arguments(arguments: ast.arguments, module: str) -> Signature:
    positional = [*arguments.posonlyargs, *arguments.args][1:]  # without self
    required = {argument.arg for argument in positional[: len(positional) - len(arguments.defaults)]}
    required |= {
        argument.arg
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    }
    types = {argument.arg: _evaluate(argument.annotation, module) for argument in [*positional, *arguments.kwonlyargs]}
    values: list[ast.expr | None] = [*arguments.defaults, *arguments.kw_defaults]
    with_values = [*positional[len(positional) - len(arguments.defaults) :], *arguments.kwonlyargs]
    pairs = zip(with_values, values, strict=True)
    defaults = {argument.arg: _default(value) for argument, value in pairs if value is not None}
    return Signature(types, frozenset(required), takes_any=arguments.kwarg is not None, defaults=defaults)


def _default(value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:
        return ast.unparse(value)
