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
