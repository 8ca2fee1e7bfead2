"""Personal data and secrets in texts.

In: conversations. Out: conversations with placeholders, or a report; the audit counts matches and never shows them.
"""

from instruct_lab.preprocessing.privacy.redact import Redact

__all__ = ["Redact"]
