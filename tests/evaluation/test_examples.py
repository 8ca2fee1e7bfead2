"""The choice of the examples that a model is evaluated on, and of a rank's share of them."""

import random

from instruct_lab.data import Conversation, Message
from instruct_lab.evaluation.examples import EvaluatedExamples, sample


def conversation(name, source="one", answer="yes"):
    messages = (Message("user", name),) if answer is None else (Message("user", name), Message("assistant", answer))
    return Conversation(messages, id=name, source=source)


NAMES = [f"id{number}" for number in range(40)]


def test_the_choice_does_not_depend_on_the_order_and_grows_with_the_limit():
    conversations = [conversation(name) for name in NAMES]
    shuffled = random.Random(1).sample(conversations, len(conversations))
    chosen = sample(conversations, set(NAMES), 10)
    assert sample(shuffled, set(NAMES), 10) == chosen
    assert sample(conversations, set(NAMES), 20)[:10] == chosen
    assert sample(conversations, set(NAMES), None)[:10] == chosen


def test_only_conversations_with_an_answer_that_became_examples_are_chosen():
    conversations = [conversation("answered"), conversation("open", answer=None), conversation("too long")]
    assert [one.id for one in sample(conversations, {"answered", "open"}, None)] == ["answered"]


def test_the_limit_is_that_of_each_source():
    conversations = [conversation(name, "few" if name == "id3" else "many") for name in NAMES]
    chosen = sample(conversations, set(NAMES), 5, ["few", "many"])
    assert [one.source for one in chosen].count("few") == 1
    assert [one.source for one in chosen].count("many") == 5


def test_shares_keep_the_order_of_the_examples():
    conversations = [conversation(name) for name in NAMES]
    examples = EvaluatedExamples("test", conversations, [], conversations)
    shares = [examples.take(range(rank, len(examples), 3)) for rank in range(3)]
    assert sum(map(len, shares)) == len(NAMES)
    assert [one.id for one in shares[1].conversations] == NAMES[1::3]
    assert shares[1].examples == []
