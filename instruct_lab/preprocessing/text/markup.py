"""Removal of HTML from texts."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from instruct_lab.preprocessing.text.code_spans import change_outside_code

BLOCKS = (
    "address|article|aside|blockquote|body|br|center|dd|div|dl|dt|figcaption|figure|footer|form|h[1-6r]|head|header|"
    "html|main|nav|ol|p|pre|section|table|tbody|tfoot|thead|title|tr|ul"
)
"""HTML elements whose tags become line breaks."""
INLINE = (
    "a|abbr|acronym|b|bdi|bdo|big|button|caption|cite|code|col|colgroup|del|dfn|em|embed|font|i|iframe|img|input|ins|"
    "kbd|label|link|mark|meta|object|option|param|q|s|samp|select|small|source|span|strike|strong|sub|sup|td|textarea|"
    "th|time|tt|u|var|video|wbr"
)

HIDDEN = re.compile(r"<(script|style)\b[^<>]*+>(?:(?!<(?:script|style)\b).)*?</\1\s*+>", re.DOTALL | re.IGNORECASE)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
DECLARATION = re.compile(r"<!doctype\b[^<>]*+>", re.IGNORECASE)
LIST_ITEM = re.compile(r"\n?<li(?:\s[^<>]*+)?>[^\S\n]*+", re.IGNORECASE)
LIST_ITEM_END = re.compile(r"</li\s*+>", re.IGNORECASE)
BLOCK_TAG = re.compile(rf"\n?</?(?:{BLOCKS})(?:\s[^<>]*+)?/?>\n?", re.IGNORECASE)
INLINE_TAG = re.compile(rf"</?(?:{INLINE})(?:\s[^<>]*+)?/?>", re.IGNORECASE)
ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")

TOPIC = re.compile(
    r"\b(?:x?html5?|xml|css|jsx|svg|markup)\b|\b(?:an?|the|which|what|opening|closing)\b[^.]{0,30}?\b(?:tag|element)s?\b",
    re.IGNORECASE,
)
"""Matches words of texts about markup, which may mention tags on purpose."""


def is_about_markup(texts: Iterable[str]) -> bool:
    """Whether the texts of a row mention HTML, XML or tags, so that removing tags would destroy their meaning."""
    return any(TOPIC.search(remove_html(text)) for text in texts)


def remove_html(text: str) -> str:
    """Remove HTML comments, scripts and tags, and replace entities such as `&amp;` with their characters.

    Only names of HTML elements count as tags: `<EMAIL>`, `List<int>` and `a < b` stay. Code is unchanged. Entities are
    replaced last: `&lt;b&gt;` becomes `<b>`, which this call does not remove, but a second call would.
    """
    if "<" not in text and "&" not in text:
        return text
    return change_outside_code(text, _remove_html)


def _remove_html(text: str) -> str:
    if "<" in text:
        last_comment = text.rfind("-->") + 3  # no comment ends after this index; cutting here keeps the search linear
        if last_comment > 3:
            text = COMMENT.sub("", text[:last_comment]) + text[last_comment:]
        if "</" in text:
            text = HIDDEN.sub("", text)
        text = LIST_ITEM.sub("\n- ", DECLARATION.sub("", text))
        text = INLINE_TAG.sub("", BLOCK_TAG.sub("\n", LIST_ITEM_END.sub("", text)))
    return ENTITY.sub(lambda entity: html.unescape(entity.group()), text) if "&" in text else text
