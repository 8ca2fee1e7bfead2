"""Counterfactual copies: what is swapped, how it is written, and which rows get one."""

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.preprocessing.base import Context
from instruct_lab.preprocessing.bias.counterfactual import Counterfactual, load_pairs, match_case

STAGE = "preprocessing/train/counterfactual"


def talk(*contents: str, **fields) -> Conversation:
    roles = ("user", "assistant")
    return Conversation(tuple(Message(roles[n % 2], text) for n, text in enumerate(contents)), **{"id": "x", **fields})


def run(step: Counterfactual, *rows: Conversation):
    audit = Audit()
    kept = list(step.apply(rows, Context(STAGE, audit)))
    return kept, {(tally.action, tally.reason): tally.count for tally in audit.tallies.values()}


def swapped(text: str, **fields) -> str:
    (row,), _ = run(Counterfactual(mode="replace", **fields), talk(text))
    return row.messages[0].content


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He is her father.", "She is his mother."),
        ("HE and Her husband", "SHE and His wife"),
        ("I saw her. I asked him, and her too.", "I saw him. I asked her, and him too."),
        ("Her new book is his.", "His new book is hers."),
        ("It was hers, not his!", "It was his, not hers!"),
        ("his own work by himself", "her own work by herself"),
        ("We gave her the key and him a map.", "We gave him the key and her a map."),
        ("Mr. Smith, the actor", "Ms. Smith, the actress"),
        ("the theory of others; a humane manifesto", "the theory of others; a humane manifesto"),
        ("James met Mary.", "Mary met James."),
        ("will bill mark the grace of jack", "will bill mark the grace of jack"),
        ("JOHN shouted", "PATRICIA shouted"),
        ("他和女士们，其他人的爸爸", "她和先生们，其他人的妈妈"),
        ("她的儿子会弹吉他", "他的女儿会弹吉他"),
        ("he wrote `he = his` and ```\nher = he\n``` to her", "she wrote `he = his` and ```\nher = he\n``` to him"),
        ("an open `tick and he", "an open `tick and she"),
        ("brother's and sister-in-law", "sister's and brother-in-law"),
    ],
)
def test_words_of_pairs_are_swapped_together_with_their_case(text, expected) -> None:
    assert swapped(text) == expected


def test_a_copy_follows_its_row_with_its_own_id_and_is_counted() -> None:
    row = talk("who is he?", "the king", source="s", metadata={"a": 1})
    kept, counts = run(Counterfactual(), row, talk("nobody", "there", id="y"))
    assert [known.id for known in kept] == ["x", "x-swapped", "y"]
    assert kept[0] is row
    assert [message.content for message in kept[1].messages] == ["who is she?", "the queen"]
    assert (kept[1].source, kept[1].metadata) == ("s", {"a": 1})
    assert counts == {("added", "copy with words of pairs swapped"): 1}
    assert run(Counterfactual(suffix="/b"), row)[0][1].id == "x/b"


def test_a_copy_can_take_the_place_of_its_row() -> None:
    kept, counts = run(Counterfactual(mode="replace"), talk("he"), talk("nobody", id="y"))
    assert [(row.id, row.messages[0].content) for row in kept] == [("x", "she"), ("y", "nobody")]
    assert counts == {("changed", "words of pairs swapped"): 1}


def test_every_text_of_a_row_is_swapped() -> None:
    row = talk("he", "him", "his", references=("his",), rejected=(Message("assistant", "he"),))
    (copy,) = run(Counterfactual(mode="replace"), row)[0]
    assert [message.content for message in copy.messages] == ["she", "her", "hers"]
    assert copy.references == ("hers",)
    assert copy.rejected[0].content == "she"


def test_the_lists_that_are_named_are_used() -> None:
    text = "he met James and 他"
    assert swapped(text, lists=["gender_en"]) == "she met James and 他"
    assert swapped(text, lists=["names_en"]) == "he met Mary and 他"
    assert swapped(text, lists=["gender_zh"]) == "he met James and 她"


def test_own_pairs_are_swapped_both_ways_and_come_before_the_lists() -> None:
    own = [["French", "Italian"], ["New York", "Rome"], ["法国", "意大利"]]
    assert swapped("A french cook in NEW YORK, an Italian in Rome, 法国", lists=[], pairs=own) == (
        "A italian cook in ROME, an French in New York, 意大利"
    )
    assert swapped("he and James", pairs=[["he", "they"]]) == "they and Mary"
    assert swapped("her and his", pairs=[["her", "their"]]) == "their and his"
    assert swapped("Jamesx New Yorker", lists=[], pairs=own) == "Jamesx New Yorker"


def test_a_share_of_the_rows_is_chosen_by_their_id_and_the_seed() -> None:
    rows = [talk("he", id=f"row {number}") for number in range(1000)]

    def chosen(**fields) -> set[str]:
        return {row.id for row in run(Counterfactual(**fields), *rows)[0] if row.id.endswith("-swapped")}

    third = chosen(share=0.3)
    assert 250 < len(third) < 350
    assert chosen(share=0.3) == third
    assert chosen(share=0.6) > third
    assert chosen(share=0.3, seed=1) != third
    assert len(chosen()) == 1000
    reversed_rows = run(Counterfactual(share=0.3), *reversed(rows))[0]
    assert {row.id for row in reversed_rows if row.id.endswith("-swapped")} == third


def test_invalid_settings_are_refused() -> None:
    for wrong in (
        {"lists": []},
        {"pairs": [["a"]]},
        {"pairs": [["a", "!"]]},
        {"pairs": [["a", "b"], ["B", "c"]]},
        {"pairs": [["a", "a"]]},
        {"share": 0.0},
        {"suffix": ""},
        {"lists": ["gender_fr"]},
    ):
        with pytest.raises(pydantic.ValidationError, match=next(iter(wrong)) if wrong != {"lists": []} else "pairs"):
            Counterfactual(**wrong)


def test_case_is_kept() -> None:
    assert match_case("HE", "she") == "SHE"
    assert match_case("He", "she") == "She"
    assert match_case("he", "she") == "she"
    assert match_case("french", "Italian") == "italian"
    assert match_case("uk", "USA") == "USA"


def test_no_shipped_word_has_two_others() -> None:
    for name, pairs in load_pairs().items():
        listed = [word.lower() for pair in pairs for word in pair]
        assert len(listed) == len(set(listed)), name
        assert all(len(pair) == 2 for pair in pairs)


SWAPPABLE = ["he", "She", "FATHER", "mother", "king", "James", "Mary", "他", "the", "cat", "."]


@given(st.lists(st.sampled_from(SWAPPABLE), max_size=12))
def test_swapping_twice_gives_the_text_again(tokens) -> None:
    assert swapped(swapped(" ".join(tokens))) == " ".join(tokens)


@settings(max_examples=50)
@given(st.text(max_size=60))
def test_any_text_goes_through(text) -> None:
    kept, _ = run(Counterfactual(pairs=[["a b", "c"]]), talk(text))
    assert kept[0].messages[0].content == text
