"""The bias audit: counts by group and language, nearby words, and unchanged rows."""

import math

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.data.words import compared_words
from instruct_lab.preprocessing.base import Context
from instruct_lab.preprocessing.bias.bias_audit import BiasAudit, all_categories, all_lists, log_odds_ratio
from instruct_lab.preprocessing.bias.terms import Phrases, load_lists, load_terms

STAGE = "preprocessing/train/bias_audit"


def talk(*contents: str, roles=("user", "assistant"), **fields) -> Conversation:
    return Conversation(tuple(Message(roles[n % len(roles)], text) for n, text in enumerate(contents)), **fields)


def run(step: BiasAudit, *rows: Conversation, audit: Audit | None = None, stage: str = STAGE):
    audit = audit or Audit()
    assert list(step.apply(rows, Context(stage, audit))) == list(rows)
    reported = {tally.reason: tally for tally in audit.tallies.values() if tally.stage == stage}
    assert {tally.action for tally in reported.values()} <= {"reported"}
    return audit.facts[stage]["bias"], reported


def mentions(step: BiasAudit, *texts: str) -> dict[str, dict[str, int]]:
    table, _ = run(step, *(talk(text) for text in texts))
    return {
        category: {group: figures["mentions"] for group, figures in groups.items()}
        for category, groups in table["categories"].items()
    }


def test_terms_of_every_category_are_counted_in_every_language() -> None:
    english = "The woman and her son met an immigrant, a Muslim, elderly and deaf, who is gay."
    french = "La femme et le fils, un immigré, un musulman, une personne âgée, et sourd, qui est homosexuel."
    chinese = "一位女士和儿子遇见移民、穆斯林、老人、聋人和同性恋者。"
    for text in (english, french, chinese):
        found = mentions(BiasAudit(), text)
        assert sorted(found) == sorted(all_categories())
        assert found["gender"] == {"female": 2 if text == english else 1, "male": 1}
        assert found["nationality and ethnicity"] == {"immigrant": 1}
        assert found["religion"] == {"muslim": 1}
        assert found["age"] == {"old": 1}
        assert found["disability"] == {"disabled": 1}
        assert found["orientation"] == {"homosexual": 1}


def test_figures_are_rates_shares_and_rows() -> None:
    table, _ = run(
        BiasAudit(), talk("the man is here", "a man and a woman are here too"), talk("a dog is in the garden")
    )
    assert (table["words"], table["rows"], table["messages"]) == (18, 2, {"en": 3})
    male = table["categories"]["gender"]["male"]
    assert male["mentions"] == 2
    assert male["rows"] == 1
    assert male["per_1000_words"] == round(2000 / 18, 3)
    assert male["share_of_category"] == 0.667


def test_positive_and_negative_words_near_a_term_are_counted_by_mention() -> None:
    table, reported = run(
        BiasAudit(), talk("The woman is kind, honest and smart."), talk("The man is lazy."), talk("That man is here.")
    )
    female, male = table["categories"]["gender"]["female"], table["categories"]["gender"]["male"]
    assert (female["near_positive"], female["near_negative"]) == (1, 0)
    assert (male["near_positive"], male["near_negative"]) == (0, 1)
    ratio = math.log((1.5 * 1.5) / (0.5 * 0.5))
    assert female["log_odds"] == -male["log_odds"] == round(ratio, 3)
    assert female["z"] == round(ratio / math.sqrt(2 / 1.5 + 2 / 0.5), 3)
    assert {reason: tally.count for reason, tally in reported.items()} == {"gender: male near a negative word": 1}
    (sample,) = reported["gender: male near a negative word"].samples
    assert sample["before"] == "… the man is lazy …"


def test_the_window_decides_and_ends_with_the_message() -> None:
    row = talk("The woman is in the garden and the weather is bad", "terrible")
    for window, near in {8: 0, 9: 1, 50: 1}.items():
        table, _ = run(BiasAudit(window=window), row)
        assert table["categories"]["gender"]["female"]["near_negative"] == near
    assert run(BiasAudit(), talk("the woman", "terrible"))[0]["categories"]["gender"]["female"]["near_negative"] == 0
    assert run(BiasAudit(window=1), talk("a lazy man"))[0]["categories"]["gender"]["male"]["near_negative"] == 1


def test_the_window_is_as_wide_before_a_term() -> None:
    row = talk("The bad weather is in the garden of the woman")
    for window, near in {7: 0, 8: 1}.items():
        table, _ = run(BiasAudit(window=window), row)
        assert table["categories"]["gender"]["female"]["near_negative"] == near


def test_negative_mentions_can_go_unreported() -> None:
    assert run(BiasAudit(report_negative=False), talk("The man is lazy."))[1] == {}


def test_a_conversation_is_reported_once_for_a_group() -> None:
    _, reported = run(BiasAudit(), talk("the man is fine", "a lazy man, a lazy man, and a stupid boy"))
    assert reported["gender: male near a negative word"].count == 1


