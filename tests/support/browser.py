"""A headless Chromium for tests of pages, controlled over a pipe with the DevTools protocol: no driver, no port."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = "no Chromium is found: apt-get install chromium, or name one in the environment variable CHROMIUM"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-extensions --disable-dev-shm-usage --remote-debugging-pipe"
).split()


def chromium() -> str | None:
    """The path of Chromium; `None` if it is not installed."""
    named = os.environ.get("CHROMIUM")
    return shutil.which(named) if named else next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One Chromium with one page, which records every request and every error of the page.

    Args:
        width: of the window, in pixels.
        height: of the window, in pixels.
        dark: whether the preferred colour scheme is dark.
    """

    def __init__(self, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._events: list[str] = []
        self._last, self._rest = 0, b""
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        theirs, self._write = os.pipe()
        self._read, theirs_out = os.pipe()

        def descriptors() -> None:  # the protocol's are 3 and 4
            spares = os.dup(theirs), os.dup(theirs_out)  # neither may be 3 or 4 itself when it is copied there
            os.dup2(spares[0], 3)
            os.dup2(spares[1], 4)

        command = [str(chromium()), *FLAGS, f"--user-data-dir={self._profile}", f"--window-size={width},{height}"]
        self._process = subprocess.Popen(
            command, preexec_fn=descriptors, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs)
        os.close(theirs_out)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session: str | None = None
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.call("Network.emulateNetworkConditions", **offline)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if getattr(self, "_session", None):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        self._until(lambda: self._last in self._answers, method)
        answer = self._answers.pop(self._last)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def open(self, path: Path) -> float:
        """Open a file; returns the seconds until a frame was drawn after its `load` event."""
        self._events.clear()
        started = time.perf_counter()
        self.call("Page.navigate", url=path.absolute().as_uri())
        self._until(lambda: "Page.loadEventFired" in self._events, "the page")
        self.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))")
        return time.perf_counter() - started

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page, and wait for it if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"].get("exception", {}).get("description", answer)))
        return answer["result"].get("value")

    def wait(self, script: str) -> None:
        """Wait until an expression is true in the page."""
        while not self.run(f"Boolean({script})"):
            time.sleep(0.05)

    def screenshot(self, *, whole: bool = False) -> bytes:
        """A PNG of the window, or of the whole page."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    def colours(self, png: bytes) -> int:
        """The number of colours of a picture."""
        url = "data:image/png;base64," + base64.b64encode(png).decode()
        script = """(async (url) => { const image = new Image(); image.src = url; await image.decode();
          const canvas = new OffscreenCanvas(image.width, image.height), pen = canvas.getContext("2d");
          pen.drawImage(image, 0, 0);
          return new Set(new Uint32Array(pen.getImageData(0, 0, image.width, image.height).data.buffer)).size; })"""
        before = list(self.requests)
        found = int(self.run(f"{script}({json.dumps(url)})"))
        self.requests[:] = before  # the picture is not a request of the page
        return found

    def _until(self, done: Any, what: str) -> None:
        while not done():
            got = os.read(self._read, 1 << 20)
            if not got:
                raise RuntimeError(f"Chromium ended: {what}")
            *messages, self._rest = (self._rest + got).split(b"\0")
            for message in messages:
                self._take(json.loads(message))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
            return
        name, parameters = message["method"], message.get("params", {})
        self._events.append(name)
        if name == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif name == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"].get("exception", {}).get("description", parameters)))
        elif name == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.errors.append(parameters["entry"]["text"])
        elif name == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.errors.append(str([one.get("value") or one.get("description") for one in parameters["args"]]))
