"""The tracker Weights & Biases, a dashboard on a server; offline runs are stored only on this machine."""

from __future__ import annotations

import configparser
import logging
import netrc
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.errors import Problem
from instruct_lab.records import schema
from instruct_lab.tracker.base import Tracker, TrackerSession, short_path
from instruct_lab.tracker.names import options_of, title_of
from instruct_lab.tracker.values import plain_cell

if TYPE_CHECKING:
    from instruct_lab.records.record import RunRecord

Mode = Literal["online", "offline", "disabled"]
Uploads = Literal["none", "weights", "record", "all"]
DEFAULT_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")  # one service under two names
MODES: dict[str, Mode] = {  # values of WANDB_MODE, including old names
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
FINISH_SECONDS = 300.0  # data not uploaded by then stays on disk for `wandb sync`
logger = logging.getLogger(__name__)


@component
class Wandb(Tracker):
    """Weights & Biases (wandb.ai): curves, tables and comparisons, online or offline.

    All runs share the folder `<runs_path>/wandb`; `wandb leet` shows the runs in it that were not uploaded. In mode
    `auto`, `WANDB_MODE` or `wandb offline` sets the mode. If neither does, a run is online if this machine has a key
    for the server, otherwise offline. In mode `auto`, an online run becomes offline if it cannot reach the server.

    In wandb, the config of a run lists the chosen option of each config group, so that runs can be grouped by `tuning`
    or `model`. The whole config is below `settings`.
    """

    project: str = "instruct-lab"  # the project that runs are listed under
    entity: str | None = None  # user or team; null: the default entity of the key
    group: str | None = None  # the group that runs are listed under; null: the study or sweep
    tags: list[str] = Field(default_factory=list)  # further tags, besides the options of the main groups
    log_artifacts: Uploads = "none"  # weights: the trained weights; record: the files of the run record; all: both
    mode: Literal["auto", "online", "offline", "disabled"] = (
        "auto"  # auto: mode set by WANDB_MODE or `wandb offline`, else online if there is a key
    )

    def problems(self) -> Iterator[Problem]:
        """Report a problem if the mode is `online`, but no key for the server is found."""
        if self.mode == "online" and not has_key():
            reason = "no key was found for the server: run `wandb login`, or set WANDB_API_KEY"
            yield Problem(key="mode", value="online", reason=reason, suggestion="auto")

    def connect(self, record: RunRecord, config: dict[str, Any], tags: list[str], group: str) -> TrackerSession:
        """Open a session for a run; a resumed run continues under the same wandb id.

        If the server cannot be reached in mode `auto`, the session is offline.
        """
        mode = self.resolved_mode()
        try:
            return self._session(mode, record, config, tags, group)
        except Exception as error:
            if mode != "online" or self.mode != "auto":
                raise
            logger.warning("wandb cannot be reached, so this run is logged offline: %s", error)
            return self._session("offline", record, config, tags, group, suffix="-offline")

    def resolved_mode(self) -> Mode:
        """Return the mode to use on this machine: the field `mode`, unless it is `auto`.

        For `auto`, the environment variable `WANDB_MODE` or wandb's own settings decide. If they name no mode, it is
        `online` if a key for the server is found, otherwise `offline`.
        """
        if self.mode != "auto":
            return self.mode
        wanted = os.environ.get("WANDB_MODE") or _settings().get("mode") or ""
        return MODES.get(wanted.strip().lower()) or ("online" if has_key() else "offline")

    def _session(
        self, mode: Mode, record: RunRecord, config: dict[str, Any], tags: list[str], group: str, suffix: str = ""
    ) -> TrackerSession:
        """Open a session; `suffix` is appended to wandb's id of the run.

        A second attempt needs another suffix than the first, because wandb's service keeps the id of a run that failed
        to start.
        """
        import wandb

        wandb.setup(wandb.Settings(silent=True))  # the login reads these settings, not the run's
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
            name=title_of(record),
            config=wandb_config(config, record.manifest.choices),
            mode=mode,
            resume="allow",
            reinit="create_new",
            settings=settings,
        )
        return WandbSession(run, mode, runs_path / "wandb", record, self.log_artifacts)