def test_words_of_one_language_are_no_terms_of_another() -> None:
    assert mentions(BiasAudit(), "Les filles sont content de la vie") == {"gender": {"female": 1}}
    table, _ = run(BiasAudit(), talk("The content of the sale is for the woman"))
    assert table["categories"]["gender"]["female"]["near_negative"] == 0, "sale is dirty in French"
    assert mentions(BiasAudit(lists=["fr"]), "the woman and the man") == {}
    assert mentions(BiasAudit(lists=["en"]), "la femme et le garçon") == {}


def test_the_longest_phrase_of_a_category_is_counted_and_other_categories_beside_it() -> None:
    assert mentions(BiasAudit(), "an old woman is there") == {"age": {"old": 1}, "gender": {"female": 1}}
    assert mentions(BiasAudit(), "他们和其他人") == {"gender": {"male": 1}}


def test_categories_and_own_terms_can_be_chosen() -> None:
    text = "the nurse and the old woman"
    own = {"trade": {"nurse": ["nurse", "nurses"]}}
    assert mentions(BiasAudit(categories=["age"]), text) == {"age": {"old": 1}}
    assert mentions(BiasAudit(categories=[], terms=own), text) == {"trade": {"nurse": 1}}
    assert sorted(mentions(BiasAudit(terms=own), text)) == ["age", "gender", "trade"]
    more = {"age": {"middle": ["middle-aged"], "old": ["ancient one"]}}
    assert mentions(BiasAudit(categories=["age"], terms=more), "a middle aged and an ancient one, and the elderly") == {
        "age": {"old": 2, "middle": 1}
    }
    for wrong in ({"categories": []}, {"terms": {"trade": {"nurse": []}}}, {"terms": {"trade": {"nurse": ["?"]}}}):
        with pytest.raises(pydantic.ValidationError, match=next(iter(wrong))):
            BiasAudit(**wrong)


def test_speakers_can_be_chosen() -> None:
    row = talk(
        "the woman",
        "the man",
        roles=("user", "assistant"),
        references=("the boy",),
        rejected=(Message("assistant", "men"),),
    )
    found = {
        speaker: sum(
            figures["mentions"]
            for figures in run(BiasAudit(speakers=[speaker]), row)[0]["categories"]["gender"].values()
        )
        for speaker in ("user", "assistant", "reference")
    }
    assert found == {"user": 1, "assistant": 2, "reference": 1}


def test_rates_before_preprocessing_are_reported_with_those_after_it() -> None:
    audit = Audit()
    run(BiasAudit(), talk("the woman is in"), talk("the man is in"), audit=audit, stage="preprocessing/train/before")
    run(BiasAudit(), talk("the boy is in"), audit=audit, stage="preprocessing/test/before")
    table, _ = run(BiasAudit(), talk("the woman is in"), audit=audit)
    assert table["categories"]["gender"]["female"]["rate_before"] == 125.0
    assert table["categories"]["gender"]["female"]["per_1000_words"] == 250.0
    first, _ = run(BiasAudit(), talk("the woman is in"))
    assert "rate_before" not in first["categories"]["gender"]["female"]


def test_the_log_odds_ratio_is_known_by_hand() -> None:
    ratio, z = log_odds_ratio(10, 2, 3, 9)
    assert ratio == pytest.approx(math.log(10.5 * 9.5 / (2.5 * 3.5)))
    assert z == pytest.approx(ratio / math.sqrt(1 / 10.5 + 1 / 2.5 + 1 / 3.5 + 1 / 9.5))
    assert log_odds_ratio(0, 0, 0, 0) == (0.0, 0.0)


def test_a_group_alone_has_nothing_to_be_compared_with() -> None:
    table, _ = run(BiasAudit(), talk("the lazy man"))
    assert "log_odds" not in table["categories"]["gender"]["male"]


def test_an_empty_split_has_an_empty_table() -> None:
    assert run(BiasAudit())[0] == {"words": 0, "rows": 0, "messages": {}, "categories": {}}


def test_the_packaged_lists_are_complete_and_no_term_has_two_groups() -> None:
    assert tuple(load_lists()) == tuple(all_lists())
    for lists in load_lists().values():
        assert tuple(lists["groups"]) == tuple(all_categories())
        assert not set(lists["positive"]) & set(lists["negative"])
        for groups in lists["groups"].values():
            listed = [tuple(compared_words(term)) for known in groups.values() for term in known]
            assert all(listed)
            assert len(listed) == len(set(listed))


def test_phrases_are_found_longest_first_and_not_inside_each_other() -> None:
    phrases = Phrases.of({"a b": 1, "a": 2, "b c": 3, "a b d": None})
    assert list(phrases.find("a b c a b d b c a".split())) == [(0, 2, 1), (6, 8, 3), (8, 9, 2)]
    assert sorted(load_terms(["en", "zh"], ["age"], {})) == ["en", "zh"]


@settings(max_examples=30)
@given(st.lists(st.text(max_size=40), max_size=6))
def test_any_text_goes_through(texts) -> None:
    table, _ = run(BiasAudit(), *(talk(text) for text in texts))
    assert table["rows"] == len(texts)
