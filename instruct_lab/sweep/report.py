"""A study as Markdown: its question, its command, what its newest runs came to, and what may be concluded."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from instruct_lab.comparison.compare import compare
from instruct_lab.comparison.text import conclusion, markdown
from instruct_lab.config.options import STUDIES, Option, options
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import InstructLabError
from instruct_lab.pages.format import escape_markdown, format_metric, markdown_table
from instruct_lab.records import RunRecord, Summary, list_runs
from instruct_lab.sweep.record import SweepRecord, sweeps

FIELD = re.compile(r"(?P<name>[A-Za-z_]+): (?P<text>.*)")


@dataclasses.dataclass(frozen=True)
class Study:
    """What a study's file says of it.

    Args:
        name: as it is typed.
        question: what it asks.
        fields: the other parts of its opening comment by their names: `Command`, `Cost`, `Result`.
    """

    name: str
    question: str
    fields: dict[str, str]


def study(name: str) -> Study:
    """The study by a name.

    Raises:
        InstructLabError: there is none.
    """
    known = {option.name: option for option in options(STUDIES)}
    if name not in known:
        hint = nearest(name, known)
        raise InstructLabError(f"There is no study {name}", do=f"choose {hint or 'one of'}: {', '.join(known)}")
    fields = dict(_fields(known[name]))
    return Study(name, fields.pop(Path(name).name, ""), fields)


def _fields(option: Option) -> Iterator[tuple[str, str]]:
    """The parts of the opening comment; a line that names none goes on with the part before it."""
    name, texts = "", list[str]()
    for line in option.path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.removeprefix("#").strip()
        if text.startswith("@package"):
            continue
        match = FIELD.fullmatch(text)
        if match is not None and (match["name"] in ("Command", "Cost", "Result") or not name):
            if name:
                yield name, " ".join(texts)
            name, texts = match["name"], [match["text"]]
        else:
            texts.append(text)
    if name:
        yield name, " ".join(texts)


def report(name: str, runs_path: Path) -> str:
    """The study's report, from its newest sweep, or its newest finished run where it makes one run.

    Raises:
        InstructLabError: there is no such study, or no finished run of it.
    """
    asked = study(name)
    sweep = next((one for one in reversed(list(sweeps(runs_path))) if _is_of(one.told.get("choices"), name)), None)
    single = next(
        (run for run in reversed(list_runs(runs_path)) if run.status == "finished" and _is_of(run.choices, name)),
        None,
    )
    if sweep is not None and len(sweep.finished_runs()) > 1:
        return "\n".join([*_opening(asked), *_of_sweep(asked, sweep)])
    if single is not None:
        return "\n".join([*_opening(asked), *_of_run(asked, RunRecord.open(single.path))])
    command = f"instruct-lab train {STUDIES}={name}"
    raise InstructLabError(f"No run of the study {name} has finished", where=str(runs_path), do=f"run it: {command}")


def _is_of(choices: Any, name: str) -> bool:
    chosen = (choices or {}).get(STUDIES)
    return name in chosen if isinstance(chosen, list) else chosen == name


def _opening(asked: Study) -> Iterator[str]:
    yield f"# {asked.name}"
    yield ""
    yield asked.question
    yield ""


def _of_sweep(asked: Study, sweep: SweepRecord) -> Iterator[str]:
    runs, finished, metric = sweep.runs(), sweep.finished_runs(), sweep.measured_metric()
    compared = compare(finished, metric)
    yield f"**Conclusion.** {escape_markdown(conclusion(compared))}"
    yield ""
    yield from _facts(asked, list(sweep.told.get("overrides", [])), finished)
    total = sweep.told["num_points"] * sweep.told["seeds"]
    statuses = [str(run.manifest.status) for run in runs]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    yield f"- Runs: {counts}, of {total} planned; sweep `{sweep.id}`"
    yield ""
    yield markdown(compared, None if metric is None else [metric])


def _of_run(asked: Study, run: RunRecord) -> Iterator[str]:
    yield from _facts(asked, run.overrides, [run])
    yield f"- Run: `{run.id}`"
    yield ""
    metrics = (run.summary or Summary()).metrics
    systems = list(dict.fromkeys(system for values in metrics.values() for system in values))
    rows = ([name, *(format_metric(values.get(system)) for system in systems)] for name, values in metrics.items())
    yield markdown_table(["metric", *systems], rows)
    yield ""


def _facts(asked: Study, overrides: list[str], runs: list[RunRecord]) -> Iterator[str]:
    """How it was run, and what it took."""
    deltas = [text for text in overrides if text != f"{STUDIES}={asked.name}"]
    yield f"- Command: `instruct-lab train {' '.join([f'{STUDIES}={asked.name}', *deltas])}`"
    manifest = runs[0].manifest
    seconds = sum(float((run.summary or Summary()).seconds or 0.0) for run in runs)
    hardware = manifest.hardware
    processor = hardware.get("gpus") or [f"{hardware.get('cpu_count_usable', '?')} cores"]
    packages = manifest.packages
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "transformers", "peft") if name in packages)
    yield f"- Cost: {seconds / 60:.0f} minutes in all, on {', '.join(map(str, processor))}"
    commits = {str((run.manifest.code or {}).get("commit")) for run in runs}
    yield f"- Code: {', '.join(sorted(commits))}; {versions}"
