"""Find, read and write the evaluations in a run record: measurements of the run's model after the run has ended.

Each evaluation has a name. The record has a file `evaluations/NAME.json` with the metric values, in the same format as
the run's `summary.json`, and a folder `evaluations/NAME/` with the statistics of every example, the predictions and the
config.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from instruct_lab import files
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import InstructLabError
from instruct_lab.records import schema
from instruct_lab.records.config_file import read_yaml, to_yaml
from instruct_lab.records.entries import known_entries, wrap_form_errors
from instruct_lab.records.folder import name_fault
from instruct_lab.records.measurement import Results, results_from_json, results_to_json
from instruct_lab.records.record import RunRecord
from instruct_lab.records.schema import AFTER, PredictionLine, Stage, Summary

FOLDER = "evaluations"
OWN = "own"
"""The name of an evaluation that uses the run's own data and metrics."""
UNFINISHED = "unfinished"
MAX_NAME = 80


@dataclasses.dataclass(frozen=True)
class Origin:
    """What an evaluation measured: its overrides, the weights, and the versions of the packages.

    The file `evaluations/NAME.json` holds these values besides the metric values.

    Args:
        overrides: the overrides of the evaluation, as typed.
        weights: human-readable description of the evaluated weights.
        step: optimizer step of the evaluated weights; `None` in records of earlier versions of instruct_lab.
        fingerprint: SHA-256 of the evaluation's settings, data and weights. Code and versions are left out, so that an
            evaluation counts as the same after an update of the packages.
        versions: versions of the packages that were used, and the SHA-256 of instruct_lab's code; empty in records of
            earlier versions of instruct_lab.
    """

    overrides: list[str] = dataclasses.field(default_factory=list)
    weights: str = ""
    step: int | None = None
    fingerprint: str = ""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    def changed_versions(self, versions: Mapping[str, str]) -> list[str]:
        """Return the names of the packages whose version has changed since the evaluation.

        The name `source` stands for the code of instruct_lab. The list is empty if the evaluation recorded no versions.

        Args:
            versions: the current versions, keyed by package.
        """
        if not self.versions:
            return []
        return sorted(name for name in {*self.versions, *versions} if self.versions.get(name) != versions.get(name))


@dataclasses.dataclass(frozen=True)
class EvaluationFiles:
    """The files of one evaluation in a run record.

    Args:
        record: the record of the run.
        name: name of the evaluation.
    """

    record: RunRecord
    name: str

    @property
    def path(self) -> Path:
        """The file `evaluations/<name>.json` in the run's record, which holds the evaluation's metric values."""
        return self.record.path / FOLDER / f"{self.name}.json"

    @property
    def folder(self) -> Path:
        """The folder `evaluations/<name>/` in the run's record: statistics of every example, predictions and config."""
        return self.record.path / FOLDER / self.name

    @property
    def config(self) -> dict[str, Any]:
        """The config with which the run's model was evaluated."""
        return dict(read_yaml(self.folder / schema.CONFIG) or {})

    @property
    def summary(self) -> Summary | None:
        """The metric values with their intervals; `None` if the evaluation has not ended."""
        entries = files.read_json(self.path)
        if entries is None:
            return None
        with wrap_form_errors(self.path):
            return Summary.from_json(entries)

    @property
    def origin(self) -> Origin | None:
        """The overrides, weights and fingerprint of the evaluation; `None` if it has not ended."""
        entries = files.read_json(self.path)
        if entries is None:
            return None
        with wrap_form_errors(self.path):
            return Origin(**known_entries(Origin, entries))

    def read_results(self) -> Results:
        """Read the statistics and answers of every example, keyed by split and then by evaluated system.

        A system is for example the tuned model.
        """
        file = self.folder / schema.RESULTS[AFTER]
        with wrap_form_errors(file):
            return results_from_json(files.read_json(file) or {})

    def read_unfinished(self, fingerprint: str) -> Results:
        """Read the answers and statistics that `write_unfinished` saved before the evaluation was stopped.

        The dictionary is empty if there are none, or if they were saved with another fingerprint.

        Args:
            fingerprint: SHA-256 of the evaluation's settings, data, weights, code and package versions.
        """
        entries = files.read_json(self._unfinished)
        if not isinstance(entries, dict) or entries.get("fingerprint") != fingerprint:
            return {}
        with wrap_form_errors(self._unfinished):
            return results_from_json(entries["results"])

    def read_predictions(self) -> list[PredictionLine]:
        """Read the predicted answers, one for each example."""
        file = self.folder / schema.PREDICTIONS
        with wrap_form_errors(file):
            return [PredictionLine.from_json(line) for line in files.read_lines(file)]

    def write_unfinished(self, fingerprint: str, results: Results) -> None:
        """Save the results that are complete so far, so that the evaluation can be continued if it is killed.

        Args:
            fingerprint: SHA-256 of the evaluation's settings, data, weights, code and package versions.
            results: each system's answers and statistics, keyed by split and then by system.
        """
        entries = {"fingerprint": fingerprint, "results": results_to_json(results)}
        files.write_json(self._unfinished, entries)

    def write(
        self,
        summary: Summary,
        origin: Origin,
        results: Results,
        predictions: Iterable[PredictionLine],
        config: dict[str, Any],
    ) -> None:
        """Write all files of a completed evaluation.

        The file with the metric values (`path`) is written last, so that it exists only if all other files do.
        """
        files.write_json(self.folder / schema.RESULTS[AFTER], results_to_json(results))
        files.write_atomically(self.folder / schema.PREDICTIONS, (files.to_json(line) + "\n" for line in predictions))
        files.write_atomically(self.folder / schema.CONFIG, [to_yaml(config)])
        entries = {**files.fields_to_write(summary), **files.fields_to_write(origin)}
        files.write_json(self.path, entries)
        for left in self.folder.glob(f"{UNFINISHED}*"):
            left.unlink(missing_ok=True)

    def unfinished_path(self, ending: str) -> Path:
        """Return the path of a file for results of an incomplete evaluation.

        When the evaluation is complete, `write` removes all such files.

        Args:
            ending: the end of the file's name, such as `.json`.
        """
        return self.folder / f"{UNFINISHED}{ending}"

    @property
    def _unfinished(self) -> Path:
        return self.unfinished_path(".json")


