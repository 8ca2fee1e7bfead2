"""The choice of the examples that a model is evaluated on, and of a rank's share of them."""

import random

from hypothesis import given
from hypothesis import strategies as st

from instruct_lab.data import Conversation, Message
from instruct_lab.evaluation.examples import EvaluatedExamples, pair_with_examples, sample


def conversation(name, source="one", answer="yes"):
    messages = (Message("user", name),) if answer is None else (Message("user", name), Message("assistant", answer))
    return Conversation(messages, id=name, source=source)


NAMES = [f"id{number}" for number in range(40)]


def indexed(conversations):
    return [(one, index) for index, one in enumerate(conversations)]


def conversations_of(encoded):
    return [one for one, _ in encoded]


def test_the_choice_does_not_depend_on_the_order_and_grows_with_the_limit():
    conversations = [conversation(name) for name in NAMES]
    shuffled = random.Random(1).sample(conversations, len(conversations))
    chosen = conversations_of(sample(indexed(conversations), 10))
    assert conversations_of(sample(indexed(shuffled), 10)) == chosen
    assert conversations_of(sample(indexed(conversations), 20))[:10] == chosen
    assert conversations_of(sample(indexed(conversations), None))[:10] == chosen


def test_only_conversations_with_an_answer_that_became_examples_are_chosen():
    conversations = [conversation("answered"), conversation("open", answer=None), conversation("too long")]
    encoded = pair_with_examples(conversations, ["answered", "open"])
    assert [one.id for one in conversations_of(sample(encoded, None))] == ["answered"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=12), st.integers(0, 12) | st.none())
def test_equal_rows_keep_an_example_each(rows, limit):
    conversations = [conversation(name) for name, _ in rows]
    ids = [name for name, became_example in rows if became_example]
    encoded = list(pair_with_examples(conversations, ids))
    assert [index for _, index in encoded] == list(range(len(ids)))
    assert [one.id for one in conversations_of(encoded)] == ids
    chosen = sample(encoded, limit)
    assert len({index for _, index in chosen}) == len(chosen) == min(len(ids), len(ids) if limit is None else limit)
    assert all(one.id == ids[index] for one, index in chosen)


def test_the_limit_is_that_of_each_source():
    conversations = [conversation(name, "few" if name == "id3" else "many") for name in NAMES]
    chosen = conversations_of(sample(indexed(conversations), 5, ["few", "many"]))
    assert [one.source for one in chosen].count("few") == 1
    assert [one.source for one in chosen].count("many") == 5


def test_shares_keep_the_order_of_the_examples():
    conversations = [conversation(name) for name in NAMES]
    examples = EvaluatedExamples("test", conversations, [], conversations)
    shares = [examples.take(range(rank, len(examples), 3)) for rank in range(3)]
    assert sum(map(len, shares)) == len(NAMES)
    assert [one.id for one in shares[1].conversations] == NAMES[1::3]
    assert shares[1].examples == []
