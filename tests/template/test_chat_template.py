"""The tokenizer's own chat template as segments."""

import pytest
from support.chat_tokenizers import ALL, FAMILIES, PLAIN, allowed, byte_level, conversation, messages_of, unigram

from instruct_lab.cache import describe
from instruct_lab.data import Conversation, Message
from instruct_lab.errors import InstructLabError, LimitExceeded
from instruct_lab.template import ChatTemplate

OPTIONS = ("template=chatml", "template=alpaca", "template=plain")
CHATML = FAMILIES["chatml"].jinja


def render(found, name="chatml", **settings):
    return ChatTemplate(**settings).render(found, byte_level(name))


def refused(found, name="chatml", **settings):
    with pytest.raises(InstructLabError) as caught:
        render(found, name, **settings)
    options = OPTIONS if "<|im_end|>" in byte_level(name).get_vocab() else OPTIONS[1:]
    assert [option for option in OPTIONS if option in str(caught.value)] == list(options)
    return str(caught.value)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_segments_are_the_text_of_apply_chat_template(name):
    for found in allowed(FAMILIES[name], ALL):
        text = byte_level(name).apply_chat_template(messages_of(found), tokenize=False)
        assert (
            "".join(segment.text for segment in render(found, name)) == text == FAMILIES[name].write(found.messages)[0]
        )


@pytest.mark.parametrize("name", list(FAMILIES))
def test_answers_and_their_end_of_turn_are_trained_segments_of_their_own(name):
    for found in allowed(FAMILIES[name], ALL):
        text, spans = FAMILIES[name].write(found.messages)
        answers = [text[a:b] for m, (a, b) in zip(found.messages, spans, strict=True) if m.role == "assistant"]
        trained = [segment.text for segment in render(found, name) if segment.trained]
        assert trained == [part for answer in answers for part in (answer, FAMILIES[name].end_of_turn)]
        starts = [segment.text for segment in render(found, name) if segment.starts_answer]
        assert starts == answers


def test_a_default_system_prompt_is_text_of_the_template():
    first = render(conversation("Hello", "two"))[0]
    assert "You are terse." in first.text
    assert first.role is None
    assert not first.trained


def test_trimmed_contents_are_taken_as_the_template_shows_them():
    segments = render(conversation("  Hello\n", "\n two "), "llama3")
    assert [segment.text for segment in segments if segment.role is not None] == ["Hello", "two"]


def test_empty_contents_keep_their_segments():
    segments = render(conversation("", ""))
    assert [(s.text, s.role, s.starts_answer) for s in segments if s.role is not None] == [
        ("", "user", False),
        ("", "assistant", True),
    ]


def test_only_the_last_answer_is_trained_on_request():
    segments = render(conversation("a", "one", "b", "two"), train_on="last_assistant")
    assert [segment.text for segment in segments if segment.trained] == ["two", "<|im_end|>"]


def test_everything_is_trained_on_request_but_a_message_that_says_otherwise():
    found = Conversation((Message("user", "Hello"), Message("assistant", "one", trained=False)))
    untrained = [segment.text for segment in render(found, train_on="all") if not segment.trained]
    assert untrained == ["one", "<|im_end|>"]


def test_a_message_decides_over_the_policy():
    found = Conversation(
        (
            Message("user", "Hello", trained=True),
            Message("assistant", "one", trained=True),
            Message("user", "a"),
            Message("assistant", "two", trained=False),
        )
    )
    trained = [segment.text for segment in render(found, train_on="last_assistant") if segment.trained]
    assert trained == ["Hello", "one", "<|im_end|>"]


@pytest.mark.parametrize("train_on", ["assistant", "last_assistant", "all"])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_prompt_is_the_segments_before_the_last_answer(name, train_on):
    template, tokenizer = ChatTemplate(train_on=train_on), byte_level(name)
    for found in allowed(FAMILIES[name], PLAIN):
        if found.messages[-1].role == "assistant":
            segments = template.render(found, tokenizer)
            last = max(i for i, segment in enumerate(segments) if segment.starts_answer)
            assert template.render_prompt(found, tokenizer) == segments[:last]


def test_stop_tokens_are_the_end_of_turn_and_eos():
    for name, expected in {"llama3": ["<|eot_id|>", "<|end_of_text|>"], "chatml": ["<|im_end|>"]}.items():
        tokenizer = byte_level(name)
        assert tokenizer.convert_ids_to_tokens(ChatTemplate().stop_token_ids(tokenizer)) == expected
    assert ChatTemplate().stop_token_ids(unigram("first")) == [1]


def test_a_role_that_the_template_refuses_is_named():
    message = refused(conversation("Hello", "two", system="You are terse."), "gemma")
    assert "role 'system'" in message
    assert "System role not supported" in message
    assert "preprocessing.steps.normalize.roles={system:user}" in message


def test_the_step_that_mends_an_order_of_roles_is_named():
    jinja = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}" + (
        "{{ raise_exception('no') }}{% endif %}{% endfor %}" + CHATML
    )
    twice = Conversation((Message("user", "a"), Message("user", "b"), Message("assistant", "c")), id="ab12")
    message = refused(twice, jinja=jinja)
    assert "preprocessing.steps.normalize.merge_consecutive=true" in message
    assert "conversation ab12: 'a'" in message
    assistant_first = Conversation((Message("assistant", "a"), Message("user", "b"), Message("assistant", "c")))
    assert "preprocessing.steps.clean.role_order=repair" in refused(assistant_first, jinja=jinja)