class EvaluatedRecord(RunRecord):
    """A run record that returns the results of one of its evaluations instead of the run's own results.

    The command `compare --on NAME` uses it to compare runs by their evaluations.

    Args:
        path: folder of the record.
        name: name of the evaluation.
    """

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path)
        self.name = name
        self._files = EvaluationFiles(self, name)

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The config of the run, but with the metrics of the evaluation's config."""
        return {**RunRecord(self.path).config, "metrics": self._files.config.get("metrics")}

    @property
    def summary(self) -> Summary | None:
        """The costs of the run and the metric values of the evaluation; `None` if the evaluation has not ended."""
        measured, own = self._files.summary, RunRecord(self.path).summary or Summary()
        return None if measured is None else dataclasses.replace(own, metrics=measured.metrics)

    def read_results(self, stage: Stage) -> Results | None:
        """Read the results of the evaluation; `stage` is ignored, because an evaluation measures only once."""
        return self._files.read_results()

    def read_predictions(self) -> list[PredictionLine]:
        """Read the predictions of the evaluation."""
        return self._files.read_predictions()


def evaluation_names(record: RunRecord) -> list[str]:
    """Return the names of a run's evaluations, in alphabetical order."""
    return sorted(file.stem for file in (record.path / FOLDER).glob("*.json"))


def find_evaluated(records: Sequence[RunRecord], name: str) -> tuple[list[RunRecord], list[RunRecord]]:
    """Divide runs into those with and those without an evaluation of this name.

    Returns:
        The runs with the evaluation, as records that return its results instead of the runs' own results; and the
        unchanged records of the other runs.

    Raises:
        InstructLabError: some runs have no such evaluation, and at most one run has it.
    """
    known = {record.path: evaluation_names(record) for record in records}
    measured: list[RunRecord] = [EvaluatedRecord(one.path, name) for one in records if name in known[one.path]]
    others = [one for one in records if name not in known[one.path]]
    if not others or len(measured) > 1:
        return measured, others
    where = f"{len(records)} run{'s' * (len(records) != 1)}"
    do = f"measure it first: instruct-lab evaluate {others[0].id} data=... --name {name}"
    if measured:
        what = f"Only run {measured[0].id} has an evaluation {name!r}; run {others[0].id} has none"
        raise InstructLabError(what, where=where, do=do)
    names = sorted({one for found in known.values() for one in found})
    listed = f"their evaluations are {', '.join(names)}" if names else "they have no evaluations"
    meant = nearest(name, names)
    do = f"choose --on {meant}" if meant else do
    raise InstructLabError(f"No run has an evaluation {name!r}; {listed}", where=where, do=do)


def check_evaluation_name(name: str) -> str:
    """Check that the name of an evaluation is a valid file name without the ending `.json`; return the name.

    Raises:
        InstructLabError: the name is not valid.
    """
    reason = name_fault(name) or ("the name must not end with .json" if name.endswith(".json") else None)
    if reason:
        what = f"An evaluation cannot be named {name!r}: {reason}"
        raise InstructLabError(what, where="--name", do="choose another name")
    return name


def default_name(labels: Sequence[str]) -> str:
    """Return a name for an evaluation that the user has not named.

    The name consists of `labels`, joined by `+`. If it would be too long, it is cut and ends with a hash. Without
    labels, the name is `own`, because the evaluation uses the run's own data and metrics.

    Args:
        labels: short texts for the overrides of the evaluation, such as `interface_fr` for `data=interface_fr`.
    """
    name = re.sub(r"[^\w.+-]+", "_", "+".join(labels), flags=re.ASCII).lstrip(".") or OWN
    if len(name) <= MAX_NAME and not name.endswith(".json"):
        return name
    digest = hashlib.sha256("\0".join(labels).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{name[: MAX_NAME - 9]}-{digest[:8]}"
