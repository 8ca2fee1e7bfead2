"""Batches of an evaluation: every example once, of similar length, and within the limits."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_lab.batching import Example, Padded
from instruct_lab.batching.reference import ReferencedExamples
from instruct_lab.batching.table import ExampleTable, to_batches, write_batches
from instruct_lab.batching.token_budget import MAX_PADDING, batches_by_length, widths_of

SIZES = {1: st.integers(1, 40), 2: st.tuples(st.integers(1, 40), st.integers(1, 20))}
WIDTHS = st.sampled_from([1, 2]).flatmap(lambda sequences: st.lists(SIZES[sequences], max_size=70))
shapes = settings(max_examples=200)


def positions_of(table, batch):
    """The positions of one example of a padded batch."""
    return int(table.reshape(len(table), -1)[batch].max(axis=0).sum())


@shapes
@given(WIDTHS, st.integers(1, 400), st.integers(1, 4), st.integers(0, 30), st.none() | st.integers(1, 9))
def test_batches_hold_every_example_once_and_keep_all_limits(sizes, batch_tokens, num_devices, added, max_rows):
    table = np.array(sizes, dtype=np.int64).reshape(len(sizes), *np.shape(sizes)[1:])
    options = {"num_devices": num_devices, "added": added, "max_rows": max_rows}
    batches = batches_by_length(table, batch_tokens, **options)
    assert sorted(index for batch in batches for index in batch.tolist()) == list(range(len(sizes)))
    for batch in batches:
        positions = positions_of(table, batch)
        assert len(batch) * positions <= MAX_PADDING * table[batch].sum()
        if len(batch) > 1:
            assert -(-len(batch) // num_devices) * (positions + added) <= batch_tokens
            assert max_rows is None or len(batch) <= max_rows


@shapes
@given(st.lists(SIZES[1], min_size=1, max_size=70), st.integers(1, 400))
def test_a_batch_ends_only_at_a_limit(sizes, batch_tokens):
    table = np.array(sizes)
    batches = batches_by_length(table, batch_tokens)
    for batch, following in itertools.pairwise(batches):
        larger = np.append(batch, following[0])
        positions = len(larger) * positions_of(table, larger)
        assert positions > batch_tokens or positions > MAX_PADDING * table[larger].sum()
    widths = [positions_of(table, batch) for batch in batches]
    assert widths == sorted(widths, reverse=True), "the batch that needs the most memory is the first"


@shapes
@given(st.lists(SIZES[1], max_size=70), st.integers(1, 100), st.integers(1, 6), st.integers(1, 3))
def test_no_batch_has_fewer_examples_than_the_minimum(sizes, batch_tokens, min_rows, num_devices):
    options = {"min_rows": min_rows, "num_devices": num_devices}
    batches = batches_by_length(np.array(sizes, dtype=np.int64), batch_tokens, **options)
    assert sorted(index for batch in batches for index in batch.tolist()) == list(range(len(sizes)))
    assert all(len(batch) >= min(min_rows, len(sizes)) for batch in batches)


def test_examples_that_are_compared_are_not_alone_in_a_batch_of_the_loader():
    examples = [example(length) for length in (90, 1, 30, 2, 40)]
    batches = Padded().loader(examples, batch_tokens=1, min_examples=2, seed=0, pad_token_id=0)
    assert sorted(len(batch.input_ids) for batch in batches) == [2, 3]
    assert len(Padded().loader(examples, batch_tokens=1, seed=0, pad_token_id=0)) == 5


@given(st.lists(SIZES[1], max_size=50))
def test_without_padding_all_examples_of_a_batch_have_one_length(sizes):
    for batch in batches_by_length(np.array(sizes, dtype=np.int64), 10**9, max_padding=1):
        assert len({sizes[index] for index in batch}) == 1


@pytest.mark.parametrize(
    ("sizes", "batch_tokens", "expected"),
    [
        ([5, 5, 5, 5], 10, [[0, 1], [2, 3]]),
        ([3, 100, 3, 100], 50, [[1], [3], [0, 2]]),  # examples above the limit are alone
        ([10, 1, 10, 1, 10], 1000, [[0, 2, 4], [1, 3]]),  # together, they would be padded too much
        ([], 10, []),
    ],
)
def test_examples_of_batches(sizes, batch_tokens, expected):
    found = batches_by_length(np.array(sizes, dtype=np.int64), batch_tokens)
    assert [batch.tolist() for batch in found] == expected


def example(inputs, labels=None, rejected=None, name=""):
    other = None if rejected is None else example(*rejected)
    return Example([1] * inputs, [1] * (inputs if labels is None else labels), name, rejected=other)


DECODER = [example(3), example(7), example(5)]
TWO_SEQUENCES = [example(3, 9), example(7, 7), example(5, 2)]
PAIRS = [example(3, rejected=(8, 8)), example(7, rejected=(4, 4))]
SOME_PAIRS = [example(3, rejected=(8, 8)), example(7)]


@pytest.mark.parametrize(
    ("examples", "expected"),
    [
        (DECODER, [[3], [7], [5]]),
        (TWO_SEQUENCES, [[3, 9], [7, 7], [5, 2]]),
        (PAIRS, [[8, 8], [7, 7]]),
        (SOME_PAIRS, [[8, 8], [7, 0]]),
    ],
    ids=["one sequence", "two sequences", "pairs", "some pairs"],
)
def test_widths_are_those_of_the_padded_batch(examples, expected, tmp_path):
    assert widths_of(examples).tolist() == expected
    write_batches(tmp_path / "examples.arrow", to_batches(examples))
    table = ExampleTable(tmp_path / "examples.arrow")
    assert widths_of(table).tolist() == expected
    assert widths_of(ReferencedExamples(table, np.zeros((len(table), 2)))).tolist() == expected
    batch = Padded().collate(examples, 0)
    computed = batch.input_ids.numel() + (batch.labels.numel() if examples is TWO_SEQUENCES else 0)
    widths = widths_of(examples)
    assert computed <= len(examples) * widths.max(axis=0).sum()
    if examples is not SOME_PAIRS:
        assert computed == len(examples) * widths.max(axis=0).sum()


def test_the_positions_to_which_a_batch_is_rounded_up_count():
    batching = Padded(pad_to_multiple_of=8)
    examples = [example(length) for length in (1, 9, 8, 17)]
    assert batching.widths(examples).tolist() == [[8], [16], [8], [24]]
    for batch in batching.evaluation_batches(examples, 32):
        assert batching.collate([examples[index] for index in batch], 0).input_ids.numel() <= 32
