"""Every setting of clean, normalize, segment and redact, by its effect."""

import dataclasses

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hanging import no_hang

from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.preprocessing.base import Context
from instruct_lab.preprocessing.privacy.redact import Redact
from instruct_lab.preprocessing.text.clean import Clean
from instruct_lab.preprocessing.text.normalize import Normalize
from instruct_lab.preprocessing.text.segment_words import SegmentWords

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def talk(*turns):
    return Conversation(tuple(Message(role, text) for role, text in turns), "id")


def run(step, *conversations, **context):
    audit = Audit()
    found = list(step.apply(conversations, Context("s", audit, **context)))
    return found, [(tally.action, tally.reason, tally.count) for tally in audit.tallies.values()]


def answered(step, answer, question="Why so?", **context):
    """What becomes of an answer; none where the row is dropped."""
    found, counts = run(step, talk(("user", question), ("assistant", answer)), **context)
    return (found[0].messages[-1].content if found else None), counts


# ---- clean


@pytest.mark.parametrize(
    ("fields", "text", "expected"),
    [
        ({}, " a ", "a"),
        ({"strip": False}, " a ", " a "),
        ({}, "    x = 1\n", "    x = 1"),
        ({"keep_indentation": False}, "    x = 1\n", "x = 1"),
        ({}, "a \nb", "a \nb"),
        ({"trailing_spaces": "remove"}, "a \nb", "a\nb"),
        ({}, "a\n\n\n\nb", "a\n\n\n\nb"),
        ({"max_blank_lines": 1}, "a\n\n\n\nb", "a\n\nb"),
        ({}, "a\x00b\r\nc\u2028d", "ab\nc\nd"),
        ({"control_characters": "keep"}, "a\x00b", "a\x00b"),
        ({}, "schÃ¶n", "schön"),
        ({"mojibake": "keep"}, "schÃ¶n", "schÃ¶n"),
        ({"mojibake": "drop"}, "schÃ¶n", None),
        ({}, "a\ufffdb", "a\ufffdb"),
        ({"lost_characters": "remove"}, "a\ufffdb", "ab"),
        ({"lost_characters": "drop"}, "a\ufffdb", None),
        ({}, "<b>a</b> &amp; b", "<b>a</b> &amp; b"),
        ({"html": "remove"}, "<b>a</b> &amp; b", "a & b"),
        ({"html": "remove"}, "`<b>`\n```\n<i>&amp;\n```", "`<b>`\n```\n<i>&amp;\n```"),
        ({"html": "remove"}, "<tool_call>\n{}\n</tool_call>", "<tool_call>\n{}\n</tool_call>"),
        ({}, "  ", None),
        ({"empty_answer": "keep"}, "  ", ""),
        ({}, "N/A", "N/A"),
        ({"empty_words": ["n/a"]}, "N/A", None),
        ({}, "I'm sorry, but I can't help with that.", "I'm sorry, but I can't help with that."),
        ({"refusals": "drop"}, "I'm sorry, but I can't help with that.", None),
        ({"refusals": "drop"}, "对不起，我无法回答这个问题。", None),
        ({"refusals": "drop"}, "I'm sorry that you are ill. Rest helps.", "I'm sorry that you are ill. Rest helps."),
        ({"refusals": "drop", "refusal_patterns": ["no way"]}, "No way, José.", None),
        ({"boilerplate": "drop"}, "As an AI language model, I think so.", None),
        ({"boilerplate": "drop", "boilerplate_patterns": ["brought to you by"]}, "Brought to you by us.", None),
    ],
    ids=str,
)
def test_clean(fields, text, expected) -> None:
    found, counts = answered(Clean(**fields), text)
    assert found == expected
    assert bool(counts) == (found != text), "a change or a drop is counted, and nothing else"


@pytest.mark.parametrize("desirable", [True, False, None])
def test_an_undesirable_answer_may_be_a_refusal(desirable):
    refusal = "I'm sorry, but I can't help with that."
    row = dataclasses.replace(talk(("user", "Help?"), ("assistant", refusal)), desirable=desirable)
    found = run(Clean(refusals="drop"), row)[0]
    assert [one.desirable for one in found] == ([False] if desirable is False else [])
    earlier = talk(("user", "Help?"), ("assistant", refusal), ("user", "Please?"), ("assistant", "No."))
    assert not run(Clean(refusals="drop"), dataclasses.replace(earlier, desirable=False))[0]


