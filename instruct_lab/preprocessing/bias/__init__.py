"""How groups of people are mentioned, and copies of conversations about other people.

In: conversations. Out: unchanged conversations with a report, or conversations with swapped words.
"""

from instruct_lab.preprocessing.bias.bias_audit import BiasAudit
from instruct_lab.preprocessing.bias.counterfactual import Counterfactual

__all__ = ["BiasAudit", "Counterfactual"]
