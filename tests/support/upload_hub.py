"""A stub of the Hugging Face Hub on loopback that takes the files of one repository."""

import base64
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_" + "abcdefghijklmnopqrstuvwxyz012345"[:34]


class Hub:
    """A small model hub, which keeps the files of one repository in memory."""

    def __init__(self):
        self.files, self.requests, self.private, self.status = {}, [], None, 200
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                length = self.headers.get("Content-Length")
                if length is None:  # chunked
                    body = b""
                    while size := int(self.rfile.readline().strip() or b"0", 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(int(length))
                self.reply(*hub.post(self.path, self.headers, body))

            def do_GET(self):
                hub.requests.append(("GET", self.path, self.headers["Authorization"]))
                found = {"id": "team/model", "private": hub.private, "sha": "0" * 40, "tags": [], "siblings": []}
                self.reply(hub.status, found)

            def reply(self, status, value):
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def post(self, path, headers, body):
        self.requests.append(("POST", path, headers["Authorization"]))
        if self.status != 200:
            return self.status, {"error": "no such right"}
        if path == "/api/repos/create":
            asked = json.loads(body)
            if self.private is None:
                self.private = asked.get("private", asked.get("visibility") == "private")
            return 200, {"url": f"{self.url}/team/model", "name": "team/model"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if "/preupload/" in path:
            names = [one["path"] for one in json.loads(body)["files"]]
            return 200, {"files": [{"path": one, "uploadMode": "regular", "shouldIgnore": False} for one in names]}
        assert "/commit/" in path, path
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        return 200, {
            "success": True,
            "commitOid": "1" * 40,
            "commitUrl": f"{self.url}/team/model/commit/{'1' * 40}",
            "hookOutput": "",
        }


@contextlib.contextmanager
def upload_hub(monkeypatch):
    """Start a hub, and let `huggingface_hub` use it in this process, with a token."""
    import huggingface_hub
    from huggingface_hub import constants

    found = Hub()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", found.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    huggingface_hub.close_session()
    yield found
    huggingface_hub.close_session()
    found.server.shutdown()
    found.server.server_close()