@pytest.mark.parametrize("field", ["refusals", "boilerplate"])
def test_clean_reports_without_dropping(field) -> None:
    text = "As an AI language model, I cannot help with that request."
    found, counts = answered(Clean(**{field: "report"}), text)
    assert found == text
    assert [action for action, _, _ in counts] == ["reported"]


@pytest.mark.parametrize(
    ("fields", "turns", "expected"),
    [
        ({}, "uu a", "u a"),  # a repeated message
        ({"repeated_messages": "keep"}, "uu a", "u u a"),
        ({"repeated_messages": "drop"}, "uu a", None),
        ({}, "u - u a", "u - u a"),
        ({"empty_messages": "remove"}, "u - a", "u a"),
        ({"empty_messages": "drop"}, "u - a", None),
        ({}, "a u a", "a u a"),
        ({"role_order": "repair"}, "a u a", "u a"),
        ({"role_order": "drop"}, "a u a", None),
        ({"role_order": "repair"}, "u a", "u a"),
        ({}, "u a u", "u a"),  # nothing answers the last question
        ({}, "u a u a t u", "u a u a"),
        ({"unanswered_end": "keep"}, "u a u", "u a u"),
        ({"unanswered_end": "drop"}, "u a u", None),
        ({"unanswered_end": "drop"}, "u a", "u a"),
        ({}, "u", None),  # no answer at all
        ({}, "u - u", None),
    ],
    ids=str,
)
def test_clean_mends_turns(fields, turns, expected) -> None:
    roles = {"u": ("user", "question"), "t": ("tool", "result"), "a": ("assistant", "answer"), "-": ("assistant", " ")}
    spelled = [roles[letter] for letter in turns.replace("uu", "u u").split()]
    found, _ = run(Clean(**fields), talk(*spelled))
    shown = " ".join("-" if not m.content.strip() else m.role[0] for m in found[0].messages) if found else None
    assert shown == expected


def test_an_unanswered_last_turn_is_named_as_what_it_is() -> None:
    open_end = talk(("user", "Hi"), ("assistant", "Hello"), ("user", "Never mind."))
    found, counts = run(Clean(), open_end)
    assert [message.content for message in found[0].messages] == ["Hi", "Hello"]
    assert found[0].answers == ("Hello",)
    assert counts == [("changed", "unanswered last turn", 1)]
    with_reference = dataclasses.replace(open_end, references=("You are welcome.",))
    assert run(Clean(), with_reference) == ([with_reference], []), "its reference answers the last turn"
    assert run(Clean(unanswered_end="drop"), open_end)[1] == [
        ("dropped", "ends with a user turn, without an answer", 1)
    ]
    assert run(Clean(), talk(("user", "Hi")))[1] == [("dropped", "no answer", 1)]
    assert run(Clean(), talk(("user", "Hi"), ("assistant", " "), ("user", "Hm")))[1] == [("dropped", "empty answer", 1)]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("My page shows CafÃ© instead of Café. Why?", "The bytes of é were read as Latin-1, which gives Ã©."),
        ("Why does my page show CafÃ©?", "It should be Café: declare its character set."),
        ("Why does my page show CafÃ©?", "Your UTF-8 bytes were read with another encoding."),
        ("What is â€™ in my mail?", "It is mojibake of an apostrophe."),
        ("â€œ ou “ ?", "Le second."),
        ("Repair: naÃ¯ve", "naïve"),
        ("Wie wird Ã¼ zu ü?", "ü"),
        ("Was heißt 'Ã¼'?", "Die Codierung war falsch."),
    ],
    ids=lambda text: text[:12],
)
def test_texts_about_mojibake_stay_as_they_are_and_are_reported(question, answer) -> None:
    row = talk(("user", question), ("assistant", answer))
    found, counts = run(Clean(), row)
    assert found == [row]
    assert {action for action, _, _ in counts} <= {"reported"}
    assert run(Clean(mojibake="drop"), row)[0] == [row], "not dropped either"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PrÃ©sident, dÃ©jÃ  vu", "Président, déjà vu"),
        ("itâ€™s fine", "it’s fine"),
        ("Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "привет"),
        ("sÃ©ance â\x80\x93 fin", "séance – fin"),
        ("â‚¬ 50", "€ 50"),
        ("A MANHÃ FRIA", "A MANHÃ FRIA"),
        ("x² ﬁ “q” – … ½ Ａ ①", "x² ﬁ “q” – … ½ Ａ ①"),
        ("donâ\x80\x99t, “so”", "donâ\x80\x99t, “so”"),
    ],
    ids=repr,
)
def test_texts_that_are_damaged_throughout_are_repaired_and_others_lose_no_character(text, expected) -> None:
    found, counts = answered(Clean(), text)
    assert found == expected
    assert [reason for action, reason, _ in counts if action == "changed"] == ["mojibake"] * (found != text)


