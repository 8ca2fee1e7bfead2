"""Examples on disk are those that were written, and every change changes their fingerprint."""

import copy

import pytest

from instruct_lab.batching import IGNORED, Example
from instruct_lab.batching import table as tables
from instruct_lab.batching.fingerprint import tokenizer_fingerprint
from instruct_lab.batching.table import ExampleTable, to_batches, write_batches


def example(number, ids=(5, 6, 7), trained=(0, 0, 1)):
    labels = [token if flag else IGNORED for token, flag in zip(ids, trained, strict=True)]
    return Example(list(ids), labels, str(number), "ab"[number % 2])


EXAMPLES = [example(n, range(1, n % 7 + 2), [k % 2 for k in range(n % 7 + 1)]) for n in range(40)]


def write(path, examples):
    write_batches(path, to_batches(examples))
    return ExampleTable(path)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_examples_read_equal_those_written(tmp_path, monkeypatch, batch) -> None:
    monkeypatch.setattr(tables, "BATCH_EXAMPLES", batch)
    found = write(tmp_path / "examples.arrow", EXAMPLES)
    assert list(found) == EXAMPLES
    assert [found[index] for index in range(-1, len(found))] == [EXAMPLES[-1], *EXAMPLES]
    assert found[3:5] == EXAMPLES[3:5]
    assert list(found.ids()) == [one.id for one in EXAMPLES]
    assert found.lengths.tolist() == [len(one.input_ids) for one in EXAMPLES]
    assert found.target_lengths.tolist() == [one.num_target_tokens for one in EXAMPLES]


def test_the_fingerprint_is_that_of_ids_and_labels_in_order(tmp_path, monkeypatch) -> None:
    first = write(tmp_path / "a.arrow", EXAMPLES).fingerprint()
    monkeypatch.setattr(tables, "BATCH_EXAMPLES", 3)
    assert write(tmp_path / "b.arrow", EXAMPLES).fingerprint() == first, "however it is cut into batches"
    others = [
        EXAMPLES[::-1],
        EXAMPLES[:-1],
        [example(0, trained=(0, 1, 1))],
        [example(0)],
        [example(0, (5, 6, 8))],
        [example(0, (5, 6), (0, 0)), example(0, (7,), (1,))],
    ]
    prints = {first, *(write(tmp_path / f"{n}.arrow", other).fingerprint() for n, other in enumerate(others))}
    assert len(prints) == 1 + len(others)


def test_answers_of_another_length_weights_and_pairs_are_kept(tmp_path) -> None:
    examples = [
        Example([1, 2, 3], [7, 8], "a", "s"),
        Example([1], [IGNORED], "b", "s", weights=[0.5]),
        Example([1, 2], [IGNORED, 2], "c", "t", rejected=Example([1, 4, 5], [IGNORED, 4, 5])),
    ]
    found = write(tmp_path / "a.arrow", examples)
    assert list(found) == examples
    assert found[0:3] == examples
    assert found.lengths.tolist() == [3, 1, 2]
    assert found.target_lengths.tolist() == [2, 0, 1]
    plain = [Example(e.input_ids, e.labels, e.id, e.source) for e in examples]
    assert write(tmp_path / "b.arrow", plain).fingerprint() != found.fingerprint()


def test_labels_are_kept_and_change_the_fingerprint(tmp_path, monkeypatch) -> None:
    labels = [True, False, None, None, True, False, True, None]
    examples = [Example([1, n], [IGNORED, n], str(n), desirable=label) for n, label in enumerate(labels)]
    found = write(tmp_path / "a.arrow", examples)
    assert list(found) == examples
    others = [[None] * 8, [not label for label in labels], labels[::-1]]
    prints = {found.fingerprint()}
    for number, other in enumerate(others):
        changed = [Example([1, n], [IGNORED, n], str(n), desirable=label) for n, label in enumerate(other)]
        prints.add(write(tmp_path / f"{number}.arrow", changed).fingerprint())
    assert len(prints) == 1 + len(others)
    monkeypatch.setattr(tables, "BATCH_EXAMPLES", 2)
    assert write(tmp_path / "b.arrow", examples).fingerprint() == found.fingerprint(), "however it is cut into batches"


def test_no_example_is_a_table_too(tmp_path) -> None:
    found = write(tmp_path / "a.arrow", [])
    assert len(found) == 0
    assert found.lengths.tolist() == []


def test_the_tokenizer_s_fingerprint_depends_on_what_decides_ids_and_on_nothing_else() -> None:
    from support.chat_tokenizers import byte_level

    tokenizer = copy.deepcopy(byte_level("chatml"))  # others use it too
    first = tokenizer_fingerprint(tokenizer)
    tokenizer(["a", "b b b"], padding=True, truncation=True, max_length=2)
    assert tokenizer_fingerprint(tokenizer) == first, "what a call left behind does not count"
    assert tokenizer_fingerprint(byte_level("llama3")) != first
    tokenizer.chat_template += " "
    changed = tokenizer_fingerprint(tokenizer)
    assert changed != first
    tokenizer.add_tokens(["<new>"])
    assert tokenizer_fingerprint(tokenizer) != changed
