"""Options shared by the commands that export a run, and a function that loads the run named on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from instruct_lab.commands.console import print_permissions
from instruct_lab.commands.recorded import load_recorded
from instruct_lab.errors import InstructLabError
from instruct_lab.export.formats import FORMATS, ONE_FILE, WEIGHT_TYPES, Format

if TYPE_CHECKING:
    from instruct_lab.export.export import Export


def add_format_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the format of the exported model."""
    form = "what is written: a transformers folder (default), an adapter, a GGUF file, or what Ollama or vLLM need"
    parser.add_argument("--format", choices=FORMATS, help=form)
    parser.add_argument("--keep-adapter", action="store_true", help="the same as --format adapter")
    kind = "type of the weights in a GGUF file: f32, f16 (default), bf16, or 8, 5 or 4 bits (q8_0 to q4_0)"
    parser.add_argument("--gguf-type", choices=WEIGHT_TYPES, metavar="TYPE", help=kind)


def load_export(parsed: argparse.Namespace, path: Path) -> Export:
    """Load the run that the command line names, and return the settings for its export to the folder `path`.

    Raises:
        InstructLabError: the options that choose the format contradict each other, or the run cannot be loaded.
    """
    form = _chosen_format(parsed)
    record, experiment, config = load_recorded(parsed, uses_trackers=False, uses_data=getattr(parsed, "measure", False))
    print_permissions(experiment)
    from instruct_lab.export.export import Export

    return Export(
        experiment=experiment,
        config=config,
        record=record,
        path=path,
        form=form,
        weight_type=parsed.gguf_type or "f16",
        checkpoint=parsed.checkpoint,
    )


def _chosen_format(parsed: argparse.Namespace) -> Format:
    """Return the export format that the command line gives.

    Raises:
        InstructLabError: two formats are given, or `--gguf-type` is given for a format that writes no GGUF file.
    """
    form: Format = parsed.format or ("adapter" if parsed.keep_adapter else "hf")
    if parsed.keep_adapter and form != "adapter":
        what = f"--keep-adapter is another name of --format adapter, and --format {form} is also given"
        raise InstructLabError(what, where="the command line", do="leave one of them out")
    if parsed.gguf_type is not None and form not in ONE_FILE:
        what = f"--gguf-type is the type of weights in a GGUF file, and --format {form} writes none"
        raise InstructLabError(what, where="the command line", do="add --format gguf or --format ollama")
    return form
