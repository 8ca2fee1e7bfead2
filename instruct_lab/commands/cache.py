"""The command `cache`: list or clear preprocessed and tokenised data."""

from __future__ import annotations

import argparse
import json

from instruct_lab.commands.arguments import AddCommand
from instruct_lab.errors import InstructLabError
from instruct_lab.terminal import write_line


def cache(parsed: argparse.Namespace) -> int:
    """List or clear the results in the data cache.

    Raises:
        InstructLabError: the path of the cache is a file, or one of the typed keys matches no result.
    """
    from instruct_lab.cache import Store, select_entries
    from instruct_lab.config.compose import compose
    from instruct_lab.files import user_path

    folder = user_path(parsed.cache or compose([]).config.cache_path)
    if folder.exists() and not folder.is_dir():
        raise InstructLabError("The cache is a folder, and this is a file", where=str(folder), do="give a folder")
    store = Store(folder)
    entries = select_entries(store.entries(), parsed.keys, parsed.older_than)
    if parsed.action == "clear":
        freed = store.remove(entries)
        removed = {"removed": [entry.key for entry in entries], "bytes": freed}
        text = f"{len(entries)} results removed, {freed / 1e6:,.1f} MB freed"
        write_line(json.dumps(removed, indent=2) if parsed.json else text)
        return 0
    summaries = [entry.summary() for entry in entries]
    if parsed.json:
        write_line(json.dumps(summaries, indent=2))
        return 0
    for summary in summaries:
        rows = ", ".join(f"{split} {count:,}" for split, count in summary["rows"].items())
        size, days = f"{summary['bytes'] / 1e6:8,.1f} MB", f"{summary['unused_days']:5.1f} days"
        write_line(f"{summary['key'][:12]}  {size}  {days}  {summary['name']}: {rows}")
    write_line(f"{len(entries)} results, {sum(entry.bytes for entry in entries) / 1e6:,.1f} MB")
    return 0


def add_commands(add: AddCommand) -> None:
    """Add `cache` to the command line."""
    cache_parser = add(
        "cache",
        cache,
        "list or clear the data cache: preprocessed and tokenised data",
        "instruct-lab cache list",
        "instruct-lab cache clear --older-than 30",
        json=True,
    )
    cache_parser.add_argument("action", choices=("list", "clear"))
    cache_parser.add_argument("keys", nargs="*", metavar="KEY", help="only results whose keys begin with these texts")
    cache_parser.add_argument(
        "--older-than", type=float, metavar="DAYS", help="only results unused for more than DAYS days"
    )
    cache_parser.add_argument("--cache", metavar="DIR", help="default: cache_path of the config")
