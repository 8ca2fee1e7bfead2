"""Commands that use a tuned model: generate, export."""

from __future__ import annotations

import argparse
from pathlib import Path

from instruct_lab.commands.recorded import load_recorded
from instruct_lab.errors import InstructLabError


def generate(parsed: argparse.Namespace) -> int:
    """Print the tuned model's answer to each prompt."""
    record, experiment, _ = load_recorded(parsed)
    from instruct_lab.export.generate import generate

    if parsed.base and parsed.checkpoint:
        raise InstructLabError("--base is the untuned model, which has no checkpoint", do="leave one of them out")
    weights = "base" if parsed.base else parsed.checkpoint
    for text in generate(experiment, record, parsed.prompt, system=parsed.system, weights=weights):
        print(text)
    return 0


def export(parsed: argparse.Namespace) -> int:
    """Write the tuned model as a plain Hugging Face folder."""
    record, experiment, config = load_recorded(parsed)
    from instruct_lab.export.export import export

    folder = export(
        experiment, config, record, Path(parsed.path), keep_adapter=parsed.keep_adapter, checkpoint=parsed.checkpoint
    )
    print(folder)
    return 0
