"""Commands that use a tuned model: generate, export."""

from __future__ import annotations

import argparse
from pathlib import Path

from instruct_lab.chat.decoding import with_decoding
from instruct_lab.commands import arguments
from instruct_lab.commands.arguments import AddCommand
from instruct_lab.commands.console import print_permissions
from instruct_lab.commands.decoding import add_decoding_options, decoding_of
from instruct_lab.commands.export_options import add_format_options, load_export
from instruct_lab.commands.recorded import load_recorded
from instruct_lab.commands.results import Outcome, json_results
from instruct_lab.errors import InstructLabError, started
from instruct_lab.files import to_plain
from instruct_lab.terminal import write_content, write_line


@json_results
def generate(parsed: argparse.Namespace) -> Outcome:
    """Print the tuned model's answer to each prompt.

    Raises:
        InstructLabError: command-line options contradict each other, or the model cannot be loaded or cannot answer.
    """
    if parsed.base and parsed.checkpoint:
        raise InstructLabError("--base is the untuned model, which has no checkpoint", do="leave one of them out")
    record, experiment, _ = load_recorded(parsed, uses_trackers=False, uses_data=False)
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
    """Write the tuned model to a folder, in one of several formats.

    Raises:
        InstructLabError: a command-line option would have no effect or has a wrong value, or the model cannot be
            exported.
    """
    if parsed.max_examples is not None and not parsed.measure:
        what = "--max-examples limits what --measure answers, and nothing is measured"
        raise InstructLabError(what, where="the command line", do="add --measure")
    if parsed.max_examples is not None and parsed.max_examples < 1:
        what = f"--max-examples {parsed.max_examples}: expected a number from 1 up"
        raise InstructLabError(what, where="the command line", do="give another number, or leave it out")
    job = load_export(parsed, Path(parsed.path))
    from instruct_lab.export.export import export
    from instruct_lab.export.next_steps import next_steps

    job = export(job)
    write_line(job.path)
    loss = None
    if parsed.measure:
        from instruct_lab.export.quality import measure_loss

        with started():
            loss = measure_loss(job, parsed.max_examples)
        write_line(loss.to_markdown())
    steps = next_steps(job)
    for step in steps:
        write_line(step, error=True)
    result = {"run": str(job.record.path), "path": str(job.path), "format": job.form, "loss": loss, "next": steps}
    return Outcome(lambda: to_plain(result))


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
        "write the tuned model to a folder, for transformers, PEFT, llama.cpp, Ollama or vLLM",
        "instruct-lab export latest my_model",
        "instruct-lab export latest my_model_gguf --format gguf --gguf-type q8_0 --measure",
        json=True,
        code=True,
    )
    arguments.add_run(export_parser)
    export_parser.add_argument("path", metavar="DIR")
    add_format_options(export_parser)
    measured = "load what was written, answer held-out examples, and print the paired loss of quality"
    export_parser.add_argument("--measure", action="store_true", help=measured)
    limit = "number of held-out examples for --measure (default: as in the run: evaluation.max_examples)"
    export_parser.add_argument("--max-examples", type=int, metavar="N", help=limit)
    arguments.add_checkpoint(export_parser)
