"""Weights & Biases: a dashboard on a server, or the same files offline."""

from __future__ import annotations

import configparser
import logging
import netrc
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.errors import Problem
from instruct_lab.records import schema
from instruct_lab.tracker.base import Tracker, TrackerSession, shown

if TYPE_CHECKING:
    from instruct_lab.records.record import RunRecord

Mode = Literal["online", "offline", "disabled"]
Kept = Literal["none", "weights", "record", "all"]
DEFAULT_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")  # one service under two names
MODES: dict[str, Mode] = {  # of WANDB_MODE, old names too
    "online": "online",
    "run": "online",
    "shared": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}
MAX_TAG_CHARACTERS = 64
MAX_ARTIFACT_NAME = 100
RECORD_FILES = (
    *(schema.CONFIG, schema.OVERRIDES, schema.MANIFEST, schema.AUDIT, schema.AUDIT_PAGE, schema.METRICS),
    *(schema.SUMMARY, schema.PREDICTIONS, schema.LOG),
)
INIT_SECONDS = 30.0
FINISH_SECONDS = 300.0  # what is not uploaded by then stays on disk, for `wandb sync`
logger = logging.getLogger(__name__)


@component
class Wandb(Tracker):
    """Weights & Biases (wandb.ai): curves, tables and comparisons, online or offline.

    All runs share one folder, `<runs_path>/wandb`, where `wandb leet` shows those that were not uploaded. `auto` goes
    online when this machine has a key for the server, and falls back to offline where the server cannot be reached.
    """

    project: str = "instruct-lab"  # the project that runs are listed under
    entity: str | None = None  # user or team; null: the key's own
    group: str | None = None  # null: the study or sweep
    tags: list[str] = Field(default_factory=list)  # beside those of the chosen options
    log_artifacts: Kept = "none"  # weights: what was trained (adapters alone); record: the record's files; all: both
    mode: Literal["auto", "online", "offline", "disabled"] = (
        "auto"  # auto: WANDB_MODE or `wandb offline`, else online with a key
    )

    def problems(self) -> Iterator[Problem]:
        """Online without a key."""
        if self.mode == "online" and not has_key():
            reason = "no key was found for the server: run `wandb login`, or set WANDB_API_KEY"
            yield Problem(key="mode", value="online", reason=reason, suggestion="auto")

    def connect(self, record: RunRecord, config: dict[str, Any], tags: list[str], group: str) -> TrackerSession:
        """Begin to receive a run; a resumed run goes on under the same id."""
        mode = self.resolved_mode()
        try:
            return self._session(mode, record, config, tags, group)
        except Exception as error:
            if mode != "online" or self.mode != "auto":
                raise
            logger.warning("wandb cannot be reached, so this run is kept offline: %s", error)
            return self._session("offline", record, config, tags, group, suffix="-offline")

    def resolved_mode(self) -> Mode:
        """What `auto` comes to on this machine."""
        if self.mode != "auto":
            return self.mode
        wanted = os.environ.get("WANDB_MODE") or _settings().get("mode") or ""
        return MODES.get(wanted.strip().lower()) or ("online" if has_key() else "offline")

    def _session(
        self, mode: Mode, record: RunRecord, config: dict[str, Any], tags: list[str], group: str, suffix: str = ""
    ) -> TrackerSession:
        """Open the run. wandb's service holds an id after a failed start, so a second try needs a suffix."""
        import wandb

        wandb.setup(wandb.Settings(silent=True))  # signing in reads these, not the run's own
        settings = wandb.Settings(
            silent=True,
            console="off",
            save_code=False,
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
        )
        run_id = re.sub(r"[^A-Za-z0-9_.=+-]", "_", f"{record.name}-{record.id}{suffix}")
        runs_path = record.path.parent.parent
        run = wandb.init(
            dir=str(runs_path),
            project=self.project,
            entity=self.entity,
            group=self.group or group,
            tags=_tags([*tags, *self.tags]),
            id=run_id,
            name=run_id,
            config=config,
            mode=mode,
            resume="allow",
            reinit="create_new",
            settings=settings,
        )
        return WandbSession(run, mode, runs_path / "wandb", record, self.log_artifacts)


