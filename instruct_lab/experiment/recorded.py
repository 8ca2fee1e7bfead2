"""Build the `Experiment` (the components of a run) from the config in the run's record."""

from __future__ import annotations

from typing import Any

from instruct_lab.config.environment_values import require_variables, to_omegaconf, to_plain_config
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment.check import check_config
from instruct_lab.experiment.experiment import Experiment
from instruct_lab.records import RunRecord
from instruct_lab.records.schema import CONFIG


def build_recorded(
    record: RunRecord, uses_trackers: bool = True, uses_data: bool = True
) -> tuple[Experiment, dict[str, Any]]:
    """Build the `Experiment` (the components of a run) from the config in the run's record.

    Args:
        record: the record of the run.
        uses_trackers: whether the trackers of the run will be started; otherwise, their API keys are not needed.
        uses_data: whether the data of the run will be read; otherwise, its files need not exist.

    Returns:
        The experiment, and the recorded config as nested dictionaries and lists.

    Raises:
        InstructLabError: the record has no config, the installed version of instruct_lab cannot build it, or an
            environment variable to which the config refers is not set.
    """
    if not record.config:
        what, where = "The run record has no config, or an empty one", str(record.path / CONFIG)
        raise InstructLabError(what, where=where, do="restore the file, or start a new run")
    used = record.config if uses_trackers else {**record.config, "tracker": {}}
    require_variables(used, f"run {record.id}")
    config = to_omegaconf(used)
    experiment = check_config(config, record.path.parent.parent, () if uses_data else ("data", "preprocessing"))
    return experiment, {**to_plain_config(config), "tracker": record.config.get("tracker")}
