"""The design, held by tests: groups and packages mirror each other, declarations are light, imports flow one way."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import yaml

import instruct_lab
from instruct_lab.config import Component
from instruct_lab.config.options import GROUPS, options, packaged_conf
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.check import check_all

ROOT = Path(__file__).parent.parent
PACKAGES = sorted(module.name for module in pkgutil.iter_modules(instruct_lab.__path__) if module.ispkg)
PACKAGE_OF_GROUP = {
    "tokenizer": "model",
    "trainer": "training",
    "debug": "training",
    "experiments": "experiment",
    "preprocessing/step": "preprocessing",
    "pruner": "sweep",
    "hydra/sweeper": "sweep",
    "hydra/launcher": "sweep",
}
HEAVY = ("torch", "transformers", "datasets", "peft", "wandb", "pytorch_lightning", "torchmetrics", "pyarrow", "numpy")


def option_files():
    return [*sorted((ROOT / "conf").rglob("*.yaml")), *sorted((ROOT / "experiments").rglob("*.yaml"))]


NO_GROUP = {
    "api",
    "cache",
    "chat",
    "commands",
    "comparison",
    "config",
    "conversion",
    "editors",
    "evaluation",
    "export",
    "inspection",
    "pages",
    "planning",
    "progress",
    "records",
}
"""Packages that a user does not choose an option of: named for what they do."""


def test_every_group_has_its_package_and_every_package_its_group():
    folders = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()}
    assert folders | {"experiments"} == {group for group in GROUPS if "/" not in group} | {"hydra"}
    assert all((ROOT / "conf" / group).is_dir() for group in GROUPS if "/" in group)
    assert {PACKAGE_OF_GROUP.get(group, group) for group in GROUPS} == set(PACKAGES) - NO_GROUP


def test_at_most_eight_groups_have_a_package_of_another_name():
    assert len(PACKAGE_OF_GROUP) <= 8


def test_every_group_but_the_optional_ones_is_a_field_of_the_experiment():
    fields = {field.name for field in dataclasses.fields(Experiment)}
    assert {group for group in GROUPS if "/" not in group} - {"debug", "experiments", "tokenizer", "pruner"} <= fields


IMPORT_ALL = f"""
import importlib, sys
for package in sys.argv[1:]:
    module = importlib.import_module(f"instruct_lab.{{package}}")
    [getattr(module, name) for name in getattr(module, "__all__", ())]
    print(package, [name for name in {HEAVY!r} if name in sys.modules])
from instruct_lab.cli import main
code = main(["check"])
print("check", code, [name for name in {HEAVY!r} if name in sys.modules])
"""


@pytest.mark.slow
def test_importing_packages_and_checking_a_config_loads_no_heavy_library():
    command = [sys.executable, "-c", IMPORT_ALL, *PACKAGES]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[: len(PACKAGES)] == [f"{package} []" for package in PACKAGES]
    assert lines[-1] == "check 0 []"


@pytest.mark.slow
def test_every_option_of_every_group_and_every_study_is_built():
    results = check_all()
    assert {(r.group, r.option): [str(p) for p in r.problems] for r in results if r.problems} == {}
    files = [path for path in option_files() if path != ROOT / "conf" / "train.yaml"]
    assert len(results) == len(files)  # found recursively: no file is overlooked


def test_an_option_in_a_folder_below_its_group_is_found(lab):
    nested = lab / "conf" / "data" / "more" / "nested.yaml"
    nested.parent.mkdir()
    nested.write_text((lab / "conf" / "data" / "mine.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    assert "more/nested" in [option.name for option in options("data")]


@pytest.mark.parametrize("path", option_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_an_option_file_opens_with_its_comment(path):
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# ")
    if path.parent != packaged_conf():
        assert lines[0].startswith(f"# {path.stem}: "), "the comment begins with the option's name"
    yaml.safe_load(path.read_text(encoding="utf-8"))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in (ROOT / "instruct_lab").rglob("*.py")}


def syntax_tree(path):
    """The syntax tree of a file; names that a package imports on demand are ordinary imports in it."""
    source = path.read_text()
    return ast.parse(source.replace("if TYPE_CHECKING:", "if True:") if "= names_on_demand(" in source else source)


def imported(node):
    """The modules that a syntax tree imports, also inside functions, but not for type checking only."""
    is_for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in node.orelse if is_for_types else ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom):
            for alias in child.names:
                full = f"{child.module}.{alias.name}"
                yield full if full in MODULES else child.module
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        yield from imported(child)


def imported_at_once(path):
    """The modules that a file imports when it is imported itself."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def components():
    for name, path in MODULES.items():
        if not any(module.partition(".")[0] in HEAVY for module in imported_at_once(path)):
            for kind in vars(importlib.import_module(name)).values():
                if isinstance(kind, type) and issubclass(kind, Component) and kind.__module__ == name:
                    yield kind


@pytest.mark.parametrize("kind", sorted(set(components()), key=lambda k: k.__name__), ids=lambda k: k.__name__)
def test_a_component_has_a_docstring_and_is_frozen(kind):
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}("), "the docstring is dataclass's own"
    if dataclasses.is_dataclass(kind) and not inspect.isabstract(kind):
        assert kind.__dataclass_params__.frozen


def circle(graph):
    """A circle in a graph of names to names; none where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


@pytest.mark.slow
def test_no_modules_import_each_other_in_a_circle():
    graph = {
        name: {module for module in imported(syntax_tree(path)) if module in MODULES and module != name}
        for name, path in MODULES.items()
    }
    assert circle(graph) is None


def test_a_circle_of_imports_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    tree = ast.parse("if TYPE_CHECKING:\n    import a\ndef f():\n    import b\n")
    assert list(imported(tree)) == ["b"], "imports inside functions count, those for type checking do not"


@pytest.mark.slow
@pytest.mark.static
def test_imports_flow_one_way():
    lint = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([str(lint), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]
    assert "ignore_imports" not in (ROOT / ".importlinter").read_text()


@pytest.mark.static
def test_code_is_formatted_and_linted():
    for command in (["check"], ["format", "--check"]):
        result = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.static
def test_types_hold():
    command = [sys.executable, "-m", "mypy", "--cache-dir", "/dev/null"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]


POSSESSIVE_GROUP = re.compile(r"(?<!\\)\)(?:[*+?]|\{\d*,?\d*\})\+")
"""Matches a possessive quantifier after a group in a regular expression; an f-string's value counts as the digit 1."""


def texts_of(tree):
    """The texts in a syntax tree: constants, and f-strings with 1 in place of each value."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "1" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_no_pattern_has_a_possessive_group():
    """Python before 3.11.5 matches `(...)*+` wrongly (gh-106052); after a single character or class it is right."""
    assert POSSESSIVE_GROUP.search(next(texts_of(ast.parse('rf"(a){{{n},}}+"'))))
    found = [(name, text) for name, path in MODULES.items() for text in texts_of(ast.parse(path.read_text()))]
    assert [(name, text) for name, text in found if POSSESSIVE_GROUP.search(text)] == []


def test_modules_stay_small_enough_to_read():
    lengths = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > 350} == {}


def test_files_of_tests_have_different_names():
    """Pytest imports them as modules without a package, so that one of two files with the same name is an error."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_texts_use_the_words_of_the_field():
    words = re.compile(r"\b(told|tells|chief|anew)\b", re.IGNORECASE)
    files = [path for path in (ROOT / "instruct_lab").rglob("*") if path.suffix in {".py", ".js", ".html", ".yaml"}]
    files += [*option_files(), ROOT / "README.md"]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if "echarts" not in path.parts and words.search(line)
    ]
    assert found == []