class WandbSession(TrackerSession):
    """A run that wandb is receiving."""

    def __init__(self, run: Any, mode: Mode, folder: Path, record: RunRecord, kept: Kept) -> None:
        self.run, self.mode, self.folder = run, mode, folder
        self.record, self.kept = record, kept

    def log(self, values: dict[str, float], step: int) -> None:
        """Pass values on at an optimizer step."""
        self.run.log(values, step=step)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Pass a table on; columns may mix types."""
        import wandb

        data = [[_cell(value) for value in row] for row in rows]
        self.run.log({name: wandb.Table(columns=list(columns), data=data, allow_mixed_types=True)})

    def summarize(self, values: dict[str, Any]) -> None:
        """Set the run's final values."""
        self.run.summary.update(values)

    def log_weights(self, path: Path) -> None:
        """Keep the weights as an artifact, where they are asked for."""
        if self.kept in ("weights", "all"):
            self._log_artifact("weights", "model", [file for file in path.rglob("*") if file.is_file()], path)

    def _log_artifact(self, name: str, kind: str, files: list[Path], folder: Path) -> None:
        import wandb

        artifact = wandb.Artifact(f"{re.sub(r'[^A-Za-z0-9_.-]', '_', self.run.id)[:MAX_ARTIFACT_NAME]}-{name}", kind)
        for file in sorted(files):  # immutable: read from the record, not copied first
            artifact.add_file(str(file), name=file.relative_to(folder).as_posix(), policy="immutable")
        self.run.log_artifact(artifact)

    def finish(self, exit_code: int) -> None:
        """Close the run; its record's files are kept as an artifact, where they are asked for."""
        if self.kept in ("record", "all"):
            files = [self.record.path / name for name in RECORD_FILES]
            self._log_artifact("record", "run-record", [file for file in files if file.is_file()], self.record.path)
        self.run.finish(exit_code=exit_code)

    def where(self) -> str | None:
        """The run's page; or how to see and upload what is offline."""
        if self.mode == "online":
            return str(self.run.url)
        if self.mode == "disabled":
            return None
        folder, run_folder = shown(self.folder), shown(Path(self.run.settings.sync_dir))
        return f"offline; see it: wandb leet {folder}; upload it: wandb sync {run_folder}"


def has_key() -> bool:
    """Whether wandb would find a key for its server, decided without importing it."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = _settings()
    if settings.get("api_key"):
        return True
    url = os.environ.get("WANDB_BASE_URL") or settings.get("base_url")
    host = urlsplit(url).netloc if url else ""
    hosts = (host,) if host and host not in DEFAULT_HOSTS else DEFAULT_HOSTS
    return any(map(_has_netrc_entry, hosts))


def _has_netrc_entry(host: str) -> bool:
    named = os.environ.get("NETRC")
    places = [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]
    for place in places:
        try:
            entry = netrc.netrc(str(place.expanduser())).authenticators(host)
        except (OSError, netrc.NetrcParseError, RuntimeError):  # none, closed to us, or without a home
            continue
        return bool(entry and entry[2])
    return False


def _settings() -> dict[str, str]:
    """What `wandb login` and `wandb init` wrote."""
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read([folder.expanduser() / "settings", Path("wandb") / "settings"])
        return dict(parser.items("default"))
    except (OSError, configparser.Error, UnicodeDecodeError, RuntimeError):
        return {}


def _tags(tags: list[str]) -> list[str]:
    """Each tag once, none empty, none longer than the server takes."""
    return list(dict.fromkeys(tag[:MAX_TAG_CHARACTERS] for tag in tags if tag))


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else str(value)
