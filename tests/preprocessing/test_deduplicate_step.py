"""Exact duplicates: the compared part and text, the row that is kept, and other splits."""

import dataclasses
import re
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab.data import Audit, Conversation, Message, normalize_text
from instruct_lab.data.words import compared_words
from instruct_lab.preprocessing.base import Context
from instruct_lab.preprocessing.duplicates import DeduplicateExact
from instruct_lab.preprocessing.duplicates.clusters import LargestClusters
from instruct_lab.preprocessing.duplicates.key_table import KeyTable

STAGE = "preprocessing/train/deduplicate"


def talk(*contents: str, roles=("user", "assistant"), **fields) -> Conversation:
    return Conversation(tuple(Message(roles[n % len(roles)], text) for n, text in enumerate(contents)), **fields)


def run(step: DeduplicateExact, rows, split="train", **splits):
    audit = Audit()
    kept = list(step.apply(rows, Context(STAGE, audit, split=split, splits=splits)))
    counts = {tally.reason: tally.count for tally in audit.tallies.values() if tally.action == "dropped"}
    assert {tally.action for tally in audit.tallies.values()} <= {"dropped", "reported"}
    return [[message.content for message in row.messages] for row in kept], counts, audit.facts.get(STAGE, {})


ROWS = [talk("Hi", "a"), talk("hi!", "A"), talk("Hi", "b"), talk("Ho", "a")]


@pytest.mark.parametrize("keep", ["first", "longest"])
def test_duplicates_are_dropped_by_the_part_that_is_named(keep) -> None:
    def kept(**fields) -> list[list[str]]:
        return run(DeduplicateExact(keep=keep, **fields), ROWS)[0]

    assert len(kept(compare="words")) == 3
    assert len(kept(by="prompt", compare="words")) == len(kept(by="answer", compare="words")) == 2
    assert kept() == [["Hi", "a"], ["hi!", "A"], ["Hi", "b"], ["Ho", "a"]]
    assert kept(by="prompt") == [["Hi", "a"], ["hi!", "A"], ["Ho", "a"]]


@pytest.mark.parametrize("compare", ["words", "characters"])
def test_equal_answers_with_opposite_labels_are_no_duplicates(compare) -> None:
    labels = [True, False, True, None]
    rows = [talk("Hi", "a", desirable=desirable) for desirable in labels]
    assert len(run(DeduplicateExact(compare=compare), rows)[0]) == len({*labels})
    assert len(run(DeduplicateExact(compare=compare, by="answer"), rows)[0]) == 1
    assert len(run(DeduplicateExact(compare=compare), [talk("", "", desirable=True)] * 2)[0]) == 2, "nothing to compare"


def test_the_first_stays_and_the_others_are_counted() -> None:
    kept, counts, _ = run(DeduplicateExact(by="prompt", compare="words"), ROWS)
    assert kept == [["Hi", "a"], ["Ho", "a"]]
    assert counts == {"exact duplicate of an earlier row (same prompt)": 2}


def test_the_longest_is_kept_at_its_position_and_the_first_of_equal_ones() -> None:
    rows = [
        talk("Q", "short"),
        talk("other", "x"),
        talk("q", "a longer one"),
        talk("q?", "a longer on"),
        talk("Q", "s"),
    ]
    kept, counts, _ = run(DeduplicateExact(by="prompt", keep="longest", compare="words"), rows)
    assert kept == [["other", "x"], ["q", "a longer one"]]
    assert counts == {"exact duplicate of a row at least as long (same prompt)": 3}
    assert run(DeduplicateExact(by="prompt", keep="longest"), [talk("q", "ab"), talk("q", "cd")])[0] == [["q", "ab"]]


def test_message_boundaries_and_roles_count() -> None:
    assert len(run(DeduplicateExact(), [talk("a b", "c"), talk("a", "b c")])[0]) == 2
    assert len(run(DeduplicateExact(), [talk("a", "b"), talk("a", "b", roles=("system", "user"))])[0]) == 2


def test_rejected_answers_count_for_the_conversation_but_not_for_the_answer() -> None:
    rows = [talk("q", "a", rejected=(Message("assistant", text),)) for text in "xyx"]
    assert len(run(DeduplicateExact(), rows)[0]) == 2
    assert len(run(DeduplicateExact(by="answer"), rows)[0]) == 1


def test_a_reference_is_the_answer_if_no_message_is() -> None:
    rows = [talk("q", "a"), talk("q", references=("a",)), talk("q", references=("b",))]
    kept, counts, _ = run(DeduplicateExact(), rows)
    assert kept == [["q", "a"], ["q"]]
    assert counts == {"exact duplicate of an earlier row (same conversation)": 1}


def test_rows_without_the_part_are_kept() -> None:
    rows = [talk("a"), talk("b"), talk("c", " "), talk("d", "")]
    assert len(run(DeduplicateExact(by="answer"), rows)[0]) == 4
    assert len(run(DeduplicateExact(by="answer", keep="longest"), rows)[0]) == 4


