"""Load the recorded run that a command names, and build the experiment from the run's config."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instruct_lab.experiment import Experiment
    from instruct_lab.records import RunRecord


def load_recorded(
    parsed: argparse.Namespace, uses_trackers: bool = True, uses_data: bool = True
) -> tuple[RunRecord, Experiment, dict[str, Any]]:
    """Load a run's record, the experiment built from its config, and that config as dictionaries and lists.

    Args:
        parsed: the arguments of the command.
        uses_trackers: whether the command starts the trackers of the run; otherwise, their API keys are not needed.
        uses_data: whether the command reads the data of the run; otherwise, the files with these data need not exist.

    Raises:
        InstructLabError: there is no such run, an environment variable in its config is not set, or the installed
            version of instruct_lab cannot build the experiment from the config.
    """
    from instruct_lab.experiment.recorded import build_recorded
    from instruct_lab.records import find_run

    record = find_run(Path(parsed.runs), parsed.run)
    return record, *build_recorded(record, uses_trackers, uses_data)
