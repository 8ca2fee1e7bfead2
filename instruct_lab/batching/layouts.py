"""Encoding of conversations as examples, in the layout that the objective and the model family need."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from instruct_lab.batching.example import IGNORED, Example, Layout
from instruct_lab.batching.wrapped_texts import WrappedTexts
from instruct_lab.data import Conversation, Message
from instruct_lab.errors import InstructLabError
from instruct_lab.template import RefusedConversation, Segment, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class LayoutEncoder(ABC):
    """Base class of the encoders that turn conversations into examples; each encoder makes examples of one layout.

    Args:
        template: template that renders the text and marks the segments to train on.
        tokenizer: tokenizer of the model.
        texts: encoder that turns rendered texts into token ids with this tokenizer.
    """

    nothing: str = "nothing to read"
    """The reason that the audit gives for dropping a conversation from which no example can be made."""

    def __init__(self, template: Template, tokenizer: PreTrainedTokenizerBase, texts: WrappedTexts) -> None:
        self.template, self.tokenizer, self.texts = template, tokenizer, texts

    @abstractmethod
    def encode(self, conversations: Sequence[Conversation]) -> list[Example | None]:
        """Return the example of each conversation, in order.

        An item is `None` if the layout cannot make an example from that conversation, for example without an answer.
        """

    @abstractmethod
    def prompts(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """Encode everything before the final answer of each conversation, as the model reads it at generation."""

    def segments(self, conversation: Conversation) -> list[Segment]:
        """Render the conversation as segments, to find the messages that can be cut if it is too long."""
        return self.template.render(conversation, self.tokenizer)

    def content_spans(self, content: str) -> list[tuple[int, int]]:
        """Return the start and end offset, in characters, of each token in the content of a message."""
        return self.texts.content_spans(content)

    def excess(self, example: Example, limit: int | None) -> tuple[int, int]:
        """Return by how many tokens the input exceeds the limit, and by how many a separate target text does.

        Only encoder-decoders have a separate target text; otherwise, the second number is 0. Without a limit, both
        numbers are 0. A number of 0 or less means that the text fits.
        """
        if limit is None:
            return 0, 0
        return len(example.input_ids) - limit, 0


def layout_encoder(
    layout: Layout, template: Template, tokenizer: PreTrainedTokenizerBase, parses_special: bool = False
) -> LayoutEncoder:
    """Return the encoder for a layout.

    Args:
        layout: the layout of the examples, which fits the objective's input and the model family.
        template: template that renders the text and marks the segments to train on.
        tokenizer: tokenizer of the model.
        parses_special: whether a special token that is written out in a message's content is encoded as this token;
            otherwise, it is encoded as ordinary text.
    """
    texts = WrappedTexts(tokenizer, parses_special)
    if layout.family == "encoder-decoder":
        if layout.reads == "text":
            return WholeText(template, tokenizer, texts)
        whole: LayoutEncoder = PromptAndAnswer(template, tokenizer, texts)
    else:
        is_text, is_encoder = layout.reads == "text", layout.family == "encoder"
        whole = Aligned(template, tokenizer, texts, every_token=is_text, wrapped=is_encoder)
    if layout.reads == "pairs":
        return Pairs(whole)
    return Labels(whole) if layout.reads == "labels" else whole


class Aligned(LayoutEncoder):
    """An encoder of a conversation as one text, with one label for each token.

    Args:
        template: template that renders the text and marks the segments to train on.
        tokenizer: tokenizer of the model.
        texts: encoder that turns rendered texts into token ids with this tokenizer.
        every_token: whether every token may be a target, even a token that the template does not mark as trained.
        wrapped: whether to put the text between the tokenizer's own special tokens, which are never targets.
    """

    def __init__(
        self,
        template: Template,
        tokenizer: PreTrainedTokenizerBase,
        texts: WrappedTexts,
        every_token: bool,
        wrapped: bool,
    ) -> None:
        super().__init__(template, tokenizer, texts)
        self._every_token = every_token
        self._wrapped = wrapped

    def encode(self, conversations: Sequence[Conversation]) -> list[Example | None]:
        """Render and encode each conversation as one example, with special tokens around it if `wrapped` is set.

        Each token gets the weight of its message; with `every_token`, all weights are 1.
        """
        rendered = self.template.render_all(conversations, self.tokenizer)
        encoded = self.texts.encoder.encode(rendered, [conversation.id for conversation in conversations])
        return [self._finish(c, example) for c, example in zip(conversations, encoded, strict=True)]

    def prompts(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """Render and encode each prompt."""
        rendered = [self.template.render_prompt(conversation, self.tokenizer) for conversation in conversations]
        return [example.input_ids for example in self.texts.encoder.encode(rendered)]

    def _finish(self, conversation: Conversation, example: Example) -> Example:
        input_ids, labels = example.input_ids, example.labels
        weights = None
        if self._every_token:
            labels = list(input_ids)
        elif any(message.weight != 1 for message in conversation.messages):
            weights = self._weights(conversation, input_ids)
        if self._wrapped:
            input_ids, labels = self.texts.wrap(input_ids, labels)
        elif labels:
            labels[0] = IGNORED  # no token precedes it
        return Example(input_ids, labels, conversation.id, conversation.source, weights)

    def _weights(self, conversation: Conversation, input_ids: list[int]) -> list[float]:
        """Return the weight of each token: the weight of its message, or 1 outside messages.

        The conversation is rendered once for each different weight.
        """
        weights = [1.0] * len(input_ids)
        for weight in {message.weight for message in conversation.messages}:
            marked_messages = tuple(dataclasses.replace(m, trained=m.weight == weight) for m in conversation.messages)
            marked_conversation = dataclasses.replace(conversation, messages=marked_messages)
            (marked,) = self.texts.encoder.encode([self.template.render(marked_conversation, self.tokenizer)])
            if marked.input_ids != input_ids:
                raise InstructLabError(
                    "The tokens of this conversation depend on what is trained, so messages cannot be weighted",
                    where=conversation.where,
                    do="remove the weights of its messages",
                )
            weights = [weight if label != IGNORED else w for w, label in zip(weights, marked.labels, strict=True)]
        return weights


class PromptAndAnswer(LayoutEncoder):
    """An encoder for encoder-decoders: the input is everything before the final answer, the target is the answer."""

    nothing = "no final answer"

    def encode(self, conversations: Sequence[Conversation]) -> list[Example | None]:
        """Encode each prompt as input and its final answer as target."""
        answered = [c for c in conversations if c.messages and c.messages[-1].role == "assistant"]
        prompts = self.prompts(answered)
        answers = self.texts.target_ids([c.messages[-1].content for c in answered])
        examples = {
            id(c): Example(prompt, answer, c.id, c.source, _constant_weights(c, answer))
            for c, prompt, answer in zip(answered, prompts, answers, strict=True)
        }
        return [examples.get(id(conversation)) for conversation in conversations]

    def prompts(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """Encode the prompts as inputs of the model's encoder."""
        return self.texts.source_ids([self.template.render_prompt(c, self.tokenizer) for c in conversations])

    def segments(self, conversation: Conversation) -> list[Segment]:
        """Render the prompt, marked as not trained, and the answer."""
        opening = self.template.render_prompt(conversation, self.tokenizer)
        prompt = [dataclasses.replace(segment, trained=False) for segment in opening]
        return [*prompt, Segment(conversation.messages[-1].content, True, "assistant", starts_answer=True)]

    def excess(self, example: Example, limit: int | None) -> tuple[int, int]:
        """Return by how many tokens the prompt exceeds the limit, and by how many the answer exceeds the same limit."""
        return (0, 0) if limit is None else (len(example.input_ids) - limit, len(example.labels) - limit)


