"""Templates of a stranger cannot take the machine's time or memory; other templates render as without limits."""

import random

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from support.hanging import no_hang

from instruct_lab.data import Templates, jinja_limits
from instruct_lab.data.jinja_limits import limit, render
from instruct_lab.data.sources.base import Row
from instruct_lab.errors import LimitExceeded

GROW = "{% set ns = namespace(s='x', l=[1]) %}{% for i in range(60) %}BODY{% endfor %}"
NESTED = "{% set n = namespace(a=(1,), b=(1,)) %}{% for i in range(60) %}{% set n.a = (n.a, n.a) %}"
NESTED += "{% set n.b = (n.b, n.b) %}{% endfor %}"
BOMBS = {
    "width of a format": "{{ '%0999999d' % 1 }}",
    "width as a value": "{{ '%*d' % (999999999, 1) }}",
    "width of str.format": "{{ '{:999999999}'.format(1) }}",
    "nested width": "{{ '{:{}}'.format(1, 999999999) }}",
    "power": "{{ 7**99999999 }}",
    "product": "{{ 7**3000 * 7**3000 * 7**3000 }}",
    "repetition": "{{ 'x' * 999999999 }}",
    "repeated list": "{{ [1] * 999999999 }}",
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "doubling by ~": GROW.replace("BODY", "{% set ns.s = ns.s ~ ns.s %}"),
    "doubling by +": GROW.replace("BODY", "{% set ns.s = ns.s + ns.s %}"),
    "doubling by replace": GROW.replace("BODY", "{% set ns.s = (ns.s ~ 'x').replace('x', ns.s) %}"),
    "doubling by a filter": GROW.replace("BODY", "{% set ns.s = (ns.s ~ 'x')|replace('x', ns.s) %}"),
    "doubling by join": GROW.replace("BODY", "{% set ns.s = [ns.s, ns.s]|join %}"),
    "doubling by format": GROW.replace("BODY", "{% set ns.s = '{0}{0}'.format(ns.s) %}"),
    "doubling by %": GROW.replace("BODY", "{% set ns.s = '%s%s' % (ns.s, ns.s) %}"),
    "doubling by a block": GROW.replace("BODY", "{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = x %}"),
    "doubling of a list": GROW.replace("BODY", "{% set ns.l = ns.l + ns.l %}"),
    "shared lists as text": GROW.replace("BODY", "{% set ns.l = [ns.l, ns.l] %}") + "{{ ns.l }}",
    "shared lists as JSON": GROW.replace("BODY", "{% set ns.l = [ns.l, ns.l] %}") + "{{ ns.l|tojson }}",
    "padding": "{{ 'x'.ljust(999999999) }}",
    "centre": "{{ 'x'|center(999999999) }}",
    "indent": "{{ 'x'|indent(999999999, true) }}",
    "slices": "{{ [1, 2]|slice(999999999)|list }}",
    "precision": "{{ 1.5|round(999999999) }}",
    "calls": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "long output": "{% for i in range(99999) %}{{ 'y' * 4000000 }}{% endfor %}",
    "long text": "{% for i in range(99999) %}" + "z" * 100_000 + "{% endfor %}",
    "long separator": "{{ range(99999)|map('string')|join('x' * 4000000) }}",
    "bytes of a number": "{{ (1).to_bytes(300000000, 'big') }}",
    "bytes by name": "{{ (1).to_bytes(length=300000000, byteorder='big') }}",
    "replaced bytes": "{{ ('a' * 5000).encode().replace('a'.encode(), ('b' * 100000).encode()) }}",
    "tabs in bytes": "{{ ('\t' * 100000).encode().expandtabs(9000) }}",
    "compared lists": NESTED + "{{ n.a == n.b }}",
    "nested keys": NESTED + "{{ {n.a: 1} }}",
    "lists in a test": NESTED + "{{ n.a is eq n.b }}",
    "lists in a test of members": NESTED + "{{ n.a is in [n.b] }}",
    "lists in a test by a filter": NESTED + "{{ [n.a]|select('eq', n.b)|list }}",
    "counted lists": NESTED + "{{ [n.a].count(n.b) }}",
    "a nested key that is looked up": NESTED + "{{ {}.get(n.a) }}",
    "a nested index": NESTED + "{{ {}[n.a] }}",
    "a nested key of a call": NESTED + "{{ dict([(n.a, 1)]) }}",
    "unique lists": NESTED + "{{ [n.a, n.b]|unique|list }}",
    "changed lists": NESTED + "{% for x in [n.a, n.b] %}{{ loop.changed(x) }}{% endfor %}",
    "parts": "{% set s = 'x' * 4000000 %}{% for i in range(90000) %}{% set ns = [s[i:]] %}{{ ns|length }}{% endfor %}",
}

WITH_REAL_LIMITS = ("nested loops", "nested keys", "calls", "long text")
"""Bombs that reach the limits as they are; for the others they are lower, because reaching them takes a second."""


