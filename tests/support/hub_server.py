"""A stub of the Hugging Face Hub on loopback, which serves folders as repositories with one commit."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789" * 4


@contextlib.contextmanager
def hub_server(repositories: dict[str, Path], gated: tuple[str, ...] = ()) -> Iterator[dict[str, str]]:
    """Serve folders as repositories; gives the environment variables with which a process uses the server.

    Args:
        repositories: the folder of each repository; the names of data sets begin with `datasets/`.
        gated: names of repositories whose terms nobody accepted.
    """

    class Handler(_Handler):
        folders = repositories
        closed = gated

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"), "")
    try:
        yield {
            **proxies,
            "NO_PROXY": "*",
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": "",
        }
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    folders: dict[str, Path]
    closed: tuple[str, ...]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        is_api = path.startswith("api/")
        path = path.removeprefix("api/").removeprefix("models/")
        name = next((name for name in (*self.folders, *self.closed) if f"{path}/".startswith(f"{name}/")), None)
        if name is None:
            return self._refuse(401, "RepoNotFound")
        if name in self.closed:
            return self._refuse(403, "GatedRepo")
        action, _, rest = path.removeprefix(name).strip("/").partition("/")
        revision, _, file = rest.partition("/")
        if revision not in ("", "main", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        if not is_api:
            return self._send_file(self.folders[name] / file)
        files = [one for one in sorted(self.folders[name].rglob("*")) if one.is_file()]
        named = {str(one.relative_to(self.folders[name])): one for one in files}
        if action == "tree":
            return self._send_json(list(_tree(named, f"{file}/" if file else "", "recursive=true" in self.path)))
        if action == "paths-info":
            size = int(self.headers.get("Content-Length", 0))
            asked = json.loads(self.rfile.read(size))["paths"]
            return self._send_json([_described(known, one) for known, one in named.items() if known in asked])
        siblings = [{"rfilename": known, "size": one.stat().st_size} for known, one in named.items()]
        return self._send_json({"id": name.removeprefix("datasets/"), "sha": COMMIT, "siblings": siblings})

    do_HEAD = do_POST = do_GET

    def _send_file(self, file: Path) -> None:
        if not file.is_file():
            return self._refuse(404, "EntryNotFound")
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        wanted = self.headers.get("Range", "")
        status = 200
        if wanted.startswith("bytes="):
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(end) if end else len(content) - 1, len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        return self._send(status, headers, content)

    def _send_json(self, value: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, {"X-Error-Code": code, "X-Error-Message": code}, b"")

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _tree(named: dict[str, Path], prefix: str, is_recursive: bool) -> Iterator[dict[str, object]]:
    """List the files below a folder; if not recursive, its own files and its subfolders."""
    folders = set()
    for known, one in named.items():
        if not known.startswith(prefix):
            continue
        inside, separator, _ = known.removeprefix(prefix).partition("/")
        if separator:
            folders.add(prefix + inside)
        if is_recursive or not separator:
            yield _described(known, one)
    yield from ({"type": "directory", "path": folder, "oid": "0" * 40} for folder in sorted(folders))


def _described(name: str, file: Path) -> dict[str, object]:
    return {"type": "file", "path": name, "size": file.stat().st_size, "oid": hashlib.sha1(name.encode()).hexdigest()}
