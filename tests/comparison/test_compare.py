"""Runs compared on planted scores: no difference where there is none, and a real one found."""

import dataclasses
import json
import math
import random

import numpy as np
import pytest
from support.planted_runs import NAME, record_of, rows_of

from instruct_lab import cli
from instruct_lab.comparison.compare import compare
from instruct_lab.comparison.scores import RunScores, noise_of
from instruct_lab.comparison.text import answer, markdown
from instruct_lab.errors import InstructLabError
from instruct_lab.metrics import ExactMatch
from instruct_lab.metrics.intervals import paired_difference, summarize
from instruct_lab.metrics.signatures import with_engine
from instruct_lab.records.record import RunRecord

NUM_EXAMPLES = 100


def outcomes_of(generator, hardness, ability=0.0):
    return generator.random(len(hardness)) < 1 / (1 + np.exp(-(hardness + ability)))


def scores_of(groups, resamples=400):
    """Scores of runs, and the indices of the runs of each configuration."""
    groups_of_runs, rows = [], []
    for group in groups:
        groups_of_runs.append(range(len(rows), len(rows) + len(group)))
        rows += [rows_of(outcomes) for outcomes in group]
    return RunScores(ExactMatch(), rows, groups_of_runs, resamples=resamples), groups_of_runs


@pytest.mark.slow
def test_a_thousand_null_pairs_differ_in_one_of_twenty():
    generator = np.random.default_rng(0)
    false = 0
    for _ in range(1000):
        hardness = generator.normal(size=NUM_EXAMPLES)
        scores, groups_of_runs = scores_of([[outcomes_of(generator, hardness)] for _ in range(2)])
        ((_, probability),) = scores.differences(groups_of_runs, scores.best(groups_of_runs))
        false += probability < 0.05
    print(f"false positives: {false / 10:.1f} %")
    assert 30 <= false <= 70


@pytest.mark.slow
@pytest.mark.parametrize(("arms", "seeds"), [(8, 1), (3, 3)])
def test_of_several_equal_configurations_one_differs_from_the_best_in_one_of_twenty_comparisons(arms, seeds):
    generator = np.random.default_rng(1)
    false, count = 0, 200
    for _ in range(count):
        hardness = generator.normal(size=NUM_EXAMPLES)
        chance = 0.6 if seeds > 1 else 0.0
        groups = [
            [outcomes_of(generator, hardness, chance * generator.normal()) for _ in range(seeds)] for _ in range(arms)
        ]
        scores, groups_of_runs = scores_of(groups)
        plain = scores.differences(groups_of_runs, scores.best(groups_of_runs))
        false += any(probability < 0.05 for _, probability in plain)
    print(f"{arms} configurations of {seeds} runs: {false / count:.1%} of comparisons find a difference")
    assert 0.01 * count <= false <= 0.09 * count


def test_the_randomness_of_training_is_estimated_from_seeds():
    """Two configs whose runs differ by chance: one seed of each looks like a difference, several do not."""
    generator = np.random.default_rng(2)
    hardness = generator.normal(size=400)
    luck = (1.0, -1.2, 0.1)
    groups = [[outcomes_of(generator, hardness, one) for one in order] for order in (luck, luck[1:] + luck[:1])]
    one, groups_of_runs = scores_of([groups[0][:1], groups[1][:1]])
    assert one.noise is None
    assert one.differences(groups_of_runs, 0)[0][1] < 0.05
    several, groups_of_runs = scores_of(groups)
    assert several.noise.freedom == 4
    assert several.differences(groups_of_runs, several.best(groups_of_runs))[0][1] > 0.05
    narrow, wide = one.mean([0]), several.mean([0])
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_the_noise_is_the_pooled_deviation_within_configurations():
    noise = noise_of([1.0, 3.0, 10.0, 10.0, 16.0, 99.0], [(0, 1), (2, 3, 4), (5,)])
    assert noise.freedom == 3
    assert noise.deviation == pytest.approx(math.sqrt((2 + 24) / 3))
    assert noise_of([1.0, math.inf], [(0, 1)]) is None


