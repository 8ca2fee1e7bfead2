"""Benchmarks: the scores of lm-evaluation-harness on the model in memory, with intervals and paired tests."""

import importlib.util
import json
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lab import TINY, instruction_rows, new_lab, write_lab
from support.records import newest_run

from instruct_lab import cli
from instruct_lab.records import RunRecord
from instruct_lab.records.evaluations import EvaluationFiles

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="needs lm-eval: pip install 'instruct-lab[benchmarks]'"
)
SHORT = ["trainer.max_steps=2", "optimizer.lr=0.05", "tokenizer=train", "model.tokenizer.vocab_size=400"]
LOCAL = ["choose", "shots", "write", "text", "corpus"]
FOLDER = "metrics.lm_eval.include_path=./tasks"
MULTIPLE = {
    "output_type": "multiple_choice",
    "doc_to_text": "Turn around: {{input}}\nAnswer:",
    "doc_to_choice": ["red", "green blue", "small"],
    "doc_to_target": "{{output | length % 3}}",
    "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")],
}
TASKS = {
    "choose": MULTIPLE,
    "shots": {**MULTIPLE, "fewshot_split": "few", "num_fewshot": 2},
    "choose_again": {**MULTIPLE, "doc_to_text": "{{output}}"},
    "write": {
        "output_type": "generate_until",
        "doc_to_text": "{{instruction}}",
        "doc_to_target": "{{output}}",
        "generation_kwargs": {"until": ["red"], "max_gen_toks": 12, "do_sample": False},
        "filter_list": [
            {"name": "whole", "filter": [{"function": "take_first"}]},
            {"name": "first", "filter": [{"function": "regex", "regex_pattern": "(\\w)"}, {"function": "take_first"}]},
        ],
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    },
    "text": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{output}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "corpus": {
        "output_type": "generate_until",
        "doc_to_text": "{{input}}",
        "doc_to_target": "{{input}}",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 8, "do_sample": False},
        "metric_list": [{"metric": "chrf", "aggregation": "chrf", "higher_is_better": True}],
    },
}
GROUPS = {"by_size": True, "by_task": False}


