"""A judge behind an HTTP server with OpenAI's interface, on this machine or elsewhere."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field

from instruct_lab import secrets
from instruct_lab.config import component
from instruct_lab.errors import Problem, Refusal
from instruct_lab.metrics.judges.base import Judge, Reply
from instruct_lab.metrics.judges.question import ends_with_verdict

MAX_REPLY_BYTES = 4 << 20
RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP status codes after which a request is repeated, because it may then succeed."""
MAX_FAULTS = 5
"""Number of consecutive questions without a reply after which no more questions are sent to the server."""
MAX_SHOWN = 200


@component
class JudgeServer(Judge):
    """A model on a server with OpenAI's interface `chat/completions`: a hosted service, vLLM, Ollama or llama.cpp.

    Every question is one request with one message, whose text holds the conversation, both answers and the rubric. A
    server on another machine therefore receives prompts and answers, so you have to allow it (`--allow judge-server`,
    or by typing the URL). The API key is read from an environment variable; only the name of this variable is in the
    config, and the key is never recorded. Requests are not redirected to another address. Questions without a usable
    reply are left out, and their number is reported.
    """

    explains: ClassVar[bool] = True
    not_science: ClassVar = frozenset({"key_variable", "workers", "timeout_s", "retries"})
    null_values: ClassVar[tuple[str, ...]] = ("parameters",)

    url: str  # address before /chat/completions, such as http://127.0.0.1:8000/v1
    model: str  # name of the model on the server
    key_variable: str | None = None  # environment variable with the key of the server; null: no key is sent
    temperature: Annotated[float, Field(ge=0)] | None = 0.0  # temperature of the judge's sampling; null: the server's
    max_tokens: Annotated[int, Field(ge=1)] | None = 1024  # maximum length of a reply, in tokens; null: the server's
    parameters: dict[str, Any] = Field(default_factory=dict)  # further entries of the request, such as seed
    workers: Annotated[int, Field(ge=1, le=256)] = 4  # number of questions asked at the same time
    timeout_s: Annotated[float, Field(gt=0)] = 120.0  # seconds until a request counts as failed
    retries: Annotated[int, Field(ge=0, le=20)] = 3  # further tries after a busy server or a failed connection

    def __post_init__(self) -> None:
        """Check that `url` is a plain HTTP URL and `parameters` has no key that the judge sets, such as `model`."""
        parts = urlsplit(self.url)
        try:
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise Refusal("url", f"is not an address: {error}") from error
        if parts.scheme not in ("http", "https") or not host or any(sign.isspace() for sign in self.url):
            raise Refusal("url", "expected the address of a server, such as http://127.0.0.1:8000/v1")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            reason = "must hold no name, password, query or fragment: the key of a server is read from key_variable"
            raise Refusal("url", reason)
        if self.url.rstrip("/").endswith("/chat/completions"):
            raise Refusal(
                "url", "is the address without /chat/completions", self.url.rstrip("/")[: -len("/chat/completions")]
            )
        own = {"model", "messages", "stream", "temperature", "max_tokens"} & set(self.parameters)
        if own:
            raise Refusal("parameters", f"holds {', '.join(sorted(own))}, which the judge sets itself")

    @property
    def label(self) -> str:
        """The judge's name in reports: `MODEL@HOST`, the model and the host of its server."""
        return f"{self.model}@{urlsplit(self.url).hostname}"

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the address names this machine."""
        host = str(urlsplit(self.url).hostname)
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host.casefold() == "localhost"

    def permissions_needed(self) -> Iterator[tuple[str, str]]:
        """Yield the field `url` with the permission `judge-server`, unless the server is on this machine.

        The permission allows prompts and answers to be sent to another machine.
        """
        if not self.is_on_this_machine:
            yield "url", "judge-server"

    def problems(self) -> Iterator[Problem]:
        """Report an environment variable that should hold the API key but is not set."""
        if self.key_variable is not None and not os.environ.get(self.key_variable, "").strip():
            reason = f"the environment has no variable {self.key_variable}: set it to the key of the server"
            yield Problem(key="key_variable", value=self.key_variable, reason=reason, kind="unavailable_here")

    def replies(self, texts: Sequence[str], cache_path: Path, device: Any) -> Iterator[tuple[int, Reply]]:
        """Ask the server the questions, several at the same time; yield each question's index and reply on arrival.

        Sending stops once 5 questions in a row (`MAX_FAULTS`) got no usable reply, or once the server refuses a request
        for a reason that holds for all requests, such as a wrong key or an unknown model. Each question that was not
        sent gets a reply whose fault states this reason.
        """
        from concurrent.futures import ThreadPoolExecutor, as_completed

        client = _Client(self)
        with ThreadPoolExecutor(self.workers) as pool:
            waiting = {pool.submit(client.ask, text): index for index, text in enumerate(texts)}
            try:
                for done in as_completed(waiting):
                    yield waiting.pop(done), done.result()
            finally:
                client.stop("the evaluation was stopped")


class _Client:
    """Sends questions to the server of a judge, until it is clear that the server cannot answer them."""

    def __init__(self, judge: JudgeServer) -> None:
        self._judge = judge
        self._address = f"{judge.url.rstrip('/')}/chat/completions"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if judge.key_variable is not None:
            key = os.environ.get(judge.key_variable, "").strip()
            secrets.remember(key, judge.key_variable)
            self._headers["Authorization"] = f"Bearer {key}"
        handlers: list[Any] = [_NoRedirect()]
        if judge.is_on_this_machine:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)
        self._lock, self._faults, self._stopped = threading.Lock(), 0, ""

    def stop(self, reason: str) -> None:
        """Stop sending questions; the reason of the first call becomes the fault of each question that is not sent."""
        self._stopped = self._stopped or reason

    def ask(self, text: str) -> Reply:
        """Return the reply to a question, or the reason why there is none."""
        if self._stopped:
            return Reply(fault=f"not asked, since {self._stopped}")
        reply, is_final = self._try_often(text)
        with self._lock:
            self._faults = self._faults + 1 if reply.fault else 0
            if reply.fault and (is_final or self._faults >= MAX_FAULTS):
                self.stop(f"{'a request' if is_final else f'{self._faults} requests in a row'} failed: {reply.fault}")
        return reply

    def _try_often(self, text: str) -> tuple[Reply, bool]:
        """Send a question, and repeat it after temporary failures.

        Returns:
            The reply, and whether every other question would fail for the same reason.
        """
        for attempt in range(self._judge.retries + 1):
            wait = min(30.0, 0.5 * 2**attempt)
            try:
                return Reply(self._send(text)), False
            except urllib.error.HTTPError as error:
                fault = f"the server answered {error.code} {_shorten(error.reason)}{_details(error)}"
                if error.code not in RETRIED:
                    return Reply(fault=fault), error.code in (301, 302, 303, 307, 308, 401, 403, 404, 405)
                wait = _retry_after(error.headers, wait)
            except (OSError, http.client.HTTPException) as error:
                fault = f"the server cannot be reached: {_shorten(getattr(error, 'reason', None) or error)}"
            except _Unreadable as error:
                return Reply(fault=str(error)), False
            if attempt < self._judge.retries and not self._stopped:
                time.sleep(wait)
        return Reply(fault=fault), False

    def _send(self, text: str) -> str:
        judge = self._judge
        entries = {
            "model": judge.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": judge.temperature,
            "max_tokens": judge.max_tokens,
        }
        content = {name: value for name, value in entries.items() if value is not None} | judge.parameters
        body = json.dumps(content).encode("ascii")
        request = urllib.request.Request(self._address, body, self._headers, method="POST")
        deadline = time.monotonic() + judge.timeout_s
        with self._opener.open(request, timeout=judge.timeout_s) as response:
            return _content(_read(response, deadline))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An HTTP handler that refuses redirects, because they could send the question and the key to another address."""

    def redirect_request(self, *arguments: Any, **settings: Any) -> None:
        return None


