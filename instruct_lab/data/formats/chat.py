"""Formats of multi-turn conversations: ShareGPT and OpenAI messages, with tool calls."""

from __future__ import annotations

from instruct_lab.config import component
from instruct_lab.data.conversation import Message
from instruct_lab.data.formats.columns import Column, value_of
from instruct_lab.data.formats.turns import TurnFormat
from instruct_lab.data.sources.base import Row


@component
class ShareGPT(TurnFormat):
    """Lists of turns with `from` and `value`. The roles are human, gpt, system, tool and their usual synonyms.

    In a turn whose role is `function_call`, the value is JSON: one call or a list of calls, each with `name` and
    `arguments`. A turn whose role is `observation` is the result of a tool. A turn may have a key that states whether
    it is trained on (`trained`, `train`, `loss` or a synonym) or a `weight`. The row is broken if a turn has a value in
    any other key, unless `ignore_keys` names the key.
    """

    conversations: Column = "conversations"  # column of the list of turns
    role: Column = "from"  # key of the role in a turn
    content: Column = "value"  # key of the text in a turn

    def required(self) -> dict[str, list[str]]:
        """Return the column of the turns, and the system column if its name is not the default."""
        return {"conversations": [self.conversations]} | self.required_if_named("system")

    def consumed_columns(self) -> set[str | None]:
        """Return the columns of the turns, the system message and the tools."""
        return {self.conversations, self.system, self.tools}

    def turns(self, row: Row) -> list[Message]:
        """Return the system message, which includes the tools, followed by the turns."""
        tools, turns = self.tool_use(row), value_of(row, self.conversations)
        messages = self.sharegpt_messages(row, turns, self.conversations, tools, self.role, self.content)
        return self.with_system(row, messages, tools)


@component
class Messages(TurnFormat):
    """OpenAI messages with `role` and `content`, and optionally `trained` (true or false) or `weight` (a number).

    A message of weight 0 is not trained on; any other weight multiplies the loss of the message's tokens. The usual
    synonyms of `trained` and `weight` (such as `train`, `loss` and `loss_weight`) are read too. The row is broken if a
    message has a value in any other key, unless `ignore_keys` names the key. If the content is a list of parts, text
    parts are joined and other parts are refused. `tool_calls` become text in the content; a message whose role is
    `tool` is the result of a call.
    """

    messages: Column = "messages"  # column of the list of messages

    def required(self) -> dict[str, list[str]]:
        """Return the column of the messages, and the system column if its name is not the default."""
        return {"messages": [self.messages]} | self.required_if_named("system")

    def consumed_columns(self) -> set[str | None]:
        """Return the columns of the messages, the system message and the tools."""
        return {self.messages, self.system, self.tools}

    def turns(self, row: Row) -> list[Message]:
        """Return the messages, with tool calls as text and the list of tools in the system message."""
        tools = self.tool_use(row)
        return self.with_system(
            row, self.openai_messages(row, value_of(row, self.messages), self.messages, tools), tools
        )
