"""The command `chat`: a conversation with one or two models, in the terminal or on a local page."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from instruct_lab.commands import arguments
from instruct_lab.commands.arguments import AddCommand
from instruct_lab.commands.console import print_permissions
from instruct_lab.commands.decoding import add_decoding_options, decoding_of
from instruct_lab.commands.recorded import load_recorded
from instruct_lab.errors import InstructLabError
from instruct_lab.terminal import write_line

if TYPE_CHECKING:
    from instruct_lab.chat.answering import Answerer


def chat(parsed: argparse.Namespace) -> int:
    """Chat with a tuned model, or with two models at once."""
    _check(parsed)
    answerers = _load(parsed)
    if parsed.web:
        from instruct_lab.chat.server import serve

        serve(answerers, parsed.port, parsed.system, browser=not parsed.no_browser)
    else:
        from instruct_lab.chat.terminal import TerminalChat

        TerminalChat(answerers, parsed.system).run()
    return 0


def _check(parsed: argparse.Namespace) -> None:
    """Raise an error if arguments contradict each other or have no effect, or if the port is not free."""
    if parsed.base and parsed.other is not None:
        what = "A chat compares two models, and --base is the second model beside the run's"
        raise InstructLabError(what, where="the command line", do="leave out --base or the second run")
    if not parsed.web and (parsed.port is not None or parsed.no_browser):
        option = "--no-browser" if parsed.port is None else "--port"
        raise InstructLabError(f"{option} belongs to the page", where="the command line", do="add --web")
    if parsed.port is not None:
        from instruct_lab.pages.loopback import check_port

        check_port(parsed.port)


def _load(parsed: argparse.Namespace) -> list[Answerer]:
    """Load the models that the command line names; all of them are checked before the first one is loaded."""
    from instruct_lab.chat.decoding import with_decoding

    names = [parsed.run] if parsed.other is None else [parsed.run, parsed.other]
    chosen = []
    for name in names:
        named = argparse.Namespace(**{**vars(parsed), "run": name})
        record, experiment, _ = load_recorded(named, uses_trackers=False, uses_data=False)
        print_permissions(experiment)
        chosen.append((with_decoding(experiment, decoding_of(parsed)), record, parsed.checkpoint))
    if parsed.base:
        chosen.append((chosen[0][0], chosen[0][1], "base"))
    write_line("loading " + ("the model" if len(chosen) == 1 else "two models"), error=True)
    from instruct_lab.chat.answering import load_answerer

    return [load_answerer(*one) for one in chosen]


def add_commands(add: AddCommand) -> None:
    """Add `chat` to the command line."""
    parser = add(
        "chat",
        chat,
        "chat with a tuned model, or with two models at once, in the terminal or on a local page",
        "instruct-lab chat latest",
        "instruct-lab chat latest --base --system 'Answer in French.' --temperature 0.7",
        "instruct-lab chat RUN_ID OTHER_RUN_ID --web",
        code=True,
    )
    arguments.add_run(parser)
    parser.add_argument("other", metavar="RUN2", nargs="?", help="a second run, which answers the same messages")
    parser.add_argument("--base", action="store_true", help="the untuned model answers the same messages")
    parser.add_argument("--system", default=None, help="a system message before the conversation")
    parser.add_argument("--web", action="store_true", help="serve a page on this machine instead")
    port = "port of the page (default: the first free one from 7870)"
    parser.add_argument("--port", type=int, metavar="N", help=port)
    parser.add_argument("--no-browser", action="store_true", help="print the page's address without opening it")
    add_decoding_options(parser)
    arguments.add_checkpoint(parser)