@pytest.mark.parametrize(
    ("question", "answer", "kept"),
    [
        ("What does the <br> tag do?", "<br> breaks a line.", True),
        ("How do I make text bold?", "In HTML, write <b>bold</b>.", True),
        ("Which element is <section>?", "One of a document.", True),
        ("Who wrote it?", "<p>Jane <b>Austen</b></p>", False),
    ],
    ids=str,
)
def test_rows_about_markup_keep_it_even_where_html_is_removed(question, answer, kept) -> None:
    row = talk(("user", question), ("assistant", answer))
    found, counts = run(Clean(html="remove"), row)
    assert (found == [row]) == kept
    assert [action for action, _, _ in counts] == (["reported"] if kept else ["changed"])


def test_clean_drops_empty_prompts_but_keeps_plain_texts() -> None:
    nothing = talk(("user", " "), ("assistant", "x"))
    assert run(Clean(), nothing)[0] == []
    assert len(run(Clean(empty_prompt="keep"), nothing)[0]) == 1
    assert len(run(Clean(), talk(("assistant", "A text for continued pretraining.")))[0]) == 1


def test_clean_refuses_invalid_and_unused_patterns() -> None:
    with pytest.raises(pydantic.ValidationError, match="not used while"):
        Clean(refusal_patterns=["x"])
    with pytest.raises(pydantic.ValidationError, match="not a regular expression"):
        Clean(boilerplate="drop", boilerplate_patterns=["("])


def test_clean_counts_rows_by_kind() -> None:
    audit = Audit()
    rows = [talk(("user", "q "), ("assistant", "a")), talk(("user", "q"), ("assistant", "schÃ¶n ja"))]
    list(Clean().apply(rows, Context("s", audit)))
    assert audit.facts["s"]["rows_changed_for"] == {"white space": 1, "mojibake": 1}


@given(ANY_TEXT, st.sampled_from([Clean(), Clean(html="remove", role_order="repair", trailing_spaces="remove")]))
@settings(max_examples=150)
def test_clean_text_is_unchanged(text, step) -> None:
    found, _ = run(step, talk(("user", text), ("assistant", text)))
    again, counts = run(step, *found)
    assert again == found
    assert [count for count in counts if count[0] != "reported"] == []


def test_clean_repairs_what_control_characters_hid() -> None:
    found, counts = answered(Clean(), "\x8dÂ\x80")
    assert found == "€"
    assert counts
    assert answered(Clean(), found) == (found, [])
    assert answered(Clean(mojibake="keep"), "\x8dÂ")[0] == "Â"


@pytest.mark.slow
def test_long_texts_and_many_turns_take_linear_time() -> None:
    strict = Clean(html="remove", role_order="repair", refusals="drop", boilerplate="drop", max_blank_lines=2)
    turns = talk(*((["user", "assistant"][n % 2], f"turn {n}") for n in range(10_000)))
    with no_hang():
        for step in (strict, Normalize(quotes="ascii", numbers="mask"), Redact()):
            found, _ = run(step, turns, talk(("user", "q"), ("assistant", "word < & " * 100_000)))
            assert len(found) == 2


# ---- normalize


@pytest.mark.parametrize(
    ("fields", "text", "expected"),
    [
        ({}, "e\u0301 ﬁ ²", "é ﬁ ²"),
        ({"form": "NFKC"}, "e\u0301 ﬁ ²", "é fi 2"),
        ({"form": "none"}, "e\u0301", "e\u0301"),
        ({}, "“a” ‘b’", "“a” ‘b’"),
        ({"quotes": "ascii"}, "“a” ‘b’", "\"a\" 'b'"),
        ({"dashes": "ascii"}, "1–2", "1-2"),
        ({"spaces": "ascii"}, "a\u00a0b", "a b"),
        ({"full_width": "letters"}, "ＡＢ１，", "AB1，"),
        ({"full_width": "all"}, "ＡＢ１！", "AB1!"),
        ({"lower_case": True}, "Ab `Cd`", "ab `Cd`"),
        ({"lower_case": True, "in_code": True}, "Ab `Cd`", "ab `cd`"),
        ({"punctuation": "remove"}, "Hi, don't!", "Hi don't"),
        ({"punctuation": "space"}, "a,b", "a b"),
        ({"numbers": "mask"}, "It is 42.", "It is <NUM>."),
        ({"numbers": "mask", "number_mask": "<N>"}, "It is 42.", "It is <N>."),
        ({"numbers": "digits"}, "It is 42.", "It is 00."),
    ],
    ids=str,
)
def test_normalize(fields, text, expected) -> None:
    found, counts = answered(Normalize(**fields), text)
    assert found == expected
    assert bool(counts) == (found != text)


