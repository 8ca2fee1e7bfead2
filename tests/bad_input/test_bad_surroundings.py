"""Odd folders, names and encodings around a command end in one clear paragraph."""

import os
import shutil
import subprocess
import sys

import pytest
from support.refusals import Ending, check

LONG = "n" * 300
NOWHERE = "~nosuch/elsewhere"
COMMANDS = {
    "runs of a user who is not there": (["runs", "--runs", NOWHERE], "nosuch"),
    "runs with a long name": (["runs", "--runs", LONG], "name too long"),
    "runs with a NUL": (["runs", "--runs", "a\0b"], "null"),
    "a comparison of runs of nobody": (["compare", "a", "--runs", NOWHERE], "nosuch"),
    "a comparison with a long name": (["compare", LONG], "nnnn"),
    "a comparison with a NUL": (["compare", "a\0b"], "null"),
    "a run with a long name": (["resume", LONG], "nnnn"),
    "a run with a NUL": (["generate", "a\0b", "text"], "null"),
    "a run with an empty name": (["resume", ""], "runs"),
    "an export with a long name": (["export", LONG, "exported"], "nnnn"),
    "a reproduction of nobody's run": (["reproduce", NOWHERE], "nosuch"),
    "a watched sweep with a long name": (["watch", LONG], "nnnn"),
    "a watched sweep of nobody": (["watch", "--runs", NOWHERE], "nosuch"),
    "a report of nobody's runs": (["report", "interface_fr", "--runs", NOWHERE], "nosuch"),
    "a report of an unknown study": (["report", "nowhere"], "nowhere"),
    "a cache of nobody": (["cache", "list", "--cache", NOWHERE], "nosuch"),
    "a cache with a long name": (["cache", "clear", "--cache", LONG], "name too long"),
    "a cache that is a file": (["cache", "list", "--cache", "rows.jsonl"], "rows.jsonl"),
    "a lab with a long name": (["init", LONG], "nnnn"),
    "a lab of nobody": (["init", NOWHERE], "nosuch"),
    "a lab below a file": (["init", "rows.jsonl/lab"], "rows.jsonl"),
    "a lab that is a file": (["init", "rows.jsonl"], "rows.jsonl"),
    "an unknown group": (["list", "nowhere"], "nowhere"),
    "an unknown option": (["list", "data", "nowhere"], "nowhere"),
    "an unknown command": (["nowhere"], "nowhere"),
    "no command": ([], "COMMAND"),
    "a number that is none": (["inspect", "--num", "x"], "--num"),
}


@pytest.mark.parametrize(("arguments", "name"), COMMANDS.values(), ids=COMMANDS)
def test_odd_arguments_are_refused(refused, arguments, name):
    refused(*arguments, names=[name])


PAGES = ["conf", f"{LONG}.html", "rows.jsonl/page.html"]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page[:20])
def test_a_page_that_cannot_be_written_is_refused(refused, page):
    arguments = ["data=mine", "model=tiny_random", "tracker=none", "--num", "1"]
    refused("inspect", "--html", page, *arguments, codes=(1, 2), names=[page])


@pytest.mark.parametrize("command", [["list"], ["check"], ["runs"], ["cache", "list"], ["init", "mine"]], ids="-".join)
def test_a_working_directory_that_was_deleted_is_named(refused, lab, command, monkeypatch):
    gone = lab / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    shutil.rmtree(gone)
    try:
        refused(*command, names=["working directory"])
    finally:
        os.chdir(lab)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "command"),
    [
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, ["list", "data"]),
        ({"PYTHONIOENCODING": "latin-1"}, ["show", "data=mine", "model=tiny_random", "name='ž你\U0001f600'"]),
        ({"PYTHONIOENCODING": "ascii:strict"}, ["inspect", "data=mine", "model=tiny_random", "tracker=none"]),
    ],
    ids=["C", "latin-1", "ascii"],
)
def test_output_in_a_narrow_encoding_is_complete(lab, settings, command):
    done = subprocess.run(
        [sys.executable, "-m", "instruct_lab.cli", *command],
        capture_output=True,
        env={**os.environ, **settings},
        check=False,
    )
    ending = Ending(done.returncode, done.stdout.decode("ascii"), done.stderr.decode("ascii"))
    check(ending, codes=(0,))
    assert ending.out
