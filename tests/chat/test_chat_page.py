"""The page of `chat --web` streams the answers of `generate`, and answers only this machine's own page."""

import http.client
import json
import socket
import threading

import pytest
from support.browser import MISSING, Browser, chromium

from instruct_lab import cli
from instruct_lab.chat.decoding import Decoding
from instruct_lab.chat.requests import RefusedRequest, read_request
from instruct_lab.chat.server import ChatServer
from instruct_lab.data import Message
from instruct_lab.errors import InstructLabError

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(answerers):
    with ChatServer(answerers) as started:
        thread = threading.Thread(target=started.serve_forever, daemon=True)
        thread.start()
        yield started
        started.shutdown()


def request(server, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1])
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    return response, response.read()


def ask(server, column=0, **fields):
    body = json.dumps({"column": column, "messages": [{"role": "user", "content": "red"}], **fields})
    response, content = request(server, "POST", "/answer", body, JSON)
    assert response.status == 200
    return [json.loads(line) for line in content.splitlines()]


def text_of(lines):
    assert "end" in lines[-1]
    return "".join(line["text"] for line in lines[:-1])


@pytest.mark.slow
@pytest.mark.parametrize("decoding", [{}, {"temperature": 1.2, "seed": 5}, {"temperature": 0, "max_new_tokens": 4}])
@pytest.mark.parametrize("column", [0, 1])
def test_the_streamed_answer_is_that_of_generate(server, answerers, column, decoding):
    answerer = answerers[column].with_decoding(Decoding(**decoding))
    assert text_of(ask(server, column, decoding=decoding)) == answerer.answer([[Message("user", "red")]])[0]
    turns = [("user", "red"), ("assistant", "blue é"), ("user", "old")]
    sent = [{"role": role, "content": content} for role, content in turns]
    messages = [Message("system", "Be kind"), *(Message(*turn) for turn in turns)]
    lines = ask(server, column, decoding=decoding, system="Be kind", messages=sent)
    assert text_of(lines) == answerer.answer([messages])[0]


@pytest.mark.slow
def test_refused_settings_and_long_messages_are_an_error_of_the_answer(server):
    assert "no token is sampled" in ask(server, decoding={"seed": 1})[-1]["error"]
    assert "context" in ask(server, messages=[{"role": "user", "content": "long " * 3000}])[-1]["error"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {"Host": "evil.example"}, 421),
        ("POST", "/answer", {**JSON, "Host": "127.0.0.1.evil.example"}, 421),
        ("POST", "/answer", {"Content-Type": "text/plain"}, 415),
        ("POST", "/answer", {**JSON, "Origin": "http://evil.example"}, 403),
        ("POST", "/answer", {**JSON, "Origin": "null"}, 403),
        ("POST", "/other", JSON, 404),
        ("GET", "/../../etc/passwd", {}, 404),
        ("OPTIONS", "/answer", {"Origin": "http://evil.example"}, 501),
        ("POST", "/answer", {**JSON, "Content-Length": str(1 << 40)}, 413),
        ("POST", "/answer", JSON, 400),
    ],
)
def test_other_requests_are_refused(server, method, path, headers, status):
    response, content = request(server, method, path, b"{}" if method == "POST" else None, headers)
    assert response.status == status
    assert b"Traceback" not in content
    assert response.getheader("Access-Control-Allow-Origin") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        {"column": 2},
        {"column": True},
        {"messages": []},
        {"messages": [{"role": "assistant", "content": "a"}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}]},
        {"messages": [{"role": "user", "content": 3}]},
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"system": ["a"]},
        {"decoding": {"top_k": 1}},
        {"decoding": {"temperature": "hot"}},
        {"decoding": {"seed": 1.5}},
        {"decoding": {"max_new_tokens": True}},
    ],
)
def test_a_request_that_is_malformed_is_refused(body):
    whole = {"column": 0, "messages": [{"role": "user", "content": "red"}]}
    content = body if isinstance(body, bytes) else json.dumps({**whole, **body}).encode()
    with pytest.raises(RefusedRequest) as caught:
        read_request(content, 2)
    assert caught.value.status == 400
    assert read_request(json.dumps(whole).encode(), 2).column == 0


@pytest.mark.parametrize("port", [None, -1, 65536])
def test_a_port_that_cannot_be_used_is_refused_before_a_run_is_read(port, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = port or taken.getsockname()[1]
        assert cli.main(["chat", "no-such-run", "--web", "--no-browser", f"--port={port}"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert f"port {port}" in error
    assert "--port" in error


@pytest.mark.slow
def test_a_server_does_not_start_on_a_port_in_use(answerers, server):
    with pytest.raises(InstructLabError, match=f"port {server.server_address[1]}"):
        ChatServer(answerers, server.server_address[1])


@pytest.mark.slow
def test_without_a_port_the_next_free_one_is_taken(answerers, server):
    with ChatServer(answerers) as second:
        assert second.server_address[1] > server.server_address[1]


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason=MISSING)
@pytest.mark.parametrize(("width", "dark"), [(1440, False), (400, True)])
def test_both_columns_answer_in_a_browser_that_asks_no_other_server(server, answerers, width, dark):
    expected = [one.answer([[Message("user", "red <b>")]])[0] for one in answerers]
    with Browser(width, 900, dark=dark) as browser:
        browser.call(
            "Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
        browser.call("Page.navigate", url=server.url)
        browser.wait("document.querySelectorAll('.column').length === 2")
        for text, count in (("red <b>", 1), ("blue", 2)):
            browser.run(f"document.getElementById('message').value = {json.dumps(text)}")
            browser.run("document.getElementById('send').click()")
            browser.wait(f"document.querySelectorAll('.message.assistant:not(.waiting)').length === {2 * count}")
            browser.wait("!document.getElementById('send').disabled")
        found = browser.run(
            "[...document.querySelectorAll('.column')].map((c) => c.querySelector('.assistant').textContent)"
        )
        assert found == expected
        assert browser.run("document.querySelector('.user').textContent") == "red <b>"
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert all(url.startswith((server.url, "data:")) for url in browser.requests)
        assert browser.errors == []
        assert browser.colours(browser.screenshot()) > 5
        tops = browser.run("[...document.querySelectorAll('.column h2')].map((h) => h.offsetHeight)")
        assert tops[0] == tops[1] or width == 400
        browser.run("document.getElementById('max_new_tokens').value = '-3'")
        browser.run("document.getElementById('message').value = 'green'")
        browser.run("document.getElementById('send').click()")
        assert browser.run("document.getElementById('settings').open")
        assert browser.run("document.querySelectorAll('.message').length") == 8
        assert browser.run("document.getElementById('message').value") == "green"
        browser.run("document.getElementById('reset').click()")
        assert browser.run("document.querySelectorAll('.message').length") == 0


@pytest.mark.slow
def test_the_command_prints_the_address_and_ends_with_ctrl_c(chat_lab, capsys, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(ChatServer, "serve_forever", interrupt)
    monkeypatch.setattr("webbrowser.open", lambda url: pytest.fail("a browser was opened"))
    capsys.readouterr()
    assert cli.main(["chat", "latest", "--web", "--no-browser", "--system", "Be kind"]) == 0
    assert "chat: http://127.0.0.1:" in capsys.readouterr().out
