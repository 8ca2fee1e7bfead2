"""Steps that find personal data and secrets in texts.

Input: conversations. Output: conversations with placeholders, or a report. The audit counts matches but never shows
them.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.preprocessing.privacy.redact import Redact

__all__ = ["Redact"]

__getattr__ = names_on_demand(__name__)