def test_a_real_difference_is_found_though_the_intervals_overlap(tmp_path):
    source = random.Random(0)
    first = [source.random() < 0.5 for _ in range(NUM_EXAMPLES)]
    second = [right or source.random() < 0.2 for right in first]
    records = [
        record_of(tmp_path, name, outcomes, choices={"tuning": tuning}, config={"tuning": {"kind": tuning, "r": 8}})
        for name, outcomes, tuning in (("a", first, "lora"), ("b", second, "dora"))
    ]
    compared = compare(records)
    (difference,) = compared.differences[NAME]
    assert compared.best[NAME] == "b"
    assert difference.verdict == "differs on these examples (one run each: training noise unknown)"
    expected = paired_difference(ExactMatch(), rows_of(second), rows_of(first))
    assert (difference.value, difference.low, difference.high) == (expected.value, expected.low, expected.high)
    summary = summarize(ExactMatch(), rows_of(first))
    assert (compared.means[NAME][0].low, compared.means[NAME][0].high) == (summary.low, summary.high)
    assert compared.config == {"tuning.kind": ["lora", "dora"]}
    assert compared.choices == {"tuning": ["lora", "dora"]}
    assert [arm.label for arm in compared.arms] == ["lora", "dora"]
    best, worse, note = answer(compared)
    assert best.startswith("Best by test/exact_match: dora, ")
    assert worse == "Worse on these examples (one run each: training noise unknown): lora."
    assert note.startswith("One run each")


def test_runs_that_differ_only_in_the_seed_are_one_configuration(tmp_path):
    generator = np.random.default_rng(3)
    hardness = generator.normal(size=NUM_EXAMPLES)
    records = []
    for r in (4, 8):
        for seed in range(3):
            outcomes = outcomes_of(generator, hardness, 3.0 * (r == 8))
            records.append(record_of(tmp_path, f"x-{r:04d}-s{seed}", outcomes, {"tuning": {"r": r}}, seed=seed))
    compared = compare(records)
    assert [(arm.id, arm.label, arm.runs) for arm in compared.arms] == [
        ("x-0004", "r=4", (0, 1, 2)),
        ("x-0008", "r=8", (3, 4, 5)),
    ]
    assert compared.noise[NAME].freedom == 4
    values = [compared.metrics[NAME][run].value for run in compared.arms[0].runs]
    assert compared.means[NAME][0].value == pytest.approx(np.mean(values))
    assert [one.verdict for one in compared.differences[NAME]] == ["differs"]
    assert "mean of 3 runs" in answer(compared)[0]
    assert not any(sentence.startswith("One run each") for sentence in answer(compared))


def test_equal_runs_are_not_distinguishable_and_other_examples_are_not_paired(tmp_path):
    outcomes = [number % 3 == 0 for number in range(NUM_EXAMPLES)]
    same = compare([record_of(tmp_path, "a", outcomes), record_of(tmp_path, "b", outcomes[::-1], {"x": 1})])
    assert [one.verdict for one in same.differences[NAME]] == ["not distinguishable"]
    other = record_of(tmp_path, "c", outcomes, ids=range(1000, 1000 + NUM_EXAMPLES))
    apart = compare([RunRecord.open(tmp_path / "planted" / "a"), other])
    assert apart.differences == {}
    assert "same examples" in apart.unpaired[NAME]
    assert "same examples" in answer(apart)[0]


def test_examples_whose_references_changed_are_not_the_same(tmp_path):
    outcomes = [True, False] * 20
    records = [record_of(tmp_path, name, outcomes, {"x": name}) for name in ("a", "b")]
    plain = records[1].read_json("after.json")
    plain["test"]["after"]["predictions"][7]["references"] = ["  yes \n"]
    records[1].write_json("after.json", plain)
    assert compare(records).unpaired == {}
    plain["test"]["after"]["predictions"][7]["references"] = ["Yes"]
    records[1].write_json("after.json", plain)
    assert "same examples" in compare(records).unpaired[NAME]


def measured_by(record, *signatures):
    """Write a value with each of these signatures into the summary of a planted run."""
    summary = record.summary
    for signature in signatures:
        summary.metrics[NAME]["after"] = dataclasses.replace(summary.metrics[NAME]["after"], signature=signature)
    record.write_summary(summary)
    return record


