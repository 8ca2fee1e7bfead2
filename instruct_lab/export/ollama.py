"""The Modelfile of Ollama: the run's template in Ollama's language, the stop tokens, and the decoding settings.

Ollama renders prompts with Go's text templates. Most chat templates write a text before and a text after the content of
each message, and these texts depend only on the message's role. They are found by rendering a conversation with the
run's template. To check them, several conversations are rendered twice: by joining these texts, and with the template
itself. If the results differ, Ollama cannot express the template, and the export is refused.

Source: https://docs.ollama.com/modelfile
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from instruct_lab.data import Conversation, Message
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment
from instruct_lab.export.gguf.vocabulary import adds_bos
from instruct_lab.template import Template

MODELFILE = "Modelfile"
ROLES = ("system", "user", "assistant")
PROBES = (
    ("user",),
    ("system", "user"),
    ("user", "assistant", "user"),
    ("system", "user", "assistant", "user", "assistant", "user"),
)
"""The roles of the messages in each conversation for which a `TurnFormat` is compared with the original template."""


@dataclasses.dataclass(frozen=True)
class TurnFormat:
    """A template that writes a fixed text before and after the content of each message.

    Args:
        opening: text before the first message of a conversation that has a system message.
        without_system: text before the first message of a conversation without a system message.
        turns: the texts before and after a message's content, keyed by role.
        answer: text at the start of the answer, before its content.
    """

    opening: str
    without_system: str
    turns: Mapping[str, tuple[str, str]]
    answer: str

    def render(self, messages: Sequence[Message]) -> str:
        """Render a conversation up to the start of the next answer."""
        has_system = messages[0].role == "system"
        texts = [self.opening if has_system else self.without_system]
        for message in messages:
            before, after = self.turns[message.role]
            texts += [before, message.content, after]
        return "".join([*texts, self.answer])

    def to_go(self, without: str = "") -> str:
        """Return this template in the language of Go's templates, for Ollama.

        Args:
            without: text to leave out at the start: the beginning-of-sequence token, which Ollama itself puts before
                each prompt.
        """
        opening, without_system = (text.removeprefix(without) for text in (self.opening, self.without_system))
        roles = "".join(
            f'{{{{ {"if" if role == ROLES[0] else "else if"} eq .Role "{role}" }}}}'
            f"{_escape(self.turns[role][0])}{{{{ .Content }}}}{_escape(self.turns[role][1])}"
            for role in ROLES
            if role in self.turns
        )
        start = _escape(opening)
        if opening != without_system:
            start = f"{{{{ if .System }}}}{start}{{{{ else }}}}{_escape(without_system)}{{{{ end }}}}"
        return f"{start}{{{{ range .Messages }}}}{roles}{{{{ end }}}}{{{{ end }}}}{_escape(self.answer)}"


def find_turn_format(template: Template, tokenizer: Any, stops: Sequence[str]) -> TurnFormat:
    """Find the texts that a template writes before and after the content of each message.

    Args:
        template: the run's template.
        tokenizer: the tokenizer of the model.
        stops: the tokens that end an answer.

    Raises:
        InstructLabError: the template writes texts that depend on more than the role of a message.
    """
    rendered = {roles: _render(template, tokenizer, _conversation(roles)) for roles in PROBES}
    whole, short = PROBES[-1], PROBES[0]
    start, after_system, to_assistant, to_user, *_, end = _split(rendered[whole], _conversation(whole))
    start_without_system = _split(rendered[short], _conversation(short))[0]
    after_user, before_assistant = _cut_turn(to_assistant, stops) or _cut_common(to_assistant, end)
    after_assistant, before_user = _cut_turn(to_user, stops) or ("", to_user)
    bos = _added_bos(tokenizer)
    opening = bos if start.startswith(bos) else ""
    found = TurnFormat(
        opening,
        start_without_system.removesuffix(before_user),
        {
            "system": (start.removeprefix(opening), after_system.removesuffix(before_user)),
            "user": (before_user, after_user),
            "assistant": (before_assistant, after_assistant),
        },
        end.removeprefix(after_user),
    )
    if any(found.render(_conversation(roles)) != text for roles, text in rendered.items()):
        raise _refusal("it writes more than a text before and after each content that depends only on the role")
    return found


def _cut_turn(between: str, stops: Sequence[str]) -> tuple[str, str] | None:
    """Split the text between two messages into the end of the first message and the beginning of the second.

    The first message ends with a stop token and the whitespace that follows it.

    Args:
        between: the text between the contents of the messages.
        stops: the tokens that end a message.

    Returns:
        The two parts; `None` if the text contains no stop token.
    """
    found = re.search(rf"(?:{'|'.join(map(re.escape, stops))})\s*", between)
    return None if found is None else (between[: found.end()], between[found.end() :])


def _cut_common(between: str, end: str) -> tuple[str, str]:
    """Split the text between a question and its answer into the end of the question and the beginning of the answer.

    The end of the question is the longest common prefix of `between` and `end`.

    Args:
        between: the text between the contents of a question and its answer.
        end: the text after the content of the last question, which has no answer yet.
    """
    equal = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(between, end, strict=False))
    length = sum(1 for _ in equal)
    return between[:length], between[length:]


def _conversation(roles: Sequence[str]) -> list[Message]:
    return [Message(role, f"Content{index}of{role}") for index, role in enumerate(roles)]


def _render(template: Template, tokenizer: Any, messages: Sequence[Message]) -> str:
    try:
        segments = template.render_prompt(Conversation(messages=tuple(messages)), tokenizer)
    except InstructLabError as error:
        raise _refusal(f"it refuses an ordinary conversation: {error.what}") from error
    return "".join(segment.text for segment in segments)


def _split(text: str, messages: Sequence[Message]) -> list[str]:
    """Return the parts of a rendered conversation before, between and after the contents of its messages."""
    parts = []
    for message in messages:
        before, found, text = text.partition(message.content)
        if not found:
            raise _refusal("it changes or leaves out contents")
        parts.append(before)
    return [*parts, text]


def _refusal(reason: str) -> InstructLabError:
    return InstructLabError(
        f"The template cannot be written in Ollama's language: {reason}",
        where="--format ollama",
        do="export with --format gguf, and run it with llama.cpp, which applies the chat template itself",
    )


def _added_bos(tokenizer: Any) -> str:
    """Return the beginning-of-sequence token if the tokenizer (and so Ollama) puts it before texts, else `""`."""
    return str(tokenizer.bos_token) if adds_bos(tokenizer) else ""


def _escape(text: str) -> str:
    """Escape a text so that a Go template prints it unchanged."""
    return text.replace("{{", '{{ "{{" }}')


def modelfile(experiment: Experiment, tokenizer: Any, file: str, stops: Sequence[str]) -> str:
    """Return the text of Ollama's Modelfile for a GGUF file.

    Args:
        experiment: the run's configuration.
        tokenizer: the tokenizer of the model.
        file: name of the GGUF file beside the Modelfile.
        stops: the tokens that end an answer.

    Raises:
        InstructLabError: Ollama's language cannot express the template.
    """
    template = find_turn_format(experiment.template, tokenizer, stops).to_go(_added_bos(tokenizer))
    if '"""' in template:
        raise _refusal('it has the text """, which ends a value in a Modelfile')
    generation = experiment.generation
    parameters: dict[str, Any] = {
        "temperature": (generation.temperature or 1) if generation.do_sample else 0,
        "repeat_penalty": generation.repetition_penalty,
        "num_predict": generation.limit,
    }
    if generation.do_sample:
        parameters |= {"top_p": generation.top_p or 1, "top_k": generation.top_k or 0}
    lines = [f"FROM ./{file}", f'TEMPLATE """{template}"""']
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]
    lines += [f"PARAMETER {name} {value}" for name, value in parameters.items()]
    return "\n".join(lines) + "\n"
