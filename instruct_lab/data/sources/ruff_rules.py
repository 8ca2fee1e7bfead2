"""A source of the rule texts of ruff, a linter for Python. It is the only source that runs a program.

The program, its version and its arguments are constants, not settings, and its output is checked against a SHA-256.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from instruct_lab.assets import Input
from instruct_lab.config import component
from instruct_lab.data.audit import Audit
from instruct_lab.data.sources.base import BrokenRow, Row, Source
from instruct_lab.errors import InstructLabError, Problem

VERSION = "0.17.6"
ARGUMENTS = ("rule", "--all", "--output-format", "json")
OUTPUT_SHA256 = "1a95eb591640bfd1c88bd3f6952cdb7beb987e9219fb7ba969de37aceefbb378"
INSTALL = f"pip install ruff=={VERSION}"
PLACEHOLDER = re.compile(r"\{[a-z_]+\}")
SECTION = re.compile(r"^## +(.+?) *$", re.MULTILINE)
CODE = re.compile(r"^```(?:python|py|pycon)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INSTRUCTIONS = {
    "why": "Why does a linter for Python object to this?",
    "summary": "Summarise this linter rule in one sentence.",
    "repair": "Mend this Python code.",
}


@component
class RuffRules(Source):
    """Rules of ruff 0.17.6, as `ruff rule --all` prints them. Licence of the texts: MIT.

    The task `why` asks for the reason of a rule (question answering), `summary` for a one-sentence summary of its
    explanation (summarisation), and `repair` for a correction of bad code (code repair). A rule whose explanation lacks
    what the task needs is dropped and counted. With `why` and `summary`, answers with a placeholder such as `{name}`
    are dropped too.
    """

    task: Literal["why", "summary", "repair"] = "repair"  # the task of the prompts

    def inputs(self, cache_path: Path) -> list[Input]:
        """Return the output of ruff as the only input.

        Raises:
            InstructLabError: the required version of ruff is not installed, or the SHA-256 of its output is not the
                expected one.
        """
        return [Input(f"ruff-{VERSION}-rules", OUTPUT_SHA256, len(output()))]

    def known_columns(self) -> list[str]:
        """Return the names of the columns that every rule has."""
        return ["instruction", "input", "output", "code", "name", "linter"]

    def problems(self) -> Iterator[Problem]:
        """Report a problem if ruff is not installed."""
        if program() is None:
            reason = f"needs the package ruff {VERSION}, which is not installed: {INSTALL}"
            yield Problem(key="task", value=self.task, reason=reason, kind="unavailable_here")

    def rows(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row | BrokenRow]:
        """Yield one row for each rule; with `repair`, one row for each pair of bad and good code.

        Raises:
            InstructLabError: the required version of ruff is not installed, or the SHA-256 of its output is not the
                expected one.
        """
        for rule in json.loads(output()):
            where = f"ruff {VERSION}, rule {rule['code'] or rule['name']}"
            examples = list(self._examples(rule))
            if not examples:
                audit.record(stage, "dropped", f"rule without what {self.task} asks for", where)
            for question, answer in examples:
                if PLACEHOLDER.search(answer) and self.task != "repair":
                    audit.record(stage, "dropped", "placeholder in the answer", answer)
                    continue
                metadata = {"code": rule["code"] or "", "name": rule["name"], "linter": rule["linter"] or ""}
                columns = {"instruction": INSTRUCTIONS[self.task], "input": question, "output": answer, **metadata}
                yield Row(columns, where)

    def _examples(self, rule: dict[str, Any]) -> Iterator[tuple[str, str]]:
        sections = _sections(rule["explanation"] or "")
        does, why = sections.get("What it does", ""), sections.get("Why is this bad?", "")
        if self.task == "why" and does and why:
            yield f"{rule['name']}: {does}", why
        elif self.task == "summary" and (does or why):
            yield "\n\n".join(part for part in (does, why) if part), rule["summary"]
        elif self.task == "repair":
            yield from _repairs(sections)


def _sections(explanation: str) -> dict[str, str]:
    parts = SECTION.split(explanation)
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def _repairs(sections: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of bad code and good code from the sections of a rule's explanation.

    An explanation shows the bad code, then the words "Use instead" and the good code.
    """
    for name in ("Example", "Examples", "Example:"):
        bad, found, good = sections.get(name, "").partition("Use instead")
        while found:
            before, after = CODE.findall(bad), CODE.findall(good)
            following, found, rest = good.partition("Use instead")
            if found:
                after = CODE.findall(following)[:1]
            if before and after and before[-1].strip() != after[0].strip():
                yield before[-1].rstrip("\n"), after[0].rstrip("\n")
            bad, good = following, rest


def program() -> Path | None:
    """Return the path of `ruff` in the scripts folder of this Python; `None` if it is not installed."""
    for name in ("ruff", "ruff.exe"):
        path = Path(sysconfig.get_path("scripts")) / name
        if path.is_file():
            return path
    return None


@functools.cache
def output() -> bytes:
    """Run ruff and return its output, which must have the expected SHA-256.

    Raises:
        InstructLabError: the program is not installed, cannot be run, or has another version.
    """
    found = program()
    if found is None:
        raise InstructLabError(f"ruff {VERSION} is not installed beside this Python", where="data", do=INSTALL)
    try:
        done = subprocess.run([str(found), *ARGUMENTS], capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise InstructLabError(f"ruff cannot be run ({error})", where=str(found), do=INSTALL) from error
    if hashlib.sha256(done.stdout).hexdigest() != OUTPUT_SHA256:
        raise InstructLabError(
            f"The installed ruff prints other rules than version {VERSION}", where=str(found), do=INSTALL
        )
    return done.stdout
