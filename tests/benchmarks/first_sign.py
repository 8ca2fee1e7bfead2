"""Measure when a command gives its first sign, and how long it is silent afterwards, in a terminal and in a pipe.

    python tests/benchmarks/first_sign.py instruct-lab train experiments=dry_run

Every chunk of output is given a time when it arrives. Standard output and standard error are one terminal (a
pseudo-terminal of `--columns`), or one pipe. Prints the time to the first byte, the longest silences with the text
before them, and the total time. `--show` also prints every chunk of the terminal's output with its time.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence

SHOWN_SILENCES = 3


def record(command: Sequence[str], columns: int, is_terminal: bool) -> tuple[list[tuple[float, str]], float, int]:
    """Run a command; return its chunks of output with the seconds since the start, its total time and exit code."""
    read, write = os.openpty() if is_terminal else os.pipe()
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    if is_terminal:
        fcntl.ioctl(write, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    started = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=write, stderr=write, env=environment) as process:
        os.close(write)
        chunks = []
        while content := _read(read):
            chunks.append((time.monotonic() - started, content.decode("utf-8", "replace")))
    os.close(read)
    return chunks, time.monotonic() - started, process.returncode


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # the end of a pseudo-terminal
        return b""


def silences(chunks: Sequence[tuple[float, str]], total: float) -> list[tuple[float, float, str]]:
    """Return the silences, longest first: the seconds, when each began, and the text before it."""
    ends = [*(seconds for seconds, _ in chunks[1:]), total]
    found = [(end - start, start, text) for (start, text), end in zip(chunks, ends, strict=True)]
    return sorted(found, reverse=True)


def plain(text: str) -> str:
    """Return the last line of a text, without control sequences."""
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").strip().splitlines()
    return lines[-1].strip()[:110] if lines else ""


def main(write: Callable[[str], None] = print) -> None:
    """Run the command in a terminal and in a pipe, and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, default=120, help="width of the terminal")
    parser.add_argument("--only", choices=("terminal", "pipe"))
    parser.add_argument("--show", action="store_true", help="print every chunk with its time")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="default: instruct-lab train experiments=dry_run")
    given = parser.parse_args()
    command = given.command or ["instruct-lab", "train", "experiments=dry_run"]
    for kind in ("terminal", "pipe"):
        if given.only not in (None, kind):
            continue
        chunks, total, code = record(command, given.columns, is_terminal=kind == "terminal")
        first = f"{chunks[0][0]:.2f} s" if chunks else "never"
        write(f"{kind}: first byte after {first}, {len(chunks)} chunks, {total:.1f} s, exit code {code}")
        for seconds, start, text in silences(chunks, total)[:SHOWN_SILENCES]:
            write(f"  silent for {seconds:.2f} s after {start:.1f} s: {plain(text)}")
        if given.show:
            for seconds, text in chunks:
                write(f"  {seconds:8.2f} {plain(text)}")


if __name__ == "__main__":
    main()
