"""Steps that find personal data and secrets in texts.

In: conversations. Out: conversations with placeholders, or a report. The audit counts matches but never shows them.
"""

from instruct_lab.preprocessing.privacy.redact import Redact

__all__ = ["Redact"]
