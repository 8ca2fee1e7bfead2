"""The exported card and the files of results say what the run recorded, as the Hub's own library reads them."""

import dataclasses
import json
import math

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_lab import cli
from instruct_lab.data import Alpaca, DataSet, Files, HashSplit, HubDataSet, Mixture
from instruct_lab.experiment.check import check
from instruct_lab.export.front_matter import front_matter
from instruct_lab.export.hub_results import collect_results, result_files
from instruct_lab.export.model_card import model_card
from instruct_lab.metrics import MetricValue
from instruct_lab.model import Hub, LocalFolder
from instruct_lab.records import RunRecord, Summary

COMMIT = "0123456789" * 4
VALUE = MetricValue(31.25, 28.5, 34.0, 96, "nrefs:1|case:mixed", ("fewer references: 1",))


def hub(split, repository="team/rows", configuration=None):
    return HubDataSet(repository=repository, revision=COMMIT, configuration=configuration, split=split)


def local():
    return Files(path="rows.jsonl")


def data_set(train, *, test=None, share=0.0):
    return DataSet(
        train=train, test=test or {}, format=Alpaca(), split=HashSplit(validation=0.1, test=share) if share else None
    )


def recorded(folder, metrics, **facts):
    """A finished run with these values of the tuned model."""
    record = RunRecord.create(folder / "runs", "mine", {}, [], choices={"data": "mine"}, **facts)
    record.write_manifest(status="finished", ended="2026-01-02T03:04:05+00:00")
    record.write_summary(Summary(metrics={name: {"after": value} for name, value in metrics.items()}))
    return record


@pytest.mark.parametrize(
    ("data", "metric", "expected"),
    [
        (data_set({"a": hub("train")}, test={"b": hub("test[:9]", configuration="fr")}), "test/chrf", "test[:9]"),
        (data_set({"a": hub("train")}, share=0.1), "test/chrf", "test (held out from train)"),
        (data_set({"a": hub("train")}, share=0.1), "val/chrf", "validation (held out from train)"),
        (
            Mixture(parts={"p": data_set({"a": local()}, test={"b": hub("dev")}), "q": data_set({"c": local()})}),
            "test/p/f1",
            "dev",
        ),
        (data_set({"a": hub("train")}, test={"b": hub("x"), "c": hub("y")}), "test/c/f1", "y"),
        (data_set({"a": hub("train")}, test={"b": hub("x"), "c": hub("y")}), "test/f1", None),
        (data_set({"a": hub("train")}, test={"b": local()}), "test/f1", None),
        (data_set({"a": local()}, share=0.1), "test/f1", None),
    ],
)
def test_a_result_names_the_data_set_of_the_hub_only_where_there_is_one(tmp_path, data, metric, expected):
    record = recorded(tmp_path, {metric: VALUE})
    results = collect_results(data, record)
    files = result_files(results, record, ["one note"])
    if expected is None:
        assert files == {}
        assert results[0].source is None
        return
    (entry,) = parse_eval_result_entries(yaml.safe_load(files["team--rows.yaml"]))
    assert (entry.dataset_id, entry.dataset_revision, entry.value) == ("team/rows", COMMIT, VALUE.value)
    assert (entry.task_id, entry.date) == (metric, "2026-01-02T03:04:05+00:00")
    for fact in (f"split {expected};", "[28.5000, 34.0000]", "96 examples", VALUE.signature, record.id, "one note"):
        assert fact in entry.notes
    assert VALUE.notes[0] in entry.notes
    assert ("configuration fr" in entry.notes) is ("test[:9]" in entry.notes)


@pytest.mark.parametrize(
    ("revision", "is_commit"), [(COMMIT, True), ("main", False), ("v1.0", False), ("01234567", False)]
)
def test_only_a_commit_is_the_revision_of_an_entry(tmp_path, revision, is_commit):
    data = data_set({"a": local()}, test={"b": dataclasses.replace(hub("test"), revision=revision)})
    record = recorded(tmp_path, {"test/f1": VALUE})
    (text,) = result_files(collect_results(data, record), record, []).values()
    (entry,) = parse_eval_result_entries(yaml.safe_load(text))
    assert entry.dataset_revision == (revision if is_commit else None)
    assert (f"revision {revision}" in entry.notes) is not is_commit


def test_values_that_are_not_finite_are_no_results(tmp_path):
    broken = {"test/a": math.nan, "test/b": math.inf}
    metrics = {name: dataclasses.replace(VALUE, value=value) for name, value in broken.items()}
    record = recorded(tmp_path, {**metrics, "test/c": VALUE})
    assert [one.name for one in collect_results(data_set({"a": local()}, share=0.1), record)] == ["test/c"]