@pytest.mark.parametrize("signature", ["exact", "exact|empty:3|clusters:12", "exact|interval:t-percentile"])
def test_answers_of_different_engines_are_paired_only_if_that_is_asked_for(tmp_path, capsys, signature):
    outcomes = [number % 3 == 0 for number in range(40)]
    names = {"native": signature, "cb": with_engine(signature, "transformers_cb"), "vllm": "exact|engine:vllm"}
    for name, text in names.items():
        measured_by(record_of(tmp_path, name, outcomes, {"x": name}), text)
    found = {name: RunRecord.open(tmp_path / "planted" / name) for name in names}
    apart = compare([found["native"], found["cb"]])
    assert "different engines, native and transformers_cb: --across-engines" in apart.unpaired[NAME]
    assert "vllm" in compare([found["cb"], found["vllm"]]).unpaired[NAME]
    assert compare([found["native"], found["cb"]], across_engines=True).unpaired == {}
    runs = ["--runs", str(tmp_path), "--json"]
    assert cli.main(["compare", "native", "cb", *runs]) == 0
    assert list(json.loads(capsys.readouterr().out)["unpaired"]) == [NAME]
    assert cli.main(["compare", "native", "cb", "--across-engines", *runs]) == 0
    assert json.loads(capsys.readouterr().out)["unpaired"] == {}


def test_other_differences_of_signatures_are_not_excused_by_the_option(tmp_path):
    one, other = (record_of(tmp_path, name, [True, False] * 20, {"x": name}) for name in ("a", "b"))
    measured_by(other, "exact|case:lower|engine:vllm")
    assert "in the same way" in compare([one, other], across_engines=True).unpaired[NAME]
    measured_by(other, "exact|engine:vllm")
    assert compare([other, one], across_engines=True).unpaired == {}


def test_metrics_of_one_source_are_paired_on_its_own_examples(tmp_path):
    outcomes = [number % 2 == 0 for number in range(40)]
    records = [record_of(tmp_path, name, outcomes, {"x": name}) for name in ("a", "b")]
    for record, right in zip(records, (outcomes, [True] * 20 + outcomes[20:]), strict=True):
        plain = record.read_json("after.json")
        plain["test"]["after"] |= {"sources": ["left"] * 20 + ["right"] * 20, "rows": {"exact_match": rows_of(right)}}
        record.write_json("after.json", plain)
        summary = record.summary
        for source in ("left", "right"):
            summary.metrics[f"test/{source}/exact_match"] = summary.metrics[NAME]
        record.write_summary(summary)
    compared = compare(records)
    (left,), (right,) = (compared.differences[f"test/{source}/exact_match"] for source in ("left", "right"))
    assert (left.count, right.count) == (20, 20)
    assert (left.value, right.value) == (-50.0, 0.0)


def test_a_metric_that_no_run_has_is_refused_with_the_nearest(tmp_path):
    records = [record_of(tmp_path, name, [True, False], {"x": name}) for name in ("a", "b")]
    with pytest.raises(InstructLabError, match="test/exact_match"):
        compare(records, "test/exactmatch")


@pytest.mark.parametrize("form", [[], ["--json"], ["--markdown"], ["--metric", NAME]])
def test_the_command(tmp_path, capsys, form):
    source = random.Random(1)
    for name in ("a", "b"):
        record_of(tmp_path, name, [source.random() < 0.5 for _ in range(NUM_EXAMPLES)], {"x": name})
    assert cli.main(["compare", "a", "b", "--runs", str(tmp_path), *form]) == 0
    shown = capsys.readouterr().out
    if form == ["--json"]:
        plain = json.loads(shown)
        assert plain["runs"] == ["a", "b"]
        (one,) = plain["differences"][NAME]
        assert one["verdict"].startswith(("differs on these examples", "not distinguishable"))
        assert math.isfinite(one["probability"])
        assert len(plain["disagreements"]) == 3
    else:
        assert NAME in shown
        assert "best" in shown
        assert "Where the two best differ most" in shown
    assert cli.main(["compare", "a", "--runs", str(tmp_path)]) == 2
    assert cli.main(["compare", "a", "b", "--runs", str(tmp_path), "--metric", "test/nothing"]) == 2


def test_markdown_keeps_hostile_text_in_its_cell(tmp_path):
    records = [record_of(tmp_path, name, [True, False], {"x": f"<b>{name}|"}) for name in ("a", "b")]
    written = markdown(compare(records))
    assert "&lt;b>a\\|" in written
    assert "<b>" not in written
