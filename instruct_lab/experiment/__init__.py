"""The typed whole of a run: `Experiment`, the rules of what goes together, and checking them."""

from instruct_lab.experiment.experiment import Experiment

__all__ = ["Experiment"]
