"""The typed config of a run (`Experiment`), the rules for combining choices, and the check of a config."""

from instruct_lab.experiment.experiment import Experiment

__all__ = ["Experiment"]
