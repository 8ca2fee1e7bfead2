"""The command `cache`: list or clear preprocessed and tokenised data."""

from __future__ import annotations

import argparse
import json

from instruct_lab.errors import InstructLabError
from instruct_lab.terminal import write_line


def cache(parsed: argparse.Namespace) -> int:
    """List or clear the results in the data cache."""
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
