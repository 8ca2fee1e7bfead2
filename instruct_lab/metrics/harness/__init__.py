"""The tasks of lm-evaluation-harness: their names, a wrapper of the model for the library, and scores of each example.

In: names of tasks and a loaded model. Out: `TaskScores`. Only `instruct_lab.metrics.LmEval` uses this package; its
modules import the library, except `names`.
"""
