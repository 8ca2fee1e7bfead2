"""Steps that find personal data and secrets in texts.

Input: conversations. Output: conversations in which placeholders replace such data, or only a report. The audit counts
what was found, but never shows it.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.preprocessing.privacy.redact import Redact

__all__ = ["Redact"]

__getattr__ = names_on_demand(__name__)