def test_normalize_reaches_the_roles_it_names() -> None:
    found, _ = run(Normalize(lower_case=True, of_roles=["user"]), talk(("user", "ABC"), ("assistant", "DEF")))
    assert [message.content for message in found[0].messages] == ["abc", "DEF"]


def test_normalize_renames_and_merges_roles() -> None:
    messages = talk(("system", "S"), ("user", "U"), ("assistant", "A"))
    renamed, counts = run(Normalize(roles={"system": "user"}), messages)
    assert [message.role for message in renamed[0].messages] == ["user", "user", "assistant"]
    assert counts[0][1] == "roles"
    merged, _ = run(Normalize(roles={"system": "user"}, merge_consecutive=True), messages)
    assert [message.content for message in merged[0].messages] == ["S\n\nU", "A"]


def test_the_weights_of_messages_stay_and_keep_apart_what_counts_differently() -> None:
    messages = [Message("assistant", text, True, weight) for text, weight in (("A", 0.5), ("B", 0.5), ("C", 2.0))]
    talked = Conversation((Message("tool", "Q"), *messages))
    found, _ = run(Normalize(roles={"tool": "user"}, merge_consecutive=True), talked)
    assert [(m.role, m.content, m.weight) for m in found[0].messages[1:]] == [
        ("assistant", "A\n\nB", 0.5),
        ("assistant", "C", 2.0),
    ]
    renamed, _ = run(Normalize(roles={"assistant": "system"}), talked)
    assert [m.weight for m in renamed[0].messages] == [1.0, 0.5, 0.5, 2.0]
    mended, _ = run(Clean(repeated_messages="merge", role_order="repair"), found[0])
    assert mended == found


def test_a_mask_that_would_be_masked_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="number_mask"):
        Normalize(number_mask="<N1>")


@given(ANY_TEXT)
@settings(max_examples=150)
def test_normal_text_is_unchanged(text) -> None:
    step = Normalize(form="NFKC", quotes="ascii", dashes="ascii", lower_case=True, numbers="mask")
    found, _ = run(step, talk(("user", "q"), ("assistant", text)))
    again, _ = run(step, *found)
    assert again == found


# ---- segment


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "text", "expected"),
    [
        ({}, "a  b,\tc", "a b, c"),
        ({"method": "moses"}, "Hello, world!", "Hello , world !"),
        ({"method": "moses", "language": "fr"}, "l'eau", "l' eau"),
        ({"method": "chinese_characters"}, "今天good", "今 天 good"),
        ({"method": "jieba"}, "今天天气", "今天天气"),
        ({}, "a  b\nc", "a b\nc"),
        ({"keep_lines": False}, "a  b\nc", "a b c"),
        ({}, "a  `b  c`", "a `b  c`"),
        ({"in_code": True}, "a  `b  c`", "a `b c`"),
    ],
    ids=str,
)
def test_segment(fields, text, expected, tmp_path) -> None:
    found, _ = answered(SegmentWords(**fields), text, cache_path=tmp_path)
    assert found.replace(" ", "") == expected.replace(" ", "")
    if fields.get("method") != "jieba":  # which words those are, its dictionary says
        assert found == expected


@pytest.mark.slow
def test_segment_cuts_chinese_words_and_the_roles_it_names(tmp_path) -> None:
    step = SegmentWords(method="jieba", of_roles=["assistant"])
    found, _ = run(step, talk(("user", "我喜欢翻译"), ("assistant", "我喜欢翻译")), cache_path=tmp_path)
    assert [message.content for message in found[0].messages] == ["我喜欢翻译", "我 喜欢 翻译"]


