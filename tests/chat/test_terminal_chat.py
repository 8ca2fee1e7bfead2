"""The terminal chat keeps a conversation for each model, obeys its commands, and survives Ctrl-C and refusals."""

import dataclasses
import io
import signal

import pytest

from instruct_lab import cli
from instruct_lab.chat.terminal import TerminalChat
from instruct_lab.data import Message

pytestmark = pytest.mark.slow


@pytest.fixture
def say(monkeypatch, capsys):
    """Type lines into a chat; gives what was written to standard output and to standard error."""

    def run(chat, text):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        chat.run()
        return capsys.readouterr()

    return run


def answer(answerer, *turns):
    (text,) = answerer.answer([[Message(role, content) for role, content in turns]])
    return text


def test_each_message_is_answered_after_the_conversation_so_far(answerers, say):
    one = answerers[0]
    first = answer(one, ("user", "red"))
    second = answer(one, ("user", "red"), ("assistant", first), ("user", "blue"))
    assert say(TerminalChat([one]), "red\nblue\n").out == f"{first}\n{second}\n"


def test_reset_and_system_start_a_new_conversation(answerers, say):
    one = answerers[0]
    alone, kind = answer(one, ("user", "red")), answer(one, ("system", "Be kind"), ("user", "red"))
    written = say(TerminalChat([one]), "red\n/reset\nred\n/system Be kind\nred\n/system\nred\n/quit\nblue\n")
    assert written.out == f"{alone}\n{alone}\n{kind}\n{alone}\n"
    assert "system message: Be kind" in written.err
    assert say(TerminalChat([one], "Be kind"), "red").out == f"{kind}\n"


def test_two_models_answer_from_their_own_conversations(answerers, say):
    expected = []
    for one in answerers:
        first = answer(one, ("user", "red"))
        expected.append((first, answer(one, ("user", "red"), ("assistant", first), ("user", "blue"))))
    written = say(TerminalChat(answerers), "red\nblue\n")
    assert written.out == "".join(f"{text}\n" for pair in zip(*expected, strict=True) for text in pair)
    assert written.err.count(f"[{answerers[1].label}]") == 2


def test_a_backslash_continues_a_line_and_a_space_sends_a_slash(answerers, say):
    one = answerers[0]
    expected = answer(one, ("user", "red\nblue"))
    assert say(TerminalChat([one]), "red\\\nblue\n").out == f"{expected}\n"
    assert say(TerminalChat([one]), " /quit\n").out == answer(one, ("user", "/quit")) + "\n"


@pytest.mark.parametrize("typed", ["/rest", "/", "/quit-now"])
def test_an_unknown_command_names_the_known_ones_and_is_not_sent(answerers, say, typed):
    written = say(TerminalChat(answerers[:1]), f"{typed}\n\n   \n")
    assert written.out == ""
    assert "/reset, /system, /help, /quit" in written.err


def test_ctrl_c_stops_the_answer_and_keeps_the_part_that_was_written(answerers, say, monkeypatch):
    one = answerers[0]
    whole = answer(one, ("user", "red"))
    original, calls = type(one).stream, []

    def interrupted(self, messages, on_text):
        def receive(piece):
            on_text(piece)
            if not calls:
                calls.append(piece)
                signal.raise_signal(signal.SIGINT)

        return original(self, messages, receive)

    monkeypatch.setattr(type(one), "stream", interrupted)
    written = say(TerminalChat([one]), "red\nblue\n")
    second = answer(one, ("user", "red"), ("assistant", calls[0]), ("user", "blue"))
    assert whole.startswith(calls[0])
    assert len(calls[0]) < len(whole)
    assert written.out == f"{calls[0]}\n{second}\n"
    assert "[stopped]" in written.err


def test_a_message_that_is_too_long_is_refused_and_the_chat_goes_on(answerers, say):
    one = answerers[0]
    written = say(TerminalChat([one]), "long " * 3000 + "\nred\n")
    assert "context" in written.err
    assert "/reset" in written.err
    assert written.out == answer(one, ("user", "red")) + "\n"


def test_the_command_reads_a_pipe(answerers, chat_lab, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("red\n"))
    capsys.readouterr()
    assert cli.main(["chat", "latest", "--base", "--temperature", "0"]) == 0
    expected = [answer(one, ("user", "red")) for one in answerers]
    assert capsys.readouterr().out == "".join(f"{text}\n" for text in expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["latest", "--base"], "second model"),
        (["--port", "80"], "add --web"),
        (["--no-browser"], "add --web"),
        (["--temperature", "0", "--top-p", "0.5"], "no token is sampled"),
        (["nosuchrun"], "nosuchrun"),
    ],
)
def test_arguments_without_effect_are_refused_before_a_model_is_loaded(chat_lab, capsys, options, expected):
    assert cli.main(["chat", "latest", *options]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "loading" not in error


def test_a_conversation_that_the_run_would_cut_has_a_note(answerers, say):
    experiment = answerers[0].experiment
    batching = dataclasses.replace(experiment.batching, max_tokens=80, overlong="truncate_prompt")
    one = dataclasses.replace(answerers[0], experiment=dataclasses.replace(experiment, batching=batching))
    written = say(TerminalChat([one]), "red\n/reset\n" + "many words " * 20 + "\n")
    assert written.err.count("the conversation was cut from") == 1
    assert "batching.max_tokens=80" in written.err
    assert say(TerminalChat(answerers[:1]), "many words " * 20).err.count("cut from") == 0
