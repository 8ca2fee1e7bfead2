"""Commands that use a tuned model: generate, export."""

from __future__ import annotations

import argparse
from pathlib import Path

from instruct_lab.chat.decoding import with_decoding
from instruct_lab.commands import arguments
from instruct_lab.commands.arguments import AddCommand
from instruct_lab.commands.console import print_permissions
from instruct_lab.commands.decoding import add_decoding_options, decoding_of
from instruct_lab.commands.recorded import load_recorded
from instruct_lab.commands.results import Outcome, json_results
from instruct_lab.errors import InstructLabError
from instruct_lab.terminal import write_content, write_line


@json_results
def generate(parsed: argparse.Namespace) -> Outcome:
    """Print the tuned model's answer to each prompt."""
    if parsed.base and parsed.checkpoint:
        raise InstructLabError("--base is the untuned model, which has no checkpoint", do="leave one of them out")
    record, experiment, _ = load_recorded(parsed, uses_trackers=False)
    print_permissions(experiment)
    experiment = with_decoding(experiment, decoding_of(parsed))
    from instruct_lab.chat.answering import BASE, load_answerer, opening
    from instruct_lab.data import Message

    answerer = load_answerer(experiment, record, BASE if parsed.base else parsed.checkpoint)
    answers = answerer.answer([(*opening(parsed.system), Message("user", prompt)) for prompt in parsed.prompt])
    for text in () if parsed.json else answers:
        write_content(text)
    pairs = zip(parsed.prompt, answers, strict=True)
    return Outcome(lambda: [{"prompt": prompt, "answer": answer} for prompt, answer in pairs])


@json_results
def export(parsed: argparse.Namespace) -> Outcome:
    """Write the tuned model as a plain Hugging Face folder."""
    record, experiment, config = load_recorded(parsed, uses_trackers=False)
    print_permissions(experiment)
    from instruct_lab.export.export import export

    folder = export(
        experiment, config, record, Path(parsed.path), keep_adapter=parsed.keep_adapter, checkpoint=parsed.checkpoint
    )
    write_line(folder)
    return Outcome(lambda: {"run": str(record.path), "path": str(folder)})


def add_commands(add: AddCommand) -> None:
    """Add `generate` and `export` to the command line."""
    generate_parser = add(
        "generate",
        generate,
        "print the tuned model's answer",
        "instruct-lab generate latest 'Translate to French: Save all'",
        "instruct-lab generate latest --base --temperature 0.7 --seed 1 'Tell a story'",
        json=True,
        code=True,
    )
    arguments.add_run(generate_parser)
    generate_parser.add_argument("prompt", metavar="PROMPT", nargs="+")
    generate_parser.add_argument("--system", default=None, help="a system message before the prompt")
    generate_parser.add_argument("--base", action="store_true", help="answer with the untuned model")
    add_decoding_options(generate_parser)
    arguments.add_checkpoint(generate_parser)
    export_parser = add(
        "export",
        export,
        "write the tuned model as a plain Hugging Face folder",
        "instruct-lab export latest my_model",
        json=True,
        code=True,
    )
    arguments.add_run(export_parser)
    export_parser.add_argument("path", metavar="DIR")
    export_parser.add_argument(
        "--keep-adapter", action="store_true", help="write the adapter and its base model's origin"
    )
    arguments.add_checkpoint(export_parser)
