"""The content of `before.json` and `after.json`: each system's answers, and statistics from which metrics are computed.

A system is for example the base model. When these files are read, a missing entry gets the default of its field, and an
entry that is not known is ignored, so that records of other versions of instruct_lab stay readable.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from instruct_lab.files import fields_to_write
from instruct_lab.records.entries import known_entries, parse_number

if TYPE_CHECKING:
    from instruct_lab.generation import Prediction


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The results of one system, such as the base model, on the examples of one split.

    Args:
        predictions: the system's answers, in the order of the examples; empty if no metric reads answers.
        rows: for each metric, a list with the statistics of each example; the metric's value is computed from them.
        sources: name of the data source of each example.
        clusters: for each example, the name of its cluster (a group of related examples), or an empty string; an empty
            list if no example belongs to a cluster.
        remarks: sentences on how a metric was measured, keyed by metric.
        signatures: descriptions of how a benchmark's scores are computed, keyed by the score's name in `rows`; other
            metrics have none, because the config describes them.
    """

    predictions: list[Prediction] = dataclasses.field(default_factory=list)
    rows: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    sources: list[str] = dataclasses.field(default_factory=list)
    clusters: list[str] = dataclasses.field(default_factory=list)
    remarks: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    signatures: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> Measurement:
        """Create a measurement from its JSON object."""
        return cls(
            predictions=[_prediction(entry) for entry in entries.get("predictions", ())],
            rows={name: [_row(row) for row in rows] for name, rows in entries.get("rows", {}).items()},
            sources=list(entries.get("sources", ())),
            clusters=list(entries.get("clusters", ())),
            remarks={name: list(lines) for name, lines in entries.get("remarks", {}).items()},
            signatures=dict(entries.get("signatures", {})),
        )

    def to_json(self) -> dict[str, Any]:
        """Convert the measurement to a dictionary for JSON."""
        predictions = [fields_to_write(prediction) for prediction in self.predictions]
        extra = {"clusters": self.clusters, "remarks": self.remarks, "signatures": self.signatures}
        present = {name: value for name, value in extra.items() if value}
        return {"predictions": predictions, "rows": self.rows, "sources": self.sources, **present}

    def clusters_of(self, rows: Sequence[Any]) -> list[str]:
        """Return the clusters of the examples on which a metric was computed.

        The list is empty if the metric was computed on only some examples, since `rows` does not say on which ones.

        Args:
            rows: the metric's statistics, one entry for each example on which it was computed.
        """
        return self.clusters if len(self.clusters) == len(rows) else []

    def of_source(self, source: str) -> Measurement:
        """Return the results on the examples of one data source, without the remarks."""
        chosen = [index for index, name in enumerate(self.sources) if name == source]
        return Measurement(
            predictions=[self.predictions[index] for index in chosen if index < len(self.predictions)],
            rows={name: [rows[index] for index in chosen if index < len(rows)] for name, rows in self.rows.items()},
            sources=[source] * len(chosen),
            clusters=[self.clusters[index] for index in chosen if index < len(self.clusters)],
            signatures=self.signatures,
        )


Results = dict[str, dict[str, Measurement]]
"""The content of `before.json` or `after.json`: measurements, keyed by split and then by system."""


def results_from_json(entries: Mapping[str, Any]) -> Results:
    """Create the measurements from the JSON object in `before.json` or `after.json`."""
    return {
        split: {system: Measurement.from_json(measured) for system, measured in systems.items()}
        for split, systems in entries.items()
    }


def results_to_json(results: Results) -> dict[str, Any]:
    """Convert measurements to dictionaries and lists for JSON."""
    return {
        split: {system: measured.to_json() for system, measured in systems.items()}
        for split, systems in results.items()
    }


def _prediction(entry: Mapping[str, Any]) -> Prediction:
    from instruct_lab.generation import Prediction

    texts = dict.fromkeys(("id", "split", "prompt", "text"), "")
    groups = {name: tuple(entry.get(name) or ()) for name in ("references", "samples")}
    return Prediction(**{**texts, **known_entries(Prediction, entry), **groups})


def _row(row: Sequence[Any] | str) -> Any:
    return row if isinstance(row, str) else [parse_number(value) for value in row]
