"""Documented functions of a standard library, read as text."""

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from instruct_lab.data import Audit, StandardLibrary
from instruct_lab.errors import InstructLabError

MODULE = '''"""Module."""
raise SystemExit("this module was imported")

def add(a, b=1):
    """Add two numbers.

    Exactly.
    """
    # a comment stays
    return a + b
\x0c
class Box:
    """A class."""

    @property
    async def value(
        self,
    ) -> int:
        """The value."""
        text = """
left
"""
        return self._value

    def only_documented(self):
        """Only a docstring."""

def bare():
    return 1

def line(): "On one line."; return 2
'''


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "package" / "tests").mkdir(parents=True)
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "module.py").write_text(MODULE)
    (tmp_path / "package" / "__init__.py").write_text('def deep():\n    "Doc."\n    return 1\n')
    (tmp_path / "package" / "broken.py").write_text("def broken(:\n")
    for left_out in ("package/tests/module.py", "site-packages/module.py", "_sysconfigdata_x.py"):
        (tmp_path / left_out).write_text(MODULE)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    return tmp_path


def read(audit: Audit | None = None, **fields):
    source = StandardLibrary(**fields)
    inputs = source.inputs(Path())
    return SimpleNamespace(rows=list(source.read(Path(), audit or Audit(), "data/train/library")), inputs=inputs)


def test_documented_functions_become_rows(library) -> None:
    audit = Audit()
    rows = {row.columns["name"]: row for row in read(audit).rows}
    assert list(rows) == ["add", "Box.value", "deep"]
    assert rows["add"].columns["code"] == "def add(a, b=1):\n    # a comment stays\n    return a + b"
    assert rows["add"].columns["docstring"] == "Add two numbers.\n\nExactly."
    assert rows["add"].columns["signature"] == "def add(a, b=1):"
    assert rows["add"].where == "module.py, line 4"
    assert rows["Box.value"].columns["signature"] == "async def value(\n    self,\n) -> int:"
    assert rows["Box.value"].columns["code"].endswith('text = """\nleft\n"""\n    return self._value')
    assert rows["deep"].columns["module"] == "package"
    reasons = {tally.reason for tally in audit.tallies.values()}
    assert reasons == {
        "function with only a docstring",
        "docstring on the line of its def",
        "file that does not parse",
    }


def test_the_direction_decides_prompt_and_answer(library) -> None:
    forward = read().rows[0].columns
    assert (forward["input"], forward["output"]) == (forward["code"], forward["docstring"])
    backward = read(direction="docstring_to_function").rows[0].columns
    assert backward["input"] == 'def add(a, b=1):\n    """Add two numbers.\n\n    Exactly."""'
    assert backward["output"] == backward["code"]
    assert forward["instruction"] != backward["instruction"]


def test_the_fingerprint_moves_with_names_and_contents(library) -> None:
    before = read().inputs[0]
    assert before.name.startswith(f"python-{sys.version_info.major}.{sys.version_info.minor}")
    assert before == read().inputs[0]
    (library / "package" / "tests" / "module.py").write_text("left_out = 1")
    assert before == read().inputs[0]
    (library / "module.py").rename(library / "renamed.py")
    assert before.sha256 != read().inputs[0].sha256
    assert before.bytes == read().inputs[0].bytes


def test_a_python_without_source_files_is_an_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(InstructLabError, match="no source files"):
        read()


@pytest.mark.slow
def test_this_python_s_library_is_read_and_not_imported() -> None:
    loaded = set(sys.modules)
    found = read()
    assert len(found.rows) > 3000
    assert not {"this", "antigravity", "turtle"} & (set(sys.modules) - loaded)
    assert all(set(StandardLibrary().known_columns()) == set(row.columns) for row in found.rows)
    assert len(found.inputs[0].sha256) == len(hashlib.sha256().hexdigest())
