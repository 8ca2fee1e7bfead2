"""Preference pairs: prompt, chosen and rejected answer, and every row that is no pair."""

import pytest

from instruct_lab.data import Message, Row
from instruct_lab.data.formats.base import content_id
from instruct_lab.data.formats.preference import Preference
from instruct_lab.errors import InstructLabError

PROMPT = {"role": "user", "content": "Why is the sky blue?"}


def row(**columns) -> Row:
    return Row(columns, "pairs.jsonl, line 3")


def answer(text: str) -> dict:
    return {"role": "assistant", "content": text}


def roles_and_texts(messages) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


def test_texts_beside_a_prompt() -> None:
    pair = Preference(prompt="question", system="system").conversation(
        row(system="Be brief.", question="Why?", chosen="Because.", rejected="No.", source="orca")
    )
    assert roles_and_texts(pair.messages) == [("system", "Be brief."), ("user", "Why?"), ("assistant", "Because.")]
    assert pair.rejected == (Message("assistant", "No."),)
    assert pair.metadata == {"source": "orca"}
    assert roles_and_texts(pair.prompt) == [("system", "Be brief."), ("user", "Why?")]


def test_lists_of_messages_that_begin_alike() -> None:
    opening = [{"role": "user", "content": "Hi"}, answer("Hello"), PROMPT]
    pair = Preference().conversation(
        row(
            prompt="Why is the sky blue?", chosen=[*opening, answer("Rayleigh.")], rejected=[*opening, answer("Paint.")]
        )
    )
    assert roles_and_texts(pair.messages)[-2:] == [("user", "Why is the sky blue?"), ("assistant", "Rayleigh.")]
    assert len(pair.messages) == 4
    assert roles_and_texts(pair.rejected) == [("assistant", "Paint.")]
    assert pair.metadata == {}


def test_the_rejected_side_may_go_on() -> None:
    rejected = [PROMPT, answer("Paint."), {"role": "user", "content": "Sure?"}, answer("No.")]
    pair = Preference().conversation(row(chosen=[PROMPT, answer("Rayleigh.")], rejected=rejected))
    assert [role for role, _ in roles_and_texts(pair.rejected)] == ["assistant", "user", "assistant"]


@pytest.mark.parametrize("prompt", ["Why is the sky blue?", [PROMPT]])
@pytest.mark.parametrize("as_list", [True, False])
def test_answers_without_their_prompt_follow_the_prompt_column(prompt, as_list) -> None:
    chosen, rejected = answer("Rayleigh."), answer("Paint.")
    columns = {"chosen": [chosen], "rejected": [rejected]} if as_list else {"chosen": chosen, "rejected": rejected}
    pair = Preference().conversation(row(prompt=prompt, **columns))
    assert roles_and_texts(pair.messages) == [("user", "Why is the sky blue?"), ("assistant", "Rayleigh.")]
    assert roles_and_texts(pair.rejected) == [("assistant", "Paint.")]


def test_messages_with_from_and_value_and_names_of_their_own() -> None:
    pair = Preference(prompt="conversations", roles={"bot": "assistant"}).conversation(
        row(
            conversations=[{"from": "human", "value": "Why?"}],
            chosen={"from": "gpt", "value": "So."},
            rejected={"from": "Bot", "value": "No."},
        )
    )
    assert roles_and_texts(pair.messages) == [("user", "Why?"), ("assistant", "So.")]
    assert roles_and_texts(pair.rejected) == [("assistant", "No.")]


def test_transcripts_of_hh_rlhf() -> None:
    opening = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: A list:\n\nof two"
    pair = Preference().conversation(row(chosen=f"{opening}\n\nAssistant: a", rejected=f"{opening}\n\nAssistant: b"))
    assert roles_and_texts(pair.messages) == [
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "A list:\n\nof two"),
        ("assistant", "a"),
    ]
    assert roles_and_texts(pair.rejected) == [("assistant", "b")]


def test_scores_become_the_margin_and_stay() -> None:
    texts = {"prompt": "p", "chosen": "c", "rejected": "r"}
    scored = Preference(chosen_score="s", rejected_score="t").conversation(row(**texts, s=8, t=5.5))
    assert scored.metadata == {"s": 8, "t": 5.5, "margin": 2.5}
    assert Preference(margin="gap").conversation(row(**texts, gap=1)).metadata == {"gap": 1, "margin": 1.0}
    assert Preference(chosen_score="s").conversation(row(**texts, s=8)).metadata == {"s": 8}


