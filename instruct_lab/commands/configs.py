"""The commands for configs: check, show, list, init, allow."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from instruct_lab.commands import arguments
from instruct_lab.commands.arguments import AddCommand
from instruct_lab.commands.console import print_references, print_warnings
from instruct_lab.commands.results import Outcome, json_results
from instruct_lab.errors import ConfigError, InstructLabError, Problem
from instruct_lab.files import user_path
from instruct_lab.progress import stage
from instruct_lab.terminal import output_width, wide_console, write_hanging, write_line

if TYPE_CHECKING:
    from instruct_lab.config.options import Option


def check(parsed: argparse.Namespace) -> int:
    """Report all problems of one config or sweep or, with `--all`, of every option of every group.

    With `--matrix`, list which combinations of model family, objective, tuning method and batching can train.
    """
    if parsed.matrix:
        return _check_matrix(parsed)
    if parsed.all:
        return _check_all(parsed)
    if parsed.multirun:
        return _check_sweep(parsed)
    with stage("instruct-lab check: composing the config"):
        from omegaconf import OmegaConf

        from instruct_lab.experiment import check
        from instruct_lab.experiment.overview import overview_table, settings_overview
        from instruct_lab.planning.remembered import recall
        from instruct_lab.sweep.plan import describes_sweep

        checked = check.check(parsed.overrides)
    if describes_sweep(checked):
        return _check_sweep(parsed)  # a study in which something varies
    if parsed.json:
        _print_problems(checked.problems, checked.warnings)
        return 2 if checked.problems else 0
    print_warnings(checked.warnings)
    checked.or_refuse()
    choices = ", ".join(f"{group}={_format_choice(option)}" for group, option in checked.composition.choices.items())
    write_hanging(f"ok: {choices}", 4)
    print_references(checked.composition.choices)
    for key, origin in checked.composition.derived.items():
        value = OmegaConf.select(checked.composition.config, key)
        write_hanging(f"    {key}{'' if value is None else f' = {value}'} follows from {origin}", 8)
    overview = settings_overview(checked.experiment, checked.composition.derived, parsed.overrides)
    overview.append(("known later", "examples, steps, tokens and parameters, from the data and the weights"))
    known = recall(checked.resolved, user_path(checked.experiment.cache_path))
    overview.append(("plan", known or "memory, time and cost: `instruct-lab plan` with the same overrides"))
    wide_console().print(overview_table(overview, indent=4))
    return 0


def _print_problems(errors: list[Problem], warnings: list[Problem], **more: Any) -> None:
    lists = {"errors": errors, "warnings": warnings}
    found = {kind: [problem.to_json() for problem in problems] for kind, problems in lists.items()}
    write_line(json.dumps({**more, **found}, indent=2, default=str))


def _format_choice(option: str | list[str]) -> str:
    return option if isinstance(option, str) else f"[{','.join(option)}]"


def _check_all(parsed: argparse.Namespace) -> int:
    from instruct_lab.experiment.check import check_all

    results = check_all()
    failed = [result for result in results if result.problems]
    if parsed.json:
        _print_problems([problem for result in failed for problem in result.problems], [], checked=len(results))
        return 2 if failed else 0
    for result in results:
        required = f"  (you set: {', '.join(result.required)})" if result.required else ""
        write_line(f"{'wrong' if result.problems else 'ok':<6}{result.group}={result.option}{required}")
        for problem in result.problems:
            write_line(f"        {problem}")
    write_line(f"{len(results)} options checked, {len(failed)} wrong")
    return 2 if failed else 0


def _check_sweep(parsed: argparse.Namespace) -> int:
    try:
        with stage("instruct-lab check: planning the sweep"):
            from instruct_lab.sweep.plan import plan

            planned = plan(parsed.overrides)
    except ConfigError as error:
        if not parsed.json:
            raise
        _print_problems(error.problems, [])
        return 2
    if parsed.json:
        _print_problems([], planned.warnings, precision=planned.describe_precision())
        return 0
    print_warnings(planned.warnings)
    write_line(f"ok: {planned.describe()}")
    for line in planned.describe_precision():
        write_hanging(f"    {line}", 4)
    print_references(*(checked.composition.choices for checked in planned.checked.values()))
    return 0


def _check_matrix(parsed: argparse.Namespace) -> int:
    from instruct_lab.experiment.matrix import matrix

    combinations = list(matrix())
    if parsed.json:
        write_line(json.dumps([combination.to_json() for combination in combinations], indent=2))
        return 0
    for one in combinations:
        write_line(f"{one.family:<16} {one.objective:<20} {one.tuning:<22} {one.batching:<8} {one.reason or 'trains'}")
    num_trains = sum(combination.trains for combination in combinations)
    write_line(f"{len(combinations)} combinations: {num_trains} train, {len(combinations) - num_trains} are refused")
    return 0


def show(parsed: argparse.Namespace) -> int:
    """Print the composed config with the file or override that set each value.

    With `--all`, also print the fields that no file or override sets.
    """
    from instruct_lab.config.show import render, to_json
    from instruct_lab.experiment.check import check

    checked = check(parsed.overrides)
    if not checked.composition.config:
        checked.or_refuse()
    composition = checked.composition
    as_json = json.dumps(to_json(composition, parsed.all), indent=2) if parsed.json else None
    write_line(as_json or render(composition, parsed.all))
    if checked.problems:
        write_line(ConfigError(checked.problems), error=True)
    return 2 if checked.problems else 0


def list_(parsed: argparse.Namespace) -> int:
    """List the options of every group or of one group, or describe one option."""
    from instruct_lab.config.options import GROUPS, options

    if parsed.group is not None:
        group, _, option = parsed.group.replace("=", "/").rpartition("/")
        if parsed.group not in GROUPS and parsed.option is None and group in GROUPS:  # typed as GROUP=OPTION
            parsed.group, parsed.option = group, option
        check_name("group", parsed.group, GROUPS)
    if parsed.option is not None:
        return _describe(parsed)
    found = {group: options(group) for group in (GROUPS if parsed.group is None else (parsed.group,))}
    if parsed.json:
        rows = {
            group: [{"option": o.name, "comment": o.comment, "lab": o.from_lab} for o in of_group]
            for group, of_group in found.items()
        }
        write_line(json.dumps(rows, indent=2))
        return 0
    for group, of_group in found.items():
        _print_options(group, of_group)
    return 0


def _print_options(group: str, of_group: list[Option]) -> None:
    from instruct_lab.config.references import FORM_COMMENTS, FORMS

    write_line(group)
    width = max((len(option.name) for option in of_group), default=0)
    forms = FORMS.get(group, ())
    width = max([width, *map(len, forms)])
    for form in forms:
        write_hanging(f"  {form:<{width}}  {FORM_COMMENTS[form.partition(':')[0]]}", width + 4)
    for option in of_group:
        lab = "  (this lab)" if option.from_lab else ""
        write_hanging(f"  {option.name:<{width}}  {option.comment}{lab}", width + 4)


def _describe(parsed: argparse.Namespace) -> int:
    """Print one option: the comment in its YAML file, its components' fields, and the options that work with it."""
    from instruct_lab.config.options import options
    from instruct_lab.experiment.reference import describe, join_paragraphs, render

    of_group = {option.name: option for option in options(parsed.group)}
    check_name("option", parsed.option, of_group)
    description = describe(of_group[parsed.option])
    if parsed.json:
        write_line(json.dumps(description, indent=2, default=str))
        return 0
    lines = render(description).splitlines()
    for line in join_paragraphs(lines) if output_width() else lines:
        column = line.rfind("  ") + 2  # of the comment in a row of fields, or of the text in any other line
        write_hanging(line, column)
    return 0


