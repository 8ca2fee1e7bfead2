"""Batches are divided into parts of similar length where that saves positions, and into nothing else."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab.batching import Example, Packed, Padded
from instruct_lab.batching.division import divide_batch, divide_lengths
from instruct_lab.batching.prefixes import PASS_POSITIONS


def work(lengths, bounds, shared):
    """The positions and the cost of the passes of some parts, counted one by one."""
    total = 0
    for start, end in bounds:
        rows = [[length - shared for length in example] for example in lengths[start:end]]
        padded = [max(column) * len(rows) for column in zip(*rows, strict=True)]
        total += sum(padded) + shared + PASS_POSITIONS * (2 if shared else 1)
    return total


@given(
    st.integers(1, 2).flatmap(
        lambda sequences: st.lists(
            st.lists(st.integers(3, 300), min_size=sequences, max_size=sequences), min_size=1, max_size=7
        )
    ),
    st.integers(0, 2),
)
def test_the_division_has_the_least_work_of_all(lengths, shared):
    count = len(lengths)
    cuts = (cut for size in range(count) for cut in itertools.combinations(range(1, count), size))
    least = min(work(lengths, list(itertools.pairwise([0, *cut, count])), shared) for cut in cuts)
    bounds = divide_lengths(np.array(lengths), shared)
    assert [start for start, _ in bounds] == [0, *(end for _, end in bounds[:-1])]
    assert bounds[-1][1] == count
    assert work(lengths, bounds, shared) == least


def example(length, index, first=1, **more):
    ids = [*range(1, first + 1), *([20 + index] * (length - first))]
    return Example(ids, [-100, *ids[1:]], str(index), "source", **more)


def pair(chosen, rejected, index):
    return example(chosen, index, rejected=example(rejected, index))


@pytest.mark.parametrize(
    ("examples", "sizes"),
    [
        ([example(length, i) for i, length in enumerate([40, 41, 43, 44, 300])], [4, 1]),
        ([example(length, i) for i, length in enumerate([40, 41, 43, 44, 50])], [5]),
        ([example(length, i) for i, length in enumerate([300, 40, 41, 300])], [1, 2, 1]),
        ([pair(30, 200, 0), pair(30, 30, 1), pair(31, 30, 2)], [1, 2]),
        ([example(length, i, first=30) for i, length in enumerate([60, 62, 61, 59, 61, 62, 60, 260])], [7, 1]),
        ([example(300, 0)], [1]),
    ],
)
def test_parts_keep_every_example_in_its_order(examples, sizes):
    batch = Padded().divisible_batch(examples, 0)
    parts = divide_batch(batch)
    assert [part.num_examples for part in parts] == sizes
    assert [name for part in parts for name in part.ids] == batch.ids
    tokens = [
        ids[mask == 1].tolist() for part in parts for ids, mask in zip(part.input_ids, part.attention_mask, strict=True)
    ]
    rows = [one for e in examples for one in (e, e.rejected) if one is not None]
    assert sorted(tokens) == sorted(row.input_ids for row in rows)
    assert all(piece.num_examples == 1 for part in parts for piece in part.parts(1))  # a part can be divided again


def test_batches_that_cannot_be_divided_stay_whole():
    examples = [example(length, i) for i, length in enumerate([40, 300])]
    packed, plain = Packed(max_tokens=400), Padded()
    for batch in (packed.divisible_batch(examples, 0), plain.collate(examples, 0)):
        assert divide_batch(batch) == [batch]
    elsewhere = plain.divisible_batch(examples, 0).to("meta")
    assert len(divide_batch(elsewhere)) == 1
    assert elsewhere.input_ids.device == torch.device("meta")
