"""General texts: bits per byte and knowledge equal an independent computation, and each token counts once."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab import cli
from instruct_lab.batching import IGNORED
from instruct_lab.experiment.matrix import component_of
from instruct_lab.metrics import Forgetting, summarize
from instruct_lab.metrics.benchmark import score_of
from instruct_lab.metrics.general import forgetting, read_items
from instruct_lab.metrics.general.likelihoods import cut_windows, log_probabilities
from instruct_lab.records import RunRecord
from instruct_lab.records.evaluations import EvaluationFiles


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    model, cache = component_of("model", "tiny_random"), tmp_path_factory.mktemp("cache")
    torch.manual_seed(0)
    loaded = model.load(model.load_tokenizer(cache), cache)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return loaded


def expected_nats(loaded, context, continuation):
    """The negative log-probability of a continuation, by transformers' own loss on one text at a time."""
    tokenizer = loaded.tokenizer
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    before = tokenizer(context, add_special_tokens=False)["input_ids"]
    ids = [first, *tokenizer(context + continuation, add_special_tokens=False)["input_ids"]]
    labels = [-100] * (1 + len(before)) + ids[1 + len(before) :]
    with torch.inference_mode():
        loss = loaded.model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
    return float(loss) * sum(label != -100 for label in labels)


def test_both_values_equal_an_independent_computation(loaded, monkeypatch):
    items = read_items()[::8]
    monkeypatch.setattr(forgetting, "read_items", lambda: items)
    nats = [expected_nats(loaded, "", item.text) for item in items]
    right = []
    for item in items:
        context = f"Question: {item.question}\nAnswer:"
        scores = [expected_nats(loaded, context, f" {choice}") / len(choice.encode()) for choice in item.choices]
        right.append(scores.index(min(scores)) == 0)
    ((name, found),) = Forgetting().measure(loaded, None)
    values = {
        score: summarize(score_of(found.signatures[score]), rows, resamples=10).value
        for score, rows in found.rows.items()
    }
    assert name == "general"
    expected = sum(nats) / math.log(2) / sum(len(item.text.encode()) for item in items)
    assert values["bits_per_byte"] == pytest.approx(expected, rel=1e-4)
    assert values["knowledge"] == pytest.approx(100 * sum(right) / len(items))
    assert score_of(found.signatures["bits_per_byte"]).higher_is_better is False
    assert score_of(found.signatures["knowledge"]).higher_is_better is True
    assert not list(Forgetting().measure(loaded, None, known=["general"]))
    requests = [("", item.text) for item in items]
    assert log_probabilities(loaded, requests, 1) == pytest.approx(log_probabilities(loaded, requests, 9000), rel=1e-4)


@given(st.integers(2, 40), st.integers(1, 39), st.none() | st.integers(2, 50))
def test_windows_score_each_token_of_the_continuation_once(length, num_context, limit):
    ids = list(range(100, 100 + length))
    windows = cut_windows(ids, min(num_context, length - 1), limit)
    scored = [label for window in windows for label in window.labels if label != IGNORED]
    assert scored == ids[min(num_context, length - 1) :]
    for window in windows:
        assert limit is None or len(window.input_ids) <= limit
        assert window.labels[0] == IGNORED
        assert all(label in (IGNORED, token) for label, token in zip(window.labels, window.input_ids, strict=True))


def test_the_items_are_of_many_kinds_and_well_formed():
    items = read_items()
    assert len({item.text for item in items}) == len({item.question for item in items}) == len(items) == 48
    assert len({item.kind for item in items}) == 16
    assert all(len(set(item.choices)) == 4 and item.text.strip() and item.question.endswith("?") for item in items)


@pytest.mark.slow
def test_a_run_measures_what_it_has_forgotten_and_runs_are_compared_by_it(train, lab, capsys):
    words = ["metrics=[perplexity,forgetting]", "evaluation.splits=[test]", "trainer.max_steps=4", "optimizer.lr=0.05"]
    records = [RunRecord.open(train(*words, f"tuning.r={rank}")) for rank in (2, 4)]
    for record in records:
        values = record.summary.metrics["general/bits_per_byte"]
        assert values["after"].count == values["before"].count == 48
        assert values["difference"].value == pytest.approx(values["after"].value - values["before"].value)
        assert values["after"].value != values["before"].value
        assert "general/perplexity" not in record.summary.metrics
        assert "test/bits_per_byte" not in record.summary.metrics
    assert records[0].summary.value("general/bits_per_byte", "before") == records[1].summary.value(
        "general/bits_per_byte", "before"
    )
    capsys.readouterr()
    assert cli.main(["compare", *(str(record.path) for record in records), "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)["differences"]
    assert {"general/bits_per_byte", "general/knowledge"} <= set(compared)
    assert cli.main(["evaluate", str(records[0].path), "metrics=forgetting"]) == 0
    (name,) = [file.stem for file in (records[0].path / "evaluations").glob("*.json")]
    again = EvaluationFiles(records[0], name).summary
    for system in ("before", "after"):
        name = "general/bits_per_byte"
        assert again.value(name, system).value == records[0].summary.value(name, system).value


@pytest.mark.slow
def test_models_that_are_no_decoders_are_refused(lab, tiny, capsys):
    words = ["model=tiny_encoder_decoder", "template=contents", "metrics=forgetting"]
    assert cli.main(["check", *tiny, *words]) == 2
    assert "Forgetting works with decoder models" in capsys.readouterr().err
    sweep = ["check", "-m", *tiny, "metrics=forgetting", "sweep.direction=minimize", "tuning.r=2,4"]
    assert cli.main([*sweep, "sweep.metric=general/bits_per_byte"]) == 0
    assert cli.main([*sweep, "sweep.metric=test/bits_per_byte"]) == 2