@pytest.mark.parametrize("keep", ["first", "longest"])
def test_rows_of_protected_splits_win(keep) -> None:
    rows = [
        talk("in test", "a"),
        talk("in validation", "a"),
        talk("own", "a"),
        talk(" in test\n", "a"),
        talk("own", "a"),
    ]
    others = {"train": rows, "validation": [rows[1]], "test": [rows[0]]}
    kept, counts, _ = run(DeduplicateExact(keep=keep), rows, **others)
    assert kept == [["own", "a"]]
    assert counts["exact duplicate of a test row (same conversation)"] == 2
    assert counts["exact duplicate of a validation row (same conversation)"] == 1
    assert len(run(DeduplicateExact(keep=keep, across=["test"]), rows, **others)[0]) == 2
    assert len(run(DeduplicateExact(keep=keep, across=[]), rows, **others)[0]) == 3


def test_a_row_in_validation_and_test_leaves_only_validation() -> None:
    row, step = talk("q", "a"), DeduplicateExact(splits=["validation", "test"], across=["train", "validation", "test"])
    splits = {"train": [row], "validation": [row], "test": [row]}
    assert run(step, [row], "validation", **splits)[0] == []
    assert run(step, [row], "test", **splits)[0] == [["q", "a"]]


def test_a_step_declares_its_needs() -> None:
    assert DeduplicateExact().needs == {"splits"}
    assert DeduplicateExact(across=[]).needs == frozenset()
    assert DeduplicateExact(keep="longest").needs == {"rows", "splits"}
    assert DeduplicateExact().splits == ["train"]


def test_clusters_are_reported_with_their_sizes_and_samples() -> None:
    rows = [talk(f"q{n}", "a") for n in range(8) for _ in range(n + 1)] + [talk("many", "a")] * 25
    for step in (DeduplicateExact(), DeduplicateExact(keep="longest")):
        clusters = run(step, rows)[2]["clusters"]
        assert clusters["num_clusters"] == 8
        assert clusters["num_rows"] == sum(range(2, 9)) + 25
        assert clusters["sizes"] == {**{str(size): 1 for size in range(2, 9)}, "10 to 99": 1}
        assert [cluster["rows"] for cluster in clusters["largest"]] == [25, 8, 7, 6, 5]
        assert clusters["largest"][0]["sample"] == "user: many\nassistant: a"


def test_words_are_compared_in_every_script() -> None:
    assert compared_words("Ｈｅｌｌｏ, “World”…  don’t") == ["hello", "world", "don", "t"]
    assert compared_words("Straße É") == compared_words("STRASSE e\u0301") == ["strasse", "é"]
    assert compared_words("你好，世界 abc") == ["你", "好", "世", "界", "abc"]
    assert compared_words("किताब") != compared_words("कताब"), "vowel signs are not punctuation"
    assert len(compared_words("किताब पढ़ो")) == 2
    assert compared_words("snake_case + 3.5") == ["snake_case", "3", "5"]
    assert compared_words("!?") == []


def test_texts_of_punctuation_only_are_compared_by_character() -> None:
    rows = [talk("Which smiley?", text) for text in (":-)", ":-(", ": - )")]
    assert [row[1] for row in run(DeduplicateExact(compare="words"), rows)[0]] == [":-)", ":-("]


@given(
    st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), max_size=20), st.sampled_from(["first", "longest"])
)
def test_any_text_is_compared_and_what_is_kept_has_no_duplicates(pairs, keep) -> None:
    rows = [talk(*pair, id=str(number)) for number, pair in enumerate(pairs)]
    step, audit = DeduplicateExact(keep=keep), Audit()
    kept = list(step.apply(rows, Context(STAGE, audit)))
    assert len(kept) + audit.count("dropped") == len(rows)
    assert list(step.apply(kept, Context(STAGE, Audit()))) == kept
    assert len(distinct(kept)) == len([row for row in kept if distinct([row])]) == len(distinct(rows))


def distinct(rows: list[Conversation]) -> set[tuple[str, ...]]:
    texts = [[message.content for message in row.messages] for row in rows]
    return {tuple(map(visible, pair)) for pair in texts if "".join(pair).strip()}


