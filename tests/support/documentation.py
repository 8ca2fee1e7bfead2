"""The commands and files in the pages of the documentation."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
FILE = re.compile(r"# ([\w/]+\.(?:py|yaml))\n")


def blocks(page, *languages):
    """Return the blocks of code of a page in these languages."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for language, text in found if language in languages]


def commands(page):
    """Return the arguments of every `instruct-lab` command in the blocks of shell commands."""
    found = []
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r"&&|\|", shlex.join(shlex.split(line, comments=True)).replace("'&&'", "&&")):
                program, *arguments = shlex.split(command) or [""]
                if program == "instruct-lab":
                    found.append(arguments)
    return found


def named_files(page):
    """Return the content of each block that begins with a comment with the name of a file, by that name."""
    found = {}
    for block in blocks(page, "python", "yaml"):
        if (name := FILE.match(block)) is not None:
            found[name[1]] = block[name.end() :]
    return found
