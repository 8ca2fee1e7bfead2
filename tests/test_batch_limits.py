"""Work that exhausts memory is done in halves, with the same results, and the next batches start with these."""

import contextvars
import weakref
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab import batch_limits
from instruct_lab.batch_limits import BatchLimits, Reduction, apply_limits, compute_in_parts
from instruct_lab.batching import Example, Padded


def limited(memory, calls=None):
    """Return a function that doubles its items if they fit into `memory`."""

    def compute(items):
        if sum(items) > memory:
            raise MemoryError(f"no room for {sum(items)}")
        if calls is not None:
            calls.append(list(items))
        return [2 * item for item in items]

    return compute


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=9), min_size=1, max_size=4), st.integers(9, 30))
def test_all_items_are_computed_once_whatever_fits(batches, memory):
    reductions, calls = [], []
    with apply_limits(BatchLimits(report=reductions.append)), mock.patch.object(batch_limits, "release_memory"):
        for batch in batches:
            results = compute_in_parts("likelihoods", batch, limited(memory, calls), sum)
            assert [value for part in results for value in part] == [2 * item for item in batch]
    assert [item for call in calls for item in call] == [item for batch in batches for item in batch]
    assert all(one.now < one.before and one.before > memory for one in reductions)
    fitting = [one.now for one in reductions if one.now <= memory]
    assert len(fitting) <= 1, "once a size fits, memory is not exhausted again"


@given(st.lists(st.integers(1, 9), max_size=6), st.integers(31, 40))
def test_an_item_that_does_not_fit_raises_the_error(fitting, large):
    with (
        apply_limits(BatchLimits(report=lambda _: None)),
        mock.patch.object(batch_limits, "release_memory"),
        pytest.raises(MemoryError, match=f"no room for {large}"),
    ):
        compute_in_parts("answers", [*fitting, large], limited(30), sum)


@pytest.mark.slow
def test_the_failed_attempt_leaves_nothing_in_memory():
    class Graph:
        pass

    left = []

    def compute(items):
        assert not left or left[0]() is None
        graph = Graph()
        graph.itself = graph
        left.append(weakref.ref(graph))
        return limited(1)(items)

    with apply_limits(BatchLimits(report=lambda _: None)):
        assert compute_in_parts("validation", [1, 1], compute, len) == [[2], [2]]
    assert len(left) == 3


def test_another_error_is_not_repeated():
    calls = []

    def fail(items):
        calls.append(items)
        raise ValueError("out of memory")

    with pytest.raises(ValueError, match="out of memory"):
        compute_in_parts("answers", [1, 2], fail, len)
    assert calls == [[1, 2]]


def test_limits_apply_from_their_step_on_and_only_to_their_work():
    recorded = [
        Reduction("training", 7, 8, 4, "x"),
        Reduction("training", 9, 4, 2, "x"),
        Reduction("answers", 0, 64, 32),
    ]
    limits = BatchLimits(recorded)
    found = []
    for limits.step in (0, 6, 7, 8, 9, 30):
        found.append(limits.largest("training"))
    assert found == [float("inf"), float("inf"), 4, 4, 2, 2]
    assert limits.largest("answers") == 32
    assert limits.largest("validation") == float("inf")


def test_without_a_run_a_reduction_is_printed(capsys):
    without_limits = contextvars.Context()  # so that later tests do not inherit the new limit
    assert without_limits.run(compute_in_parts, "likelihoods", [3, 3, 3], limited(6), sum) == [[6, 6], [6]]
    printed = " ".join(capsys.readouterr().err.split())
    assert "memory does not suffice (likelihoods: no room for 9)" in printed
    assert "at most 6 tokens are computed at a time instead of 9" in printed


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_part_is_the_batch_of_its_examples(size):
    pair = Example([1, 2, 3], [-100, 2, 3], "a", "one", rejected=Example([1, 2, 3, 4], [-100, -100, 3, 4], "a"))
    examples = [pair, *(Example([5] * n, [-100] + [5] * (n - 1), str(n), "two", rejected=pair) for n in (2, 6, 4, 3))]
    batching = Padded(pad_to_multiple_of=4)
    (batch,) = batching.loader(examples, seed=0, pad_token_id=0)
    parts = list(batch.parts(size))
    by_id = {one.id: one for one in examples}
    assert [name for part in parts for name in part.ids] == batch.ids
    for part, start in zip(parts, range(0, 5, size), strict=True):
        expected = batching.collate([by_id[name] for name in batch.ids[start : start + size]], 0)
        for name in ("input_ids", "attention_mask", "labels"):
            assert torch.equal(getattr(part, name), getattr(expected, name))
        assert (part.sources, part.is_paired) == (expected.sources, True)
