"""Preprocessing steps about bias: an audit of how groups of people are mentioned, and copies with swapped words.

Input: conversations. Output of the audit: the same conversations, and a report. Output of the other step: conversations
in which words such as he and she are swapped.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.preprocessing.bias.bias_audit import BiasAudit
    from instruct_lab.preprocessing.bias.counterfactual import Counterfactual

__all__ = ["BiasAudit", "Counterfactual"]

__getattr__ = names_on_demand(__name__)
