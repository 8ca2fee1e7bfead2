"""The command that converts configs of other tools."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_lab.commands.arguments import AddCommand
from instruct_lab.commands.results import Outcome, json_results
from instruct_lab.errors import InstructLabError
from instruct_lab.terminal import MIN_WIDTH, wide_console, write_hanging, write_line

if TYPE_CHECKING:
    from instruct_lab.conversion import Converted

TOOL_NAMES = ("llamafactory", "axolotl", "trl")
TITLES = {
    "converted": "converted",
    "same": "nothing to set",
    "different": "no equal here",
    "unknown": "unknown",
}


@json_results
def convert(parsed: argparse.Namespace) -> Outcome:
    """Convert a config of another tool, and report how each of its settings was converted.

    The resulting study (YAML files) is written into the working directory or, with `--print`, printed.

    Raises:
        InstructLabError: the config cannot be read, the name of the study is not valid, or a file cannot be written.
    """
    from instruct_lab.conversion import convert as convert_source
    from instruct_lab.conversion import read_source, write_study
    from instruct_lab.conversion.study import study_files
    from instruct_lab.records.folder import name_fault

    source = read_source(parsed.source, parsed.tool)
    if parsed.name is not None:
        if reason := name_fault(parsed.name):
            raise InstructLabError(f"The name of the study is not valid: {reason}", where="--name", do="choose another")
        source = dataclasses.replace(source, name=parsed.name)
    converted = convert_source(source)
    files: list[Path] = []
    if not parsed.print:
        files = write_study(converted, Path(), parsed.replace)
    _print_rows(converted)
    if parsed.print:
        for name, text in study_files(converted).items():
            write_line(f"\n--- {name}\n{text}")
    else:
        for path in files:
            write_line(f"written: {path}")
        write_line(f"next: instruct-lab check experiments={source.name}")
    return Outcome(lambda: _to_json(converted, files))


def _print_rows(converted: Converted) -> None:
    """Print how each setting was converted, as a table, or as a list if the terminal is too narrow for a table."""
    from rich.table import Table

    from instruct_lab.conversion import TOOLS

    headings = (TOOLS[converted.source.tool].name, "value", "", "here")
    rows = [
        (
            f"{row.key} (default)" if row.is_default else row.key,
            _shorten(row.value),
            TITLES[row.kind],
            "; ".join(filter(None, [" ".join(row.overrides), row.note])),
        )
        for row in converted.rows
    ]
    console = wide_console()
    whole = sum(max(map(len, cells)) + 2 for cells in list(zip(headings, *rows, strict=True))[:3])
    longest = max(len(word) for row in rows for word in row[3].split() or [""])
    if console.width - whole < max(MIN_WIDTH, longest):
        for key, value, title, here in rows:
            write_hanging(f"{key}: {value}", 4)
            write_hanging(f"    {title}{here and f': {here}'}", 6)
    else:
        table = Table(box=None, pad_edge=False)
        for heading in headings:
            table.add_column(heading, overflow="fold")
        for cells in rows:
            table.add_row(*cells)
        console.print(table, markup=False)
    counts = {kind: sum(row.kind == kind for row in converted.rows) for kind in TITLES}
    write_line(", ".join(f"{count} {TITLES[kind]}" for kind, count in counts.items() if count))


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _to_json(converted: Converted, files: list[Path]) -> dict[str, Any]:
    from instruct_lab.conversion.study import study_files

    source = converted.source
    return {
        "tool": source.tool,
        "name": source.name,
        "settings": [dataclasses.asdict(row) for row in converted.rows],
        "files": study_files(converted),
        "written": [str(path) for path in files],
    }


def add_commands(add: AddCommand) -> None:
    """Add `convert` to the command line."""
    parser = add(
        "convert",
        convert,
        "turn a config of LLaMA-Factory, axolotl or TRL into a study, and report what became of each setting",
        "instruct-lab convert --print config.yaml",
        "instruct-lab convert --print trl sft --model_name_or_path Qwen/Qwen3-0.6B --dataset_name trl-lib/Capybara",
        json=True,
    )
    parser.add_argument("--from", dest="tool", choices=TOOL_NAMES, help="the tool (default: recognised by the keys)")
    parser.add_argument("--name", help="name of the study (default: that of the file or of the method)")
    parser.add_argument("--print", action="store_true", help="print the files instead of writing them")
    parser.add_argument("--replace", action="store_true", help="replace a study of this name")
    source = "a YAML file, or a training command with its arguments; options of convert come before it"
    parser.add_argument("source", nargs=argparse.REMAINDER, metavar="FILE|COMMAND", help=source)
