"""The run that a command names: its record, and the experiment that its config builds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instruct_lab.experiment import Experiment
    from instruct_lab.records import RunRecord


def load_recorded(parsed: argparse.Namespace) -> tuple[RunRecord, Experiment, dict[str, Any]]:
    """A run's record, its experiment, and its config as plain containers.

    Raises:
        InstructLabError: there is no such run, or its config does not build with this version.
    """
    from omegaconf import OmegaConf

    from instruct_lab.experiment.check import check_config, plain
    from instruct_lab.records import find_run

    record = find_run(Path(parsed.runs), parsed.run)
    config = OmegaConf.create(record.config)
    return record, check_config(config), plain(config)