def test_a_dropped_message_is_named():
    jinja = CHATML.replace("{{'<|im_start|>' +", "{% if message.role != 'system' %}{{'<|im_start|>' +").replace(
        "+ '\n'}}{% endfor %}", "+ '\n'}}{% endif %}{% endfor %}"
    )
    assert "drops the content of message 1 (role 'system'" in refused(conversation("a", "b", system="c"), jinja=jinja)
    render(conversation("a", "b"), jinja=jinja)


def test_a_moved_system_message_is_refused():
    jinja = (
        "{% for message in messages if message.role != 'system' %}{{ message.content }}"
        "{{ '<|im_end|>' if message.role == 'assistant' else '\n' }}{% endfor %}{{ messages[0].content }}"
    )
    assert "content of message" in refused(conversation("a", "b", system="c"), jinja=jinja)


@pytest.mark.parametrize("changed", ["| upper", "| replace('l', 'L')", "[:3]", "| e"])
def test_a_changed_content_is_refused_with_its_message(changed):
    jinja = CHATML.replace("message['content']", f"(message['content'] {changed})")
    found = conversation("Hello", "a <b> </think> well", system="You all are terse.")
    assert "content of message" in refused(found, jinja=jinja)


def test_a_content_that_changes_the_template_text_beside_it_is_refused_by_its_role():
    jinja = CHATML.replace("{{'<|im_start|>' +", "{{ '!' if 'secret' in message.content }}{{'<|im_start|>' +")
    render(conversation("Hello", "two"), jinja=jinja)
    assert "message 3 (user)" in refused(conversation("Hello", "two", "secret", "b"), jinja=jinja)


def test_text_that_a_content_adds_at_the_very_end_is_refused():
    jinja = CHATML + "{{ '!' if 'secret' in messages[-1].content }}"
    render(conversation("Hello", "two"), jinja=jinja)
    assert "message 2 (assistant)" in refused(conversation("Hello", "secret"), jinja=jinja)


def test_a_repeated_content_is_refused_with_its_role():
    jinja = CHATML + "{{ messages[0].content }}"
    assert "repeats the content of message 1 (role 'user'" in refused(conversation("Hello", "two"), jinja=jinja)


@pytest.mark.parametrize("after", ["", "\n", "</answer>"])
def test_a_template_that_does_not_end_a_turn_by_a_special_token_is_refused(after):
    jinja = CHATML.replace("'<|im_end|>' + '\n'", repr(after))
    assert "special token" in refused(conversation("Hello", "two"), jinja=jinja)


def test_a_tokenizer_without_a_template_is_refused():
    tokenizer = unigram("first")
    tokenizer.chat_template, kept = None, tokenizer.chat_template
    try:
        with pytest.raises(InstructLabError, match="no chat template") as caught:
            ChatTemplate().render(conversation("a", "b"), tokenizer)
    finally:
        tokenizer.chat_template = kept
    assert all(option in str(caught.value) for option in OPTIONS[1:])


def test_jinja_that_cannot_be_parsed_is_a_problem_of_the_config():
    (problem,) = ChatTemplate(jinja="{% for message in messages %}").problems()
    assert problem.key == "jinja"
    assert not list(ChatTemplate(jinja=CHATML).problems())
    refused(conversation("a", "b"), jinja="{% for message in messages %}")


DATED = "Today: {{ strftime_now('%d.%m.%Y %H:%M') }}, {{ strftime_now(\"%B\") }}\n" + CHATML


def test_a_template_that_prints_the_date_prints_a_fixed_one():
    assert render(conversation("a", "b"), jinja=DATED)[0].text.startswith("Today: 26.07.2024 00:00, July\n")
    later = render(conversation("a", "b"), jinja=DATED, date="2025-03-01")
    assert later[0].text.startswith("Today: 01.03.2025 00:00, March\n")
    prompt = ChatTemplate(jinja=DATED, date="2025-03-01").render_prompt(conversation("a", "b"), byte_level("chatml"))
    assert prompt == later[: len(prompt)]


def test_the_date_is_what_llamas_template_prints_unless_a_variable_says_otherwise():
    jinja = "{% if date_string is not defined %}{% set date_string = strftime_now('%d') %}{% endif %}" + (
        "Today: {{ date_string }}\n" + CHATML
    )
    for settings, date in [
        ({}, "26 Jul 2024"),
        ({"date": "2025-03-01"}, "01 Mar 2025"),
        ({"variables": {"date_string": "1 May"}}, "1 May"),
    ]:
        assert render(conversation("a", "b"), jinja=jinja, **settings)[0].text.startswith(f"Today: {date}\n")


def test_a_date_that_is_none_and_a_format_that_the_template_computes_are_refused():
    with pytest.raises(Exception, match="not a date"):
        ChatTemplate(date="tomorrow")
    computed = "{% set format = '%d' %}{{ strftime_now(format) }}" + CHATML
    with pytest.raises(InstructLabError, match="format that it computes"):
        render(conversation("a", "b"), jinja=computed)


def test_the_date_decides_the_key_of_cached_examples():
    assert describe(ChatTemplate()) != describe(ChatTemplate(date="2025-03-01"))


def test_a_conversation_without_messages_is_refused():
    with pytest.raises(InstructLabError, match="no messages"):
        render(Conversation(()))


@pytest.mark.parametrize(
    "bomb",
    [
        "{{ 7**99999999 }}",
        "{{ '%0999999d' % 1 }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% if messages|length > 999 %}{{ 'x' * 9999999999 }}{% endif %}{{ messages[0].content * 99999999 }}",
    ],
)
def test_a_chat_template_that_needs_too_much_is_stopped(bomb):
    template = ChatTemplate(jinja=bomb + "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}")
    assert not list(template.problems())
    with pytest.raises(LimitExceeded, match="The chat template is stopped, because it"):
        template.render(Conversation((Message("user", "Hi"), Message("assistant", "Hello"))), byte_level("chatml"))
