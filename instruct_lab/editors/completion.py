"""Completion of a command line in bash, zsh and fish."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

PATH = "path:"
"""The prefix of a value that names a file or folder, as in `data=path:rows.jsonl`."""
SCRIPTS = {
    "bash": r"""# instruct-lab: completion for bash 4 and newer
_instruct_lab() {
    local line="${COMP_LINE:0:COMP_POINT}"
    local word="${line##*[[:space:]]}"
    local begin="${word%"${word##*[=:]}"}"  # bash completes the part of a word that follows = or :
    local -a found
    mapfile -t found < <("${COMP_WORDS[0]}" completion words "$line" 2>/dev/null)
    COMPREPLY=("${found[@]#"$begin"}")
    if [[ ${#found[@]} -eq 1 && ${found[0]} == *[=.,/:] ]]; then compopt -o nospace; fi
}
complete -o default -F _instruct_lab instruct-lab
""",
    "zsh": r"""#compdef instruct-lab
# instruct-lab: completion for zsh
_instruct_lab() {
    local -a found
    found=("${(@f)$(${words[1]} completion words "$LBUFFER" 2>/dev/null)}")
    if [[ -z ${found[1]} ]]; then _files; return; fi
    compadd -Q -S '' -- ${(M)found:#*[=.,/:]}
    compadd -Q -- ${found:#*[=.,/:]}
}
compdef _instruct_lab instruct-lab
""",
    "fish": r"""# instruct-lab: completion for fish
complete -c instruct-lab -a '(instruct-lab completion words (commandline -cp | string collect) 2>/dev/null)'
""",
}
"""The completion script for each shell; it calls `instruct-lab completion words LINE` for the possible words."""


def complete(
    line: str, commands: Mapping[str, argparse.ArgumentParser], listing: Callable[[], dict[str, Any]]
) -> list[str]:
    """Return the words that can follow at the end of a command line, or that complete its last word.

    Args:
        line: the command line up to the cursor, with the program's name.
        commands: the parser of each command.
        listing: function that returns the groups, options and keys, such as `listing.read_listing`.
    """
    typed, word = _split(line)
    if not typed:
        return _beginning(word, commands)
    command = commands.get(typed[0])
    if command is None:
        return []
    options = {text: action for action in command._actions for text in action.option_strings}
    with_value = {text: action for text, action in options.items() if action.nargs != 0}
    if (before := with_value.get(typed[-1])) is not None:
        return _beginning(word, [str(choice) for choice in before.choices or ()])
    if word.startswith("-"):
        return _beginning(word, options)
    pairs = itertools.pairwise(typed)
    arguments = [text for before, text in pairs if not text.startswith("-") and before not in with_value]
    positional = [action for action in command._actions if not action.option_strings]
    if not positional:
        return []
    action = positional[min(len(arguments), len(positional) - 1)]
    if action.choices is not None:
        return _beginning(word, map(str, action.choices))
    if action.metavar in ("RUN", "RUN2", "SWEEP", "TARGET"):
        return _beginning(word, ["latest", *_run_ids()])
    if action.metavar == "GROUP":
        return _beginning(word, listing()["groups"])
    if action.metavar == "OPTION":
        return _beginning(word, listing()["groups"].get(arguments[0] if arguments else "", ()))
    return complete_override(word, arguments, listing()) if action.metavar == "OVERRIDE" else []


def complete_override(word: str, typed: Iterable[str], listing: dict[str, Any]) -> list[str]:
    """Return the completions of a partly typed override: groups, keys, or the values of a key.

    Keys are completed one name at a time: `tuning.` is followed by the names of the fields of the chosen tuning method.

    Args:
        word: the beginning of an override.
        typed: the overrides before it on the command line; the options that they choose determine the possible keys.
        listing: the groups, options and keys, as `read_listing` returns them.
    """
    sign = word[: len(word) - len(word.lstrip("+~"))]
    key, is_value, value = word.removeprefix(sign).partition("=")
    groups = listing["groups"]
    keys = _keys(typed, listing)
    if is_value and value.startswith(PATH):
        return [f"{sign}{key}={PATH}{one}" for one in _paths(value.removeprefix(PATH))]
    if is_value:
        begin = value[: max(value.rfind(","), value.rfind("[")) + 1]
        known = groups.get(key, keys.get(key, ()))
        return [f"{sign}{key}={begin}{one}" for one in known if one.startswith(value[len(begin) :])]
    found = [f"{group}=" for group in groups]
    for one in keys:
        rest = one[len(key) :] if one.startswith(key) else ""
        step, is_inner, _ = rest.partition(".")
        if rest or one == key:
            found.append(f"{key}{step}." if is_inner else f"{one}=")
    return _beginning(word, dict.fromkeys(sign + one for one in found))


def _keys(typed: Iterable[str], listing: dict[str, Any]) -> dict[str, list[str]]:
    """Return all keys of the chosen options, with the possible values of each key.

    Options are chosen by the typed overrides or else by the default config.
    """
    chosen = dict(listing["chosen"])
    for override in typed:
        group, _, option = override.lstrip("+").partition("=")
        if group in listing["groups"]:
            chosen[group] = option
    keys = dict(listing["root"])
    for group, names in chosen.items():
        for name in names.strip("[]").split(","):
            keys |= listing["keys"].get(group, {}).get(name, {})
    return keys


def _split(line: str) -> tuple[list[str], str]:
    """Split a command line into the words after the program's name, and the word at its end, which may be empty."""
    try:
        words = shlex.split(line)
    except ValueError:  # an open quotation mark
        words = line.split()
    ends = not line or line[-1:].isspace()
    return (words[1:], "") if ends else (words[1:-1], words[-1] if len(words) > 1 else "")


def _paths(begin: str) -> list[str]:
    """Return the files and folders whose paths begin with a text; a folder ends with a slash."""
    folder, _, name = begin.rpartition("/")
    root = Path(f"{folder}/" if folder or begin.startswith("/") else ".").expanduser()
    with contextlib.suppress(OSError):
        found = sorted(path for path in root.iterdir() if path.name.startswith(name))
        visible = [path for path in found if name.startswith(".") or not path.name.startswith(".")]
        above = f"{folder}/" if "/" in begin else ""
        return [f"{above}{path.name}{'/' if path.is_dir() else ''}" for path in visible]
    return []


def _run_ids() -> list[str]:
    """Return the ids of the runs and sweeps in the folder `runs`, newest first."""
    return sorted((path.name for path in Path("runs").glob("*/*") if path.is_dir()), reverse=True)


def _beginning(word: str, known: Iterable[str]) -> list[str]:
    return [one for one in known if one.startswith(word)]
