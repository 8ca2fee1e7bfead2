"""Nothing that a file, a record or a model holds reaches the terminal as a control character."""

import ast
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text
from support.planted_runs import record_of

import instruct_lab
from instruct_lab import cli
from instruct_lab.terminal import INVISIBLE, open_console, visible, write_content, write_hanging, write_line

PACKAGE = Path(instruct_lab.__file__).parent
WRITERS = {"terminal.py", "metrics/_sandbox_child.py"}
HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\rok\x08\u202egnp.exe\u2066"


def calls(name):
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield path.relative_to(PACKAGE).as_posix()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["print", "Console"])
def test_only_one_module_writes_to_the_terminal(name):
    assert set(calls(name)) <= WRITERS


@pytest.mark.parametrize(
    ("text", "indent", "expected"),
    [
        ("  name  " + "word " * 9, 8, "  name  word word word word word word\n        word word word"),
        ("  a long name      int  " + "word " * 4, 24, "  a long name  int  word word word word"),
        ("  a long name      int  " + "word " * 6, 24, "  a long name  int  word word word word\n      word word"),
        ("short", 30, "short"),
    ],
)
def test_long_lines_are_broken_at_spaces_and_indented(text, indent, expected, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    write_hanging(text, indent)
    assert capsys.readouterr().out.rstrip() == expected
    monkeypatch.delenv("COLUMNS")
    write_hanging(text, indent)
    assert capsys.readouterr().out.rstrip() == text.rstrip()


@given(st.text())
def test_no_control_character_is_left(text):
    shown = visible(text)
    assert not INVISIBLE.search(shown)
    assert all(char.isprintable() or char in "\n\t" or ord(char) > 0x9F for char in shown)
    if not INVISIBLE.search(text):
        assert shown == text


@pytest.mark.parametrize("error", [False, True])
def test_a_line_has_no_control_characters(capsys, error):
    write_line(f"before {HOSTILE} after", error=error)
    printed = capsys.readouterr()
    shown = printed.err if error else printed.out
    assert not INVISIBLE.search(shown)
    assert shown.startswith("before ␛[2J␛]0;owned␇⟨U+009B⟩31m␍ok␈⟨U+202E⟩gnp.exe⟨U+2066⟩ after")


@pytest.mark.parametrize(("is_terminal", "printed"), [(True, "a␛b\n"), (False, "a\x1bb\n")])
def test_content_is_exact_in_a_pipe(monkeypatch, is_terminal, printed):
    stream = io.StringIO()
    stream.isatty = lambda: is_terminal
    monkeypatch.setattr(sys, "stdout", stream)
    write_content("a\x1bb")
    assert stream.getvalue() == printed


@pytest.mark.parametrize("color", [True, False])
def test_a_console_shows_signs_and_keeps_its_own_colours(color):
    stream = io.StringIO()
    console = open_console(file=stream, force_terminal=color, color_system="standard", width=200, no_color=not color)
    table = Table("name", title=HOSTILE)
    table.add_row(HOSTILE)
    table.add_row(Text(HOSTILE, style="red"))
    console.print(table)
    console.print(f"[bold]{HOSTILE}", style="red")
    shown = stream.getvalue()
    assert "␛[2J" in shown
    assert "[bold]" in shown
    assert "\x1b[2J" not in shown
    assert "\x1b]" not in shown
    assert not set("\x07\x08\x9b\u202e\u2066\r") & set(shown)
    assert ("\x1b[31m" in shown) == color


@pytest.fixture
def clean(capsys):
    """Run a command; what it prints has no control characters."""

    def run(*arguments):
        code = cli.main(list(arguments))
        printed = capsys.readouterr()
        assert not INVISIBLE.search(printed.out + printed.err), repr(printed)
        return code, printed.out + printed.err

    return run


@pytest.mark.slow
def test_keys_values_comments_and_names_of_a_config_are_shown(lab, clean):
    quoted = json.dumps(HOSTILE, ensure_ascii=True)
    text = f"# hostile: {HOSTILE.replace(chr(13), '')}\n{quoted}: 1\nname: {quoted}\ntuning:\n  {quoted}: {quoted}\n"
    (lab / "experiments").mkdir()
    (lab / "experiments" / "hostile.yaml").write_text(text.replace("\x1b", ""), encoding="utf-8")
    base = ["data=mine", "model=tiny_random", "tracker=none"]
    for command in ("check", "show", "train"):
        code, _ = clean(command, *base, "experiments=hostile")
        assert code == 2
    for arguments in (["list", "experiments"], ["list", "experiments", "hostile"], ["check", *base, f"{HOSTILE}=1"]):
        clean(*arguments)
    code, _ = clean("check", *base, f"tuning.r={HOSTILE}")
    assert code == 2
    code, _ = clean("check", *base, f"seed={HOSTILE}", f"tuning={HOSTILE}")
    assert code == 2


def test_records_are_shown(tmp_path, monkeypatch, clean):
    monkeypatch.chdir(tmp_path)
    for number, outcomes in enumerate([[1, 1, 0, 1] * 6, [0, 1, 0, 0] * 6]):
        config = {"tuning": {"r": f"{HOSTILE}{number}"}}
        record = record_of(tmp_path / "runs", f"run-{number}", outcomes, config, {"tuning": f"{HOSTILE}{number}"})
        summary = json.loads((record.path / "summary.json").read_text(encoding="utf-8"))
        summary["metrics"]["test/exact_match"]["after"]["signature"] = HOSTILE
        (record.path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    for arguments in (["runs"], ["compare", "run-0", "run-1"], ["compare", "--markdown", "run-0", "run-1"]):
        code, shown = clean(*arguments)
        assert code == 0
        assert "␛[2J" in shown or arguments[0] == "compare"
    assert clean("runs", f"{HOSTILE}=1")[0] == 2
