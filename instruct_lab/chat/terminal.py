"""Chat in the terminal: read the user's messages, and write the answers while they are generated."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence

from instruct_lab.chat.answering import Answerer, opening
from instruct_lab.data import Message
from instruct_lab.errors import InstructLabError
from instruct_lab.terminal import write_line, write_piece

COMMANDS = {
    "/reset": "forget the conversation; the system message stays",
    "/system TEXT": "set the system message and forget the conversation; without TEXT, remove the system message",
    "/help": "list these commands",
    "/quit": "end the chat; Ctrl-D does the same",
}
STARTS_LINE, CONTINUES_LINE = "> ", ". "
CUT = "[the answer ended at the length limit; --max-new-tokens raises it]"


class TerminalChat:
    """A chat with one or two models, each of which sees the user's messages and only its own answers.

    Args:
        answerers: the models.
        system: the system message.
    """

    def __init__(self, answerers: Sequence[Answerer], system: str | None = None) -> None:
        self._answerers = answerers
        self._system = system
        self._conversations: list[list[Message]] = [[] for _ in answerers]

    def run(self) -> None:
        """Answer the lines of standard input until it ends, or until the user types `/quit`."""
        write_line("Type a message, or /help for the commands. Ctrl-C stops an answer.", error=True)
        for text in _messages():
            if text.startswith("/"):
                if not self._obey(text):
                    return
            elif text.strip():
                self._answer(text)

    def _obey(self, text: str) -> bool:
        """Execute a command such as `/quit`, and return whether the chat continues."""
        name, _, argument = text.partition(" ")
        if name == "/quit":
            return False
        if name == "/reset":
            self._reset()
        elif name == "/system":
            self._system = argument.strip() or None
            self._reset()
        elif name == "/help":
            for command, meaning in COMMANDS.items():
                write_line(f"  {command:<14} {meaning}", error=True)
        else:
            known = ", ".join(command.split()[0] for command in COMMANDS)
            write_line(f"{name} is no command ({known}); begin a message with a space to send it as text", error=True)
        return True

    def _reset(self) -> None:
        self._conversations = [[] for _ in self._answerers]
        system = f"system message: {self._system}" if self._system else "no system message"
        write_line(f"new conversation, {system}", error=True)

    def _answer(self, text: str) -> None:
        message = Message("user", text.removeprefix(" ") if text.startswith(" /") else text)
        for answerer, conversation in zip(self._answerers, self._conversations, strict=True):
            if len(self._answerers) > 1:
                write_line(f"[{answerer.label}]", error=True)
            pieces: list[str] = []

            def write(piece: str, pieces: list[str] = pieces) -> None:
                pieces.append(piece)
                write_piece(piece)

            note = ""
            messages = [*opening(self._system), *conversation, message]
            try:
                if cut := answerer.note_of_cut(messages):
                    write_line(f"[{cut}]", error=True)
                answer = answerer.stream(messages, write)
                note = CUT if answer.is_cut else ""
            except KeyboardInterrupt:
                note = "[stopped]"
            except InstructLabError as error:
                write_line(f"{error} /reset starts a new conversation.", error=True)
                continue
            write_piece("\n")
            if note:
                write_line(note, error=True)
            conversation += [message, Message("assistant", "".join(pieces))]


def _messages() -> Iterator[str]:
    """Yield the user's messages, one for each line of standard input; a backslash at the end continues the message.

    Ctrl-C discards the typed text. A second Ctrl-C directly after it ends the chat.
    """
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (arrow keys and earlier lines)
    lines: list[str] = []
    interrupted = False
    while True:
        try:
            line = input((CONTINUES_LINE if lines else STARTS_LINE) if is_terminal else "")
        except EOFError:
            if lines:
                yield "\n".join(lines)
            return
        except KeyboardInterrupt:
            if interrupted:
                return
            write_line("\nCtrl-C again or /quit ends the chat.", error=True)
            lines, interrupted = [], True
            continue
        interrupted = False
        if line.endswith("\\"):
            lines.append(line[:-1])
            continue
        yield "\n".join([*lines, line])
        lines = []
