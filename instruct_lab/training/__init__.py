"""Training of a model: the LightningModule, the LightningDataModule, and the stages of a run.

Input: a checked `Experiment`. Output: a run's record with metrics, predictions and checkpoints, from which the tuned
model can be loaded. The training loop is that of Lightning's `Trainer`. To read the code, start with `run.py`, then
`stages.py` and `module.py`.
"""
