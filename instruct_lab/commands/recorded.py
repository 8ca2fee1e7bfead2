"""Load the run that a command names: its record, and the experiment built from the recorded config."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    from instruct_lab.experiment import Experiment
    from instruct_lab.records import RunRecord


def load_recorded(
    parsed: argparse.Namespace, uses_trackers: bool = True
) -> tuple[RunRecord, Experiment, dict[str, Any]]:
    """Load a run's record, the experiment built from its config, and that config as plain containers.

    Args:
        parsed: the arguments of the command.
        uses_trackers: whether the command starts the trackers of the run; without them, their keys are not needed.

    Raises:
        InstructLabError: there is no such run, a variable of its config is not set, or this version cannot build it.
    """
    from instruct_lab.config.environment_values import require_variables, to_omegaconf, to_plain_config
    from instruct_lab.experiment.check import check_config
    from instruct_lab.records import find_run
    from instruct_lab.records.schema import CONFIG

    record = find_run(Path(parsed.runs), parsed.run)
    if not record.config:
        what, where = "The run record has no config, or an empty one", str(record.path / CONFIG)
        raise InstructLabError(what, where=where, do="restore the file, or start a new run")
    used = record.config if uses_trackers else {**record.config, "tracker": {}}
    require_variables(used, f"run {record.id}")
    config = to_omegaconf(used)
    experiment = check_config(config)
    return record, experiment, {**to_plain_config(config), "tracker": record.config.get("tracker")}
