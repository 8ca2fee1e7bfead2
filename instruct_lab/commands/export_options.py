"""The options of the command line that choose the format of an export."""

from __future__ import annotations

import argparse

from instruct_lab.errors import InstructLabError
from instruct_lab.export.formats import FORMATS, ONE_FILE, WEIGHT_TYPES, Format


def add_format_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the format."""
    form = "what is written: a transformers folder (default), an adapter, a GGUF file, or what Ollama or vLLM need"
    parser.add_argument("--format", choices=FORMATS, help=form)
    parser.add_argument("--keep-adapter", action="store_true", help="the same as --format adapter")
    kind = "type of the weights in a GGUF file: f32, f16 (default), bf16, or 8, 5 or 4 bits (q8_0 to q4_0)"
    parser.add_argument("--gguf-type", choices=WEIGHT_TYPES, metavar="TYPE", help=kind)


def chosen_format(parsed: argparse.Namespace) -> Format:
    """Return the format that the command line gives.

    Raises:
        InstructLabError: two formats are given, or an option would have no effect.
    """
    form: Format = parsed.format or ("adapter" if parsed.keep_adapter else "hf")
    if parsed.keep_adapter and form != "adapter":
        what = f"--keep-adapter is another name of --format adapter, and --format {form} is also given"
        raise InstructLabError(what, where="the command line", do="leave one of them out")
    if parsed.gguf_type is not None and form not in ONE_FILE:
        what = f"--gguf-type is the type of weights in a GGUF file, and --format {form} writes none"
        raise InstructLabError(what, where="the command line", do="add --format gguf or --format ollama")
    return form
