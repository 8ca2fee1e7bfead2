"""Notes beside values that cannot mean what they seem to mean."""

import dataclasses
import json

import pytest

from instruct_lab.evaluation.notes import count_notes, selection_notes, value_notes
from instruct_lab.evaluation.result import HEADINGS, summary_metrics
from instruct_lab.evaluation.setup import EvaluationSetup
from instruct_lab.generation import Generation, Prediction
from instruct_lab.metrics import ChrF, ExactMatch, MetricValue, PassAtK, Perplexity
from instruct_lab.records.measurement import Measurement
from instruct_lab.records.note_lines import note_lines
from instruct_lab.records.schema import AFTER, BEFORE, DIFFERENCE, Summary

METRICS = {"exact_match": ExactMatch(), "chrf": ChrF(), "perplexity": Perplexity()}


def setup(selected_by: str | None = None, max_new_tokens: int = 48) -> EvaluationSetup:
    parts = dict.fromkeys(("model", "template", "batching", "layout", "objective"))
    generation = Generation(max_new_tokens=max_new_tokens)
    return EvaluationSetup(**parts, generation=generation, metrics=METRICS, seed=0, selected_by=selected_by)


def measurement(answers: list[str], num_cut: int = 0, reference: str = "a b c d", samples: int = 0) -> Measurement:
    predictions = [
        Prediction(
            str(index), "validation", "", answer, (reference,), samples=("x",) * samples, num_cut=int(index < num_cut),
            reference_tokens=10 + index,
        )
        for index, answer in enumerate(answers)
    ]  # fmt: skip
    rows = {name: [METRICS[name].of_prediction(one) for one in predictions] for name in ("exact_match", "chrf")}
    rows["perplexity"] = [[float(index + 1), 2.0] for index in range(len(answers))]
    return Measurement(predictions, rows, ["mine"] * len(answers))


def notes(measured: Measurement, name: str = "chrf", system: str = AFTER, **settings) -> list[str]:
    return value_notes(setup(**settings), "validation", system, name, measured)


MIXED = ["a b c d", "a b", "c", "x y", "b c d"] * 5


@pytest.mark.parametrize(("num_cut", "share"), [(1, "4"), (5, "20"), (25, "100")])
def test_cut_answers_are_noted_beside_the_longest_reference(num_cut, share):
    (note,) = notes(measurement(MIXED, num_cut))
    assert note == (
        f"{share} % of the answers ended at the length limit (generation.max_new_tokens=48); "
        "the longest reference has 34 tokens"
    )
    assert not notes(measurement(MIXED, num_cut), "perplexity"), "it reads no answers"
    assert not notes(measurement(MIXED))


def test_every_one_of_several_answers_counts():
    cut, sampled = notes(measurement(MIXED, 25, samples=3))
    assert cut.startswith("25 % of the answers")
    assert sampled.startswith("by 4 sampled answers to each prompt, ")


def test_a_metric_that_reads_all_answers_has_no_part_of_sampling(monkeypatch):
    assert PassAtK.reads_samples
    assert len(notes(measurement(MIXED, samples=3))) == 1
    monkeypatch.setattr(ChrF, "reads_samples", True)
    assert notes(measurement(MIXED, samples=3)) == []
    assert len(notes(measurement(MIXED, samples=3), "exact_match")) == 1
    assert notes(measurement(MIXED, samples=3), "perplexity") == [], "it reads no answers"


def test_models_measured_on_other_examples_have_no_difference():
    same, other = measurement(MIXED), measurement(MIXED[::-1])
    for index, one in enumerate(other.predictions):
        other.predictions[index] = dataclasses.replace(one, id=f"new-{one.id}")
    for before, has_difference in ((same, True), (other, False), (measurement(MIXED[1:]), False)):
        values = summary_metrics(setup(), {"validation": {BEFORE: before, AFTER: same}})
        assert [DIFFERENCE in systems for systems in values.values()] == [has_difference] * len(METRICS)


@pytest.mark.parametrize("count", [1, 2, 19])
def test_few_examples_are_noted(count):
    (note,) = count_notes(count)
    assert note.startswith(f"measured on {count} example{'s' if count > 1 else ''}:")
    assert note in notes(measurement(MIXED[:count]))
    assert note in notes(measurement(MIXED[:count]), "perplexity")


