"""Preprocessing: every option has an effect, and every row changed or dropped is counted."""

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.preprocessing import Clean, DeduplicateExact, Length, Normalize, Preprocessing, Step

STAGE = "preprocessing/train/step"


def talk(*contents: str, references: tuple[str, ...] = (), roles=("user", "assistant")) -> Conversation:
    messages = tuple(Message(roles[n % len(roles)], content) for n, content in enumerate(contents))
    return Conversation(messages, id="x", references=references)


def run(step: Step, *conversations: Conversation) -> tuple[list[list[str]], dict[tuple[str, str], int]]:
    audit = Audit()
    kept = [[m.content for m in conversation.messages] for conversation in step.apply(conversations, STAGE, audit)]
    assert all(tally.stage == STAGE for tally in audit.tallies.values())
    return kept, {(tally.action, tally.reason): tally.count for tally in audit.tallies.values()}


def test_clean_strips_and_removes_control_characters_and_counts_the_row_once() -> None:
    kept, counts = run(Clean(), talk("  a\r\nb\x00\x07 ", "\tc\x85d\n"), talk("clean\tand\ntold", "x\u200dy"))
    assert kept == [["a\nb", "c\nd"], ["clean\tand\ntold", "x\u200dy"]]
    assert counts == {("changed", "white space or control characters"): 1}


def test_clean_reaches_references() -> None:
    cleaned = next(Clean().apply([talk("q", "a", references=(" b ",))], STAGE, Audit()))
    assert cleaned.references == ("b",)
    assert cleaned.id == "x"


def test_each_option_of_clean_can_be_turned_off() -> None:
    assert run(Clean(strip=False), talk(" a ", "b\x00"))[0] == [[" a ", "b"]]
    assert run(Clean(control_characters="keep"), talk(" a\x00\r\n b", "c"))[0] == [["a\x00\r\n b", "c"]]
    assert run(Clean(empty_prompt="keep"), talk(" ", "b"))[0] == [["", "b"]]
    assert run(Clean(empty_answer="keep"), talk("a", " "), talk("a"))[0] == [["a", ""], ["a"]]


def test_clean_drops_rows_that_ask_or_answer_nothing() -> None:
    no_prompt = talk("S", " \x00", "b", roles=("system", "user", "assistant"))
    kept, counts = run(Clean(), talk("", "b"), no_prompt, talk("a", "\n"), talk("a"), talk("a", "b"))
    assert kept == [["a", "b"]]
    assert counts == {("dropped", "empty prompt"): 2, ("dropped", "empty answer"): 2}
    assert run(Clean(), talk("a", "", references=("b",)))[0] == [["a", ""]], "the references are the answer"


def test_normalize_composes_and_only_nfkc_replaces_look_alikes() -> None:
    row = talk("e\u0301 ﬁ", "ok")
    assert run(Normalize(), row) == ([["é ﬁ", "ok"]], {("changed", "Unicode NFC"): 1})
    assert run(Normalize(form="NFKC"), row) == ([["é fi", "ok"]], {("changed", "Unicode NFKC"): 1})
    assert run(Normalize(form="none"), row) == ([["e\u0301 ﬁ", "ok"]], {})
    assert run(Normalize(), talk("é ﬁ", "ok"))[1] == {}
    formed = next(Normalize().apply([talk("a", "b", references=("e\u0301",))], STAGE, Audit()))
    assert formed.references == ("é",)


def test_normalize_renames_and_merges_roles() -> None:
    row = talk("S", "U", "A", roles=("system", "user", "assistant"))
    audit = Audit()
    renamed = next(Normalize(roles={"system": "user", "tool": None}).apply([row], STAGE, audit))
    assert [message.role for message in renamed.messages] == ["user", "user", "assistant"]
    assert audit.count("changed", STAGE) == 1
    merged = next(Normalize(roles={"system": "user"}, merge_consecutive=True).apply([row], STAGE, Audit()))
    assert merged.messages == (Message("user", "S\n\nU"), Message("assistant", "A"))
    differently_trained = Conversation(
        (Message("assistant", "a", trained=False), Message("assistant", "b", trained=True))
    )
    assert run(Normalize(merge_consecutive=True), differently_trained) == ([["a", "b"]], {})


