"""A stub of a judge on loopback: a server of OpenAI's form whose verdicts follow a rule that is known."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CUT = "<cut>"
"""The end of a reply that the server's limit of tokens cut; it is not sent."""
Decide = Callable[[str, str, str], str]
"""A rule: from the question, answer A and answer B, the text of the reply."""
ANSWERS = re.compile(r"\[Answer A\]\n(.*?)\n\[End of answer A\]\n\n\[Answer B\]\n(.*?)\n\[End of answer B\]", re.DOTALL)


def first(question: str, a: str, b: str) -> str:
    return "[[A]]"


def second(question: str, a: str, b: str) -> str:
    return "The second one is nicer. [[B]]"


def longest(question: str, a: str, b: str) -> str:
    return "[[A]]" if len(a) > len(b) else "[[B]]" if len(b) > len(a) else "[[C]]"


def perfect(question: str, a: str, b: str) -> str:
    """Prefer the answer that says that it is right; its length and its position have no influence."""
    right = ["right" in a, "right" in b]
    return "[[C]]" if right[0] == right[1] else "[[A]]" if right[0] else "[[B]]"


def random(question: str, a: str, b: str) -> str:
    """A verdict at random, the same each time for the same question."""
    return f"[[{'AB'[hashlib.sha256(question.encode()).digest()[0] % 2]}]]"


def nonsense(question: str, a: str, b: str) -> str:
    return "Both answers are about colours."


@contextlib.contextmanager
def judge_server(decide: Decide, status: int = 200, headers: dict[str, str] | None = None) -> Iterator[Any]:
    """Serve a judge; gives the server, with its `url` and the `requests` that it got (headers and body).

    Args:
        decide: the rule.
        status: status of every answer; other than 200, the rule is not asked.
        headers: further headers of every answer.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append((self.path, dict(self.headers), body))
            content: Any = {"error": {"message": "no"}}
            if status == 200:
                question = body["messages"][-1]["content"]
                found = ANSWERS.search(question)
                assert found is not None
                text = decide(question, *found.groups())
                reason = "length" if text.endswith(CUT) else "stop"
                message = {"role": "assistant", "content": text.removesuffix(CUT)}
                content = {"choices": [{"message": message, "finish_reason": reason}]}
            data = json.dumps(content).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            pass

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.url = [], f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