class WandbSession(TrackerSession):
    """The connection of a run to wandb.

    Args:
        run: wandb's object for the run.
        mode: whether the run is `online`, `offline` or `disabled`.
        folder: the folder in which wandb stores its files.
        record: the run's record.
        uploads: which files are uploaded as artifacts: those of the record, the weights, both or none.
    """

    finish_seconds = FINISH_SECONDS + 30.0  # for the last upload

    def __init__(self, run: Any, mode: Mode, folder: Path, record: RunRecord, uploads: Uploads) -> None:
        self.run, self.mode, self.folder = run, mode, folder
        self.record, self.uploads = record, uploads
        self.step = 0

    def log(self, values: dict[str, float], step: int) -> None:
        """Send values measured at an optimizer step to wandb."""
        self.step = step
        self.run.log(values, step=step)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Send a table to wandb, at the step of the last logged values; a column may have cells of different types.

        The step is given explicitly, since wandb would otherwise begin a new step.
        """
        import wandb

        data = [[plain_cell(value) for value in row] for row in rows]
        self.run.log(
            {name: wandb.Table(columns=list(columns), data=data, allow_mixed_types=True)},
            step=max(self.step, self.run.step),
        )

    def summarize(self, values: dict[str, Any]) -> None:
        """Write the run's final values to the run's summary in wandb."""
        self.run.summary.update(values)

    def log_weights(self, path: Path) -> None:
        """Upload the weights as an artifact if `log_artifacts` is `weights` or `all`."""
        if self.uploads in ("weights", "all"):
            self._log_artifact("weights", "model", [file for file in path.rglob("*") if file.is_file()], path)

    def _log_artifact(self, name: str, kind: str, files: list[Path], folder: Path) -> None:
        import wandb

        artifact = wandb.Artifact(f"{re.sub(r'[^A-Za-z0-9_.-]', '_', self.run.id)[:MAX_ARTIFACT_NAME]}-{name}", kind)
        for file in sorted(files):  # immutable: wandb reads the files where they are, without a copy
            artifact.add_file(str(file), name=file.relative_to(folder).as_posix(), policy="immutable")
        self.run.log_artifact(artifact)

    def finish(self, exit_code: int) -> None:
        """Upload the record's files if `log_artifacts` is `record` or `all`, and close the run in wandb."""
        if self.uploads in ("record", "all"):
            files = [self.record.path / name for name in RECORD_FILES]
            self._log_artifact("record", "run-record", [file for file in files if file.is_file()], self.record.path)
        self.run.finish(exit_code=exit_code)

    def where(self) -> str | None:
        """Return the address of the run's page or, for an offline run, commands to view and upload it.

        If wandb is disabled, return `None`.
        """
        if self.mode == "online":
            return str(self.run.url)
        if self.mode == "disabled":
            return None
        folder, run_folder = short_path(self.folder), short_path(Path(self.run.settings.sync_dir))
        return f"offline; see it: wandb leet {folder}; upload it: wandb sync {run_folder}"


def wandb_config(config: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config to show in wandb: the chosen option of each config group, and the whole config as `settings`.

    The options let users group runs, such as by `tuning` or `model`. The values inside a config group are only in
    `settings`, since at the root they would replace the name of the chosen option.

    Args:
        config: the whole config, resolved.
        choices: the chosen option of each config group.
    """
    values = {key: value for key, value in config.items() if not isinstance(value, Mapping | list)}
    return {**values, **options_of(choices), "settings": dict(config)}


def has_key() -> bool:
    """Whether wandb would find an API key for its server; wandb is not imported for this check."""
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
    paths = [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]
    for path in paths:
        try:
            entry = netrc.netrc(str(path.expanduser())).authenticators(host)
        except (OSError, netrc.NetrcParseError, RuntimeError):  # missing, unreadable, or no home folder
            continue
        return bool(entry and entry[2])
    return False


def _settings() -> dict[str, str]:
    """Read the settings that `wandb login` and `wandb init` wrote."""
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read([folder.expanduser() / "settings", Path("wandb") / "settings"])
        return dict(parser.items("default"))
    except (OSError, configparser.Error, UnicodeDecodeError, RuntimeError):
        return {}


def _tags(tags: list[str]) -> list[str]:
    """Remove empty and repeated tags, and cut tags to the length that the server accepts."""
    return list(dict.fromkeys(tag[:MAX_TAG_CHARACTERS] for tag in tags if tag))
