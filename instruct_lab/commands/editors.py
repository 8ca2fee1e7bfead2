"""The commands for editors and shells: `schema` and `completion`."""

from __future__ import annotations

import argparse
import json

from instruct_lab.commands.arguments import AddCommand
from instruct_lab.commands.configs import check_name
from instruct_lab.files import user_path
from instruct_lab.terminal import write_line


def schema(parsed: argparse.Namespace) -> int:
    """Print the JSON Schema of the whole config, of one group or of one option; with `--write`, write all schemas."""
    from instruct_lab.config.options import GROUPS, options
    from instruct_lab.editors import schema as schemas

    schemas.import_lab_classes()
    if parsed.write is not None:
        for file in schemas.write_schemas(user_path(parsed.write)):
            write_line(file)
        return 0
    if parsed.group is None:
        found = schemas.config_schema()
    else:
        check_name("group", parsed.group, GROUPS)
        if parsed.option is None:
            found = schemas.group_schema(parsed.group)
        else:
            of_group = {option.name: option for option in options(parsed.group)}
            check_name("option", parsed.option, of_group)
            found = schemas.option_schema(of_group[parsed.option])
    write_line(json.dumps(found, indent=2))
    return 0


def completion(parsed: argparse.Namespace) -> int:
    """Print the script by which a shell completes commands.

    If the argument is `words` instead of a shell, print the words that can complete a given command line.
    """
    from instruct_lab.editors.completion import SCRIPTS, complete

    if parsed.shell in SCRIPTS:
        write_line(SCRIPTS[parsed.shell].rstrip())
        return 0
    from instruct_lab.editors.listing import read_listing

    for word in complete(parsed.line, parsed.parsers, read_listing):
        write_line(word)
    return 0


def add_commands(add: AddCommand) -> None:
    """Add `schema` and `completion` to the command line."""
    schema_parser = add(
        "schema",
        schema,
        "print the JSON Schema by which an editor checks and completes option files",
        "instruct-lab schema",
        "instruct-lab schema tuning lora",
        "instruct-lab schema --write .schemas",
        code=True,
    )
    schema_parser.add_argument("group", nargs="?", metavar="GROUP", help="its option files (default: the whole config)")
    schema_parser.add_argument("option", nargs="?", metavar="OPTION", help="one option's file")
    schema_parser.add_argument("--write", metavar="DIR", help="write the schemas of all groups to this folder")
    completion_parser = add(
        "completion",
        completion,
        "print the script that completes commands, groups, options and keys in a shell",
        "instruct-lab completion bash",
        "instruct-lab completion zsh",
        "instruct-lab completion fish",
    )
    shells = "the shell; `words` prints what completes LINE, which the scripts call"
    completion_parser.add_argument("shell", choices=("bash", "zsh", "fish", "words"), help=shells)
    completion_parser.add_argument(
        "line", nargs="?", default="", metavar="LINE", help="a command line up to the cursor"
    )