def test_duplicates_are_dropped_by_the_part_that_is_named() -> None:
    rows = [talk("Hi", "a"), talk("hi!", "A"), talk("Hi", "b"), talk("Ho", "a")]

    def kept(**fields) -> list[list[str]]:
        return run(DeduplicateExact(**fields), *rows)[0]

    assert kept() == [["Hi", "a"], ["Hi", "b"], ["Ho", "a"]]
    assert kept(by="prompt") == [["Hi", "a"], ["Ho", "a"]]
    assert kept(by="answer") == [["Hi", "a"], ["Hi", "b"]]
    assert kept(compare="characters") == [["Hi", "a"], ["hi!", "A"], ["Hi", "b"], ["Ho", "a"]]
    assert kept(by="prompt", compare="characters") == [["Hi", "a"], ["hi!", "A"], ["Ho", "a"]]
    assert run(DeduplicateExact(by="prompt"), *rows)[1] == {("dropped", "same prompt as before"): 2}


def test_where_a_message_ends_counts() -> None:
    assert len(run(DeduplicateExact(), talk("a b", "c"), talk("a", "b c"))[0]) == 2


def test_who_speaks_counts() -> None:
    system_first = talk("a", "b", roles=("system", "user"))
    assert len(run(DeduplicateExact(), talk("a", "b"), system_first)[0]) == 2


def test_length_measures_the_part_that_is_named() -> None:
    rows = [talk("q", "a"), talk("question", "a"), talk("q", "a long answer")]

    def kept(**fields) -> list[str]:
        return [" ".join(contents) for contents in run(Length(**fields), *rows)[0]]

    assert kept() == ["q a", "question a", "q a long answer"]
    assert kept(max_characters=10) == ["q a", "question a"]
    assert kept(min_characters=4) == ["question a", "q a long answer"]
    assert kept(of="prompt", min_characters=2) == ["question a"]
    assert kept(of="answer", max_characters=1) == ["q a", "question a"]
    _, counts = run(Length(min_characters=4, max_characters=10), *rows)
    assert counts == {
        ("dropped", "conversation under 4 characters"): 1,
        ("dropped", "conversation over 10 characters"): 1,
    }
    with pytest.raises(pydantic.ValidationError, match="min_characters"):
        Length(min_characters=5, max_characters=4)


def test_steps_run_in_order_over_the_splits_that_they_name() -> None:
    rows = [talk(" a ", "b"), talk("a", "b")]
    audit = Audit()
    steps = {"clean": Clean(), "gone": None, "deduplicate": DeduplicateExact(compare="characters")}
    found = Preprocessing(steps=steps).apply({"train": rows, "test": rows}, audit)
    assert {name: len(kept) for name, kept in found.items()} == {"train": 1, "test": 2}
    assert audit.stages == {
        "preprocessing/train/clean": {"in": 2, "out": 2},
        "preprocessing/train/deduplicate": {"in": 2, "out": 1},
        "preprocessing/test/clean": {"in": 2, "out": 2},
    }
    other_order = dict(reversed(steps.items()))
    assert len(Preprocessing(steps=other_order).apply({"train": rows}, Audit())["train"]) == 2


def test_a_step_names_its_splits() -> None:
    rows = {"train": [talk(" a ", "b")], "test": [talk(" a ", "b")]}
    found = Preprocessing(steps={"clean": Clean(splits=["test"])}).apply(rows, Audit())
    assert found["train"] == rows["train"]
    assert found["test"] != rows["test"]
    everywhere = Preprocessing(
        steps={"d": DeduplicateExact(splits=["train", "test"]), "l": Length(splits=["test"], min_characters=99)}
    )
    found = everywhere.apply({"train": rows["train"] * 2, "test": rows["test"] * 2}, Audit())
    assert [len(kept) for kept in found.values()] == [1, 0]
    for wrong in ([], ["dev"]):
        with pytest.raises(pydantic.ValidationError, match="splits"):
            Clean(splits=wrong)


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), max_size=12))
def test_what_is_cleaned_already_is_not_counted_again(pairs) -> None:
    steps = {"normalize": Normalize(), "clean": Clean(), "deduplicate": DeduplicateExact()}
    preprocessing = Preprocessing(steps=steps)
    once = preprocessing.apply({"train": [talk(*pair) for pair in pairs]}, Audit())
    audit = Audit()
    assert preprocessing.apply(once, audit) == once
    assert audit.count() == 0
