"""The files of a record as types: written in one form, and read tolerantly."""

import json
import math

from instruct_lab.generation import Prediction
from instruct_lab.records import Manifest, Measurement, PredictionLine, RunRecord, Summary
from instruct_lab.records.schema import split_of

SUMMARY = """{
  "status": "finished",
  "seconds": 6.3686122830000045,
  "tokens": 6184,
  "training_seconds": 0.903,
  "peak_memory_bytes": null,
  "weights_bytes": 38328,
  "metrics": {
    "val/perplexity": {
      "before": {
        "value": 256.6270659966046,
        "low": 255.28847779062508,
        "high": null,
        "count": 14,
        "signature": "perplexity|log:e"
      }
    }
  }
}
"""
LINE = (
    '{"id": "00", "split": "test", "prompt": "p", "prediction": "a", "prediction_before": null, '
    '"references": ["x"], "scores": {"bleu": 0.5, "perplexity": null}}\n'
)
RESULTS = """{
  "validation": {
    "after": {
      "predictions": [
        {
          "id": "00",
          "split": "validation",
          "prompt": "p",
          "text": "a",
          "references": [
            "x"
          ],
          "metadata": {
            "name": "n"
          },
          "samples": []
        }
      ],
      "rows": {
        "perplexity": [
          [
            342.7017936706543,
            null
          ]
        ]
      },
      "sources": [
        "lines"
      ]
    }
  }
}
"""


def test_documents_are_written_back_byte_for_byte(tmp_path):
    record = RunRecord.create(tmp_path, "run", {}, [])
    for name, text in (("summary.json", SUMMARY), ("after.json", RESULTS), ("predictions.jsonl", LINE)):
        (record.path / name).write_text(text)
    record.write_summary(record.summary)
    record.write_results("after", record.read_results("after"))
    record.write_predictions(record.read_predictions())
    assert (record.path / "summary.json").read_text() == SUMMARY
    assert (record.path / "after.json").read_text() == RESULTS
    assert (record.path / "predictions.jsonl").read_text() == LINE


def test_what_was_not_finite_is_not_a_number_again():
    summary = Summary.from_json(json.loads(SUMMARY))
    found = summary.value("val/perplexity", "before")
    assert (found.value, found.count) == (256.6270659966046, 14)
    assert math.isnan(found.high)
    assert summary.value("val/perplexity") is summary.value("val/bleu") is None
    measured = Measurement.from_json(json.loads(RESULTS)["validation"]["after"])
    assert math.isnan(measured.rows["perplexity"][0][1])


def test_unknown_entries_are_ignored_and_missing_ones_get_defaults():
    assert Manifest.from_json({}) == Manifest()
    manifest = Manifest.from_json({"status": "failed", "from_the_future": 1, "sweep": {"id": "s", "later": 2}})
    assert (manifest.status, manifest.sweep.id, manifest.sweep.values) == ("failed", "s", {})
    assert manifest.exception is manifest.code is None
    assert Summary.from_json({"metrics": {"test/chrf": {"after": {"value": 1.0}}}}).value("test/chrf").count == 0
    assert PredictionLine.from_json({"id": "1", "scores": None}) == PredictionLine("1")
    measured = Measurement.from_json({"predictions": [{"id": "1"}], "rows": {"text": ["an answer", [1.0, 2.0]]}})
    assert measured.predictions == [Prediction("1", "", "", "", ())]
    assert measured.rows == {"text": ["an answer", [1.0, 2.0]]}


def test_a_manifest_has_types():
    entries = {
        "inputs": [{"name": "a", "sha256": "b", "bytes": 3}],
        "exception": {"type": "ValueError", "message": "m", "traceback": "t"},
        "sweep": {"id": "s", "point": 4, "values": {"tuning.r": 8}, "seed": 1},
        "choices": None,
    }
    manifest = Manifest.from_json(entries)
    assert manifest.inputs[0].bytes == 3
    assert manifest.exception.message == "m"
    assert manifest.sweep.values == {"tuning.r": 8}
    assert manifest.choices == {}


def test_the_results_of_one_source():
    predictions = [Prediction(name, "test", "", "", ()) for name in "abc"]
    measured = Measurement(predictions, {"f1": [[1.0], [2.0], [3.0]], "none": []}, ["x", "y", "x"])
    assert measured.of_source("x") == Measurement(
        [predictions[0], predictions[2]], {"f1": [[1.0], [3.0]], "none": []}, ["x", "x"]
    )
    assert Measurement([], {"f1": [[1.0], [2.0]]}, ["x", "y"]).of_source("y").rows == {"f1": [[2.0]]}


def test_the_split_of_a_metric():
    assert [split_of(name) for name in ("val/chrf", "test/lines/chrf", "train/loss")] == ["validation", "test", "train"]
