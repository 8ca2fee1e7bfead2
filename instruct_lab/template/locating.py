"""Search for the contents of messages in a rendered conversation, for chat templates that move or shorten contents.

Templates of reasoning models look for markup in a message's content, such as `</think>`, and move, drop or re-wrap what
stands before and after it. Here, each content is therefore split at this markup into pieces, and a placeholder stands
for each piece: `reasoning</think>answer` becomes `A</think>B`. The conversation is rendered a second time with the
placeholders, whose positions show which pieces remain, and where. As a check, the placeholders are then replaced by
their pieces: the result must equal the conversation rendered with the original contents.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Sequence

import jinja2
from jinja2 import nodes

from instruct_lab.data import Message

GENERATION_TAG = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")  # a tag that transformers adds to Jinja
PLACEHOLDER = re.compile("\ue000(\\d+)\ue001")


def parse_template(jinja: str) -> nodes.Template:
    """Parse a chat template, ignoring its `generation` tags, which only transformers supports.

    Raises:
        jinja2.TemplateSyntaxError: the template is not valid Jinja.
    """
    return jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(GENERATION_TAG.sub("", jinja))


def placeholder(index: int) -> str:
    """Return a marker that occurs in no template: the index between two private-use Unicode characters."""
    return f"\ue000{index}\ue001"


@dataclasses.dataclass(frozen=True)
class Located:
    """A rendered conversation, divided into contents and the template's own text.

    Args:
        contents: what remains of each message's content, including markup such as `</think>` in it.
        glue: the template's own text before, between and after the contents; one more item than `contents`.
        markup: for each message, the part of its item in `contents` that the template may have written itself, such as
            `</think>`.
        parts: for each message, the rest of its item in `contents`, which the template has copied from the message.
    """

    contents: list[str]
    glue: list[str]
    markup: list[str]
    parts: list[str]

    def with_openings(
        self, messages: Sequence[Message], glue: Sequence[str], prompt_of: Callable[[int], str]
    ) -> Located:
        """Move text before an answer into the answer if the template writes it only because of the answer's content.

        An example is the white space that remains if the template removes the reasoning before an answer. The text is
        moved only if it is not a part of the generation prompt, because the model then has to generate it.

        Args:
            messages: the messages of the conversation.
            glue: the template's own text before, between and after the contents, rendered with placeholders instead of
                the contents. If `self.glue` has more text before an answer, the additional text is moved.
            prompt_of: function that receives the index of a message and renders all messages before this one, with the
                generation prompt.

        Returns:
            A copy of this object, with the text moved from `glue` to `contents`.
        """
        contents, own, markup = list(self.contents), list(self.glue), list(self.markup)
        for index, message in enumerate(messages):
            if message.role != "assistant" or not own[index].startswith(glue[index]):
                continue
            opening = own[index].removeprefix(glue[index])
            if opening and not prompt_of(index).endswith(own[index]):
                own[index] = glue[index]
                contents[index] = opening + contents[index]
                markup[index] = opening + markup[index]
        return dataclasses.replace(self, contents=contents, glue=own, markup=markup)


def locate(
    render: Callable[[Sequence[Message]], str], messages: Sequence[Message], text: str, jinja: str
) -> Located | None:
    """Locate the contents of messages in a rendered conversation, even if the template has shortened or moved them.

    Args:
        render: function that renders a conversation as text.
        messages: the messages of the conversation.
        text: the rendered conversation, `render(messages)`.
        jinja: the template that `render` uses.

    Returns:
        The rendered conversation, divided into contents and the template's own text; `None` if no way to divide it
        reproduces the text exactly, or if a message is missing, moved to another place or repeated.
    """
    pattern = _markup(jinja)
    for strip_answer, strip_other in itertools.product(_STRIPS, repeat=2):
        contents = [(strip_answer if m.role == "assistant" else strip_other)(m.content) for m in messages]
        skeleton = _Skeleton(contents, pattern)
        changed = [dataclasses.replace(m, content=c) for m, c in zip(messages, skeleton.contents, strict=True)]
        found = skeleton.find(render(changed), text)
        if found is not None:
            return found
    return None


_STRIPS: tuple[Callable[[str], str], ...] = (str, lambda text: text.strip("\n"), str.strip)
"""Functions that trim a content in the ways that templates use."""


@functools.lru_cache(maxsize=64)
def _markup(jinja: str) -> re.Pattern[str]:
    """Return a pattern for the markup, such as `</think>`, that a template looks for in contents.

    A string constant of the template counts as markup if the template assigns it, passes it to a call or filter, or
    tests whether it is `in` a value. It must have at least two characters, one of them a symbol (no letter, digit or
    white space). The pattern matches nothing if the template has no markup.
    """
    constants = {
        str(node.value).strip() for node in _looked_for(parse_template(jinja)) if isinstance(node, nodes.Const)
    }
    markup = [text for text in constants if len(text) > 1 and not all(c.isalnum() or c.isspace() for c in text)]
    return re.compile(f"({'|'.join(map(re.escape, sorted(markup, key=len, reverse=True)))})" if markup else "((?!))")


def _looked_for(tree: nodes.Template) -> Iterator[nodes.Node]:
    for call in tree.find_all(nodes.Call):
        yield from call.args
    for applied in tree.find_all(nodes.Filter):
        yield from applied.args
    for comparison in tree.find_all(nodes.Compare):
        if any(operand.op in ("in", "notin") for operand in comparison.ops):
            yield comparison.expr
    for assignment in tree.find_all(nodes.Assign):
        yield assignment.node


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A substring of a content: markup, white space, or text that a placeholder replaces."""

    text: str
    index: int | None = None  # index of its placeholder


