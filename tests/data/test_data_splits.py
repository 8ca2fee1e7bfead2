"""Splits by hash: no prompt in two splits, and no row moves when others are added."""

import dataclasses
import itertools
import re
import unicodedata

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_lab.data import Audit, Conversation, HashSplit, Message
from instruct_lab.data.split import SPLIT_NAMES, prompt_hashes, select_without_overlap
from instruct_lab.errors import InstructLabError

WORDS = st.sampled_from(
    ["Save", "save!", "  SAVE ", "ﬁle", "file", "été", "ete\u0301", "?", "!", "", "a b", "a  b", "Open it"]
)
ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
ANY_CONVERSATION = st.lists(st.tuples(ROLES, WORDS), min_size=1, max_size=5)
SINGLE_TURN = st.tuples(WORDS, WORDS).map(lambda pair: [("user", pair[0]), ("assistant", pair[1])])
SHARES = st.tuples(st.floats(0, 0.49), st.floats(0, 0.49))


def separate(splits, overlap, audit):
    flags = select_without_overlap(splits, overlap, audit)
    return {name: list(itertools.compress(rows, flags[name])) for name, rows in splits.items()}


def visible(text: str) -> str:
    """What can be seen of a text, computed apart from the project: composed characters, one space for white space."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).strip()


def talk(*turns: tuple[str, str]) -> Conversation:
    return Conversation(tuple(Message(role, content) for role, content in turns), id=str(turns))


def divided(split: HashSplit, conversations: list[Conversation]) -> dict[str, list[Conversation]]:
    splits: dict[str, list[Conversation]] = {name: [] for name in SPLIT_NAMES}
    for conversation in conversations:
        splits[split.split_of(conversation)].append(conversation)
    return splits


@pytest.mark.slow
@given(st.lists(ANY_CONVERSATION | SINGLE_TURN, max_size=30), st.lists(ANY_CONVERSATION, max_size=30), SHARES)
@settings(max_examples=200)
def test_adding_rows_moves_no_row(old, new, shares) -> None:
    split = HashSplit(validation=shares[0], test=shares[1])
    before = divided(split, [talk(*turns) for turns in old])
    after = divided(split, [talk(*turns) for turns in [*new, *old]])
    for name in SPLIT_NAMES:
        assert {conversation.id for conversation in before[name]} <= {conversation.id for conversation in after[name]}


@pytest.mark.slow
@given(st.lists(ANY_CONVERSATION | SINGLE_TURN, max_size=40), SHARES, st.integers(0, 5))
@settings(max_examples=200)
def test_no_prompt_is_in_two_splits(conversations, shares, seed) -> None:
    split = HashSplit(validation=shares[0], test=shares[1], seed=seed)
    divided_splits = divided(split, [talk(*turns) for turns in conversations])
    audit = Audit()
    assert separate(divided_splits, "drop", audit) == divided_splits, "a split by hash leaves nothing to drop"
    assert not audit.count("dropped")


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from(SPLIT_NAMES), ANY_CONVERSATION | SINGLE_TURN), max_size=40))
@settings(max_examples=200)
def test_given_splits_are_separated_and_every_row_is_counted(rows) -> None:
    given_splits = {name: [talk(*turns) for split, turns in rows if split == name] for name in SPLIT_NAMES}
    audit = Audit()
    kept = separate(given_splits, "drop", audit)
    assert kept["test"] == given_splits["test"]
    measured = {name: {prompt_hashes(conversation)[-1] for conversation in kept[name]} for name in SPLIT_NAMES}
    answered = {
        name: {prompt for conversation in kept[name] for prompt in prompt_hashes(conversation)} for name in SPLIT_NAMES
    }
    assert not measured["test"] & (answered["train"] | answered["validation"])
    assert not measured["validation"] & answered["train"]
    assert audit.count("dropped") == len(rows) - sum(map(len, kept.values()))


@given(st.lists(st.tuples(st.sampled_from(SPLIT_NAMES), SINGLE_TURN), max_size=40))
def test_a_single_turn_s_prompt_is_the_visible_characters_of_its_user_message(rows) -> None:
    given_splits = {name: [talk(*turns) for split, turns in rows if split == name] for name in SPLIT_NAMES}
    audit = Audit()
    kept = separate(given_splits, "drop", audit)
    before, after = (
        {name: [visible(c.messages[0].content) for c in splits[name]] for name in SPLIT_NAMES}
        for splits in (given_splits, kept)
    )
    assert after["test"] == before["test"]
    assert after["validation"] == [text for text in before["validation"] if text not in before["test"]]
    held = before["test"] + after["validation"]
    assert after["train"] == [text for text in before["train"] if text not in held]
    assert audit.count("dropped") == len(rows) - sum(map(len, kept.values()))


@given(WORDS, WORDS)
def test_a_constant_pattern_compares_as_its_sources_do(first, second) -> None:
    rendered = [
        prompt_hashes(talk(("user", f"Translate to French: {text}"), ("assistant", "")))[0] for text in (first, second)
    ]
    assert (visible(first) == visible(second)) == (rendered[0] == rendered[1])


def test_the_shares_are_kept_and_the_seed_changes_the_division() -> None:
    conversations = [talk(("user", f"question {number}"), ("assistant", "a")) for number in range(5000)]
    splits = divided(HashSplit(validation=0.1, test=0.2), conversations)
    assert len(splits["validation"]) == pytest.approx(500, abs=70)
    assert len(splits["test"]) == pytest.approx(1000, abs=100)
    other = divided(HashSplit(validation=0.1, test=0.2, seed=1), conversations)
    assert {c.id for c in other["test"]} != {c.id for c in splits["test"]}
    more = divided(HashSplit(validation=0.3, test=0.2), conversations)
    assert more["test"] == splits["test"], "the test set stays when the validation share changes"


def test_the_division_is_the_same_on_every_machine() -> None:
    split = HashSplit(validation=0.3, test=0.3)
    names = [split.split_of(talk(("user", word), ("assistant", ""))) for word in "abcdefgh"]
    assert " ".join(names) == "validation test train validation train train train test"


def test_shares_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="sum to less than 1"):
        HashSplit(validation=0.5, test=0.5)
    for wrong in (-0.1, 1.0, float("nan")):
        with pytest.raises(pydantic.ValidationError):
            HashSplit(validation=wrong)


def test_a_training_turn_that_answers_a_test_prompt_leaves() -> None:
    test = [talk(("user", "Hi"), ("assistant", "Ho"))]
    train = [
        talk(("user", " Hi\n"), ("assistant", "x"), ("user", "more"), ("assistant", "y")),
        talk(("user", "Hi")),
        talk(("user", "hi!"), ("assistant", "Ho")),
        talk(("system", "S"), ("user", "Hi")),
        talk(("user", "other"), ("assistant", "x"), ("user", "Hi"), ("assistant", "y")),
    ]
    audit = Audit()
    kept = separate({"train": train, "validation": [], "test": test}, "drop", audit)
    assert kept["train"] == train[2:]
    counts = {(tally.action, tally.reason): tally.count for tally in audit.tallies.values()}
    assert counts == {
        ("dropped", "train prompt also in test"): 2,
        ("reported", "train prompt with the words of a prompt in test, but other characters"): 1,
    }
    with pytest.raises(InstructLabError, match="A prompt of train is also in test: 'more'"):
        separate({"train": train, "validation": [], "test": test}, "error", Audit())


def test_plain_texts_are_divided_and_kept_apart_by_their_text() -> None:
    texts = [talk(("assistant", f"Paragraph {number}.")) for number in range(200)]
    splits = divided(HashSplit(validation=0.3), texts)
    assert 30 < len(splits["validation"]) < 90
    assert separate(splits, "drop", Audit()) == splits
    copied = {"train": [talk(("assistant", "Paragraph  1."))], "validation": [], "test": texts[:3]}
    assert not separate(copied, "drop", Audit())["train"]


def test_rows_can_go_together_by_a_column() -> None:
    rows = [dataclasses.replace(talk(("user", f"q {n}")), metadata={"document": n // 4}) for n in range(400)]
    splits = divided(HashSplit(validation=0.3, column="document"), rows)
    found = {name: {c.metadata["document"] for c in split} for name, split in splits.items()}
    assert not found["train"] & found["validation"]
    assert 15 < len(found["validation"]) < 50
    with pytest.raises(InstructLabError, match=r"column 'page'.*data\.split\.column.*document"):
        divided(HashSplit(column="page"), rows)


def first_speaks(number: int, *opening: tuple[str, str]) -> Conversation:
    return talk(*opening, ("user", f"Room {number}, please."), ("assistant", f"Key {number}."))


@pytest.mark.parametrize(
    "opening",
    [
        [("assistant", "Greetings, traveller. What do you seek?")],
        [("system", "You are an innkeeper."), ("assistant", "Welcome!")],
        [("system", "You are an innkeeper."), ("assistant", "Welcome!"), ("assistant", "Come in.")],
    ],
    ids=len,
)
def test_conversations_that_the_assistant_opens_are_in_every_split(opening) -> None:
    rows = [first_speaks(number, *opening) for number in range(400)]
    splits = divided(HashSplit(validation=0.1, test=0.1), rows)
    assert len(splits["validation"]) == pytest.approx(40, abs=25)
    assert len(splits["test"]) == pytest.approx(40, abs=25)
    assert separate(splits, "drop", Audit()) == splits


def test_a_system_message_with_the_task_makes_prompts_distinct() -> None:
    tasks = ["Translate to French.", "Translate to German.", "Translate to french."]
    rows = [talk(("system", task), ("user", "Open the file"), ("assistant", task)) for task in tasks]
    assert len({prompt_hashes(row)[-1] for row in rows}) == 3
    splits = {"train": rows[1:], "validation": [], "test": rows[:1]}
    assert separate(splits, "drop", Audit()) == splits


def test_conversations_without_a_question_are_divided_by_their_whole_text() -> None:
    rows = [talk(("system", "Write a poem."), ("assistant", f"Poem {number}.")) for number in range(300)]
    splits = divided(HashSplit(validation=0.2), rows)
    assert 30 < len(splits["validation"]) < 90
    assert separate(splits, "drop", Audit()) == splits


def test_rows_can_be_divided_by_their_whole_prompt() -> None:
    rows = [talk(("user", "Hi"), ("assistant", "Yes?"), ("user", f"Item {n}"), ("assistant", "x")) for n in range(300)]
    assert [len(split) for split in divided(HashSplit(validation=0.2), rows).values()].count(0) == 2, "one opening"
    splits = divided(HashSplit(validation=0.2, by="prompt"), rows)
    assert 30 < len(splits["validation"]) < 90
    assert separate(splits, "drop", Audit()) == splits, "no whole prompt is in two splits"