class WholeText(LayoutEncoder):
    """An encoder of whole texts for encoder-decoders; the objective selects the part that the decoder predicts."""

    def encode(self, conversations: Sequence[Conversation]) -> list[Example | None]:
        """Encode the whole text as input and as labels."""
        texts = self.texts.source_ids(self.template.render_all(conversations, self.tokenizer))
        return [Example(ids, list(ids), c.id, c.source) for c, ids in zip(conversations, texts, strict=True)]

    def prompts(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """Encode the prompts as inputs of the model's encoder."""
        return self.texts.source_ids([self.template.render_prompt(c, self.tokenizer) for c in conversations])


class Pairs(LayoutEncoder):
    """An encoder of preference pairs: a chosen and a rejected answer to one prompt. Only answers have target tokens.

    Args:
        single: encoder that is used for each of the two answers, after the prompt.
    """

    nothing = "no chosen and rejected answer"

    def __init__(self, single: LayoutEncoder) -> None:
        super().__init__(single.template, single.tokenizer, single.texts)
        self._single = single

    def encode(self, conversations: Sequence[Conversation]) -> list[Example | None]:
        """Encode the chosen answers; the field `rejected` of each example holds the encoded rejected answer.

        An item of the list is `None` for a conversation that is not a preference pair.

        Raises:
            RefusedConversation: a message of a pair has a weight other than 1, or the pair's final answer is marked as
                not trained. Preference objectives can apply neither.
        """
        paired = [c for c in conversations if c.rejected and len(c.prompt) < len(c.messages)]
        for conversation in paired:
            _check_plain(conversation)
        chosen = [train_last_answer(c) for c in paired]
        rejected = [_with_answer(c, c.rejected) for c in paired]
        encoded = self._single.encode([*chosen, *rejected])
        both = zip(paired, encoded[: len(paired)], encoded[len(paired) :], strict=True)
        examples = {id(c): dataclasses.replace(good, rejected=bad) for c, good, bad in both if good and bad}
        return [examples.get(id(conversation)) for conversation in conversations]

    def prompts(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        """Encode the prompts, which both answers share."""
        return self._single.prompts(conversations)

    def excess(self, example: Example, limit: int | None) -> tuple[int, int]:
        """Return by how many tokens the input exceeds the limit, and by how many a separate target text does.

        Only encoder-decoders have a separate target text; otherwise, the second number is 0. The numbers are computed
        for the chosen and for the rejected answer, and the larger ones are returned.
        """
        both = [self._single.excess(one, limit) for one in (example, example.rejected) if one is not None]
        return max(read for read, _ in both), max(predicted for _, predicted in both)


class Labels(Pairs):
    """An encoder of preference pairs, and of single answers marked as desirable or undesirable.

    Only answers have target tokens.

    Args:
        single: encoder that is used for each answer, after its prompt.
    """

    nothing = "neither a label nor a rejected answer"

    def encode(self, conversations: Sequence[Conversation]) -> list[Example | None]:
        """Encode preference pairs, and single answers that are marked as desirable or undesirable.

        The field `desirable` of a single answer's example holds its mark. An item of the list is `None` for a
        conversation that has neither a rejected answer nor a mark.

        Raises:
            RefusedConversation: a message has a weight other than 1, or the final answer of a conversation is marked as
                not trained. Preference objectives can apply neither.
        """
        examples = super().encode(conversations)
        labelled = [
            (index, c)
            for index, c in enumerate(conversations)
            if c.desirable is not None and not c.rejected and len(c.prompt) < len(c.messages)
        ]
        for _, conversation in labelled:
            _check_plain(conversation)
        encoded = self._single.encode([train_last_answer(conversation) for _, conversation in labelled])
        for (index, conversation), example in zip(labelled, encoded, strict=True):
            if example is not None:
                examples[index] = dataclasses.replace(example, desirable=conversation.desirable)
        return examples


def _check_plain(conversation: Conversation) -> None:
    """Check that a conversation suits preference training, which trains only on the final answer and uses no weights.

    Raises:
        RefusedConversation: a message has a weight other than 1, or the final answer is marked as not trained.
    """
    final = conversation.messages[-1]
    if final.trained is False or any(message.weight != 1 for message in conversation.messages):
        what = "a weight" if final.trained is not False else "a flag against training its final answer"
        raise RefusedConversation(
            f"The conversation has {what}, which preference objectives do not use",
            where=conversation.where,
            do="leave the key out of the data, or name it in data.format.ignore_keys",
        )


def train_last_answer(conversation: Conversation) -> Conversation:
    """Return the conversation with only its final answer marked as trained."""
    return _with_answer(conversation, conversation.messages[len(conversation.prompt) :])


def _with_answer(conversation: Conversation, answer: Sequence[Message]) -> Conversation:
    """Return the conversation's prompt followed by `answer`; only the last message is marked as trained."""
    prompt = (dataclasses.replace(message, trained=False) for message in conversation.prompt)
    trained = (dataclasses.replace(message, trained=True) for message in answer[-1:])
    return dataclasses.replace(conversation, messages=(*prompt, *answer[:-1], *trained), rejected=())


def _constant_weights(conversation: Conversation, answer: list[int]) -> list[float] | None:
    weight = conversation.messages[-1].weight
    return None if weight == 1 else [weight] * len(answer)
