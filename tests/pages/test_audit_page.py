"""The audit as a page: self-contained, escaped, complete, and small."""

import html.parser
import json
import re

import pytest
from markupsafe import Markup
from support.browser import MISSING, Browser, chromium

from instruct_lab.data.audit import Audit
from instruct_lab.pages.audit_page import audit_page
from instruct_lab.pages.facts import render_fact
from instruct_lab.pages.format import format_number
from instruct_lab.pages.histogram import histogram_svg, is_histogram
from instruct_lab.pages.render import mark_invisible, render_part, render_table
from instruct_lab.pages.word_difference import word_difference
from instruct_lab.terminal import visible

HISTOGRAM = {"bounds": [0, 100, 200, 3000], "counts": [5, 0, 2]}
VOID = {"meta", "link", "input"}


class Reader(html.parser.HTMLParser):
    """The elements and the text of a page; unbalanced tags are an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data

    def tags(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]


def sample_audit():
    audit = Audit()
    for split, rows in (("train", 100), ("validation", 20)):
        audit.rows(f"preprocessing/{split}/clean", rows, rows)
    audit.rows("data/train/mine", 110, 100)
    audit.record("data/train/mine", "dropped", "no answer", "user: hello\nassistant: ")
    audit.record(
        "preprocessing/train/clean", "changed", "mojibake", "user: the cafÃ© is open", "user: the café is open"
    )
    audit.rows("preprocessing/train/deduplicate", 100, 90)
    audit.note("preprocessing/train/deduplicate", clusters={"2": 10, "3": 4})
    audit.note("preprocessing/train/bias", gender={"female": {"count": 3, "positive": 1}, "male": {"count": 7}})
    audit.facts["sources"] = {"train": {"mine": 90, "other": 45}}
    audit.facts["tokens"] = {
        "train": {
            "examples": 90,
            "tokens": 12_345,
            "target_share": 0.25,
            "packing_efficiency": 0.99,
            "lengths": HISTOGRAM,
            "target_lengths": HISTOGRAM,
        }
    }
    return audit


def test_the_page_has_all_parts_of_the_audit():
    read = Reader(audit_page(sample_audit().to_json(), "my run"))
    for shown in (
        *("my run", "source mine", "110\u00a0→\u00a0100", "no answer", "deduplicate", "100\u00a0→\u00a090", "mojibake"),
        *("12,345", "packing efficiency", "train: tokens of an example", "train: target tokens of an example"),
        *("other", "groups of duplicate rows", "female", "positive"),
    ):
        assert shown in read.text, shown
    assert len(read.tags("svg")) >= 5


def test_text_of_the_data_is_never_markup():
    audit = sample_audit()
    attack = "<script>alert(1)</script><img src=x onerror=alert(2)>\"' onload='x'"
    audit.record("data/train/" + attack, "dropped", attack, attack, attack + " more")
    audit.note(attack, **{attack: {attack: {attack: attack}}}, names=[attack], histogram={attack: 3, "b": 4})
    audit.facts["sources"] = {attack: {attack: 5, "x": 1}}
    audit.facts["tokens"] = {attack: dict(audit.facts["tokens"]["train"], **{attack: 1})}
    text = audit_page(audit.to_json(), attack)
    read = Reader(text)
    assert len(read.tags("script")) == 1
    assert read.tags("img") == []
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
    assert attack in read.text


def test_invisible_characters_are_replaced_by_signs():
    audit = Audit()
    audit.record("data/train/mine", "changed", "control characters", "a\x00b\x1b[31m\u202ec\ud800", "ab")
    text = audit_page(audit.to_json(), "x")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", text)
    read = Reader(text)
    assert "a␀b␛[31m⟨U+202E⟩c" in read.text
    text.encode("utf-8")


@pytest.mark.parametrize("text", ["family 👩‍👩‍👧", "می‌خواهم", "a\nb\tc", "naïve"])
def test_joiners_and_line_breaks_stay_as_they_are(text):
    assert visible(text) == text
    assert mark_invisible(text) == text


def test_no_request_leaves_the_page():
    text = audit_page(sample_audit().to_json(), "x")
    read = Reader(text)
    for tag, attributes in read.elements:
        assert "src" not in attributes
        assert attributes.get("href", "data:,").startswith("data:"), tag
    assert "url(" not in text
    assert "@import" not in text
    assert "http" not in text.replace("http-equiv", "")
    (policy,) = [meta["content"] for meta in read.tags("meta") if meta.get("http-equiv")]
    assert policy.startswith("default-src 'none'")


def test_the_policy_allows_only_the_script_and_style_of_the_page():
    import base64
    import hashlib

    text = audit_page({}, "x")
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in text
    assert "style=" not in text
    assert "unsafe" not in text


def test_the_page_fits_light_dark_and_a_phone():
    text = audit_page({}, "x")
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_every_reason_and_fact_can_be_searched_for():
    read = Reader(audit_page(sample_audit().to_json(), "x"))
    assert len([a for a in read.tags("details") if a.get("class") == "searchable"]) == 4  # two reasons, two facts
    assert [a["id"] for a in read.tags("input")] == ["search"]


@pytest.mark.slow
def test_a_large_audit_stays_below_a_megabyte_and_the_page_says_what_it_leaves_out():
    audit = Audit()
    for stage in range(60):
        for reason in range(10):
            for row in range(5):
                before = f'user: <é> & "text" {stage} {reason} {row} ' + "many different words of a row " * 20
                audit.record(f"preprocessing/train/step{stage}", "changed", f"reason {reason}", before, before.upper())
        audit.rows(f"preprocessing/train/step{stage}", 10**6, 10**6 - stage)
        audit.note(f"preprocessing/train/step{stage}", sizes={str(n): n for n in range(3000)}, deep=[[["x" * 9000]]])
    text = audit_page(audit.to_json(), "x")
    assert len(text.encode()) < 1_000_000
    assert "more in audit.json" in text
    Reader(text)


def test_every_reason_is_listed_even_without_its_samples():
    audit = Audit()
    for reason in range(100):
        for _ in range(5):
            audit.record("batching", "changed", f"reason {reason}.", "前" * 400, "後" * 400)
    read = Reader(audit_page(audit.to_json(), "x"))
    assert all(f"reason {reason}." in read.text for reason in range(100))


def test_an_empty_audit_has_a_page():
    assert "Every row was kept as it was" in Reader(audit_page(Audit().to_json(), "x")).text
    assert "Every row was kept as it was" in Reader(audit_page({}, "x")).text


# ---- parts


def brackets(words):
    """A version of a text with its differing stretches in brackets."""
    return "".join(f"[{one.text}]" if one.differs else one.text for one in words)


def test_words_that_differ_are_marked():
    before, after = word_difference("the quick  fox", "the slow fox")
    assert brackets(before) in ("the [quick·] fox", "the [quick] [·]fox")
    assert brackets(after) == "the [slow] fox"


def test_differences_are_single_characters_in_scripts_without_spaces():
    assert brackets(word_difference("今天天气很好", "今天天气真好")[0]).startswith("今天天气[")


def test_difference_keeps_both_texts():
    before, after = word_difference("a<b>\tc", "a<i> c\n")
    assert "".join(one.text for one in before) == "a<b>⇥\tc"
    assert "".join(one.text for one in after) == "a<i>·c↵\n"


def test_a_changed_row_is_shown_with_its_differences_escaped():
    audit = Audit()
    audit.record("data/train/mine", "changed", "x", "a<b>\tc", "a<i> c\n")
    text = audit_page(audit.to_json(), "x")
    assert "a&lt;<del>b</del>&gt;<del>⇥\t</del>c</div>" in text
    assert "a&lt;<ins>i</ins>&gt;<ins>·</ins>c<ins>↵\n</ins></div>" in text


def test_short_differences_list_their_code_points():
    before, _ = word_difference("e\u0301", "é")
    assert before[0].code_points == "U+0065 U+0301"


def test_very_long_texts_are_marked_as_a_whole():
    before, after = word_difference("a b " * 5000, "a c " * 5000)
    assert len(before) == len(after) == 1


def test_a_histogram_has_a_bar_for_each_bin_that_is_not_empty_and_names_its_bounds():
    svg = histogram_svg(HISTOGRAM, "lengths <x>", "tokens")
    read = Reader(str(svg))
    heights = [float(a["height"]) for a in read.tags("rect")]
    assert heights[1] == 0.0
    assert heights[0] > heights[2] > 0
    assert "0 to 100 tokens: 5" in svg
    assert "200 to 3,000 tokens: 2" in svg
    assert "lengths &lt;x&gt;" in svg


@pytest.mark.parametrize(
    "value", [{}, {"bounds": [1], "counts": []}, {"bounds": [1, 2], "counts": ["a"]}, {"bounds": 1, "counts": 2}, [1]]
)
def test_other_values_are_not_drawn_as_a_histogram(value):
    assert not is_histogram(value)
    Reader(str(render_fact(value)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"2": 10, "3": 4}, "<rect"),
        ({"female": {"count": 3}, "male": {"count": 7, "share": 0.5}}, '<th class="number">share</th>'),
        ([{"a": 1}, {"a": 2}], '<th class="number">a</th>'),
        (["x", "y"], "x, y"),
        ([1, 2.5, None, True], "1, 2.5, –, yes"),
        ("plain", "plain"),
        (None, "–"),
        (HISTOGRAM, "<svg"),
        ({"sizes": HISTOGRAM, "number": 3}, "<svg"),
        ({"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}, "g"),
        ({"a": [], "b": {}}, "b"),
    ],
)
def test_facts_of_any_shape_are_shown(value, shown):
    json.dumps(value)
    text = str(render_fact(value, "label"))
    Reader(text)
    assert shown in text


def test_a_table_puts_numbers_to_the_right_and_escapes_its_cells():
    text = render_table(["name", "rows"], [["<x>", 1234], ["y", None]], caption="a & b")
    assert '<td class="number">1,234</td>' in text
    assert "<td>&lt;x&gt;</td>" in text
    assert "a &amp; b" in text


def test_only_markup_from_templates_is_not_escaped():
    assert render_part("titled", '"<x>', Markup("<b></b>")) == "<div><h3>&#34;&lt;x&gt;</h3><b></b></div>"
    assert 'placeholder="&#34;&lt;␀"' in render_part("search_box", '"<\x00')


def test_numbers_are_short():
    shown = [format_number(value) for value in (1234567, 0.123456, None, True, "text")]
    assert shown == ["1,234,567", "0.1235", "–", "yes", "text"]


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason=MISSING)
def test_the_page_opens_in_a_browser_and_its_search_hides_what_does_not_match(tmp_path):
    path = tmp_path / "audit.html"
    path.write_text(audit_page(sample_audit().to_json(), "my run"), encoding="utf-8")
    typed = """(() => { const box = document.getElementById("search"); box.value = "%s";
    box.dispatchEvent(new Event("input")); return [document.getElementById("search-count").textContent,
    [...document.querySelectorAll(".searchable")].filter((part) => !part.hidden).length]; })()"""
    with Browser() as browser:
        browser.open(path)
        everything = browser.run('document.querySelectorAll(".searchable").length')
        count, left = browser.run(typed % "mojibake")
        assert (count, 0 < left < everything) == (f"{left} found", True)
        assert browser.run(typed % "") == ["", everything]
        assert browser.colours(browser.screenshot()) > 20
        assert browser.errors == []
        assert browser.requests == [path.as_uri()]
