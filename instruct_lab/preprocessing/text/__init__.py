"""Steps that change the text of messages, and the functions that they share.

In: conversations. Out: conversations with other texts, or none if nothing is left; the audit counts the changes.
"""

from instruct_lab.preprocessing.text.clean import Clean
from instruct_lab.preprocessing.text.normalize import Normalize
from instruct_lab.preprocessing.text.segment_words import SegmentWords

__all__ = ["Clean", "Normalize", "SegmentWords"]