@pytest.fixture
def experiment(lab, tiny):
    return check(tiny).or_refuse().experiment


def test_the_hubs_parser_reads_what_the_front_matter_says(experiment, tmp_path):
    parts = {"p": data_set({"a": hub("train"), "b": hub("train", "team/more")}, test={"c": hub("test")})}
    parts["q"] = dataclasses.replace(data_set({"c": local()}), language="pt_BR")
    experiment = dataclasses.replace(experiment, data=Mixture(parts=parts))
    record = recorded(tmp_path, {"test/p/chrf": VALUE, "test/p/f1": VALUE, "val/chrf": VALUE})
    results = collect_results(experiment.data, record)
    card = ModelCard(
        model_card({}, record, 7, front_matter(experiment, record, "peft", results, ["a note"]), "Use it.")
    )
    facts = card.data
    assert (facts.library_name, facts.pipeline_tag, facts.language) == ("peft", "text-generation", ["pt"])
    assert (facts.datasets, facts.base_model, facts.license) == (["team/more", "team/rows"], None, None)
    assert facts.model_name == "mine"
    found = {(one.dataset_name, one.dataset_split, one.metric_name): one for one in facts.eval_results}
    assert set(found) == {
        ("team/rows", "test", "test/p/chrf"),
        ("team/rows", "test", "test/p/f1"),
        ("mine", "validation", "val/chrf"),
    }
    for one in found.values():
        assert one.metric_value == VALUE.value
        assert one.metric_args["interval"] == [VALUE.low, VALUE.high]
        assert (one.metric_args["examples"], one.metric_args["run"]) == (96, record.id)
        assert one.metric_args["notes"] == [*VALUE.notes, "a note"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("---\nlicense: [a: {\n---\n", None),
        ("# Mine", None),
        (None, None),
    ],
)
def test_the_licence_is_that_of_the_base_models_own_card(experiment, tmp_path, card, licence):
    (tmp_path / "base").mkdir()
    if card is not None:
        (tmp_path / "base" / "README.md").write_text(card)
    record = recorded(tmp_path, {})
    model = dataclasses.replace(experiment.model, weights=LocalFolder(path=str(tmp_path / "base")))
    facts = front_matter(dataclasses.replace(experiment, model=model), record, "transformers", [], [])
    assert (facts.license, facts.base_model, facts.eval_results) == (licence, None, None)
    model = dataclasses.replace(experiment.model, weights=Hub(repository="team/base", revision=COMMIT))
    facts = front_matter(dataclasses.replace(experiment, model=model), record, "transformers", [], [])
    assert (facts.license, facts.base_model) == (None, "team/base")


@pytest.mark.slow
@settings(max_examples=25)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40), value=st.floats(-1e9, 1e9))
def test_no_text_of_a_run_breaks_the_front_matter(tmp_path_factory, text, value):
    number = MetricValue(value, value, value, 3, f"\n---\n{text}", (f"{text}: ---",))
    record = recorded(tmp_path_factory.mktemp("text"), {"test/chrf": number})
    data = data_set({"a": hub("train")}, test={"b": hub("test")})
    (results,) = result_files(collect_results(data, record), record, [text]).values()
    (entry,) = parse_eval_result_entries(yaml.safe_load(results))
    assert entry.value == value
    assert text in entry.notes


@pytest.mark.slow
def test_an_exported_folder_has_the_results_of_its_weights(lab, train):
    record = train("trainer.max_steps=2", "evaluation.before=false")
    assert cli.main(["export", "latest", str(lab / "out")]) == 0
    card = ModelCard.load(lab / "out" / "README.md")
    summary = json.loads((record / "summary.json").read_text())["metrics"]
    found = {one.metric_name: one.metric_value for one in card.data.eval_results}
    assert found == {name: values["after"]["value"] for name, values in summary.items()}
    assert card.data.model_name == record.parent.name
    assert not (lab / "out" / ".eval_results").exists()
    manifest = json.loads((record / "manifest.json").read_text())
    versions = json.loads((lab / "out" / "instruct_lab_versions.json").read_text())
    assert versions == {"python": manifest["python"], **manifest["packages"]}
    first = json.loads((record / "predictions.jsonl").read_text().splitlines()[0])
    assert first["references"][0] in card.text
    assert "| optimizer.lr |" in card.text
    (record / "manifest.json").write_text(json.dumps({**manifest, "evaluated_step": 1}))
    assert cli.main(["export", "latest", str(lab / "other")]) == 0
    other = ModelCard.load(lab / "other" / "README.md")
    assert other.data.eval_results is None
    assert "optimizer step 1, not of the exported ones" in other.text