@pytest.mark.parametrize(
    ("template", "value"),
    [("{{ 7 * 6 }}", "42"), ("{{ 'ab' * 3 }}", "ababab"), ("{% set x = 7 * 6 %}{{ x }}", "42")],
)
def test_no_expression_is_computed_by_the_compiler(template, value):
    environment = ImmutableSandboxedEnvironment()
    assert value in environment.compile(template, raw=True)
    assert value not in limit(environment).compile(template, raw=True)


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_template_that_needs_too_much_is_stopped_with_its_name_and_row(bomb, monkeypatch):
    for limit_name in ("MAX_STEPS", "MAX_CHARACTERS") if bomb not in WITH_REAL_LIMITS else ():
        monkeypatch.setattr(jinja_limits, limit_name, getattr(jinja_limits, limit_name) // 10)
    with no_hang():
        templates = Templates(templates={"mine": BOMBS[bomb] + " {{ a }} ||| {{ a }}"}, syntax="jinja")
        templates.required()  # what a check calls
        with pytest.raises(
            LimitExceeded, match=r"template 'mine' is stopped, because .*rows.jsonl, line 7.*templates.mine"
        ):
            templates.conversation(Row({"a": "x"}, "rows.jsonl, line 7"))


SENSIBLE = [
    "{{ a is eq 'x' }} {{ a is in words }} {{ words|select('eq', 'x')|list }} {{ [[2]].count([2]) }} "
    "{{ [1] is lt [2] }} {{ {a: 1}[a] }} {{ {(1, 2): 3}[(1, 2)] }} {{ {(1, 2): 3}.get((1, 2)) }} {{ dict([(a, 1)]) }}"
    "{{ words[0] }}{% for x in [1, 1, (2,)] %}{{ loop.changed(x) }}{% endfor %}",
    "{{ 1 < 2 <= 3 != 4 }} {{ a in 'xyz' }} {{ a not in words }} {{ [1, [2]] == [1, [2]] }} {{ {a: 1, 'b': {2: 3}} }}",
    "{{ a }} {{ a|upper }} {{ '%.2f' % 3.14159 }} {{ '%5d|%-5s' % (3, a) }} {{ 'é'.center(9) }} {{ 2**10 * 3 % 7 }}",
    "{{ ['b', 'a']|sort|join(', ') }} {{ '{:>5}'.format(a) }} {{ range(3)|list }}",
    "{{ words|length }} {{ words[1:]|join }}",
    "{% for w in words %}{{ loop.index }}/{{ loop.length }} {{ w ~ '-' ~ loop.last }} {{ loop.previtem }}{% endfor %}",
    "{% for w in words if w != 'two' %}{{ w }}{% else %}none{% endfor %}{% for w in [] %}x{% else %}empty{% endfor %}",
    "{% for w in words|select('equalto', 'two') %}{{ w }} {{ loop.revindex }}{% endfor %}",
    "{% for n in tree recursive %}{{ n.name }}({{ loop(n.children) }}){% endfor %}",
    "{% for k, v in {'a': 1, 'b': [2, 3]}.items() %}{{ k }}={{ v|tojson }}{% endfor %}",
    "{% macro m(x, y=2) %}{{ x }}:{{ y }}:{{ caller() }}{% endmacro %}{% call m(1) %}inner{% endcall %}",
    "{% set ns = namespace(n=0) %}{% for w in words %}{% set ns.n = ns.n + w|length %}{% endfor %}{{ ns.n }}",
    "{{ a.replace('x', 'yy') }} {{ 'a\nb'|indent(2, true) }}",
    "{{ 'long text here'|wordwrap(5) }} {{ words|map('upper')|list }}",
    "{{ words|batch(2)|list }} {{ 3.14159|round(2) }} {{ 'a b'.split() }}",
    "{{ [1, 2] + [3] }} {{ '-' * 5 }} {{ none }} {{ 1.5 }}",
    "{% filter upper %}text {{ a }}{% endfilter %}{% set x %}{{ a }}!{% endset %}{{ x }}{{ cycler('a', 'b').next() }}",
]


@pytest.mark.parametrize("text", SENSIBLE)
def test_other_templates_render_as_without_limits(text):
    tree = [{"name": "r", "children": [{"name": "c", "children": []}]}]
    variables = {"a": "x", "words": ["one", "two", "three"], "tree": tree}
    expected = ImmutableSandboxedEnvironment().from_string(text).render(variables)
    assert render(limit(ImmutableSandboxedEnvironment()).from_string(text), variables) == expected


@pytest.mark.slow
def test_long_contents_and_conversations_are_within_the_limits():
    text = "{% for m in messages %}<{{ m.role }}>{{ (m.content.split('</think>')|last).strip() ~ '\\n' }}{% endfor %}"
    template = limit(ImmutableSandboxedEnvironment()).from_string(text)
    long = render(template, {"messages": [{"role": "user", "content": "y" * 10_000_000}] * 3})
    assert len(long) == 3 * (10_000_000 + len("<user>\n"))
    many = [{"role": "user", "content": str(random.Random(number).random())} for number in range(20_000)]
    assert render(template, {"messages": many}) == "".join(f"<user>{m['content']}\n" for m in many)


def test_an_undefined_variable_is_still_an_error():
    environment = limit(ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined))
    for text in ("{{ missing }}", "{{ missing ~ 'a' }}", "{{ missing|join }}", "{% for x in missing %}{% endfor %}"):
        with pytest.raises(jinja2.UndefinedError):
            render(environment.from_string(text), {})
