"""The training loop: the only room that knows Lightning.

In: a checked `Experiment`. Out: a run record with metrics, predictions and checkpoints; and, from a record, the tuned
model again. The loop is `pytorch_lightning.Trainer`'s own; the callbacks, the module and the datamodule are ours.
"""