class _Unreadable(Exception):
    """Raised for a reply that is not in the format of OpenAI's interface, is too long, or ends before its verdict."""


def _read(response: Any, deadline: float) -> bytes:
    """Read a reply; raise an error if it is too large, or if it has not ended at `deadline`."""
    parts, size = [], 0
    while part := response.read1(1 << 16):
        parts.append(part)
        size += len(part)
        if size > MAX_REPLY_BYTES:
            raise _Unreadable(f"the server answered more than {MAX_REPLY_BYTES >> 20} MiB")
        if time.monotonic() > deadline:
            raise TimeoutError("the reply took too long")
    return b"".join(parts)


def _content(body: bytes) -> str:
    """Return the text of the first choice of a reply.

    Raises:
        _Unreadable: the reply has no such text, or the limit `max_tokens` cut the text before its verdict.
    """
    try:
        choice = json.loads(body)["choices"][0]
        content, is_cut = choice["message"]["content"], choice.get("finish_reason") == "length"
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        shown = _shorten(body[:MAX_SHOWN].decode("utf-8", "replace"))
        raise _Unreadable(f"the server's answer has no choices[0].message.content: {shown}") from error
    if isinstance(content, list):  # parts, as some servers send them
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        raise _Unreadable("the server's answer has no text in choices[0].message.content")
    if is_cut and not ends_with_verdict(content):
        raise _Unreadable("the reply reached the limit of tokens before its verdict: set a larger max_tokens")
    return content


def _details(error: urllib.error.HTTPError) -> str:
    """Return the beginning of the server's error message, which often names the cause."""
    try:
        text = _shorten(error.read(MAX_SHOWN * 4).decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    return f": {text}" if text else ""


def _retry_after(headers: Any, usual: float) -> float:
    """Return the seconds to wait before the next attempt: the server's header `Retry-After`, but at most 60.

    If the header is missing or is not a number of seconds, `usual` is returned.
    """
    try:
        return min(60.0, max(0.0, float(headers.get("Retry-After", usual))))
    except (TypeError, ValueError):
        return usual


def _shorten(text: Any) -> str:
    """Return a text on one line, cut after 200 characters (`MAX_SHOWN`) and without secrets."""
    line = " ".join(secrets.hide_forms(str(text)).split())
    return line if len(line) <= MAX_SHOWN else f"{line[:MAX_SHOWN]}…"
