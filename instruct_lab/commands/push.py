"""The command `push`: upload a tuned model to a model hub."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from instruct_lab.commands import arguments
from instruct_lab.commands.arguments import AddCommand
from instruct_lab.commands.export_options import add_format_options, load_export
from instruct_lab.commands.results import Outcome, json_results
from instruct_lab.terminal import write_line


@json_results
def push(parsed: argparse.Namespace) -> Outcome:
    """Export a run's model and upload it with a model card and results; with `--dry-run`, only list the files."""
    from instruct_lab.export.push import find_target

    target = find_target(parsed.repository, parsed.public, parsed.dry_run)
    job = load_export(parsed, Path("export"))
    from instruct_lab.export.push import upload, write_for_push

    write_line("writing the model", error=True)
    job, files = write_for_push(job)
    result = {
        "run": str(job.record.path),
        "repository": target.repository,
        "public": target.is_public,
        "files": dict(files),
    }
    try:
        for name, size in files:
            write_line(f"{size:>15,} bytes  {name}")
        if parsed.dry_run:
            visibility = "public" if target.is_public else "private"
            write_line(f"nothing was uploaded; the repository {target.repository} would be {visibility}", error=True)
            return Outcome(lambda: {**result, "url": None})
        write_line(f"uploading {sum(size for _, size in files):,} bytes to {target.repository}", error=True)
        url = upload(job.path, target)
        write_line(url)
    finally:
        shutil.rmtree(job.path.parent, ignore_errors=True)
    return Outcome(lambda: {**result, "url": url})


def add_commands(add: AddCommand) -> None:
    """Add `push` to the command line."""
    parser = add(
        "push",
        push,
        "upload a tuned model with its card and results to the Hugging Face Hub, private unless --public is given",
        "instruct-lab push latest my-team/my-model --dry-run",
        "instruct-lab push RUN_ID my-team/my-model-gguf --format gguf --gguf-type q8_0 --public",
        json=True,
        code=True,
    )
    arguments.add_run(parser)
    parser.add_argument("repository", metavar="ORG/NAME", help="the repository, which is created if it does not exist")
    parser.add_argument("--public", action="store_true", help="let everyone read the repository")
    parser.add_argument("--dry-run", action="store_true", help="write and list the files, and upload nothing")
    add_format_options(parser)
    arguments.add_checkpoint(parser)
