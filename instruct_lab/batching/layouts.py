"""Conversations to examples in the layout that an objective reads, for each model family."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from instruct_lab.batching.base import IGNORED, Example, Layout
from instruct_lab.batching.encoding import Encoder
from instruct_lab.data import Conversation
from instruct_lab.errors import InstructLabError
from instruct_lab.template import Segment, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Examples = Callable[[], list[Example | None]]
"""Waits for examples that were begun; None where a conversation has nothing to read in this layout."""


class LayoutEncoder(ABC):
    """Encodes conversations in one layout.

    Args:
        template: gives the text and says what is trained.
        tokenizer: gives the ids.
    """

    nothing: str = "nothing to read"
    """Why a conversation gives no example."""

    def __init__(self, template: Template, tokenizer: PreTrainedTokenizerBase) -> None:
        self.template, self.tokenizer = template, tokenizer

    @abstractmethod
    def begin(self, conversations: Sequence[Conversation]) -> Examples:
        """Start to encode, in a thread of its own where the tokenizer can."""

    def encode(self, conversations: Sequence[Conversation]) -> list[Example | None]:
        """One example for each conversation, in order."""
        return self.begin(conversations)()

    @abstractmethod
    def prompts(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """Token ids of what stands before each final answer, as the model reads it at generation."""

    def segments(self, conversation: Conversation) -> list[Segment]:
        """The rendered text, whose contents can be cut."""
        return self.template.render(conversation, self.tokenizer)

    def content_spans(self, content: str) -> list[tuple[int, int]]:
        """Start and end of each token of a content, in characters of it."""
        return self._texts.encoder.content_spans(content)

    def excess(self, example: Example, limit: int | None) -> tuple[int, int]:
        """How many tokens too many what is read and what is predicted have; neither is more than 0 where all fits."""
        if limit is None:
            return 0, 0
        return len(example.input_ids) - limit, 0

    _texts: _Texts


def layout_encoder(layout: Layout, template: Template, tokenizer: PreTrainedTokenizerBase) -> LayoutEncoder:
    """The encoder of a layout."""
    if layout.family == "encoder-decoder":
        whole: LayoutEncoder = PromptAndAnswer(template, tokenizer)
        if layout.reads == "text":
            return WholeText(template, tokenizer)
    else:
        whole = Aligned(template, tokenizer, every_token=layout.reads == "text", wrapped=layout.family == "encoder")
    return Pairs(whole) if layout.reads == "pairs" else whole


class Aligned(LayoutEncoder):
    """One text: labels stand beside the ids that the model reads.

    Args:
        template: gives the text and says what is trained.
        tokenizer: gives the ids.
        every_token: whether every token may be trained, whatever the template says.
        wrapped: whether the text stands between the tokenizer's own special tokens, which are never trained.
    """

    def __init__(
        self, template: Template, tokenizer: PreTrainedTokenizerBase, every_token: bool, wrapped: bool
    ) -> None:
        super().__init__(template, tokenizer)
        self._texts = _Texts(tokenizer)
        self._every_token = every_token
        self._wrapped = wrapped

    def begin(self, conversations: Sequence[Conversation]) -> Examples:
        """See `LayoutEncoder.begin`."""
        rendered = self.template.render_all(conversations, self.tokenizer)
        begun = self._texts.encoder.begin(rendered, [conversation.id for conversation in conversations])

        def examples() -> list[Example | None]:
            return [self._finished(c, e) for c, e in zip(conversations, begun(), strict=True)]

        return examples

    def prompts(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """See `LayoutEncoder.prompts`."""
        rendered = [self.template.render_prompt(conversation, self.tokenizer) for conversation in conversations]
        return [example.input_ids for example in self._texts.encoder.encode(rendered)]

    def _finished(self, conversation: Conversation, example: Example) -> Example:
        input_ids, labels = example.input_ids, example.labels
        weights = None
        if self._every_token:
            labels = list(input_ids)
        elif any(message.weight != 1 for message in conversation.messages):
            weights = self._weights(conversation, input_ids)
        if self._wrapped:
            input_ids, labels = self._texts.wrapped(input_ids, labels)
        elif labels:
            labels[0] = IGNORED  # nothing stands before it
        return Example(input_ids, labels, conversation.id, conversation.source, weights)

    def _weights(self, conversation: Conversation, input_ids: list[int]) -> list[float]:
        """The weight of each token's message, 1 for what belongs to none: each weight's own messages are marked."""
        weights = [1.0] * len(input_ids)
        for weight in {message.weight for message in conversation.messages}:
            alone = _trained_by_weight(conversation, weight)
            (marked,) = self._texts.encoder.encode([self.template.render(alone, self.tokenizer)])
            if marked.input_ids != input_ids:
                raise InstructLabError(
                    "The tokens of this conversation depend on what is trained, so messages cannot be weighted",
                    where=f"conversation {conversation.id or '(unnamed)'}",
                    do="leave the weights of its messages out",
                )
            weights = [weight if label != IGNORED else w for w, label in zip(weights, marked.labels, strict=True)]
        return weights


class PromptAndAnswer(LayoutEncoder):
    """Two texts: the encoder reads what stands before the final answer, the decoder predicts the answer."""

    nothing = "no final answer"

    def __init__(self, template: Template, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(template, tokenizer)
        self._texts = _Texts(tokenizer)

    def begin(self, conversations: Sequence[Conversation]) -> Examples:
        """See `LayoutEncoder.begin`."""
        whole = [c for c in conversations if c.messages and c.messages[-1].role == "assistant"]
        prompts = self.prompts(whole)
        answers = self._texts.targets([c.messages[-1].content for c in whole])
        examples = {
            id(c): Example(prompt, answer, c.id, c.source, _constant_weights(c, answer))
            for c, prompt, answer in zip(whole, prompts, answers, strict=True)
        }
        return lambda: [examples.get(id(conversation)) for conversation in conversations]

    def prompts(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """See `LayoutEncoder.prompts`."""
        return self._texts.sources([self.template.render_prompt(c, self.tokenizer) for c in conversations])

    def segments(self, conversation: Conversation) -> list[Segment]:
        """See `LayoutEncoder.segments`; the answer alone is trained."""
        opening = self.template.render_prompt(conversation, self.tokenizer)
        prompt = [dataclasses.replace(segment, trained=False) for segment in opening]
        return [*prompt, Segment(conversation.messages[-1].content, True, "assistant", starts_answer=True)]

    def content_spans(self, content: str) -> list[tuple[int, int]]:
        """See `LayoutEncoder.content_spans`."""
        return self._texts.content_spans(content)

    def excess(self, example: Example, limit: int | None) -> tuple[int, int]:
        """See `LayoutEncoder.excess`: the prompt and the answer have the whole length each."""
        return (0, 0) if limit is None else (len(example.input_ids) - limit, len(example.labels) - limit)


class WholeText(PromptAndAnswer):
    """One text that the encoder reads; an objective takes from it what the decoder predicts."""

    def begin(self, conversations: Sequence[Conversation]) -> Examples:
        """See `LayoutEncoder.begin`."""
        texts = self._texts.sources(self.template.render_all(conversations, self.tokenizer))
        return lambda: [Example(t, list(t), c.id, c.source) for c, t in zip(conversations, texts, strict=True)]

    def segments(self, conversation: Conversation) -> list[Segment]:
        """See `LayoutEncoder.segments`."""
        return self.template.render(conversation, self.tokenizer)

    def excess(self, example: Example, limit: int | None) -> tuple[int, int]:
        """See `LayoutEncoder.excess`."""
        return (0, 0) if limit is None else (len(example.input_ids) - limit, 0)


class Pairs(LayoutEncoder):
    """The chosen and the rejected answer to one prompt; nothing else of the conversation is trained.

    Args:
        single: encodes each of the two conversations.
    """

    nothing = "no chosen and rejected answer"

    def __init__(self, single: LayoutEncoder) -> None:
        super().__init__(single.template, single.tokenizer)
        self._single = single

    def begin(self, conversations: Sequence[Conversation]) -> Examples:
        """See `LayoutEncoder.begin`."""
        paired = [c for c in conversations if c.rejected and len(c.prompt) < len(c.messages)]
        chosen = [_continued(c, c.messages[len(c.prompt) :]) for c in paired]
        rejected = [_continued(c, c.rejected) for c in paired]
        begun = self._single.begin([*chosen, *rejected])

        def examples() -> list[Example | None]:
            made = begun()
            both = zip(paired, made[: len(paired)], made[len(paired) :], strict=True)
            found = {id(c): dataclasses.replace(good, rejected=bad) for c, good, bad in both if good and bad}
            return [found.get(id(conversation)) for conversation in conversations]

        return examples

    def prompts(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """See `LayoutEncoder.prompts`."""
        return self._single.prompts(conversations)

    def excess(self, example: Example, limit: int | None) -> tuple[int, int]:
        """See `LayoutEncoder.excess`: that of the longer."""
        assert example.rejected is not None
        both = [self._single.excess(one, limit) for one in (example, example.rejected)]
        return max(read for read, _ in both), max(predicted for _, predicted in both)


class _Texts:
    """Whole texts to ids, between the tokenizer's own special tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer: Any = tokenizer
        self._encoder: Encoder | None = None
        self._around: tuple[list[int], list[int]] | None = None

    @property
    def encoder(self) -> Encoder:
        """Encodes segments.

        Raises:
            InstructLabError: the tokenizer is a slow one.
        """
        if self._encoder is None:
            self._encoder = Encoder(self._tokenizer)
        return self._encoder

    def wrapped(self, input_ids: list[int], labels: list[int]) -> tuple[list[int], list[int]]:
        """Ids and labels with the special tokens before and after that are not there yet, which are ignored."""
        before, after = self._special_ids()
        has_start = input_ids[: len(before)] == before
        has_end = bool(after) and input_ids[-len(after) :] == after
        opening, ending = ([] if has_start else before), ([] if has_end else after)
        input_ids = [*opening, *input_ids, *ending]
        labels = [*[IGNORED] * len(opening), *labels, *[IGNORED] * len(ending)]
        labels[: len(before)] = [IGNORED] * len(before)
        if after:
            labels[-len(after) :] = [IGNORED] * len(after)
        return input_ids, labels

    def sources(self, rendered: Sequence[Sequence[Segment]]) -> list[list[int]]:
        """Ids of what an encoder reads."""
        if not self._is_fast:
            return self._called(["".join(segment.text for segment in segments) for segments in rendered], "text")
        return [self.wrapped(e.input_ids, e.input_ids)[0] for e in self.encoder.encode(rendered)]

    def targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of what a decoder predicts, its end token included."""
        if not self._is_fast:
            return self._called(texts, "text_target")
        encoded = self.encoder.encode([[Segment(text, True, "assistant")] for text in texts])
        return [self.wrapped(e.input_ids, e.input_ids)[0] for e in encoded]

    def content_spans(self, content: str) -> list[tuple[int, int]]:
        """Start and end of each token; by words where the tokenizer tells no offsets."""
        if self._is_fast:
            return self.encoder.content_spans(content)
        import re

        return [match.span() for match in re.finditer(r"\S+\s*", content)]

    @property
    def _is_fast(self) -> bool:
        return hasattr(getattr(self._tokenizer, "backend_tokenizer", None), "encode_batch_fast")

    def _called(self, texts: Sequence[str], argument: str) -> list[list[int]]:
        if not texts:
            return []
        encoded = self._tokenizer(**{argument: list(texts)}, add_special_tokens=True, split_special_tokens=True)
        return [list(ids) for ids in encoded["input_ids"]]

    def _special_ids(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after a text."""
        if self._around is None:
            whole = list(self._tokenizer("a")["input_ids"])
            inside = list(self._tokenizer("a", add_special_tokens=False)["input_ids"])
            start = next(
                (at for at in range(len(whole) + 1) if whole[at : at + len(inside)] == inside and inside), None
            )
            if start is None:
                raise InstructLabError(
                    "The tokenizer's own special tokens cannot be told from the text they stand around",
                    where="model.tokenizer",
                    do="choose another tokenizer",
                )
            self._around = whole[:start], whole[start + len(inside) :]
        return self._around


def last_answer_alone(conversation: Conversation) -> Conversation:
    """The conversation with nothing trained but its final answer."""
    return _continued(conversation, conversation.messages[len(conversation.prompt) :])


def _continued(conversation: Conversation, answer: Sequence[Any]) -> Conversation:
    """The prompt, untrained, and one answer, trained."""
    prompt = (dataclasses.replace(message, trained=False) for message in conversation.prompt)
    last = len(answer) - 1
    said = (
        dataclasses.replace(message, trained=True if place == last else message.trained)
        for place, message in enumerate(answer)
    )
    return dataclasses.replace(conversation, messages=(*prompt, *said), rejected=())


def _trained_by_weight(conversation: Conversation, weight: float) -> Conversation:
    messages = tuple(dataclasses.replace(m, trained=m.weight == weight) for m in conversation.messages)
    return dataclasses.replace(conversation, messages=messages)


def _constant_weights(conversation: Conversation, answer: list[int]) -> list[float] | None:
    weight = conversation.messages[-1].weight
    return None if weight == 1 else [weight] * len(answer)
