"""Functions that check whether an answer follows an instruction, for instructions that a program can verify.

Input: an answer and the arguments of an instruction. Output: whether the answer follows the instruction. The
instructions are defined by IFEval (Zhou et al., 2023) and IFBench (Pyatkin et al., 2025). Unlike their code, the checks
download no models: sentences are split by IFEval's rules, and instructions that need a part-of-speech tagger or a word
list have no check.
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