def test_the_id_covers_the_rejected_answer() -> None:
    first, second, third = (
        Preference().conversation(row(prompt="p", chosen="c", rejected=rejected)) for rejected in ("a", "b", "a")
    )
    assert first.id == third.id != second.id
    assert first.id != content_id(first.messages, ())  # that of the same conversation without a rejected answer


def test_tool_calls_in_a_pair() -> None:
    calls = answer("") | {"tool_calls": [{"function": {"name": "clock", "arguments": "{}"}}]}
    tools = [{"name": "clock", "parameters": {}}]
    pair = Preference(tool_convention="json").conversation(
        row(tools=tools, prompt=[PROMPT], chosen=[calls], rejected=[answer("I do not know.")])
    )
    assert pair.messages[0].role == "system"
    assert pair.messages[-1].content == '[{"name": "clock", "arguments": {}}]'
    other = Preference(tools=None).conversation(row(tools=1, prompt="p", chosen="c", rejected="r"))
    assert other.metadata == {"tools": 1}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"prompt": "p", "chosen": "same", "rejected": " same\n"}, "answer are the same"),
        ({"prompt": "p", "chosen": "", "rejected": "r"}, "lacks an answer.*column 'chosen'"),
        ({"prompt": "p", "chosen": "c", "rejected": " \n"}, "lacks an answer.*column 'rejected'"),
        ({"prompt": "p", "chosen": None, "rejected": "r"}, "NoneType found.*column 'chosen'"),
        ({"prompt": "p", "chosen": 3, "rejected": "r"}, "int found: 3"),
        ({"prompt": " ", "chosen": "c", "rejected": "r"}, "no prompt before"),
        ({"prompt": 7, "chosen": "c", "rejected": "r"}, "int found: 7.*column 'prompt'"),
        ({"chosen": "c", "rejected": "r"}, "no column 'prompt'"),
        ({"chosen": "c"}, "no column 'prompt'"),
        ({"chosen": [PROMPT, answer("c")]}, "no column 'rejected'"),
        ({"chosen": [], "rejected": [answer("r")]}, "list of turns is empty"),
        ({"chosen": [answer("c")], "rejected": [answer("r")]}, "no prompt before"),
        ({"chosen": [PROMPT, answer("c")], "rejected": [answer("r")]}, "prompts .* differ"),
        ({"chosen": [PROMPT, answer("c")], "rejected": [{**PROMPT, "content": "?"}, answer("r")]}, "prompts .* differ"),
        (
            {"chosen": [PROMPT, answer("c"), PROMPT, answer("d")], "rejected": [PROMPT, answer("r")]},
            "prompts .* differ",
        ),
        ({"chosen": [PROMPT], "rejected": [PROMPT, answer("r")]}, "lacks an answer.*column 'chosen'"),
        ({"chosen": [PROMPT, answer("c")], "rejected": [PROMPT]}, "lacks an answer.*column 'rejected'"),
        ({"chosen": [PROMPT, answer("c")], "rejected": [PROMPT, PROMPT, answer("r")]}, "no answer of its own"),
        ({"chosen": [PROMPT, {"role": "asistant", "content": "c"}], "rejected": [PROMPT, answer("r")]}, "'assistant'"),
        ({"chosen": [PROMPT, 3], "rejected": [PROMPT, answer("r")]}, "column 'chosen', turn 2"),
        ({"chosen": "\n\nWho: a", "rejected": "\n\nHuman: b"}, "does not begin with a speaker"),
        ({"chosen": "\n\nHuman: a\n\nAssistant: ", "rejected": "\n\nHuman: a\n\nAssistant: b"}, "lacks an answer"),
        ({"prompt": "p", "chosen": "half \ud83d", "rejected": "r"}, "surrogate pair at character 5"),
    ],
)
def test_the_error_of_a_row_that_is_no_pair_names_its_line(columns, expected) -> None:
    with pytest.raises(InstructLabError, match=expected) as caught:
        Preference().conversation(row(**columns))
    assert "pairs.jsonl, line 3" in str(caught.value)


@pytest.mark.parametrize("score", ["8", None, True, float("nan"), 10**400])
def test_a_score_must_be_a_number(score) -> None:
    with pytest.raises(InstructLabError, match=r"number was expected.*column 'gap'"):
        Preference(margin="gap").conversation(row(prompt="p", chosen="c", rejected="r", gap=score))


def test_without_a_prompt_column_the_answers_must_hold_their_prompt() -> None:
    with pytest.raises(InstructLabError, match="has no column of the prompt"):
        Preference(prompt=None).conversation(row(prompt="p", chosen="c", rejected="r"))


