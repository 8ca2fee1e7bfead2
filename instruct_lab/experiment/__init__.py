"""The typed config of a run (`Experiment`), the rules for combining its choices, and the check of configs."""

from instruct_lab.experiment.experiment import Experiment

__all__ = ["Experiment"]
