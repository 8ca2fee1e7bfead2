"""Personal data and secrets in texts.

In: conversations. Out: conversations with placeholders, or reports; the audit counts what was found, never shows it.
"""

from instruct_lab.preprocessing.privacy.redact import Redact

__all__ = ["Redact"]
