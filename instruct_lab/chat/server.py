"""The web server of `chat --web`, reachable only from this machine.

The page that it serves sends each message to one or two models.
"""

from __future__ import annotations

import json
import sys
import threading
import webbrowser
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from instruct_lab.chat.answering import Answerer, opening
from instruct_lab.chat.requests import AnswerRequest, RefusedRequest, read_request
from instruct_lab.errors import InstructLabError, is_out_of_memory, one_line
from instruct_lab.pages.loopback import LOOPBACK, is_loopback, port_error
from instruct_lab.pages.render import render_page
from instruct_lab.terminal import write_line

HERE = Path(__file__).parent / "page"
FIRST_PORT, NUM_PORTS = 7870, 100
MAX_REQUEST_BYTES = 4 << 20
SECONDS_TO_SEND = 30
"""Number of seconds that a client may take to send its request or to accept a piece of the answer."""
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


class ChatServer(ThreadingHTTPServer):
    """The server of the chat page; it answers only requests whose `Host` header names this machine.

    Args:
        answerers: the models, one for each column of the page.
        port: the port; `None`: the first free port from 7870 upwards.
        system: the system message with which the page opens.

    Raises:
        InstructLabError: the port is taken or not allowed.
    """

    daemon_threads = True

    def __init__(self, answerers: Sequence[Answerer], port: int | None = None, system: str | None = None) -> None:
        self.answerers = answerers
        self.locks = [threading.Lock() for _ in answerers]  # each model answers one message at a time
        if any(answerer.experiment.generation.num_beams > 1 for answerer in answerers):
            self.locks = [self.locks[0]] * len(answerers)  # sampled beams use the random state of the process
        self.page = _page(answerers, system)
        ports = range(FIRST_PORT, FIRST_PORT + NUM_PORTS) if port is None else [port]
        for number in ports:
            try:
                super().__init__((LOOPBACK, number), _Handler)
                return
            except (OSError, OverflowError) as error:
                refused = error
        tried = str(port) if port is not None else f"{ports[0]} to {ports[-1]}"
        raise port_error(tried, refused)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error of a request, unless its connection was closed or timed out."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{LOOPBACK}:{self.server_address[1]}/"


def serve(
    answerers: Sequence[Answerer], port: int | None = None, system: str | None = None, browser: bool = True
) -> None:
    """Serve the chat page until Ctrl-C is pressed.

    Args:
        answerers: the models, one for each column of the page.
        port: the port; `None`: the first free port from 7870 upwards.
        system: the system message with which the page opens.
        browser: whether to open the page in a browser.

    Raises:
        InstructLabError: the port is taken or not allowed.
    """
    with ChatServer(answerers, port, system) as server:
        write_line(f"chat: {server.url}\nCtrl-C ends it")
        if browser:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def _page(answerers: Sequence[Answerer], system: str | None) -> bytes:
    text = render_page(
        "chat/page/chat.html",
        "Chat",
        styles=[(HERE / "chat.css").read_text(encoding="utf-8")],
        scripts=[(HERE / "chat.js").read_text(encoding="utf-8")],
        connects=True,
        labels=[answerer.label for answerer in answerers],
        system=system or "",
    )
    return text.encode()


class _Handler(BaseHTTPRequestHandler):
    """The handler of one request from the page."""

    protocol_version = "HTTP/1.1"
    timeout = SECONDS_TO_SEND
    server: ChatServer

    def do_GET(self) -> None:
        """Send the page."""
        if not self._names_this_machine():
            return
        if self.path != "/":
            self._send(404, b"The only page is /\n")
            return
        self._send(200, self.server.page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        """Stream an answer to the page as lines of JSON.

        If the conversation was shortened, the first line is `{"note": …}`. A line `{"text": …}` follows for each piece
        of the answer. The last line is `{"end": "whole"}`, `{"end": "cut"}` if the answer reached the length limit, or
        `{"error": …}`.
        """
        self.close_connection = True  # the request's body may be unread
        if not self._names_this_machine():
            return
        try:
            request = self._read()
        except RefusedRequest as error:
            self._send(error.status, f"{error}\n".encode())
            return
        self._start(200, "application/x-ndjson", {"Transfer-Encoding": "chunked", "Connection": "close"})
        try:
            with self.server.locks[request.column]:
                self._answer(request)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            return  # the page was closed, or the user stopped the answer

    def _answer(self, request: AnswerRequest) -> None:
        try:
            answerer = self.server.answerers[request.column].with_decoding(request.decoding)
            messages = [*opening(request.system), *request.messages]
            if cut := answerer.note_of_cut(messages):
                self._send_line({"note": cut})
            answer = answerer.stream(messages, lambda piece: self._send_line({"text": piece}))
            self._send_line({"end": "cut" if answer.is_cut else "whole"})
        except OSError:
            raise
        except InstructLabError as error:
            self._send_line({"error": one_line(str(error), 2000)})
        except Exception as error:
            if is_out_of_memory(error):
                self._send_line({"error": "There is not enough memory for this conversation: start a new one."})
            else:
                self._send_line({"error": f"The answer failed with {type(error).__name__}: {one_line(error)}"})

    def _send_line(self, value: dict[str, Any]) -> None:
        line = json.dumps(value).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))

    def _read(self) -> AnswerRequest:
        """Read and check the request.

        The content type must be `application/json`, which protects against other sites: a browser lets a page of
        another site send this content type only if the server permits it, and this server never does.
        """
        if self.path != "/answer":
            raise RefusedRequest(404, "answers are at /answer")
        if self.headers.get_content_type() != "application/json":
            raise RefusedRequest(415, "the content type has to be application/json")
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{self.headers['Host']}":
            raise RefusedRequest(403, "this page answers only requests of its own")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise RefusedRequest(411, "the header Content-Length is missing")
        if int(length) > MAX_REQUEST_BYTES:
            raise RefusedRequest(413, f"a request may have {MAX_REQUEST_BYTES:,} bytes")
        return read_request(self.rfile.read(int(length)), len(self.server.answerers))

    def _names_this_machine(self) -> bool:
        """Whether the `Host` header names this machine; if not, answer with the status 421 (misdirected request)."""
        if is_loopback([value.encode() for value in self.headers.get_all("Host", [])]):
            return True
        self.close_connection = True
        self._send(421, b"This page is answered only at a local address.\n")
        return False

    def _send(self, status: int, content: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self._start(status, kind, {"Content-Length": str(len(content))})
        self.wfile.write(content)

    def _start(self, status: int, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **HEADERS, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