def write_tasks(folder):
    """Write task files that read local rows, and two groups of the tasks."""
    folder.mkdir()
    for name, rows in (("rows", instruction_rows(17)), ("few", instruction_rows(5))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name, task in TASKS.items():
        few = folder / "few.jsonl"
        rows = few if name == "choose_again" else folder / "rows.jsonl"
        data = {
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(rows), "few": str(few)}},
            "test_split": "test",
        }
        text = yaml.safe_dump({"task": name, **data, **task, "metadata": {"version": 1.0}})
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    for name, by_size in GROUPS.items():
        members = ["choose", "choose_again"]
        metrics = [{"metric": "acc", "aggregation": "mean", "weight_by_size": by_size}]
        text = yaml.safe_dump({"group": name, "task": members, "aggregate_metric_list": metrics})
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with two runs of different ranks and task files; the command runs there."""
    with new_lab(tmp_path_factory.mktemp("benchmarks")) as folder:
        write_tasks(folder / "tasks")
        records = []
        for rank in (2, 4):
            assert cli.main(["train", *TINY, *SHORT, f"tuning.r={rank}", "generation.max_new_tokens=16"]) == 0
            records.append(RunRecord.open(newest_run(folder)))
        yield records


def evaluate(record, tasks, *words):
    chosen = f"metrics.lm_eval.tasks=[{','.join(tasks)}]"
    return cli.main(["evaluate", str(record.path), "metrics=lm_eval", chosen, *words])


def library_results(folder, tasks, **settings):
    """Return what the library's own command measures on an exported folder.

    The folder's limit on the length of answers is removed, since it would override that of a task.
    """
    import lm_eval

    file = Path(folder) / "generation_config.json"
    config = {name: value for name, value in json.loads(file.read_text()).items() if name != "max_new_tokens"}
    file.write_text(json.dumps(config))
    return lm_eval.simple_evaluate(
        "hf",
        {"pretrained": str(folder), "dtype": "float32"},
        tasks=list(tasks),
        batch_size=8,
        device="cpu",
        bootstrap_iters=0,
        task_manager=lm_eval.tasks.TaskManager(include_path="tasks", include_defaults=False),
        **settings,
    )


@pytest.mark.slow
@pytest.mark.parametrize("chat", [False, True])
def test_values_are_those_of_the_library_on_the_exported_model(runs, chat):
    record, name = runs[0], f"equal-{chat}"
    folder = f"exported-{chat}"
    assert cli.main(["export", str(record.path), folder]) == 0
    settings = ["evaluation.before=false", f"metrics.lm_eval.chat_template={chat}".lower()]
    tasks = [one for one in LOCAL if not (chat and one == "text")]  # whole texts are no conversation
    assert evaluate(record, tasks, FOLDER, *settings, "--name", name) == 0
    expected = library_results(folder, tasks, apply_chat_template=chat, fewshot_as_multiturn=chat)["results"]
    measured = EvaluationFiles(record, name).summary.metrics
    compared = 0
    for task in tasks:
        for key, value in expected[task].items():
            metric, _, filter_name = key.partition(",")
            if not isinstance(value, float) or "stderr" in key:
                continue
            full_name = f"{task}/{metric}" if filter_name == "none" else f"{task}/{metric},{filter_name}"
            assert measured[full_name]["after"].value == pytest.approx(value, rel=1e-9, abs=1e-9), full_name
            compared += 1
    assert compared == len(measured)
    tasks = f"metrics.lm_eval.tasks=[{','.join(tasks)}]"
    assert cli.main(["evaluate", folder, "metrics=lm_eval", tasks, FOLDER, *settings[1:], "--name", name]) == 0
    (of_folder,) = Path("runs").glob(f"model-exported-{chat}/*")
    again = EvaluationFiles(RunRecord.open(of_folder), name).summary.metrics
    for full_name, systems in measured.items():
        assert again[full_name]["after"].value == pytest.approx(systems["after"].value, rel=1e-9, abs=1e-9)


@pytest.mark.slow
def test_groups_have_the_values_of_the_library(runs):
    record = runs[0]
    assert cli.main(["export", str(record.path), "for_groups"]) == 0
    for group in GROUPS:
        settings = ["evaluation.by_source=true", "evaluation.before=false", "--name", group]
        assert evaluate(record, [group], FOLDER, *settings) == 0
        measured = EvaluationFiles(record, group).summary.metrics
        found = library_results("for_groups", [group])
        assert measured[f"{group}/acc"]["after"].value == pytest.approx(found["groups"][group]["acc,none"], rel=1e-9)
        for task in ("choose", "choose_again"):
            value = found["results"][task]["acc,none"]
            assert measured[f"{group}/{task}/acc"]["after"].value == pytest.approx(value, rel=1e-9)


@pytest.mark.slow
def test_runs_are_paired_by_the_scores_of_single_examples(runs, capsys):
    for record in runs:
        assert evaluate(record, ["choose", "text", "cldr_languages"], FOLDER, "metrics.lm_eval.limit=12") == 0
    (name,) = [file.stem for file in (runs[0].path / "evaluations").glob("lm_eval+*.json")]
    capsys.readouterr()
    assert cli.main(["compare", *(str(one.path) for one in runs), "--on", name, "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    lines = [[one for one in EvaluationFiles(run, name).read_predictions() if one.split == "choose"] for run in runs]
    means = [math.fsum(one.scores["acc_norm"] for one in of_run) / len(of_run) for of_run in lines]
    (difference,) = compared["differences"]["choose/acc_norm"]
    assert len(lines[0]) == difference["count"] == 12
    assert abs(difference["value"]) == pytest.approx(abs(means[0] - means[1]), abs=1e-12)
    assert not compared["unpaired"]
    better = compared["best"]["text/word_perplexity"]
    values = [one["value"] for one in compared["metrics"]["text/word_perplexity"]]
    arms = [arm["id"] for arm in compared["arms"]]
    assert better == arms[values.index(min(values))]  # a perplexity is better when it is lower


@pytest.mark.slow
def test_a_killed_evaluation_measures_only_the_other_tasks(runs, monkeypatch):
    from instruct_lab.metrics.harness import tasks

    record, measure, names = runs[1], tasks._measure, []

    def dying(suite, lm, name, unit):
        if name == "write":
            raise KeyboardInterrupt
        names.append(name)
        return measure(suite, lm, name, unit)

    words = [FOLDER, "evaluation.before=false", "--name", "killed"]
    monkeypatch.setattr(tasks, "_measure", dying)
    assert evaluate(record, ["choose", "write"], *words) == 130
    monkeypatch.setattr(tasks, "_measure", lambda *given: names.append(given[2]) or measure(*given))
    assert evaluate(record, ["choose", "write"], *words) == 0
    assert names == ["choose", "write"]
    assert evaluate(record, ["choose", "write"], *words) == 0
    assert names == ["choose", "write"]  # measured before


@pytest.mark.slow
def test_a_run_measures_benchmarks_beside_its_metrics_and_logs_no_split_without_metrics(runs):
    chosen = ["+metrics.lm_eval={_target_: instruct_lab.metrics.LmEval, tasks: [cldr_currencies], limit: 6}"]
    assert cli.main(["train", *TINY, *SHORT, *chosen]) == 0
    record = RunRecord.open(newest_run(runs[0].path.parents[2]))
    metrics = record.summary.metrics
    assert {"test/chrf", "cldr_currencies/acc", "cldr_currencies/acc_norm"} <= set(metrics)
    assert set(metrics["cldr_currencies/acc"]) == {"before", "after", "difference"}
    assert metrics["cldr_currencies/acc"]["after"].count == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tasks", "words", "named"),
    [
        (["arc_eazy"], [], "Did you mean 'arc_easy'"),
        (["choos"], [FOLDER], "Did you mean 'choose'"),
        (["test"], [], "cannot be named"),
        (["tasks/choose.yaml"], [], "is a path"),
        (["choose"], ["metrics.lm_eval.include_path=tasks"], "--allow task-code"),
        (["choose"], ["metrics.lm_eval.include_path=./nowhere"], "there is no folder"),
        (["choose", "choose"], [FOLDER], "twice"),
    ],
)
def test_wrong_tasks_are_refused_before_anything_is_loaded(tmp_path, monkeypatch, capsys, tasks, words, named):
    write_lab(tmp_path)
    write_tasks(tmp_path / "tasks")
    monkeypatch.chdir(tmp_path)
    chosen = f"metrics.lm_eval.tasks=[{','.join(tasks)}]"
    assert cli.main(["check", *TINY, "metrics=lm_eval", chosen, *words]) == 2
    assert named in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_data_that_cannot_be_reached_is_an_error_of_one_paragraph(runs, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    capsys.readouterr()
    assert evaluate(runs[0], ["arc_easy"], "--name", "unreachable") == 1
    printed = capsys.readouterr().err
    assert "The tasks cannot be loaded" in printed
    assert "include_path" in printed
    assert "Traceback" not in printed


@pytest.mark.slow
def test_every_name_of_the_library_is_found_without_importing_it():
    from lm_eval.tasks import TaskManager

    from instruct_lab.metrics.harness.names import known_names

    assert not set(TaskManager().all_tasks) - known_names([])


POSITIVE = st.floats(-20, -0.01)


@pytest.mark.slow
@settings(max_examples=30)  # the library is imported by the first example
@given(st.lists(st.tuples(POSITIVE, st.integers(1, 9)), min_size=1, max_size=12))
def test_contributions_have_the_mean_that_the_library_computes(pairs):
    from lm_eval.api import metrics

    from instruct_lab.metrics.harness.scores import contributions

    labels = [(count % 2, int(value) % 2) for value, count in pairs]
    texts = [("a" * count, "ab" * (1 + int(-value))) for value, count in pairs]
    cases = [
        (metrics.mean, [value for value, _ in pairs]),
        (metrics.perplexity, [value for value, _ in pairs]),
        (metrics.weighted_perplexity, pairs),
        (metrics.bits_per_byte, pairs),
        (metrics.f1_score, labels),
        (metrics.chrf, texts),
        (metrics.median, [value for value, _ in pairs]),
    ]
    for aggregate, items in cases:
        rows = contributions(items, aggregate)
        assert len(rows) == len(items)
        assert math.fsum(row[0] for row in rows) / len(rows) == pytest.approx(aggregate(items), rel=1e-9, abs=1e-9)
        assert contributions([*items, None], aggregate)[-1] == [0.0, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["prompt_tuning", "prefix_tuning", "ia3"])
def test_an_adapted_model_answers_a_task_as_the_run_answers(runs, tuning):
    """Virtual tokens, which padding would move, and adapters that are not merged are decoded by the library alike."""
    from lm_eval.api.instance import Instance

    from instruct_lab.experiment.recorded import build_recorded
    from instruct_lab.generation import Generation
    from instruct_lab.metrics.harness._model import LoadedLM, decoding_as_exported
    from instruct_lab.training.workspace import Workspace

    assert cli.main(["train", *TINY, *SHORT, f"tuning={tuning}", "evaluation.before=false"]) == 0
    record = RunRecord.open(newest_run(runs[0].path.parents[2]))
    experiment, _ = build_recorded(record, uses_trackers=False, uses_data=False)
    loaded = Workspace(experiment).tuned(record.path, merged=False).loaded
    prompts = ["Turn around number 3", "red", "Question: what is green and small?\nAnswer:"]
    settings = {"until": [], "max_gen_toks": 10, "do_sample": False}
    requests = [Instance("generate_until", {}, (text, settings), index) for index, text in enumerate(prompts)]
    with decoding_as_exported(loaded, experiment.template):
        answers = LoadedLM(loaded, experiment.template, 3).generate_until(requests)
    tokenizer, stops = loaded.tokenizer, experiment.template.stop_token_ids(loaded.tokenizer)
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in prompts]
    own = Generation(max_new_tokens=10).generate_ids(loaded.model, encoded, stops, tokenizer.pad_token_id)
    expected = [tokenizer.decode(ids, skip_special_tokens=True) for ids in own]
    assert len(set(expected)) > 1
    assert [text.strip() for text in answers] == [text.strip() for text in expected]


@settings(max_examples=30)  # the library is imported by the first example
@given(st.lists(st.tuples(st.text("ab c", min_size=1), st.text("ab c")), min_size=2, max_size=8))
def test_scores_of_texts_without_one_example_are_those_of_the_library(pairs):
    from lm_eval.api import metrics

    from instruct_lab.metrics.harness import scores

    for aggregate in (metrics.bleu, metrics.chrf, metrics.chrfpp, metrics.ter):
        whole = aggregate(pairs)
        expected = [aggregate([*pairs[:index], *pairs[index + 1 :]]) for index in range(len(pairs))]
        assert scores._without_each(pairs, aggregate, whole) == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert aggregate.__name__ in scores.SUMMED


@pytest.mark.parametrize(
    ("likelihoods", "chosen"), [([-3.0, 0.0], "blue"), ([0.0, -1.0], "red"), ([-2.0, -1.0], "blue")]
)
def test_the_response_to_a_choice_is_the_most_likely_one(likelihoods, chosen):
    from instruct_lab.metrics.harness.scores import task_scores

    sample = {
        "filter": "none", "doc_id": 0, "doc_hash": "0" * 64, "target": 0, "metrics": [],
        "arguments": [["Colour:", " red"], ["Colour:", " blue"]], "resps": [[(one, False)] for one in likelihoods],
    }  # fmt: skip
    (prediction,) = task_scores("colours", None, [sample], str).predictions
    assert (prediction.text, prediction.references) == (chosen, ("red",))


def test_scores_between_0_and_1_are_shown_with_more_digits():
    from instruct_lab.metrics import MetricValue
    from instruct_lab.pages.format import format_metric

    value = MetricValue(0.52318, 0.5, 0.55, 100, "lm_eval|task:arc_easy|score:acc|by:mean|better:higher")
    assert format_metric(value) == "0.5232 [0.5000, 0.5500]"
    assert format_metric(MetricValue(0.52318, 0.5, 0.55, 100, "chrF2|nrefs:1")) == "0.52 [0.50, 0.55]"
