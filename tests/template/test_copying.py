"""The proof that a template copies contents: which templates it accepts, and that it is never wrong."""

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat_tokenizers import byte_level, conversation

from instruct_lab.template import ChatTemplate
from instruct_lab.template.copying import copies_contents

LOOP = "{% for m in messages %}"
COPYING = {
    "subscript": LOOP + "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}",
    "attribute": LOOP + "<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}",
    "concatenated": LOOP + "{{ m.role ~ m.content ~ eos_token }}{% endfor %}",
    "roles distinguished": LOOP
    + "{% if m.role == 'user' %}U {{ m.content }}{% else %}A {{ m.content }}{% endif %}{% endfor %}",
    "first message": "{% if messages[0].role == 'system' %}{{ messages[0]['content'] }}{% endif %}"
    "{% for m in messages[1:] %}{{ m.content }}{% endfor %}",
    "number of messages": "{{ messages | length }}" + LOOP + "{{ loop.index }}{{ m.content }}{% endfor %}",
}
CHANGING = {
    "trimmed": LOOP + "{{ m.content | trim }}{% endfor %}",
    "stripped": LOOP + "{{ m.content.strip() }}{% endfor %}",
    "joined and trimmed": LOOP + "{{ ('A ' + m.content) | trim }}{% endfor %}",
    "tested": LOOP + "{% if 'x' in m.content %}X{% endif %}{{ m.content }}{% endfor %}",
    "chosen": LOOP + "{{ m.content if m.content else 'nothing' }}{% endfor %}",
    "assigned": LOOP + "{% set c = m.content %}{{ c | upper }}{% endfor %}",
    "message assigned": "{% set first = messages[0] %}{{ first.content | upper }}",
    "message in a namespace": "{% set ns = namespace(m=messages[0]) %}{{ ns.m.content | upper }}",
    "list assigned": "{% set all = messages %}{% for m in all %}{{ m.content | upper }}{% endfor %}",
    "list filtered": "{% for m in messages | selectattr('content', 'eq', 'x') %}{{ m.role }}{% endfor %}",
    "list mapped": "{{ messages | map(attribute='content') | join('') | upper }}",
    "loop with a test": "{% for m in messages if m.content %}{{ m.content }}{% endfor %}",
    "neighbour": LOOP + "{{ m.content }}{{ loop.nextitem.content | upper if loop.nextitem }}{% endfor %}",
    "changed": LOOP + "{{ m.content }}{{ loop.changed(m.content) }}{% endfor %}",
    "whole message": LOOP + "{{ m }}{{ m.content }}{% endfor %}",
    "as JSON": LOOP + "{{ m | tojson }}{% endfor %}",
    "length": LOOP + "{{ m.content | length }}{{ m.content }}{% endfor %}",
    "macro": "{% macro show(x) %}{{ x | upper }}{% endmacro %}" + LOOP + "{{ show(m.content) }}{% endfor %}",
    "filter block": LOOP + "{% filter upper %}{{ m.content }}{% endfilter %}{% endfor %}",
    "computed key": LOOP + "{{ m['con' + 'tent'] | upper }}{% endfor %}",
    "key by name": LOOP + "{% for k in m %}{{ m[k] | upper }}{% endfor %}{% endfor %}",
    "values": LOOP + "{{ m.values() | join | upper }}{% endfor %}",
    "loop's name again": LOOP + "{% for m in 'ab' %}{{ m }}{% endfor %}{{ m.content }}{% endfor %}",
    "another list by the name": "{% set messages = messages[1:] %}" + LOOP + "{{ m.content }}{% endfor %}",
    "multiplied": LOOP + "{{ m.content * 2 }}{% endfor %}",
    "an index of it": LOOP + "{{ m.content[0] }}{% endfor %}",
    "no Jinja": "{% for",
}


@pytest.mark.parametrize("name", COPYING)
def test_a_template_that_copies_is_proven_to(name) -> None:
    assert copies_contents(COPYING[name])


@pytest.mark.parametrize("name", CHANGING)
def test_a_template_that_may_change_a_content_is_not(name) -> None:
    assert not copies_contents(CHANGING[name])


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text(max_size=12)), min_size=1, max_size=4)
)
@settings(max_examples=100)
def test_a_proof_holds_for_any_text(turns) -> None:
    marks = [f"\ue000{index}\ue001" for index in range(len(turns))]
    for text in COPYING.values():
        template = jinja2.Environment().from_string(text)
        rendered = template.render(messages=[{"role": role, "content": content} for role, content in turns])
        expected = template.render(
            messages=[{"role": role, "content": mark} for (role, _), mark in zip(turns, marks, strict=True)]
        )
        for mark, (_, content) in zip(marks, turns, strict=True):
            expected = expected.replace(mark, content)
        assert rendered == expected


def test_a_proven_template_gives_the_segments_of_a_rendered_one(monkeypatch) -> None:
    tokenizer = byte_level("chatml")
    assert copies_contents(tokenizer.chat_template)
    found = conversation("Hello <|im_end|>", " two\n", system="You are terse.")
    fast = ChatTemplate().render(found, tokenizer)
    monkeypatch.setattr("instruct_lab.template.chat.copies_contents", lambda template: False)
    assert ChatTemplate().render(found, tokenizer) == fast
