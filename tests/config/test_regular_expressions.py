"""A regular expression finds what `re` would find, and cannot exceed its limits of time and memory."""

import re
import time
import unicodedata
import warnings

import hypothesis
import pytest
from hypothesis import strategies as st

from instruct_lab.config import LimitedExpression
from instruct_lab.config import regular_expressions as module
from instruct_lab.errors import InstructLabError, LimitExceeded

EXPENSIVE = r"(?:(?:.{1,50}){1,50}){1,50}[§¶]"
CLASSES = [r"\w", r"\W", r"\s", r"\S", r"\d", r"[\w]", r"[\W]", r"[\S]", r"[^\W\d_]", r"[^\S\n]", r"[^\w\s]"]
ORDINARY = [
    *(r"bias$|norm|(^|\.)ln_", r"embed|(^|\.)(wte|wpe)(\.|$)", r".*\.(q|v)_proj", r"layers\.\d+\.mlp", r"EMP-\d{4,6}"),
    *(r"\bas an? (?:ai|language)\b", r"(?i)i['’]m sorry", r"(?P<a>\w+) (?P=a)", r"(\w)\1", r"(?<!\d)\d{3}(?!\d)"),
    *(r"^\s*[-*] ", r"(?m)^\w+:", r"(?s)<a>.*?</a>", r"[^\W_]{2,}", r"a++b", r"(?>a+)b", r"(?#[)x", r"\Z"),
    *(r"(?x) a \ b # [", "a{e}", "a{}", "a{,}", "a{,3}", "a{1,2}", "x{", "{", "[[a]", "[a&&b]", "[]a]", "[^]a]"),
    *("a{2}", "a{1e}", "a{s<=1}", "(?:ab){i}", "a{1<=e<=2}", r"\{a{2}\}", r"[\]{]{2}", "x{2}?", "(a|b){2,3}+"),
    *(r"\\{2}", r"[\b]", r"\bna\u0301\b", r"(?a)\w+", r"\B1", "é", r"\x41|\u0042", r"a{2,}?b", r"[a-f\d]{3}"),
]
LETTERS = "aAbBexqv_projlayers.0123 ei{}[]<>=&|^\\-:*'’#\n\t\x1c\b\u0301éÉ½²ß界\u0e48\ud7a3"


def compiled(expression):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return re.compile(expression), LimitedExpression(expression, where="key")


@pytest.mark.slow
@pytest.mark.parametrize("expression", CLASSES)
def test_a_class_contains_the_same_characters_as_for_re(expression):
    known, limited = compiled(expression)
    text = "".join(c for c in map(chr, range(0x30000)) if unicodedata.category(c) != "Cn")
    assert limited.findall(text) == known.findall(text)


@pytest.mark.slow
@pytest.mark.parametrize("expression", ORDINARY)
@hypothesis.given(text=st.text(LETTERS, max_size=40))
@hypothesis.settings(max_examples=60)
def test_an_ordinary_expression_finds_what_re_finds(expression, text):
    known, limited = compiled(expression)
    assert limited.findall(text) == known.findall(text)
    assert limited.sub(lambda match: f"<{match.group()}>", text) == known.sub(lambda match: f"<{match.group()}>", text)
    for method in ("search", "fullmatch"):
        found = getattr(known, method)(text), getattr(limited, method)(text)
        assert (found[0] and found[0].span()) == (found[1] and found[1].span())


@pytest.mark.parametrize(
    "expression",
    ["(", "*a", "[a", r"\p{L}", "a**", "(?P<n>", "(?V1)a", "(?R)", r"\L<x>", "(?b)a", "[z-a]", "a{3,1}", "(" * 3000],
)
def test_what_re_refuses_is_refused(expression):
    with pytest.raises(ValueError, match="is not a regular expression"):
        module.check_expression(expression)


@pytest.mark.parametrize("expression", ["a{600000}", "(?:[ab]{1000}){1000}", "(?:(?:(x|y){100}z){100}){100}"])
def test_repetitions_that_need_much_memory_are_refused(expression):
    with pytest.raises(ValueError, match="repetitions require"):
        module.check_expression(expression)


@pytest.mark.parametrize("expression", ["(?:a{10}){10,}", r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}" * 20, "a{50000}", "a{0}"])
def test_ordinary_repetitions_are_accepted(expression):
    assert module.check_expression(expression) == expression


@pytest.mark.slow
@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (EXPENSIVE, "model.layers.0.self_attn.q_proj.weight"),
        (r"(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)\1\2\3[§¶]", "x" * 60),
        (r"(?:(.)|(..))+\1\2[§¶]", "abc" * 12),
    ],
)
def test_an_expensive_search_ends_with_the_key_and_the_expression(monkeypatch, expression, text):
    monkeypatch.setattr(module, "MAX_SECONDS", 0.2)
    limited = LimitedExpression(expression, where="tuning.pattern")
    for search in (limited.search, limited.findall, limited.fullmatch):
        started = time.process_time()
        with pytest.raises(LimitExceeded, match=re.escape(repr(expression))) as error:
            search(text)
        assert time.process_time() - started < 5
        assert "Where: tuning.pattern." in str(error.value)
        assert "simplify" in str(error.value)


def test_an_invalid_expression_names_its_key():
    with pytest.raises(InstructLabError, match=r"is not a regular expression.*Where: row 3"):
        LimitedExpression("(", where="row 3")
