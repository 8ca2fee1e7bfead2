"""Scores and answers do not depend on how an evaluation is divided into batches and between ranks."""

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.exhaustive import exhaustive

from instruct_lab.batch_limits import BatchLimits, apply_limits
from instruct_lab.batching.table import ExampleTable, to_batches, write_batches
from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.evaluation.examples import EvaluatedExamples
from instruct_lab.evaluation.measure import measure
from instruct_lab.evaluation.ranks import divide_by_length
from instruct_lab.evaluation.reference import _log_probabilities
from instruct_lab.evaluation.scores import score_examples
from instruct_lab.experiment.check import check

LENGTHS = [3, 60, 1, 25, 2, 40, 7, 90, 4, 30]
RANGE = "+model.weights.settings.initializer_range=0.4"  # so that answers differ


def prepared(lab, *overrides):
    """The settings of an evaluation, a random model, and conversations of very different lengths as examples."""
    smaller = ("data=mine", "model=tiny_random", "template=plain", "generation.max_new_tokens=8", RANGE)
    experiment = check([*smaller, *overrides]).or_refuse().experiment
    tokenizer = experiment.model.load_tokenizer(lab)
    loaded = experiment.model.load(tokenizer, lab)
    conversations = []
    for number, length in enumerate(LENGTHS):
        text = "".join(chr(97 + (number * 5 + 3 * letter) % 26) for letter in range(length))
        messages = (Message("user", text), Message("assistant", text[::-1] + "."))
        rejected = (Message("assistant", text),) if experiment.objective.reads == "pairs" else ()
        conversations.append(Conversation(messages, id=f"id{number}", rejected=rejected))
    batching, template = experiment.batching, experiment.template
    examples = list(batching.encode(conversations, template, tokenizer, Audit(), "test", experiment.layout))
    assert len(examples) == len(LENGTHS)
    return experiment.evaluation_setup, loaded, EvaluatedExamples("test", conversations, examples, conversations)


@pytest.mark.parametrize("batch_tokens", [100, 400, None])
def test_likelihoods_are_those_of_each_example_on_its_own_in_the_order_of_the_examples(lab, batch_tokens):
    setup, loaded, evaluated = prepared(lab)

    def scores(limit, examples=evaluated.examples):
        limited = dataclasses.replace(setup, batch_tokens=limit)
        return [one.tokens.losses for one in score_examples(limited, loaded, examples, tokens=True, values=False)]

    expected = [scores(1, [example])[0] for example in evaluated.examples]
    assert len({len(losses) for losses in expected}) == len(LENGTHS)
    for found, losses in zip(scores(batch_tokens), expected, strict=True):
        assert found == pytest.approx(losses, rel=1e-5)
        assert sum(found) == pytest.approx(sum(losses), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [(), ("generation=sampling",), ("generation=beam",)], ids=["greedy", "sampled", "beam"]
)
def test_answers_are_those_of_each_prompt_on_its_own(lab, options):
    setup, loaded, evaluated = prepared(lab, *options, "metrics=text")

    def answers(limit):
        measured = measure(dataclasses.replace(setup, batch_tokens=limit), loaded, evaluated)
        return [(one.id, one.text) for one in measured.predictions]

    alone = answers(1)
    assert [name for name, _ in alone] == [one.id for one in evaluated.conversations]
    assert len({text for _, text in alone}) > 3
    assert answers(300) == answers(None) == alone


def test_log_probabilities_of_pairs_under_the_base_model_do_not_depend_on_the_batches(lab, tmp_path):
    (lab / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    data = ("data=local_preference", "data.train.file.path=pairs.jsonl")
    setup, loaded, evaluated = prepared(lab, *data, "objective=dpo")
    write_batches(tmp_path / "examples.arrow", to_batches(evaluated.examples))
    table = ExampleTable(tmp_path / "examples.arrow")
    alone, together = (
        _log_probabilities(dataclasses.replace(setup, batch_tokens=limit), loaded, table) for limit in (1, None)
    )
    assert together == pytest.approx(alone, rel=1e-6)
    assert len(set(alone.flatten())) == 2 * len(LENGTHS)


@contextlib.contextmanager
def room_for(loaded, most_rows):
    """Let the model's memory be exhausted by more rows than `most_rows`; gives the reductions."""

    def check(module, arguments, inputs):
        if len(inputs["input_ids"]) > most_rows:
            raise MemoryError(f"{len(inputs['input_ids'])} rows")

    reductions = []
    handle = loaded.model.register_forward_pre_hook(check, with_kwargs=True)
    with apply_limits(BatchLimits(report=reductions.append)):
        yield reductions
    handle.remove()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "most_rows"), [((), 1), exhaustive(("generation=sampling",), 1), (("generation=beam",), 4)]
)
def test_answers_and_likelihoods_are_the_same_when_memory_is_exhausted(lab, options, most_rows):
    setup, loaded, evaluated = prepared(lab, *options, "metrics=[text,perplexity]")
    setup = dataclasses.replace(setup, batch_tokens=800)
    whole = measure(setup, loaded, evaluated)
    with room_for(loaded, most_rows) as reductions:
        measured = measure(setup, loaded, evaluated)
        assert {one.work for one in reductions} <= {"answers", "likelihoods"}
        assert "answers" in {one.work for one in reductions}
        num_reductions = len(reductions)
        assert [one.text for one in measure(setup, loaded, evaluated).predictions] == [
            one.text for one in whole.predictions
        ]
        assert len(reductions) == num_reductions, "later batches start with the size that fitted"
    assert measured.predictions == whole.predictions
    for row, other in zip(measured.rows["perplexity"], whole.rows["perplexity"], strict=True):
        assert row == pytest.approx(other, rel=1e-5)


def test_log_probabilities_of_pairs_are_the_same_when_memory_is_exhausted(lab, tmp_path):
    (lab / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    setup, loaded, evaluated = prepared(
        lab, "data=local_preference", "data.train.file.path=pairs.jsonl", "objective=dpo"
    )
    write_batches(tmp_path / "examples.arrow", to_batches(evaluated.examples))
    table = ExampleTable(tmp_path / "examples.arrow")
    whole = _log_probabilities(setup, loaded, table)
    with room_for(loaded, 2) as reductions:
        assert _log_probabilities(setup, loaded, table) == pytest.approx(whole, rel=1e-6)
    assert {one.work for one in reductions} == {"log-probabilities"}


@given(st.lists(st.integers(1, 1000), max_size=60), st.integers(1, 5))
def test_ranks_get_every_example_once_and_about_the_same_number_of_tokens(lengths, num_ranks):
    shares = divide_by_length(lengths, num_ranks)
    assert sorted(index for share in shares for index in share) == list(range(len(lengths)))
    totals = [sum(lengths[index] for index in share) for share in shares]
    assert max(totals) - min(totals) <= max(lengths, default=0)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
