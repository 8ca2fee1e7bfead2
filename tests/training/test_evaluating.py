"""`evaluate` measures a recorded model again, as it was measured or on other data, and `compare` pairs the results."""

import json

import pytest
from support.documentation import ROOT, blocks
from support.exhaustive import exhaustive
from support.lab import TINY, instruction_rows, new_lab
from support.records import newest_run

from instruct_lab import cli
from instruct_lab.experiment.check import check
from instruct_lab.experiment.evaluated import build_evaluated
from instruct_lab.records import RunRecord, find_run
from instruct_lab.records.evaluations import EvaluationFiles

pytestmark = pytest.mark.slow
SHORT = ["trainer.max_steps=2", "optimizer.lr=0.05", "tokenizer=train", "model.tokenizer.vocab_size=400"]
OTHER = ["data=path:other.jsonl", "data.split.test=0.4", "evaluation.max_examples=6"]
KEPT = ["data=mine", "evaluation.max_examples=4", "generation.max_new_tokens=6"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with two runs of different ranks; the command runs there."""
    with new_lab(tmp_path_factory.mktemp("evaluated")) as folder:
        rows = [{**row, "instruction": f"Please: {row['instruction']}"} for row in instruction_rows(40)]
        (folder / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        records = []
        for rank in (2, 4):
            assert cli.main(["train", *TINY, *SHORT, f"tuning.r={rank}"]) == 0
            records.append(RunRecord.open(newest_run(folder)))
        yield records


def evaluate(*words):
    return cli.main(["evaluate", *map(str, words)])


def values(summary):
    return {
        (metric, system): (one.value, one.low, one.high, one.count, one.signature, one.notes)
        for metric, systems in summary.metrics.items()
        for system, one in systems.items()
    }


def test_a_run_on_its_own_data_has_its_recorded_values(runs):
    record = runs[0]
    assert evaluate(record.path) == 0
    found = EvaluationFiles(record, "own")
    assert values(found.summary) == values(record.summary)
    assert found.read_predictions() == record.read_predictions()
    assert found.read_results()["test"]["after"] == record.read_results("after")["test"]["after"]


def test_runs_are_paired_on_other_data(runs, capsys):
    overrides = ["data=path:other.jsonl", "data.split.test=0.4", "evaluation.max_examples=30", "--name", "other"]
    for record in runs:
        assert evaluate(record.path, *overrides) == 0
    capsys.readouterr()
    paths = [str(record.path) for record in runs]
    assert cli.main(["compare", *paths, "--on", "other", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["differences"]["test/chrf"][0]["count"] == len(
        [line for line in EvaluationFiles(runs[0], "other").read_predictions() if line.split == "test"]
    )
    assert (
        compared["metrics"]["test/chrf"][0]["value"]
        == EvaluationFiles(runs[0], "other").summary.value("test/chrf").value
    )
    assert cli.main(["compare", *paths, "--on", "othr"]) == 2
    assert "choose --on other" in capsys.readouterr().err


def test_a_model_folder_gets_a_record(runs, capsys):
    assert cli.main(["export", str(runs[0].path), "plain"]) == 0
    for _ in range(2):
        assert evaluate("plain", *KEPT) == 0
    (record,) = list(runs[0].path.parent.parent.glob("model-plain/*"))
    (name,) = [file.stem for file in (record / "evaluations").glob("*.json")]
    measured = EvaluationFiles(find_run("runs", record), name).summary
    for metric in ("test/chrf", "val/chrf"):
        assert measured.value(metric).value == runs[0].summary.value(metric).value


def test_a_gguf_file_gets_a_record(runs):
    assert cli.main(["export", str(runs[0].path), "gguf", "--format", "gguf", "--gguf-type", "f32"]) == 0
    assert evaluate("gguf/model-f32.gguf", *KEPT, "--name", "kept", "--json") == 0
    (record,) = runs[0].path.parent.parent.glob("model-model-f32/*")
    measured = EvaluationFiles(RunRecord.open(record), "kept").summary
    assert measured.value("test/perplexity").value == pytest.approx(
        runs[0].summary.value("test/perplexity").value, rel=1e-4
    )
    assert cli.main(["compare", str(record), str(record)]) == 2


def test_every_run_of_a_sweep_is_measured_once_on_one_base(runs, monkeypatch, capsys):
    import instruct_lab.evaluation.base_model as base_model
    import instruct_lab.training.evaluating as evaluating

    assert cli.main(["train", "-m", *TINY, *SHORT, "sweep.metric=test/chrf", "tuning.r=1,2"]) == 0
    counts = {}

    def count(module):
        measure = module.measure

        def counted(*arguments):
            counts[module.__name__] = counts.get(module.__name__, 0) + 1
            return measure(*arguments)

        monkeypatch.setattr(module, "measure", counted)

    count(base_model)
    count(evaluating)
    sweep = max(runs[0].path.parent.parent.glob("*/*/sweep.json"), key=lambda path: path.parent.name).parent
    for _ in range(2):
        assert evaluate(sweep, *OTHER, "--name", "again") == 0
    assert counts.pop(base_model.__name__) <= 2  # once for each split that no earlier evaluation has cached
    assert counts == {evaluating.__name__: 4}
    capsys.readouterr()
    assert cli.main(["compare", str(sweep), "--on", "again", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert len(compared["runs"]) == 2
    assert "test/chrf" in compared["differences"]


@pytest.mark.parametrize("num_batches", [exhaustive(0), 1, exhaustive(2), 3])
def test_a_killed_evaluation_goes_on_with_the_same_results(runs, monkeypatch, num_batches):
    from instruct_lab.generation import decoding

    record, decode, decoded, num_left = runs[1], decoding.decode, [], [100]
    overrides = [*OTHER, "evaluation.batch_tokens=1", "evaluation.before=false", "--name"]

    def dying(*arguments):
        if not num_left[0]:
            raise KeyboardInterrupt
        num_left[0] -= 1
        decoded.append(arguments)
        return decode(*arguments)

    monkeypatch.setattr(decoding, "decode", dying)
    name = f"killed-{num_batches}"
    whole, killed = EvaluationFiles(record, f"whole-{num_batches}"), EvaluationFiles(record, name)
    assert evaluate(record.path, *overrides, whole.name) == 0
    total = len(decoded)
    assert total > num_batches
    decoded.clear()
    num_left[0] = num_batches
    assert evaluate(record.path, *overrides, name) == 130
    assert killed.summary is None
    num_left[0] = 100
    assert evaluate(record.path, *overrides, name) == 0
    assert len(decoded) == total  # no batch was decoded twice
    assert killed.read_results() == whole.read_results()
    assert values(killed.summary) == values(whole.summary)
    assert not list(killed.folder.glob("unfinished*"))


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["metrics=txt"], "text"),
        (["metric=text"], "metrics"),
        (["tuning.r=8"], "neither the model nor its training"),
        (["metrics=text,perplexity"], "one value for each key"),
        (["evaluation.max_exmples=3"], "max_examples"),
        (["~metrics.chrf"], "metrics.chrf=null"),
        (["--name", "a/b"], "folder name"),
    ],
)
def test_wrong_choices_are_refused_before_anything_is_loaded(runs, capsys, overrides, named):
    capsys.readouterr()
    assert evaluate(runs[0].path, *overrides) == 2
    assert named in capsys.readouterr().err


def test_a_target_that_is_neither_run_nor_model_is_explained(runs, capsys):
    assert cli.main(["export", str(runs[0].path), "adapter_only", "--format", "adapter"]) == 0
    capsys.readouterr()
    for target, named in {"adapter_only": "only an adapter", "Org/Name": "hub:ORG/NAME", "conf": "not a model"}.items():
        assert evaluate(target, "data=mine") == 2
        assert named in capsys.readouterr().err


def test_rows_without_answers_and_other_settings_are_refused(runs, capsys):
    folder = runs[0].path.parents[2]
    rows = [{"messages": [{"role": "user", "content": f"What is {number}?"}]} for number in range(30)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert evaluate(runs[0].path, "data=path:questions.jsonl", "--name", "questions") in (1, 2)
    assert "answer" in capsys.readouterr().err
    assert evaluate(runs[0].path, "evaluation.max_examples=3", "--name", "few") == 0
    assert evaluate(runs[0].path, "evaluation.max_examples=2", "--name", "few") == 1
    assert "--replace" in capsys.readouterr().err
    assert evaluate(runs[0].path, "evaluation.max_examples=2", "--name", "few", "--replace") == 0


def test_measurements_of_other_examples_are_not_paired(runs, capsys):
    assert evaluate(runs[0].path, *OTHER, "--name", "mixed") == 0
    capsys.readouterr()
    assert cli.main(["compare", *(str(one.path) for one in runs), "--on", "mixed"]) == 2
    assert f"run {runs[1].id} has none" in capsys.readouterr().err
    assert evaluate(runs[1].path, "--name", "mixed") == 0
    capsys.readouterr()
    assert cli.main(["compare", *(str(one.path) for one in runs), "--on", "mixed", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    reason = compared["unpaired"]["test/chrf"]
    assert reason.startswith("the runs were not measured on the same examples (6 and 4, of which 0 are the same")
    assert evaluate(runs[1].path, *OTHER, "metrics.chrf.word_order=2", "--name", "mixed", "--replace") == 0
    capsys.readouterr()
    assert cli.main(["compare", *(str(one.path) for one in runs), "--on", "mixed", "--json"]) == 0
    reason = json.loads(capsys.readouterr().out)["unpaired"]["test/chrf"]
    assert reason.startswith("the runs were not measured in the same way (")
    assert reason.index("nw:0") < reason.index("against") < reason.index("nw:2")


def test_every_row_of_a_named_file_is_measured_and_training_rows_are_not_needed(runs):
    folder, record = runs[0].path.parents[2], runs[0]
    assert evaluate(record.path, "data=path:other.jsonl", "evaluation.max_examples=null", "--name", "whole") == 0
    lines = EvaluationFiles(record, "whole").read_predictions()
    assert {line.split for line in lines} == {"test"}
    assert len(lines) == 40
    (folder / "held_out").mkdir()
    (folder / "held_out" / "test.jsonl").write_bytes((folder / "other.jsonl").read_bytes())
    assert evaluate(record.path, "data=path:held_out", "evaluation.max_examples=null", "--name", "folder") == 0
    assert values(EvaluationFiles(record, "folder").summary) == values(EvaluationFiles(record, "whole").summary)
    assert cli.main(["check", *TINY, "data=path:held_out"]) == 2


def test_the_documented_task_is_measured(runs):
    folder, record, page = runs[0].path.parents[2], runs[0], ROOT / "docs" / "evaluating.md"
    (row,), (option,) = blocks(page, "json"), blocks(page, "yaml")
    (folder / "questions.jsonl").write_text(row, encoding="utf-8")
    (folder / "conf" / "data" / "questions.yaml").write_text(option, encoding="utf-8")
    chosen = ["metrics=question_answering", "evaluation.before=false"]
    assert evaluate(record.path, "data=questions", *chosen, "--name", "option") == 0
    assert evaluate(record.path, "data=path:questions.jsonl", *chosen, "--name", "file") == 0
    found = [EvaluationFiles(record, name).read_predictions() for name in ("option", "file")]
    assert [(one.prompt, one.references) for one in found[0]] == [("What is the capital of France?", ["Paris"])]
    assert [(one.prompt, one.prediction) for one in found[0]] == [(one.prompt, one.prediction) for one in found[1]]


def test_an_evaluation_by_other_versions_is_named_and_measured_again_only_on_request(runs, capsys):
    record, words = runs[0], ["evaluation.max_examples=2", "--name", "versions"]
    assert evaluate(record.path, *words) == 0
    files = EvaluationFiles(record, "versions")
    entries = json.loads(files.path.read_text())
    assert entries["versions"]["source"]
    assert entries["step"] == 2
    entries["versions"] |= {"torch": "0.0", "source": "other"}
    files.path.write_text(json.dumps(entries))
    capsys.readouterr()
    assert evaluate(record.path, *words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "measured before" in printed
    assert "with other versions of source, torch; --replace measures again" in printed
    assert evaluate(record.path, *words, "--replace") == 0
    assert files.origin.versions["torch"] != "0.0"


@pytest.mark.parametrize("trainer", [["trainer=fsdp"], ["trainer=ddp"], ["trainer=multi_node"]], ids=str)
def test_an_engine_for_one_device_measures_a_run_of_many(tmp_path, trainer):
    overrides = ["model=tiny_random", "tracker=none", "trainer.accelerator=cpu", *trainer, "trainer.devices=8"]
    record = RunRecord.create(tmp_path, "many", check(overrides).or_refuse().resolved, overrides)
    engine = "generation.engine=transformers_cb"
    assert build_evaluated(record, [engine]).experiment.generation.engine == "transformers_cb"
    assert trainer != ["trainer=fsdp"] or check([*overrides, engine]).problems


def test_an_export_reports_the_evaluations_of_its_weights(runs):
    record, folder = runs[1], runs[1].path.parents[2]
    assert evaluate(record.path, *OTHER, "--name", "for_the_card") == 0
    assert evaluate(record.path, *OTHER, "--name", "of_other_weights") == 0
    other = EvaluationFiles(record, "of_other_weights").path
    other.write_text(json.dumps({**json.loads(other.read_text()), "step": 1}))
    assert cli.main(["export", str(record.path), "with_evaluations"]) == 0
    card = (folder / "with_evaluations" / "README.md").read_text(encoding="utf-8")
    value = EvaluationFiles(record, "for_the_card").summary.value("test/chrf")
    assert "### Evaluation for_the_card" in card
    assert "of_other_weights" not in card
    from huggingface_hub import ModelCard

    found = {
        one.metric_name: one for one in ModelCard.load(folder / "with_evaluations" / "README.md").data.eval_results
    }
    assert found["for_the_card: test/chrf"].metric_value == value.value
    assert found["for_the_card: test/chrf"].dataset_name == "other"
