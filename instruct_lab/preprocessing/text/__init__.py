"""Steps that change the text of messages, and the functions that these steps share.

Input: conversations. Output: the same conversations with changed texts; some steps also drop conversations. The
preprocessing audit counts the changed and the dropped rows.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.preprocessing.text.clean import Clean
    from instruct_lab.preprocessing.text.normalize import Normalize
    from instruct_lab.preprocessing.text.segment_words import SegmentWords

__all__ = ["Clean", "Normalize", "SegmentWords"]

__getattr__ = names_on_demand(__name__)