class _Skeleton:
    """The contents of messages, split at markup such as `</think>`; a placeholder replaces each text between markup."""

    def __init__(self, contents: Sequence[str], pattern: re.Pattern[str]) -> None:
        self._parts: list[str] = []
        split = [pattern.split(content) for content in contents]
        self._messages = [
            list(self._pieces(parts if any(map(str.strip, parts[::2])) else [content]))  # whole if only markup
            for content, parts in zip(contents, split, strict=True)
        ]

    def _pieces(self, parts: list[str]) -> Iterator[_Piece]:
        """Yield the substrings of a content; white space beside markup is a substring of its own.

        Args:
            parts: the content, split at markup: items with an even index are plain text, the others are markup.
        """
        for number, part in enumerate(parts):
            if number % 2:
                yield _Piece(part)
            elif part.strip() or len(parts) == 1:
                start = 0 if number == 0 else len(part) - len(part.lstrip())
                end = len(part) if number == len(parts) - 1 else len(part.rstrip())
                yield _Piece(part[:start])
                yield _Piece(part[start:end], len(self._parts))
                self._parts.append(part[start:end])
                yield _Piece(part[end:])
            else:
                yield _Piece(part)

    @property
    def contents(self) -> list[str]:
        """The contents of the messages, with placeholders instead of the texts between markup."""
        return [
            "".join(piece.text if piece.index is None else placeholder(piece.index) for piece in pieces)
            for pieces in self._messages
        ]

    def find(self, rendered: str, text: str) -> Located | None:
        """Divide a rendered conversation into contents and the template's own text.

        Return `None` if `rendered` does not become `text` when each placeholder is replaced by what it stands for, if
        placeholders are repeated or out of order, or if `rendered` has no placeholder of a message.

        Args:
            rendered: the conversation, rendered with placeholders.
            text: the conversation, rendered with its contents.
        """
        found = [int(match[1]) for match in PLACEHOLDER.finditer(rendered)]
        if found != sorted(set(found)):
            return None
        between = PLACEHOLDER.split(rendered)[::2]
        spans, position = {}, 0
        for index, before in zip(found, between, strict=False):
            start = position + len(before)
            position = start + len(self._parts[index])
            spans[index] = (start, position)
        filled = itertools.chain.from_iterable(
            zip(between, [*(self._parts[index] for index in found), ""], strict=True)
        )
        if "".join(filled) != text:
            return None
        return self._divide(text, spans)

    def _divide(self, text: str, spans: dict[int, tuple[int, int]]) -> Located | None:
        contents, glue, markup, parts, position = [], [], [], [], 0
        for pieces in self._messages:
            numbers = [number for number, piece in enumerate(pieces) if piece.index in spans]
            if not numbers:
                return None
            start = spans[pieces[numbers[0]].index or 0][0]
            for piece in reversed(pieces[: numbers[0]]):
                before = text[position:start].rstrip()
                if piece.index is None and piece.text.strip() and before.endswith(piece.text):
                    start = position + len(before) - len(piece.text)
            end = spans[pieces[numbers[-1]].index or 0][1]
            for piece in pieces[numbers[-1] + 1 :]:
                after = text[end:].lstrip()
                if piece.index is None and piece.text.strip() and after.startswith(piece.text):
                    end = len(text) - len(after) + len(piece.text)
            own = [spans[pieces[number].index or 0] for number in numbers]
            edges = [start, *itertools.chain.from_iterable(own), end]
            markup.append("\n".join(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)))
            parts.append("\n".join(text[a:b] for a, b in own))
            glue.append(text[position:start])
            contents.append(text[start:end])
            position = end
        return Located(contents, [*glue, text[position:]], markup, parts)