def test_twenty_examples_are_enough():
    assert not list(count_notes(20))
    assert not notes(measurement(MIXED[:20]))


@pytest.mark.parametrize(("answer", "score"), [("a b c d", "100"), ("wrong", "0"), ("", "0")])
def test_equal_scores_are_noted(answer, score):
    (note,) = notes(measurement([answer] * 30), "exact_match")
    assert note.startswith(f"all 30 examples score {score}:")


@pytest.mark.parametrize("monitor", ["val/loss", "val/chrf", "val/mine/perplexity"])
def test_the_split_that_chose_the_checkpoint_is_noted(monitor):
    (note,) = notes(measurement(MIXED), selected_by=monitor)
    assert f"chosen by {monitor}" in note
    assert not notes(measurement(MIXED), system=BEFORE, selected_by=monitor), "nothing chose the base model"
    assert not list(selection_notes(setup(monitor), "test"))


@pytest.mark.parametrize("monitor", [None, "train/loss"])
def test_last_weights_are_not_chosen_by_a_split(monitor):
    assert not notes(measurement(MIXED), selected_by=monitor)


def value(*notes: str) -> MetricValue:
    return MetricValue(1.0, 0.0, 2.0, 3, "x", notes)


def lines(metrics: dict[str, dict[str, MetricValue]]) -> list[str]:
    return list(note_lines(metrics, "val/", HEADINGS))


def test_a_note_on_several_values_stands_once_and_names_them():
    metrics = {
        "val/bleu": {BEFORE: value("a", "b"), AFTER: value("a"), DIFFERENCE: value("d")},
        "val/chrf": {BEFORE: value("b"), AFTER: value("c")},
        "val/rouge": {BEFORE: value(), AFTER: value("c")},
        "test/bleu": {AFTER: value("other split")},
    }
    assert lines(metrics) == ["bleu: a", "bleu, chrf (untuned): b", "chrf, rouge (tuned): c"]
    assert lines({"val/bleu": {AFTER: value("a")}, "val/x/bleu": {AFTER: value("a")}}) == ["all metrics: a"]
    assert lines({"val/bleu": {AFTER: value()}}) == []


def test_a_summary_holds_the_notes_and_one_without_is_read():
    entry = {"value": 1.0, "low": 0.0, "high": 2.0, "count": 3, "signature": "x"}
    summary = Summary.from_json({"metrics": {"val/chrf": {"after": {**entry, "notes": ["a"]}, "before": entry}}})
    assert summary.metrics["val/chrf"] == {"after": value("a"), "before": value()}


@pytest.mark.slow
def test_a_run_prints_and_records_the_notes(train, capsys):
    record = train("trainer.max_epochs=1", "generation.max_new_tokens=1")
    printed = capsys.readouterr().out
    assert "note: all metrics: measured on" in printed
    assert "answers ended at the length limit (generation.max_new_tokens=1); the longest reference has" in printed
    assert "(tuned): the evaluated checkpoint was chosen by val/loss, on this split" in printed
    metrics = json.loads((record / "summary.json").read_text())["metrics"]
    assert any("val/loss" in note for note in metrics["val/chrf"]["after"]["notes"])
    assert not any("val/loss" in note for note in metrics["test/chrf"]["after"]["notes"])
    assert any("length limit" in note for note in metrics["test/chrf"]["before"]["notes"])


@pytest.mark.slow
def test_a_run_with_chinese_answers_is_measured_with_their_tokenizers(lab, train, capsys):
    rows = [{"instruction": f"翻译第{n}句。", "output": f"这是第{n}个苹果，今天天气很好。"} for n in range(60)]
    (lab / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    record = train("trainer.max_steps=1", "metrics=[text,question_answering,dialogue]")
    metrics = json.loads((record / "summary.json").read_text())["metrics"]
    signatures = {name: metrics[f"test/{name}"]["after"]["signature"] for name in ("bleu", "self_bleu", "squad_f1")}
    assert "tok:zh" in signatures["bleu"]
    assert "tok:zh" in signatures["self_bleu"]
    assert "tok:unicode" in signatures["squad_f1"]
    assert "does not split" not in capsys.readouterr().out
    train("trainer.max_steps=1", "metrics.bleu.tokenize=13a", "metrics.perplexity=null")
    assert "note: bleu: most letters of the references are Chinese, which tok:13a does not" in capsys.readouterr().out