def visible(text: str) -> str:
    """What can be seen of a text, computed apart from the project: composed characters, one space for white space."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).strip()


SIMILAR = st.sampled_from(["a < b", "a > b", "a  <\nb", "A < b", "a <= b", "7+5", "7-5", "C", "C++", "C#", "caf\u00e9"])
SIMILAR_ROLES = st.sampled_from(["system", "user", "assistant"])


@given(
    st.lists(st.lists(st.tuples(SIMILAR_ROLES, SIMILAR | st.just("cafe\u0301")), min_size=1, max_size=3), max_size=25),
    st.sampled_from(["first", "longest"]),
)
def test_rows_that_differ_in_any_visible_character_are_kept_and_equal_ones_dropped_once(conversations, keep) -> None:
    rows = [Conversation(tuple(Message(*turn) for turn in turns)) for turns in conversations]
    audit = Audit()
    kept = list(DeduplicateExact(keep=keep).apply(rows, Context(STAGE, audit)))
    seen = [tuple((role, visible(text)) for role, text in turns) for turns in conversations]
    assert {tuple((m.role, visible(m.content)) for m in row.messages) for row in kept} == set(seen)
    assert len(kept) == len(set(seen))
    assert audit.count("dropped") == len(rows) - len(set(seen))


@pytest.mark.parametrize(
    "texts",
    [
        ("Evaluate: 1 < 2", "Evaluate: 1 > 2", "Evaluate: 1 <= 2", "Evaluate: 1 != 2"),
        ("Compute 7 + 5", "Compute 7 - 5", "Compute 7 * 5", "Compute 7 / 5"),
        ("Hello world in C", "Hello world in C++", "Hello world in C#"),
        ("Lower-case: US", "Lower-case: us", "Lower-case: Us."),
        ("x²", "x2", "x₂"),
        ("👍", "👎"),
        ("Was? 5 €", "Was? 5 $"),
    ],
    ids=lambda texts: texts[0],
)
def test_symbols_and_case_make_rows_distinct_and_equal_words_are_reported(texts) -> None:
    rows = [talk(text, "same answer") for text in texts]
    audit = Audit()
    assert list(DeduplicateExact().apply(rows, Context(STAGE, audit))) == rows
    by_words = len({normalize_text(text) for text in texts})
    assert audit.count("reported") == len(texts) - by_words
    assert len(list(DeduplicateExact(compare="words").apply(rows, Context(STAGE, Audit())))) == by_words
    assert not list(map(str, run(DeduplicateExact(report_same_words=False), rows)[1]))


def test_a_task_in_the_system_message_and_what_is_trained_make_rows_distinct() -> None:
    tasks = [
        talk(task, "same text", "out", roles=("system", "user", "assistant")) for task in ("Translate.", "Repeat.")
    ]
    assert len(run(DeduplicateExact(), tasks)[0]) == 2
    turns = [("q", "a", "r", "b")] * 3
    rows = [talk(*texts) for texts in turns]
    marked = dataclasses.replace(rows[0].messages[1], trained=False)
    weighted = dataclasses.replace(rows[0].messages[1], weight=2.0)
    rows += [
        dataclasses.replace(rows[0], messages=(rows[0].messages[0], changed, *rows[0].messages[2:]))
        for changed in (marked, weighted)
    ]
    assert len(run(DeduplicateExact(), rows)[0]) == 3


def test_exact_comparison_keeps_rows_that_differ_in_white_space() -> None:
    rows = [
        talk("Fix", "if x:\n    a()\nb()"),
        talk("Fix", "if x:\n    a()\n    b()"),
        talk("Fix", "if x:\n    a()\nb()"),
    ]
    assert len(run(DeduplicateExact(compare="exact"), rows)[0]) == 2
    assert len(run(DeduplicateExact(), rows)[0]) == 1


@given(st.lists(st.integers(0, 30), max_size=60))
def test_the_table_counts_as_a_dictionary_does(numbers) -> None:
    table, counts = KeyTable(len(numbers)), {}
    for number in numbers:
        key = (number % 3).to_bytes(8, "little") + number.to_bytes(8, "little")  # many start at the same slot
        table.counts[table.slot(key)] += 1
        counts[number] = counts.get(number, 0) + 1
    assert sorted(count for count in table.counts if count) == sorted(counts.values())


def test_the_largest_clusters_are_kept_while_they_grow() -> None:
    largest = LargestClusters(most=2)
    for slot, size in [(1, 2), (2, 2), (3, 2), (3, 3), (1, 3), (1, 4), (2, 3)]:
        largest.update(slot, size, f"text {slot}")
    assert largest.descending() == [(4, "text 1"), (3, "text 3")]


@pytest.mark.slow
def test_another_process_with_another_hash_seed_drops_the_same_rows() -> None:
    code = (
        "from instruct_lab.data import *; from instruct_lab.preprocessing.base import Context;"
        "from instruct_lab.preprocessing import DeduplicateExact;"
        "rows = [Conversation((Message('user', str(n * n % 97)),), str(n)) for n in range(300)];"
        "print([row.id for row in DeduplicateExact().apply(rows, Context('s', Audit()))])"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1] != ""


def test_rows_are_not_changed() -> None:
    row = talk(" a ", "B", metadata={"x": 1}, source="s", id="i")
    (kept,) = DeduplicateExact().apply([row], Context(STAGE, Audit()))
    assert kept is row
    assert dataclasses.asdict(kept)["source"] == "s"