def test_segment_writes_the_pieces_of_the_run_s_tokenizer() -> None:
    class Tokenizer:
        def tokenize(self, text):
            return [text[:2], text[2:]] if len(text) > 2 else [text]

    step = SegmentWords(method="subwords", continued="@@")
    assert step.needs == {"tokenizer"}
    assert SegmentWords().needs == {"data"}
    with pytest.raises(pydantic.ValidationError, match="continued"):
        SegmentWords(continued="@ @")


# ---- redact


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        ("email", "to jo.doe@gmail.com now", "to <EMAIL> now"),
        ("phone", "call +33 6 12 34 56 78", "call <PHONE>"),
        ("phone", "电话13812345678。", "电话<PHONE>。"),
        ("ip_address", "from 81.2.69.142 today", "from <IP_ADDRESS> today"),
        ("payment_card", "card 5500 0055 5555 5559", "card <PAYMENT_CARD>"),
        ("iban", "to DE89 3704 0044 0532 0130 00", "to <IBAN>"),
        ("api_key", "key AKIAIOSFODNN7ABCDEFG", "key <API_KEY>"),
        (
            "jwt",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
            "<JWT>",
        ),
        ("secret", 'password = "h4Kx9!pQz7Lm2Rt8"', 'password = "<SECRET>"'),
    ],
)
def test_redact_finds_a_kind_and_can_leave_it(field, text, expected) -> None:
    found, counts = answered(Redact(leave_examples=False), text)
    assert found == expected
    assert counts[0][:2] == ("changed", expected[expected.index("<") + 1 : expected.index(">")])
    found, counts = answered(Redact(leave_examples=False, **{field: False}), text)
    assert expected[expected.index("<") : expected.index(">") + 1] not in found


def test_redact_finds_private_keys() -> None:
    block = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 3 + "-----END PRIVATE KEY-----"
    assert answered(Redact(), f"here:\n{block}")[0] == "here:\n<PRIVATE_KEY>"
    assert block in answered(Redact(private_key=False, secret=False), f"here:\n{block}")[0]


@pytest.mark.parametrize(
    "text",
    ["git clone git@github.com:a/b.git", "@pytest.mark.skip", "version 1.2.3.4", "room 12345", "4111 1111 1111 1112"],
)
def test_similar_text_is_kept(text) -> None:
    assert answered(Redact(), text) == (text, [])


def test_redact_s_other_settings() -> None:
    mail, example = "to jo.doe@gmail.com", "to jo@example.com"
    assert answered(Redact(), example)[0] == example
    assert answered(Redact(leave_examples=False), example)[0] == "to <EMAIL>"
    assert answered(Redact(placeholder="[{kind}]"), mail)[0] == "to [EMAIL]"
    assert answered(Redact(policy="report"), mail) == (mail, [("reported", "EMAIL", 1)])
    assert answered(Redact(policy="drop"), mail) == (None, [("dropped", "EMAIL", 1)])
    assert answered(Redact(extra={"BADGE": "B-[0-9]{4}"}), "badge B-1234")[0] == "badge <BADGE>"
    assert answered(Redact(of_roles=["user"]), mail)[0] == mail
    random = 'password = "h4Kx9!pQz7Lm2Rt8"'
    assert answered(Redact(), random)[0] == 'password = "<SECRET>"'
    assert answered(Redact(min_entropy=6), random)[0] == random


@pytest.mark.parametrize(
    ("code", "mail", "key"), [("secrets", True, False), ("leave", True, True), ("all", False, False)]
)
def test_redact_in_code(code, mail, key) -> None:
    found, _ = answered(Redact(code=code), "```\njo.doe@gmail.com AKIAIOSFODNN7ABCDEFG\n```")
    assert ("jo.doe@gmail.com" in found) is mail
    assert ("AKIAIOSFODNN7ABCDEFG" in found) is key


def test_the_audit_never_shows_what_was_redacted() -> None:
    audit = Audit()
    rows = [talk(("user", "I am jo.doe@gmail.com"), ("assistant", "Hi"))]
    list(Redact().apply(rows, Context("s", audit)))
    assert "jo.doe" not in str(audit.to_json())
    assert audit.facts["s"]["finds"] == {"EMAIL": 1}


@pytest.mark.parametrize(
    "fields",
    [{"placeholder": "X"}, {"extra": {"low": "x"}}, {"extra": {"A": "("}}, {"extra": {"A": "x*"}}],
)
def test_redact_refuses_invalid_settings(fields) -> None:
    with pytest.raises(pydantic.ValidationError):
        Redact(**fields)
