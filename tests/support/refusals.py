"""Run a command on bad input, and check how it ends."""

import dataclasses
import hashlib
import re
from pathlib import Path

from instruct_lab import cli

MAX_CHARACTERS = 120_000
BARE = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt)\b(?::|$)", re.MULTILINE)
"""Matches a line that is an exception's class and message, as Python and `cli.main` print what nobody has explained."""
WRITTEN = ("runs", "cache")
"""Folders that a command may write to."""


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


class Refusals:
    """Runs commands in a folder, and checks that each ends clearly, and without touching the folder's files.

    Args:
        folder: the working directory; its subfolders `runs` and `cache` are the command's own.
        capsys: the fixture of this name.
    """

    def __init__(self, folder, capsys):
        self.folder, self.capsys = folder, capsys

    def run(self, *arguments, codes=(2,), names=()):
        """Run a command in this process; `names` are texts of which standard error must contain one."""
        before = contents(self.folder)
        self.capsys.readouterr()
        try:
            code = cli.main(list(arguments))
        except SystemExit as exit_:  # raised by the parser of the command line
            code = exit_.code
        printed = self.capsys.readouterr()
        ending = Ending(code, printed.out, printed.err)
        check(ending, codes, names)
        assert contents(self.folder) == before
        return ending


def check(ending, codes, names=()):
    """Check an ending's exit code, that it is explained, and that standard error names the culprit."""
    assert "Traceback (most recent call last)" not in ending.err, ending.err
    assert not BARE.search(ending.err), ending.err
    assert "add --debug" not in ending.err, ending.err
    assert ending.code in codes, f"exit code {ending.code}\n{ending.err}\n{ending.out[-1000:]}"
    assert not names or any(name in ending.err for name in names), ending.err
    assert len(ending.err) < MAX_CHARACTERS


def contents(folder):
    """The kind and SHA-256 of everything in a folder that a command must leave as it is."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        inner = path.relative_to(folder)
        if inner.parts[0] not in WRITTEN:
            whole = path.is_file() and not path.is_symlink()
            found[inner] = hashlib.sha256(path.read_bytes()).hexdigest() if whole else path.lstat().st_mode
    return found
