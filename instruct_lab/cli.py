"""The command line: one verb for each thing a user does; nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from instruct_lab import __version__
from instruct_lab.commands import verbs
from instruct_lab.errors import ConfigError, InstructLabError

Verb = Callable[[argparse.Namespace], int]

SPINS = "10000"
"""How often torch's CPU threads look for work before they sleep (libgomp; read when torch is imported).

The default of 300,000 makes every operation wait for a thread that another process has displaced, which costs a
machine that is shared dearly; with a few thousand, threads sleep between the operations of a short training step and
waking them costs a sixth of it. See tests/benchmarks/README.md.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0 done, 1 failed while running, 2 refused before anything ran, 130 and 143 interrupted.
    """
    parsed, unknown = _parser().parse_known_args(arguments)
    if unknown:
        if not hasattr(parsed, "overrides") or any(text.startswith("-") for text in unknown):
            _parser().error(f"unknown argument: {' '.join(unknown)}")
        parsed.overrides = [*parsed.overrides, *unknown]
    verb: Verb = parsed.verb
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    try:
        return verb(parsed)
    except InstructLabError as error:
        if parsed.debug:
            raise
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1
    except BaseException as error:
        code = getattr(error, "exit_code", None)
        if code is not None:
            print(f"interrupted by {error}; continue with `instruct-lab resume latest`", file=sys.stderr)
            return int(code)
        if parsed.debug:
            raise
        print(f"{type(error).__name__}: {error}\n(the traceback is in the run record; or add --debug)", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="instruct-lab",
        description="Fine-tune language models on instructions; every run is a checked composition of config groups.",
    )
    parser.add_argument("--version", action="version", version=f"instruct-lab {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, verb: Verb, text: str, *, json_: bool = False, overrides: bool = False) -> Any:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(verb=verb)
        sub.add_argument("--debug", action="store_true", help="show tracebacks")
        if json_:
            sub.add_argument("--json", action="store_true", help="machine-readable output")
        if overrides:
            sub.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="group=option or key=value")
        return sub

    train = add("train", verbs.train, "train, measure and record one run, or a sweep of them", overrides=True)
    _add_multirun(train)
    check = add("check", _check, "report everything that is wrong with a config", json_=True, overrides=True)
    check.add_argument("--all", action="store_true", help="check every option of every group, and every study")
    check.add_argument(
        "--matrix", action="store_true", help="list every combination of model family, objective, tuning and batching"
    )
    _add_multirun(check)
    add("show", _show, "show the composed config, and where each value came from", json_=True, overrides=True)
    inspect = add("inspect", _inspect, "show the data as it will reach the model", json_=True, overrides=True)
    inspect.add_argument("--num", type=int, default=3, metavar="N", help="how many examples (default: 3)")
    inspect.add_argument("--split", choices=("train", "validation", "test"), help="default: train")
    inspect.add_argument("--row", type=int, metavar="K", help="the K-th example of the split, from 0")
    inspect.add_argument("--dropped", metavar="REASON", help="rows left out for a reason that contains this text")
    inspect.add_argument("--ids", action="store_true", help="show token ids too")
    inspect.add_argument("--html", metavar="FILE", help="write a page instead of printing")
    listing = add("list", _list, "list the options of a group, or of all", json_=True)
    listing.add_argument("group", nargs="?", metavar="GROUP")
    init = add("init", _init, "write a lab of your own: a folder with one commented example of each kind")
    init.add_argument("path", metavar="DIR")
    runs = add("runs", verbs.runs, "list the recorded runs", json_=True)
    runs.add_argument(
        "query", nargs="*", metavar="CONDITION", help="on any key, choice, metric or cost: tuning=lora test/chrf>30"
    )
    runs.add_argument("--sort", metavar="KEY", help="by any of these, the smallest first (default: the oldest first)")
    runs.add_argument("--reverse", action="store_true", help="the largest, or the newest, first")
    _add_runs_path(runs)
    compare = add("compare", verbs.compare, "compare runs, or those of a sweep, on the examples they share", json_=True)
    compare.add_argument(
        "runs_compared", metavar="RUN", nargs="+", help="runs, or one sweep, by folder, id or its beginning"
    )
    compare.add_argument("--markdown", action="store_true", help="print Markdown")
    compare.add_argument(
        "--metric", metavar="NAME", help="only this one, such as test/chrf (default: all; the sweep's)"
    )
    compare.add_argument(
        "--disagreements", type=int, default=3, metavar="N", help="examples on which the two best differ (default: 3)"
    )
    compare.add_argument("--html", metavar="FILE", help="write one self-contained page with charts instead of printing")
    _add_runs_path(compare)
    report = add("report", verbs.report, "write a study's report in Markdown: question, command, results, conclusion")
    report.add_argument("study", metavar="STUDY", help="its name: instruct-lab list experiments")
    report.add_argument("--output", metavar="FILE", help="write a file instead of printing")
    _add_runs_path(report)
    watch = add("watch", verbs.watch, "show a sweep's table while it runs")
    watch.add_argument("sweep", metavar="SWEEP", nargs="?", default="latest", help="its id or folder (default: latest)")
    _add_runs_path(watch)
    dashboard = add("dashboard", verbs.dashboard, "open every recorded run in a page on this machine")
    dashboard.add_argument("--port", type=int, metavar="N", help="of the page (default: the first free one from 7860)")
    dashboard.add_argument("--no-browser", action="store_true", help="print the address alone")
    _add_runs_path(dashboard)
    resume = add("resume", verbs.resume, "continue a run, or a sweep, that was interrupted")
    _add_run(resume)
    reproduce = add("reproduce", verbs.reproduce, "run a recorded config again, as a new run")
    _add_run(reproduce)
    generate = add("generate", verbs.generate, "print the tuned model's answer")
    _add_run(generate)
    generate.add_argument("prompt", metavar="PROMPT", nargs="+")
    generate.add_argument("--system", default=None, help="a system message before the prompt")
    generate.add_argument("--base", action="store_true", help="answer with the untuned model")
    _add_checkpoint(generate)
    export = add("export", verbs.export, "write the tuned model as a plain Hugging Face folder")
    _add_run(export)
    export.add_argument("path", metavar="DIR")
    export.add_argument("--keep-adapter", action="store_true", help="write the adapter alone, not merged")
    _add_checkpoint(export)
    cache = add("cache", _cache, "list or clear the data cache: preprocessed and tokenised data", json_=True)
    cache.add_argument("action", choices=("list", "clear"))
    cache.add_argument("keys", nargs="*", metavar="KEY", help="only these results (their keys, or beginnings of them)")
    cache.add_argument("--older-than", type=float, metavar="DAYS", help="only results not used for so many days")
    cache.add_argument("--cache", metavar="DIR", help="default: cache_path of the config")
    return parser


def _add_multirun(parser: Any) -> None:
    parser.add_argument("-m", "--multirun", action="store_true", help="a run of each value: tuning.r=4,8,16")


def _add_runs_path(parser: Any) -> None:
    parser.add_argument("--runs", default="runs", metavar="DIR", help="where run records are (default: runs)")


def _add_run(parser: Any) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder, id, unique prefix, or `latest`")
    _add_runs_path(parser)


def _add_checkpoint(parser: Any) -> None:
    parser.add_argument("--checkpoint", choices=("best", "last"), help="default: the one the run was measured by")


# ---- configs


def _check(parsed: argparse.Namespace) -> int:
    if parsed.matrix:
        return _matrix(parsed)
    from instruct_lab.experiment.check import check, check_all

    if parsed.all:
        results = check_all()
        failed = [result for result in results if result.problems]
        if parsed.json:
            errors = [problem.to_json() for result in failed for problem in result.problems]
            print(json.dumps({"checked": len(results), "errors": errors}, indent=2, default=str))
        else:
            for result in results:
                required = f"  (you set: {', '.join(result.required)})" if result.required else ""
                print(f"{'wrong' if result.problems else 'ok':<6}{result.group}={result.option}{required}")
                for problem in result.problems:
                    print(f"        {problem}")
            print(f"{len(results)} options checked, {len(failed)} wrong")
        return 2 if failed else 0
    if parsed.multirun:
        return _check_sweep(parsed)
    checked = check(parsed.overrides)
    if parsed.json:
        listed = {"errors": checked.problems, "warnings": checked.warnings}
        found = {kind: [problem.to_json() for problem in problems] for kind, problems in listed.items()}
        print(json.dumps(found, indent=2, default=str))
        return 2 if checked.problems else 0
    checked.print_warnings()
    checked.or_refuse()
    choices = ", ".join(f"{group}={_option(option)}" for group, option in checked.composition.choices.items())
    print(f"ok: {choices}")
    return 0


def _check_sweep(parsed: argparse.Namespace) -> int:
    from instruct_lab.sweep.plan import plan

    try:
        planned = plan(parsed.overrides)
    except ConfigError as error:
        if not parsed.json:
            raise
        print(json.dumps({"errors": [problem.to_json() for problem in error.problems]}, indent=2, default=str))
        return 2
    if parsed.json:
        print(json.dumps({"errors": []}, indent=2))
        return 0
    varying = ", ".join(dimension.key for dimension in planned.space.dimensions) or "seed"
    count = planned.num_points * planned.settings.seeds
    looked = ", ".join(f"{d} {m}" for m, d in zip(planned.settings.metrics, planned.directions, strict=True))
    print(f"ok: {count} runs over {varying}; {type(planned.sampler).__name__}, {looked}")
    return 0


def _matrix(parsed: argparse.Namespace) -> int:
    from instruct_lab.experiment.matrix import matrix

    combinations = list(matrix())
    if parsed.json:
        print(json.dumps([combination.to_json() for combination in combinations], indent=2))
        return 0
    for one in combinations:
        print(f"{one.family:<16} {one.objective:<20} {one.tuning:<22} {one.batching:<8} {one.reason or 'trains'}")
    trains = sum(combination.trains for combination in combinations)
    print(f"{len(combinations)} combinations: {trains} train, {len(combinations) - trains} are refused")
    return 0


def _option(option: str | list[str]) -> str:
    return option if isinstance(option, str) else f"[{','.join(option)}]"


def _show(parsed: argparse.Namespace) -> int:
    from instruct_lab.config.show import shown, shown_json
    from instruct_lab.experiment.check import check

    checked = check(parsed.overrides)
    if not checked.composition.config:
        checked.or_refuse()
    print(json.dumps(shown_json(checked.composition), indent=2) if parsed.json else shown(checked.composition))
    if checked.problems:
        print(ConfigError(checked.problems), file=sys.stderr)
    return 2 if checked.problems else 0


def _inspect(parsed: argparse.Namespace) -> int:
    from instruct_lab.experiment.check import check

    experiment = check(parsed.overrides).or_refuse().experiment
    from rich.console import Console

    from instruct_lab.inspection.inspection import inspect

    inspect(
        experiment,
        split=parsed.split,
        num=parsed.num,
        row=parsed.row,
        dropped=parsed.dropped,
        ids=parsed.ids,
        html=Path(parsed.html) if parsed.html else None,
        as_json=parsed.json,
        console=Console(),
    )
    return 0


def _list(parsed: argparse.Namespace) -> int:
    from instruct_lab.config.options import GROUPS, options
    from instruct_lab.config.spelling import nearest

    if parsed.group is not None and parsed.group not in GROUPS:
        hint = nearest(parsed.group, GROUPS)
        raise InstructLabError(
            f"There is no group {parsed.group}", do=f"choose {hint or 'one of'}: {', '.join(GROUPS)}"
        )
    groups = GROUPS if parsed.group is None else (parsed.group,)
    found = {group: options(group) for group in groups}
    if parsed.json:
        rows = {
            group: [{"option": o.name, "comment": o.comment, "lab": o.from_lab} for o in group_options]
            for group, group_options in found.items()
        }
        print(json.dumps(rows, indent=2))
        return 0
    for group, group_options in found.items():
        print(group)
        width = max((len(option.name) for option in group_options), default=0)
        for option in group_options:
            lab = "  (this lab)" if option.from_lab else ""
            print(f"  {option.name:<{width}}  {option.comment}{lab}")
    return 0


def _init(parsed: argparse.Namespace) -> int:
    from instruct_lab.config.scaffold import write_lab

    path = Path(parsed.path)
    for written in write_lab(path):
        print(written)
    print(f"\nnext: cd {path} && instruct-lab check data=my_data && instruct-lab train experiments=my_study")
    return 0


def _cache(parsed: argparse.Namespace) -> int:
    from instruct_lab.cache import Store, select_entries
    from instruct_lab.config.compose import compose

    store = Store(Path(parsed.cache or compose([]).config.cache_path).expanduser())
    found = select_entries(store.entries(), parsed.keys, parsed.older_than)
    if parsed.action == "clear":
        freed = store.remove(found)
        told: Any = {"removed": [entry.key for entry in found], "bytes": freed}
        print(
            json.dumps(told, indent=2) if parsed.json else f"{len(found)} results removed, {freed / 1e6:,.1f} MB freed"
        )
        return 0
    if parsed.json:
        print(json.dumps([entry.summary() for entry in found], indent=2))
        return 0
    for told in (entry.summary() for entry in found):
        rows = ", ".join(f"{split} {count:,}" for split, count in told["rows"].items())
        size, days = f"{told['bytes'] / 1e6:8,.1f} MB", f"{told['unused_days']:5.1f} days"
        print(f"{told['key'][:12]}  {size}  {days}  {told['name']}: {rows}")
    print(f"{len(found)} results, {sum(entry.bytes for entry in found) / 1e6:,.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
