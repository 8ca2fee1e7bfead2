"""Training of a model: the LightningModule, the LightningDataModule, and the stages of a run.

Input: a checked `Experiment`. Output: a run record with metrics, predictions and checkpoints, from which the tuned
model can be loaded. The loop itself is Lightning's `Trainer`. To read the code, start with `run.py`, then `stages.py`
and `module.py`.
"""
