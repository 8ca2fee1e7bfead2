"""The page of `instruct-lab dashboard`: trackio's dashboard with all ended runs, reachable only from this machine."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import time
import webbrowser
from pathlib import Path
from typing import Any

from instruct_lab.errors import InstructLabError, wrap_errors
from instruct_lab.files import user_path
from instruct_lab.optional_packages import install_command, is_installed
from instruct_lab.pages.loopback import LOOPBACK, check_port, is_loopback
from instruct_lab.records.folder import is_locked
from instruct_lab.records.locate import list_runs
from instruct_lab.records.record import RunRecord
from instruct_lab.records.schema import METRICS
from instruct_lab.terminal import write_line
from instruct_lab.tracker.names import group_of
from instruct_lab.tracker.trackio import FOLDER, Trackio

REFRESH_SECONDS = 5.0
"""Time between two imports of newly ended runs."""
CHART_ORDER = "val/loss,val/*,train/loss,train/*,test/*,cost/*"
TARGET = "instruct_lab.tracker.Trackio"
FAILED = "failed"
"""Marks a record whose import failed; the import is tried again later, but only the first failure is logged."""
logger = logging.getLogger(__name__)


def serve(runs_path: Path, port: int | None = None, browser: bool = True) -> None:
    """Serve the dashboard's web page until Ctrl-C is pressed, and keep adding runs that end meanwhile.

    Args:
        runs_path: the folder of all records.
        port: port of the page; `None`: the first free port from 7860.
        browser: whether to open the page in a browser.

    Raises:
        InstructLabError: trackio is not installed, there is no run, or the port is in use or not allowed.
    """
    if not is_installed("trackio"):
        what = "The dashboard needs the package trackio, which is not installed"
        raise InstructLabError(what, do=install_command("trackio"))
    runs_path = user_path(runs_path).absolute()
    os.environ["HF_HUB_OFFLINE"] = "1"  # trackio imports the hub's client, which then makes no requests
    os.environ.setdefault("TRACKIO_PLOT_ORDER", CHART_ORDER)
    if port is not None:
        check_port(port)
    count = len(list_runs(runs_path))
    if not count:
        raise InstructLabError("There are no runs yet", where=str(runs_path), do="start one: instruct-lab train")
    write_line(f"reading {count} records below {runs_path}", error=True)
    seen: dict[Path, str] = {}
    imported = import_runs(runs_path, seen)
    server, url = _start(runs_path / FOLDER, port, browser)
    ended = sum(state != FAILED for state in seen.values())
    write_line(f"dashboard: {url}\n{ended} ended runs, {imported} of them new here; Ctrl-C ends it")
    try:
        while True:
            time.sleep(REFRESH_SECONDS)
            import_runs(runs_path, seen)
    except KeyboardInterrupt:
        server.should_exit = True


def _start(folder: Path, port: int | None, browser: bool) -> tuple[Any, str]:
    """Start the dashboard's web server in a thread, as `trackio.show` does.

    Unlike that server, it answers only requests whose header `Host` names this machine.

    Args:
        folder: the folder with trackio's files.
        port: port of the page; `None`: the first free port.
        browser: whether to open the page in a browser.

    Returns:
        The server, and the page's URL.
    """
    from instruct_lab.tracker.trackio_store import open_folder

    open_folder(folder)
    from trackio import utils
    from trackio.frontend_config import resolve_frontend_dir
    from trackio.launch import launch_trackio_dashboard
    from trackio.server import build_starlette_app_only

    with (
        wrap_errors(OSError, what="The dashboard cannot start", do="choose another --port"),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        app, token = build_starlette_app_only(mcp_server=False, frontend_dir=str(resolve_frontend_dir(None).path))
        address, _, _, server = launch_trackio_dashboard(
            LoopbackOnly(app), server_name=LOOPBACK, server_port=port, share=False, mcp_server=False, quiet=True
        )
    url = utils.get_full_url(str(address).rstrip("/"), project=Trackio().project, write_token=token, footer=True)
    if browser:
        webbrowser.open(url)
    return server, url


class LoopbackOnly:
    """An ASGI application that answers only requests whose header `Host` names this machine, such as `localhost`.

    It protects from DNS rebinding: a malicious web page can make its own host name resolve to 127.0.0.1. The browser
    then sends the page's requests to the dashboard and would let the page read the answers. But the header `Host` of
    these requests still names the page's host, so they are refused.

    Args:
        app: the application that answers the accepted requests.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass an accepted request to the application; refuse any other.

        A refused request is answered with status 421 (misdirected request); a refused WebSocket is closed.
        """
        if scope["type"] == "lifespan" or is_loopback([value for name, value in scope["headers"] if name == b"host"]):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send({"type": "http.response.start", "status": 421, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"This page is answered only at a local address.\n"})


def import_runs(runs_path: Path, seen: dict[Path, str] | None = None) -> int:
    """Import every ended run into trackio from its record, and return the number of new or changed runs.

    A run that is still running is not imported. A record that cannot be imported is skipped with a warning.

    Args:
        runs_path: the folder of all records.
        seen: the state of each record at its last import, as a text, keyed by the record's path. A record whose state
            is unchanged is skipped. The dictionary is updated in place. `None`: no record was imported before.
    """
    seen = {} if seen is None else seen
    count = 0
    for listed in list_runs(runs_path):
        path = listed.path
        try:
            record = RunRecord.open(path)
            stamp = _state(record)
            if stamp is None or seen.get(path) == stamp:
                continue
            choices = record.manifest.choices
            count += _tracker(record).import_run(record, group_of(record, choices), stamp)
            seen[path] = stamp
        except Exception as error:  # a bad record or a busy file must not hide the others
            if seen.get(path) != FAILED:
                logger.warning("%s is not shown: %s: %s", path, type(error).__name__, error)
            seen[path] = FAILED
    return count


def _state(record: RunRecord) -> str | None:
    """Return a text that changes if a run's record has to be imported again; `None` if the run is still running.

    The text contains the time at which the run ended. If the run was killed, it contains the size of its
    `metrics.jsonl` instead.
    """
    manifest = record.manifest
    if manifest.status != "running":
        return str(manifest.ended)
    if is_locked(record.path):
        return None
    metrics = record.path / METRICS
    return f"killed after {metrics.stat().st_size if metrics.is_file() else 0} bytes"


def _tracker(record: RunRecord) -> Trackio:
    """Build the `Trackio` component from the run's config; if the config has none, use the default settings."""
    for chosen in (record.config.get("tracker") or {}).values():
        if isinstance(chosen, dict) and chosen.get("_target_") == TARGET:
            return Trackio(**{key: value for key, value in chosen.items() if key != "_target_"})
    return Trackio()
