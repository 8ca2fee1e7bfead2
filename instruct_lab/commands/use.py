"""Commands that use a tuned model: generate, export."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_lab.commands import arguments
from instruct_lab.commands.arguments import AddCommand
from instruct_lab.commands.console import print_permissions
from instruct_lab.commands.recorded import load_recorded
from instruct_lab.errors import InstructLabError
from instruct_lab.terminal import write_content, write_line

if TYPE_CHECKING:
    from instruct_lab.experiment import Experiment


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that replace the run's decoding settings."""
    longest = "longest answer, in tokens (default: as in the run: generation.max_new_tokens)"
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help=longest)
    temperature = "sample; below 1 favours likely tokens, 0 always takes the most likely one (default: as in the run)"
    parser.add_argument("--temperature", type=float, metavar="T", help=temperature)
    top_p = "sample only from the smallest set of tokens with this probability (default: as in the run)"
    parser.add_argument("--top-p", type=float, metavar="P", help=top_p)
    parser.add_argument("--seed", type=int, metavar="N", help="random seed of a sampled answer (default: the run's)")


def generate(parsed: argparse.Namespace) -> int:
    """Print the tuned model's answer to each prompt."""
    record, experiment, _ = load_recorded(parsed, uses_trackers=False)
    print_permissions(experiment)
    from instruct_lab.export.generate import generate

    if parsed.base and parsed.checkpoint:
        raise InstructLabError("--base is the untuned model, which has no checkpoint", do="leave one of them out")
    weights = "base" if parsed.base else parsed.checkpoint
    experiment = _with_decoding(experiment, parsed)
    for text in generate(experiment, record, parsed.prompt, system=parsed.system, weights=weights):
        write_content(text)
    return 0


def _with_decoding(experiment: Experiment, parsed: argparse.Namespace) -> Experiment:
    """Replace the run's decoding settings and seed by those that the command line gives.

    Raises:
        InstructLabError: a value is refused, or would have no effect.
    """
    import pydantic

    from instruct_lab.config.field_problems import component_problems
    from instruct_lab.generation import Generation
    from instruct_lab.generation.generation import SAMPLING_FIELDS

    if parsed.temperature == 0 and parsed.top_p is not None:
        raise _refused("top_p", parsed.top_p, "with --temperature 0 no token is sampled, so it has no effect")
    given = {name: getattr(parsed, name) for name in ("max_new_tokens", "temperature", "top_p")}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if parsed.temperature == 0:
        changes |= {"do_sample": False, "num_samples": 1, **dict.fromkeys(SAMPLING_FIELDS)}
    elif "temperature" in changes or "top_p" in changes:
        changes["do_sample"] = True
    try:
        generation = dataclasses.replace(experiment.generation, **changes)
    except pydantic.ValidationError as error:
        problem = next(component_problems(error, Generation, changes, set(), ""))
        raise _refused(problem.key, problem.value, problem.reason) from error
    seed = experiment.seed
    if parsed.seed is not None:
        if not 0 <= parsed.seed < 2**32:
            raise _refused("seed", parsed.seed, f"expected a whole number from 0 to {2**32 - 1}")
        if not generation.do_sample:
            reason = "no token is sampled, so it has no effect without --temperature or --top-p"
            raise _refused("seed", parsed.seed, reason)
        seed = parsed.seed
    return dataclasses.replace(experiment, generation=generation, seed=seed)


def _refused(name: str, value: Any, reason: str) -> InstructLabError:
    """Return the error for an option's refused value; `name` is the option's attribute in argparse's namespace."""
    option = f"--{name.replace('_', '-')}"
    return InstructLabError(
        f"{option} {value}: {reason}",
        where="the command line",
        do=f"give {option} another value, or leave it out to answer as the run did",
    )


def export(parsed: argparse.Namespace) -> int:
    """Write the tuned model as a plain Hugging Face folder."""
    record, experiment, config = load_recorded(parsed, uses_trackers=False)
    print_permissions(experiment)
    from instruct_lab.export.export import export

    folder = export(
        experiment, config, record, Path(parsed.path), keep_adapter=parsed.keep_adapter, checkpoint=parsed.checkpoint
    )
    write_line(folder)
    return 0


def add_commands(add: AddCommand) -> None:
    """Add `generate` and `export` to the command line."""
    generate_parser = add(
        "generate",
        generate,
        "print the tuned model's answer",
        "instruct-lab generate latest 'Translate to French: Save all'",
        "instruct-lab generate latest --base --temperature 0.7 --seed 1 'Tell a story'",
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
        code=True,
    )
    arguments.add_run(export_parser)
    export_parser.add_argument("path", metavar="DIR")
    export_parser.add_argument(
        "--keep-adapter", action="store_true", help="write the adapter and its base model's origin"
    )
    arguments.add_checkpoint(export_parser)
