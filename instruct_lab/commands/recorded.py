"""Load the run that a command names: its record, and the experiment built from the recorded config."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instruct_lab.experiment import Experiment
    from instruct_lab.records import RunRecord


def load_recorded(parsed: argparse.Namespace) -> tuple[RunRecord, Experiment, dict[str, Any]]:
    """Load a run's record, the experiment built from its config, and that config as plain containers.

    Raises:
        InstructLabError: there is no such run, or this version cannot build its config.
    """
    from omegaconf import OmegaConf

    from instruct_lab.experiment.check import check_config, plain
    from instruct_lab.records import find_run

    record = find_run(Path(parsed.runs), parsed.run)
    config = OmegaConf.create(record.config)
    return record, check_config(config), plain(config)