def check_name(kind: str, name: str, known: Any) -> None:
    """Check that a group or an option with this name exists.

    Raises:
        InstructLabError: the name is not in `known`; the message suggests the most similar known name.
    """
    from instruct_lab.config.spelling import nearest

    if name not in known:
        hint = nearest(name, known)
        meant = f"choose {hint}, or another of: " if hint else "choose one of: "
        raise InstructLabError(f"There is no {kind} {name}", do=f"{meant}{', '.join(known)}")


@json_results
def init(parsed: argparse.Namespace) -> Outcome:
    """Write a folder for the user's own options and classes, with examples.

    Python files in the folder are allowed to run, unless the folder had Python files before.
    """
    from instruct_lab.config.permissions import with_names
    from instruct_lab.config.scaffold import write_lab
    from instruct_lab.config.user_settings import read_settings, settings_path, write_settings
    from instruct_lab.editors.schema import write_schemas

    path = user_path(parsed.path)
    has_code = any(path.glob("**/*.py"))
    written = write_lab(path)
    for file in written:
        write_line(file)
    schemas = write_schemas(path / ".schemas")
    write_line(f"{path / '.schemas'}: {len(schemas)} JSON Schemas for editors")
    if has_code:
        write_line(f"\nThis folder had Python files before: type `instruct-lab allow {path}` to let them run")
    else:
        write_settings(with_names(read_settings(), [str(path.absolute())]))
        write_line(
            f"\nIts Python files may run: {settings_path()} lists the lab (undo: instruct-lab allow --remove {path})"
        )
    write_line(f"\nnext: cd {path} && instruct-lab check data=my_data && instruct-lab train experiments=my_study")
    files = [str(file) for file in (*written, *schemas)]
    return Outcome(lambda: {"path": str(path), "files": files, "code_allowed": not has_code})


