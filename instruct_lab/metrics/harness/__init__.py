"""The tasks of lm-evaluation-harness: their names, a wrapper of the model for the library, and scores of each example.

Input: names of tasks and a loaded model. Output: `TaskScores`. Only `instruct_lab.metrics.LmEval` uses this package.
The modules of this package, except `names`, import the library.
"""
