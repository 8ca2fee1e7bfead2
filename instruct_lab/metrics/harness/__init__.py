"""The tasks of lm-evaluation-harness: their names, the model as the library calls it, and the scores of each example.

In: names of tasks and a loaded model. Out: `TaskScores`. Only `instruct_lab.metrics.LmEval` uses this package; its
modules import the library, except `names`.
"""