@json_results
def allow(parsed: argparse.Namespace) -> Outcome:
    """Add permissions to the user's settings file (with `--remove`, remove them), and print all permissions in it."""
    from instruct_lab.config.permissions import with_names
    from instruct_lab.config.user_settings import read_settings, settings_path, write_settings

    settings = read_settings()
    if parsed.names:
        settings = with_names(settings, parsed.names, is_removed=parsed.remove)
        write_settings(settings)
    entries = [*settings.allow, *(f"Python files in {lab}" for lab in settings.labs)]
    write_line(f"allowed in every command ({settings_path()}): {'' if entries else 'nothing'}")
    for entry in entries:
        write_line(f"  {entry}")
    return Outcome(lambda: {"path": str(settings_path()), "allow": [*settings.allow], "labs": [*settings.labs]})


def add_commands(add: AddCommand) -> None:
    """Add `check`, `show`, `list`, `init` and `allow` to the command line."""
    check_parser = add(
        "check",
        check,
        "report everything that is wrong with a config",
        "instruct-lab check data=alpaca_hub tuning=lora tuning.r=8",
        "instruct-lab check --all",
        "instruct-lab check --matrix --json",
        json=True,
        code=True,
    )
    arguments.add_overrides(check_parser)
    check_parser.add_argument("--all", action="store_true", help="check every option of every group, and every study")
    check_parser.add_argument(
        "--matrix", action="store_true", help="list every combination of model family, objective, tuning and batching"
    )
    arguments.add_multirun(check_parser)
    show_parser = add(
        "show",
        show,
        "show the composed config, and where each value came from",
        "instruct-lab show experiments=dry_run tuning.r=4",
        "instruct-lab show --all model=tiny_random",
        json=True,
        code=True,
    )
    arguments.add_overrides(show_parser)
    show_parser.add_argument(
        "--all", action="store_true", help="also show fields that are not set, with their defaults"
    )
    list_parser = add(
        "list",
        list_,
        "list the options of all groups, of one group, or everything about one option",
        "instruct-lab list",
        "instruct-lab list tuning",
        "instruct-lab list tuning lora",
        json=True,
        code=True,
    )
    list_parser.add_argument("group", nargs="?", metavar="GROUP")
    list_parser.add_argument("option", nargs="?", metavar="OPTION", help="show its fields, and what it works with")
    init_parser = add(
        "init",
        init,
        "write a lab of your own: a folder with one commented example of each kind",
        "instruct-lab init my_lab",
        "instruct-lab init my_lab --json",
        json=True,
    )
    init_parser.add_argument("path", metavar="DIR")
    allow_parser = add(
        "allow",
        allow,
        "allow something in every command: the Python files of a lab, a library's classes, or a permission by name",
        "instruct-lab allow my_lab",
        "instruct-lab allow remote-code",
        "instruct-lab allow --remove remote-code",
        json=True,
    )
    named = "a lab's folder, a library's module or class, or a permission; without one, list what is allowed"
    allow_parser.add_argument("names", metavar="NAME", nargs="*", help=named)
    allow_parser.add_argument("--remove", action="store_true", help="do not allow it any longer")
