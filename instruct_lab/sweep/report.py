"""Write a Markdown report on a study, a YAML file in `experiments/`: its question, newest results and conclusion."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from instruct_lab.comparison.compare import compare
from instruct_lab.comparison.text import answer, markdown
from instruct_lab.config.options import STUDIES, Option, options
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import InstructLabError
from instruct_lab.pages.format import escape_markdown, format_metric, markdown_table
from instruct_lab.records import RunRecord, Summary, list_runs
from instruct_lab.sweep.record import SweepRecord, sweeps

FIELD = re.compile(r"(?P<name>[A-Za-z_]+): (?P<text>.*)")


@dataclasses.dataclass(frozen=True)
class Study:
    """The description of a study, read from the comment at the start of its YAML file.

    Args:
        name: name of the study.
        question: the question that the study answers.
        fields: the other paragraphs of the comment, keyed by the word before the colon: `Command`, `Cost`, `Result`.
    """

    name: str
    question: str
    fields: dict[str, str]


def read_study(name: str) -> Study:
    """Read the description of a study from the comment at the start of its YAML file.

    Raises:
        InstructLabError: no study has this name.
    """
    known = {option.name: option for option in options(STUDIES)}
    if name not in known:
        hint = nearest(name, known)
        raise InstructLabError(f"There is no study {name}", do=f"choose {hint or 'one of'}: {', '.join(known)}")
    fields = dict(_fields(known[name]))
    return Study(name, fields.pop(Path(name).name, ""), fields)


def _fields(option: Option) -> Iterator[tuple[str, str]]:
    """Yield the paragraphs of the comment at the start of a study's YAML file.

    A paragraph starts with a word and a colon, and may have several lines. The word is the study's name in the first
    paragraph, and `Command`, `Cost` or `Result` in the others. Each paragraph is yielded as a pair (word, text).
    """
    name, texts = "", list[str]()
    for line in option.content.decode("utf-8").splitlines():
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
    """Return the report on a study as Markdown.

    It shows the newest sweep of the study. If there is none, or it has fewer than two finished runs, the report shows
    the study's newest finished run.

    Args:
        name: name of the study.
        runs_path: the folder of all records.

    Raises:
        InstructLabError: there is no such study, or none of its runs has finished.
    """
    study = read_study(name)
    newest_sweeps, newest_runs = reversed(list(sweeps(runs_path))), reversed(list_runs(runs_path))
    sweep = next((one for one in newest_sweeps if _has_chosen(one.info.choices, name)), None)
    if sweep is not None and len(sweep.finished_runs()) > 1:
        return "\n".join([*_opening(study), *_sweep_report(study, sweep)])
    run = next((r for r in newest_runs if r.status == "finished" and _has_chosen(r.choices, name)), None)
    if run is not None:
        return "\n".join([*_opening(study), *_run_report(study, RunRecord.open(run.path))])
    command = f"instruct-lab train {STUDIES}={name}"
    raise InstructLabError(f"No run of the study {name} has finished", where=str(runs_path), do=f"run it: {command}")


def _has_chosen(choices: Any, name: str) -> bool:
    chosen = (choices or {}).get(STUDIES)
    return name in chosen if isinstance(chosen, list) else chosen == name


def _opening(study: Study) -> Iterator[str]:
    yield f"# {study.name}"
    yield ""
    yield study.question
    yield ""


def _sweep_report(study: Study, sweep: SweepRecord) -> Iterator[str]:
    runs, finished, metric = sweep.runs(), sweep.finished_runs(), sweep.measured_metric()
    compared = compare(finished, metric)
    yield f"**Conclusion.** {escape_markdown(' '.join(answer(compared)))}"
    yield ""
    yield from _facts(study, sweep.info.overrides, finished)
    statuses = [run.status_text for run in runs]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    yield f"- Runs: {counts}, of {sweep.info.num_runs} planned; sweep `{sweep.id}`"
    yield ""
    yield markdown(compared, None if metric is None else [metric])


def _run_report(study: Study, run: RunRecord) -> Iterator[str]:
    yield from _facts(study, run.overrides, [run])
    yield f"- Run: `{run.id}`"
    yield ""
    metrics = (run.summary or Summary()).metrics
    systems = list(dict.fromkeys(system for values in metrics.values() for system in values))
    rows = ([name, *(format_metric(values.get(system)) for system in systems)] for name, values in metrics.items())
    yield markdown_table(["metric", *systems], rows)
    yield ""


def _facts(study: Study, overrides: list[str], runs: list[RunRecord]) -> Iterator[str]:
    """Yield lines of a Markdown list on a study's runs: command, duration, git commit, and versions of packages."""
    deltas = [text for text in overrides if text != f"{STUDIES}={study.name}"]
    yield f"- Command: `instruct-lab train {' '.join([f'{STUDIES}={study.name}', *deltas])}`"
    manifest = runs[0].manifest
    seconds = sum(float((run.summary or Summary()).seconds or 0.0) for run in runs)
    hardware = manifest.hardware
    processor = hardware.get("gpus") or [f"{hardware.get('cpu_count_usable', '?')} cores"]
    packages = manifest.packages
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "transformers", "peft") if name in packages)
    yield f"- Cost: {seconds / 60:.0f} minutes in all, on {', '.join(map(str, processor))}"
    commits = {str((run.manifest.code or {}).get("commit")) for run in runs}
    yield f"- Code: {', '.join(sorted(commits))}; {versions}"