def test_the_columns_that_a_pair_needs() -> None:
    assert Preference().required() == {"chosen": ["chosen"], "rejected": ["rejected"]}
    named = Preference(system="s", chosen_score="a", rejected_score="b", margin="m").required()
    assert {field: columns for field, columns in named.items() if field not in ("chosen", "rejected")} == {
        "system": ["s"],
        "chosen_score": ["a"],
        "rejected_score": ["b"],
        "margin": ["m"],
    }


@pytest.mark.slow
def test_a_pair_of_10000_turns() -> None:
    opening = [PROMPT, answer("a")] * 5000 + [PROMPT]
    pair = Preference().conversation(row(chosen=[*opening, answer("c")], rejected=[*opening, answer("r")]))
    assert len(pair.messages) == 10_002


TREE = "Name a tree that grows here."


def texts_of(pair) -> list[str]:
    return [message.content for message in (*pair.messages, *pair.rejected)]


@pytest.mark.parametrize("between", [" ", "\n\n", ""])
@pytest.mark.parametrize("before", ["", " \n"])
def test_a_prompt_that_both_answers_repeat_is_cut(before, between) -> None:
    sides = {"chosen": f"{before}{TREE}{between}Oak", "rejected": f"{TREE}{between}No"}
    assert texts_of(Preference().conversation(row(prompt=TREE, **sides))) == [TREE, "Oak", "No"]
    as_messages = {name: [answer(text)] for name, text in sides.items()}
    assert texts_of(Preference().conversation(row(prompt=TREE, **as_messages))) == [TREE, "Oak", "No"]
    kept = Preference(repeated_prompt="keep").conversation(row(prompt=TREE, **sides))
    assert kept.messages[-1].content == sides["chosen"]


def test_a_transcript_beside_its_prompt_is_read_once() -> None:
    transcript = f"\n\nHuman: {TREE}\n\nAssistant:"
    sides = {"chosen": f"{transcript} Oak", "rejected": f"{transcript} No"}
    assert texts_of(Preference().conversation(row(prompt=TREE, **sides))) == [TREE, "Oak", "No"]
    assert texts_of(Preference().conversation(row(prompt=transcript, **sides))) == [TREE, "Oak", "No"]
    assert texts_of(Preference().conversation(row(prompt=transcript, chosen="Oak", rejected="No"))) == [
        TREE,
        "Oak",
        "No",
    ]
    with pytest.raises(InstructLabError, match=r"does not begin with the prompt.*line 3.*prompt=null"):
        Preference().conversation(row(prompt="Another question?", **sides))
    assert texts_of(Preference(prompt=None).conversation(row(prompt="Left out", **sides))) == [TREE, "Oak", "No"]


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (f"{TREE} Oak", "No", "Only the chosen answer begins"),
        ("Oak", f"{TREE} No", "Only the rejected answer begins"),
        (f"{TREE} Oak", TREE, "An answer only repeats"),
        (f"User: {TREE}\nBot: Oak", f"User: {TREE}\nBot: No", "a text that repeats the prompt"),
        (
            f"### Instruction:\n{TREE}\n### Response:\nOak",
            f"### Instruction:\n{TREE}\n### Response:\nNo",
            "repeats the",
        ),
    ],
)
def test_a_prompt_that_cannot_be_cut_makes_a_broken_row(chosen, rejected, reason) -> None:
    with pytest.raises(InstructLabError, match=f"{reason}.*line 3.*repeated_prompt=keep"):
        Preference().conversation(row(prompt=TREE, chosen=chosen, rejected=rejected))


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"),
    [("Hi", "Hi there", "Hi you"), ("Say 1", "Say 10", "Say 11"), ("Good morning", "Good morning! Yes?", "What?")],
)
def test_answers_that_only_happen_to_begin_like_the_prompt_stay(prompt, chosen, rejected) -> None:
    pair = Preference().conversation(row(prompt=prompt, chosen=chosen, rejected=rejected))
    assert texts_of(pair) == [prompt, chosen, rejected]


def test_a_pair_without_prompt_names_the_column_that_may_hold_it() -> None:
    for column, value in (("conversations", [{"from": "human", "value": "Why?"}]), ("question", "Why?")):
        for sides in ({"chosen": "a", "rejected": "b"}, {"chosen": [answer("a")], "rejected": [answer("b")]}):
            with pytest.raises(InstructLabError, match=f"line 3.*data.format.prompt={column}"):
                Preference().conversation(row(**{column: value}, **sides))
