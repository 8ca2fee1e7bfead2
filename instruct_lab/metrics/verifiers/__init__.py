"""Checks of instructions whose fulfilment a program can verify.

In: an answer and an instruction's arguments. Out: whether the answer follows it. The definitions are those of IFEval
(Zhou et al., 2023) and IFBench (Pyatkin et al., 2025), without the models that their own code downloads: sentences are
split by IFEval's rules wherever it has a choice, and what needs a tagger or a word list is not here.
"""

from instruct_lab.metrics.verifiers import ifbench_forms, ifbench_tasks, ifbench_words, ifeval
from instruct_lab.metrics.verifiers.registry import is_followed, is_verifiable, missing_package

__all__ = [
    "ifbench_forms",
    "ifbench_tasks",
    "ifbench_words",
    "ifeval",
    "is_followed",
    "is_verifiable",
    "missing_package",
]
